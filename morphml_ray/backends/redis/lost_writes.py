"""Writes that a server may not have heard of."""

import threading
from collections.abc import Iterable
from typing import NamedTuple

MAX_KEYS = 10_000
MAX_PATTERNS = 100


class LostBatch(NamedTuple):
    """What is to be deleted before anything else is asked."""

    names: set[bytes]
    patterns: set[bytes]


class LostWrites:
    """Remembers what was written or deleted in vain, so that older values do not come back after an outage.

    Where there is too much to remember, everything is to be deleted: a cache may lose what it holds, and may not
    give what was replaced.

    Args:
        everything: the pattern of all keys.
    """

    def __init__(self, everything: bytes) -> None:
        self._everything = everything
        self._lock = threading.Lock()
        self._names: set[bytes] = set()
        self._patterns: set[bytes] = set()

    def __bool__(self) -> bool:
        return bool(self._names or self._patterns)

    def add(self, names: Iterable[bytes] = (), patterns: Iterable[bytes] = ()) -> None:
        """Remember names, and patterns of names."""
        with self._lock:
            self._names.update(names)
            self._patterns.update(patterns)
            if len(self._names) > MAX_KEYS or len(self._patterns) > MAX_PATTERNS or self._everything in self._patterns:
                self._names, self._patterns = set(), {self._everything}

    def take(self) -> LostBatch:
        """Give all, and forget it."""
        with self._lock:
            batch = LostBatch(self._names, self._patterns)
            self._names, self._patterns = set(), set()
            return batch
