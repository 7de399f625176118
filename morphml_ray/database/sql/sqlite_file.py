"""The file that one process owns: its lock, and whether it still is the one that was opened."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from morphml_ray.config import check_directory, check_local_filesystem
from morphml_ray.errors import BackendUnavailable, ConfigurationError, ConflictError, CorruptDataError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_Identity = tuple[int, int]


class SqliteFile:
    """A database file and the lock file beside it.

    Args:
        path: of the database, without links: whatever links lead to it, its lock is one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_path = Path(f"{path}.lock")
        self._lock_fd: int | None = None
        self._seen: dict[Path, _Identity] = {}

    def acquire(self) -> None:
        """Lock it for as long as this process lives.

        Raises:
            ConflictError: another process has it.
            ConfigurationError: the place is no good for SQLite, or cannot be written.
        """
        check_local_filesystem(self._path)
        self._check_directory()
        fd = self._open_lock()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(fd, 64, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise ConflictError(
                f"SQLite {self._path} is in use by another process (pid {owner}): one actor owns the file. Connect to "
                "that one (same cluster, namespace and name), shut it down, or choose another root or file."
            ) from error
        self._lock_fd = fd
        with contextlib.suppress(OSError):  # who owns it is a help for the next one only; the disk may be full
            os.truncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Unlock."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None
        self._seen = {}

    def remember(self) -> None:
        """Take the files that are there now for the right ones."""
        self._seen = {path: _identity(path) for path in (self._path, self._lock_path)}

    def check(self) -> None:
        """See that the files are those that were opened; what is written to others would be lost.

        Raises:
            CorruptDataError: one was moved or deleted.
            ConflictError: another one stands in its place.
        """
        for path, seen in self._seen.items():
            try:
                found = _identity(path)
            except FileNotFoundError as error:
                raise CorruptDataError(
                    f"{path} was moved or deleted while it was in use; nothing is read or stored. Put this very file "
                    "back (mv, not cp), or shut this storage down and connect again: that starts an empty one."
                ) from error
            except OSError as error:
                raise BackendUnavailable(f"{path} cannot be seen: {error.strerror}") from error
            if found != seen:
                raise ConflictError(
                    f"{path} was replaced by another file while it was in use; nothing is read or stored. To go on "
                    "with the new file, shut this storage down and connect again; else put the old one back (mv)."
                )

    def _check_directory(self) -> None:
        try:
            check_directory(self._path.parent)
        except ConfigurationError as error:
            # What is stored can be read from a full disk.
            if getattr(error.__cause__, "errno", None) not in _FULL or not self._path.exists():
                raise

    def _open_lock(self) -> int:
        try:
            return os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigurationError(
                f"The lock file {self._lock_path} cannot be written: {error.strerror}. Remove it, or choose another "
                "file."
            ) from error


def _identity(path: Path) -> _Identity:
    found = path.stat()
    return found.st_dev, found.st_ino
