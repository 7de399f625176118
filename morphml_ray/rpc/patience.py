"""The one wait: a deadline, and pauses between attempts that grow and are spread."""

import asyncio
import math
import random
import time
from collections.abc import Callable

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 1.0


class Patience:
    """Says how long to pause before the next attempt, and when there is none.

    Pauses double up to a limit. Each is cut by chance to between half of it and all of it, so that callers who failed
    together do not come back together. No pause reaches past the deadline.

    ::

        patience = Patience(deadline_s)
        while True:
            try:
                return attempt()
            except BackendUnavailable:
                if not patience.pause():
                    raise

    Args:
        timeout_s: how long from now on, seconds; infinite where only ``attempts`` counts.
        attempts: how many at most; None sets no limit.
        first_pause_s: the first pause, seconds.
        longest_pause_s: the longest pause, seconds.
        clock: gives the time in seconds; it never goes back.
    """

    def __init__(
        self,
        timeout_s: float = math.inf,
        *,
        attempts: int | None = None,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._deadline = clock() + timeout_s
        self._pauses_left = math.inf if attempts is None else attempts - 1
        self._pause_s = min(first_pause_s, longest_pause_s)
        self._longest_pause_s = longest_pause_s

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; 0 when it is over."""
        return max(0.0, self._deadline - self._clock())

    def renew(self, timeout_s: float) -> None:
        """Count the deadline from now on again, because something has moved; it never comes earlier."""
        self._deadline = max(self._deadline, self._clock() + timeout_s)

    def next_pause_s(self) -> float | None:
        """Give the seconds to pause before the next attempt; None where there is to be none."""
        longest_s = self._pause_s
        if self._pauses_left < 1 or self._clock() + longest_s > self._deadline:
            return None
        self._pauses_left -= 1
        self._pause_s = min(longest_s * 2, self._longest_pause_s)
        return longest_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads callers, keeps no secret

    def pause(self) -> bool:
        """Sleep before the next attempt; False, at once, where there is to be none."""
        pause_s = self.next_pause_s()
        if pause_s is None:
            return False
        time.sleep(pause_s)
        return True

    async def pause_async(self) -> bool:
        """Let others run before the next attempt; False, at once, where there is to be none."""
        pause_s = self.next_pause_s()
        if pause_s is None:
            return False
        await asyncio.sleep(pause_s)
        return True
