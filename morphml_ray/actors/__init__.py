"""The actors in front of the backends: plain classes, and the one module that hands them to Ray."""
