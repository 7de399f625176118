"""Cached values: classes stay what they are, what cannot be kept or read is said in one line."""

import asyncio
import importlib
import logging
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import redis

import morphml_ray as mr

SCRIPT = '''
import dataclasses, enum, sys
import ray
import morphml_ray as mr

class Op(enum.Enum):
    CONV = "conv"

class Key(str, enum.Enum):
    LAYER = "layer"

@dataclasses.dataclass
class Layer:
    op: Op

def build(op):
    return Layer(op)

def work(storage):
    """What a task sees, and what it leaves behind."""
    seen = storage.cache.get_multiple(["driver op", "driver layer", "driver build"])
    assert seen["driver op"] is Op.CONV
    assert isinstance(seen["driver layer"], Layer) and seen["driver layer"].op is Op.CONV
    assert isinstance(seen["driver build"](Op.CONV), Layer)
    storage.cache.set_multiple({"op": Op.CONV, Key.LAYER: Layer(Op.CONV), "build": build})
    assert storage.cache.get("op") is Op.CONV
    return True

class Worker:
    def work(self, storage):
        return work(storage)

if __name__ == "__main__":
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    storage = mr.connect(root=sys.argv[1], cache="memory://")
    for run in (ray.remote(num_cpus=0)(work), ray.remote(num_cpus=0)(Worker).remote().work):
        storage.cache.set_multiple({"driver op": Op.CONV, "driver layer": Layer(Op.CONV), "driver build": build})
        assert ray.get(run.remote(storage))
        assert storage.cache.get("op") is Op.CONV
        assert ray.get(storage.cache.get.remote("op")) is Op.CONV
        layer = storage.cache.get("layer")
        assert isinstance(layer, Layer) and layer == Layer(Op.CONV) and layer.op is Op.CONV
        assert isinstance(storage.cache.get("build")(Op.CONV), Layer)
        assert storage.cache.set(Key.LAYER, 1) and storage.cache.get(Key.LAYER) == storage.cache.get("layer") == 1
        assert storage.cache.get_ttl(Key.LAYER) is None and storage.cache.delete(Key.LAYER)
        storage.cache.clear_all()
    storage.shutdown()
    print("all is what it was")
'''

MODULE = """
class Gone:
    pass

class Renamed:
    pass

class Raises:
    def __setstate__(self, state):
        raise OSError("no\\nsuch device")

    def __getstate__(self):
        return 1
"""


@pytest.mark.usefixtures("cluster")  # its signing key, and none beside it in the user's home
def test_case_12_and_61_classes_of_a_script_are_the_same_after_a_task(tmp_path: Path) -> None:
    script = tmp_path / "search.py"
    script.write_text(SCRIPT, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert (ran.returncode, ran.stdout.splitlines()[-1:]) == (0, ["all is what it was"]), ran.stderr[-3000:]


class Owner:
    def task(self) -> int:
        return 1


def test_case_25_a_forgotten_get_is_a_clear_error(cache: mr.DistributedCache) -> None:
    owner: Any = ray.remote(num_cpus=0)(Owner).remote()
    reference = owner.task.remote()
    for value in (reference, {"a": [reference]}, OrderedDict(a=reference), lambda: reference):
        for store in (cache.set, cache.set.remote):
            with pytest.raises(mr.ValidationError, match=r"an ObjectRef is a reference, .*: ray\.get\(\) it first$"):
                store("k", value)
    with pytest.raises(mr.ValidationError, match=r"ray\.get\(\) it first$"):
        cache.set_multiple({"a": 1, "k": [reference]})
    for handle in (owner, owner.task, [{"a": owner}]):
        with pytest.raises(mr.ValidationError, match=r"an Actor\w+ is a handle, .*: keep the actor's name"):
            cache.cache_optimizer_state("x", 1, handle)
    assert cache.get_statistics()["num_keys"] == 0
    assert cache.set("k", ray.get(reference))
    ray.kill(owner)


@pytest.fixture
def lost_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of three classes; ``lose`` takes it out of this process."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lost_classes.py").write_text(MODULE, encoding="utf-8")
    module: Any = importlib.import_module("lost_classes")
    module.file = tmp_path / "lost_classes.py"
    yield module
    sys.modules.pop("lost_classes", None)


