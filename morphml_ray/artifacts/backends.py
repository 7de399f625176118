"""From the URL of artifacts to their backend."""

from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.config import BackendUrl


def create_artifact_backend(url: BackendUrl, *, timeout_s: float = 10.0) -> ArtifactBackend:
    """Make the backend that a URL names, not opened yet. To be called where it will be used: references are followed.

    Args:
        url: of a bucket of S3, or of a directory.
        timeout_s: how long a server may be silent.

    Raises:
        ConfigurationError: a reference cannot be followed here, or leads to something else than artifacts.
    """
    if url.resolve("artifacts").startswith("file:"):
        from morphml_ray.artifacts.local import LocalArtifactBackend  # noqa: PLC0415 - only what is used is loaded

        return LocalArtifactBackend(url)
    from morphml_ray.artifacts.s3 import S3ArtifactBackend  # noqa: PLC0415 - see above

    return S3ArtifactBackend(url, timeout_s=timeout_s)
