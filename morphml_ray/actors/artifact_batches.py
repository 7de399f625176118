"""Many small objects in one call: the call costs once what it costs, and so does each thread."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any, TypeVar

from typing_extensions import Buffer

from morphml_ray.actors.transfers import Transfer
from morphml_ray.backends.artifact_checks import WriteRequest
from morphml_ray.backends.artifact_contract import ArtifactBackend
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


def get_all(keys: Sequence[str], backend: ArtifactBackend, transfer: Transfer) -> dict[str, Buffer]:
    """Read objects, one after the other; those that are missing are left out."""
    found: dict[str, Buffer] = get_small(keys, backend, transfer)
    for key in keys:
        if key not in found:
            with suppress(NotFoundError):
                found[key] = get_whole(key, backend, transfer)
    return found


def get_small(keys: Sequence[str], backend: ArtifactBackend, transfer: Transfer) -> dict[str, Buffer]:
    """Read objects below ``FIRST_READ_BYTES``; the others, and those that are missing, are left out."""
    found: dict[str, Buffer] = {}
    for key in keys:
        with suppress(NotFoundError):
            data = backend.get(key, 0, FIRST_READ_BYTES)
            transfer.advance(len(data))
            if len(data) < FIRST_READ_BYTES:
                found[key] = data
    return found


def get_whole(key: str, backend: ArtifactBackend, transfer: Transfer) -> bytearray:
    """Read a large object, of a size that is not known.

    Raises:
        NotFoundError: there is no such object.
        ConflictError: it was replaced again and again meanwhile.
    """
    for _ in range(READ_TURNS):
        info = backend.head(key)
        buffer = bytearray(0 if info is None else info.size_bytes)
        with suppress(ConflictError):  # replaced since it was looked at
            backend.get_into(key, buffer, transfer.advance)
            return buffer
    raise ConflictError(f"{key} is replaced again and again while it is read")
