"""Checkpoints of a search: a log of commits and content-addressed chunks below one prefix of the artifact store."""
