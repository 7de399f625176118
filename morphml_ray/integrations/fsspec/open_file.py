"""A file of the ``morphml://`` file system, open for reading, for writing, or for compressing into it."""

import atexit
import errno
import io
import logging
import sys
import tempfile
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any

from fsspec.compression import compr  # type: ignore[import-untyped]  # fsspec carries no type information
from fsspec.spec import AbstractBufferedFile  # type: ignore[import-untyped]  # the same
from typing_extensions import Buffer

from morphml_ray.artifacts.checks import MAX_BATCH_BYTES, view_bytes
from morphml_ray.artifacts.crc32 import checksum_text, crc32
from morphml_ray.integrations.fsspec.read_ahead import ReadAhead

READ_BLOCK_BYTES = 16 * 1024 * 1024
PIECE_BYTES = MAX_BATCH_BYTES
"""More is read in pieces, so that the actor never holds all of it."""
SPILL_BYTES = 32 * 1024 * 1024
"""What is written stays in memory up to here; more goes to a temporary file."""

_LOGGER = logging.getLogger(__name__)
# By their ids: fsspec compares files by asking for their checksums.
_WRITING: "weakref.WeakValueDictionary[int, ArtifactFile]" = weakref.WeakValueDictionary()


@atexit.register
def _tell_of_open_files() -> None:
    """Name the files that are still open for writing when Python ends: some of them are never collected as garbage."""
    for file in list(_WRITING.values()):
        file.tell_of_end()


