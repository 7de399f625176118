"""How long a server may take: for each portion, and for an exchange as a whole."""

import time
from collections.abc import Callable
from typing import Any

SLOWEST_BYTES_PER_S = 256 * 1024
"""A cache that moves its values more slowly than this does not help."""

_PORTION_BYTES = 256 * 1024


class Pace:
    """The time of one exchange: ``timeout_s``, and longer by what moves, at the slowest rate that is a help.

    So a large value may take its time, as long as it moves, and a server that gives a byte now and then is as good as
    a silent one.

    Args:
        timeout_s: how long nothing may move.
        longest_s: how long an exchange may take, however much it moves.
        clock: gives the time in seconds; it never goes back.
    """

    def __init__(self, timeout_s: float, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s = timeout_s
        self._longest_s = longest_s
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        self._begun_at = self._clock()
        self._moved_bytes = 0

    def move(self, size_bytes: int) -> None:
        """Tell that so much was sent or received."""
        self._moved_bytes += size_bytes

    def left_s(self) -> float:
        """Give the seconds within which something must move.

        Raises:
            TimeoutError: the time is over.
        """
        whole_s = min(self._timeout_s + self._moved_bytes / SLOWEST_BYTES_PER_S, self._longest_s)
        left_s = self._begun_at + whole_s - self._clock()
        if left_s <= 0:
            raise TimeoutError
        return min(left_s, self._timeout_s)


class PacedSocket:
    """A connected socket that keeps to a pace; the driver uses it as it would the socket.

    Args:
        sock: of TCP or TLS.
        pace: of the exchange under way.
    """

    def __init__(self, sock: Any, pace: Pace) -> None:
        self._sock = sock
        self._pace = pace
        self._waits = True

    def settimeout(self, timeout_s: float | None) -> None:
        """Take whether to wait at all from the driver; how long, the pace says."""
        self._waits = timeout_s != 0

    def recv(self, size_bytes: int) -> bytes:
        """Receive what is there, or comes in time."""
        self._sock.settimeout(self._pace.left_s() if self._waits else 0)
        data: bytes = self._sock.recv(size_bytes)
        self._pace.move(len(data))
        return data

    def sendall(self, data: bytes | memoryview) -> None:
        """Send everything, in portions."""
        left = memoryview(data)
        while left:
            self._sock.settimeout(self._pace.left_s())
            sent = self._sock.send(left[:_PORTION_BYTES])
            self._pace.move(sent)
            left = left[sent:]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)
