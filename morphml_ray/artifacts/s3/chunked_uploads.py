"""Uploads in chunks to a bucket: one multipart upload each."""

import threading

from typing_extensions import Buffer

from morphml_ray.artifacts.checks import WriteRequest, view_bytes
from morphml_ray.artifacts.contract import ObjectInfo, UploadId
from morphml_ray.artifacts.crc32 import crc32
from morphml_ray.artifacts.s3.sending import Sender, SentPart
from morphml_ray.artifacts.upload_ledger import ChunkLedger, UploadLedger
from morphml_ray.errors import AlreadyExistsError, CorruptDataError, NotFoundError


class _Upload:
    """One upload; small ones arrive in one chunk, S3 wants a part all the same."""

    def __init__(self, server_id: str, request: WriteRequest, chunks: ChunkLedger) -> None:
        self.server_id = server_id
        self.request = request
        self.chunks = chunks
        self.sent: dict[int, SentPart] = {}
        self.lock = threading.Lock()


class S3ChunkedUploads:
    """The open uploads of one backend; see ``ArtifactBackend.begin_upload``.

    Args:
        sender: writes the parts.
    """

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._ledger: UploadLedger[_Upload] = UploadLedger()

    def begin(self, request: WriteRequest, chunks: ChunkLedger) -> UploadId:
        """Open an upload."""
        return self._ledger.add(_Upload(self._sender.begin(request, chunks.stated_crc), request, chunks))

    def add(self, upload: UploadId, index: int, data: Buffer) -> None:
        """Send a chunk."""
        found = self._ledger.get(upload)
        view = view_bytes(data)
        found.chunks.check_chunk(index, len(view))
        # boto3 takes bytes; a copy of one chunk is cheaper than what it makes of a file-like object.
        chunk = bytes(view)
        sent = self._sender.send_part(found.request.key, found.server_id, index, chunk, crc32(chunk))
        with found.lock:
            found.sent[index] = sent
            found.chunks.add(index, sent.crc, sent.size_bytes)

    def finish(self, upload: UploadId) -> ObjectInfo:
        """Make the object appear."""
        return self._ledger.finish(upload, lambda found: self._complete(upload, found))

    def _complete(self, upload: UploadId, found: _Upload) -> ObjectInfo:
        try:
            found.chunks.check_whole()
            if not found.sent:
                self.add(upload, 0, b"")
            parts = [found.sent[index] for index in sorted(found.sent)]
            return self._sender.complete(found.request, found.server_id, parts, found.chunks.stated_crc)
        except (CorruptDataError, AlreadyExistsError, NotFoundError):
            self.abort(upload)
            raise

    def abort(self, upload: UploadId) -> None:
        """Forget an upload."""
        found = self._ledger.pop(upload)
        if found is not None:
            self._sender.abort(found.request.key, found.server_id)

    def leave_unused(self, unused_s: float) -> None:
        """Forget the uploads that nobody goes on with; the sender ends them with what else was left."""
        for found in self._ledger.pop_unused(unused_s):
            self._sender.leave(found.request.key, found.server_id)