class ArtifactFile(AbstractBufferedFile):  # type: ignore[misc]  # the same
    """An object as a file: read in ranges, written in whole when it is closed.

    All that is read belongs to the object that was there when the file was opened; once that is replaced or deleted,
    reading more raises an OSError (``ESTALE``).

    Nothing half-written becomes an object: what was written is dropped, and an object that was there stays, where the
    file is never closed, or is closed while an error is being handled that was not when it was opened. So are files
    closed by ``with`` and ``finally`` after an error, also by a wrapper: text, compression, ``fsspec.open``. Whoever
    opened a file before a ``try`` closes it after it, not in its ``except``. What is dropped without an error that the
    caller sees is logged.

    Args:
        fs: a ``MorphmlFileSystem``.
        path: its key.
        mode: "rb", "wb" or "xb".
        block_size: how much to read ahead at most, or to hold in memory while writing, bytes.
        options: what fsspec itself takes; for reading also ``version``, of the object that is meant.

    Raises:
        io.UnsupportedOperation: of the mode: objects are never changed in place.
    """

    def __init__(self, fs: Any, path: str, mode: str, block_size: int | None = None, **options: Any) -> None:
        self._spilled: IO[bytes] | None = None
        self._is_whole = False
        self._is_broken = False
        self._is_garbage = False
        self._is_told = False
        self._error_before = None if mode == "rb" else sys.exc_info()[1]
        if mode not in ("rb", "wb", "xb"):
            self.closed = True
            raise io.UnsupportedOperation(f"{path}: an artifact is written in whole: mode {mode!r} cannot work")
        default = READ_BLOCK_BYTES if mode == "rb" else SPILL_BYTES
        if mode == "rb":
            options.setdefault("cache_type", ReadAhead.name)
        super().__init__(fs, path, mode, block_size or default, **options)
        if mode == "rb" and isinstance(self.cache, ReadAhead):
            self.cache.ahead = self
        if mode != "rb":
            _WRITING[id(self)] = self

    # Writing

    def write(self, data: Buffer) -> int:
        """Take bytes; see ``close``."""
        if self.closed and self._is_garbage:
            return memoryview(data).nbytes  # the last words of a wrapper that is garbage too
        written: int = super().write(view_bytes(data))
        return written

    def close(self) -> None:
        """Make the object appear, except in a transaction of fsspec, or drop what was written; see the class.

        Raises:
            FileExistsError: mode "xb", and another write was first.
            OSError: a write failed before; nothing is stored.
        """
        if not self.closed and self.mode != "rb":
            error = sys.exc_info()[1]
            if self._is_garbage:
                self._drop("it was never closed")
            elif error is not None and error is not self._error_before:
                self._drop(f"it was closed while {type(error).__name__} was being handled")
            elif self._is_broken:
                self.discard()
                raise OSError(errno.EIO, "a write failed before: nothing is stored", self.path)
        self._error_before = None  # it may hold this file
        super().close()

    def commit(self) -> None:
        """Make the object appear at the end of a transaction, where the file was closed in it."""
        if self._is_whole:
            self._store()
        elif not self.closed:
            self._drop("its transaction ended before it was closed")

    def discard(self) -> None:
        """Forget what was written, and close: no object appears, and one that was there stays."""
        self.closed = True
        self.buffer = io.BytesIO()
        if self._spilled is not None:
            self._spilled.close()
            self._spilled = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self.writable():
            self.discard()
        self.close()

    def __del__(self) -> None:
        self._is_garbage = True
        super().__del__()  # closes it

    def _dealloc_warn(self, wrapper: object) -> None:
        """Hear from Python's own wrappers, before they close this file, that they were never closed."""
        del wrapper
        self._is_garbage = True

    def tell_of_end(self) -> None:
        """Warn that Python ends while this file is open; whoever closes it later is in time all the same."""
        if not self.closed:
            self._is_told = True
            _LOGGER.warning(
                "%s: what was written is dropped: Python ends, and it is not closed (unless that is still to come)",
                self.path,
            )

    def _drop(self, why: str) -> None:
        self.discard()
        if not self._is_told:
            _LOGGER.warning("%s: what was written is dropped: %s", self.path, why)

    def _upload_chunk(self, final: bool = False) -> bool:
        if self._is_broken:
            return True
        try:
            if not (final and self.autocommit and self._spilled is None):
                self._spill()
            self._is_whole = final
            if final and self.autocommit:
                self._store()
        except BaseException:
            self._is_broken = True  # nobody knows how much of the buffer the temporary file has
            raise
        return True

    def _spill(self) -> None:
        if self._spilled is None:
            self._spilled = tempfile.NamedTemporaryFile(prefix="morphml-")  # noqa: SIM115 - closed when stored, or dropped
        self._spilled.write(self.buffer.getbuffer())

    def _store(self) -> None:
        is_new = self.mode == "xb"
        if self._spilled is None:
            self.fs.store_bytes(self.path, self.buffer.getvalue(), is_new=is_new)
            return
        with self._spilled as file:
            self._spilled = None
            file.flush()
            self.fs.store_file(file.name, self.path, is_new=is_new, progress=_show_nothing)

    # Reading

    def begin(self, start: int, end: int) -> Any:
        """Ask for a range; see ``Ahead``."""
        return self.fs.begin_fetch(self.path, start, end - start, self.kwargs.get("version"))

    def finish(self, asked: Any, start: int, end: int) -> bytes:
        """Wait for a range; see ``Ahead``."""
        data: bytes = self.fs.finish_fetch(asked, self.path, start, end - start, self.kwargs.get("version"))
        return data

    def _fetch_range(self, start: int, end: int) -> bytes:
        version = self.kwargs.get("version")
        pieces = [
            self.fs.fetch(self.path, offset, min(PIECE_BYTES, end - offset), version)
            for offset in range(start, end, PIECE_BYTES)
        ]
        if len(pieces) > 1 and sum(map(len, pieces)) == self.size:
            self._compare(pieces)
        return b"".join(pieces)

    def _compare(self, pieces: Sequence[bytes]) -> None:
        """Compare the checksum of the whole, which the actor does where it sees the whole."""
        crc = 0
        for piece in pieces:
            crc = crc32(piece, crc)
        if self.details["checksum"] not in (None, checksum_text(crc)):
            raise OSError(errno.EIO, "it is damaged: its checksum differs", self.path)


class PackedFile(io.BufferedIOBase):
    """Compresses into a file and closes it too, which the compressing files of Python leave undone.

    Args:
        file: open for writing.
        compression: as fsspec calls it, "gzip" for one.
    """

    def __init__(self, file: ArtifactFile, compression: str) -> None:
        self._file = file
        self._packer: IO[bytes] = compr[compression](file, mode="w")

    def writable(self) -> bool:
        """Tell that it is for writing only."""
        return True

    def write(self, data: Buffer) -> int:
        """Take bytes."""
        return self._packer.write(data)

    def close(self) -> None:
        """Compress the rest, and close the file; see ``ArtifactFile.close``."""
        if self.closed:
            return
        try:
            self._packer.close()
        finally:
            super().close()
            self._file.close()

    def __del__(self) -> None:
        """Close nothing, unlike files of Python: what was never closed is dropped."""
        self._dealloc_warn(self)

    def _dealloc_warn(self, wrapper: object) -> None:
        self._file._dealloc_warn(wrapper)  # noqa: SLF001 - Python's own name for it


def _show_nothing(_: int) -> None:
    """Take the place of a progress bar, which would name the temporary file."""
