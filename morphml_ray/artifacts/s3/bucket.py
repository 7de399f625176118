"""One bucket, or one prefix in it: opening it, names, and errors."""

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from morphml_ray.artifacts.checks import MAX_KEY_BYTES, WriteRequest
from morphml_ray.artifacts.contract import ObjectInfo
from morphml_ray.artifacts.crc32 import checksum_text
from morphml_ray.artifacts.s3.client import DEFAULT_REGION, make_client, make_session
from morphml_ray.artifacts.s3.driver_errors import code_of, translated
from morphml_ray.artifacts.s3.metadata import decode_metadata, encode_metadata
from morphml_ray.artifacts.s3.obstore_client import Objects, choose_client
from morphml_ray.config import BackendUrl
from morphml_ray.config.s3 import S3Url, parse_s3
from morphml_ray.errors import (
    AlreadyExistsError,
    BackendUnavailable,
    ConfigurationError,
    NotFoundError,
    ValidationError,
)
from morphml_ray.rpc.patience import Patience

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

_LOGGER = logging.getLogger(__name__)
_SCHEME = "s3://"
_FIRST_PAUSE_S = 0.2
# How often a bucket that was made is looked for.
_LOOKS = 4
# Besides the parts: who else uses connections at once, in an actor its threads for transfers, look-ups and tidying.
_CALLERS = 16
# For so long a bucket that was there counts as there.
_LOOK_AGAIN_S = 5.0
# Two who create one bucket: the loser goes on.
_RACES = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists", "OperationAborted"})


