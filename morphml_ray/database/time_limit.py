"""How long the work of a thread may take: set by whoever has a deadline, kept by whatever waits below."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

LEAST_S = 0.5
"""What an attempt gets that begins late, seconds: less would end it before a server that is well can answer."""


class TimeLimit(NamedTuple):
    """A limit that holds on this thread.

    Attributes:
        ends_at: on ``time.monotonic``'s clock.
        lock_wait_s: how long one wait for a lock of somebody else may take; it ends with the limit in any case.
    """

    ends_at: float
    lock_wait_s: float

    @property
    def left_s(self) -> float:
        """Seconds that are left; ``LEAST_S`` where there are none."""
        return max(LEAST_S, self.ends_at - time.monotonic())


_limit: ContextVar[TimeLimit | None] = ContextVar("time_limit", default=None)


def time_limit() -> TimeLimit | None:
    """Give the limit that holds here; None for none."""
    return _limit.get()


@contextmanager
def limited(timeout_s: float, lock_wait_s: float = math.inf) -> Iterator[None]:
    """Let what runs in this block on this thread take so long; inside another such block that one's limit holds.

    Args:
        timeout_s: for everything in it together, seconds.
        lock_wait_s: see ``TimeLimit``.
    """
    limit = _limit.get() or TimeLimit(time.monotonic() + max(LEAST_S, timeout_s), lock_wait_s)
    with _set(limit):
        yield


@contextmanager
def longer(timeout_s: float) -> Iterator[None]:
    """Let what runs in this block take longer than the limit that holds; a lock is waited for no longer."""
    outer = _limit.get()
    lock_wait_s = math.inf if outer is None else min(outer.lock_wait_s, outer.left_s)
    with _set(TimeLimit(time.monotonic() + timeout_s, lock_wait_s)):
        yield


@contextmanager
def hasty(lock_wait_s: float) -> Iterator[None]:
    """Let what runs in this block wait less long for locks."""
    outer = _limit.get() or TimeLimit(math.inf, math.inf)
    with _set(outer._replace(lock_wait_s=lock_wait_s)):
        yield


@contextmanager
def _set(limit: TimeLimit) -> Iterator[None]:
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)
