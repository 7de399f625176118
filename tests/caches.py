"""Caches of a test's own, with nothing else of a storage."""

import morphml_ray as mr
from morphml_ray.actors.cache import CacheActor
from morphml_ray.actors.deploy import start_actor
from morphml_ray.client.cache import cache_settings
from morphml_ray.client.channel import open_channel


def open_cache(url: str, prefix: str, namespace: str) -> mr.DistributedCache:
    settings = cache_settings(mr.StorageConfig(cache=url), prefix)
    handle = start_actor(CacheActor, settings, f"cache:{prefix}", namespace)
    return mr.DistributedCache.over(open_channel(handle, settings))
