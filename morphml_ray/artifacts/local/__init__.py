"""Artifacts in a directory of this machine."""

from morphml_ray.artifacts.local.backend import LocalArtifactBackend

__all__ = ["LocalArtifactBackend"]
