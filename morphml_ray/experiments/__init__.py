"""What a search holds: one experiment, and its recorder."""
