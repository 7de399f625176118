"""Values on their way to and from an artifact actor: unpickling them, where they arrive, gives what is meant."""

import pickle
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from typing_extensions import Buffer

from morphml_ray.artifacts.contract import ObjectFolder, ObjectInfo
from morphml_ray.rpc.call import Encoded

T = TypeVar("T")
U = TypeVar("U")


class Payload:
    """Bytes of a caller: they travel in shared memory, and arrive as a view of it, without a copy.

    A ``pickle.PickleBuffer`` alone would do, but not in the arguments of a call: Python crashes when it collects one
    over a memoryview in a cycle of garbage, such as the traceback of a failed call. Here it lives only while it is
    pickled.

    Args:
        data: contiguous; read when it is pickled.
    """

    def __init__(self, data: Buffer) -> None:
        self._data = data

    def __buffer__(self, flags: int) -> memoryview:
        """Look at the bytes."""
        del flags
        return memoryview(self._data)

    def __reduce__(self) -> tuple[Any, ...]:
        """Send the bytes beside the pickle, not in it."""
        return memoryview, (pickle.PickleBuffer(self._data),)


class OutgoingBytes(Encoded[bytes]):
    """Bytes of an object: they travel like a payload, and are copied once, where they arrive, into ``bytes``.

    Args:
        parts: of the object, in order.
    """

    def __init__(self, *parts: Buffer) -> None:
        self._parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        """Send the bytes beside the pickle, not in it."""
        return _join, ([pickle.PickleBuffer(part) for part in self._parts],)


class OutgoingObjects(Encoded[dict[str, bytes]]):
    """Bytes of objects, in parts, under their keys, as ``OutgoingBytes`` are; they arrive as a dict."""

    def __init__(self, found: Mapping[str, Sequence[Buffer]]) -> None:
        self._found = found

    def __reduce__(self) -> tuple[Any, ...]:
        """Send the bytes beside the pickle, not in it."""
        parts = [[pickle.PickleBuffer(part) for part in parts] for parts in self._found.values()]
        return _read_objects, (list(self._found), parts)


class OutgoingBatch(Encoded[tuple[dict[str, bytes], list[str]]]):
    """Small objects under their keys, as ``OutgoingObjects``, and the keys of those that are large."""

    def __init__(self, small: Mapping[str, Buffer], large: Sequence[str]) -> None:
        self._small = small
        self._large = large

    def __reduce__(self) -> tuple[Any, ...]:
        """Send the bytes beside the pickle, not in it."""
        buffers = [[pickle.PickleBuffer(data)] for data in self._small.values()]
        return _read_batch, (list(self._small), buffers, list(self._large))


class OutgoingListing(Encoded[list[dict[str, Any]]]):
    """Objects of a listing, as few bytes a piece; they arrive as dicts."""

    def __init__(self, found: Iterable[ObjectInfo]) -> None:
        self._rows = [(info.key, info.size_bytes, info.last_modified) for info in found]

    def __reduce__(self) -> tuple[Any, ...]:
        """Make the dicts where they are unpickled: callers pay."""
        return _read_rows, (self._rows,)


class OutgoingFolder(Encoded[tuple[list[dict[str, Any]], list[str]]]):
    """What is directly in a folder; arrives as the dicts of a listing, and the names of folders."""

    def __init__(self, found: ObjectFolder) -> None:
        self._objects = OutgoingListing(found.objects)
        self._folders = found.folders

    def __reduce__(self) -> tuple[Any, ...]:
        """Make the dicts where they are unpickled."""
        return _pair, (self._objects, self._folders)


class OutgoingRanges(Encoded[list[bytes | None]]):
    """Bytes of ranges, beside the pickle as ``OutgoingBytes`` are; they arrive in order, None for what is missing."""

    def __init__(self, found: Sequence[Buffer | None]) -> None:
        self._found = found

    def __reduce__(self) -> tuple[Any, ...]:
        """Send the bytes beside the pickle, not in it."""
        return _read_ranges, ([None if data is None else pickle.PickleBuffer(data) for data in self._found],)


def describe_object(info: ObjectInfo) -> dict[str, Any]:
    """Describe one object as ``ArtifactStore.get_metadata`` gives it."""
    return {
        "size": info.size_bytes,
        "last_modified": info.last_modified,
        "content_type": info.content_type,
        "metadata": dict(info.metadata),
    }


def _join(parts: Sequence[Buffer]) -> bytes:
    return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)


def _read_objects(keys: Sequence[str], data: Sequence[Sequence[Buffer]]) -> dict[str, bytes]:
    return {key: _join(parts) for key, parts in zip(keys, data, strict=True)}


def _read_batch(
    keys: Sequence[str], data: Sequence[Sequence[Buffer]], large: list[str]
) -> tuple[dict[str, bytes], list[str]]:
    return _read_objects(keys, data), large


def _read_ranges(found: Sequence[Buffer | None]) -> list[bytes | None]:
    return [None if data is None else bytes(data) for data in found]


def _pair(first: T, second: U) -> tuple[T, U]:
    return first, second


def _read_rows(rows: Sequence[tuple[str, int, datetime]]) -> list[dict[str, Any]]:
    return [{"key": key, "size": size_bytes, "last_modified": modified} for key, size_bytes, modified in rows]