def test_case_26_a_class_that_is_gone_costs_one_line_and_no_neighbour(
    cache: mr.DistributedCache, lost_classes: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    cache.set_multiple({"gone": lost_classes.Gone(), "fine": (1,), "raises": lost_classes.Raises()})
    cache.set("renamed", lost_classes.Renamed())
    reasons = {"raises": r"OSError: no such device"}
    for key in ("gone", "renamed"):
        assert type(cache.get(key)).__module__ == "lost_classes"
    del lost_classes.Renamed
    reasons["renamed"] = "AttributeError: .*Renamed"
    check_unreadable(cache, reasons)
    del sys.modules["lost_classes"]
    lost_classes.file.unlink()
    importlib.invalidate_caches()
    reasons = dict.fromkeys(("gone", "renamed", "raises"), "ModuleNotFoundError: No module named 'lost_classes'")
    check_unreadable(cache, reasons)
    caplog.clear()
    assert cache.get_multiple(["gone", "fine", "missing", "raises", "renamed"]) == {"fine": (1,)}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "\n" not in record.getMessage()
    assert record.getMessage().startswith("cache key 'gone': ")
    assert "No module named 'lost_classes'" in record.getMessage()
    assert "(and 2 others); what cannot be read is left out" in record.getMessage()
    assert "Traceback" not in capfd.readouterr().err


def check_unreadable(cache: mr.DistributedCache, reasons: dict[str, str]) -> None:
    """Each way to read one value says the same, in one line, as an error of ours."""

    async def wait(key: str) -> Any:
        return await cache.get.remote(key)

    for key, reason in reasons.items():
        for read in (cache.get, lambda key: ray.get(cache.get.remote(key)), lambda key: asyncio.run(wait(key))):
            with pytest.raises(mr.CorruptDataError, match=rf"cache key '{key}': .*cannot be rebuilt here \({reason}"):
                read(key)
        with pytest.raises(mr.CorruptDataError) as caught:
            cache.get(key)
        assert type(caught.value) is mr.CorruptDataError
        assert "\n" not in str(caught.value)


def test_case_26_an_answer_that_cannot_be_read_fails_the_task_that_it_goes_to(
    cache: mr.DistributedCache, lost_classes: Any
) -> None:
    @ray.remote(num_cpus=0)
    def work(value: Any) -> Any:
        return value

    cache.set("gone", lost_classes.Gone())
    with pytest.raises(mr.CorruptDataError, match="cache key 'gone'"):
        ray.get(work.remote(cache.get.remote("gone")))


def test_case_65_a_signed_value_is_good_under_its_own_key_only(
    valkey_cache: mr.DistributedCache, cache_url: str
) -> None:
    valkey_cache.set_multiple({"a": OrderedDict(a=1), "plain": [1]})
    with redis.Redis.from_url(cache_url, protocol=2) as client:
        names = {name.rpartition(b":")[2]: name for name in client.scan_iter()}
        client.copy(names[b"a"], names[b"a"][:-1] + b"b")
        client.copy(names[b"plain"], names[b"plain"][:-5] + b"copy")
    assert valkey_cache.get("a") == OrderedDict(a=1)
    assert valkey_cache.get("copy") == [1]
    with pytest.raises(mr.UntrustedDataError, match=r"cache key 'b': .* signed for another place"):
        valkey_cache.get("b")
    with pytest.raises(mr.UntrustedDataError, match="cache key 'b'"):
        valkey_cache.get_multiple(["copy", "b"])
    assert valkey_cache.get("missing", OrderedDict(b=2)) == ray.get(
        valkey_cache.get.remote("missing", OrderedDict(b=2))
    )
