"""Ends waits for servers that hang.

A server that hangs keeps its sockets, and its machine acknowledges what is sent: no time-out of TCP ends the wait for
an answer. psycopg2's own way, a wait callback, holds for a whole process, knows no COPY, and no second host while
connecting. So a connection whose time is over is shut down from another thread, and whoever waits on it goes on with
an error.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

_IDLE_S = 5.0


@dataclass(eq=False)
class Watch:
    """One wait for an answer.

    Attributes:
        line: of the connection.
        ends_at: on ``time.monotonic``'s clock.
        is_over: the line was cut.
    """

    line: socket.socket
    ends_at: float
    is_over: bool = False


class Watchdog:
    """Cuts lines whose time is over; its thread lives while there is something to watch, and a little longer."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watches: set[Watch] = set()
        self._wakes_at = 0.0
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watching(self, line: socket.socket, ends_at: float) -> Iterator[Watch]:
        """Cut a line if this block lasts too long.

        Args:
            line: a socket of its own, that stays open for the block.
            ends_at: on ``time.monotonic``'s clock.
        """
        watch = Watch(line, ends_at)
        with self._changed:
            self._watches.add(watch)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="morphml-watchdog", daemon=True)
                self._thread.start()
            elif ends_at < self._wakes_at:
                self._changed.notify()
        try:
            yield watch
        finally:
            with self._changed:
                self._watches.discard(watch)

    def _run(self) -> None:
        with self._changed:
            while True:
                is_idle = not self._watches
                now = time.monotonic()
                for watch in [watch for watch in self._watches if watch.ends_at <= now]:
                    self._cut(watch)
                self._wakes_at = min((watch.ends_at for watch in self._watches), default=now + _IDLE_S)
                self._changed.wait(self._wakes_at - now)
                if is_idle and not self._watches:
                    self._thread = None
                    return

    def _cut(self, watch: Watch) -> None:
        watch.is_over = True
        self._watches.discard(watch)
        with contextlib.suppress(OSError):  # the server has closed it itself
            watch.line.shutdown(socket.SHUT_RDWR)


WATCHDOG = Watchdog()
