"""Credentials of S3 that only the driver's environment has."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from morphml_ray.config import BackendUrl, stash_secret
from morphml_ray.config.s3 import SECRET_OPTIONS
from morphml_ray.errors import ConfigurationError

_VARIABLES = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
}
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


class CredentialsMissingError(ConfigurationError):
    """The store's own chain of credentials found none."""


def missing_credentials(place: str) -> CredentialsMissingError:
    """Make the error of the process that found none; it names its node."""
    return CredentialsMissingError(
        f"{place} cannot be used: no credentials were found on the node {socket.gethostname()}, where its actor runs. "
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY where connect() is called, or on all nodes before Ray is "
        "started, or state them in the URL: ?aws_access_key_id=env:NAME&aws_secret_access_key=env:NAME (variables of "
        "the nodes) or file:/path"
    )


def states_credentials(url: BackendUrl) -> bool:
    """Tell whether a URL of S3 states credentials; without any the chain finds them. Of other URLs it is True."""
    return url.scheme != "s3" or url.is_stashed or any(f"{name}=" in url.reveal() for name in SECRET_OPTIONS)


def with_own_credentials(url: BackendUrl, environment: Mapping[str, str] = os.environ) -> BackendUrl | None:
    """Add the credentials of this process' environment to a URL of S3 that states none, stashed away.

    Returns:
        A URL that is shown and fingerprinted as the one given; None where there is nothing to add.

    Raises:
        ConfigurationError: they cannot be stashed.
    """
    stated = {name: environment.get(variable) for name, variable in _VARIABLES.items()}
    if states_credentials(url) or not stated["aws_access_key_id"] or not stated["aws_secret_access_key"]:
        return None
    if "endpoint_url=" not in url.reveal():
        stated["endpoint_url"] = next(filter(None, map(environment.get, _ENDPOINTS)), None)
    options = "&".join(f"{name}={quote(value, safe='')}" for name, value in stated.items() if value)
    completed = BackendUrl(f"{url.reveal()}{'&' if '?' in url.reveal() else '?'}{options}")
    return url.stored_at(Path(stash_secret(completed).reveal().removeprefix("file:")))
