"""Settings: where they come from, what they may be, and how their secrets stay hidden."""

from morphml_ray.config.directories import check_directory, check_local_filesystem
from morphml_ray.config.names import DEFAULT_NAME, DEFAULT_NAMESPACE, DEFAULT_PREFIX
from morphml_ray.config.settings import StorageConfig
from morphml_ray.config.stash import HeldSecret, stash_secret
from morphml_ray.config.urls import BackendUrl, fingerprint

__all__ = [
    "DEFAULT_NAME",
    "DEFAULT_NAMESPACE",
    "DEFAULT_PREFIX",
    "BackendUrl",
    "HeldSecret",
    "StorageConfig",
    "check_directory",
    "check_local_filesystem",
    "fingerprint",
    "stash_secret",
]
