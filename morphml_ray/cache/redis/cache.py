"""The cache contract on a server that may be unavailable at any time."""

import math
import threading
from collections.abc import Sequence

from morphml_ray.cache.contract import (
    CacheCounters,
    CacheStatistics,
    SizeLimit,
    check_counter,
    check_ttl,
    encode_key,
)
from morphml_ray.cache.glob import escape
from morphml_ray.cache.redis.circuit import Circuit
from morphml_ray.cache.redis.loss_journal import LossJournal
from morphml_ray.cache.redis.lost_writes import LostWrites
from morphml_ray.cache.redis.pool import DEFAULT_LONGEST_S, Command, RedisPool, Refusal, Reply
from morphml_ray.cache.redis.scanning import scan, unlink_matching
from morphml_ray.cache.redis.server import Server, name_portions
from morphml_ray.config import BackendUrl
from morphml_ray.errors import BackendUnavailable, ConfigurationError, NotFoundError, ValidationError
from morphml_ray.rpc.incarnation import Incarnation

# Of a larger database the statistics give no number of keys: the server would have to look at all of them.
_MAX_COUNTED_KEYS = 20_000
# The server's own limit, proto-max-bulk-len; beyond it the server cuts the connection.
_MAX_VALUE_BYTES = 512 * 1024 * 1024

# How long an increment that is repeated finds the answer of the first.
_REMEMBERED_S = 600
# The total is read as text: a number of Lua has 53 bits. INCRBY alone may fail for what the value is, and its error is
# the reply then.
_INCREMENT_ONCE = """\
local told = redis.call('GET', KEYS[2])
if told then return told end
local reply = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(reply) == 'table' then return reply end
local total = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[2], total, 'EX', ARGV[2])
return total
"""


