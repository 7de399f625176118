"""Caches of a test's own, with nothing else of a storage."""

import morphml_ray as mr
from morphml_ray.cache.actor import CacheActor
from morphml_ray.cache.manager import cache_settings
from morphml_ray.rpc.deploy import ActorAddress
from morphml_ray.rpc.visit import open_actor


def open_cache(url: str, prefix: str, namespace: str) -> mr.DistributedCache:
    settings = cache_settings(mr.StorageConfig(cache=url), prefix)
    return mr.DistributedCache.over(open_actor(CacheActor, settings, ActorAddress(f"cache:{prefix}", namespace)))
