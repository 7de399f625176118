"""Keys that should be deleted, on a server whose user may not."""

import threading
from collections.abc import Iterable

from cachetools import LRUCache

from morphml_ray.cache.glob import Glob

MAX_KEYS = 10_000
MAX_PATTERNS = 100


class BarredKeys:
    """Names, and patterns of names, under which nothing is to be found until it is written anew.

    No waiting deletes what the user has no right to delete. So it is kept from being read here; everything else is
    read as ever. Of the names that were written anew the latest are known: the others, if a pattern means them, are
    not found once more.

    Args:
        everything: the pattern of all keys; it stands for what is too much to remember.
    """

    def __init__(self, everything: bytes) -> None:
        self._everything = everything
        self._lock = threading.Lock()
        self._names: set[bytes] = set()
        self._patterns: dict[bytes, Glob] = {}
        self._renewed: LRUCache[bytes, bool] = LRUCache(MAX_KEYS)

    def __bool__(self) -> bool:
        return bool(self._names or self._patterns)

    def add(self, names: Iterable[bytes] = (), patterns: Iterable[bytes] = ()) -> None:
        """Bar what was to be deleted until now."""
        with self._lock:
            for pattern in patterns:
                self._bar(pattern)
            for name in names:
                self._names.add(name)
                self._renewed.pop(name, None)
            if len(self._names) > MAX_KEYS or len(self._patterns) > MAX_PATTERNS:
                self._bar(self._everything)
            if self._everything in self._patterns:
                self._names.clear()
                self._patterns = {self._everything: self._patterns[self._everything]}

    def renew(self, names: Iterable[bytes]) -> None:
        """Let names be found again: they were written, or deleted one by one."""
        if self:
            with self._lock:
                for name in names:
                    self._names.discard(name)
                    self._renewed[name] = True

    def lift(self, pattern: bytes) -> None:
        """Forget a pattern: all that it means was deleted after all."""
        if self:
            with self._lock:
                self._patterns.pop(pattern, None)
                if pattern == self._everything:
                    self._names.clear()

    def hide(self, name: bytes) -> bool:
        """Tell whether nothing is to be found under a name."""
        if not self:
            return False
        with self._lock:
            if name in self._names:
                return True
            return name not in self._renewed and any(glob.matches(name) for glob in self._patterns.values())

    def _bar(self, pattern: bytes) -> None:
        glob = self._patterns[pattern] = Glob(pattern)
        for name in [name for name in self._renewed if glob.matches(name)]:
            del self._renewed[name]
