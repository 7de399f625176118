"""What stores the data: one contract a kind of storage, one implementation a technology."""
