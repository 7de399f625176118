"""Keeps callers from waiting for a server that is unavailable."""

import enum
import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Admission(enum.Enum):
    """Whether a call may go to the server."""

    USUAL = enum.auto()
    PROBE = enum.auto()
    REFUSED = enum.auto()


class Circuit:
    """A circuit breaker.

    It opens after several failures in a row; then calls are refused at once. When a pause is over, one call is let
    through as a probe: where it succeeds the circuit closes, where it fails the next pause is twice as long. Each
    outage is one warning in the log.

    Args:
        place: what it watches, as it may be shown.
        failures_to_open: how many failures in a row open it.
        pause_s: the first pause.
        max_pause_s: the longest.
        clock: gives the time in seconds; it never goes back.
    """

    def __init__(
        self,
        place: str,
        *,
        failures_to_open: int = 3,
        pause_s: float = 0.5,
        max_pause_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._failures_to_open = failures_to_open
        self._first_pause_s = pause_s
        self._max_pause_s = max_pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._reason = ""
        self._outages = 0
        self._pause_s = pause_s
        self._opened_at = 0.0
        self._probe_at: float | None = None  # None while it is closed
        self._is_probing = False

    @property
    def is_closed(self) -> bool:
        """Whether calls go through."""
        return self._probe_at is None

    @property
    def outage(self) -> str | None:
        """Why calls do not go through; None where they do."""
        return None if self.is_closed else self._reason

    @property
    def outages(self) -> int:
        """How often it opened."""
        return self._outages

    def admit(self) -> Admission:
        """Ask before a call; what it was told must be told back to ``succeed`` or ``fail``, unless refused."""
        with self._lock:
            if self._probe_at is None:
                return Admission.USUAL
            if self._is_probing or self._clock() < self._probe_at:
                return Admission.REFUSED
            self._is_probing = True
            return Admission.PROBE

    def succeed(self, admission: Admission) -> None:
        """Tell that a call was answered."""
        with self._lock:
            # One that began before the circuit opened proves nothing about now.
            if self._probe_at is None:
                self._failures = 0
            elif admission is Admission.PROBE:
                self._close()

    def fail(self, admission: Admission, reason: str) -> None:
        """Tell that a call was not answered, and why."""
        with self._lock:
            if self._probe_at is None:
                self._failures += 1
                if self._failures >= self._failures_to_open:
                    self._open(reason)
            elif admission is Admission.PROBE:
                self._pause_s = min(2 * self._pause_s, self._max_pause_s)
                self._rest()

    def open(self, reason: str) -> None:
        """Open it, without waiting for further failures."""
        with self._lock:
            if self._probe_at is None:
                self._open(reason)

    def _open(self, reason: str) -> None:
        self._reason = reason
        self._outages += 1
        self._opened_at = self._clock()
        self._pause_s = self._first_pause_s
        self._rest()
        _log.warning(
            "%s is unavailable: reads find nothing and writes are dropped until it is back (%s)", self._place, reason
        )

    def _rest(self) -> None:
        self._is_probing = False
        self._probe_at = self._clock() + self._pause_s

    def _close(self) -> None:
        self._is_probing = False
        self._probe_at = None
        self._failures = 0
        _log.info("%s is back after %.1f s", self._place, self._clock() - self._opened_at)
