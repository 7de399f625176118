"""Files of this machine: read in blocks, locked while they are written, seen by others when they are complete."""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from morphml_ray.errors import ConflictError, ValidationError

_BLOCK_BYTES = 1024 * 1024
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
# How many writers of one target that were killed together leave nothing behind.
_CLEANED = 4


@contextlib.contextmanager
def opened_source(path: str | os.PathLike[str]) -> Iterator[tuple[int, int]]:
    """Open a file to upload it.

    Yields:
        Its descriptor and its size in bytes.

    Raises:
        OSError: it cannot be read.
        ValidationError: it is a directory or a device.
    """
    # O_NONBLOCK: opening a pipe would wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ValidationError(f"{os.fspath(path)} is no regular file")
        yield fd, status.st_size
    finally:
        os.close(fd)


@contextlib.contextmanager
def replaced_target(path: str | os.PathLike[str], *, sync: bool) -> Iterator[int]:
    """Write a file that appears when the block ends without an error; until then, what was there stays.

    Of several writers at once each has a file of its own, and the last one stays. What a killed one leaves is removed
    by the next one of that target.

    Args:
        path: of the file.
        sync: bring it to the disk before it appears.

    Yields:
        The descriptor of a temporary file beside it.

    Raises:
        OSError: it cannot be written.
        ValidationError: a directory or a device is there.
        ConflictError: another host writes it too, on a file system whose locks do not reach so far.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        raise ValidationError(f"{target} is no regular file")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, lock_fd = _create_beside(target)
    try:
        fd = os.dup(lock_fd)
        try:
            yield fd
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)  # here a network file system tells what it could not write
        _move(lock_fd, temporary, target)
    except BaseException:
        if _is_at(lock_fd, temporary):
            temporary.unlink()
        raise
    finally:
        os.close(lock_fd)
    if sync:
        _sync_directory(target.parent)


def _create_beside(target: Path) -> tuple[Path, int]:
    """Make a locked temporary file; its name follows from the target's, so that the next writer finds it."""
    stem = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    for number in range(_CLEANED):
        remove_abandoned(target.parent / f".morphml-{stem}-{number}.part")
    numbers = itertools.count()
    while True:
        temporary = target.parent / f".morphml-{stem}-{next(numbers)}.part"
        with contextlib.suppress(FileExistsError):
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            if lock_new_file(fd):
                return temporary, fd
            os.close(fd)


def _move(fd: int, temporary: Path, target: Path) -> None:
    if not _is_at(fd, temporary):
        raise ConflictError(f"{target} is written by another host too, and locks do not reach it: write it once")
    temporary.replace(target)


def lock_new_file(fd: int) -> bool:
    """Lock a file that was just made, for as long as it is open; False where ``remove_abandoned`` was faster.

    Where the file system knows no locks, nothing is taken for abandoned either.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return os.fstat(fd).st_nlink > 0


def remove_abandoned(path: str | Path, dir_fd: int | None = None) -> bool:
    """Remove a file whose writer is gone, as its lock tells; False where there is none, or it stays."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
        # A writer that has just finished gave it another name.
        is_abandoned = _is_at(fd, path, dir_fd)
        if is_abandoned:
            os.unlink(path, dir_fd=dir_fd)
    except OSError:
        return False
    else:
        return is_abandoned
    finally:
        os.close(fd)


def _is_at(fd: int, path: str | Path, dir_fd: int | None = None) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, dir_fd=dir_fd, follow_symlinks=False))
    except FileNotFoundError:
        return False


def read_blocks(fd: int, size_bytes: int, offset: int = 0) -> Iterator[memoryview]:
    """Read a part of a file.

    Yields:
        Blocks, in order, each valid until the next one is asked for; fewer bytes where the file ends early.
    """
    block = memoryview(bytearray(min(_BLOCK_BYTES, max(1, size_bytes))))
    position = 0
    while position < size_bytes:
        count = os.preadv(fd, [block[: size_bytes - position]], offset + position)
        if not count:
            return
        yield block[:count]
        position += count


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``; one system call may write less."""
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], offset + written)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
