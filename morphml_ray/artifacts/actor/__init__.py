"""The artifact actor: one on each node, with all that runs inside it."""
