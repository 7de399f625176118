"""What a storage and its actors are called where nobody says otherwise."""

DEFAULT_NAMESPACE = "morphml_ray"
DEFAULT_NAME = "default"
DEFAULT_PREFIX = "morphml"
"""Of keys in a cache."""
