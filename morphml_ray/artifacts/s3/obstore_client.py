"""Objects moved by obstore: the part of boto3's client that reads and writes one object, in boto3's words.

boto3 spends two to four milliseconds of processor time on a request: more than a server takes for a small object. The
requests of obstore are made outside of Python, at a quarter of that.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

import botocore.session
import obstore
from boto3.session import Session
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError, HTTPClientError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies
from obstore.store import S3Store
from typing_extensions import Buffer

from morphml_ray.artifacts.s3.driver_errors import in_boto3s_words, is_transient
from morphml_ray.artifacts.s3.metadata import KEPT_HEADERS
from morphml_ray.rpc.patience import Patience

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig, S3Config, S3Credential
    from types_boto3_s3.client import S3Client

SMALL_BYTES = 1024 * 1024
"""What obstore writes. It counts the time that a body takes to be sent as silence of the server, which is too strict
for larger ones; and most of the work on those is their checksum, which boto3 has made in C, too."""
_LOGGER = logging.getLogger(__name__)
_EVENT = "before-call.s3.HeadObject"
_LONGEST = timedelta(days=1)  # no request ends by this: each read has its own limit
# How long obstore keeps credentials that are renewed: as short as it can, for boto3 knows when to renew them.
_KEPT = timedelta(minutes=1)
_NEVER = datetime(1970, 1, 1, tzinfo=timezone.utc)  # of an object whose date the server does not tell
# What obstore alone reads in the environment, and would obey.
_UNWANTED = frozenset(
    f"AWS_{name}"
    for name in (
        *("CHECKSUM_ALGORITHM", "CONDITIONAL_PUT", "REQUEST_PAYER", "S3_EXPRESS", "SERVER_SIDE_ENCRYPTION"),
        *("SKIP_SIGNATURE", "SSE_BUCKET_KEY_ENABLED", "SSE_CUSTOMER_KEY_BASE64", "SSE_KMS_KEY_ID", "UNSIGNED_PAYLOAD"),
    )
)
# Headers that obstore knows by name among the attributes of an object; the others are metadata.
_NAMED = frozenset(
    ("content-type", "content-disposition", "content-encoding", "content-language", "cache-control", "storage-class")
)

T = TypeVar("T")


class Objects(Protocol):
    """What reads and writes objects: boto3's client, or ``ObstoreClient``; arguments and answers are boto3's."""

    @property
    def put_object(self) -> Callable[..., Any]:
        """Write an object."""

    @property
    def get_object(self) -> Callable[..., Any]:
        """Read an object or a range of it."""

    @property
    def head_object(self) -> Callable[..., Any]:
        """Look at an object."""


class _Target(NamedTuple):
    """Where requests for objects go.

    Attributes:
        place: what the addresses of all objects begin with, without a slash at its end.
        region: for which they are signed; empty where a signature is more than a key and a secret.
        agent: who asks.
    """

    place: str
    region: str
    agent: str


def choose_client(
    client: "S3Client",
    session: Session,
    bucket: str,
    encryption: Mapping[str, str],
    *,
    timeout_s: float,
    patience: Callable[[], Patience],
) -> Objects:
    """Choose what moves the objects of a bucket, once for as long as it is open.

    Args:
        client: of boto3; knows the bucket's address.
        session: of boto3; has the credentials.
        bucket: its name.
        encryption: boto3's arguments that say how objects are encrypted at rest.
        timeout_s: how long the server may be silent.
        patience: says when to ask once more.
    """
    target, credentials = _find_target(client, bucket), session.get_credentials()
    reason = "there are no credentials" if credentials is None else _find_reason(target, session)
    if credentials is None or reason is not None:
        _LOGGER.info("boto3 moves all objects of %s, since %s", bucket, reason)
        return client
    config: S3Config = {
        # Both: the environment may state the second one.
        "endpoint": target.place,
        "aws_endpoint_url_s3": target.place,
        "virtual_hosted_style_request": True,  # the place holds the bucket already
        "region": target.region,
    }
    if "ServerSideEncryption" in encryption:
        config["server_side_encryption"] = encryption["ServerSideEncryption"]
    if "SSEKMSKeyId" in encryption:
        config["sse_kms_key_id"] = encryption["SSEKMSKeyId"]
    store = S3Store(
        bucket,
        config=config,
        client_options=_connection_options(target, timeout_s),
        retry_config={"max_retries": 0},
        credential_provider=_provider(credentials),
    )
    return ObstoreClient(store, client, credentials, target.place, patience)


class ObstoreClient:
    """``Objects`` on obstore; thread-safe.

    What asks for the server's own checksum, and what is large, goes to boto3.

    Args:
        store: of obstore; does not try again by itself.
        client: of boto3.
        credentials: that the store asks for.
        place: of the server, for messages.
        patience: says when to ask once more.
    """

    def __init__(
        self,
        store: S3Store,
        client: "S3Client",
        credentials: "Credentials",
        place: str,
        patience: Callable[[], Patience],
    ) -> None:
        self._store = store
        self._client = client
        self._credentials = credentials
        self._place = place
        self._patience = patience

    def put_object(self, **arguments: Any) -> dict[str, Any]:
        """Write an object."""
        body, metadata = arguments["Body"], arguments.get("Metadata", {})
        if len(body) > SMALL_BYTES or not _NAMED.isdisjoint(metadata):
            return dict(self._client.put_object(**arguments))
        answer = self._ask(
            "PutObject",
            lambda: obstore.put(
                self._store,
                arguments["Key"],
                body,
                attributes={"Content-Type": arguments["ContentType"], **metadata},
                mode="create" if "IfNoneMatch" in arguments else "overwrite",
                use_multipart=False,
            ),
        )
        return {"ETag": answer["e_tag"]}

    def get_object(self, **arguments: Any) -> Any:
        """Read an object or a range of it."""
        if "ChecksumMode" in arguments:
            return self._client.get_object(**arguments)
        options: GetOptions = {}
        if "Range" in arguments:
            first, _, last = arguments["Range"].removeprefix("bytes=").partition("-")
            options["range"] = (int(first), int(last) + 1) if last else {"offset": int(first)}
        if "IfMatch" in arguments:
            options["if_match"] = arguments["IfMatch"]
        found = self._get("GetObject", arguments["Key"], options)
        first, end = found.range
        place = {"ContentRange": f"bytes {first}-{end - 1}/{found.meta['size']}"} if "Range" in arguments else {}
        return {**_describe(found), **place, "ContentLength": end - first, "Body": _Body(found, self._place)}

    def head_object(self, **arguments: Any) -> dict[str, Any]:
        """Look at an object."""
        return _describe(self._get("HeadObject", arguments["Key"], {"head": True}))

    def _get(self, operation: str, key: str, options: "GetOptions") -> "GetResult":
        return self._ask(operation, lambda: obstore.get(self._store, key, options=options))

    def _ask(self, operation: str, request: Callable[[], T]) -> T:
        patience = self._patience()
        while True:
            try:
                with in_boto3s_words(operation, self._place, self._credentials):
                    return request()
            except (ClientError, HTTPClientError) as error:
                if not is_transient(error) or not patience.pause():
                    raise


class _Body:
    """The bytes of an answer, as boto3's ``StreamingBody`` gives them."""

    def __init__(self, found: "GetResult", place: str) -> None:
        self._found: GetResult | None = found
        self._place = place

    def read(self) -> Buffer:
        with in_boto3s_words("GetObject", self._place):
            return b"" if self._found is None else self._found.bytes()  # a copy is made by whoever needs bytes

    def iter_chunks(self, chunk_size: int) -> Iterator[bytes]:
        blocks = iter(()) if self._found is None else self._found.stream(min_chunk_size=chunk_size)
        while True:
            with in_boto3s_words("GetObject", self._place):
                block = next(blocks, None)
            if block is None:
                return
            yield block

    def close(self) -> None:
        self._found = None  # ends the connection, unless all was read


