"""What goes where when many files move: fsspec decides, on one listing, before anything is moved."""

import errno
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

from fsspec.spec import AbstractFileSystem  # type: ignore[import-untyped]  # fsspec carries no type information
from typing_extensions import Self

from morphml_ray.integrations.fsspec.bulk import Pair
from morphml_ray.integrations.fsspec.tree import (
    ArtifactTree,
    Entry,
    directory_entry,
    file_entry,
    not_found,
)


class Plan(ArtifactTree):
    """Stands in for the file system while fsspec moves files: it notes what would go where, and moves nothing.

    What is below a path is read once, so a plan of thousands of files asks for one listing.
    """

    pairs: list[Pair]

    @classmethod
    def of(cls, files: ArtifactTree) -> Self:
        """Make one for a single operation of a file system."""
        plan = cls(files.name, files.namespace, skip_instance_cache=True)
        plan.take_place_of(files)
        plan.pairs = []
        plan._listed = {}
        return plan

    def info(self, path: str, **options: Any) -> Entry:
        """See ``ArtifactTree.info``; of what was listed already it asks nobody."""
        path = self._strip_protocol(path)
        root = self._root_of(path) if path else None
        if root is None:
            return super().info(path, **options)
        keys, objects = self._listed[root]
        at = bisect_left(keys, path)
        if at < len(keys) and keys[at] == path:
            return file_entry(objects[at])
        if self._list_below(path, 1):
            return directory_entry(path)
        raise not_found(path)

    def is_known_directory(self, path: str) -> bool:
        """Tell whether a path is a directory and no file, as far as the listing tells."""
        path = self._strip_protocol(path)
        return self._root_of(path) is not None and self.isdir(path)

    def size_of(self, path: str) -> int | None:
        """Give a file's size in bytes, where the listing tells."""
        path = self._strip_protocol(path)
        return None if self._root_of(path) is None else int(self.info(path)["size"])

    def _note(self, path1: str, path2: str, **_: Any) -> None:
        self.pairs.append((path1, path2))

    cp_file = get_file = put_file = _note

    def _list_below(self, path: str, limit: int | None = None) -> list[dict[str, Any]]:
        root = self._root_of(f"{path}/") if path else self._root_of("")
        if root is None:
            found = super()._list_below(path, limit)
            if limit is None:
                self._listed[path] = [one["key"] for one in found], found
            return found
        keys, objects = self._listed[root]
        below = f"{path}/" if path else ""
        start = bisect_left(keys, below)
        end = bisect_left(keys, f"{path}0") if path else len(keys)  # "0" is what follows "/"
        return objects[start : end if limit is None else min(end, start + limit)]

    def _children(self, path: str) -> list[Entry]:
        return _list_entries(path, self._list_below(path))

    def _root_of(self, path: str) -> str | None:
        """Give the listed path that this one is below."""
        return next((root for root in self._listed if not root or path.startswith(f"{root}/")), None)

    _listed: dict[str, tuple[list[str], list[dict[str, Any]]]]


def plan_move(files: ArtifactTree, source: Any, dest: Any, *, recursive: bool, maxdepth: int | None) -> list[Pair]:
    """Give the paths to copy and where to, as fsspec copies them; what would move onto itself is left out.

    Raises:
        FileNotFoundError: there is nothing to move.
        OSError: ``EINVAL``: something would move into itself, onto another thing that moves too, or beside another one
            to one place.
    """
    plan = Plan.of(files)
    AbstractFileSystem.copy(plan, source, dest, recursive=recursive, maxdepth=maxdepth, on_error="raise")
    pairs = [(_stripped(path1), _stripped(path2)) for path1, path2 in plan.pairs]
    moved = [(path1, path2) for path1, path2 in pairs if path1 != path2]
    if len({path2 for _, path2 in moved}) < len(moved):
        raise OSError(errno.EINVAL, "two of them would be moved onto one", str(dest))
    sources = {path1 for path1, _ in pairs}
    for path1, path2 in moved:
        if path2.startswith(f"{path1}/"):
            raise OSError(errno.EINVAL, f"{path1} cannot be moved into itself", path2)
        if path2 in sources:
            raise OSError(errno.EINVAL, f"{path1} would be moved onto {path2}, which is moved too", path2)
    return moved


def _stripped(path: str) -> str:
    return path.removeprefix("morphml://").strip("/")


def _list_entries(path: str, objects: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Describe what is directly in a directory, by name; a file comes before a directory of the same name.

    Args:
        path: of the directory, "" for the root.
        objects: all below it, as ``ArtifactStore.list_objects`` gives them.
    """
    skip = len(path) + 1 if path else 0
    files, folders = {}, {}
    for found in objects:
        key = found["key"]
        slash = key.find("/", skip)
        if slash < 0:
            files[key] = file_entry(found)
        else:
            folders[key[:slash]] = directory_entry(key[:slash])
    return sorted([*files.values(), *folders.values()], key=lambda entry: entry["name"])
