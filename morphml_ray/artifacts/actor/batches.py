"""Many small objects in one call: the call costs once what it costs, and so does each thread."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any, NamedTuple, TypeVar

from typing_extensions import Buffer

from morphml_ray.artifacts.actor.admission import Transfer
from morphml_ray.artifacts.actor.write_memory import WriteMemory
from morphml_ray.artifacts.checks import MAX_BATCH_BYTES, WriteRequest, check_call_bytes
from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.errors import ConflictError, NotFoundError, ValidationError

FIRST_READ_BYTES = 1024 * 1024
"""What is read before the size of an object is known: most objects are read with one request."""
BATCH = 64
"""How many objects callers ask for in one call: what may come is booked, in the actor, before it is read."""
READ_TURNS = 3
LARGE_REMEDY = "take download_file(), or fs.open() of morphml://, or ranges"

ObjectRange = tuple[str, int, int]
"""Key, offset and length."""

T = TypeVar("T")


def deal(items: Sequence[T], hands: int) -> list[Sequence[T]]:
    """Deal items out in turns, so that large ones that stand together do not end in one hand; none stays empty."""
    return [items[first::hands] for first in range(min(hands, len(items)))]


def write_options(write: WriteRequest) -> dict[str, Any]:
    """Give the arguments by which a backend stores what is requested."""
    return {field.name: getattr(write, field.name) for field in fields(write) if field.name != "key"}


def put_one(memory: WriteMemory, write: WriteRequest, view: memoryview, backend: ArtifactBackend) -> str:
    """Store bytes, gives the key; can be repeated."""
    return memory.put(backend, write, lambda: backend.put(write.key, view, **write_options(write)))


def put_all(
    memory: WriteMemory,
    objects: Sequence[tuple[WriteRequest, memoryview]],
    backend: ArtifactBackend,
    transfer: Transfer,
) -> None:
    """Store objects, one after the other; can be repeated."""
    for write, view in objects:
        put_one(memory, write, view, backend)
        transfer.advance(view.nbytes)


class Budget:
    """How many bytes the threads of one call may hold together; thread-safe.

    Args:
        max_bytes: all of them.
    """

    def __init__(self, max_bytes: int = MAX_BATCH_BYTES) -> None:
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        self._held_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Book what is held from now on.

        Raises:
            ValidationError: it is too much.
        """
        with self._lock:
            self._held_bytes += size_bytes
            if self._held_bytes > self._max_bytes:
                raise ValidationError(
                    f"the objects have more than {self._max_bytes} bytes together: ask for fewer at once, call "
                    "download_multiple() without .remote, or take download_file() for large ones"
                )


class Batch(NamedTuple):
    """What was found of a batch.

    Attributes:
        small: objects below ``FIRST_READ_BYTES``, by their keys.
        large_bytes: sizes of the others; those that are missing are left out.
    """

    small: dict[str, bytes]
    large_bytes: dict[str, int]

    @property
    def size_bytes(self) -> int:
        """Of all together."""
        return sum(map(len, self.small.values())) + sum(self.large_bytes.values())


def look_at_all(budget: Budget, keys: Sequence[str], backend: ArtifactBackend, transfer: Transfer) -> Batch:
    """Read objects, one after the other, but the large ones; those that are missing are left out."""
    found = Batch({}, {})
    for key in keys:
        try:
            data = backend.get(key, 0, FIRST_READ_BYTES)
        except NotFoundError:
            continue
        transfer.advance(len(data))
        if len(data) < FIRST_READ_BYTES:
            budget.take(len(data))
            found.small[key] = data
        elif info := backend.head(key):
            found.large_bytes[key] = info.size_bytes
    return found


def get_all(
    budget: Budget, sizes: Sequence[tuple[str, int]], backend: ArtifactBackend, transfer: Transfer
) -> dict[str, list[Buffer]]:
    """Read objects of known sizes, one after the other, as the parts that come; missing ones are left out."""
    found: dict[str, list[Buffer]] = {}
    for key, size_bytes in sizes:
        budget.take(size_bytes)
        with suppress(NotFoundError):  # deleted since
            found[key] = get_whole(key, size_bytes, backend, transfer)
    return found


def get_ranges(
    ranges: Sequence[tuple[int, ObjectRange]], backend: ArtifactBackend, transfer: Transfer
) -> list[tuple[int, bytes | None]]:
    """Read numbered ranges, one after the other; gives None for those whose object is missing."""
    found: list[tuple[int, bytes | None]] = []
    for number, (key, offset, length) in ranges:
        data = None
        with suppress(NotFoundError):
            data = backend.get(key, offset, length)
        transfer.advance(len(data or b""))
        found.append((number, data))
    return found


def copy_one(memory: WriteMemory, source: str, write: WriteRequest, backend: ArtifactBackend) -> str:
    """Copy an object, gives its new key; can be repeated."""
    return memory.put(backend, write, lambda: backend.copy(source, write.key, write_id=write.write_id))


def copy_all(
    memory: WriteMemory, pairs: Sequence[tuple[str, WriteRequest]], backend: ArtifactBackend, transfer: Transfer
) -> list[str]:
    """Copy objects, one after the other; gives the new keys, without those whose source is missing."""
    copied = []
    for source, write in pairs:
        with suppress(NotFoundError):
            copied.append(copy_one(memory, source, write, backend))
        transfer.advance(1)
    return copied


def get_whole(key: str, size_bytes: int, backend: ArtifactBackend, transfer: Transfer) -> list[Buffer]:
    """Read a large object, as the parts that arrive: to join them is up to the caller, who copies them anyway.

    Args:
        key: of the object.
        size_bytes: how large it was when it was looked at.
        backend: where it is.
        transfer: is told how far it is.

    Raises:
        NotFoundError: there is no such object.
        ConflictError: it was replaced again and again meanwhile.
    """
    for _ in range(READ_TURNS):
        check_call_bytes(size_bytes, key, LARGE_REMEDY)
        with suppress(ConflictError):  # replaced since it was looked at
            return backend.get_parts(key, size_bytes, transfer.advance)
        info = backend.head(key)
        size_bytes = info.size_bytes if info else 0
    raise ConflictError(f"{key} is replaced again and again while it is read")