def _describe(found: "GetResult") -> dict[str, Any]:
    meta, attributes = found.meta, found.attributes
    return {
        "ContentLength": meta["size"],
        "ContentType": attributes.get("Content-Type"),
        "ETag": meta["e_tag"],
        "LastModified": None if meta["last_modified"] == _NEVER else meta["last_modified"],
        "Metadata": {name: value for name, value in attributes.items() if name.lower() not in _NAMED},
        **{name: attributes[header] for name, header in KEPT_HEADERS.items() if header in attributes},
    }


def _find_target(client: "S3Client", bucket: str) -> _Target:
    """Ask boto3 where it would send a request, by rules of its own; a presigned URL may lead to another host."""
    prepared: dict[str, Any] = {}

    def note(params: Mapping[str, Any], **_: object) -> Any:
        prepared.update(params)
        return SimpleNamespace(status_code=HTTPStatus.OK), {}  # an answer: nothing is sent

    client.meta.events.register_last(_EVENT, note)
    try:
        client.head_object(Bucket=bucket, Key="x")
    finally:
        client.meta.events.unregister(_EVENT, note)
    # Buckets that have sessions of their own, or more than one region, have another signer, or name none yet.
    signing = prepared["context"].get("signing", {})
    region = signing["region"] if signing.get("signing_name") == "s3" else ""
    return _Target(prepared["url"].removesuffix("/x"), region, prepared["headers"]["User-Agent"])


