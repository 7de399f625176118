"""Killing and hanging the cache's server, and killing the cache actor, while workers evaluate."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest
import ray
from outages import connect
from waiting import wait_until

import morphml_ray as mr
from morphml_ray.devstack import ValkeyServer

# Workers cannot import tests.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]  # Ray leaves it untyped

# What a cache's silent server costs at most: two time-outs of a second, and what a busy machine adds.
SLACK_S = 8.0
TIMEOUT_S = 1.5
ROUNDS = 150


@ray.remote(num_cpus=1)  # four at once, by four processes
def evaluate(storage: mr.Storage, number: int) -> float:
    """Work as a worker does that looks first whether somebody has the result."""
    key = f"g1:{number % 5}"
    found = storage.cache.get_architecture_result(key)
    if found is None:
        found = {"accuracy": number % 5 / 10}
        storage.cache.cache_architecture_result(key, found)
    storage.cache.increment("evaluations")
    storage.experiment("one").record({"number": number}, found["accuracy"])
    return float(found["accuracy"])


EXPECTED = [number % 5 / 10 for number in range(20)]


def test_lesson_22_an_evaluation_never_notices_that_valkey_is_away(
    namespace: str, tmp_path: Path, valkey: ValkeyServer
) -> None:
    storage = connect(namespace, tmp_path, cache=valkey.url)
    cache = storage.cache
    assert ray.get([evaluate.remote(storage, number) for number in range(20)]) == EXPECTED
    assert cache.get_architecture_result("g1:3") == {"accuracy": 0.3}
    valkey.kill()
    begun = time.monotonic()
    assert ray.get([evaluate.remote(storage, number) for number in range(20, 40)], timeout=60) == EXPECTED
    missing = object()
    assert cache.get("evaluations", missing) is missing
    assert (cache.set("a", 1), cache.set_multiple({"a": 1, "b": 2}), cache.increment("evaluations")) == (0, 0, None)
    assert (cache.get_multiple(["a", "b"]), cache.exists("a"), cache.delete("a"), cache.clear_all()) == (
        {},
        False,
        0,
        0,
    )
    assert (cache.invalidate_experiment(1), cache.invalidate_pattern("*")) == (0, 0)
    assert time.monotonic() - begun < 60
    told = cache.get_statistics()
    assert (told["is_available"], told["outages"], told["num_keys"]) == (False, 1, None)
    assert told["dropped_writes"] >= 20 + 3
    assert storage.status()["cache"]["restarts"] == 0
    begun = time.monotonic()
    for _ in range(200):
        cache.get("a")
    assert time.monotonic() - begun < SLACK_S
    valkey.start()
    wait_until(lambda: cache.set("a", 1) == 1, 30)
    assert cache.get("a") == 1
    assert cache.get_statistics()["is_available"]
    assert storage.experiment("one").statistics()["num_evaluations"] == 40
    storage.shutdown()


def test_lesson_22_an_evaluation_never_hangs_with_valkey(namespace: str, tmp_path: Path, valkey: ValkeyServer) -> None:
    storage = connect(namespace, tmp_path, cache=valkey.url, cache_timeout_s=TIMEOUT_S)
    cache = storage.cache
    cache.set_multiple({"a": "old", "b": "kept"})
    process = psutil.Process(valkey.pid)
    process.suspend()
    try:
        begun = time.monotonic()
        assert cache.get("a", "miss") == "miss"
        # The time-out is the one that was set; the default is a second.
        assert TIMEOUT_S * 0.9 < time.monotonic() - begun < TIMEOUT_S + SLACK_S
        begun = time.monotonic()
        assert ray.get([evaluate.remote(storage, number) for number in range(8)], timeout=60) == EXPECTED[:8]
        assert time.monotonic() - begun < 3 * TIMEOUT_S + 2 * SLACK_S
        assert cache.set("a", "new") == 0
        assert not cache.get_statistics()["is_available"]
    finally:
        process.resume()
    wait_until(lambda: cache.set("c", 1) == 1, 30)
    # What was to be replaced meanwhile does not come back.
    assert cache.get_multiple(["a", "b", "c"]) == {"b": "kept", "c": 1}
    assert cache.get_statistics()["outages"] == 1
    assert storage.status()["cache"]["restarts"] == 0
    assert storage.experiment("one").statistics()["num_evaluations"] == 8
    storage.shutdown()


def test_a_cache_that_is_away_at_the_beginning_keeps_nobody_from_connecting(
    namespace: str, tmp_path: Path, valkey: ValkeyServer
) -> None:
    valkey.stop()
    storage = connect(namespace, tmp_path, cache=valkey.url)
    assert storage.cache.get("a", "miss") == "miss"
    valkey.start()
    wait_until(lambda: storage.cache.set("a", 1) == 1, 30)
    storage.shutdown()


@ray.remote(num_cpus=0)
def use_cache(cache: mr.DistributedCache, worker: int) -> tuple[int, int]:
    """Write and read again; gives how often what was just written was gone, and how often increments were lost."""
    gone = lost = 0
    for number in range(ROUNDS):
        assert cache.set(f"{worker}:{number}", number) == 1
        gone += cache.get(f"{worker}:{number}") != number
        lost += cache.increment("rounds") is None
    return gone, lost


@pytest.mark.parametrize("technology", ["memory", "redis"])
def test_lesson_49_the_cache_actor_is_killed_under_workers(
    namespace: str, tmp_path: Path, technology: str, request: pytest.FixtureRequest
) -> None:
    is_kept = technology == "redis"
    url = request.getfixturevalue("cache_url") if is_kept else "memory://"
    storage = connect(namespace, tmp_path, cache=url)
    cache = storage.cache
    cache.set("before", {"accuracy": 0.5})
    pid = storage.status()["cache"]["pid"]
    workers = [use_cache.remote(cache, worker) for worker in range(2)]
    wait_until(lambda: cache.get("rounds", 0) > 50, 60)
    os.kill(pid, 9)
    answers = ray.get(workers, timeout=120)
    health = storage.status()["cache"]
    assert (health["restarts"], health["pid"] != pid) == (1, True)
    assert [lost for _, lost in answers] == [0, 0]
    # A cache in memory goes with its actor: each worker may miss what it wrote right before. Nothing else is lost.
    assert all(gone <= (0 if is_kept else 1) for gone, _ in answers)
    assert cache.get("before") == ({"accuracy": 0.5} if is_kept else None)
    # Ray may run a call twice; it counts once.
    rounds = cache.get("rounds")
    assert rounds == 2 * ROUNDS if is_kept else 0 < rounds < 2 * ROUNDS
    storage.shutdown()


def test_case_59_what_an_outage_lost_survives_the_actor(namespace: str, tmp_path: Path, valkey: ValkeyServer) -> None:
    storage = connect(namespace, tmp_path, cache=valkey.url, cache_timeout_s=TIMEOUT_S)
    cache = storage.cache
    cache.set_multiple({"k": "v1", "deleted": "v1", "kept": "v1"})
    cache.cache_architecture_result("g1:0", {"accuracy": 0.1}, experiment_id=7)
    cache.cache_architecture_result("g1:0", {"accuracy": 0.2}, experiment_id=8)
    process = psutil.Process(valkey.pid)
    process.suspend()
    try:
        assert (cache.set("k", "v2"), cache.delete("deleted"), cache.invalidate_experiment(7)) == (False, False, 0)
        os.kill(storage.status()["cache"]["pid"], 9)
        wait_until(lambda: storage.status()["cache"].get("restarts") == 1, 60)
    finally:
        process.resume()
    wait_until(lambda: cache.set("back", 1), 60)
    assert cache.get_multiple(["k", "deleted", "kept"]) == {"kept": "v1"}
    assert cache.get_architecture_result("g1:0", experiment_id=7) is None
    assert cache.get_architecture_result("g1:0", experiment_id=8) == {"accuracy": 0.2}
    # It is settled: the next one has nothing to delete.
    cache.set("k", "v3")
    os.kill(storage.status()["cache"]["pid"], 9)
    wait_until(lambda: storage.status()["cache"].get("restarts") == 2, 60)
    assert cache.get_multiple(["k", "kept"]) == {"k": "v3", "kept": "v1"}
    storage.shutdown()
