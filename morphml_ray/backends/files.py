"""The files of callers: what uploads read and downloads write."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from morphml_ray.errors import ValidationError

_BLOCK_BYTES = 1024 * 1024


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

    Args:
        path: of the file.
        sync: bring it to the disk before it appears.

    Yields:
        The descriptor of a temporary file beside it.

    Raises:
        OSError: it cannot be written.
        ValidationError: a directory or a device is there.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        raise ValidationError(f"{target} is no regular file")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".morphml-{secrets.token_hex(8)}.part"
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            yield fd
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        _sync_directory(target.parent)


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
