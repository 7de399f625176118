"""A directory of objects: opening it, opening one object, and bringing one in; its errors come out as ours."""

import errno
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from morphml_ray.artifacts.checks import WriteRequest
from morphml_ray.artifacts.contract import ObjectInfo
from morphml_ray.artifacts.local.staging import StagedFile, Staging
from morphml_ray.artifacts.local.trailer import StoredFile, Trailer, modified_at, read_trailer
from morphml_ray.artifacts.local.tree import Listed, Tree
from morphml_ray.config import BackendUrl, check_directory
from morphml_ray.errors import (
    AlreadyExistsError,
    BackendUnavailable,
    ConfigurationError,
    ConflictError,
    CorruptDataError,
    MorphMLRayError,
    NotFoundError,
)

# What no waiting mends. ELOOP and ENOTDIR: something that is no directory stands in the way, a symbolic link maybe.
_REFUSALS = {
    errno.EACCES: "this user may not use it",
    errno.EPERM: "the file system does not allow it; it may know no hard links",
    errno.EROFS: "it is read-only",
    errno.ELOOP: "a symbolic link stands in it; remove it",
    errno.ENOTDIR: "a file or a symbolic link stands where a directory must be; remove it",
    errno.EISDIR: "a directory stands where an object must be; remove it",
    errno.ENAMETOOLONG: "its file system takes short names only",
}
_SHORTAGES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "this user's share of the disk is full",
    errno.EMFILE: "this process has too many open files",
}

_TOLD = 1000

logger = logging.getLogger(__name__)


