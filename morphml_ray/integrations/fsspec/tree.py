"""What is in the store, as a tree of files and directories: the part of the file system that looks."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

from fsspec import AbstractFileSystem  # type: ignore[import-untyped]  # fsspec carries no type information
from fsspec.core import has_magic  # type: ignore[import-untyped]  # the same

from morphml_ray.artifacts.actor.actor import ArtifactActor
from morphml_ray.artifacts.checks import check_key
from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.artifacts.node_actors import find_artifacts
from morphml_ray.artifacts.store import ArtifactStore
from morphml_ray.artifacts.wire import describe_object
from morphml_ray.config import DEFAULT_NAME, DEFAULT_NAMESPACE
from morphml_ray.errors import AlreadyExistsError, BackendUnavailable, CorruptDataError, NotFoundError, ValidationError
from morphml_ray.rpc.call import call
from morphml_ray.rpc.cluster import require_ray, this_node

T = TypeVar("T")

Entry: TypeAlias = dict[str, Any]
"""Name, size and type, "file" or "directory"; of a file also last_modified (aware UTC) and mtime (of the epoch)."""


class ArtifactTree(AbstractFileSystem):  # type: ignore[misc]  # the same
    """Finds a storage, and tells what is in it; see ``MorphmlFileSystem``."""

    protocol = "morphml"

    def __init__(self, name: str = DEFAULT_NAME, namespace: str = DEFAULT_NAMESPACE, **storage_options: Any) -> None:
        super().__init__(**storage_options)
        self.name = name
        self.namespace = namespace
        self._found: tuple[str, ArtifactStore] | None = None

    @property
    def fsid(self) -> str:
        """What tells this file system from others."""
        return f"morphml:{self.namespace}:{self.name}"

    @property
    def store(self) -> ArtifactStore:
        """The artifacts behind it.

        Raises:
            NotFoundError: no such storage runs; none is started, since nothing says where its files would be.
            ConfigurationError: Ray is not initialized.
            BackendUnavailable: the actors do not answer.
        """
        require_ray()
        node_id = this_node()
        # A node of another cluster: Ray was started anew in this process.
        if self._found is None or self._found[0] != node_id:
            actors = find_artifacts(self.name, self.namespace)
            if actors is None:
                raise NotFoundError(
                    f"no storage {self.name!r} runs in the namespace {self.namespace!r} of this cluster: "
                    "morphml_ray.connect() starts it"
                )
            self._found = node_id, ArtifactStore.over(actors)
        return self._found[1]

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        found = super()._strip_protocol(path)
        return found if isinstance(found, list) else found.strip("/")

    # Looking

    def info(self, path: str, **_: Any) -> Entry:
        """Describe a file (name, size, type, last_modified, mtime, content_type, metadata) or a directory.

        Raises:
            FileNotFoundError: there is neither, or no file can have that name.
        """
        path = self._strip_protocol(path)
        if not path:
            return directory_entry(path)
        found = self._ask(path, lambda store: store.get_metadata(path)) if _can_be_file(path) else None
        if found is not None:
            return file_entry({"key": path, **found})
        if self._list_below(path, 1):
            return directory_entry(path)
        raise not_found(path)

    def info_of_file(self, path: str) -> Entry:
        """Describe a file, with its version and the checksum of the whole.

        Raises:
            FileNotFoundError: there is none.
            IsADirectoryError: it is a directory.
        """
        looking = call(ArtifactActor.look_up, ArtifactBackend.head, path)
        found = self._ask(path, lambda store: store.channel.wait(looking)) if _can_be_file(path) else None
        if found is None:
            raise is_directory(path) if self.isdir(path) else not_found(path)
        return file_entry({"key": path, **describe_object(found), "version": found.version, "checksum": found.checksum})

    def exists(self, path: str, **_: Any) -> bool:
        """Tell whether there is such a file or directory; an outage is an error, and no False."""
        return self._type_of(path) is not None

    def isfile(self, path: str) -> bool:
        """Tell whether it is a file; an outage is an error, and no False."""
        return self._type_of(path) == "file"

    def isdir(self, path: str) -> bool:
        """Tell whether it is a directory; an outage is an error, and no False."""
        return self._type_of(path) == "directory"

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List what is in a directory, or the one file, sorted: dicts, or names where not ``detail``.

        Raises:
            FileNotFoundError: there is no such file or directory.
        """
        path = self._strip_protocol(path)
        entries = self._children(path)
        if not entries and path:
            entries = [self.info(path)]
        return entries if detail else [entry["name"] for entry in entries]

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **_: Any
    ) -> Any:
        """Find all files below a directory, in one listing; see fsspec for the arguments."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        path = self._strip_protocol(path)
        if maxdepth == 1:
            entries = [entry for entry in self._children(path) if withdirs or entry["type"] == "file"]
            top = [directory_entry(path)] if withdirs and path and entries else []
            found = {entry["name"]: entry for entry in [*top, *reversed(entries)]}  # a file, not the directory
            found = {name: found[name] for name in sorted(found)}
        else:
            found = _find_entries(path, self._list_below(path), maxdepth, withdirs=withdirs)
        if not found and path:
            with suppress(FileNotFoundError):
                found = {path: self.info(path)}
        return found if detail else list(found)

    def du(self, path: str, total: bool = True, maxdepth: int | None = None, withdirs: bool = False, **_: Any) -> Any:
        """Sum up the bytes of all files below a path, in one listing; a dict of each where not ``total``."""
        if total and maxdepth is None and _can_be_directory(below := self._strip_protocol(path)):
            size_bytes = self._ask(path, lambda store: store.get_total_size(f"{below}/" if below else ""))
            if size_bytes:
                return size_bytes
        found = self.find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True)
        sizes = {name: entry["size"] for name, entry in found.items()}
        return sum(sizes.values()) if total else sizes

    def expand_path(
        self, path: Any, recursive: bool = False, maxdepth: int | None = None, assume_literal: bool = False, **_: Any
    ) -> list[str]:
        """Give all paths that paths or patterns stand for; a path that exists as it is written is no pattern."""
        several = [path] if isinstance(path, (str, os.PathLike)) else list(path)
        paths = [self._strip_protocol(one) for one in several]
        literal = [one for one in paths if assume_literal or not has_magic(one) or self.exists(one)]
        patterns = [one for one in paths if one not in literal]
        found: set[str] = set()
        for part, is_literal in ((literal, True), (patterns, False)):
            if part:
                with suppress(FileNotFoundError):
                    found.update(super().expand_path(part, recursive, maxdepth, assume_literal=is_literal))
        if not found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return sorted(found)

    def modified(self, path: str) -> datetime:
        """Tell when a file was written, aware UTC."""
        entry = self.info(path)
        if entry["type"] == "directory":
            raise is_directory(path)
        modified: datetime = entry["last_modified"]
        return modified

    def sign(self, path: str, expiration: int = 3600, **_: Any) -> str:
        """Give a URL with which anybody may read the file for ``expiration`` seconds; not of a local directory."""
        path = self._strip_protocol(path)
        return self._ask(path, lambda store: store.get_presigned_url(path, expiration))

    # Directories

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Do nothing: a directory is there with its first file."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing: a directory is there with its first file."""

    def rmdir(self, path: str) -> None:
        """Do nothing: a directory is gone with its last file.

        Raises:
            OSError: it has files.
        """
        if self._list_below(self._strip_protocol(path), 1):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)

    def take_place_of(self, other: "ArtifactTree") -> None:
        """Go on with the storage that another one has found."""
        self._found = other._found  # noqa: SLF001 - of the same class

    def _children(self, path: str) -> list[Entry]:
        """Describe what is directly in a directory, by name; a file comes before a directory of the same name."""
        if not _can_be_directory(path):
            return []
        listing = call(ArtifactActor.list_folder, f"{path}/" if path else "")
        objects, folders = self._ask(path, lambda store: store.channel.wait(listing))
        entries = [*map(file_entry, objects), *map(directory_entry, folders)]
        return sorted(entries, key=lambda entry: entry["name"])

    def _list_below(self, path: str, limit: int | None = None) -> list[dict[str, Any]]:
        if not _can_be_directory(path):
            return []
        return self._ask(path, lambda store: store.list_objects(f"{path}/" if path else "", limit))

    def _type_of(self, path: str) -> str | None:
        try:
            found: str = self.info(path)["type"]
        except FileNotFoundError:
            return None
        return found

    def _ask(self, path: str, ask: Callable[[ArtifactStore], T]) -> T:
        """Ask the storage; where it was shut down meanwhile, the one that has its name now."""
        store = self.store
        try:
            with os_errors(path):
                return ask(store)
        except BackendUnavailable:
            self._found = None
            if not store.actors.first.is_gone:
                raise
        store = self.store
        with os_errors(path):
            return ask(store)


