"""Files on their way: written here, then given the name of an object."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from morphml_ray.artifacts.crc32 import crc32
from morphml_ray.artifacts.file_io import lock_new_file, remove_abandoned, write_all

# No key has such a name: see names.py.
FOLDER = "%staging"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class StagedFile:
    """One file on its way, locked for as long as its writer lives.

    Args:
        fd: its descriptor.
        name: its name in the staging directory.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        self.size_bytes = 0
        self.crc = 0

    def append(self, data: memoryview) -> None:
        """Add to the end."""
        write_all(self.fd, data, self.size_bytes)
        self.crc = crc32(data, self.crc)
        self.size_bytes += len(data)

    def seal(self, trailer: bytes, size_bytes: int) -> None:
        """Add what follows the data, and bring all to the disk."""
        write_all(self.fd, memoryview(trailer), size_bytes)
        os.ftruncate(self.fd, size_bytes + len(trailer))
        os.fsync(self.fd)


class Staging:
    """The directory of files on their way.

    Args:
        root: the directory of the backend.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER
        self.fd = self._open()

    def _open(self) -> int:
        self._folder.mkdir(exist_ok=True)
        return os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def close(self) -> None:
        """Let the directory go."""
        os.close(self.fd)

    @contextlib.contextmanager
    def new_file(self) -> Iterator[StagedFile]:
        """Make a file that is gone when the block ends, unless it was given another name."""
        staged = self.create()
        try:
            yield staged
        finally:
            self.remove(staged)

    def create(self) -> StagedFile:
        """Make a file; whoever asked for it calls ``remove``."""
        while True:
            name = secrets.token_hex(16)
            try:
                fd = os.open(name, _FLAGS, 0o666, dir_fd=self.fd)
            except FileNotFoundError:  # somebody emptied the root
                self._enter_anew()
                fd = os.open(name, _FLAGS, 0o666, dir_fd=self.fd)
            if lock_new_file(fd):
                return StagedFile(fd, name)
            os.close(fd)  # a clean-up was faster than the lock

    def _enter_anew(self) -> None:
        """Make the directory once more, under the descriptor that others use meanwhile."""
        fd = self._open()
        os.dup2(fd, self.fd, inheritable=False)
        os.close(fd)

    def remove(self, staged: StagedFile) -> None:
        """Close a file and remove its name here."""
        os.close(staged.fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged.name, dir_fd=self.fd)

    def clean_up(self) -> int:
        """Remove what processes left that are gone; gives how many files there were."""
        names = os.listdir(self.fd)  # noqa: PTH208 - a descriptor, which Path has no methods for
        return sum(remove_abandoned(name, self.fd) for name in names)

    def is_folding_case(self) -> bool:
        """Tell whether the file system takes "A" and "a" for one name."""
        with self.new_file() as staged:
            # Hexadecimal digits and a letter: no name is its own upper case.
            name = f"{staged.name}-probe"
            os.rename(staged.name, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            staged.name = name
            try:
                os.stat(name.upper(), dir_fd=self.fd)
            except FileNotFoundError:
                return False
            return True
