"""The cache contract in the memory of one process."""

import heapq
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from morphml_ray.cache.contract import (
    CacheCounters,
    CacheStatistics,
    check_counter,
    check_ttl,
    encode_key,
)
from morphml_ray.cache.glob import Glob
from morphml_ray.errors import BackendUnavailable, NotFoundError, ValidationError

DEFAULT_MAX_BYTES = 256 * 1024 * 1024
# What CPython takes for an entry beside its name and value: dictionary slot, tuple, object headers.
ENTRY_OVERHEAD_BYTES = 250
_DELETED_AT_ONCE = 1000
_REMEMBERED_OPERATIONS = 10_000
_COUNTER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


class _Entry(NamedTuple):
    value: bytes
    expires_at: float | None


class MemoryCache:
    """``Cache`` in memory: the keys that were used last stay, as many as fit.

    Args:
        max_bytes: what names, values and the entries themselves may take.
        clock: gives the time in seconds; it never goes back.
    """

    def __init__(self, *, max_bytes: int = DEFAULT_MAX_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._is_open = False
        self._counters = CacheCounters()
        self._evictions = 0
        self._operations: OrderedDict[str, int] = OrderedDict()
        self._forget_all()

    def open(self) -> None:
        """See ``Cache.open``."""
        with self._lock:
            self._is_open = True

    def close(self) -> None:
        """See ``Cache.close``."""
        with self._lock:
            self._is_open = False
            self._operations.clear()
            self._forget_all()

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """See ``Cache.get``."""
        with self._now() as now:
            values = [entry.value if (entry := self._use(key, now)) else None for key in keys]
        self._counters.count_reads(values)
        return values

    def set(self, items: Sequence[tuple[str, bytes]], ttl_s: float | None) -> int:
        """See ``Cache.set``."""
        check_ttl(ttl_s)
        with self._now() as now:
            expires_at = None if ttl_s is None else now + ttl_s
            taken = sum(self._put(key, _Entry(bytes(value), expires_at), now) for key, value in items)
        self._counters.count_dropped(len(items) - taken)
        return taken

    def delete(self, keys: Sequence[str]) -> int:
        """See ``Cache.delete``."""
        with self._now() as now:
            return self._delete(keys, now)

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """See ``Cache.exists``."""
        with self._now() as now:
            return [self._find(key, now) is not None for key in keys]

    def increment(self, key: str, amount: int, operation_id: str) -> int | None:
        """See ``Cache.increment``."""
        check_counter(key, amount)
        with self._now() as now:
            if operation_id in self._operations:
                return self._operations[operation_id]
            entry = self._find(key, now) or _Entry(b"0", None)
            total = check_counter(key, _read_counter(key, entry.value) + amount)
            is_taken = self._put(key, _Entry(b"%d" % total, entry.expires_at), now)
            if is_taken:
                self._remember(operation_id, total)
        self._counters.count_dropped(not is_taken)
        return total if is_taken else None

    def ttl_s(self, key: str) -> float | None:
        """See ``Cache.ttl_s``."""
        with self._now() as now:
            entry = self._find(key, now)
        if entry is None:
            raise NotFoundError(f"memory:// has no key {key!r}")
        return None if entry.expires_at is None else entry.expires_at - now

    def delete_matching(self, pattern: str) -> int:
        """See ``Cache.delete_matching``."""
        glob = Glob(encode_key(pattern))
        return self._delete_where(lambda key: glob.matches(encode_key(key)))

    def delete_prefix(self, text: str) -> int:
        """See ``Cache.delete_prefix``."""
        return self._delete_where(lambda key: key.startswith(text))

    def clear(self) -> int:
        """See ``Cache.clear``."""
        with self._now() as now:
            self._expire(now)
            number = len(self._entries)
            self._forget_all()
        return number

    def statistics(self) -> CacheStatistics:
        """See ``Cache.statistics``."""
        with self._now() as now:
            self._expire(now)
            num_keys = len(self._entries)
            size_bytes = self._used_bytes - num_keys * ENTRY_OVERHEAD_BYTES
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

    @contextmanager
    def _now(self) -> Iterator[float]:
        """Hold the lock, and give the time."""
        with self._lock:
            if not self._is_open:
                raise BackendUnavailable("memory:// is not open")
            yield self._clock()

    # What follows is called with the lock held.

    def _forget_all(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._expiries: list[tuple[float, str]] = []
        self._used_bytes = 0

    def _find(self, key: str, now: float) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.expires_at is not None and entry.expires_at <= now:
            self._remove(key)
            return None
        return entry

    def _use(self, key: str, now: float) -> _Entry | None:
        entry = self._find(key, now)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def _put(self, key: str, entry: _Entry, now: float) -> bool:
        """Write one entry; one that could never fit is dropped, and so is the value that it would replace."""
        self._remove(key)
        size_bytes = _size_bytes(key, entry)
        if size_bytes > self._max_bytes:
            self._counters.count_error(f"a value of {len(entry.value)} bytes does not fit into {self._max_bytes}")
            return False
        self._make_room(size_bytes, now)
        self._entries[key] = entry
        self._used_bytes += size_bytes
        if entry.expires_at is not None:
            heapq.heappush(self._expiries, (entry.expires_at, key))
            self._compact_expiries()
        return True

    def _remember(self, operation_id: str, total: int) -> None:
        self._operations[operation_id] = total
        if len(self._operations) > _REMEMBERED_OPERATIONS:
            self._operations.popitem(last=False)

    def _make_room(self, size_bytes: int, now: float) -> None:
        if self._used_bytes + size_bytes > self._max_bytes:
            self._expire(now)
        while self._used_bytes + size_bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))
            self._evictions += 1

    def _remove(self, key: str) -> bool:
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self._used_bytes -= _size_bytes(key, entry)
        return True

    def _expire(self, now: float) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            _, key = heapq.heappop(self._expiries)
            # The key may have been written again since.
            self._find(key, now)

    def _compact_expiries(self) -> None:
        """Keep the heap from growing where the same keys are written again and again."""
        if len(self._expiries) > 2 * len(self._entries) + _DELETED_AT_ONCE:
            self._expiries = [
                (entry.expires_at, key) for key, entry in self._entries.items() if entry.expires_at is not None
            ]
            heapq.heapify(self._expiries)

    def _delete(self, keys: Iterable[str], now: float) -> int:
        return sum(self._find(key, now) is not None and self._remove(key) for key in keys)

    # And what follows without it.

    def _delete_where(self, is_meant: Callable[[str], bool]) -> int:
        """Delete keys in portions, so that others get their turn."""
        with self._now():
            keys = list(self._entries)
        meant = filter(is_meant, keys)
        number = 0
        while portion := list(islice(meant, _DELETED_AT_ONCE)):
            with self._now() as now:
                number += self._delete(portion, now)
        return number


def _size_bytes(key: str, entry: _Entry) -> int:
    return len(encode_key(key)) + len(entry.value) + ENTRY_OVERHEAD_BYTES


def _read_counter(key: str, value: bytes) -> int:
    if not _COUNTER.fullmatch(value):
        raise ValidationError(f"The value of {key!r} is no integer: it cannot be incremented")
    return check_counter(key, int(value))
