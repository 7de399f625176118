"""What an artifact actor has under way: how much at once, how far each is, and whether anything moves."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from morphml_ray.errors import Overloaded

MAX_HELD_BYTES = 256 * 1024 * 1024
SLOWEST_BYTES_S = 1024 * 1024
"""A backend that is slower than this, and tells of no progress, counts as stalled."""
_SHORTEST_WAIT_S = 0.05


class Transfer:
    """One call that moves bytes.

    Args:
        size_bytes: of the payload that is held in memory for it; 0 where it is streamed.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.moved_bytes = 0
        self._furthest_bytes = 0
        self.advanced_at = time.monotonic()
        self.is_waiting = True
        self.ended = asyncio.Event()

    def begin(self) -> None:
        """Note that it waits no more."""
        self.is_waiting = False
        self.advanced_at = time.monotonic()

    def advance(self, count: int) -> None:
        """Note that more bytes have passed."""
        self.moved_bytes += count
        if self.moved_bytes > self._furthest_bytes:
            # Only what no earlier attempt reached: a server that breaks off each time is an outage that goes on.
            self._furthest_bytes = self.moved_bytes
            self.advanced_at = time.monotonic()

    def restart(self) -> None:
        """Note that the next attempt begins at the first byte."""
        self.moved_bytes = 0

    @property
    def idle_s(self) -> float:
        """For how long it has not got further, in seconds."""
        return time.monotonic() - self.advanced_at

    @property
    def expected_until(self) -> float:
        """When it should have moved on, on ``time.monotonic``'s clock."""
        return self.advanced_at + self.size_bytes / SLOWEST_BYTES_S


class Admission:
    """Admits transfers in the order of their coming, as long as what they hold in memory has a bound.

    Of one event loop; ``Transfer.advance`` may come from any thread.

    Args:
        max_held_bytes: how much payload is held at once; a larger one is admitted alone.
    """

    def __init__(self, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self._present: dict[str | int, Transfer] = {}
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._ended = 0
        self._refused = 0
        self._moved_at = time.monotonic()

    @asynccontextmanager
    async def admitted(self, size_bytes: int, patience_s: float, name: str | None = None) -> AsyncIterator[Transfer]:
        """Wait for a place, and keep it for the block.

        Args:
            size_bytes: of the payload in memory; what has none needs not wait.
            patience_s: how long to wait while nothing moves; 0 does not wait.
            name: under which ``moved_bytes`` finds it.

        Raises:
            Overloaded: there was no place; nothing was taken.
        """
        transfer = Transfer(size_bytes)
        key = id(transfer) if name is None else name
        self._present[key] = transfer
        try:
            await self._admit(size_bytes, patience_s)
            try:
                transfer.begin()
                yield transfer
            finally:
                self._moved_at = time.monotonic()
                self._release(size_bytes)
        finally:
            self._present.pop(key, None)
            transfer.ended.set()

    async def flush(self) -> None:
        """Return when all have ended that run or wait now."""
        for transfer in list(self._present.values()):
            await transfer.ended.wait()

    def moved_bytes(self, name: str) -> int:
        """Tell how far a named transfer is; 0 before it begins and after it ended."""
        transfer = self._present.get(name)
        return 0 if transfer is None else transfer.moved_bytes

    def stalled_s(self) -> float:
        """Tell for how long nothing has moved or ended, in seconds."""
        expected = [each.expected_until for each in list(self._present.values()) if not each.is_waiting]
        return max(0.0, time.monotonic() - max([self._moved_at, *expected]))

    def status(self) -> dict[str, Any]:
        """Tell how much is under way."""
        return {
            "transfers": len(self._present) - len(self._waiting),
            "waiting": len(self._waiting),
            "held_bytes": self._held_bytes,
            "ended": self._ended,
            "refused": self._refused,
        }

    async def _admit(self, size_bytes: int, patience_s: float) -> None:
        if not size_bytes or (not self._waiting and self._fits(size_bytes)):
            self._held_bytes += size_bytes
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (size_bytes, turn)
        self._waiting.append(place)
        try:
            await self._wait_for(turn, patience_s)
        except BaseException:
            if turn.done():
                self._release(size_bytes)
            else:
                self._waiting.remove(place)
                self._let_in()
            raise

    async def _wait_for(self, turn: "asyncio.Future[None]", patience_s: float) -> None:
        came_at = time.monotonic()
        while not turn.done():
            left_s = patience_s - min(self.stalled_s(), time.monotonic() - came_at)
            if left_s > 0:
                await asyncio.wait([turn], timeout=max(left_s, _SHORTEST_WAIT_S))
            else:
                self._refused += 1
                raise Overloaded(
                    f"the artifact actor is busy: {self._held_bytes} bytes are under way, {len(self._waiting)} wait"
                )

    def _fits(self, size_bytes: int) -> bool:
        return not self._held_bytes or self._held_bytes + size_bytes <= self._max_held_bytes

    def _release(self, size_bytes: int) -> None:
        self._held_bytes -= size_bytes
        self._ended += 1
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size_bytes, turn = self._waiting.popleft()
            self._held_bytes += size_bytes
            turn.set_result(None)
