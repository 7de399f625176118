"""Objects that lead to actors: across clusters, restarts and processes."""

import asyncio
import enum
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

import morphml_ray as mr
from morphml_ray.cache.actor import CacheActor
from morphml_ray.cache.contract import Cache
from morphml_ray.rpc.call import call

START = (
    'ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=2**27)\n'
)

FIRST = f"""
import pathlib, sys, ray, morphml_ray as mr
{START}
root, kept = sys.argv[1:]
storage = mr.connect(root=root)
experiment = storage.experiment("one")
experiment.record({{"a": 1}}, 0.1)
storage.artifacts.upload_bytes(b"1", "first")
pathlib.Path(kept).write_bytes(ray.cloudpickle.dumps((storage, experiment)))
ray.shutdown()
{START}
try:
    experiment.statistics()
except mr.BackendUnavailable as error:
    assert "connect()" in str(error), error
else:
    raise AssertionError("no actor runs")
mr.connect(root=root)
experiment.record({{"a": 2}}, 0.2)
ray.get(experiment.record.remote({{"a": 3}}, 0.3))
storage.cache.set("a", 1)
assert storage.cache.get("a") == 1
assert storage.artifacts.download_bytes("first") == b"1"

@ray.remote(num_cpus=0)
def work(storage, experiment):
    experiment.record({{"a": 4}}, 0.4)
    return storage.artifacts.download_bytes("first"), storage.status()["database"]["is_open"]

assert ray.get(work.remote(storage, experiment)) == (b"1", True)
"""

NEXT = f"""
import json, pathlib, sys, ray, morphml_ray as mr
root, kept = sys.argv[1:]
storage, experiment = ray.cloudpickle.loads(pathlib.Path(kept).read_bytes())
try:
    experiment.statistics()
except mr.ConfigurationError as error:
    assert "ray.init()" in str(error), error
else:
    raise AssertionError("Ray does not run")
{START}
mr.connect(root=root)
experiment.record({{"a": 5}}, 0.5)
assert storage.artifacts.list_keys() == ["first"]
print(json.dumps([record.fitness for record in experiment.history()]))
storage.shutdown()
"""


def run(program: str, *arguments: object) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.timeout(400)
def test_case_32_objects_of_one_cluster_work_in_the_next(tmp_path: Path) -> None:
    arguments = tmp_path / "root", tmp_path / "kept"
    run(FIRST, *arguments)
    assert json.loads(run(NEXT, *arguments).splitlines()[-1]) == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_case_32_old_objects_lead_to_the_actors_that_were_started_anew(namespace: str, tmp_path: Path) -> None:
    old = mr.connect(root=str(tmp_path / "one"), namespace=namespace)
    experiment = old.experiment("one")
    experiment.record({"a": 1}, 0.1)
    old.artifacts.upload_bytes(b"1", "key")
    old.shutdown()
    mr.connect(root=str(tmp_path / "one"), namespace=namespace)
    ray.get(experiment.record.remote({"a": 2}, 0.2))
    assert [record.fitness for record in experiment.best()] == [0.2, 0.1]
    assert old.artifacts.download_bytes("key") == b"1"
    assert old.cache.set("a", 1)
    old.shutdown()
    # Another place that has the name now is not written to.
    other = mr.connect(root=str(tmp_path / "two"), namespace=namespace)
    with pytest.raises(mr.ConflictError, match="name="):
        experiment.record({"a": 3}, 0.3)
    with pytest.raises(mr.ConflictError):
        old.artifacts.download_bytes("key")
    assert other.database.list_experiments() == []
    other.shutdown()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_case_15_a_forked_process_is_told_at_once(sqlite_storage: mr.Storage) -> None:
    experiment = sqlite_storage.experiment("one")
    calls: dict[str, Callable[[], object]] = {
        "record": lambda: experiment.record({"a": 1}, 1.0),
        "get": lambda: sqlite_storage.cache.get("a"),
        "exists": lambda: sqlite_storage.artifacts.exists("a"),
        "remote": lambda: experiment.record.remote({"a": 1}, 1.0),
        "connect": mr.connect,
    }
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        told = {}
        for name, ask in calls.items():
            try:
                ask()
            except mr.ConfigurationError as error:
                told[name] = str(error)
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = json.loads(pipe.read())
    assert os.waitpid(child, 0)[1] == 0
    assert list(told) == list(calls)
    assert all("forked" in text and "spawn" in text for text in told.values())
    assert experiment.record({"a": 1}, 1.0)


def plant(storage: mr.Storage) -> None:
    setting = [("key", b"\x00 no value")]
    storage.cache.channel.wait(call(CacheActor.run, Cache.set, setting, None))


def test_case_30_errors_of_decoding_are_ours_behind_remote_and_await(sqlite_storage: mr.Storage) -> None:
    plant(sqlite_storage)

    async def wait() -> None:
        await sqlite_storage.cache.get.remote("key")

    @ray.remote(num_cpus=0)
    def pass_on(value: object) -> object:
        return value

    with pytest.raises(mr.CorruptDataError) as caught:
        sqlite_storage.cache.get("key")
    assert type(caught.value) is mr.CorruptDataError
    with pytest.raises(mr.CorruptDataError):
        ray.get(sqlite_storage.cache.get.remote("key"))
    with pytest.raises(mr.CorruptDataError):
        asyncio.run(wait())
    with pytest.raises(mr.CorruptDataError):
        ray.get(pass_on.remote(sqlite_storage.cache.get.remote("key")))


class Word(str, enum.Enum):
    NAME = "second"
    SPACE = "test_words"


@pytest.mark.usefixtures("namespace")
def test_case_61_names_that_are_enums_of_texts(tmp_path: Path) -> None:
    storage = mr.connect(root=str(tmp_path), name=Word.NAME, namespace=Word.SPACE)
    assert b"Word" not in pickle.dumps(storage)
    assert mr.connect(name="second", namespace="test_words").status()["database"]["is_open"]
    storage.shutdown()
    with pytest.raises(mr.ValidationError):
        mr.connect(name=7)  # type: ignore[arg-type]  # what is refused


FORK_BEFORE_IMPORT = """
import os, ray
ray.init(address=os.environ["MY_CLUSTER"], log_to_driver=False)
child = os.fork()
if not child:
    import fsspec
    try:
        fsspec.filesystem("morphml").exists("a")
    except ValueError as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads of a process are read from /proc")
def test_case_15_a_process_forked_before_anybody_imported_us_is_told_too(cluster: None) -> None:
    del cluster
    address = ray.get_runtime_context().gcs_address
    ran = subprocess.run(
        [sys.executable, "-c", FORK_BEFORE_IMPORT],
        env={**os.environ, "MY_CLUSTER": address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "ConfigurationError this process was forked" in ran.stdout, ran.stderr