def file_entry(found: Mapping[str, Any]) -> Entry:
    """Describe an object as a file."""
    rest = {name: value for name, value in found.items() if name not in ("key", "size")}
    mtime = found["last_modified"].timestamp()
    return {"name": found["key"], "size": found["size"], "type": "file", "mtime": mtime, **rest}


def _can_be_file(path: str) -> bool:
    """Tell whether an object can have that name."""
    try:
        check_key(path)
    except ValidationError:
        return False
    return True


def _can_be_directory(path: str) -> bool:
    """Tell whether an object can be below it; the root is "" here."""
    return not path or _can_be_file(f"{path}/x")


def directory_entry(path: str) -> Entry:
    """Describe a directory."""
    return {"name": path, "size": 0, "type": "directory"}


def _find_entries(
    path: str, objects: Iterable[Mapping[str, Any]], maxdepth: int | None, *, withdirs: bool
) -> dict[str, Entry]:
    """Describe what is below a directory, sorted by name; where a directory has the name of a file, the file.

    Args:
        path: of the directory, "" for the root.
        objects: all below it, as ``ArtifactStore.list_objects`` gives them.
        maxdepth: how many names below the directory at most; None for all.
        withdirs: give the directories too, itself among them.
    """
    skip = len(path) + 1 if path else 0
    files: dict[str, Entry] = {}
    folders: dict[str, Entry] = {}
    for found in objects:
        key = found["key"]
        depth = key.count("/", skip) + 1
        if maxdepth is None or depth <= maxdepth:
            files[key] = file_entry(found)
        if withdirs:
            folders |= {name: directory_entry(name) for name in _folders_of(key, path, skip, maxdepth)}
    found_all = folders | files
    return {name: found_all[name] for name in sorted(found_all)}


def _folders_of(key: str, path: str, skip: int, maxdepth: int | None) -> list[str]:
    names = key[skip:].split("/")[:-1][:maxdepth]
    below = [key[:skip] + "/".join(names[: number + 1]) for number in range(len(names))]
    return [path, *below] if path else below


@contextmanager
def os_errors(path: str) -> Iterator[None]:
    """Raise Python's own errors where it has some for ours."""
    try:
        yield
    except NotFoundError as error:
        raise not_found(path) from error
    except AlreadyExistsError as error:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
    except CorruptDataError as error:
        raise OSError(errno.EIO, str(error), path) from error


def not_found(path: str) -> FileNotFoundError:
    """Make the error of a path where nothing is."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def replaced(path: str) -> OSError:
    """Make the error of a file that is another one now, or none any more, while it is being read."""
    return OSError(errno.ESTALE, "it was replaced or deleted while it was open: open it again", path)


def is_directory(path: str) -> IsADirectoryError:
    """Make the error of a directory where a file is needed."""
    return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
