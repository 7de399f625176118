"""A file of the ``morphml://`` file system that is compressed while it is written."""

import io
from typing import IO

from fsspec.compression import compr  # type: ignore[import-untyped]  # fsspec carries no type information
from typing_extensions import Buffer

from morphml_ray.integrations.fsspec.open_file import ArtifactFile


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
