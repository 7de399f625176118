"""The artifact contract on S3."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone

from typing_extensions import Buffer

from morphml_ray.artifacts.checks import (
    CHUNK_BYTES,
    NO_METADATA,
    PresignMethod,
    check_border,
    check_chunk_bytes,
    check_folder,
    check_key,
    check_limit,
    check_prefix,
    check_presign,
    check_range,
    check_write,
    view_bytes,
)
from morphml_ray.artifacts.contract import Advance, ObjectFolder, ObjectInfo, ObjectPage, UploadId
from morphml_ray.artifacts.file_io import opened_source, replaced_target, write_all
from morphml_ray.artifacts.s3.bucket import Bucket
from morphml_ray.artifacts.s3.chunked_uploads import S3ChunkedUploads
from morphml_ray.artifacts.s3.copying import Copier
from morphml_ray.artifacts.s3.listing import delete_all, list_all, list_folder, list_page
from morphml_ray.artifacts.s3.parts import Part
from morphml_ray.artifacts.s3.receiving import Receiver, collected, drained
from morphml_ray.artifacts.s3.sending import Sender
from morphml_ray.artifacts.upload_ledger import ChunkLedger
from morphml_ray.config import BackendUrl
from morphml_ray.errors import ConflictError


class S3ArtifactBackend:
    """``ArtifactBackend`` in a bucket of S3, or below a prefix in it.

    The clients are used directly, without boto3's transfer manager: its faster variant ignores the address of the
    server, and the other one leaves no room for checksums of the whole and conditional writes.

    Args:
        url: ``s3://bucket/prefix?endpoint_url=...&region=...``, or a reference to such a URL.
        timeout_s: how long the server may be silent.
        attempts: how often a request is sent at most, with growing random pauses.
        parts_at_once: how many parts of objects are on their way at once.
    """

    def __init__(self, url: BackendUrl, *, timeout_s: float = 10.0, attempts: int = 3, parts_at_once: int = 4) -> None:
        self._bucket = Bucket(url, timeout_s=timeout_s, attempts=attempts, parts_at_once=parts_at_once)
        self._sender = Sender(self._bucket)
        self._receiver = Receiver(self._bucket)
        self._copier = Copier(self._bucket)
        self._uploads = S3ChunkedUploads(self._sender)

    @property
    def answered_at(self) -> float:
        """See ``ArtifactBackend.answered_at``."""
        return self._bucket.answered_at

    def open(self) -> None:
        """See ``ArtifactBackend.open``."""
        self._bucket.open()

    def close(self) -> None:
        """See ``ArtifactBackend.close``."""
        self._uploads.leave_unused(0)
        self._sender.abort_orphans()
        self._bucket.close()

    # Writes

    def put(
        self,
        key: str,
        data: Buffer,
        metadata: Mapping[str, str] = NO_METADATA,
        *,
        content_type: str | None = None,
        if_absent: bool = False,
        write_id: str | None = None,
    ) -> ObjectInfo:
        """See ``ArtifactBackend.put``."""
        request = check_write(key, metadata, content_type, if_absent=if_absent, write_id=write_id)
        view = view_bytes(data)

        def read(part: Part) -> bytes:
            # The whole of what is bytes already is no copy; nor is more than a part at a time.
            if isinstance(data, bytes) and part.size_bytes == len(data):
                return data
            return bytes(view[part.offset : part.offset + part.size_bytes])

        return self._sender.send(request, len(view), read, None)

    def put_file(
        self,
        key: str,
        path: str | os.PathLike[str],
        metadata: Mapping[str, str] = NO_METADATA,
        progress: Advance | None = None,
        *,
        content_type: str | None = None,
        if_absent: bool = False,
        write_id: str | None = None,
    ) -> ObjectInfo:
        """See ``ArtifactBackend.put_file``."""
        request = check_write(key, metadata, content_type, if_absent=if_absent, write_id=write_id)
        with opened_source(path) as (fd, size_bytes):
            return self._sender.send(
                request, size_bytes, lambda part: os.pread(fd, part.size_bytes, part.offset), progress
            )

    def delete(self, key: str) -> bool:
        """See ``ArtifactBackend.delete``."""
        is_there = self.exists(key)
        with self._bucket.working(f"delete {key}") as client:
            client.delete_object(Bucket=self._bucket.name, Key=self._bucket.full_key(key))
        return is_there

    def delete_prefix(self, prefix: str) -> int:
        """See ``ArtifactBackend.delete_prefix``."""
        folder = check_folder(prefix)
        below = delete_all(self._bucket, f"{folder}/")
        return below + (not prefix.endswith("/") and self.delete(folder))

    def copy(self, source: str, dest: str, *, write_id: str | None = None) -> ObjectInfo:
        """See ``ArtifactBackend.copy``."""
        request = check_write(dest, {}, None, if_absent=False, write_id=write_id)
        return self._copier.copy(check_key(source), dest, request.write_id, self._sender.ending)

    # Uploads in chunks

    def begin_upload(
        self,
        key: str,
        metadata: Mapping[str, str] = NO_METADATA,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        checksum: str | None = None,
        content_type: str | None = None,
        if_absent: bool = False,
        write_id: str | None = None,
    ) -> UploadId:
        """See ``ArtifactBackend.begin_upload``."""
        request = check_write(key, metadata, content_type, if_absent=if_absent, write_id=write_id)
        check_chunk_bytes(chunk_bytes)
        return self._uploads.begin(request, ChunkLedger(chunk_bytes, checksum))

    def upload_chunk(self, upload: UploadId, index: int, data: Buffer) -> None:
        """See ``ArtifactBackend.upload_chunk``."""
        self._uploads.add(upload, index, data)

    def finish_upload(self, upload: UploadId) -> ObjectInfo:
        """See ``ArtifactBackend.finish_upload``."""
        return self._uploads.finish(upload)

    def abort_upload(self, upload: UploadId) -> None:
        """See ``ArtifactBackend.abort_upload``."""
        self._uploads.abort(upload)

    def purge_uploads(self, older_than_s: float) -> int:
        """See ``ArtifactBackend.purge_uploads``; the server tells what is unfinished below the prefix.

        In a whole bucket only what this object began is freed: the rest may be somebody else's.
        """
        self._uploads.leave_unused(older_than_s)
        return self._sender.abort_older(datetime.now(timezone.utc) - timedelta(seconds=older_than_s))

    # Reads

    def get(self, key: str, offset: int = 0, length: int | None = None, version: str | None = None) -> bytes:
        """See ``ArtifactBackend.get``."""
        check_range(offset, length)
        return self._receiver.get(check_key(key), offset, length, version)

    def get_into(self, key: str, buffer: Buffer, progress: Advance | None = None) -> ObjectInfo:
        """See ``ArtifactBackend.get_into``."""
        view = view_bytes(buffer)

        def write(block: memoryview, offset: int) -> None:
            view[offset : offset + len(block)] = block

        return self._receiver.receive(check_key(key), _expecting(len(view)), drained(write), progress)

    def get_parts(self, key: str, size_bytes: int, progress: Advance | None = None) -> list[Buffer]:
        """See ``ArtifactBackend.get_parts``."""
        parts: dict[int, Buffer] = {}
        self._receiver.receive(check_key(key), _expecting(size_bytes), collected(parts), progress)
        return [parts[offset] for offset in sorted(parts)]

    def get_file(
        self, key: str, path: str | os.PathLike[str], progress: Advance | None = None, *, sync: bool = True
    ) -> ObjectInfo:
        """See ``ArtifactBackend.get_file``."""
        if not self.exists(key):  # before the file is touched
            raise self._bucket.missing(key)
        # Threads that write to one file at once spin on its lock in the kernel: twice the work.
        turn = threading.Lock()
        with replaced_target(path, sync=sync) as fd:

            def write(block: memoryview, offset: int) -> None:
                with turn:
                    write_all(fd, block, offset)

            return self._receiver.receive(key, lambda _: None, drained(write), progress)

    def head(self, key: str) -> ObjectInfo | None:
        """See ``ArtifactBackend.head``."""
        found = self._bucket.head(check_key(key))
        return None if found is None else found[0]

    def exists(self, key: str) -> bool:
        """See ``ArtifactBackend.exists``."""
        return self.head(key) is not None

    def list(self, prefix: str = "", *, limit: int | None = None) -> Iterator[ObjectInfo]:
        """See ``ArtifactBackend.list``."""
        check_prefix(prefix)
        check_limit(limit)
        # Not every server lists by bytes: SeaweedFS has "a/b" before "a!".
        return iter(sorted(list_all(self._bucket, prefix, limit), key=lambda info: info.key.encode()))

    def list_folder(self, prefix: str = "") -> ObjectFolder:
        """See ``ArtifactBackend.list_folder``."""
        return list_folder(self._bucket, check_border(prefix))

    def list_page(self, prefix: str = "", *, token: str | None = None, limit: int = 1000) -> ObjectPage:
        """See ``ArtifactBackend.list_page``."""
        check_prefix(prefix)
        check_limit(limit)
        return list_page(self._bucket, prefix, token, limit)

    def total_size(self, prefix: str = "") -> int:
        """See ``ArtifactBackend.total_size``."""
        check_prefix(prefix)
        return sum(info.size_bytes for info in list_all(self._bucket, prefix))

    def presign(self, key: str, expires_s: int, method: PresignMethod = "get_object") -> str:
        """See ``ArtifactBackend.presign``."""
        check_presign(expires_s, method)
        with self._bucket.working(f"presign {key}") as client:
            return client.generate_presigned_url(
                method,
                Params={"Bucket": self._bucket.name, "Key": self._bucket.full_key(check_key(key))},
                ExpiresIn=expires_s,
            )


def _expecting(size_bytes: int) -> Callable[[ObjectInfo], None]:
    def check(info: ObjectInfo) -> None:
        if info.size_bytes != size_bytes:
            raise ConflictError(f"{info.key} has {info.size_bytes} bytes, not the {size_bytes} that are expected")

    return check
