"""Ways for other libraries to use the storage."""
