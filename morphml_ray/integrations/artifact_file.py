"""A file of the ``morphml://`` file system, open for reading or for writing."""

import io
import tempfile
from types import TracebackType
from typing import IO, Any

from fsspec.spec import AbstractBufferedFile  # type: ignore[import-untyped]  # fsspec carries no type information

READ_BLOCK_BYTES = 4 * 1024 * 1024
SPILL_BYTES = 32 * 1024 * 1024
"""What is written stays in memory up to here; more goes to a temporary file."""


class ArtifactFile(AbstractBufferedFile):  # type: ignore[misc]  # the same
    """An object as a file: read in ranges, written in whole when it is closed.

    Args:
        fs: a ``MorphmlFileSystem``.
        path: its key.
        mode: "rb", "wb" or "xb".
        block_size: how much to read ahead, or to hold in memory while writing, bytes.
        options: what fsspec itself takes.

    Raises:
        io.UnsupportedOperation: of the mode: objects are never changed in place.
    """

    def __init__(self, fs: Any, path: str, mode: str, block_size: int | None = None, **options: Any) -> None:
        self._spilled: IO[bytes] | None = None
        if mode not in ("rb", "wb", "xb"):
            self.closed = True
            raise io.UnsupportedOperation(f"{path}: an artifact is written in whole: mode {mode!r} cannot work")
        default = READ_BLOCK_BYTES if mode == "rb" else SPILL_BYTES
        super().__init__(fs, path, mode, block_size or default, **options)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self.writable():
            self.discard()
            self.closed = True
        self.close()

    def commit(self) -> None:
        """Make the object appear; closing does so, except in a transaction of fsspec."""
        if self._spilled is None:
            return
        with self._spilled as file:
            self._spilled = None
            file.flush()
            self.fs.store_file(file.name, self.path, is_new=self.mode == "xb", progress=_show_nothing)

    def discard(self) -> None:
        """Forget what was written: no object appears, and one that was there stays."""
        if self._spilled is not None:
            self._spilled.close()
            self._spilled = None

    def _upload_chunk(self, final: bool = False) -> bool:
        if final and self.autocommit and self._spilled is None:
            self.fs.store_bytes(self.path, self.buffer.getvalue(), is_new=self.mode == "xb")
            return True
        if self._spilled is None:
            self._spilled = tempfile.NamedTemporaryFile(prefix="morphml-")  # noqa: SIM115 - closed by commit or discard
        self._spilled.write(self.buffer.getbuffer())
        if final and self.autocommit:
            self.commit()
        return True


def _show_nothing(_: int) -> None:
    """Take the place of a progress bar, which would name the temporary file."""
