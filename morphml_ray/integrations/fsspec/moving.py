"""Moves: what is copied where, decided before anything is copied, and deleted after all is."""

import errno
from typing import Any, Protocol

from fsspec.spec import AbstractFileSystem  # type: ignore[import-untyped]  # fsspec carries no type information


class Expanding(Protocol):
    """What tells of paths."""

    def expand_path(self, path: Any, recursive: bool = False, maxdepth: int | None = None, **_: Any) -> list[str]:
        """Give all paths that a path stands for."""

    def isdir(self, path: str) -> bool:
        """Tell whether there is such a directory."""


class _Plan:
    """Stands in for a file system while fsspec copies: it decides where what goes, and copies nothing."""

    def __init__(self, files: Expanding) -> None:
        self.expand_path = files.expand_path
        self.isdir = files.isdir
        self.pairs: list[tuple[str, str]] = []

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Note a copy."""
        self.pairs.append((path1, path2))


def plan_move(
    files: Expanding, source: Any, dest: Any, *, recursive: bool, maxdepth: int | None
) -> list[tuple[str, str]]:
    """Give the paths to copy and where to, as fsspec copies them; what would move onto itself is left out.

    Raises:
        FileNotFoundError: there is nothing to move.
        OSError: ``EINVAL``: something would move into itself, or onto another thing that moves too.
    """
    plan = _Plan(files)
    AbstractFileSystem.copy(plan, source, dest, recursive=recursive, maxdepth=maxdepth, on_error="raise")
    pairs = [(_stripped(path1), _stripped(path2)) for path1, path2 in plan.pairs]
    moved = [(path1, path2) for path1, path2 in pairs if path1 != path2]
    sources = {path1 for path1, _ in pairs}
    for path1, path2 in moved:
        if path2.startswith(f"{path1}/"):
            raise OSError(errno.EINVAL, f"{path1} cannot be moved into itself", path2)
        if path2 in sources:
            raise OSError(errno.EINVAL, f"{path1} would be moved onto {path2}, which is moved too", path2)
    return moved


def _stripped(path: str) -> str:
    return path.removeprefix("morphml://").strip("/")
