"""The directories of objects, entered one by one without following a symbolic link."""

import contextlib
import errno
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from morphml_ray.artifacts.local.names import decode_segment, encode_folder, encode_key, read_name

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a pipe that somebody put there must not stop us.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TRIES = 100


class Segment(NamedTuple):
    """A segment of keys in a listing.

    Attributes:
        order: what the keys that belong to it begin with, in bytes.
        text: the segment itself.
        is_folder: whether it is the middle of keys, or the end of one.
        names: of the directories and the file that stand for it.
    """

    order: bytes
    text: str
    is_folder: bool
    names: tuple[str, ...]


class Listed(NamedTuple):
    """An object of a listing.

    Attributes:
        key: of the object.
        fd: its file, opened, until the next one is asked for; None where it cannot be.
        status: of the file.
    """

    key: str
    fd: int | None
    status: os.stat_result


class Tree:
    """Directories below a root; each path goes from the root's descriptor, so no key leads out of it.

    Args:
        root: the directory; it exists.
        is_folding: whether its file system takes "A" and "a" for one name.
    """

    def __init__(self, root: Path, *, is_folding: bool) -> None:
        self._root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._is_folding = is_folding

    def close(self) -> None:
        """Let the root go."""
        os.close(self._root_fd)

    def identity(self) -> tuple[int, int]:
        """Give what tells the root from other directories: the numbers of its device and of its inode."""
        status = os.fstat(self._root_fd)
        return status.st_dev, status.st_ino

    def open_file(self, key: str) -> int:
        """Open an object's file.

        Raises:
            FileNotFoundError: there is none.
        """
        folders, name = encode_key(key, is_folding=self._is_folding)
        with self._entered(folders) as fd:
            return open_regular(fd, name)

    def unlink(self, key: str) -> None:
        """Remove an object's file, and the directories that are empty then.

        Raises:
            FileNotFoundError: there is none.
        """
        folders, name = encode_key(key, is_folding=self._is_folding)
        with self._entered(folders) as fd:
            os.unlink(name, dir_fd=fd)
            os.fsync(fd)
        self._prune(folders)

    def place(self, source_fd: int, source: str, key: str, *, if_absent: bool) -> None:
        """Give a finished file the name of an object, durably; ``if_absent`` leaves its old name too.

        Args:
            source_fd: the directory where the file is.
            source: its name there.
            key: of the object.
            if_absent: fail where there is an object.

        Raises:
            FileExistsError: ``if_absent``, and there is one.
        """
        folders, name = encode_key(key, is_folding=self._is_folding)
        for turn in range(_TRIES):
            try:
                with self._entered(folders, create=True) as fd:
                    if if_absent:
                        os.link(source, name, src_dir_fd=source_fd, dst_dir_fd=fd, follow_symlinks=False)
                    else:
                        os.rename(source, name, src_dir_fd=source_fd, dst_dir_fd=fd)
                    os.fsync(fd)
            except FileNotFoundError:
                # Somebody deleted the last object of a directory while it was being entered.
                if turn == _TRIES - 1:
                    raise
            else:
                return

    def walk(self, prefix: str, after: str | None) -> Iterator[Listed]:
        """Give the objects whose keys begin with ``prefix``, ascending by the bytes of their keys.

        Args:
            prefix: plain text.
            after: a key; those up to it are left out.
        """
        folder, _, start = prefix.rpartition("/")
        after_bytes = after.encode() if after is not None else b""
        names = encode_folder(folder, is_folding=self._is_folding)
        with contextlib.suppress(FileNotFoundError), self._entered(names) as fd:
            yield from self._walk(fd, f"{folder}/" if folder else "", start, after_bytes)

    def children(self, folder: str) -> Iterator[Listed | str]:
        """Give the objects and folders directly in a folder, "" for the root, ascending by the bytes of their names."""
        names = encode_folder(folder, is_folding=self._is_folding)
        before = f"{folder}/" if folder else ""
        with contextlib.suppress(FileNotFoundError), self._entered(names) as fd:
            for segment in sorted(self._segments(fd, (), "")):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    if not segment.is_folder:
                        with _listed(before + segment.text, fd, segment.names) as listed:
                            yield listed
                    elif self._has_objects(fd, segment):
                        yield before + segment.text

    def _has_objects(self, fd: int, segment: Segment) -> bool:
        with _entered(fd, segment.names) as inner, contextlib.closing(self._walk(inner, "", "", b"")) as found:
            return next(found, None) is not None

    def _walk(self, fd: int, before: str, start: str, after: bytes) -> Generator[Listed, None, None]:
        for segment in sorted(self._segments(fd, (), "")):
            order = before.encode() + segment.order
            if not segment.text.startswith(start) or (
                order <= after and not (segment.is_folder and after.startswith(order))
            ):
                continue
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                if segment.is_folder:
                    with _entered(fd, segment.names) as inner:
                        yield from self._walk(inner, f"{before}{segment.text}/", "", after)
                else:
                    with _listed(before + segment.text, fd, segment.names) as listed:
                        yield listed

    def _segments(self, fd: int, names: tuple[str, ...], text: str) -> Iterator[Segment]:
        """Read a directory, and those in which its long segments go on."""
        with os.scandir(fd) as found:
            listed = [
                (one.name, one.is_dir(follow_symlinks=False))
                for one in found
                if one.is_dir(follow_symlinks=False) or one.is_file(follow_symlinks=False)
            ]
        for found_name, is_directory in listed:
            name = read_name(found_name, is_directory=is_directory)
            if name is not None and name.kind == "part":
                with contextlib.suppress(FileNotFoundError), _entered(fd, [found_name]) as inner:
                    yield from self._segments(inner, (*names, found_name), text + name.text)
            elif name is not None:
                segment = decode_segment(text + name.text, is_folding=self._is_folding)
                if segment is not None:
                    order = segment.encode() + (b"/" if name.kind == "folder" else b"")
                    yield Segment(order, segment, name.kind == "folder", (*names, found_name))

    def _prune(self, folders: Sequence[str]) -> None:
        """Remove directories that are empty, the innermost first."""
        for depth in range(len(folders), 0, -1):
            try:
                with self._entered(folders[: depth - 1]) as fd:
                    os.rmdir(folders[depth - 1], dir_fd=fd)
            except OSError:  # not empty, or gone already
                return

    def _entered(self, names: Sequence[str], *, create: bool = False) -> contextlib.AbstractContextManager[int]:
        return _entered(self._root_fd, names, create=create)


