"""Small objects without the greater part of boto3's work on each request.

boto3 spends two milliseconds of processor time on a request, most of it on choosing an endpoint, checking arguments
and parsing: more than a server takes for a small object. Here its signer and its connections are used without the
rest. What does not succeed at once is asked once more, of boto3, which knows about retries, redirects and errors.
"""

import logging
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from botocore import exceptions as exc
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest

from morphml_ray.artifacts.s3.metadata import KEPT_HEADERS

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from types_boto3_s3.client import S3Client

DIRECT_BYTES = 1024 * 1024
"""Of larger objects the work on a request is the smaller part."""
_PAUSE_S = 60.0

_LOGGER = logging.getLogger(__name__)
_METADATA = "x-amz-meta-"
_HEADERS = {
    "ContentType": "Content-Type",
    "ChecksumCRC32": "x-amz-checksum-crc32",
    "IfMatch": "If-Match",
    "IfNoneMatch": "If-None-Match",
    "Range": "Range",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ServerSideEncryption": "x-amz-server-side-encryption",
}
_EVENT = "before-call.s3.HeadObject"
# Of one object, or of the moment: the next request may well succeed.
_PASSING = frozenset(
    (
        HTTPStatus.NOT_FOUND,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.PRECONDITION_FAILED,
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        HTTPStatus.TOO_MANY_REQUESTS,
    )
)


class _Target(NamedTuple):
    """Where requests for objects go.

    Attributes:
        place: what the addresses of all objects begin with.
        region: for which they are signed; empty where a signature is more than a key and a secret.
        agent: who asks.
    """

    place: str
    region: str
    agent: str


class DirectRequests:
    """Requests for objects of one bucket; thread-safe.

    The methods take the arguments of boto3's methods of the same names, and give the part of their answers that is
    used here; None means: ask boto3.

    Args:
        client: knows the bucket's address and holds the connections.
        credentials: None where there are none; then boto3 alone is asked.
        bucket: its name.
    """

    def __init__(self, client: "S3Client", credentials: "Credentials | None", bucket: str) -> None:
        self._credentials = credentials
        # Public there are only whole API calls.
        self._session = client._endpoint.http_session  # type: ignore[attr-defined]  # noqa: SLF001 - see above
        self._target = _find_target(client, bucket)
        self._is_usable = bool(self._target.region)
        self._resume_at = 0.0

    def put_object(self, body: bytes, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """Write an object."""
        return self._send("PUT", arguments, body)

    def get_object(self, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """Read an object or a range of it; ``Body`` is bytes."""
        return self._send("GET", arguments)

    def head_object(self, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """Look at an object.

        Raises:
            ClientError: the server says that there is none, as boto3 would; it has no more to tell of that.
        """
        return self._send("HEAD", arguments)

    def _send(self, method: str, arguments: Mapping[str, Any], body: bytes | None = None) -> dict[str, Any] | None:
        if self._credentials is None or not self._is_usable or time.monotonic() < self._resume_at:
            return None
        address = f"{self._target.place}{quote(arguments['Key'], safe='/~')}"
        request = AWSRequest(method, address, headers=self._headers(arguments), data=body)
        try:
            # Frozen: those of a role are renewed now and then, and a key of before does not fit a secret of after.
            S3SigV4Auth(self._credentials.get_frozen_credentials(), "s3", self._target.region).add_auth(request)
            answer = self._session.send(request.prepare())
        except (exc.ReadTimeoutError, exc.ConnectTimeoutError):
            raise  # it has been waited for already
        except (exc.BotoCoreError, exc.HTTPClientError) as error:
            _LOGGER.debug("%s: boto3 tries again after %s", method, error)
            return None
        if answer.status_code in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return _parse(method, answer)
        if method == "HEAD" and answer.status_code == HTTPStatus.NOT_FOUND:
            raise exc.ClientError({"Error": {"Code": "404", "Message": "Not Found"}}, "HeadObject")
        if answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR and answer.status_code not in _PASSING:
            # A redirect, a right that is missing, credentials that ended: boto3 knows what to do, or to say.
            _LOGGER.debug("%s: the server answers %d; boto3 alone is used for a while", method, answer.status_code)
            self._resume_at = time.monotonic() + _PAUSE_S
        return None

    def _headers(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        headers = {header: arguments[name] for name, header in _HEADERS.items() if name in arguments}
        metadata = {f"{_METADATA}{name}": value for name, value in arguments.get("Metadata", {}).items()}
        return {"User-Agent": self._target.agent, **headers, **metadata}


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
    return _Target(prepared["url"].removesuffix("x"), region, prepared["headers"]["User-Agent"])


def _parse(method: str, answer: Any) -> dict[str, Any] | None:
    headers = answer.headers
    body = b"" if method == "HEAD" else answer.content
    try:
        size_bytes = int(headers.get("Content-Length", -1))
        modified = parsedate_to_datetime(headers["Last-Modified"]) if "Last-Modified" in headers else None
    except ValueError:
        return None  # boto3 knows more forms
    if (method == "HEAD" and size_bytes < 0) or (method == "GET" and len(body) != size_bytes):
        return None  # it has no size, or was cut off
    return {
        "Body": body,
        "ContentLength": size_bytes,
        "ContentRange": headers.get("Content-Range", ""),
        "ContentType": headers.get("Content-Type"),
        "ETag": headers.get("ETag"),
        "LastModified": modified,
        "Metadata": {
            name[len(_METADATA) :]: value for name, value in headers.items() if name.lower().startswith(_METADATA)
        },
        "ResponseMetadata": {"HTTPHeaders": {"date": headers.get("Date")}},
        **{name: headers[header] for name, header in KEPT_HEADERS.items() if header in headers},
    }
