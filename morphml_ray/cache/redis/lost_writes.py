"""Writes that a server may not have heard of."""

import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

from morphml_ray.cache.redis.barred_keys import BarredKeys
from morphml_ray.cache.redis.loss_journal import LossJournal
from morphml_ray.errors import BackendUnavailable

MAX_KEYS = 10_000
MAX_PATTERNS = 100
MAX_BYTES = 16_000_000


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
        journal: remembers it beyond this process.

    Attributes:
        barred: what cannot be deleted, since the user may not; ``settle``'s function adds to it.
    """

    def __init__(self, everything: bytes, journal: LossJournal | None = None) -> None:
        self.barred = BarredKeys(everything)
        self._everything = everything
        self._journal = journal
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._lost = LostBatch(set(), set())
        self._lost_meanwhile: LostBatch | None = None  # None while nobody deletes
        self._noted_bytes = 0

    def __bool__(self) -> bool:
        with self._lock:
            return any(self._lost)

    def open(self) -> None:
        """Take over what those before this process have lost."""
        if self._journal is not None:
            names, patterns, is_all = self._journal.open()
            self.add(names, patterns if is_all else {self._everything})

    def close(self) -> None:
        """Leave what is still lost to those after this process."""
        if self._journal is not None:
            self._journal.close()

    def add(self, names: Iterable[bytes] = (), patterns: Iterable[bytes] = ()) -> None:
        """Remember names, and patterns of names."""
        added = LostBatch(set(names), set(patterns))
        with self._lock:
            new = LostBatch(added.names - self._lost.names, added.patterns - self._lost.patterns)
            was_everything = self._is_everything(self._lost)
            self._noted_bytes += sum(map(len, new.names)) + sum(map(len, new.patterns))
            self._put(self._lost, added)
            if self._lost_meanwhile is not None:
                self._put(self._lost_meanwhile, added)
            if self._journal is not None and not was_everything:
                self._journal.add(*(self._lost if self._is_everything(self._lost) else new))

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
            batch = LostBatch(set(self._lost.names), set(self._lost.patterns))
            self._lost_meanwhile = LostBatch(set(), set())
        is_gone = False
        try:
            is_gone = delete(batch)
        finally:
            self._end(is_gone)
        return is_gone

    def _end(self, is_gone: bool) -> None:
        with self._lock:
            if is_gone and self._lost_meanwhile is not None:
                self._lost = self._lost_meanwhile
            self._lost_meanwhile = None
            if not any(self._lost) and not self.barred:
                self._noted_bytes = 0
                if self._journal is not None:
                    self._journal.clear()

    # What follows is called with the lock held.

    def _put(self, batch: LostBatch, added: LostBatch) -> None:
        batch.names.update(added.names)
        batch.patterns.update(added.patterns)
        is_too_much = len(batch.names) > MAX_KEYS or len(batch.patterns) > MAX_PATTERNS
        if is_too_much or self._noted_bytes > MAX_BYTES or self._is_everything(batch):
            batch.names.clear()
            batch.patterns.clear()
            batch.patterns.add(self._everything)

    def _is_everything(self, batch: LostBatch) -> bool:
        return self._everything in batch.patterns