def open_regular(folder_fd: int, name: str) -> int:
    """Open a file to read it.

    Raises:
        FileNotFoundError: there is none.
        OSError: it is a symbolic link, a directory or a device.
    """
    fd = os.open(name, _FILE_FLAGS, dir_fd=folder_fd)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)


@contextlib.contextmanager
def _entered(start_fd: int, names: Sequence[str], *, create: bool = False) -> Iterator[int]:
    fd = os.dup(start_fd)
    try:
        for name in names:
            inner = _enter(fd, name, create=create)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _enter(fd: int, name: str, *, create: bool) -> int:
    try:
        return os.open(name, _FOLDER_FLAGS, dir_fd=fd)
    except FileNotFoundError:
        if not create:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=fd)
    os.fsync(fd)  # whoever made it
    return os.open(name, _FOLDER_FLAGS, dir_fd=fd)


@contextlib.contextmanager
def _listed(key: str, start_fd: int, names: Sequence[str]) -> Iterator[Listed]:
    """Open an object's file for a listing; one that cannot be opened is listed all the same, and hides no other."""
    with _entered(start_fd, names[:-1]) as folder_fd:
        try:
            fd = open_regular(folder_fd, names[-1])
        except FileNotFoundError:
            raise
        except OSError:
            yield Listed(key, None, os.stat(names[-1], dir_fd=folder_fd, follow_symlinks=False))
            return
    try:
        yield Listed(key, fd, os.fstat(fd))
    finally:
        os.close(fd)
