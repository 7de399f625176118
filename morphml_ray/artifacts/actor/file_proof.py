"""Whether an actor sees the files of its caller: a worker in a container may have a file system of its own."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileProof:
    """A file as its caller sees it; another file system hardly has such a one in the same place.

    Attributes:
        path: absolute.
        inode: its number.
        size_bytes: of the file.
        mtime_ns: when it was changed, nanoseconds since the epoch.
        is_written: the caller wants the directory of the file written, not the file read.
    """

    path: str
    inode: int
    size_bytes: int
    mtime_ns: int
    is_written: bool

    @classmethod
    def of(cls, path: Path, *, is_written: bool = False) -> "FileProof":
        """Look at a file.

        Raises:
            OSError: there is none, or it cannot be looked at.
        """
        status = path.stat()
        return cls(str(path), status.st_ino, status.st_size, status.st_mtime_ns, is_written)

    def holds_here(self) -> bool:
        """Tell whether this process sees the same file, and may use it."""
        path = Path(self.path)
        try:
            if self != FileProof.of(path, is_written=self.is_written):
                return False
        except OSError:
            return False
        return os.access(path.parent, os.W_OK) if self.is_written else os.access(path, os.R_OK)
