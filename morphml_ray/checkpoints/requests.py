"""What the protocol asks of whoever has a store, and what it is answered.

Everything that the log does is a generator of requests: it yields one, is sent the answer, and returns its result.
It never waits, never reads a clock and holds no connection, so an actor drives it against a real store and a test
against one that loses answers, with the same steps in between. ``drive`` is the loop in its plainest form.

Where a request cannot be answered, the error is thrown into the generator (``BackendUnavailable``), after whatever
patience its driver has. A ``Put`` alone has an answer for that: what happened to it matters.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple, TypeAlias, TypeVar

from morphml_ray.checkpoints.manifest import Entry
from morphml_ray.checkpoints.names import ChunkName
from morphml_ray.errors import MorphMLRayError

T = TypeVar("T")


@dataclass(frozen=True)
class Put:
    """Make an object where there is none, in one single PUT, never multipart: answered by ``PutAnswer``.

    It may be repeated with the same key, data and write id only.

    Attributes:
        key: of the object.
        data: all of it.
        write_id: stamps it.
    """

    key: str
    data: bytes
    write_id: str


class PutAnswer(Enum):
    """What became of a ``Put``."""

    CREATED = "created"
    """The object was made by this write, or by an earlier try of it."""

    EXISTS = "exists"
    """There is one already (412); whether by an earlier try of this write need not be known."""

    AGAIN = "again"
    """Nothing was decided: the server met several writers at once (409)."""

    UNKNOWN = "unknown"
    """No answer, or none that tells: it may have happened, or may still happen."""


@dataclass(frozen=True)
class Get:
    """Read a whole object: answered by its bytes, or None where there is none.

    What the store itself finds damaged is a ``CorruptDataError``, thrown.
    """

    key: str


@dataclass(frozen=True)
class List:
    """List all objects whose keys begin with ``prefix``, in any order: answered by an iterable of ``Listed``."""

    prefix: str


class Listed(NamedTuple):
    """What a listing says of an object.

    Attributes:
        key: of the object.
        size_bytes: how large it is.
        modified_at: when it was written, by the clock of the store.
    """

    key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True)
class Delete:
    """Delete objects; one that is not there is no error. The answer is None."""

    keys: tuple[str, ...]


@dataclass(frozen=True)
class Upload:
    """Store chunks of the checkpoint that is being saved, each whole, replacing what is there.

    Answered, when all are durable, by the size of each object.
    """

    names: tuple[ChunkName, ...]


@dataclass(frozen=True)
class UploadTable:
    """The same for chunks of its table, whose content stands here."""

    contents: Mapping[ChunkName, bytes]


@dataclass(frozen=True)
class Fetch:
    """Read and verify all chunks of a checkpoint that is being loaded.

    Answered by None where all is good. A chunk that is not there, or whose content is another, is a ``NotFoundError``
    or a ``CorruptDataError``, thrown.
    """

    entry: Entry


Request: TypeAlias = Put | Get | List | Delete | Upload | UploadTable | Fetch
Steps: TypeAlias = Generator[Request, Any, T]
"""Requests on the way to a ``T``."""


def drive(steps: Steps[T], perform: Callable[[Request], Any]) -> T:
    """Go through all steps.

    Args:
        steps: of one operation.
        perform: answers a request, or raises an error of ``morphml_ray``.

    Returns:
        What the operation gives; its errors are raised.
    """
    request = next_request(steps, None)
    while isinstance(request, Request):
        try:
            answer: Any = perform(request)
        except MorphMLRayError as error:
            answer = error
        request = next_request(steps, answer)
    result: T = request.value
    return result


class Done(NamedTuple):
    """The result of an operation that has ended."""

    value: Any


def next_request(steps: Steps[Any], answer: Any) -> Request | Done:
    """Hand over one answer, or an error in its place, and give what is asked next, or the result.

    Args:
        steps: of one operation.
        answer: to the request before; None at the start.
    """
    try:
        return steps.throw(answer) if isinstance(answer, MorphMLRayError) else steps.send(answer)
    except StopIteration as end:
        return Done(end.value)


def listed(prefix: str) -> Steps[list[Listed]]:
    """Ask for a listing."""
    found: Iterable[Listed] = yield List(prefix)
    return [item for item in found if item.key.startswith(prefix)]


def got(key: str) -> Steps[bytes | None]:
    """Ask for an object."""
    data: bytes | None = yield Get(key)
    return data
