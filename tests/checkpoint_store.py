"""A store for the protocol of checkpoints, which answers one step at a time and may lose what it is told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, NamedTuple

from morphml_ray.checkpoints.changes import Stamp
from morphml_ray.checkpoints.chunks import Content, Piece
from morphml_ray.checkpoints.compression import digest_of, restore
from morphml_ray.checkpoints.manifest import Entry, Region
from morphml_ray.checkpoints.names import ChunkName, Codec, Place, place_of
from morphml_ray.checkpoints.requests import (
    Delete,
    Done,
    Fetch,
    Get,
    List,
    Listed,
    Put,
    PutAnswer,
    Request,
    Steps,
    Upload,
    UploadTable,
    next_request,
)
from morphml_ray.checkpoints.sealing import unseal
from morphml_ray.errors import BackendUnavailable, MorphMLRayError, NotFoundError
from morphml_ray.serde import SigningKey

KEY = SigningKey("a key of the tests, 32 characters")
START = datetime(2026, 11, 27, tzinfo=timezone.utc)
PLACE = place_of("search")


class Stored(NamedTuple):
    """An object."""

    data: bytes
    write_id: str
    modified_at: datetime


def payload(number: int) -> bytes:
    """The content of a chunk in these tests."""
    return bytes([number]) * 3


def content(*numbers: int) -> Content:
    """A checkpoint of some chunks; without any it is inline."""
    pieces = tuple(Piece(digest_of([payload(number)]), 3, Codec.RAW, ()) for number in numbers)
    buffers = tuple(Region(3, index, 0) for index in range(len(pieces)))
    return Content(is_pickle=False, message=Region(0, -1, 0), buffers=buffers, inline=b"", pieces=pieces)


def stamp(write_id: str, at: datetime = START) -> Stamp:
    return Stamp(write_id, at)


class Store:
    """Objects, and requests that are still on their way.

    Attributes:
        objects: by key.
        late: what will happen yet, though nobody waits for it.
        watch: is told of each entry of the log that was made, after it is there.
    """

    def __init__(self, place: Place = PLACE) -> None:
        self.place = place
        self.objects: dict[str, Stored] = {}
        self.contents = {digest_of([payload(number)]): payload(number) for number in range(256)}
        self.late: list[Callable[[], object]] = []
        self.watch: Callable[[int, Entry], object] = lambda *_: None
        self.seconds = 0
        self._read: dict[tuple[int, bytes], Entry] = {}

    def put(self, key: str, data: bytes, write_id: str = "", *, if_absent: bool = False) -> PutAnswer:
        if if_absent and key in self.objects:
            return PutAnswer.EXISTS
        self.objects[key] = Stored(data, write_id, self.tick())
        number = self.place.sequence_of(key)
        if number is not None:
            self.watch(number, self.entry(number))
        return PutAnswer.CREATED

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def tick(self) -> datetime:
        self.seconds += 1
        return START + timedelta(seconds=self.seconds)

    def entry(self, number: int) -> Entry:
        data = self.objects[self.place.entry_key(number)].data
        if (number, data) not in self._read:
            self._read[number, data] = unseal(data, self.place, number, KEY)
        return self._read[number, data]

    def numbers(self) -> list[int]:
        found = [self.place.sequence_of(key) for key in self.objects]
        return sorted(number for number in found if number is not None)

    def chunk_names(self) -> set[ChunkName]:
        return {name for key in self.objects if (name := self.place.chunk_of(key))}

    def missing(self, entry: Entry) -> list[ChunkName]:
        assert entry.state is not None
        return [chunk.name for chunk in entry.state.chunks if self.place.chunk_key(chunk.name) not in self.objects]

    def perform(self, request: Request) -> Any:
        """Answer a request as a good store does, at once."""
        process = Process(self, iter_once(request))
        while not process.is_done:
            process.step()
        return process.result()

    def run(self, steps: Steps[Any]) -> Any:
        """Go through an operation on a good day."""
        process = Process(self, steps)
        while not process.is_done:
            process.step()
        return process.result()


def iter_once(request: Request) -> Steps[Any]:
    return (yield request)


@dataclass
class Process:
    """An operation on its way; one step sends or answers a part of a request.

    Attributes:
        store: that it works on.
        steps: of the operation.
        about: what the test knows of it.
        outcome: its result or its error, when it is done.
    """

    store: Store
    steps: Steps[Any]
    about: Any = None
    outcome: Any = None
    is_done: bool = False
    _request: Request | None = None
    _parts: list[Callable[[], object]] = field(default_factory=list)
    _seen: list[Listed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._answer(None)

    def result(self) -> Any:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def step(self, fault: str = "") -> None:
        """Go one step on.

        Args:
            fault: "" for none; "lost": it happens, the answer is lost; "late": it happens later, or never; "down": it
                does not happen; "again": the server did not decide; "own": the server knows the write id.
        """
        request = self._request
        if isinstance(request, Put):
            self._answer(self._put(request, fault))
        elif fault in ("down", "late", "lost"):
            if self._parts and fault == "late":
                self.store.late.append(self._parts[0])
            elif self._parts and fault == "lost":
                self._parts[0]()
            self._answer(BackendUnavailable("the store does not answer"))
        elif isinstance(request, List):
            self._list(request)
        elif isinstance(request, Upload | UploadTable | Delete) and self._parts:
            self._parts.pop(0)()
            if not self._parts:
                self._answer(self._sizes(request))
        else:
            self._answer(self._read(request))

    def crash(self) -> None:
        self.steps.close()
        self.is_done = True
        self.outcome = None

    def _answer(self, answer: Any) -> None:
        try:
            found = next_request(self.steps, answer)
        except MorphMLRayError as error:
            self.is_done, self.outcome = True, error
            return
        if isinstance(found, Done):
            self.is_done, self.outcome = True, found.value
            return
        self._request, self._seen = found, []
        self._parts = self._parts_of(found)

    def _parts_of(self, request: Request) -> list[Callable[[], object]]:
        store = self.store
        if isinstance(request, Delete):
            return [partial(store.delete, key) for key in request.keys]
        if isinstance(request, Upload):
            return [partial(store.put, store.place.chunk_key(n), store.contents[n.digest]) for n in request.names]
        if isinstance(request, UploadTable):
            return [partial(store.put, store.place.chunk_key(n), data) for n, data in request.contents.items()]
        return []

    def _put(self, request: Put, fault: str) -> PutAnswer:
        if fault == "again":
            return PutAnswer.AGAIN
        happen = partial(self.store.put, request.key, request.data, request.write_id, if_absent=True)
        if fault == "late":
            self.store.late.append(happen)
        if fault in ("late", "down"):
            return PutAnswer.UNKNOWN
        answer = happen()
        if fault == "own" and self.store.objects[request.key].write_id == request.write_id:
            answer = PutAnswer.CREATED
        return PutAnswer.UNKNOWN if fault == "lost" else answer

    def _list(self, request: List) -> None:
        """List in two pages, ascending: what happens between them is seen where it lies ahead."""
        keys = sorted(key for key in self.store.objects if key.startswith(request.prefix))
        if not self._seen:
            keys = keys[: (len(keys) + 1) // 2]
            self._seen = [self._listed(key) for key in keys]
            if keys:
                return
        last = self._seen[-1].key if self._seen else ""
        self._answer([self._listed(key) for key in keys if key > last][::-1] + self._seen)

    def _listed(self, key: str) -> Listed:
        return Listed(key, len(self.store.objects[key].data), self.store.objects[key].modified_at)

    def _sizes(self, request: Request) -> Any:
        return dict.fromkeys(request.names, 3) if isinstance(request, Upload) else None

    def _read(self, request: Request | None) -> Any:
        if isinstance(request, Get):
            found = self.store.objects.get(request.key)
            return found.data if found else None
        if isinstance(request, Fetch):
            assert request.entry.state is not None
            for chunk in request.entry.state.chunks:
                stored = self.store.objects.get(self.store.place.chunk_key(chunk.name))
                if stored is None:
                    return NotFoundError(f"the chunk {chunk.name} is not there")
                try:
                    restore(chunk, stored.data)
                except MorphMLRayError as error:
                    return error
        return None
