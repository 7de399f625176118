"""Making a client of S3."""

import os
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from morphml_ray.config.s3 import S3Url
from morphml_ray.errors import ConfigurationError

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

DEFAULT_REGION = "us-east-1"
_CONNECT_TIMEOUT_S = 5.0


def make_session(url: S3Url) -> boto3.session.Session:
    """Give the credentials and the region of a URL; what it does not state comes from boto3's own chain.

    Args:
        url: with its references resolved.
    """
    return boto3.session.Session(
        aws_access_key_id=url.option("aws_access_key_id"),
        aws_secret_access_key=url.option("aws_secret_access_key"),
        aws_session_token=url.option("aws_session_token"),
        region_name=url.option("region"),
    )


def make_client(
    session: boto3.session.Session, url: S3Url, *, timeout_s: float, attempts: int, connections: int
) -> "S3Client":
    """Make a client; nothing connects yet.

    Args:
        session: of the same URL.
        url: its endpoint, where it states none, comes from boto3's own chain, too.
        timeout_s: how long the server may be silent.
        attempts: how often a request is sent at most, with growing random pauses.
        connections: how many are kept open.

    Raises:
        ConfigurationError: the address of the server is none.
    """
    style: Any = {"addressing_style": url.option("addressing_style") or "auto"}
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=min(timeout_s, _CONNECT_TIMEOUT_S),
        read_timeout=timeout_s,
        max_pool_connections=connections,
        tcp_keepalive=True,
        # With an endpoint of its own, "auto" is "path": such servers rarely have a name for each bucket.
        s3=style,
        # For presigned URLs the driver would still choose the older one, which signs the content type too.
        signature_version="s3v4",
        # We send and compare checksums ourselves: not every server knows those that boto3 adds.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="morphml_ray",
    )
    # boto3 knows AWS_DEFAULT_REGION only; AWS_REGION is what all other clients of AWS read, and what AWS itself sets.
    region = session.region_name or os.environ.get("AWS_REGION") or DEFAULT_REGION
    try:
        client: S3Client = session.client(
            "s3", endpoint_url=url.option("endpoint_url"), region_name=region, config=config
        )
    except ValueError as error:  # of an endpoint that the environment states
        raise ConfigurationError(f"No client of S3 can be made: {error}") from error
    return client
