"""Artifacts in a directory of this machine."""

from morphml_ray.backends.local.backend import LocalArtifactBackend

__all__ = ["LocalArtifactBackend"]
