"""Users of Redis who may not do everything: what they may still works, and nothing that was replaced comes back."""

import contextlib
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import redis

from morphml_ray.cache.redis import RedisCache
from morphml_ray.config import BackendUrl
from morphml_ray.errors import ConfigurationError, NotFoundError
from morphml_ray.testing.cache import increment

ALL_BUT_SCAN = "~morphml:* ~morphml%op:* +@read +@write +@connection +@scripting -scan"


@pytest.fixture
def raw(cache_url: str) -> Iterator[redis.Redis]:
    """The server as others see it."""
    with redis.Redis.from_url(cache_url, protocol=2) as client:
        yield client


@pytest.fixture
def limited(cache_url: str, rights: Callable[[str], object]) -> Iterator[Callable[[str], RedisCache]]:
    """A function that opens a cache as a user with these rights."""
    with contextlib.ExitStack() as stack:

        def open_one(words: str) -> RedisCache:
            rights(words)
            cache = RedisCache(user_url(cache_url, "limited"), "morphml", timeout_s=20)
            stack.callback(cache.close)
            cache.open()
            return cache

        yield open_one


def user_url(url: str, name: str, password: str = "pw") -> BackendUrl:  # noqa: S107 - of users that tests make
    parts = urlsplit(url)
    return BackendUrl(f"redis://{name}:{password}@{parts.hostname}:{parts.port}/0")


@pytest.fixture
def rights(raw: redis.Redis) -> Iterator[Callable[[str], object]]:
    """A function that makes the user "limited" with these rights."""
    ask: Callable[..., object] = raw.execute_command
    yield lambda words: ask("ACL", "SETUSER", "limited", "reset", "on", ">pw", *words.split())
    ask("ACL", "DELUSER", "limited")


def test_a_user_with_rights_to_its_own_keys_is_enough(cache_url: str, rights: Callable[[str], object]) -> None:
    rights("~morphml:* ~morphml%op:* +@read +@write +@connection +@scripting +scan")
    cache = RedisCache(user_url(cache_url, "limited"), "morphml", timeout_s=20)
    cache.open()
    assert cache.set([("a", b"1")], None) == 1
    assert (cache.get(["a"]), increment(cache, "a", 1), cache.clear()) == ([b"1"], 2, 1)
    cache.close()


def test_a_user_who_may_not_read_is_a_mistake(cache_url: str, rights: Callable[[str], object]) -> None:
    rights("~other:* +@all")
    with pytest.raises(ConfigurationError, match="NOPERM"):
        RedisCache(user_url(cache_url, "limited"), "morphml").open()


def test_a_user_who_may_not_write_drops_writes(
    cache_url: str, rights: Callable[[str], object], raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    rights("~morphml:* +@read +@connection")
    raw.set("morphml:a", b"kept")
    cache = RedisCache(user_url(cache_url, "limited"), "morphml", timeout_s=20)
    cache.open()
    assert cache.set([("a", b"1"), ("b", b"1")], None) == 0
    assert (cache.delete(["a"]), increment(cache, "n", 1), cache.get(["a"])) == (0, None, [None])
    assert cache.clear() == 0
    rights("~morphml:* +@read +@connection -scan")
    assert cache.delete_matching("*") == 0
    told = cache.statistics()
    assert (told["dropped_writes"], told["is_available"], told["num_keys"]) == (6, True, None)
    assert told["errors"] >= 6
    assert "NOPERM" in (told["last_error"] or "")
    assert len([record for record in caplog.records if "'set'" in record.message]) == 1
    cache.close()


def test_case_17_an_invalidation_without_the_right_to_scan_does_not_switch_the_cache_off(
    limited: Callable[[str], RedisCache], raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    cache = limited(ALL_BUT_SCAN)
    cache.set([("a1", b"old"), ("a2", b"old"), ("a3", b"7"), ("b", b"kept")], None)
    assert cache.delete_matching("a*") == 0
    for _ in range(3):
        assert cache.get(["a1", "a2", "b"]) == [None, None, b"kept"]
    assert cache.exists(["a1", "b"]) == [False, True]
    with pytest.raises(NotFoundError):
        cache.ttl_s("a1")
    # What is written afterwards is read, and what was to be deleted is counted from 0.
    assert cache.set([("a1", b"new")], None) == 1
    assert increment(cache, "a3", 1) == 1
    assert cache.get(["a1", "a2", "a3"]) == [b"new", None, b"1"]
    assert cache.delete(["a2"]) == 1
    told = cache.statistics()
    assert (told["is_available"], told["outages"], told["dropped_writes"]) == (True, 0, 1)
    assert "NOPERM" in (told["last_error"] or "")
    assert len([record for record in caplog.records if "'scan'" in record.message]) == 1
    assert raw.get("morphml:b") == b"kept"


def test_case_17_an_invalidation_is_done_once_the_right_is_given(
    limited: Callable[[str], RedisCache], rights: Callable[[str], object], raw: redis.Redis
) -> None:
    cache = limited(ALL_BUT_SCAN)
    cache.set([("a1", b"old"), ("b", b"old")], None)
    assert cache.clear() == 0
    assert cache.get(["a1", "b"]) == [None, None]
    rights(ALL_BUT_SCAN.replace("-scan", "+scan"))
    assert cache.clear() == 2
    raw.set("morphml:b", b"by others")
    assert cache.get(["a1", "b"]) == [None, b"by others"]


def test_case_17_a_write_without_the_right_hides_its_own_key_only(
    limited: Callable[[str], RedisCache], raw: redis.Redis
) -> None:
    raw.mset({"morphml:a": b"old", "morphml:b": b"kept", "morphml:n": b"5"})
    cache = limited("~morphml:* +@read +@connection")
    assert (cache.set([("a", b"new")], None), increment(cache, "n", 1)) == (0, None)
    for _ in range(2):
        assert cache.get(["a", "b", "n"]) == [None, b"kept", b"5"]
    assert increment(cache, "a", 1) is None
    assert cache.statistics()["is_available"]
