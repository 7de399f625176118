"""The actor in front of the cache."""

import asyncio
import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from morphml_ray.actors.cached_values import EncodedValue, EncodedValues
from morphml_ray.actors.description import PROTOCOL_VERSION, ActorDescription
from morphml_ray.backends.cache_contract import Cache
from morphml_ray.backends.caches import create_cache
from morphml_ray.config import BackendUrl, fingerprint
from morphml_ray.errors import ValidationError

OPERATIONS = frozenset(
    {
        *("get", "set", "delete", "exists", "increment", "ttl_s"),
        *("delete_matching", "delete_prefix", "clear", "statistics"),
    }
)


@dataclass(frozen=True)
class CacheSettings:
    """What a cache actor is made of; holds references to secrets, never secrets.

    Attributes:
        url: of Redis or Valkey, or ``memory://``.
        prefix: tells its keys from those of others on the same server.
        timeout_s: how long a server may be silent, seconds.
        deadline_s: how long an answer may take in all, seconds.
        pool_size: connections at most.
    """

    url: BackendUrl
    prefix: str
    timeout_s: float
    deadline_s: float
    pool_size: int = 8

    def describe(self) -> ActorDescription:
        """Tell what an actor of these settings serves."""
        prefix = hashlib.sha256(self.prefix.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return ActorDescription(PROTOCOL_VERSION, f"{fingerprint(self.url)}-{prefix}", self.url.masked, self.deadline_s)


class CacheActor:
    """Moves bytes to and from a cache; nothing of it raises when the server is away.

    The constructor does not connect; the first call does.

    Args:
        settings: see ``CacheSettings``.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._cache: Cache | None = None
        self._threads = ThreadPoolExecutor(settings.pool_size, thread_name_prefix="morphml-cache")
        self._opening = asyncio.Lock()
        self._started_at = time.time()

    async def describe(self) -> ActorDescription:
        """Tell what this actor serves, without connecting."""
        return self._settings.describe()

    async def ready(self) -> None:
        """Connect now; a server that does not answer is an outage, and no error.

        Raises:
            ConfigurationError: no waiting helps: a wrong password, another kind of server.
        """
        await self._opened()

    async def _opened(self) -> Cache:
        if self._cache is None:
            async with self._opening:
                if self._cache is None:
                    self._cache = await self._run(self._open)
        return self._cache

    def _open(self) -> Cache:
        settings = self._settings
        cache = create_cache(settings.url, settings.prefix, pool_size=settings.pool_size, timeout_s=settings.timeout_s)
        cache.open()
        return cache

    async def call(self, operation: str, *arguments: Any) -> Any:
        """Run one of ``OPERATIONS``."""
        if operation not in OPERATIONS:
            raise ValidationError(f"the cache actor has no operation {operation!r}")
        return await self._run(getattr(await self._opened(), operation), *arguments)

    async def get(self, key: str, default: bytes | None) -> EncodedValue | None:
        """Read one value; where there is none, ``default``, encoded too."""
        (found,) = await self.call("get", [key])
        data = default if found is None else found
        return None if data is None else EncodedValue(data)

    async def exists(self, key: str) -> bool:
        """Tell whether there is a value."""
        (found,) = await self.call("exists", [key])
        return bool(found)

    async def get_multiple(self, keys: Sequence[str]) -> EncodedValues:
        """Read values in one round trip; what is missing is left out."""
        values = await self.call("get", keys)
        return EncodedValues({key: data for key, data in zip(keys, values, strict=True) if data is not None})

    async def health(self) -> dict[str, Any]:
        """Tell how the actor does; asks no server."""
        return {
            "place": self._settings.url.masked,
            "prefix": self._settings.prefix,
            "pid": os.getpid(),
            "started_at": self._started_at,
            "is_open": self._cache is not None,
        }

    async def close(self) -> None:
        """Let all connections go."""
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        if self._cache is not None:
            self._cache.close()

    async def _run(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
