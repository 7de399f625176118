"""Files that only their owner can read, whole or not there at all."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

# A new file, never one that somebody has put there, nor where a link of theirs leads.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o600

Owner = tuple[int, int]
"""The numbers of a user and of a group."""


def put_private_file(path: Path, text: str, *, owner: Owner | None = None, dir_fd: int | None = None) -> None:
    """Write a file that lasts, in place of the one that may be there: readers see the old text or the new one.

    Args:
        path: the file; with ``dir_fd`` its name alone.
        text: all that it holds.
        owner: whose it becomes; default this user's.
        dir_fd: its directory, opened; whatever becomes of the path meanwhile, it goes there.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    with _folder(path, dir_fd) as folder_fd, _staged(folder_fd, path.name, text, owner) as staged:
        os.replace(staged, path.name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)


def create_private_file(path: Path, text: str) -> bool:
    """Write a file that lasts, unless it is there: of several who create it at once the first wins.

    Args:
        path: the file.
        text: all that it holds.

    Returns:
        Whether the file is ours; it lasts in either case.

    Raises:
        OSError: it cannot be written, or the file system has no hard links; nothing is left.
    """
    with _folder(path) as folder_fd, _staged(folder_fd, path.name, text) as staged:
        try:
            os.link(staged, path.name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        except FileExistsError:
            return False
    return True


@contextlib.contextmanager
def lend_private_file(path: Path, text: str, *, owner: Owner | None = None) -> Iterator[Path]:
    """Write a file for as long as the block lasts, in place of one that a killed process may have left.

    Args:
        path: the file; it need not survive a crash.
        text: all that it holds.
        owner: whose it becomes; default this user's.

    Yields:
        ``path``.

    Raises:
        OSError: it cannot be written; nothing is left.
    """
    path.unlink(missing_ok=True)
    file_fd = os.open(path, _NEW, _MODE)
    try:
        _fill(file_fd, text, owner)
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _folder(path: Path, dir_fd: int | None = None) -> Iterator[int]:
    """Lend the directory of a file, opened; the names that the block makes in it last."""
    folder_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if dir_fd is None else dir_fd
    try:
        yield folder_fd
        _sync_names(folder_fd)
    finally:
        if dir_fd is None:
            os.close(folder_fd)


@contextlib.contextmanager
def _staged(folder_fd: int, name: str, text: str, owner: Owner | None = None) -> Iterator[str]:
    """Write the whole file under a name of its own, which is gone after the block."""
    staged = f".{name}.{secrets.token_hex(8)}"
    file_fd = os.open(staged, _NEW, _MODE, dir_fd=folder_fd)
    try:
        _fill(file_fd, text, owner)
        yield staged
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged, dir_fd=folder_fd)


def _fill(file_fd: int, text: str, owner: Owner | None) -> None:
    """Write a file to the disk, closed to others before anything is in it; closes ``file_fd``."""
    with os.fdopen(file_fd, "wb") as file:
        os.fchmod(file_fd, _MODE)  # whatever the umask is
        if owner is not None:
            os.fchown(file_fd, *owner)
        file.write(text.encode("utf-8", "surrogateescape"))  # as names of files are
        file.flush()
        os.fsync(file_fd)


def _sync_names(folder_fd: int) -> None:
    try:
        os.fsync(folder_fd)
    except OSError as error:
        # Some shares of virtual machines know no such call for a directory; there nothing better can be had.
        if error.errno != errno.EINVAL:
            raise
