"""Values for a while: the manager that callers use, the actor, and the caches in memory and on Redis."""