class Directory:
    """What the operations on objects have in common; thread-safe.

    Args:
        url: of a directory, or a reference to such a URL.
    """

    def __init__(self, url: BackendUrl) -> None:
        self._url = url
        self.place = url.masked
        self.answered_at = 0.0
        self._changed = threading.Condition()
        self._opened: tuple[Tree, Staging] | None = None
        self._root = Path()
        self._seen = (0, 0)
        self._busy = 0
        self._told: set[str] = set()

    def open(self) -> None:
        """Make the directory where it is missing, and free what crashed processes left in it."""
        with self._changed:
            if self._opened is not None:
                return
            path = BackendUrl(self._url.resolve("artifacts")).path
            if path is None:
                raise BackendUnavailable(f"{self.place} is no directory")
            root = check_directory(path, setting="artifacts= or MORPHML_ARTIFACTS_URL")
            with _translated(self.place, "opening"):
                staging = Staging(root)
                staging.clean_up()
                tree = Tree(root, is_folding=staging.is_folding_case())
                self._root, self._seen = Path(root), tree.identity()
                self._opened = (tree, staging)

    def close(self) -> None:
        """Let the directory go, once what is under way has ended."""
        with self._changed:
            opened, self._opened = self._opened, None
            self._changed.wait_for(lambda: not self._busy)
        for part in opened or ():
            part.close()

    @contextmanager
    def working(self, operation: str) -> Iterator[tuple[Tree, Staging]]:
        """Use the directory; its errors come out as ours.

        Raises:
            BackendUnavailable: it is not open.
            CorruptDataError: it was moved or deleted.
            ConflictError: another one stands in its place.
        """
        with self._in_use() as opened, _translated(self.place, operation):
            self._check_place()
            yield opened
        self.answered_at = time.monotonic()

    def _check_place(self) -> None:
        """See that the directory is the one that was opened; what is written to another would be lost."""
        try:
            found = os.stat(self._root)  # noqa: PTH116 - before every operation, and Path takes twice as long
        except (FileNotFoundError, NotADirectoryError) as error:
            raise CorruptDataError(
                f"{self.place} was moved or deleted while it was in use; nothing is read or stored. Put this very "
                "directory back (mv, not cp), or shut this storage down and connect again: that starts an empty one."
            ) from error
        if (found.st_dev, found.st_ino) != self._seen:
            raise ConflictError(
                f"{self.place} was replaced by another directory while it was in use; nothing is read or stored. To go "
                "on with the new one, shut this storage down and connect again; else put the old one back (mv)."
            )

    @contextmanager
    def _in_use(self) -> Iterator[tuple[Tree, Staging]]:
        with self._changed:
            if self._opened is None:
                raise BackendUnavailable(f"{self.place} is not open")
            opened = self._opened
            self._busy += 1
        try:
            yield opened
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def discard(self, staged: StagedFile, operation: str) -> None:
        """Remove a file that becomes no object, also where the directory is no more in its place."""
        with self._in_use() as (_, staging), _translated(self.place, operation):
            staging.remove(staged)

    @contextmanager
    def writing(self, operation: str) -> Iterator[StagedFile]:
        """Make a file that is gone when the block ends, unless it was committed; errors inside come out as they are.

        Raises:
            BackendUnavailable: the directory is not open, or cannot take a file.
        """
        with self._in_use():
            with self.working(operation) as (_, staging):
                staged = staging.create()
            try:
                yield staged
            finally:
                self.discard(staged, operation)

    @contextmanager
    def reading(self, key: str, operation: str) -> Iterator[StoredFile]:
        """Open an object; errors inside the block come out as they are.

        Raises:
            NotFoundError: there is none.
            CorruptDataError: its file is cut off.
        """
        with self.working(f"{operation} {key}") as (tree, _):
            try:
                fd = tree.open_file(key)
            except FileNotFoundError as error:
                raise NotFoundError(f"{self.place}: there is no object {key}") from error
        try:
            with self.working(f"{operation} {key}"):
                stored = read_trailer(fd, f"{self.place}: {key}")
            yield stored
        finally:
            os.close(fd)

    def commit(self, request: WriteRequest, staged: StagedFile, crc: int, size_bytes: int) -> ObjectInfo:
        """Make a written file an object, durably.

        Raises:
            AlreadyExistsError: only one that is absent was to be written, and another write was first.
        """
        trailer = Trailer(request.metadata, request.content_type, crc, request.write_id)
        with self.working(f"put {request.key}") as (tree, staging):
            staged.seal(trailer.encode(), size_bytes)
            info = read_trailer(staged.fd, request.key).info(request.key)
            try:
                tree.place(staging.fd, staged.name, request.key, if_absent=request.if_absent)
            except FileExistsError:
                return self._find_own(request)
            self._check_place()
            return info

    def _find_own(self, request: WriteRequest) -> ObjectInfo:
        with self.reading(request.key, "put") as stored:
            if stored.trailer.write_id == request.write_id:
                return stored.info(request.key)
        raise AlreadyExistsError(f"{self.place}: there is an object {request.key} already")

    def describe(self, listed: Listed) -> ObjectInfo:
        """Describe an object for a listing; a damaged one with the size of all that is left, and one warning."""
        if listed.fd is not None:
            try:
                info = read_trailer(listed.fd, listed.key).info(listed.key)
                return ObjectInfo(listed.key, info.size_bytes, info.last_modified)
            except (CorruptDataError, OSError):  # of this one; the others are listed
                pass
        if listed.key not in self._told and len(self._told) < _TOLD:
            self._told.add(listed.key)
            logger.warning(
                "%s: %s is damaged or cannot be read; listings name it, reading fails", self.place, listed.key
            )
        return ObjectInfo(listed.key, listed.status.st_size, modified_at(listed.status))

    def damaged(self, key: str) -> CorruptDataError:
        """Give the error of an object whose checksum differs."""
        return CorruptDataError(f"{self.place}: {key} is damaged: its checksum differs")


@contextmanager
def _translated(place: str, operation: str) -> Iterator[None]:
    """Let errors of the operating system out as errors of ours.

    Args:
        place: the directory.
        operation: what was tried, with its key.

    Raises:
        ConfigurationError: no waiting helps: no permission, a symbolic link in the way.
        BackendUnavailable: anything else, a full disk for one: it may work later.
    """
    try:
        yield
    except MorphMLRayError:  # some are ConnectionErrors, which are OSErrors
        raise
    except OSError as error:
        raise _translate(place, operation, error) from error


def _translate(place: str, operation: str, error: OSError) -> MorphMLRayError:
    if error.errno in _REFUSALS:
        where = f" ({error.filename})" if isinstance(error.filename, str) else ""
        return ConfigurationError(f"{place} refuses {operation}: {_REFUSALS[error.errno]}{where}")
    reason = _SHORTAGES.get(error.errno or 0, error.strerror or type(error).__name__)
    return BackendUnavailable(f"{place} failed {operation}: {reason}")
