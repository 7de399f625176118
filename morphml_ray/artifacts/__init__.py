"""Large objects: the store that callers use, the actor of each node, and a folder for each place they can be in."""
