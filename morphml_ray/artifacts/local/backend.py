"""The artifact contract on a directory."""

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NoReturn

from typing_extensions import Buffer

from morphml_ray.artifacts.checks import (
    CHUNK_BYTES,
    NO_METADATA,
    PresignMethod,
    WriteRequest,
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
from morphml_ray.artifacts.crc32 import crc32
from morphml_ray.artifacts.file_io import opened_source, read_blocks, replaced_target, write_all
from morphml_ray.artifacts.local.chunked_uploads import LocalChunkedUploads
from morphml_ray.artifacts.local.directory import Directory
from morphml_ray.artifacts.local.trailer import StoredFile
from morphml_ray.artifacts.upload_ledger import ChunkLedger
from morphml_ray.config import BackendUrl
from morphml_ray.errors import ConfigurationError, ConflictError, NotFoundError


class LocalArtifactBackend:
    """``ArtifactBackend`` in a directory of this machine, which several processes may use at once.

    Args:
        url: ``file:///path``, or a reference to such a URL.
    """

    def __init__(self, url: BackendUrl) -> None:
        self._directory = Directory(url)
        self._uploads = LocalChunkedUploads(self._directory)

    @property
    def answered_at(self) -> float:
        """See ``ArtifactBackend.answered_at``."""
        return self._directory.answered_at

    def open(self) -> None:
        """See ``ArtifactBackend.open``."""
        self._directory.open()

    def close(self) -> None:
        """See ``ArtifactBackend.close``."""
        self._uploads.abort_unused(0)
        self._directory.close()

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
        with self._directory.working(f"put {key}") as (_, staging), staging.new_file() as staged:
            staged.append(view_bytes(data))
            return self._directory.commit(request, staged, staged.crc, staged.size_bytes)

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
            return self._store(request, read_blocks(fd, size_bytes), size_bytes, progress)

    def _store(
        self,
        request: WriteRequest,
        blocks: Iterator[memoryview],
        size_bytes: int,
        progress: Advance | None,
        crc: int | None = None,
    ) -> ObjectInfo:
        operation = f"put {request.key}"
        with self._directory.writing(operation) as staged:
            for block in blocks:
                with self._directory.working(operation):
                    staged.append(block)
                _tell(progress, len(block))
            if staged.size_bytes != size_bytes:
                raise ConflictError(f"the file that became {request.key} was cut off while it was read")
            if crc is not None and staged.crc != crc:
                raise self._directory.damaged(request.key)
            return self._directory.commit(request, staged, staged.crc, size_bytes)

    def delete(self, key: str) -> bool:
        """See ``ArtifactBackend.delete``."""
        check_key(key)
        with self._directory.working(f"delete {key}") as (tree, _):
            try:
                tree.unlink(key)
            except FileNotFoundError:
                return False
            return True

    def delete_prefix(self, prefix: str) -> int:
        """See ``ArtifactBackend.delete_prefix``."""
        folder = check_folder(prefix)
        with self._directory.working(f"delete_prefix {prefix}") as (tree, _):
            below = sum(self.delete(listed.key) for listed in tree.walk(f"{folder}/", None))
        return below + (not prefix.endswith("/") and self.delete(folder))

    def copy(self, source: str, dest: str, *, write_id: str | None = None) -> ObjectInfo:
        """See ``ArtifactBackend.copy``."""
        check_key(dest)
        with self._directory.reading(check_key(source), "copy") as stored:
            if source == dest:
                return stored.info(source)
            trailer = stored.trailer
            request = check_write(dest, trailer.metadata, trailer.content_type, if_absent=False, write_id=write_id)
            return self._store(request, self._blocks(source, stored), stored.size_bytes, None, trailer.crc)

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
        """See ``ArtifactBackend.purge_uploads``; what crashed processes left needs no age, its lock tells."""
        with self._directory.working("purge_uploads") as (_, staging):
            return staging.clean_up() + self._uploads.abort_unused(older_than_s)

    # Reads

    def get(self, key: str, offset: int = 0, length: int | None = None, version: str | None = None) -> bytes:
        """See ``ArtifactBackend.get``."""
        check_range(offset, length)
        with self._directory.reading(check_key(key), "get") as stored, self._directory.working(f"get {key}"):
            if version not in (None, stored.version):
                raise ConflictError(f"{self._directory.place}: {key} was replaced while it was read")
            left = max(0, stored.size_bytes - offset)
            wanted = left if length is None else min(left, length)
            data = os.pread(stored.fd, wanted, offset)
            while len(data) < wanted:  # one system call gives 2 GB at most
                data += os.pread(stored.fd, wanted - len(data), offset + len(data)) or self._cut_off(key)
            if len(data) == stored.size_bytes and crc32(data) != stored.trailer.crc:
                raise self._directory.damaged(key)
            return data

    def get_into(self, key: str, buffer: Buffer, progress: Advance | None = None) -> ObjectInfo:
        """See ``ArtifactBackend.get_into``."""
        view = view_bytes(buffer)
        with self._directory.reading(check_key(key), "get_into") as stored:
            if len(view) != stored.size_bytes:
                raise ConflictError(f"{key} has {stored.size_bytes} bytes, the buffer has {len(view)}")
            position = 0
            for block in self._verified_blocks(key, stored):
                view[position : position + len(block)] = block
                position += len(block)
                _tell(progress, len(block))
            return stored.info(key)

    def get_parts(self, key: str, size_bytes: int, progress: Advance | None = None) -> list[Buffer]:
        """See ``ArtifactBackend.get_parts``."""
        buffer = bytearray(size_bytes)
        self.get_into(key, buffer, progress)
        return [buffer]

    def get_file(
        self, key: str, path: str | os.PathLike[str], progress: Advance | None = None, *, sync: bool = True
    ) -> ObjectInfo:
        """See ``ArtifactBackend.get_file``."""
        with self._directory.reading(check_key(key), "get_file") as stored, replaced_target(path, sync=sync) as target:
            position = 0
            for block in self._verified_blocks(key, stored):
                write_all(target, block, position)
                position += len(block)
                _tell(progress, len(block))
            return stored.info(key)

    def _verified_blocks(self, key: str, stored: StoredFile) -> Iterator[memoryview]:
        """Read an object block by block; the checksum is compared after the last one."""
        crc = 0
        for block in self._blocks(key, stored):
            crc = crc32(block, crc)
            yield block
        if crc != stored.trailer.crc:
            raise self._directory.damaged(key)

    def _blocks(self, key: str, stored: StoredFile) -> Iterator[memoryview]:
        blocks = read_blocks(stored.fd, stored.size_bytes)
        while True:
            with self._directory.working(f"get {key}"):
                block = next(blocks, None)
            if block is None:
                return
            yield block

    def _cut_off(self, key: str) -> NoReturn:
        raise self._directory.damaged(key)

    def head(self, key: str) -> ObjectInfo | None:
        """See ``ArtifactBackend.head``."""
        try:
            with self._directory.reading(check_key(key), "head") as stored:
                return stored.info(key)
        except NotFoundError:
            return None

    def exists(self, key: str) -> bool:
        """See ``ArtifactBackend.exists``."""
        return self.head(key) is not None

    def list(self, prefix: str = "", *, limit: int | None = None) -> Iterator[ObjectInfo]:
        """See ``ArtifactBackend.list``."""
        check_prefix(prefix)
        check_limit(limit)
        return islice(self._walk(prefix, None), limit)

    def list_folder(self, prefix: str = "") -> ObjectFolder:
        """See ``ArtifactBackend.list_folder``."""
        check_border(prefix)
        objects, folders = [], []
        with self._directory.working(f"list_folder {prefix}") as (tree, _):
            for found in tree.children(prefix.removesuffix("/")):
                if isinstance(found, str):
                    folders.append(found)
                else:
                    objects.append(self._directory.describe(found))
        return ObjectFolder(objects, folders)

    def list_page(self, prefix: str = "", *, token: str | None = None, limit: int = 1000) -> ObjectPage:
        """See ``ArtifactBackend.list_page``."""
        check_prefix(prefix)
        check_limit(limit)
        objects = [*islice(self._walk(prefix, token), limit + 1)]
        more = len(objects) > limit
        return ObjectPage(objects[:limit], objects[limit - 1].key if more else None)

    def _walk(self, prefix: str, after: str | None) -> Iterator[ObjectInfo]:
        with self._directory.working(f"list {prefix}") as (tree, _):
            found = tree.walk(prefix, after)
        while True:
            # Not around the yield: who stops asking would keep the directory from being closed.
            with self._directory.working(f"list {prefix}"):
                listed = next(found, None)
                info = None if listed is None else self._directory.describe(listed)
            if info is None:
                return
            yield info

    def total_size(self, prefix: str = "") -> int:
        """See ``ArtifactBackend.total_size``."""
        return sum(info.size_bytes for info in self.list(prefix))

    def presign(self, key: str, expires_s: int, method: PresignMethod = "get_object") -> str:
        """See ``ArtifactBackend.presign``."""
        check_key(key)
        check_presign(expires_s, method)
        raise ConfigurationError(
            f"{self._directory.place} is a directory: presigned URLs are not supported there, only with s3://"
        )


def _tell(progress: Advance | None, count: int) -> None:
    if progress is not None:
        progress(count)
