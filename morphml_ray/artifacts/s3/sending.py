"""Writing objects: in one request, or in parts side by side."""

import base64
import logging
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from morphml_ray.artifacts.checks import WriteRequest
from morphml_ray.artifacts.contract import Advance, ObjectInfo
from morphml_ray.artifacts.crc32 import checksum_text, combine, crc32
from morphml_ray.artifacts.s3.bucket import Bucket
from morphml_ray.artifacts.s3.driver_errors import code_of
from morphml_ray.artifacts.s3.parts import Part, one_at_a_time, split, work_on
from morphml_ray.errors import BackendUnavailable, ConflictError, MorphMLRayError, NotFoundError

SINGLE_BYTES = 16 * 1024 * 1024
_LOGGER = logging.getLogger(__name__)

Source = Callable[[Part], bytes]
"""Reads a part of what is to be written; fewer bytes where the source became shorter."""


class SentPart(NamedTuple):
    """A part that the server has."""

    etag: str
    crc: int
    size_bytes: int


class Sender:
    """Writes objects to one bucket.

    Args:
        bucket: where they go.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._lock = threading.Lock()
        # Unfinished uploads that are to end once the server answers: upload id -> full key.
        self._orphans: dict[str, str] = {}

    def send(self, request: WriteRequest, size_bytes: int, source: Source, progress: Advance | None) -> ObjectInfo:
        """Write an object; see ``ArtifactBackend.put``."""
        if size_bytes <= SINGLE_BYTES:
            return self._send_whole(request, size_bytes, source, progress)
        read = _strict(source, request.key)
        parts = split(size_bytes)
        # Read twice: the checksum of the whole must be known when the upload begins.
        crcs = work_on(self._bucket.pool, parts, lambda part: crc32(read(part)), self._bucket.parts_at_once)
        crc = combine((one, part.size_bytes) for one, part in zip(crcs, parts, strict=True))
        tell = one_at_a_time(progress)
        upload = self.begin(request, crc)

        def send_part(part: Part) -> SentPart:
            sent = self.send_part(request.key, upload, part.number, read(part), crcs[part.number])
            tell(part.size_bytes)
            return sent

        with self.ending(request.key, upload):
            sent = work_on(self._bucket.pool, parts, send_part, self._bucket.parts_at_once)
            return self.complete(request, upload, sent, crc)

    def _send_whole(
        self, request: WriteRequest, size_bytes: int, source: Source, progress: Advance | None
    ) -> ObjectInfo:
        data = _strict(source, request.key)(Part(0, 0, size_bytes))
        crc = crc32(data)
        arguments = {
            **self._bucket.attributes(request, crc),
            **self._bucket.condition(request),
            "ChecksumCRC32": crc_header(crc),
        }
        with self._bucket.working(f"put {request.key}"):
            try:
                answer = self._bucket.objects.put_object(Body=data, **arguments)
            except ClientError as error:
                own = self._bucket.find_own(request) if code_of(error) == "PreconditionFailed" else None
                if own is None:
                    raise
                return own
        one_at_a_time(progress)(size_bytes)
        return _info(request, size_bytes, crc, answer)

    # The steps of an upload in parts

    def begin(self, request: WriteRequest, crc: int | None) -> str:
        """Begin an upload; gives the server's id of it."""
        arguments = self._bucket.attributes(request, crc)
        with self._bucket.working(f"put {request.key}") as client:
            upload = client.create_multipart_upload(ChecksumAlgorithm="CRC32", **arguments)["UploadId"]
        # Now, as the server answers: nobody waits for one that is unavailable on account of others' uploads.
        self.abort_orphans()
        return upload

    def send_part(self, key: str, upload: str, index: int, data: bytes, crc: int) -> SentPart:
        """Send a part; the server compares its checksum."""
        with self._bucket.working(f"put {key}") as client:
            answer = client.upload_part(
                Bucket=self._bucket.name,
                Key=self._bucket.full_key(key),
                UploadId=upload,
                PartNumber=index + 1,
                Body=data,
                ChecksumCRC32=crc_header(crc),
            )
        return SentPart(answer["ETag"], crc, len(data))

    def complete(self, request: WriteRequest, upload: str, parts: list[SentPart], crc: int | None) -> ObjectInfo:
        """Make the object appear.

        Raises:
            NotFoundError: the server does not know the upload any more.
            AlreadyExistsError: the write wants no other object there, and there is one.
        """
        listed: Any = [
            {"PartNumber": number, "ETag": part.etag, "ChecksumCRC32": crc_header(part.crc)}
            for number, part in enumerate(parts, 1)
        ]
        with self._bucket.working(f"put {request.key}") as client:
            try:
                answer = client.complete_multipart_upload(
                    Bucket=self._bucket.name,
                    Key=self._bucket.full_key(request.key),
                    UploadId=upload,
                    MultipartUpload={"Parts": listed},
                    **self._bucket.condition(request),
                )
            except ClientError as error:
                # Somebody else's object, or ours: the answer to the first attempt may have been lost.
                is_settled = code_of(error) in ("PreconditionFailed", "NoSuchUpload")
                own = self._bucket.find_own(request) if is_settled else None
                if own is None:
                    raise
                self.abort(request.key, upload)
                return own
        return _info(request, sum(part.size_bytes for part in parts), crc, answer)

    @contextmanager
    def ending(self, key: str, upload: str) -> Iterator[None]:
        """End an upload when the block fails.

        Raises:
            BackendUnavailable: also where the server does not know the upload any more: all must be sent again.
        """
        try:
            yield
        except BaseException as error:
            answer = error.__cause__ if isinstance(error, MorphMLRayError) else None
            if isinstance(error, BackendUnavailable) and not isinstance(answer, ClientError):
                # Who does not answer would not answer this either, and it would take as long.
                self.leave(key, upload)
                raise
            self.abort(key, upload)
            if isinstance(answer, ClientError) and code_of(answer) == "NoSuchUpload":
                raise BackendUnavailable(f"{error}; it begins anew") from error
            raise

    def abort(self, key: str, upload: str) -> None:
        """End an upload without an object; one that cannot be reached now is ended after the next one begins."""
        self.leave(key, upload)
        self._try_to_end(upload, self._bucket.full_key(key))

    def leave(self, key: str, upload: str) -> None:
        """Note an upload that is to end without an object, later."""
        with self._lock:
            self._orphans[upload] = self._bucket.full_key(key)

    def abort_orphans(self) -> int:
        """End the uploads that were left, until the server is unavailable; gives how many were ended."""
        with self._lock:
            orphans = dict(self._orphans)
        ended = 0
        for upload, full_key in orphans.items():
            if not self._try_to_end(upload, full_key):
                break
            ended += 1
        return ended

    def abort_older(self, limit: datetime) -> int:
        """End what was left, and what else is unfinished below the prefix and began before ``limit``.

        Where there is no prefix, the rest of the bucket may be somebody else's: nothing of it is looked at.

        Returns:
            How many there were.
        """
        ended = self.abort_orphans()
        prefix = self._bucket.full_key("")
        if not prefix:
            return ended
        with self._bucket.working("purge_uploads") as client:
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket.name, Prefix=prefix)
            old = [
                (found["UploadId"], found["Key"])
                for page in pages
                for found in page.get("Uploads", [])
                if found["Initiated"] <= limit
            ]
        for upload, full_key in old:
            self._end(upload, full_key)
        return ended + len(old)

    def _try_to_end(self, upload: str, full_key: str) -> bool:
        """End an upload; False where the server is unavailable."""
        try:
            self._end(upload, full_key)
        except BackendUnavailable as error:
            _LOGGER.warning("an unfinished upload of %s is left for later: %s", full_key, error)
            return False
        except MorphMLRayError as error:
            _LOGGER.warning("an unfinished upload of %s stays: %s", full_key, error)
        with self._lock:
            self._orphans.pop(upload, None)
        return True

    def _end(self, upload: str, full_key: str) -> None:
        with suppress(NotFoundError), self._bucket.working(f"abort {full_key}") as client:
            client.abort_multipart_upload(Bucket=self._bucket.name, Key=full_key, UploadId=upload)


def crc_header(crc: int) -> str:
    """Write a CRC-32 as S3 has it."""
    return base64.b64encode(struct.pack(">I", crc)).decode()


def _strict(source: Source, key: str) -> Source:
    def read(part: Part) -> bytes:
        data = source(part)
        if len(data) != part.size_bytes:
            raise ConflictError(f"the file that becomes {key} was cut off while it was read")
        return data

    return read


def _info(request: WriteRequest, size_bytes: int, crc: int | None, answer: Any) -> ObjectInfo:
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")  # obstore does not tell
    return ObjectInfo(
        request.key,
        size_bytes,
        parsedate_to_datetime(date) if date else datetime.now(timezone.utc),
        request.content_type or "application/octet-stream",
        request.metadata,
        None if crc is None else checksum_text(crc),
        answer.get("ETag"),
        request.write_id,
    )
