"""Lost writes on this machine's disk, so that they outlive the process that lost them."""

import base64
import binascii
import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from morphml_ray.rpc.incarnation import Incarnation

_log = logging.getLogger(__name__)

_DEFAULT = Path("~/.morphml_ray/lost_writes")
_NAME, _PATTERN = b"n", b"p"


class LossJournal:
    """A file of a process, in which stands what it has lost; it is empty as long as that is nothing.

    While the server is unavailable nothing can be noted there, and the process may be killed before it is back. Whoever
    comes next on this machine reads what was left by those who are dead (nobody locks their files) and takes it over.
    An actor that was restarted and does not find the file of its life before was on another machine: it cannot know
    what it lost there. Nothing is synced: the file is for a process that dies, not for a machine.

    Args:
        place: what tells the cache from others.
        incarnation: of this process.
        folder: default ``~/.morphml_ray/lost_writes``.
    """

    def __init__(self, place: str, incarnation: Incarnation, folder: Path | None = None) -> None:
        key = hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._of_this_cache = f"{key}."
        self._of_this_actor = f"{key}.{incarnation.actor_id}."
        self._number = incarnation.number
        self._folder = folder or _DEFAULT
        self._path = Path()
        self._fd: int | None = None
        self._is_empty = True
        self._is_usable = True

    def open(self) -> tuple[set[bytes], set[bytes], bool]:
        """Begin a file, and take over those of the dead.

        Returns:
            Names and patterns that they have lost, and whether that is all that may have been lost.
        """
        try:
            self._begin()
            return self._take_over(self._path.parent)
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
            self._give_up(error)
            return set(), set(), self._number == 0

    def add(self, names: Iterable[bytes], patterns: Iterable[bytes]) -> None:
        """Note names and patterns, before anybody is told that they are lost."""
        lines = [*(_line(_NAME, name) for name in names), *(_line(_PATTERN, pattern) for pattern in patterns)]
        if not lines or not self._is_usable:
            return
        is_late = self._fd is None  # a call that went on while the cache was closed
        try:
            fd = self._begin() if self._fd is None else self._fd
            self._is_empty = False
            os.write(fd, b"".join(lines))
            if is_late:
                self.close()
        except (OSError, RuntimeError) as error:
            self._give_up(error)

    def clear(self) -> None:
        """Forget all: nothing is lost any more."""
        if self._fd is not None and not self._is_empty:
            with contextlib.suppress(OSError):  # what stays is deleted once more
                os.ftruncate(self._fd, 0)
                self._is_empty = True

    def close(self) -> None:
        """End; what is still lost stays, for others to find."""
        if self._fd is not None:
            if self._is_empty:
                self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None

    def _begin(self) -> int:
        folder = self._folder.expanduser()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One life may open a cache several times.
        self._path = folder / f"{self._of_this_actor}{self._number}.{os.urandom(4).hex()}"
        # Others look at it once it has its name, and then it is locked.
        unnamed = folder / f".{self._path.name}"
        self._fd = _locked(unnamed, os.O_CREAT | os.O_EXCL)
        self._is_empty = True
        unnamed.rename(self._path)
        return self._fd

    def _take_over(self, folder: Path) -> tuple[set[bytes], set[bytes], bool]:
        is_all = self._number == 0
        names: set[bytes] = set()
        patterns: set[bytes] = set()
        for path in folder.glob(f"{self._of_this_cache}*"):
            with _read_of_the_dead(path) as content:
                if content is None:
                    continue
                is_all = is_all or path.name.startswith(f"{self._of_this_actor}{self._number - 1}.")
                left = _texts(content, _NAME), _texts(content, _PATTERN)
                names |= left[0]
                patterns |= left[1]
                self.add(*left)
                path.unlink()
        return names, patterns, is_all

    def _give_up(self, error: Exception) -> None:
        """Leave no file that says less than was lost: a restarted actor then knows that it knows nothing."""
        self._is_usable = False
        if self._fd is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None
        _log.warning("what the cache loses in an outage is forgotten when this process dies: %s", error)


@contextlib.contextmanager
def _read_of_the_dead(path: Path) -> Iterator[bytes | None]:
    """Read a file and keep it locked; None where its process lives, or another took it over."""
    try:
        fd = _locked(path)
    except OSError:
        yield None
        return
    with os.fdopen(fd, "rb") as file:
        yield file.read() if path.exists() else None


def _locked(path: Path, flags: int = 0) -> int:
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _line(kind: bytes, text: bytes) -> bytes:
    return kind + base64.b64encode(text) + b"\n"


def _texts(content: bytes, kind: bytes) -> set[bytes]:
    """Give what stands in the lines of a kind. The last may be cut off: nobody had been told of it yet."""
    texts = set()
    for line in content.splitlines(keepends=True):
        if line.startswith(kind) and line.endswith(b"\n"):
            with contextlib.suppress(binascii.Error):
                texts.add(base64.b64decode(line[1:-1], validate=True))
    return texts
