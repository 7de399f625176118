"""What a file system of fsspec says of objects: files, and the directories that the slashes in their keys make."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from morphml_ray.artifacts.checks import check_key
from morphml_ray.errors import ValidationError

Entry: TypeAlias = dict[str, Any]
"""Name, size and type, "file" or "directory"; of a file also last_modified (aware UTC) and mtime (of the epoch)."""


def read_entry(found: Mapping[str, Any]) -> Entry:
    """Describe an object as a file."""
    rest = {name: value for name, value in found.items() if name not in ("key", "size")}
    mtime = found["last_modified"].timestamp()
    return {"name": found["key"], "size": found["size"], "type": "file", "mtime": mtime, **rest}


def can_be_file(path: str) -> bool:
    """Tell whether an object can have that name."""
    try:
        check_key(path)
    except ValidationError:
        return False
    return True


def can_be_directory(path: str) -> bool:
    """Tell whether an object can be below it; the root is "" here."""
    return not path or can_be_file(f"{path}/x")


def directory(path: str) -> Entry:
    """Describe a directory."""
    return {"name": path, "size": 0, "type": "directory"}


def list_entries(path: str, objects: Iterable[Mapping[str, Any]]) -> list[Entry]:
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
            files[key] = read_entry(found)
        else:
            folders[key[:slash]] = directory(key[:slash])
    return sorted([*files.values(), *folders.values()], key=lambda entry: entry["name"])


def find_entries(
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
            files[key] = read_entry(found)
        if withdirs:
            folders |= {name: directory(name) for name in _folders_of(key, path, skip, maxdepth)}
    found_all = folders | files
    return {name: found_all[name] for name in sorted(found_all)}


def _folders_of(key: str, path: str, skip: int, maxdepth: int | None) -> list[str]:
    names = key[skip:].split("/")[:-1][:maxdepth]
    below = [key[:skip] + "/".join(names[: number + 1]) for number in range(len(names))]
    return [path, *below] if path else below
