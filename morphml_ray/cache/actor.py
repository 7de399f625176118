"""The actor in front of the cache."""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Concatenate, TypeVar
from urllib.parse import parse_qs, urlsplit

from typing_extensions import ParamSpec

from morphml_ray.cache.answers import Written
from morphml_ray.cache.contract import Cache, encode_key
from morphml_ray.cache.memory import DEFAULT_MAX_BYTES, MemoryCache
from morphml_ray.cache.wire import EncodedValue, EncodedValues
from morphml_ray.config import BackendUrl, fingerprint
from morphml_ray.rpc.call import in_group
from morphml_ray.rpc.description import PROTOCOL_VERSION, ActorDescription
from morphml_ray.rpc.incarnation import Incarnation, this_incarnation

LONG = "long"
"""The group of calls that walk over all keys."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class CacheSettings:
    """What a cache actor is made of; holds references to secrets, never secrets.

    Attributes:
        url: of Redis or Valkey, or ``memory://``.
        prefix: tells its keys from those of others on the same server.
        timeout_s: how long a server may be silent, seconds.
        deadline_s: how long an answer may take in all, seconds.
    """

    url: BackendUrl
    prefix: str
    timeout_s: float
    deadline_s: float

    def describe(self) -> ActorDescription:
        """Tell what an actor of these settings serves."""
        prefix = hashlib.sha256(self.prefix.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return ActorDescription(PROTOCOL_VERSION, f"{fingerprint(self.url)}-{prefix}", self.url, self.deadline_s)


class CacheActor:
    """Moves bytes to and from a cache; nothing of it raises when the server is unavailable.

    The constructor does not connect; the first call does. Its methods are plain ones that run on Ray's own threads: a
    look-up takes less time than handing it from an event loop to a thread and back.

    Args:
        settings: see ``CacheSettings``.
    """

    THREADS: ClassVar[int] = 8

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._cache: Cache | None = None
        self._opening = threading.Lock()
        self._started_at = time.time()

    def describe(self) -> ActorDescription:
        """Tell what this actor serves, without connecting."""
        return self._settings.describe()

    def ready(self) -> None:
        """Connect now; a server that does not answer is an outage, and no error.

        Raises:
            ConfigurationError: no waiting helps: a wrong password, another kind of server.
        """
        self._opened()

    def verify(self, url: BackendUrl) -> None:
        """Check what somebody else states of the place that this actor serves.

        Raises:
            ConfigurationError: with that nobody is let in.
        """
        self._open(url, None).close()

    def _opened(self) -> Cache:
        if self._cache is None:
            with self._opening:
                if self._cache is None:
                    self._cache = self._open(self._settings.url, this_incarnation())
        return self._cache

    def _open(self, url: BackendUrl, incarnation: Incarnation | None) -> Cache:
        settings = self._settings
        cache = create_cache(
            url,
            settings.prefix,
            pool_size=self.THREADS,
            timeout_s=settings.timeout_s,
            longest_s=settings.deadline_s,
            incarnation=incarnation,
        )
        cache.open()
        return cache

    def run(self, operation: Callable[Concatenate[Cache, P], R], *arguments: P.args, **named: P.kwargs) -> R:
        """Run an operation of the cache."""
        answer: R = getattr(self._opened(), operation.__name__)(*arguments, **named)
        return answer

    @in_group(LONG)
    def run_long(self, operation: Callable[Concatenate[Cache, P], R], *arguments: P.args, **named: P.kwargs) -> R:
        """Run an operation that walks over all keys; look-ups do not wait for it."""
        return self.run(operation, *arguments, **named)

    def get(self, key: str, default: bytes | None) -> EncodedValue | None:
        """Read one value; where there is none, ``default``, encoded too."""
        (found,) = self.run(Cache.get, [key])
        data = default if found is None else found
        return None if data is None else EncodedValue(key, data)

    def set(self, key: str, value: bytes, ttl_s: float | None) -> Written[bool]:
        """Write one value; tells whether the cache took it, and the caller's log if it is too large."""
        return self._written(bool(self.run(Cache.set, [(key, value)], ttl_s)), [(key, value)])

    def set_multiple(self, items: Sequence[tuple[str, bytes]], ttl_s: float | None) -> Written[int]:
        """Write values in one round trip; gives how many the cache took, and tells the log as ``set`` does."""
        return self._written(self.run(Cache.set, items, ttl_s), items)

    def _written(self, answer: R, items: Sequence[tuple[str, bytes]]) -> Written[R]:
        limit = self._opened().size_limit
        largest_bytes = max((len(encode_key(key)) + len(value) for key, value in items), default=0)
        return Written(answer, largest_bytes if largest_bytes > limit.size_bytes else None, limit.reason)

    def delete(self, key: str) -> bool:
        """Delete one key; tells whether there was one."""
        return bool(self.run(Cache.delete, [key]))

    def exists(self, key: str) -> bool:
        """Tell whether there is a value."""
        (found,) = self.run(Cache.exists, [key])
        return bool(found)

    def get_multiple(self, keys: Sequence[str], *, is_strict: bool = False) -> EncodedValues:
        """Read values in one round trip; what is missing is left out, and unless ``is_strict`` what is unreadable."""
        values = self.run(Cache.get, keys)
        found = {key: data for key, data in zip(keys, values, strict=True) if data is not None}
        return EncodedValues(found, is_strict=is_strict)

    def health(self) -> dict[str, Any]:
        """Tell the actor's status; asks no server."""
        return {
            "place": self._settings.url.masked,
            "prefix": self._settings.prefix,
            "pid": os.getpid(),
            "started_at": self._started_at,
            "is_open": self._cache is not None,
            "outage": None if self._cache is None else self._cache.outage,
        }

    def close(self) -> None:
        """Close all connections."""
        if self._cache is not None:
            self._cache.close()


def create_cache(
    url: BackendUrl,
    prefix: str,
    *,
    pool_size: int = 8,
    timeout_s: float = 1.0,
    longest_s: float = 30.0,
    incarnation: Incarnation | None = None,
) -> Cache:
    """Make the cache that a URL names, not opened yet. To be called where it will be used: references are followed.

    Args:
        url: of Redis, of Valkey, or ``memory://``.
        prefix: what tells its keys from those of others on the same server.
        pool_size: connections at most.
        timeout_s: how long a server may be silent.
        longest_s: how long it may take for one exchange, however much moves.
        incarnation: which life of which actor this is; with it, what is lost in an outage outlives the process.

    Raises:
        ConfigurationError: a reference cannot be followed here, or leads to something else than a cache.
    """
    text = url.resolve("cache")
    if text.startswith("memory:"):
        stated = parse_qs(urlsplit(text).query).get("max_bytes")
        return MemoryCache(max_bytes=int(stated[0]) if stated else DEFAULT_MAX_BYTES)
    # Where nobody connects to Redis, its driver is not loaded.
    from morphml_ray.cache.redis import RedisCache  # noqa: PLC0415 - see above

    return RedisCache(
        url, prefix, pool_size=pool_size, timeout_s=timeout_s, longest_s=longest_s, incarnation=incarnation
    )
