"""Writing objects: in one request, or in parts side by side."""

import base64
import logging
import struct
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from morphml_ray.backends.artifact_checks import WriteRequest
from morphml_ray.backends.artifact_contract import ObjectInfo, Progress
from morphml_ray.backends.crc32 import checksum_text, combine, crc32
from morphml_ray.backends.s3.bucket import Bucket
from morphml_ray.backends.s3.driver_errors import code_of
from morphml_ray.backends.s3.parts import Part, one_at_a_time, split, work_on
from morphml_ray.errors import ConflictError, MorphMLRayError, NotFoundError

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
        # Uploads that could not be aborted, because the server was away: upload id -> full key.
        self._orphans: dict[str, str] = {}

    def send(self, request: WriteRequest, size_bytes: int, source: Source, progress: Progress | None) -> ObjectInfo:
        """Write an object; see ``ArtifactBackend.put``."""
        if size_bytes <= SINGLE_BYTES:
            return self._send_whole(request, size_bytes, source, progress)
        self.abort_orphans()
        read = _strict(source, request.key)
        parts = split(size_bytes)
        # Read twice: the checksum of the whole must be known when the upload begins.
        crcs = work_on(self._bucket.pool, parts, lambda part: crc32(read(part)), self._bucket.transfers)
        crc = combine((one, part.size_bytes) for one, part in zip(crcs, parts, strict=True))
        tell = one_at_a_time(progress)
        upload = self.begin(request, crc)

        def send_part(part: Part) -> SentPart:
            sent = self.send_part(request.key, upload, part.number, read(part), crcs[part.number])
            tell(part.size_bytes)
            return sent

        try:
            sent = work_on(self._bucket.pool, parts, send_part, self._bucket.transfers)
            return self.complete(request, upload, sent, crc)
        except BaseException:
            self.abort(request.key, upload)
            raise

    def _send_whole(
        self, request: WriteRequest, size_bytes: int, source: Source, progress: Progress | None
    ) -> ObjectInfo:
        data = _strict(source, request.key)(Part(0, 0, size_bytes))
        crc = crc32(data)
        arguments = {**self._bucket.attributes(request, crc), **self._bucket.condition(request)}
        with self._bucket.working(f"put {request.key}") as client:
            try:
                answer = client.put_object(Body=data, ChecksumCRC32=crc_header(crc), **arguments)
            except ClientError as error:
                if code_of(error) == "PreconditionFailed":
                    return self._bucket.find_own(request)
                raise
        one_at_a_time(progress)(size_bytes)
        return _info(request, size_bytes, crc, answer)

    # The steps of an upload in parts

    def begin(self, request: WriteRequest, crc: int | None) -> str:
        """Begin an upload; gives the server's id of it."""
        with self._bucket.working(f"put {request.key}") as client:
            return client.create_multipart_upload(ChecksumAlgorithm="CRC32", **self._bucket.attributes(request, crc))[
                "UploadId"
            ]

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
        """Make the object appear."""
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
                if code_of(error) in ("PreconditionFailed", "NoSuchUpload"):
                    info = self._bucket.find_own(request)
                    self.abort(request.key, upload)
                    return info
                raise
        return _info(request, sum(part.size_bytes for part in parts), crc, answer)

    def abort(self, key: str, upload: str) -> None:
        """End an upload without an object; one that cannot be reached now is ended before the next one begins."""
        self._abort(self._bucket.full_key(key), upload)

    def _abort(self, full_key: str, upload: str) -> None:
        with self._lock:
            self._orphans[upload] = full_key
        try:
            with self._bucket.working(f"abort {full_key}") as client:
                client.abort_multipart_upload(Bucket=self._bucket.name, Key=full_key, UploadId=upload)
        except NotFoundError:
            pass
        except MorphMLRayError as error:
            _LOGGER.warning("an unfinished upload of %s is left for later: %s", full_key, error)
            return
        with self._lock:
            self._orphans.pop(upload, None)

    def abort_orphans(self) -> int:
        """End the uploads that could not be ended before; gives how many were."""
        with self._lock:
            orphans = dict(self._orphans)
        for upload, full_key in orphans.items():
            self._abort(full_key, upload)
        with self._lock:
            return sum(upload not in self._orphans for upload in orphans)

    def abort_older(self, limit: datetime) -> int:
        """End what is unfinished below the prefix and began before ``limit``; gives how many there were."""
        ended = self.abort_orphans()
        with self._bucket.working("purge_uploads") as client:
            pages = client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket.name, Prefix=self._bucket.full_key("")
            )
            old = [
                (found["Key"], found["UploadId"])
                for page in pages
                for found in page.get("Uploads", [])
                if found["Initiated"] <= limit
            ]
        for full_key, upload in old:
            self._abort(full_key, upload)
        return ended + len(old)


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
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return ObjectInfo(
        request.key,
        size_bytes,
        parsedate_to_datetime(date) if date else datetime.now(timezone.utc),
        request.content_type or "application/octet-stream",
        request.metadata,
        None if crc is None else checksum_text(crc),
    )