def _find_reason(target: _Target, session: Session) -> str | None:
    """Tell why boto3 must move the objects; None where obstore does it by the same rules."""
    if not target.region:
        return "requests are not signed for one region with a key and a secret"
    if urlsplit(target.place).scheme in get_environ_proxies(target.place):
        return "a proxy leads to it"
    if target.place.startswith("https:") and _own_authority(session):
        return "an authority of one's own is trusted alone"  # obstore would trust the others beside it
    stated = sorted(_UNWANTED & os.environ.keys())
    return f"obstore would obey {', '.join(stated)}" if stated else None


def _own_authority(session: Session) -> str | None:
    core = botocore.session.get_session()
    if session.profile_name != "default":
        core.set_config_variable("profile", session.profile_name)
    bundle: str | None = core.get_config_variable("ca_bundle")
    return bundle


def _connection_options(target: _Target, timeout_s: float) -> "ClientConfig":
    options: ClientConfig = {
        "allow_http": target.place.startswith("http:"),
        "connect_timeout": timedelta(seconds=min(timeout_s, 5.0)),
        "read_timeout": timedelta(seconds=timeout_s),
        "timeout": _LONGEST,
        "user_agent": target.agent,
    }
    if not options["allow_http"]:
        options["root_certificate"] = Path(get_cert_path(verify=True) or "").read_bytes()  # which boto3 trusts
    proxies = list(getproxies().values())
    if proxies:
        # obstore reads the environment by rules of its own: it is told a proxy, and that this server needs none.
        options["proxy_url"] = proxies[0]
        options["proxy_excludes"] = urlsplit(target.place).hostname or ""
    return options


def _provider(credentials: "Credentials") -> Callable[[], "S3Credential"]:
    """Let obstore ask boto3, which renews those of a role in time."""

    def provide() -> "S3Credential":
        # Frozen: a key of before does not fit a secret of after.
        frozen = credentials.get_frozen_credentials()
        is_renewed = isinstance(credentials, RefreshableCredentials)
        return {
            "access_key_id": frozen.access_key or "",
            "secret_access_key": frozen.secret_key or "",
            "token": frozen.token,
            "expires_at": datetime.now(timezone.utc) + _KEPT if is_renewed else None,
        }

    return provide
