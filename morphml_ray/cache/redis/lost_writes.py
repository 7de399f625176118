"""Writes that a server may not have heard of."""

import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

from morphml_ray.errors import BackendUnavailable

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
        self._turn = threading.Lock()
        self._is_settling = False
        self._names: set[bytes] = set()
        self._patterns: set[bytes] = set()

    def __bool__(self) -> bool:
        with self._lock:
            return bool(self._is_settling or self._names or self._patterns)

    def add(self, names: Iterable[bytes] = (), patterns: Iterable[bytes] = ()) -> None:
        """Remember names, and patterns of names."""
        with self._lock:
            self._names.update(names)
            self._patterns.update(patterns)
            if len(self._names) > MAX_KEYS or len(self._patterns) > MAX_PATTERNS or self._everything in self._patterns:
                self._names, self._patterns = set(), {self._everything}

    def settle(self, delete: Callable[[LostBatch], bool], timeout_s: float) -> bool:
        """Forget what is deleted now. One caller deletes at a time, and until it is done the others wait.

        Args:
            delete: deletes a batch, and tells whether all of it is gone.
            timeout_s: how long to wait for another caller.

        Returns:
            Whether all is gone that was lost when it began.

        Raises:
            BackendUnavailable: another caller takes longer.
        """
        if not self:
            return True
        if not self._turn.acquire(timeout=timeout_s):
            raise BackendUnavailable("what was written or deleted in vain is still being deleted")
        try:
            return self._settle(delete)
        finally:
            self._turn.release()

    def _settle(self, delete: Callable[[LostBatch], bool]) -> bool:
        with self._lock:
            self._is_settling = True
            batch = LostBatch(self._names, self._patterns)
            self._names, self._patterns = set(), set()
        is_gone = False
        try:
            is_gone = delete(batch)
        finally:
            if not is_gone:
                self.add(*batch)
            self._is_settling = False
        return is_gone
