"""What keys of the cache stand for, how long they are kept, and what goes with them; in memory and on Valkey."""

import math
from enum import Enum
from typing import Any

import pytest
import ray
from caches import open_cache
from waiting import wait_until

import morphml_ray as mr
from morphml_ray.rpc.deploy import stop_actor


class Op(str, Enum):
    """Texts of a class that no actor can import."""

    CONV = "conv"
    ANY = "conv*"
    OWN = "morphml-op"


@pytest.mark.parametrize("ttl", [0, -1, 0.0, math.nan])
def test_lesson_18_a_ttl_of_nothing_is_refused(cache: mr.DistributedCache, ttl: float) -> None:
    cache.set("a", 1)
    with pytest.raises(mr.ValidationError, match="ttl"):
        cache.set("a", 2, ttl=ttl)
    with pytest.raises(mr.ValidationError, match="ttl"):
        cache.set_multiple({"a": 2}, ttl=ttl)
    with pytest.raises(mr.ValidationError, match="ttl"):
        cache.cache_architecture_result("g1:00", 2, ttl=ttl)
    with pytest.raises(mr.ValidationError, match="ttl"):
        cache.cache_optimizer_state(1, 7, 2, ttl=ttl)
    assert cache.get("a") == 1
    assert cache.get_statistics()["num_keys"] == 1


@pytest.mark.usefixtures("namespace")
def test_lesson_18_the_default_ttl_is_that_of_every_write(any_cache_url: str) -> None:
    cache = mr.DistributedCache(any_cache_url, "morphml-ttl", default_ttl=600)
    cache.set("a", 1)
    cache.set_multiple({"b": 1})
    cache.set_multiple({"c": 1}, ttl=60)
    cache.cache_architecture_result("e", 1, ttl=None)
    copied: mr.DistributedCache = ray.get(ray.put(cache))
    copied.set("d", 1)
    left = {key: cache.get_ttl(key) or math.inf for key in ("a", "b", "c", "d", "result:e")}
    assert left.pop("c") <= 60
    assert all(500 < seconds <= 600 for seconds in left.values())
    with pytest.raises(mr.NotFoundError):
        cache.get_ttl("missing")
    with pytest.raises(mr.ValidationError, match="ttl"):
        mr.DistributedCache(any_cache_url, "morphml-ttl", default_ttl=0)
    stop_actor(cache.channel.handle, 10)


def test_lesson_18_results_and_states_have_times_of_their_own(cache: mr.DistributedCache) -> None:
    for hash_, state, ttl in [("g1:00", 0, ()), ("g1:01", 1, (60,)), ("g1:02", 2, (None,))]:
        cache.cache_architecture_result(hash_, 1, *ttl)
        cache.cache_optimizer_state(1, state, 1, *ttl)
    left = [cache.get_ttl(f"result:g1:0{number}") or math.inf for number in range(3)]
    left += [cache.get_ttl(f"experiment:1:optimizer:{number}") or math.inf for number in range(3)]
    for seconds, expected in zip(left, [86_400, 60, math.inf, 3_600, 60, math.inf], strict=True):
        assert expected - 30 <= seconds <= expected


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
    cache.cache_optimizer_state(1, 7, {})
    assert cache.get_architecture_result("g1:00", seed=None) == {}
    assert cache.get_optimizer_state(1, 7) == {}
    assert (cache.get_architecture_result("g1:01"), cache.get_optimizer_state(1, 8)) == (None, None)


def test_lesson_20_a_result_belongs_to_its_condition(cache: mr.DistributedCache) -> None:
    conditions: list[dict[str, Any]] = [
        {},
        {"seed": 0},
        {"seed": 1},
        {"fidelity": {"epochs": 5}},
        {"fidelity": {"epochs": 10}},
        {"fidelity": {"epochs": 5, "data": "cifar"}},
        {"fidelity": {"epochs": 5, "data": "mnist"}},
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
    assert cache.get_architecture_result("g1:00", experiment_id="1") == conditions.index({"experiment_id": 1})
    assert cache.get_architecture_result("g1:00", seed=2) is None
    assert cache.get_architecture_result("g1:00", fidelity={"data": "cifar"}) is None
    assert cache.get_architecture_result("g1:01") is None


def test_lesson_20_a_state_belongs_to_its_generation(cache: mr.DistributedCache) -> None:
    for generation in (7, 8):
        cache.cache_optimizer_state(1, generation, {"of": generation})
    assert [cache.get_optimizer_state(1, generation) for generation in (7, 8, 9)] == [{"of": 7}, {"of": 8}, None]
    assert cache.get_optimizer_state(2, 7) is None


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


@pytest.mark.usefixtures("namespace")
def test_case_61_a_text_of_a_class_of_the_callers_is_a_plain_text(any_cache_url: str) -> None:
    cache = mr.DistributedCache(any_cache_url, Op.OWN)
    assert cache.set(Op.CONV, 1)
    assert (cache.get(Op.CONV), cache.get("conv"), cache.exists(Op.CONV), cache.get_ttl(Op.CONV)) == (1, 1, True, None)
    assert cache.increment(Op.CONV) == 2
    assert cache.decrement(Op.CONV) == 1
    assert cache.set_multiple({Op.CONV: 5}) == 1
    (key,) = cache.get_multiple([Op.CONV, "missing"])
    assert (type(key), key) == (str, "conv")
    assert ray.get(cache.get.remote(Op.CONV)) == 5
    assert cache.invalidate_pattern(Op.ANY) == 1
    condition: dict[str, Any] = {"experiment_id": Op.CONV, "seed": Op.CONV, "fidelity": {"op": Op.CONV}}
    assert cache.cache_architecture_result(Op.CONV, 1, **condition)
    assert cache.get_architecture_result("conv", experiment_id="conv", seed="conv", fidelity={"op": "conv"}) == 1
    assert cache.cache_optimizer_state(Op.CONV, 3, 1)
    assert cache.get_optimizer_state("conv", 3) == 1
    assert cache.invalidate_experiment(Op.CONV) == 2
    assert not cache.delete(Op.CONV)
    assert mr.DistributedCache(any_cache_url, "morphml-op").channel.handle == cache.channel.handle
    stop_actor(cache.channel.handle, 10)
