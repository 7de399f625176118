"""The cache that users call, through a real Ray, in memory and on Valkey."""

import asyncio
import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import redis
from waiting import wait_until

import morphml_ray as mr
from morphml_ray.actors.cache import CacheActor
from morphml_ray.actors.deploy import start_actor, stop_actor
from morphml_ray.client.cache import cache_settings
from morphml_ray.client.channel import open_channel
from morphml_ray.client.remote_method import RemoteMethod

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**63, 10**30, 0.5, -0.0, math.inf, "", "12", "ключ", b"", b"12"),
    *((), (1, 2), [], [1, (2,)], {}, {1: "a", "b": None}, {(1, 2): 3}, set(), {1, 2}, frozenset({1}), [{}]),
]


@dataclass
class Seen:
    """A value that is no plain data."""

    text: str


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def open_cache(url: str, prefix: str, namespace: str) -> mr.DistributedCache:
    settings = cache_settings(mr.StorageConfig(cache=url), prefix)
    handle = start_actor(CacheActor, settings, f"cache:{prefix}", namespace)
    return mr.DistributedCache.over(open_channel(handle, settings))


@pytest.fixture(params=["memory", "valkey"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty cache, once on each technology."""
    found: str = "memory://" if request.param == "memory" else request.getfixturevalue("cache_url")
    return found


@pytest.fixture
def cache(url: str, namespace: str) -> Iterator[mr.DistributedCache]:
    """A cache of the test's own."""
    found = open_cache(url, "morphml", namespace)
    yield found
    stop_actor(found.channel.handle, 10)


@pytest.fixture
def valkey_cache(cache_url: str, namespace: str) -> Iterator[mr.DistributedCache]:
    """A cache of the test's own on Valkey."""
    found = open_cache(cache_url, "morphml", namespace)
    yield found
    stop_actor(found.channel.handle, 10)


def plant(url: str, key: str, data: bytes) -> None:
    """Replace a value behind the cache's back."""
    with redis.Redis.from_url(url, protocol=2) as client:
        (found,) = [name for name in client.scan_iter() if name.endswith(key.encode())]
        client.set(found, data)


def test_every_method_blocks_and_has_remote_with_the_same_value(cache: mr.DistributedCache) -> None:
    cache.set("a", [1])
    cache.set("n", 5)
    calls: dict[str, tuple[Any, ...]] = {
        "set": ("a", [1]),
        "get": ("a",),
        "delete": ("missing",),
        "exists": ("a",),
        "cache_architecture_result": ("g1:00", {"accuracy": 0.5}),
        "get_architecture_result": ("g1:00",),
        "cache_optimizer_state": (1, 2, {"population": [1]}),
        "get_optimizer_state": (1, 2),
        "invalidate_pattern": ("missing*",),
        "invalidate_experiment": ("missing",),
        "set_multiple": ({"b": 1, "c": 2},),
        "get_multiple": (["a", "b", "missing"],),
        "increment": ("n", 0),
        "decrement": ("n", 0),
        "get_ttl": ("a",),
        "get_statistics": (),
        "clear_all": (),
    }
    methods = {name for name, value in vars(mr.DistributedCache).items() if isinstance(value, RemoteMethod)}
    assert methods == set(calls)
    for name, arguments in calls.items():
        method = getattr(cache, name)
        blocking, remote = method(*arguments), ray.get(method.remote(*arguments))
        assert (name in ("get_statistics", "clear_all")) or blocking == remote, name
        assert type(blocking) is type(remote), name

    async def awaited() -> Any:
        return await cache.get.remote("a", [2])

    assert asyncio.run(awaited()) == [2]
    cache.close()
    assert cache.set("a", 1) == 1


def test_values_come_back_as_they_were(cache: mr.DistributedCache) -> None:
    cache.set_multiple({str(number): value for number, value in enumerate(VALUES)})
    found = cache.get_multiple(str(number) for number in range(len(VALUES)))
    for number, value in enumerate(VALUES):
        for read in (cache.get(str(number)), found[str(number)], ray.get(cache.get.remote(str(number)))):
            assert (type(read), repr(read)) == (type(value), repr(value))
    cache.set("array", np.arange(6, dtype=np.float16).reshape(2, 3))
    array = cache.get("array")
    assert (array.dtype, array.shape) == (np.float16, (2, 3))
    array[0, 0] = 7  # its own copy
    cache.set("object", Seen("x"))
    assert cache.get("object") == Seen("x")
    assert cache.get("array")[0, 0] == 0


def test_lesson_17_a_planted_pickle_is_refused_unread(
    valkey_cache: mr.DistributedCache, cache_url: str, tmp_path: Path
) -> None:
    valkey_cache.set_multiple({"a": 1, "b": 2})
    for planted in (pickle.dumps(Trap(tmp_path / "trap")), pickle.dumps(Trap(tmp_path / "trap"), protocol=0)):
        plant(cache_url, "a", planted)
        with pytest.raises(mr.UntrustedDataError):
            valkey_cache.get("a")
        with pytest.raises(mr.UntrustedDataError):
            valkey_cache.get_multiple(["b", "a"])
    plant(cache_url, "a", b"no value")
    with pytest.raises(mr.CorruptDataError):
        valkey_cache.get("a")
    assert not (tmp_path / "trap").exists()
    assert valkey_cache.get("b") == 2


def test_lesson_17_a_pickle_with_another_signature_is_refused(
    valkey_cache: mr.DistributedCache, cache_url: str
) -> None:
    valkey_cache.set("a", Seen("x"))
    with redis.Redis.from_url(cache_url, protocol=2) as client:
        (name,) = client.scan_iter()
        data = bytearray(client.get(name) or b"")
    data[-1] ^= 1
    plant(cache_url, "a", bytes(data))
    with pytest.raises((mr.UntrustedDataError, mr.CorruptDataError)):
        valkey_cache.get("a")


@pytest.mark.parametrize("ttl", [0, -1, 0.0, math.nan])
def test_lesson_18_a_ttl_of_nothing_is_refused(cache: mr.DistributedCache, ttl: float) -> None:
    cache.set("a", 1)
    with pytest.raises(mr.ValidationError, match="ttl"):
        cache.set("a", 2, ttl=ttl)
    with pytest.raises(mr.ValidationError, match="ttl"):
        cache.set_multiple({"a": 2}, ttl=ttl)
    assert cache.get("a") == 1


@pytest.mark.usefixtures("namespace")
def test_lesson_18_the_default_ttl_is_that_of_every_write(cache_url: str) -> None:
    cache = mr.DistributedCache(cache_url, "morphml-ttl", default_ttl=600)
    cache.set("a", 1)
    cache.set_multiple({"b": 1})
    cache.set_multiple({"c": 1}, ttl=60)
    copied: mr.DistributedCache = ray.get(ray.put(cache))
    copied.set("d", 1)
    left = {key: cache.get_ttl(key) or math.inf for key in "abcd"}
    assert all(500 < left[key] <= 600 for key in "abd")
    assert left["c"] <= 60
    with pytest.raises(mr.NotFoundError):
        cache.get_ttl("missing")
    with pytest.raises(mr.ValidationError, match="ttl"):
        mr.DistributedCache(cache_url, "morphml-ttl", default_ttl=0)
    stop_actor(cache.channel.handle, 10)


def test_time_runs_out(cache: mr.DistributedCache) -> None:
    cache.set("short", 1, ttl=0.05)
    cache.set("long", 1)
    wait_until(lambda: not cache.exists("short"), 10)
    assert cache.get("short", "gone") == "gone"
    assert cache.get_ttl("long") is None


def test_lesson_18_counters_and_values_are_one(cache: mr.DistributedCache) -> None:
    cache.set("n", 41)
    assert cache.increment("n") == 42
    assert cache.get("n") == 42
    assert cache.decrement("n", 2) == 40
    assert cache.increment("new", 5) == 5
    cache.set("new", cache.get("new"))
    assert cache.increment("new") == 6
    cache.set("text", "41")
    with pytest.raises(mr.ValidationError):
        cache.increment("text")
    assert cache.get("text") == "41"


def test_lesson_19_none_and_empty_are_values(cache: mr.DistributedCache) -> None:
    missing = object()
    cache.set_multiple({"none": None, "empty": {}, "zero": 0})
    assert cache.get("none", missing) is None
    assert cache.get("empty", missing) == {}
    assert cache.get("absent", missing) is missing
    assert cache.get("absent") is None
    assert ray.get(cache.get.remote("none", 5)) is None
    assert ray.get(cache.get.remote("absent", {"a": 1})) == {"a": 1}
    assert cache.get_multiple(["none", "empty", "absent", "zero"]) == {"none": None, "empty": {}, "zero": 0}
    assert cache.exists("none")
    assert not cache.exists("absent")
    cache.cache_architecture_result("g1:00", {})
    assert cache.get_architecture_result("g1:00") == {}


def test_lesson_20_a_result_belongs_to_its_condition(cache: mr.DistributedCache) -> None:
    conditions: list[dict[str, Any]] = [
        {},
        {"seed": 0},
        {"seed": 1},
        {"fidelity": {"epochs": 5}},
        {"seed": 0, "fidelity": {"epochs": 5}},
        {"experiment_id": 1},
        {"experiment_id": 10},
        {"experiment_id": "digits", "seed": 0},
    ]
    for number, condition in enumerate(conditions):
        cache.cache_architecture_result("g1:00", number, **condition)
    assert [cache.get_architecture_result("g1:00", **condition) for condition in conditions] == list(
        range(len(conditions))
    )
    assert cache.get_architecture_result("g1:00", experiment_id="1") == 1 + 4
    assert cache.get_architecture_result("g1:00", seed=2) is None
    assert cache.get_architecture_result("g1:01") is None


def test_lesson_21_an_experiment_goes_with_its_results_and_states(cache: mr.DistributedCache) -> None:
    for experiment_id in (1, 10, "1*", "1:"):
        cache.cache_architecture_result("g1:00", experiment_id, experiment_id=experiment_id, seed=3)
        cache.cache_optimizer_state(experiment_id, 7, {"of": experiment_id})
    cache.set("own", 1)
    assert cache.invalidate_experiment("1*") == 2
    assert cache.invalidate_experiment(1) == 2
    assert cache.invalidate_experiment("1") == 0
    assert cache.get_architecture_result("g1:00", experiment_id=1, seed=3) is None
    assert cache.get_optimizer_state("1", 7) is None
    for experiment_id in (10, "1:"):
        assert cache.get_architecture_result("g1:00", experiment_id=experiment_id, seed=3) == experiment_id
        assert cache.get_optimizer_state(experiment_id, 7) == {"of": experiment_id}
    assert cache.get("own") == 1


def test_lesson_21_a_name_is_no_pattern_and_a_pattern_is_one(cache: mr.DistributedCache) -> None:
    cache.set_multiple({"a*": 1, "ab": 2, "a?": 3, "b": 4})
    assert cache.delete("a*") == 1
    assert cache.get_multiple(["ab", "a?", "b"]) == {"ab": 2, "a?": 3, "b": 4}
    assert cache.invalidate_pattern("a?") == 2
    assert cache.get_multiple(["ab", "a?", "b"]) == {"b": 4}


def test_lesson_21_and_23_prefixes_are_apart(cache_url: str, namespace: str) -> None:
    caches = [open_cache(cache_url, prefix, namespace) for prefix in ("morphml", "morphml:staging", "morphml*")]
    for number, cache in enumerate(caches):
        cache.set("a", number)
    caches[1].get_multiple(["a", "missing", "missing too"])
    assert [cache.get("a") for cache in caches] == [0, 1, 2]
    assert [cache.get_statistics()["hit_rate"] for cache in caches] == [100.0, 50.0, 100.0]
    assert caches[0].clear_all() == 1
    assert [cache.get("a") for cache in caches] == [None, 1, 2]
    assert [cache.get_statistics()["num_keys"] for cache in caches] == [0, 1, 1]
    for cache in caches:
        stop_actor(cache.channel.handle, 10)


def test_wrong_keys_are_refused_in_the_caller(cache: mr.DistributedCache) -> None:
    for key in ("", 5, None, b"a"):
        for call in (cache.get, cache.delete, cache.exists, cache.get_ttl, cache.increment):
            with pytest.raises(mr.ValidationError, match="key"):
                call(key)  # type: ignore[arg-type]  # that it is wrong is the point
    with pytest.raises(mr.ValidationError):
        cache.increment("n", 0.5)  # type: ignore[arg-type]  # the same
    with pytest.raises(mr.ValidationError):
        cache.set("generator", (number for number in range(3)))
    assert cache.get_statistics()["num_keys"] == 0


def test_tasks_share_it(cache: mr.DistributedCache) -> None:
    @ray.remote(num_cpus=0)
    def work(cache: mr.DistributedCache, number: int) -> tuple[int | None, dict[str, Any]]:
        cache.set(f"value {number}", {"number": (number,)})
        return cache.increment("finished"), cache.get_multiple(["shared", "missing"])

    cache.set("shared", {"a": 1})
    answers = ray.get([work.remote(cache, number) for number in range(8)])
    assert sorted(count or 0 for count, _ in answers) == list(range(1, 9))
    assert all(found == {"shared": {"a": 1}} for _, found in answers)
    assert cache.get_multiple(f"value {number}" for number in range(8)) == {
        f"value {number}": {"number": (number,)} for number in range(8)
    }


def test_many_keys_are_one_call(cache: mr.DistributedCache) -> None:
    values = {f"key {number}": [number] * 10 for number in range(2000)}
    assert cache.set_multiple(values) == 2000
    assert cache.get_multiple(values) == values
    assert cache.get_statistics()["hits"] == 2000
    assert cache.clear_all() == 2000


@pytest.mark.usefixtures("namespace")
def test_a_wrong_password_is_named_at_once_and_no_secret_is_shown(cache_url: str) -> None:
    password = cache_url.partition("//:")[2].partition("@")[0]
    with pytest.raises(mr.ConfigurationError) as caught:
        mr.DistributedCache(cache_url.replace(password, "wrong-password"), "morphml-wrong")
    assert "wrong-password" not in str(caught.value)
    # The same place with the right password: the actor that was refused is used again.
    cache = mr.DistributedCache(cache_url, "morphml-wrong")
    assert password not in repr(cache) + repr(cache.channel)
    again = mr.DistributedCache(cache_url, "morphml-wrong")
    cache.set("a", 1)
    assert again.get("a") == 1
    stop_actor(cache.channel.handle, 10)
