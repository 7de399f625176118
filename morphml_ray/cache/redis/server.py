"""The way to a server that may be unavailable at any time: nothing raises, and what was lost is remembered."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial

from morphml_ray.cache.contract import CacheCounters
from morphml_ray.cache.redis.circuit import Admission, Circuit
from morphml_ray.cache.redis.lost_writes import LostBatch, LostWrites
from morphml_ray.cache.redis.pool import Command, NotServingError, RedisPool, Refusal, Reply
from morphml_ray.cache.redis.scanning import KEYS_AT_ONCE, unlink_matching
from morphml_ray.errors import BackendUnavailable, ConfigurationError

_log = logging.getLogger(__name__)

_AWAY = Refusal("the server is unavailable")


class Server:
    """Asks a server as long as it answers; before anything else it is to delete what was lost.

    Args:
        place: the URL as it may be shown.
        timeout_s: how long a caller waits while another deletes what was lost.
        circuit: keeps calls from a server that is unavailable.
        lost: what was written or deleted in vain.
        counters: count errors, and writes that were dropped.
        probe: a name that is no key: deleting it shows whether the server takes writes.
    """

    def __init__(
        self,
        place: str,
        *,
        timeout_s: float,
        circuit: Circuit,
        lost: LostWrites,
        counters: CacheCounters,
        probe: bytes,
    ) -> None:
        self._place = place
        self._timeout_s = timeout_s
        self._circuit = circuit
        self._lost = lost
        self._counters = counters
        self._probe = probe
        self._warned: set[str] = set()
        self._pool: RedisPool | None = None

    @property
    def is_open(self) -> bool:
        """Whether it may be asked."""
        return self._pool is not None

    def open(self, pool: RedisPool, failure: BackendUnavailable | None) -> None:
        """Begin, with what those before this process have lost; a failure to connect is an outage."""
        if failure is None:
            self._circuit.succeed(Admission.PROBE)
        else:
            self._counters.count_error(str(failure))
            self._circuit.open(str(failure))
        self._lost.open()
        self._pool = pool

    def close(self) -> None:
        """Let the connections go; what is still lost is left to those after this process."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
            self._lost.close()

    def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """Ask the server in one round trip; while it is unavailable, every reply is a refusal.

        Raises:
            BackendUnavailable: it is not open.
        """
        pool = self._pool
        if pool is None:
            raise BackendUnavailable(f"{self._place} is not open")
        admission = self._circuit.admit() if commands else Admission.REFUSED
        if admission is Admission.REFUSED:
            return [_AWAY] * len(commands)
        try:
            replies = self._exchange(pool, commands) if self._settle(pool) else [_AWAY] * len(commands)
        except (BackendUnavailable, ConfigurationError) as error:
            self._note_failure(admission, error)
            return [_AWAY] * len(commands)
        except BaseException:
            self._circuit.fail(admission, "the call was interrupted")
            raise
        self._circuit.succeed(admission)
        return replies

    def drop(self, names: Sequence[bytes] = (), patterns: Sequence[bytes] = ()) -> None:
        """Count names and patterns whose write or deletion failed, and remember that they are to be deleted."""
        if names or patterns:
            self._lost.add(names, patterns)
            self._counters.count_dropped(len(names) + len(patterns))

    def _note_failure(self, admission: Admission, error: Exception) -> None:
        self._counters.count_error(str(error))
        if isinstance(error, NotServingError):
            # A replica that is read from would look like the server: it is back once it takes a deletion.
            self._lost.add([self._probe])
            self._circuit.open(str(error))
        self._circuit.fail(admission, str(error))

    def _exchange(self, pool: RedisPool, commands: Sequence[Command]) -> list[Reply]:
        replies = pool.exchange(commands)
        for reply in replies:
            if isinstance(reply, Refusal) and not reply.is_about_value:
                self._counters.count_error(reply.reason)
                if reply.reason not in self._warned:
                    self._warned.add(reply.reason)
                    _log.warning("%s refuses commands: %s", self._place, reply.reason)
        return replies

    def _settle(self, pool: RedisPool) -> bool:
        """Delete what was written or deleted in vain, before anybody reads it; False where the server refuses that."""
        return self._lost.settle(lambda lost: self._delete_lost(pool, lost), self._timeout_s)

    def _delete_lost(self, pool: RedisPool, lost: LostBatch) -> bool:
        ask = partial(self._exchange, pool)
        is_gone = True
        for pattern in lost.patterns:
            _, refusal = unlink_matching(ask, pattern)
            is_gone = self._is_settled(refusal, patterns=[pattern]) and is_gone
        for names in name_portions(list(lost.names)):
            [reply] = ask([("UNLINK", *names)])
            is_gone = self._is_settled(reply if isinstance(reply, Refusal) else None, names=names) and is_gone
        return is_gone

    def _is_settled(self, refusal: Refusal | None, names: Sequence[bytes] = (), patterns: Sequence[bytes] = ()) -> bool:
        """Tell whether what was lost needs no further attempt: it is gone, or no attempt will ever be allowed."""
        if refusal is not None and refusal.is_about_rights:
            self._lost.barred.add(names, patterns)
            return True
        return refusal is None


def name_portions(names: list[bytes]) -> Iterator[list[bytes]]:
    """Cut names into portions for one command each."""
    return (names[start : start + KEYS_AT_ONCE] for start in range(0, len(names), KEYS_AT_ONCE))
