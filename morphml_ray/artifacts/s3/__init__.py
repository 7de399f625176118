"""Artifacts in a bucket of S3, of AWS or of any server that speaks its protocol."""

from morphml_ray.artifacts.s3.backend import S3ArtifactBackend

__all__ = ["S3ArtifactBackend"]
