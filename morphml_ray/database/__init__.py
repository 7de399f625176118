"""Experiments and evaluations: the manager that callers use, the actor, and the databases it stands in front of."""
