"""Many small objects in one call: the call costs once what it costs, and so does each thread."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any, TypeVar

from typing_extensions import Buffer

from morphml_ray.artifacts.actor.admission import Transfer
from morphml_ray.artifacts.checks import WriteRequest
from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.errors import ConflictError, NotFoundError

FIRST_READ_BYTES = 1024 * 1024
"""What is read before the size of an object is known: most objects are read with one request."""
READ_TURNS = 3

T = TypeVar("T")


def deal(items: Sequence[T], hands: int) -> list[Sequence[T]]:
    """Deal items out in turns, so that large ones that stand together do not end in one hand; none stays empty."""
    return [items[first::hands] for first in range(min(hands, len(items)))]


def write_options(write: WriteRequest) -> dict[str, Any]:
    """Give the arguments by which a backend stores what is requested."""
    return {field.name: getattr(write, field.name) for field in fields(write) if field.name != "key"}


def put_all(objects: Sequence[tuple[WriteRequest, memoryview]], backend: ArtifactBackend, transfer: Transfer) -> None:
    """Store objects, one after the other; can be repeated."""
    for write, view in objects:
        backend.put(write.key, view, **write_options(write))
        transfer.advance(view.nbytes)


def get_all(keys: Sequence[str], backend: ArtifactBackend, transfer: Transfer) -> dict[str, list[Buffer]]:
    """Read objects, one after the other, as the parts that arrive; those that are missing are left out."""
    found: dict[str, list[Buffer]] = {}
    for key, data in _read_beginnings(keys, backend, transfer):
        if len(data) < FIRST_READ_BYTES:
            found[key] = [data]
        else:
            info = backend.head(key)
            with suppress(NotFoundError):  # deleted since
                found[key] = get_whole(key, info.size_bytes if info else 0, backend, transfer)
    return found


def get_small(keys: Sequence[str], backend: ArtifactBackend, transfer: Transfer) -> dict[str, list[Buffer]]:
    """Read objects below ``FIRST_READ_BYTES``; the others, and those that are missing, are left out."""
    beginnings = _read_beginnings(keys, backend, transfer)
    return {key: [data] for key, data in beginnings if len(data) < FIRST_READ_BYTES}


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
        with suppress(ConflictError):  # replaced since it was looked at
            return backend.get_parts(key, size_bytes, transfer.advance)
        info = backend.head(key)
        size_bytes = info.size_bytes if info else 0
    raise ConflictError(f"{key} is replaced again and again while it is read")


def _read_beginnings(keys: Sequence[str], backend: ArtifactBackend, transfer: Transfer) -> Iterator[tuple[str, bytes]]:
    """Read what most objects are in whole; those that are missing are left out."""
    for key in keys:
        try:
            data = backend.get(key, 0, FIRST_READ_BYTES)
        except NotFoundError:
            continue
        transfer.advance(len(data))
        yield key, data
