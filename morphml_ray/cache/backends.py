"""From the URL of a cache to the cache."""

from urllib.parse import parse_qs, urlsplit

from morphml_ray.cache.contract import Cache
from morphml_ray.cache.memory import DEFAULT_MAX_BYTES, MemoryCache
from morphml_ray.config import BackendUrl


def create_cache(url: BackendUrl, prefix: str, *, pool_size: int = 8, timeout_s: float = 1.0) -> Cache:
    """Make the cache that a URL names, not opened yet. To be called where it will be used: references are followed.

    Args:
        url: of Redis, of Valkey, or ``memory://``.
        prefix: what tells its keys from those of others on the same server.
        pool_size: connections at most.
        timeout_s: how long a server may be silent.

    Raises:
        ConfigurationError: a reference cannot be followed here, or leads to something else than a cache.
    """
    text = url.resolve("cache")
    if text.startswith("memory:"):
        stated = parse_qs(urlsplit(text).query).get("max_bytes")
        return MemoryCache(max_bytes=int(stated[0]) if stated else DEFAULT_MAX_BYTES)
    # Where nobody connects to Redis, its driver is not loaded.
    from morphml_ray.cache.redis import RedisCache  # noqa: PLC0415 - see above

    return RedisCache(url, prefix, pool_size=pool_size, timeout_s=timeout_s)
