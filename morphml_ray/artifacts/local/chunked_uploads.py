"""Uploads in chunks to a directory: one staged file each."""

import threading

from typing_extensions import Buffer

from morphml_ray.artifacts.checks import WriteRequest, view_bytes
from morphml_ray.artifacts.contract import ObjectInfo, UploadId
from morphml_ray.artifacts.crc32 import crc32
from morphml_ray.artifacts.file_io import write_all
from morphml_ray.artifacts.local.directory import Directory
from morphml_ray.artifacts.local.staging import StagedFile
from morphml_ray.artifacts.upload_ledger import ChunkLedger, UploadLedger
from morphml_ray.errors import AlreadyExistsError, CorruptDataError, NotFoundError


class _Upload:
    """One upload; its lock keeps its descriptor from being closed while it is written to."""

    def __init__(self, staged: StagedFile, request: WriteRequest, chunks: ChunkLedger) -> None:
        self.staged = staged
        self.request = request
        self.chunks = chunks
        self.lock = threading.Lock()
        self.is_gone = False


class LocalChunkedUploads:
    """The open uploads of one backend; see ``ArtifactBackend.begin_upload``.

    Args:
        directory: where the objects go.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._ledger: UploadLedger[_Upload] = UploadLedger()

    def begin(self, request: WriteRequest, chunks: ChunkLedger) -> UploadId:
        """Open an upload."""
        with self._directory.working(f"begin_upload {request.key}") as (_, staging):
            return self._ledger.add(_Upload(staging.create(), request, chunks))

    def add(self, upload: UploadId, index: int, data: Buffer) -> None:
        """Write a chunk where it belongs."""
        found = self._ledger.get(upload)
        view = view_bytes(data)
        found.chunks.check_chunk(index, len(view))
        with self._directory.working(f"upload_chunk {found.request.key}"), found.lock:
            if found.is_gone:
                raise NotFoundError(f"the upload {upload} was aborted")
            write_all(found.staged.fd, view, index * found.chunks.chunk_bytes)
            found.chunks.add(index, crc32(view), len(view))

    def finish(self, upload: UploadId) -> ObjectInfo:
        """Make the object appear."""
        return self._ledger.finish(upload, lambda found: self._complete(upload, found))

    def _complete(self, upload: UploadId, found: _Upload) -> ObjectInfo:
        try:
            with found.lock:
                crc, size_bytes = found.chunks.check_whole()
                info = self._directory.commit(found.request, found.staged, crc, size_bytes)
        except (CorruptDataError, AlreadyExistsError):
            self.abort(upload)
            raise
        self._remove(found)
        return info

    def abort(self, upload: UploadId) -> None:
        """Forget an upload."""
        found = self._ledger.pop(upload)
        if found is not None:
            self._remove(found)

    def abort_unused(self, unused_s: float) -> int:
        """Forget the uploads that nobody goes on with; gives how many there were."""
        unused = self._ledger.pop_unused(unused_s)
        for found in unused:
            self._remove(found)
        return len(unused)

    def _remove(self, found: _Upload) -> None:
        with found.lock:
            if not found.is_gone:
                found.is_gone = True
                self._directory.discard(found.staged, f"abort_upload {found.request.key}")
