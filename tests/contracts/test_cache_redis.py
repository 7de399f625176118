"""Redis, tested on Valkey, keeps the contract, and says what it cannot work with."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from urllib.parse import urlsplit

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting import wait_until

from morphml_ray.cache.memory import MemoryCache
from morphml_ray.cache.redis import RedisCache
from morphml_ray.cache.redis.cache import _MAX_COUNTED_KEYS
from morphml_ray.cache.redis.pool import Command, RedisPool, Reply
from morphml_ray.config import BackendUrl
from morphml_ray.errors import ConfigurationError, ValidationError
from morphml_ray.testing import CacheContract
from morphml_ray.testing.cache import increment


class TestRedis(CacheContract):
    @pytest.fixture
    def open_cache(self, cache_url: str) -> Iterator[Callable[[str], RedisCache]]:
        opened: list[RedisCache] = []

        def open_one(prefix: str) -> RedisCache:
            # A busy machine is no outage.
            opened.append(RedisCache(BackendUrl(cache_url), prefix, timeout_s=20))
            opened[-1].open()
            return opened[-1]

        yield open_one
        for cache in opened:
            cache.close()

    @pytest.fixture
    def stored(self, raw: redis.Redis) -> Callable[[str, str], bytes | None]:
        def look(prefix: str, key: str) -> bytes | None:
            found = raw.get(stored_name(prefix, key))
            assert found is None or isinstance(found, bytes)
            return found

        return look

    @pytest.fixture
    def plant(self, raw: redis.Redis) -> Callable[[str, str, bytes], None]:
        def put(prefix: str, key: str, value: bytes) -> None:
            assert raw.set(stored_name(prefix, key), value)

        return put


@pytest.fixture
def cache(cache_url: str) -> Iterator[RedisCache]:
    made = RedisCache(BackendUrl(cache_url), "morphml", timeout_s=20)
    made.open()
    yield made
    made.close()


@pytest.fixture
def raw(cache_url: str) -> Iterator[redis.Redis]:
    """The server as others see it."""
    with redis.Redis.from_url(cache_url, protocol=2) as client:
        yield client


def stored_name(prefix: str, key: str) -> bytes:
    """Name a key as the server knows it."""
    encoded = prefix.replace("%", "%25").replace(":", "%3A")
    return f"{encoded}:{key}".encode("utf-8", "surrogatepass")


# What others see


def test_keys_stand_below_their_prefix(cache: RedisCache, raw: redis.Redis) -> None:
    cache.set([("a:b", b"value")], 60)
    assert raw.keys() == [b"morphml:a:b"]
    assert raw.get("morphml:a:b") == b"value"
    assert 0 < raw.ttl("morphml:a:b") <= 60
    raw.set("morphml:planted", b"by others")
    assert cache.get(["planted"]) == [b"by others"]


def test_lesson_21_keys_of_others_stay(cache: RedisCache, raw: redis.Redis) -> None:
    others = [b"morphml", b"morphml2:a", b"morphml%3Astaging:a", b"morphmlx", b"morphml-a"]
    raw.mset(dict.fromkeys(others, b"1"))
    cache.set([("a", b"1")], None)
    assert cache.statistics()["num_keys"] == 1
    assert cache.delete_matching("*") == 1
    assert cache.clear() == 0
    assert sorted(raw.keys()) == sorted(others)


def test_a_key_of_another_type_is_a_miss_and_no_counter(cache: RedisCache, raw: redis.Redis) -> None:
    raw.rpush("morphml:list", b"1")
    assert cache.get(["list"]) == [None]
    with pytest.raises(ValidationError, match="WRONGTYPE"):
        increment(cache, "list", 1)
    assert cache.statistics()["errors"] == 0
    assert cache.set([("list", b"1")], None) == 1


def test_keys_are_not_counted_where_that_takes_long(cache: RedisCache, raw: redis.Redis) -> None:
    raw.mset({f"morphml-other:{number}": b"" for number in range(_MAX_COUNTED_KEYS)})
    cache.set([("a", b"1")], None)
    told = cache.statistics()
    assert (told["num_keys"], told["size_bytes"], told["is_available"]) == (None, None, True)
    assert cache.clear() == 1


def test_connections_are_bounded_and_go_with_the_cache(cache_url: str, raw: redis.Redis) -> None:
    before = len(raw.client_list())
    cache = RedisCache(BackendUrl(cache_url), "morphml", pool_size=3, timeout_s=20)
    cache.open()
    threads = [threading.Thread(target=cache.get, args=([f"key {i}"],)) for i in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.statistics()["misses"] == 30
    assert before < len(raw.client_list()) <= before + 3
    cache.close()
    # The server may answer before it looks at who has hung up.
    wait_until(lambda: len(raw.client_list()) == before, 20)


# No ranges beyond ASCII: there it depends on the processor what a server makes of them.
@pytest.mark.parametrize("alphabet", ["ab*?[]\\^-", "abc*", "a?[]^é"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_memory_reads_patterns_as_redis_does(cache: RedisCache, alphabet: str, data: st.DataObject) -> None:
    words = st.text(st.sampled_from(list(alphabet)), max_size=8)
    keys = data.draw(st.sets(words, max_size=8))
    pattern = data.draw(words)
    memory = MemoryCache()
    memory.open()
    for one in (memory, cache):
        one.clear()
        one.set([(key, b"") for key in keys], None)
    assert memory.delete_matching(pattern) == cache.delete_matching(pattern)
    assert memory.exists(sorted(keys)) == cache.exists(sorted(keys))


# What it cannot work with


def test_a_wrong_password_is_no_outage(cache_url: str) -> None:
    parts = urlsplit(cache_url)
    for text in (f"redis://:S3NTINEL@{parts.hostname}:{parts.port}/0", f"redis://{parts.hostname}:{parts.port}"):
        with pytest.raises(ConfigurationError, match="refuses the login") as caught:
            RedisCache(BackendUrl(text), "morphml").open()
        assert "S3NTINEL" not in repr(caught.value)


def test_a_database_that_is_not_there_is_no_outage(cache_url: str) -> None:
    with pytest.raises(ConfigurationError, match="index is out of range"):
        RedisCache(BackendUrl(cache_url.replace("/0", "/99")), "morphml").open()


def test_databases_are_told_apart(cache: RedisCache, cache_url: str, raw: redis.Redis) -> None:
    other = RedisCache(BackendUrl(cache_url.replace("/0", "/1")), "morphml", timeout_s=20)
    other.open()
    other.set([("a", b"1")], None)
    assert cache.get(["a"]) == [None]
    assert raw.info("keyspace")["db1"]["keys"] == 1
    other.clear()
    other.close()


def test_a_full_server_drops_writes_and_keeps_no_older_value(
    cache: RedisCache, raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    cache.set([("a", b"old"), ("b", b"1")], None)
    raw.config_set("maxmemory", 1)
    try:
        assert cache.set([("a", b"new"), ("c", b"new")], None) == 0
        assert increment(cache, "n", 1) is None
        assert cache.get(["a", "b", "c"]) == [None, b"1", None]
    finally:
        raw.config_set("maxmemory", 0)
    told = cache.statistics()
    assert (told["dropped_writes"], told["errors"], told["outages"]) == (3, 3, 0)
    assert (told["last_error"] or "").startswith("OOM")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert cache.set([("a", b"new")], None) == 1


@pytest.fixture
def refusing(raw: redis.Redis) -> Callable[[], AbstractContextManager[None]]:
    """A block in which the server refuses all writes and deletions, as after a failover."""

    @contextmanager
    def block() -> Iterator[None]:
        raw.config_set("min-replicas-to-write", 1)
        try:
            yield
        finally:
            raw.config_set("min-replicas-to-write", 0)

    return block


def test_a_server_that_refuses_deletions_too_gives_no_older_value(
    cache: RedisCache, refusing: Callable[[], AbstractContextManager[None]], caplog: pytest.LogCaptureFixture
) -> None:
    cache.set([("a", b"old"), ("b1", b"old"), ("c", b"kept")], None)
    with refusing():
        assert cache.get(["c"]) == [b"kept"]
        assert cache.set([("a", b"new")], None) == 0
        for _ in range(3):
            assert cache.get(["a", "c"]) == [None, None]
        assert cache.delete_prefix("b") == 0
        assert cache.exists(["b1"]) == [False]
    told = cache.statistics()
    assert (told["is_available"], told["outages"], told["dropped_writes"]) == (True, 0, 2)
    assert (told["last_error"] or "").startswith("NOREPLICAS")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert cache.get(["a", "b1", "c"]) == [None, None, b"kept"]
    assert cache.set([("a", b"new")], None) == 1
    assert cache.get(["a"]) == [b"new"]


def test_nobody_reads_an_older_value_while_it_is_being_deleted(
    cache_url: str, refusing: Callable[[], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    deleting, go_on = threading.Event(), threading.Event()
    exchange = RedisPool.exchange

    def delay(pool: RedisPool, commands: Sequence[Command]) -> list[Reply]:
        if commands[0][0] == "UNLINK":
            deleting.set()
            assert go_on.wait(20)
        return exchange(pool, commands)

    cache = RedisCache(BackendUrl(cache_url), "morphml", timeout_s=0.5)
    with closing(cache), ThreadPoolExecutor(1) as threads:
        cache.open()
        cache.set([("a", b"old")], None)
        with refusing():
            assert cache.set([("a", b"new")], None) == 0
        monkeypatch.setattr(RedisPool, "exchange", delay)
        first = threads.submit(cache.get, ["a"])
        assert deleting.wait(20)
        assert cache.get(["a"]) == [None]
        go_on.set()
        assert first.result() == [None]
        assert cache.set([("a", b"new")], None) == 1
        assert cache.get(["a"]) == [b"new"]


def test_a_value_that_no_server_takes_is_dropped(cache: RedisCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morphml_ray.cache.redis.cache._MAX_VALUE_BYTES", 10)
    assert cache.set([("a", b"old")], None) == 1
    assert cache.set([("a", b"x" * 11), ("b", b"1")], None) == 1
    assert cache.get(["a", "b"]) == [None, b"1"]
    assert cache.statistics()["dropped_writes"] == 1
    assert cache.size_limit.size_bytes == 512 * 1024 * 1024
    assert "536,870,912" in cache.size_limit.reason
    assert "proto-max-bulk-len" in cache.size_limit.reason


def test_a_cluster_is_refused(monkeypatch: pytest.MonkeyPatch, cache_url: str) -> None:
    # No cluster is at hand: its answer is.
    monkeypatch.setattr(
        "morphml_ray.cache.redis.pool.RedisPool.exchange", lambda *_: [b"# Server\r\nredis_mode:cluster\r\n", 0]
    )
    with pytest.raises(ConfigurationError, match="part of a cluster"):
        RedisCache(BackendUrl(cache_url), "morphml").open()
