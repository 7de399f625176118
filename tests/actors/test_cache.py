"""The cache that users call, through a real Ray, in memory and on Valkey."""

import asyncio
import logging
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import redis
from caches import open_cache

import morphml_ray as mr
from morphml_ray.cache import answers
from morphml_ray.rpc.deploy import stop_actor
from morphml_ray.rpc.remote_method import RemoteMethod

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


def plant(url: str, key: str, data: bytes) -> None:
    """Replace a value behind the cache's back."""
    with redis.Redis.from_url(url, protocol=2) as client:
        (found,) = [name for name in client.scan_iter() if name.endswith(key.encode())]
        client.set(found, data)


def every_call(mark: str) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """Arguments of every method and what it gives, on keys of their own, ordered so that each has something to do."""
    result, state = {"accuracy": 0.5}, {"population": [1]}
    return {
        "set": ((f"{mark} a", [1]), 1),
        "set_multiple": (({f"{mark} b": 2, f"{mark} n": 5},), 2),
        "get": ((f"{mark} a",), [1]),
        "get_multiple": (([f"{mark} a", f"{mark} b", "missing"],), {f"{mark} a": [1], f"{mark} b": 2}),
        "exists": ((f"{mark} a",), True),
        "increment": ((f"{mark} n",), 6),
        "decrement": ((f"{mark} n", 4), 2),
        "get_ttl": ((f"{mark} a",), None),
        "cache_architecture_result": ((f"g1:{mark}", result), 1),
        "get_architecture_result": ((f"g1:{mark}",), result),
        "cache_optimizer_state": ((mark, 2, state), 1),
        "get_optimizer_state": ((mark, 2), state),
        "delete": ((f"{mark} a",), 1),
        "invalidate_pattern": ((f"{mark} ?",), 2),
        "invalidate_experiment": ((mark,), 1),
        "get_statistics": ((), 1),
        "clear_all": ((), 1),
    }


@pytest.mark.parametrize("place", ["driver", "task"])
def test_every_method_works_blocking_and_by_remote(cache: mr.DistributedCache, place: str) -> None:
    def ask(cache: mr.DistributedCache, calls: dict[str, tuple[tuple[Any, ...], Any]], form: str) -> dict[str, Any]:
        answers = {}
        for name, (arguments, _) in calls.items():
            method = getattr(cache, name)
            answers[name] = method(*arguments) if form == "blocking" else ray.get(method.remote(*arguments))
        return answers

    assert set(every_call("")) == {
        name for name, value in vars(mr.DistributedCache).items() if isinstance(value, RemoteMethod)
    }
    for form in ("blocking", "remote"):
        calls = every_call(form)
        if place == "driver":
            answers = ask(cache, calls, form)
        else:
            answers = ray.get(ray.remote(num_cpus=0)(ask).remote(cache, calls, form))
        answers["get_statistics"] = answers["get_statistics"]["num_keys"]
        assert answers == {name: expected for name, (_, expected) in calls.items()}
        assert cache.get_multiple([f"{form} a", f"{form} b", f"{form} n"]) == {}
    cache.close()
    assert cache.set("a", 1) == 1


@pytest.mark.parametrize("place", ["driver", "actor"])
def test_answers_can_be_awaited(cache: mr.DistributedCache, place: str) -> None:
    async def work(cache: mr.DistributedCache) -> tuple[Any, ...]:
        kept = await cache.set.remote("a", (1,))
        return kept, await cache.get.remote("a", [2]), await cache.get.remote("missing", [2])

    class Worker:
        async def work(self, cache: mr.DistributedCache) -> tuple[Any, ...]:
            return await work(cache)

    if place == "driver":
        answers = asyncio.run(work(cache))
    else:
        worker: Any = ray.remote(num_cpus=0)(Worker).remote()
        answers = ray.get(worker.work.remote(cache))
    assert answers == (1, (1,), [2])


@pytest.mark.usefixtures("namespace")
def test_a_task_makes_a_cache_of_its_own(any_cache_url: str) -> None:
    @ray.remote(num_cpus=0)
    def work(url: str) -> Any:
        cache = mr.DistributedCache(url, "morphml-made")
        cache.set("a", (1,))
        return ray.get(cache.get.remote("a"))

    assert ray.get(work.remote(any_cache_url)) == (1,)
    cache = mr.DistributedCache(any_cache_url, "morphml-made")
    assert cache.get("a") == (1,)
    stop_actor(cache.channel.handle, 10)


def test_signed_values_travel_between_driver_and_task(cache: mr.DistributedCache) -> None:
    @ray.remote(num_cpus=0)
    def work(cache: mr.DistributedCache) -> int:
        from_driver = cache.get("from the driver")
        cache.set("from the task", lambda number: number * 2)
        return int(from_driver(20))

    cache.set("from the driver", lambda number: number + 1)
    assert ray.get(work.remote(cache)) == 21
    assert cache.get("from the task")(20) == 40


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
    @ray.remote(num_cpus=1)  # four at once, by four processes
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
    hits_before = cache.get_statistics()["hits"]
    assert cache.set_multiple(values) == 2000
    assert cache.get_multiple(values) == values
    assert cache.get_statistics()["hits"] - hits_before == 2000
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


def test_case_45_a_value_that_is_too_large_is_told_once_in_the_callers_log(
    namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_told", set())
    caplog.set_level(logging.WARNING)
    cache = open_cache("memory://?max_bytes=100000", "morphml", namespace)
    assert cache.set("small", b"1") is True
    assert caplog.messages == []
    assert cache.set("large", bytes(100_000)) is False
    (message,) = caplog.messages
    assert "100,000" in message
    assert "memory://?max_bytes=" in message
    assert ray.get(cache.set.remote("large", bytes(100_000))) is False
    assert cache.set_multiple({"large": bytes(100_000), "a": 1}) == 1
    assert cache.cache_architecture_result("g1:00", bytes(100_000)) is False
    # Fits, and does not stay: room is made for others.
    assert cache.set_multiple({"a": bytes(60_000), "b": bytes(60_000)}) == 2
    assert caplog.messages == [message]
    assert "does not fit" in (cache.get_statistics()["last_error"] or "")
    stop_actor(cache.channel.handle, 10)
