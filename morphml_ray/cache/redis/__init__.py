"""The cache contract on Redis, Valkey, and what speaks their protocol."""

from morphml_ray.cache.redis.cache import RedisCache

__all__ = ["RedisCache"]
