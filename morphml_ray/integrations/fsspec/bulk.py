"""Many files at once: small ones in batches, the others side by side."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from morphml_ray.artifacts.actor.actor import ArtifactActor
from morphml_ray.artifacts.actor.batches import BATCH, FIRST_READ_BYTES
from morphml_ray.artifacts.checks import view_bytes
from morphml_ray.artifacts.store import ArtifactStore
from morphml_ray.errors import MorphMLRayError
from morphml_ray.integrations.fsspec.tree import os_errors
from morphml_ray.rpc.call import call

if TYPE_CHECKING:
    import ray

IN_FLIGHT = 16


def read_each(store: ArtifactStore, paths: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Read files; gives their paths with the bytes, or the errors, in order."""
    for batch in _batches(paths):
        small: dict[str, bytes] = {}
        with suppress(MorphMLRayError):  # of whom it is shows when each is asked for
            small, _ = store.channel.wait(call(ArtifactActor.get_small, batch))
        rest = [path for path in batch if path not in small]
        answers = dict(_overlap(store, rest, store.download_bytes.remote))
        yield from ((path, small[path] if path in small else answers[path]) for path in batch)


def write_each(store: ArtifactStore, contents: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Write files; gives their paths with the keys, or the errors, in order."""
    for batch in _batches(list(contents)):
        small = {path: contents[path] for path in batch if _size_bytes(contents[path]) < FIRST_READ_BYTES}
        written: list[str] = []
        with suppress(MorphMLRayError):  # the same
            written = store.upload_multiple(small)
        rest = [path for path in batch if path not in written]
        answers = dict(_overlap(store, rest, lambda path: store.upload_bytes.remote(contents[path], path)))
        yield from ((path, answers.get(path, path)) for path in batch)


def _size_bytes(content: Any) -> int:
    """Give the size of what is to be written; of what cannot be none, so that it fails with the others of its batch."""
    try:
        return view_bytes(content).nbytes
    except MorphMLRayError:
        return 0


def _batches(paths: Sequence[str]) -> Iterator[list[str]]:
    left = iter(paths)
    while batch := list(islice(left, BATCH)):
        yield batch


def _overlap(
    store: ArtifactStore, paths: Sequence[str], send: "Callable[[str], ray.ObjectRef[Any]]"
) -> Iterator[tuple[str, Any]]:
    """Send calls side by side; gives their paths with the answers, or the errors, in order."""
    channel, waiting = store.channel, deque(paths)
    in_flight: deque[tuple[str, ray.ObjectRef[Any]]] = deque()
    while waiting or in_flight:
        while waiting and len(in_flight) < IN_FLIGHT:
            path = waiting.popleft()
            in_flight.append((path, send(path)))
        path, ref = in_flight.popleft()
        try:
            with os_errors(path):
                result = channel.result(ref)
        except (MorphMLRayError, OSError) as error:
            result = error
        yield path, result