class Bucket:
    """What the operations on objects have in common; thread-safe.

    Args:
        url: ``s3://bucket/prefix?...``, or a reference to such a URL.
        timeout_s: how long the server may be silent.
        attempts: how often a request is sent at most.
        parts_at_once: how many parts of objects are on their way at once.
    """

    def __init__(self, url: BackendUrl, *, timeout_s: float, attempts: int, parts_at_once: int) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._parts_at_once = parts_at_once
        self._opening = threading.Lock()
        self._client: S3Client | None = None
        self._objects: Objects | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._seen_at = 0.0
        self._parsed = S3Url("", "", ())
        self.place = url.masked
        self.answered_at = 0.0

    def open(self) -> None:
        """Make the client, and the bucket where it is missing."""
        with self._opening:
            if self._client is not None:
                return
            text = self._url.resolve("artifacts")
            if not text.startswith(_SCHEME):
                raise ConfigurationError(f"{self.place} is no bucket: an S3 URL names one, s3://bucket/prefix")
            self._parsed = parse_s3(text.removeprefix(_SCHEME), None)
            with translated(self.place, "opening"):
                session = make_session(self._parsed)
                client = make_client(
                    session,
                    self._parsed,
                    timeout_s=self._timeout_s,
                    attempts=self._attempts,
                    connections=self._parts_at_once + _CALLERS,
                )
                try:
                    self._ensure(client)
                    self._objects = choose_client(
                        client,
                        session,
                        self.name,
                        self.encryption(),
                        timeout_s=self._timeout_s,
                        patience=self.patience,
                    )
                except BaseException:
                    client.close()
                    raise
            self._pool = ThreadPoolExecutor(self._parts_at_once, "morphml-s3")
            self._client = client

    def close(self) -> None:
        """Close all connections, once the parts that are under way have ended."""
        with self._opening:
            client, self._client = self._client, None
            pool, self._pool = self._pool, None
            self._objects = None
            if pool is not None:
                pool.shutdown()
            if client is not None:
                client.close()

    @property
    def name(self) -> str:
        """The name of the bucket."""
        return self._parsed.bucket

    @property
    def objects(self) -> Objects:
        """What reads and writes objects; its errors are boto3's, see ``working``.

        Raises:
            BackendUnavailable: the bucket is not open.
        """
        objects = self._objects
        if objects is None:
            raise self._closed()
        return objects

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The threads that work on parts.

        Raises:
            BackendUnavailable: the bucket is not open.
        """
        pool = self._pool
        if pool is None:
            raise self._closed()
        return pool

    @property
    def parts_at_once(self) -> int:
        """How many parts are on their way at once."""
        return self._parts_at_once

    def patience(self) -> Patience:
        """Say when to ask once more for what boto3 leaves to its caller."""
        return Patience(attempts=self._attempts, first_pause_s=_FIRST_PAUSE_S)

    def full_key(self, key: str) -> str:
        """Give the key in the bucket.

        Raises:
            ValidationError: the prefix makes it longer than S3 takes.
        """
        full_key = f"{self._parsed.prefix}/{key}" if self._parsed.prefix else key
        if len(full_key.encode()) > MAX_KEY_BYTES:
            raise ValidationError(f"{self.place}: with the prefix, the key {key!r} has over {MAX_KEY_BYTES} bytes")
        return full_key

    def where(self, key: str) -> dict[str, Any]:
        """Give the arguments that name an object."""
        return {"Bucket": self.name, "Key": self.full_key(key)}

    def own_key(self, full_key: str) -> str:
        """Give the key below the prefix."""
        return full_key[len(self._parsed.prefix) + 1 :] if self._parsed.prefix else full_key

    @contextmanager
    def working(self, operation: str) -> Iterator["S3Client"]:
        """Use the client; its errors come out as ours.

        Raises:
            BackendUnavailable: the bucket is not open.
        """
        client = self._client
        if client is None:
            raise self._closed()
        with translated(self.place, operation):
            yield client
        self.answered_at = time.monotonic()

    def encryption(self) -> dict[str, Any]:
        """Give the arguments that say how objects are encrypted at rest."""
        stated = {
            "ServerSideEncryption": self._parsed.option("sse"),
            "SSEKMSKeyId": self._parsed.option("sse_kms_key_id"),
        }
        return {name: value for name, value in stated.items() if value is not None}

    def attributes(self, request: WriteRequest, crc: int | None) -> dict[str, Any]:
        """Give the arguments that describe a new object."""
        return {
            **self.where(request.key),
            "Metadata": encode_metadata(request.metadata, crc, request.write_id),
            "ContentType": request.content_type or "application/octet-stream",
            **self.encryption(),
        }

    def condition(self, request: WriteRequest) -> dict[str, Any]:
        """Give the argument that lets a write fail where there is an object."""
        return {"IfNoneMatch": "*"} if request.if_absent else {}

    def head(self, key: str) -> tuple[ObjectInfo, Any] | None:
        """Look at an object; gives the server's own answer too.

        Raises:
            ConfigurationError: not the object is missing but the bucket; noticed within seconds.
        """
        where = self.where(key)
        with self.working(f"head {key}") as client:
            try:
                answer = self.objects.head_object(**where)
            except ClientError as error:
                if code_of(error) not in ("404", "NoSuchKey"):
                    raise
                # Without a body the answer does not say what is missing.
                if time.monotonic() > self._seen_at + _LOOK_AGAIN_S:
                    self._look(client)
                return None
            return describe(key, answer["ContentLength"], answer), answer

    def find_own(self, request: WriteRequest) -> ObjectInfo | None:
        """Find the object of a write whose first answer may have been lost; None where it is not there.

        Raises:
            AlreadyExistsError: the write wants no other object there, and there is one.
        """
        found = self.head(request.key)
        if found is None:
            return None
        info, answer = found
        if decode_metadata(answer["Metadata"]).write_id == request.write_id:
            return info
        if request.if_absent:
            raise AlreadyExistsError(f"{self.place}: there is an object {request.key} already")
        return None

    def missing(self, key: str) -> NotFoundError:
        """Give the error of an object that is not there."""
        return NotFoundError(f"{self.place}: there is no object {key}")

    def _closed(self) -> BackendUnavailable:
        return BackendUnavailable(f"{self.place} is not open")

    def _look(self, client: "S3Client") -> None:
        client.list_objects_v2(Bucket=self.name, Prefix=self.full_key(""), MaxKeys=1)
        self._seen_at = time.monotonic()

    def _ensure(self, client: "S3Client") -> None:
        if self._is_there(client):
            return
        if not self._parsed.is_bucket_created:
            raise ConfigurationError(
                f"{self.place}: there is no bucket {self.name}, and create_bucket=0 forbids to make it"
            )
        patience = Patience(attempts=_LOOKS, first_pause_s=_FIRST_PAUSE_S)
        self._create(client)
        while not self._is_there(client):
            if not patience.pause():
                raise BackendUnavailable(f"{self.place}: the bucket was made and is not there yet")
            self._create(client)

    def _is_there(self, client: "S3Client") -> bool:
        try:
            self._look(client)
        except ClientError as error:
            if code_of(error) != "NoSuchBucket":
                raise
            return False
        return True

    def _create(self, client: "S3Client") -> None:
        region = client.meta.region_name
        # The region that is the default must not be stated, all others must.
        place: Any = {} if region == DEFAULT_REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            client.create_bucket(Bucket=self.name, **place)
            _LOGGER.info("created the bucket %s in %s", self.name, region)
        except ClientError as error:
            if code_of(error) not in _RACES:
                raise


def describe(key: str, size_bytes: int, answer: Any) -> ObjectInfo:
    """Read the description of an object from an answer of the server."""
    stored = decode_metadata(answer.get("Metadata", {}))
    return ObjectInfo(
        key,
        size_bytes,
        answer.get("LastModified") or datetime.now(timezone.utc),
        answer.get("ContentType"),
        stored.metadata,
        None if stored.crc is None else checksum_text(stored.crc),
        answer.get("ETag"),
        stored.write_id,
    )
