"""``morphml://``: the artifacts as a file system of fsspec."""
