"""Many files at once: small ones in batches, the next of which is on its way while one is used; others side by side."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from morphml_ray.artifacts.actor.actor import ArtifactActor
from morphml_ray.artifacts.actor.batches import BATCH, FIRST_READ_BYTES, ObjectRange
from morphml_ray.artifacts.batch_download import sent_ahead
from morphml_ray.artifacts.checks import check_write, view_bytes
from morphml_ray.artifacts.file_io import replaced_target, write_all
from morphml_ray.artifacts.store import ArtifactStore
from morphml_ray.errors import MorphMLRayError
from morphml_ray.integrations.fsspec.tree import os_errors
from morphml_ray.rpc.call import call

if TYPE_CHECKING:
    import ray

BATCH_BYTES = 32 * 1024 * 1024
BATCHES_IN_FLIGHT = 2
IN_FLIGHT = 16

Pair = tuple[str, str]
"""A path, and where it goes."""

T = TypeVar("T")


def is_small(size_bytes: int | None) -> bool:
    """Tell whether a file goes with others; one of an unknown size is tried."""
    return size_bytes is None or size_bytes < FIRST_READ_BYTES


def read_each(store: ArtifactStore, paths: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Read files; gives their paths with the bytes, or the errors, in order."""
    for batch, small in _read_batches(store, paths):
        rest = [path for path in batch if path not in small]
        answers = dict(_overlap(store, rest, store.download_bytes.remote, str))
        yield from ((path, small[path] if path in small else answers[path]) for path in batch)


def read_ranges(store: ArtifactStore, ranges: Sequence[ObjectRange]) -> Iterator[bytes | None]:
    """Read ranges of files; gives their bytes in order, None for those that must be asked for singly."""
    channel = store.channel
    batches = _batches(ranges, lambda one: one[2])
    for batch, found in _overlap(store, batches, lambda batch: channel.submit(call(ArtifactActor.get_ranges, batch))):
        yield from [None] * len(batch) if isinstance(found, Exception) else found


def write_each(store: ArtifactStore, contents: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Write files; gives their paths with the keys, or the errors, in order."""
    sizes = {path: _size_bytes(content) for path, content in contents.items()}
    batches = _batches(list(contents), lambda path: sizes[path] if is_small(sizes[path]) else 0)

    def send(batch: list[str]) -> "ray.ObjectRef[list[str]]":
        return store.upload_multiple.remote({path: contents[path] for path in batch if is_small(sizes[path])})

    for batch, written in _overlap(store, batches, send):
        rest = [path for path in batch if isinstance(written, Exception) or path not in written]
        answers = dict(_overlap(store, rest, lambda path: store.upload_bytes.remote(contents[path], path), str))
        yield from ((path, answers.get(path, path)) for path in batch)


def download_each(store: ArtifactStore, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, int | None]]:
    """Write small files to local ones; gives their sizes in order, None for those that must be asked for singly."""
    dests = iter([dest for _, dest in pairs])
    for batch, small in _read_batches(store, [source for source, _ in pairs]):
        for source in batch:
            dest, size = next(dests), None
            if source in small:
                with replaced_target(dest, sync=False) as target:
                    write_all(target, memoryview(small[source]), 0)
                size = len(small[source])
            yield (source, dest), size


def upload_each(store: ArtifactStore, pairs: Sequence[tuple[Pair, int]]) -> Iterator[tuple[Pair, bool]]:
    """Store small local files, of known sizes; gives in order whether each is stored, or must be sent singly."""

    def send(batch: list[tuple[Pair, int]]) -> "ray.ObjectRef[list[str]]":
        return store.upload_multiple.remote({dest: Path(source).read_bytes() for (source, dest), _ in batch})

    for batch, written in _overlap(store, _batches(pairs, lambda one: one[1]), send):
        done = set() if isinstance(written, Exception) else set(written)
        yield from ((pair, pair[1] in done) for pair, _ in batch)


def copy_each(store: ArtifactStore, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, bool]]:
    """Copy files inside the store; gives in order whether each is copied, or must be asked for singly."""
    channel = store.channel

    def send(batch: list[Pair]) -> "ray.ObjectRef[list[str]]":
        writes = [(source, check_write(dest, {}, None, if_absent=False, write_id=None)) for source, dest in batch]
        return channel.submit(call(ArtifactActor.copy_multiple, writes))

    for batch, copied in _overlap(store, _batches(pairs), send):
        done = set() if isinstance(copied, Exception) else set(copied)
        yield from ((pair, pair[1] in done) for pair in batch)


def delete_each(store: ArtifactStore, paths: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Delete files; gives their paths with whether there was one, or the errors, in order."""
    yield from _overlap(store, paths, store.delete.remote, str)


def _read_batches(store: ArtifactStore, paths: Sequence[str]) -> Iterator[tuple[list[str], dict[str, bytes]]]:
    """Read the small ones of files, batch by batch; of whom an error is shows when each is asked for."""
    channel = store.channel
    for batch, found in _overlap(
        store, _batches(paths), lambda batch: channel.submit(call(ArtifactActor.get_small, batch))
    ):
        yield batch, {} if isinstance(found, Exception) else found[0]


def _size_bytes(content: Any) -> int:
    """Give the size of what is to be written; of what cannot be none, so that it fails with the others of its batch."""
    try:
        return view_bytes(content).nbytes
    except MorphMLRayError:
        return 0


def _batches(items: Sequence[T], size_of: Callable[[T], int] = lambda _: 0) -> Iterator[list[T]]:
    """Cut a sequence into parts of so many items, and so many bytes."""
    batch: list[T] = []
    held_bytes = 0
    for item in items:
        size_bytes = size_of(item)
        if batch and (len(batch) == BATCH or held_bytes + size_bytes > BATCH_BYTES):
            yield batch
            batch, held_bytes = [], 0
        batch.append(item)
        held_bytes += size_bytes
    if batch:
        yield batch


def _overlap(
    store: ArtifactStore,
    items: Iterable[T],
    send: "Callable[[T], ray.ObjectRef[Any]]",
    path_of: Callable[[T], str] | None = None,
) -> Iterator[tuple[T, Any]]:
    """Send calls side by side; gives the items with the answers, or the errors, in order.

    Args:
        store: whose calls they are.
        items: one for each call.
        send: sends the call of an item.
        path_of: gives the path that an error is about; None where a call is about many, of which few are sent ahead.
    """
    channel = store.channel

    def attempt_to_send(item: T) -> Any:
        return _attempt(item, path_of, send, item)

    for item, ref in sent_ahead(items, attempt_to_send, BATCHES_IN_FLIGHT if path_of is None else IN_FLIGHT):
        yield item, ref if isinstance(ref, Exception) else _attempt(item, path_of, channel.result, ref)


def _attempt(item: T, path_of: Callable[[T], str] | None, ask: Callable[[Any], Any], argument: Any) -> Any:
    """Give an answer, or the error in its place."""
    try:
        with os_errors("" if path_of is None else path_of(item)):
            return ask(argument)
    except (MorphMLRayError, OSError) as error:
        return error