class RedisCache:
    """``Cache`` on Redis or Valkey.

    Every key is stored under ``<prefix>:<key>``. Colons in the prefix are percent-encoded, so that the first colon
    ends it: no prefix is the beginning of another one's keys. Increments are remembered for a while under
    ``<prefix>%op:<id>``, which is a key of no cache.

    Args:
        url: where it is; its secrets are resolved when it opens.
        prefix: what tells the keys of this cache from others in the same database.
        pool_size: connections at most.
        timeout_s: how long the server may be silent.
        longest_s: how long one exchange may take, however much moves.
        circuit: keeps calls from a server that is unavailable.
        incarnation: which life of which actor this is; with it, what an outage loses is remembered on this machine's
            disk, so that it outlives this process.
    """

    def __init__(
        self,
        url: BackendUrl,
        prefix: str,
        *,
        pool_size: int = 8,
        timeout_s: float = 1.0,
        longest_s: float = DEFAULT_LONGEST_S,
        circuit: Circuit | None = None,
        incarnation: Incarnation | None = None,
    ) -> None:
        self.size_limit = SizeLimit(
            _MAX_VALUE_BYTES,
            f"a Redis server takes {_MAX_VALUE_BYTES:,} at most (its proto-max-bulk-len); storage.artifacts takes more",
        )
        self._url = url
        encoded = prefix.replace("%", "%25").replace(":", "%3A")
        self._stem = encode_key(f"{encoded}:")
        self._operations_stem = encode_key(f"{encoded}%op:")
        self._pool_size = pool_size
        self._timeout_s = timeout_s
        self._longest_s = longest_s
        self._circuit = circuit or Circuit(url.masked)
        self._counters = CacheCounters()
        journal = None if incarnation is None else LossJournal(f"{url.fingerprint_text} {encoded}", incarnation)
        self._lost = LostWrites(self._pattern(b"*"), journal)
        self._barred = self._lost.barred
        self._opening = threading.Lock()
        self._server = Server(
            url.masked,
            timeout_s=timeout_s,
            circuit=self._circuit,
            lost=self._lost,
            counters=self._counters,
            probe=self._operations_stem,
        )

    def open(self) -> None:
        """See ``Cache.open``."""
        with self._opening:
            if not self._server.is_open:
                self._connect()

    def _connect(self) -> None:
        place = self._url.masked
        pool = RedisPool(
            self._url.resolve("cache"),
            place,
            pool_size=self._pool_size,
            timeout_s=self._timeout_s,
            longest_s=self._longest_s,
        )
        failure: BackendUnavailable | None = None
        try:
            told, found = pool.exchange([("INFO", "server"), ("EXISTS", self._stem)])
            _check_server(place, told, found)
        except BackendUnavailable as error:
            failure = error
        except BaseException:
            pool.close()
            raise
        self._server.open(pool, failure)

    def close(self) -> None:
        """See ``Cache.close``."""
        with self._opening:
            self._server.close()

    # Reads

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """See ``Cache.get``."""
        portions = list(name_portions(self._names(keys)))
        replies = self._server.ask([("MGET", *names) for names in portions])
        values: list[bytes | None] = []
        for names, reply in zip(portions, replies, strict=True):
            found = [None] * len(names) if isinstance(reply, Refusal) else reply
            values += [None if self._barred.hide(name) else value for name, value in zip(names, found, strict=True)]
        self._counters.count_reads(values)
        return values

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """See ``Cache.exists``."""
        names = self._names(keys)
        replies = self._server.ask([("EXISTS", name) for name in names])
        return [reply == 1 and not self._barred.hide(name) for name, reply in zip(names, replies, strict=True)]

    def ttl_s(self, key: str) -> float | None:
        """See ``Cache.ttl_s``."""
        [name] = self._names([key])
        [left_ms] = self._server.ask([("PTTL", name)])
        if isinstance(left_ms, Refusal):
            raise NotFoundError(f"{self._url.masked} does not tell of the key {key!r}: {left_ms.reason}")
        if left_ms == -2 or self._barred.hide(name):  # noqa: PLR2004 - the server's word for "no such key"; -1 is "no limit"
            raise NotFoundError(f"{self._url.masked} has no key {key!r}")
        return None if left_ms == -1 else left_ms / 1000

    # Writes

    def set(self, items: Sequence[tuple[str, bytes]], ttl_s: float | None) -> int:
        """See ``Cache.set``."""
        check_ttl(ttl_s)
        expiry: Command = () if ttl_s is None else ("PX", math.ceil(ttl_s * 1000))
        fitting = [(key, value) for key, value in items if len(value) <= _MAX_VALUE_BYTES]
        names = self._names([key for key, _ in fitting])
        replies = self._server.ask(
            [("SET", name, value, *expiry) for name, (_, value) in zip(names, fitting, strict=True)]
        )
        lost = [name for name, reply in zip(names, replies, strict=True) if isinstance(reply, Refusal)]
        if len(fitting) < len(items):
            lost += self._names([key for key, value in items if len(value) > _MAX_VALUE_BYTES])
            self._counters.count_error("a value was larger than the server accepts")
        self._barred.renew(name for name, reply in zip(names, replies, strict=True) if not isinstance(reply, Refusal))
        self._server.drop(lost)
        return len(items) - len(lost)

    def increment(self, key: str, amount: int, operation_id: str) -> int | None:
        """See ``Cache.increment``."""
        [name] = self._names([key])
        operation = self._operations_stem + encode_key(operation_id)
        added = check_counter(key, amount)
        if self._barred.hide(name):
            self.delete([key])
        if self._barred.hide(name):
            self._counters.count_dropped(1)
            return None
        [total] = self._server.ask([("EVAL", _INCREMENT_ONCE, 2, name, operation, added, _REMEMBERED_S)])
        if not isinstance(total, Refusal):
            return int(total)
        if total.is_about_value:
            raise ValidationError(f"{self._url.masked} cannot increment {key!r}: {total.reason}")
        self._counters.count_dropped(1)
        return None

    def delete(self, keys: Sequence[str]) -> int:
        """See ``Cache.delete``."""
        portions = list(name_portions(self._names(keys)))
        replies = self._server.ask([("UNLINK", *names) for names in portions])
        number = 0
        for names, reply in zip(portions, replies, strict=True):
            if isinstance(reply, Refusal):
                self._server.drop(names)
            else:
                self._barred.renew(names)
                number += reply
        return number

    def delete_matching(self, pattern: str) -> int:
        """See ``Cache.delete_matching``."""
        return self._delete_all(self._pattern(encode_key(pattern)))

    def delete_prefix(self, text: str) -> int:
        """See ``Cache.delete_prefix``."""
        return self._delete_all(self._pattern(escape(encode_key(text)) + b"*"))

    def clear(self) -> int:
        """See ``Cache.clear``."""
        return self.delete_prefix("")

    def _delete_all(self, pattern: bytes) -> int:
        number, refusal = unlink_matching(self._server.ask, pattern)
        if refusal is None:
            self._barred.lift(pattern)
        else:
            self._server.drop(patterns=[pattern])
        return number

    @property
    def outage(self) -> str | None:
        """See ``Cache.outage``."""
        return self._circuit.outage

    def statistics(self) -> CacheStatistics:
        """See ``Cache.statistics``."""
        num_keys, size_bytes = self._measure()
        return {
            "backend": "redis",
            "is_available": self._circuit.is_closed,
            "hits": self._counters.hits,
            "misses": self._counters.misses,
            "hit_rate": self._counters.hit_rate,
            "num_keys": num_keys,
            "size_bytes": size_bytes,
            "max_bytes": None,
            "evictions": None,
            "dropped_writes": self._counters.dropped_writes,
            "errors": self._counters.errors,
            "outages": self._circuit.outages,
            "last_error": self._counters.last_error,
        }

    def _measure(self) -> tuple[int | None, int | None]:
        """Count keys and bytes, of a small database only."""
        [total] = self._server.ask([("DBSIZE",)])
        if isinstance(total, Refusal) or total > _MAX_COUNTED_KEYS:
            return None, None
        names: set[bytes] = set()
        for page in scan(self._server.ask, self._pattern(b"*")):
            if isinstance(page, Refusal):
                return None, None
            names.update(page)
        lengths = self._server.ask([("STRLEN", name) for name in names])
        values_bytes = sum(length for length in lengths if not isinstance(length, Refusal))
        return len(names), values_bytes + sum(len(name) - len(self._stem) for name in names)

    def _names(self, keys: Sequence[str]) -> list[bytes]:
        return [self._stem + encode_key(key) for key in keys]

    def _pattern(self, pattern: bytes) -> bytes:
        return escape(self._stem) + pattern


def _check_server(place: str, told: Reply, found: Reply) -> None:
    # A user may have been denied the question, and is believed.
    if isinstance(told, bytes) and any(mode in told for mode in (b"_mode:cluster", b"_mode:sentinel")):
        raise ConfigurationError(
            f"{place} is a part of a cluster, or a sentinel: name one server, or a proxy that looks like one"
        )
    if isinstance(found, Refusal):
        raise ConfigurationError(f"{place} refuses to be read: {found.reason}. Correct the URL or the user's rights.")
