"""The cache contract in the memory of one process."""

import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import cachetools

from morphml_ray.cache.contract import (
    CacheCounters,
    CacheStatistics,
    SizeLimit,
    check_counter,
    check_ttl,
    encode_key,
)
from morphml_ray.cache.glob import Glob
from morphml_ray.errors import BackendUnavailable, NotFoundError, ValidationError

DEFAULT_MAX_BYTES = 256 * 1024 * 1024
# What CPython takes for an entry beside its name and value, measured: the slots of three dictionaries, tuple, object
# headers, and the place in the queue of what runs out, which what was replaced keeps for a while.
ENTRY_OVERHEAD_BYTES = 600
_DELETED_AT_ONCE = 1000
_REMEMBERED_OPERATIONS = 10_000
_COUNTER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


class _Entry(NamedTuple):
    value: bytes
    expires_at: float
    size_bytes: int


class MemoryCache:
    """``Cache`` in memory: the keys that were used last stay, as many as fit.

    Args:
        max_bytes: what names, values and the entries themselves may take.
        clock: gives the time in seconds; it never goes back.
    """

    def __init__(self, *, max_bytes: int = DEFAULT_MAX_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self.size_limit = SizeLimit(
            max_bytes - ENTRY_OVERHEAD_BYTES,
            f"memory:// holds {max_bytes:,} bytes in all; the cache's URL memory://?max_bytes= sets how much",
        )
        self._clock = clock
        self._now_s = clock()
        self._lock = threading.Lock()
        self._is_open = False
        self._counters = CacheCounters()
        self._evictions = 0
        self._operations: cachetools.FIFOCache[str, int] = cachetools.FIFOCache(_REMEMBERED_OPERATIONS)
        self._entries: cachetools.TLRUCache[str, _Entry, float] = cachetools.TLRUCache(
            max_bytes,
            ttu=lambda _key, entry, _now: entry.expires_at,
            timer=lambda: self._now_s,
            getsizeof=lambda entry: entry.size_bytes,
        )

    @property
    def outage(self) -> None:
        """See ``Cache.outage``: memory is always there."""

    def open(self) -> None:
        """See ``Cache.open``."""
        with self._lock:
            self._is_open = True

    def close(self) -> None:
        """See ``Cache.close``."""
        with self._lock:
            self._is_open = False
            self._operations.clear()
            self._entries.clear()

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """See ``Cache.get``."""
        with self._turn():
            values = [entry.value if (entry := self._entries.get(key)) else None for key in keys]
        self._counters.count_reads(values)
        return values

    def set(self, items: Sequence[tuple[str, bytes]], ttl_s: float | None) -> int:
        """See ``Cache.set``."""
        check_ttl(ttl_s)
        with self._turn() as now:
            expires_at = math.inf if ttl_s is None else now + ttl_s
            taken = sum(self._put(key, bytes(value), expires_at) for key, value in items)
        self._counters.count_dropped(len(items) - taken)
        return taken

    def delete(self, keys: Sequence[str]) -> int:
        """See ``Cache.delete``."""
        with self._turn():
            return sum(self._entries.pop(key, None) is not None for key in keys)

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """See ``Cache.exists``."""
        with self._turn():
            return [key in self._entries for key in keys]

    def increment(self, key: str, amount: int, operation_id: str) -> int | None:
        """See ``Cache.increment``."""
        check_counter(key, amount)
        with self._turn():
            if operation_id in self._operations:
                return self._operations[operation_id]
            entry = self._peek(key)
            value, expires_at = (entry.value, entry.expires_at) if entry else (b"0", math.inf)
            total = check_counter(key, _read_counter(key, value) + amount)
            is_taken = self._put(key, b"%d" % total, expires_at)
            if is_taken:
                self._operations[operation_id] = total
        self._counters.count_dropped(not is_taken)
        return total if is_taken else None

    def ttl_s(self, key: str) -> float | None:
        """See ``Cache.ttl_s``."""
        with self._turn() as now:
            entry = self._peek(key)
        if entry is None:
            raise NotFoundError(f"memory:// has no key {key!r}")
        return None if entry.expires_at == math.inf else entry.expires_at - now

    def delete_matching(self, pattern: str) -> int:
        """See ``Cache.delete_matching``."""
        glob = Glob(encode_key(pattern))
        return self._delete_where(lambda key: glob.matches(encode_key(key)))

    def delete_prefix(self, text: str) -> int:
        """See ``Cache.delete_prefix``."""
        return self._delete_where(lambda key: key.startswith(text))

    def clear(self) -> int:
        """See ``Cache.clear``."""
        with self._turn():
            number = len(self._entries)
            self._entries.clear()
        return number

    def statistics(self) -> CacheStatistics:
        """See ``Cache.statistics``."""
        with self._turn():
            num_keys = len(self._entries)
            size_bytes = int(self._entries.currsize) - num_keys * ENTRY_OVERHEAD_BYTES
        return {
            "backend": "memory",
            "is_available": True,
            "hits": self._counters.hits,
            "misses": self._counters.misses,
            "hit_rate": self._counters.hit_rate,
            "num_keys": num_keys,
            "size_bytes": size_bytes,
            "max_bytes": self._max_bytes,
            "evictions": self._evictions,
            "dropped_writes": self._counters.dropped_writes,
            "errors": self._counters.errors,
            "outages": 0,
            "last_error": self._counters.last_error,
        }

    def _delete_where(self, is_meant: Callable[[str], bool]) -> int:
        """Delete keys in portions, so that others get their turn."""
        with self._turn():
            # Those that ran out too: to tell them apart takes longer than the others should wait.
            keys = list(cachetools.Cache.__iter__(self._entries))
        meant = filter(is_meant, keys)
        number = 0
        while portion := list(islice(meant, _DELETED_AT_ONCE)):
            number += self.delete(portion)
        return number

    @contextmanager
    def _turn(self) -> Iterator[float]:
        """Hold the lock, and the time, which it gives."""
        with self._lock:
            if not self._is_open:
                raise BackendUnavailable("memory:// is not open")
            self._now_s = self._clock()
            yield self._now_s

    # What follows is called with the lock held.

    def _peek(self, key: str) -> _Entry | None:
        """Give an entry without using it: it goes no later."""
        return cachetools.Cache.__getitem__(self._entries, key) if key in self._entries else None

    def _put(self, key: str, value: bytes, expires_at: float) -> bool:
        """Write one entry; one that could never fit is dropped, and so is the value that it would replace."""
        self._entries.pop(key, None)
        size_bytes = len(encode_key(key)) + len(value) + ENTRY_OVERHEAD_BYTES
        if size_bytes > self._max_bytes:
            self._counters.count_error(f"a value of {len(value)} bytes does not fit into {self._max_bytes}")
            return False
        while self._entries.currsize + size_bytes > self._max_bytes:
            self._entries.popitem()
            self._evictions += 1
        self._entries[key] = _Entry(value, expires_at, size_bytes)
        return True


def _read_counter(key: str, value: bytes) -> int:
    if not _COUNTER.fullmatch(value):
        raise ValidationError(f"The value of {key!r} is no integer: it cannot be incremented")
    return check_counter(key, int(value))
