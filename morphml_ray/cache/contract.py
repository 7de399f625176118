"""The contract that caches fulfil, and what they have in common."""

import math
import threading
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, TypedDict

from morphml_ray.errors import ValidationError

_MAX_TTL_S = 1e11  # 3,000 years; Redis counts milliseconds in 64 bits, from 1970 on
_INT64 = range(-(2**63), 2**63)


class CacheStatistics(TypedDict):
    """What a cache tells about itself; one object counts from its making, of its own prefix only.

    Attributes:
        backend: the technology.
        is_available: whether the server answered last time; a cache in memory always does.
        hits: keys that were read and found.
        misses: keys that were read and not found.
        hit_rate: of all keys that were read, in percent; 0.0 before the first.
        num_keys: how many there are now; None where counting would take long, or the server is unavailable.
        size_bytes: of their names and values; None where that would take long.
        max_bytes: how much the cache may hold; None where its server decides.
        evictions: keys that went because others needed the room; None where its server decides.
        dropped_writes: keys that were not written or deleted, because the server was unavailable or refused, or the
            value was too large.
        errors: calls that the server did not answer, and commands that it refused.
        outages: how often the server became unavailable.
        last_error: what the latest error was, or None.
    """

    backend: Literal["redis", "memory"]
    is_available: bool
    hits: int
    misses: int
    hit_rate: float
    num_keys: int | None
    size_bytes: int | None
    max_bytes: int | None
    evictions: int | None
    dropped_writes: int
    errors: int
    outages: int
    last_error: str | None


class SizeLimit(NamedTuple):
    """How large a name and its value may be together.

    Attributes:
        size_bytes: what is larger is never kept.
        reason: the limit, and what the user sets to have another one, in words.
    """

    size_bytes: int
    reason: str


class Cache(Protocol):
    """Bytes under names, for a while; whatever is in it may be gone at any time.

    Names are texts without a prefix: each cache has one of its own and never sees, changes or deletes what
    belongs to another, also where one prefix begins like the other. Values are opaque; a counter is kept as
    decimal text in ASCII, so that ``get`` reads what ``increment`` wrote, and the other way round.

    Methods block and can be called from several threads. While the server is unavailable or refuses, nothing is raised:
    reads find nothing, writes are dropped and counted. A key whose write or deletion was dropped does not come
    back with its older value once the server answers again.

    Attributes:
        size_limit: what is larger is dropped, also where the server answers.
        outage: why the server is unavailable; None where it answers. Asks nobody.
    """

    size_limit: SizeLimit

    @property
    def outage(self) -> str | None:
        """See the class."""

    def open(self) -> None:
        """Connect; a server that does not answer now is an outage, and no error. Does nothing where it is open.

        Raises:
            ConfigurationError: no waiting helps: a wrong password or database number, another kind of server.
        """

    def close(self) -> None:
        """Close all connections, or free all memory; ``open`` may follow.

        Until then, the other methods raise ``BackendUnavailable``.
        """

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read the values of all keys in one round trip; None where there is none."""

    def set(self, items: Sequence[tuple[str, bytes]], ttl_s: float | None) -> int:
        """Write all items in one round trip, replacing what was there; gives how many the cache took.

        Args:
            items: names and values; of a name that comes twice the last value stays.
            ttl_s: how long they are kept at most; None sets no limit.

        Raises:
            ValidationError: the time is not above zero, or not finite.
        """

    def delete(self, keys: Sequence[str]) -> int:
        """Delete keys in one round trip; gives how many were there."""

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """Tell of each key whether it is there, in one round trip; neither a hit nor a miss."""

    def increment(self, key: str, amount: int, operation_id: str) -> int | None:
        """Add to a counter, which begins at 0 and keeps its time to live; atomic.

        A call may be repeated, because its answer was lost: it is counted once, and answered as it was the first time.

        Args:
            key: of the counter.
            amount: what is added.
            operation_id: one that no other call has; it is remembered for ten minutes, or ten thousand calls.

        Returns:
            Its new value; None where the server is unavailable or refuses: then it is unknown.

        Raises:
            ValidationError: the value is no integer, or the sum does not fit into 64 bits.
        """

    def ttl_s(self, key: str) -> float | None:
        """Give the seconds that a key has left; None for one without a limit.

        Raises:
            NotFoundError: there is no such key, as far as this cache knows.
        """

    def delete_matching(self, pattern: str) -> int:
        r"""Delete all keys that match a pattern of Redis; gives how many there were.

        Args:
            pattern: ``*`` is any text, ``?`` any byte of its UTF-8 form, ``[a-c]`` and ``[^a-c]`` are one byte
                among these or not, with ranges of ASCII only; a backslash takes the meaning away.
        """

    def delete_prefix(self, text: str) -> int:
        """Delete all keys that begin with this text, whatever it holds; gives how many there were."""

    def clear(self) -> int:
        """Delete all keys of this cache, and of no other; gives how many there were."""

    def statistics(self) -> CacheStatistics:
        """Count."""


class CacheCounters:
    """What a cache counts; safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0
        self.dropped_writes = 0
        self.errors = 0
        self.last_error: str | None = None

    @property
    def hit_rate(self) -> float:
        """Hits among all reads, in percent."""
        with self._lock:
            reads = self.hits + self.misses
            return 100.0 * self.hits / reads if reads else 0.0

    def count_reads(self, values: Sequence[bytes | None]) -> None:
        """Count what was found and what was not."""
        misses = sum(value is None for value in values)
        with self._lock:
            self.misses += misses
            self.hits += len(values) - misses

    def count_dropped(self, number: int) -> None:
        """Count writes that did not take place."""
        with self._lock:
            self.dropped_writes += number

    def count_error(self, reason: str) -> None:
        """Count a failure."""
        with self._lock:
            self.errors += 1
            self.last_error = reason


def check_ttl(ttl_s: float | None) -> float | None:
    """Give a time to live back.

    Raises:
        ValidationError: it is none.
    """
    if ttl_s is not None and not (0 < ttl_s <= _MAX_TTL_S):
        shown = "not a number" if math.isnan(ttl_s) else f"{ttl_s} s"
        raise ValidationError(
            f"The time to live is {shown}: it must be above 0 and at most {_MAX_TTL_S:.0e} s; None sets no limit"
        )
    return ttl_s


def check_counter(key: str, value: int) -> int:
    """Give the value of a counter, or what is added to it, back.

    Raises:
        ValidationError: it does not fit into 64 bits.
    """
    if value not in _INT64:
        raise ValidationError(f"The counter {key!r} cannot take this: it would not fit into 64 bits")
    return value


def encode_key(text: str) -> bytes:
    """Write a name, or a part of one, as bytes; any text, also one that is not valid Unicode."""
    return text.encode("utf-8", "surrogatepass")
