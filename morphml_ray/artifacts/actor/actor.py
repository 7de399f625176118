"""The actor in front of the artifacts, one on each node."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, Concatenate, TypeAlias, TypeVar, cast

from typing_extensions import Buffer, ParamSpec

from morphml_ray.artifacts.actor.admission import Admission, Transfer
from morphml_ray.artifacts.actor.backend_access import BackendAccess
from morphml_ray.artifacts.actor.batches import (
    FIRST_READ_BYTES,
    LARGE_REMEDY,
    Batch,
    Budget,
    ObjectRange,
    copy_all,
    copy_one,
    deal,
    get_all,
    get_ranges,
    get_whole,
    look_at_all,
    put_all,
    put_one,
    write_options,
)
from morphml_ray.artifacts.actor.file_proof import FileProof
from morphml_ray.artifacts.actor.write_memory import WriteMemory
from morphml_ray.artifacts.checks import MAX_BATCH_BYTES, WriteRequest, check_call_bytes
from morphml_ray.artifacts.contract import ArtifactBackend, UploadId
from morphml_ray.artifacts.wire import (
    OutgoingBatch,
    OutgoingBytes,
    OutgoingFolder,
    OutgoingListing,
    OutgoingObjects,
    OutgoingRanges,
    describe_object,
)
from morphml_ray.config import BackendUrl, fingerprint
from morphml_ray.rpc.call import can_overload, in_group
from morphml_ray.rpc.description import PROTOCOL_VERSION, ActorDescription

THREADS = 8
LOOKUP_THREADS = 4
WALK_THREADS = 2

LOOKUPS, WALKS = "lookups", "walks"
"""Groups of calls: however many transfers wait, these are answered. All transfers share one event loop."""

Item = TypeVar("Item")
T = TypeVar("T")
P = ParamSpec("P")
BatchWork: TypeAlias = Callable[[Sequence[Item], ArtifactBackend, Transfer], T]


@dataclass(frozen=True)
class ArtifactSettings:
    """What an artifact actor is made of; holds references to secrets, never secrets.

    Attributes:
        url: of a bucket or a directory.
        deadline_s: how long an outage is waited out, seconds.
        home_node: the node that alone has the directory, or the file with the secret; None where any node has what
            it needs.
    """

    url: BackendUrl
    deadline_s: float
    home_node: str | None = None

    def describe(self) -> ActorDescription:
        """Tell what an actor of these settings serves."""
        return ActorDescription(PROTOCOL_VERSION, fingerprint(self.url), self.url, self.deadline_s)


class ArtifactActor:
    """Moves objects between the processes of its node and the store.

    Payloads arrive and leave in shared memory; files that it sees are read and written in place. The constructor
    touches neither disk nor network; the first call opens the store.

    Args:
        settings: see ``ArtifactSettings``.
    """

    def __init__(self, settings: ArtifactSettings) -> None:
        self._settings = settings
        self._access = BackendAccess(settings.url, settings.deadline_s, has_home=settings.home_node is not None)
        self._admission = Admission()
        self._memory = WriteMemory()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="morphml-transfer")
        # Of their own, so that nobody who asks whether an object exists waits for a large upload.
        self._lookups = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="morphml-lookup")
        # And nobody waits for those who walk over thousands of keys.
        self._walks = ThreadPoolExecutor(WALK_THREADS, thread_name_prefix="morphml-walk")
        self._started_at = time.time()

    async def describe(self) -> ActorDescription:
        """Tell what this actor serves, without opening it."""
        return self._settings.describe()

    async def settings(self) -> ArtifactSettings:
        """Give what actors of other nodes are made of."""
        return self._settings

    async def ready(self) -> None:
        """Open the store now.

        Raises:
            ConfigurationError: no waiting helps.
            BackendUnavailable: it stayed unavailable for the deadline.
        """
        await self._with_store(lambda _: None)

    async def verify(self, url: BackendUrl) -> None:
        """Check what somebody else states of the store that this actor serves.

        Raises:
            ConfigurationError: with that nobody is let in.
            BackendUnavailable: the store does not answer.
        """
        await asyncio.get_running_loop().run_in_executor(self._lookups, self._access.verify, url)

    # Bytes

    @can_overload
    async def put(self, write: WriteRequest, data: Buffer, patience_s: float = 0.0) -> str:
        """Store bytes, gives the key; see ``ArtifactBackend.put``.

        Args:
            write: what it becomes; its id makes a repeated call harmless.
            data: the bytes, never copied as a whole.
            patience_s: how long to wait for a place while no other transfer ends.

        Raises:
            Overloaded: there was no place; nothing was taken.
        """
        view = memoryview(data)
        return await self._transfer(
            lambda backend, _: put_one(self._memory, write, view, backend), view.nbytes, patience_s
        )

    async def get(self, key: str, offset: int, length: int | None, version: str | None = None) -> OutgoingBytes:
        """Read an object or a range of it; see ``ArtifactBackend.get``."""
        if length is not None and length <= MAX_BATCH_BYTES:
            return OutgoingBytes(await self._read(key, offset, length, version))
        data = await self._read(key, offset, FIRST_READ_BYTES, version)
        if len(data) < FIRST_READ_BYTES:
            return OutgoingBytes(data)
        info = await self.look_up(ArtifactBackend.head, key)
        left_bytes = 0 if info is None else max(0, info.size_bytes - offset)
        left_bytes = left_bytes if length is None else min(left_bytes, length)
        check_call_bytes(left_bytes, key, LARGE_REMEDY)
        if info is not None and left_bytes == info.size_bytes and version is None:
            size_bytes = info.size_bytes
            whole = await self._transfer(partial(get_whole, key, size_bytes), size_bytes, self._settings.deadline_s)
            return OutgoingBytes(*whole)
        return OutgoingBytes(await self._read(key, offset, left_bytes, version or (info and info.version)))

    async def _read(self, key: str, offset: int, length: int, version: str | None) -> bytes:
        return await self._transfer(
            lambda backend, _: backend.get(key, offset, length, version), length, self._settings.deadline_s
        )

    # Many small objects at once

    @can_overload
    async def put_multiple(
        self, writes: Sequence[WriteRequest], data: Sequence[Buffer], patience_s: float = 0.0
    ) -> list[str]:
        """Store objects, gives their keys; see ``put``."""
        objects = [(write, memoryview(each)) for write, each in zip(writes, data, strict=True)]
        await self._share(partial(put_all, self._memory), objects, sum(view.nbytes for _, view in objects), patience_s)
        return [write.key for write in writes]

    async def get_multiple(self, keys: Sequence[str]) -> OutgoingObjects:
        """Read whole objects, of a bounded size together; those that are missing are left out.

        Raises:
            ValidationError: they are too large; nothing of that is held.
        """
        batch = await self._look_at(keys)
        found: dict[str, list[Buffer]] = {key: [data] for key, data in batch.small.items()}
        if batch.large_bytes:
            # Read once more, together: now it is known for how much there must be a place.
            sizes = {key: len(data) for key, data in batch.small.items()} | batch.large_bytes
            size_bytes = batch.size_bytes
            del batch, found
            Budget().take(size_bytes)
            work = partial(get_all, Budget())
            parts = await self._share(work, list(sizes.items()), size_bytes, self._settings.deadline_s)
            found = {key: data for part in parts for key, data in part.items()}
        return OutgoingObjects({key: found[key] for key in keys if key in found})

    async def get_ranges(self, ranges: Sequence[ObjectRange]) -> OutgoingRanges:
        """Read ranges of objects, in order; None for those whose object is missing."""
        size_bytes = sum(length for _, _, length in ranges)
        check_call_bytes(size_bytes, "these ranges", "ask for fewer at once")
        found = await self._share(get_ranges, list(enumerate(ranges)), size_bytes, self._settings.deadline_s)
        return OutgoingRanges([data for _, data in sorted(chain.from_iterable(found), key=itemgetter(0))])

    async def copy_multiple(self, pairs: Sequence[tuple[str, WriteRequest]]) -> list[str]:
        """Copy objects inside the store; gives the new keys, without those whose source is missing."""
        return list(chain.from_iterable(await self._share(partial(copy_all, self._memory), pairs, 0, 0.0)))

    async def get_small(self, keys: Sequence[str]) -> OutgoingBatch:
        """Read objects below ``FIRST_READ_BYTES``, and name the larger ones; those that are missing are left out."""
        batch = await self._look_at(keys)
        return OutgoingBatch({key: batch.small[key] for key in keys if key in batch.small}, list(batch.large_bytes))

    async def _look_at(self, keys: Sequence[str]) -> Batch:
        most_bytes = min(len(keys) * FIRST_READ_BYTES, MAX_BATCH_BYTES)
        parts = await self._share(partial(look_at_all, Budget()), keys, most_bytes, self._settings.deadline_s)
        whole = Batch({}, {})
        for part in parts:
            whole.small.update(part.small)
            whole.large_bytes.update(part.large_bytes)
        return whole

    async def _share(
        self,
        work: BatchWork[Item, T],
        items: Sequence[Item],
        size_bytes: int,
        patience_s: float,
    ) -> list[T]:
        """Let all threads have a part of a batch; gives their results."""
        async with self._admission.admitted(size_bytes, patience_s) as transfer:
            runs = [self._access.run(partial(work, part), transfer, self._threads) for part in deal(items, THREADS)]
            results = await asyncio.gather(*runs, return_exceptions=True)
        failed = next((result for result in results if isinstance(result, BaseException)), None)
        if failed is not None:
            raise failed
        return cast("list[T]", results)

    # Files

    @in_group(LOOKUPS)
    async def sees(self, proof: FileProof) -> bool:
        """Tell whether a file of the caller is one of this process, too."""
        return await asyncio.get_running_loop().run_in_executor(self._lookups, proof.holds_here)

    async def put_file(self, write: WriteRequest, path: str, name: str) -> str:
        """Store a file that this process sees, streamed, gives the key; see ``ArtifactBackend.put_file``.

        Args:
            write: what it becomes.
            path: of the file.
            name: of the transfer, for ``progress``.
        """
        return await self._transfer(
            lambda backend, transfer: self._memory.put(
                backend,
                write,
                lambda: backend.put_file(write.key, path, progress=transfer.advance, **write_options(write)),
            ),
            name=name,
        )

    async def get_file(self, key: str, path: str, name: str) -> str:
        """Write an object to a file that this process sees, streamed, gives the path."""
        await self._transfer(
            lambda backend, transfer: backend.get_file(key, path, transfer.advance, sync=False),
            name=name,
        )
        return path

    async def progress(self, name: str = "") -> tuple[int, float]:
        """Tell how many bytes a named transfer has moved, and for how many seconds nothing at all has."""
        return self._admission.moved_bytes(name), min(self._admission.stalled_s(), self._access.silent_s())

    # Chunks, from where this process sees no files

    async def begin_upload(self, write: WriteRequest, chunk_bytes: int, checksum: str | None) -> UploadId:
        """Begin to store what arrives in chunks; see ``ArtifactBackend.begin_upload``."""
        return await self._with_store(
            lambda backend: backend.begin_upload(
                write.key, chunk_bytes=chunk_bytes, checksum=checksum, **write_options(write)
            )
        )

    @can_overload
    async def upload_chunk(self, upload: UploadId, index: int, data: Buffer, patience_s: float = 0.0) -> None:
        """Take a chunk; see ``ArtifactBackend.upload_chunk``."""
        view = memoryview(data)
        await self._transfer(lambda backend, _: backend.upload_chunk(upload, index, view), view.nbytes, patience_s)

    async def finish_upload(self, upload: UploadId) -> str:
        """Make the object appear, gives its key; see ``ArtifactBackend.finish_upload``."""
        return await self._transfer(lambda backend, _: backend.finish_upload(upload).key)

    async def is_settled(self, write: WriteRequest) -> bool:
        """Tell whether a write whose answer was lost has happened; see ``WriteMemory``."""
        return await self._with_store(lambda backend: self._memory.is_settled(backend, write))

    # Objects

    @in_group(LOOKUPS)
    async def look_up(
        self, operation: Callable[Concatenate[ArtifactBackend, P], T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """Run an operation of the store on one object that moves none of its bytes."""
        return await self._with_store(lambda backend: getattr(backend, operation.__name__)(*arguments, **named))

    @in_group(WALKS)
    async def walk(
        self, operation: Callable[Concatenate[ArtifactBackend, P], T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """Run an operation of the store over all objects below a prefix."""
        return await self._with_store(
            lambda backend: getattr(backend, operation.__name__)(*arguments, **named), self._walks
        )

    @in_group(LOOKUPS)
    async def metadata(self, key: str) -> dict[str, Any] | None:
        """Describe an object; None where there is none."""
        info = await self.look_up(ArtifactBackend.head, key)
        return None if info is None else describe_object(info)

    @in_group(LOOKUPS)
    async def delete(self, key: str, write_id: str) -> bool:
        """Delete an object; see ``ArtifactBackend.delete``."""
        return await self._with_store(lambda backend: self._memory.delete(backend, key, write_id))

    @in_group(WALKS)
    async def delete_prefix(self, prefix: str, write_id: str) -> int:
        """Delete what is below a prefix; see ``ArtifactBackend.delete_prefix``."""
        return await self._with_store(
            lambda backend: self._memory.delete_prefix(backend, prefix, write_id), self._walks
        )

    async def copy(self, source: str, write: WriteRequest) -> str:
        """Copy an object inside the store; gives its new key."""
        return await self._transfer(lambda backend, _: copy_one(self._memory, source, write, backend))

    @in_group(WALKS)
    async def list_objects(self, prefix: str, limit: int | None) -> OutgoingListing:
        """List objects; see ``ArtifactBackend.list``."""
        return await self._with_store(lambda backend: OutgoingListing(backend.list(prefix, limit=limit)), self._walks)

    @in_group(WALKS)
    async def list_folder(self, prefix: str) -> OutgoingFolder:
        """List what is directly below a prefix; see ``ArtifactBackend.list_folder``."""
        return await self._with_store(lambda backend: OutgoingFolder(backend.list_folder(prefix)), self._walks)

    @in_group(WALKS)
    async def list_keys(self, prefix: str) -> list[str]:
        """List keys; see ``ArtifactBackend.list``."""
        return await self._with_store(lambda backend: [info.key for info in backend.list(prefix)], self._walks)

    # Itself

    async def flush(self) -> None:
        """Return when all transfers have ended that are under way now."""
        await self._admission.flush()

    async def health(self) -> dict[str, Any]:
        """Tell the actor's status; asks no server."""
        return {
            "place": self._settings.url.masked,
            "pid": os.getpid(),
            "started_at": self._started_at,
            **self._access.status(),
            **self._admission.status(),
        }

    async def close(self) -> None:
        """Finish what is under way, and close all connections."""
        self._access.stop_trying()
        await self._admission.flush()
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._lookups.shutdown(wait=True, cancel_futures=True)
        self._walks.shutdown(wait=True, cancel_futures=True)
        self._access.close()

    async def _with_store(self, work: Callable[[ArtifactBackend], T], threads: ThreadPoolExecutor | None = None) -> T:
        return await self._access.run(lambda backend, _: work(backend), Transfer(0), threads or self._lookups)

    async def _transfer(
        self,
        work: Callable[[ArtifactBackend, Transfer], T],
        size_bytes: int = 0,
        patience_s: float = 0.0,
        name: str | None = None,
    ) -> T:
        async with self._admission.admitted(size_bytes, patience_s, name) as transfer:
            return await self._access.run(work, transfer, self._threads)
