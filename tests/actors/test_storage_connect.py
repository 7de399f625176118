"""Finding and starting the actors: from drivers, tasks and second drivers."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import ray
from waiting import wait_until

import morphml_ray as mr
from morphml_ray import errors
from morphml_ray.cli import main
from morphml_ray.rpc import deploy
from morphml_ray.rpc.deploy import find_actors


def test_connect_finds_what_runs(files_storage: mr.Storage, shared_namespace: str) -> None:
    pid = files_storage.status()["database"]["pid"]
    assert mr.connect(namespace=shared_namespace).status()["database"]["pid"] == pid

    @ray.remote(num_cpus=0)
    def in_a_task(namespace: str) -> int:
        return int(mr.connect(namespace=namespace).status()["database"]["pid"])

    assert ray.get(in_a_task.remote(shared_namespace)) == pid


def test_lesson_48_objects_pickle_and_only_the_first_task_of_a_process_looks_them_up(
    shared_sqlite_storage: mr.Storage,
) -> None:
    experiment = shared_sqlite_storage.experiment("one")

    @ray.remote(num_cpus=0)
    class Process:
        def use(
            self, storage: mr.Storage, experiment: mr.Experiment, database: mr.DatabaseManager
        ) -> tuple[list[int], int]:
            with mock.patch.object(ray, "get_actor", side_effect=ray.get_actor) as look_up:
                one = experiment.record({"a": 1}, 1.0)
                two = database.save_architecture(experiment.id, {"a": 2}, 1.0)
                three = storage.experiment("two").record({"a": 3}, 1.0)
                storage.cache.set("a", 1)
                assert not storage.artifacts.exists("a")
                return [one, two, three], look_up.call_count

    process = cast("Any", Process).remote()
    for expected in (3, 0, 0):  # one a kind of storage
        ids, look_ups = ray.get(process.use.remote(shared_sqlite_storage, experiment, shared_sqlite_storage.database))
        assert len(set(ids)) == 3
        assert look_ups == expected
    ray.kill(process)


@pytest.mark.usefixtures("cluster")
def test_lesson_50_every_error_survives_a_trip_through_ray() -> None:
    @ray.remote(num_cpus=0)
    def fail(kind: type[Exception]) -> None:
        raise kind("what happened, and what to do")

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    for kind, ref in [(kind, fail.remote(kind)) for kind in kinds]:
        with pytest.raises(kind) as caught:
            ray.get(ref)
        cause = caught.value.cause  # type: ignore[attr-defined]  # Ray's wrapper
        assert type(cause) is kind
        assert str(cause) == "what happened, and what to do"


def test_facades_raise_our_errors_themselves(shared_sqlite_storage: mr.Storage) -> None:
    with pytest.raises(mr.NotFoundError) as caught:
        shared_sqlite_storage.database.get_experiment_statistics(5)
    assert type(caught.value) is mr.NotFoundError
    with pytest.raises(mr.NotFoundError):
        ray.get(shared_sqlite_storage.database.get_experiment_statistics.remote(5))


def test_lesson_52_another_database_under_the_same_name_is_a_conflict(
    sqlite_storage: mr.Storage, namespace: str, tmp_path: Path
) -> None:
    with pytest.raises(mr.ConflictError, match="name="):
        mr.connect(root=str(tmp_path / "other"), namespace=namespace)
    other = mr.connect(root=str(tmp_path / "other"), namespace=namespace, name="second")
    assert other.experiment("one").id == sqlite_storage.experiment("one").id == 1
    other.shutdown()


def test_lesson_15_a_file_in_use_is_refused(sqlite_storage: mr.Storage, namespace: str, tmp_path: Path) -> None:
    with pytest.raises(mr.ConflictError, match="in use by another process"):
        mr.connect(root=str(tmp_path / "store"), namespace=namespace, name="second")
    for kind in ("database", "cache", "artifacts"):
        for handle in find_actors(f"{kind}:second", namespace).values():
            ray.kill(handle)
    assert sqlite_storage.database.list_experiments() == []


def test_another_protocol_version_is_a_conflict(
    files_storage: mr.Storage, shared_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files_storage.status()
    monkeypatch.setattr(deploy, "PROTOCOL_VERSION", 99)
    with pytest.raises(mr.ConflictError, match="protocol 1"):
        mr.connect(namespace=shared_namespace)


def test_racing_connects_get_one_actor(namespace: str, tmp_path: Path) -> None:
    @ray.remote(num_cpus=1)  # four at once, by four processes
    def race(namespace: str, root: str) -> int:
        return int(mr.connect(root=root, namespace=namespace).status()["database"]["pid"])

    pids = ray.get([race.remote(namespace, str(tmp_path / "one")) for _ in range(8)])
    assert len(set(pids)) == 1
    mr.connect(namespace=namespace).shutdown()


@pytest.mark.usefixtures("namespace")
def test_a_manager_alone_shares_the_actor_of_its_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/alone.db"
    first, second = mr.DatabaseManager(url), mr.DatabaseManager(url, pool_size=3)
    first.create_experiment("one", {})
    assert second.get_experiment("one") is not None
    second.close()
    assert first.get_experiment("one") is not None
    ray.kill(first.channel.handle)


def test_a_second_driver_finds_the_storage(shared_sqlite_storage: mr.Storage, shared_namespace: str) -> None:
    shared_sqlite_storage.experiment("one").record({"a": 1}, 0.25)
    program = (
        "import json, ray, morphml_ray as mr\n"
        f"ray.init({ray.get_runtime_context().gcs_address!r}, log_to_driver=False)\n"
        f"storage = mr.connect(namespace={shared_namespace!r})\n"
        "experiment = storage.experiment('one')\n"
        "experiment.record({'a': 2}, 0.5)\n"
        "print(json.dumps([record.fitness for record in experiment.best()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [0.5, 0.25]
    assert shared_sqlite_storage.experiment("one").statistics()["num_evaluations"] == 2


def test_lesson_51_a_killed_driver_takes_nothing_with_it(namespace: str, tmp_path: Path) -> None:
    program = (
        "import json, os, ray, morphml_ray as mr\n"
        f"ray.init({ray.get_runtime_context().gcs_address!r}, log_to_driver=False)\n"
        f"storage = mr.connect(root={str(tmp_path / 'store')!r}, namespace={namespace!r})\n"
        "storage.experiment('one').record({'a': 1}, 0.25)\n"
        "storage.artifacts.upload_bytes(bytes(5_000_000), 'weights')\n"
        "storage.cache.set('a', [1, 2])\n"
        "status = storage.status()\n"
        "status = [status['database'], status['cache'], *status['artifacts'].values()]\n"
        "print(json.dumps([each['pid'] for each in status]), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -9, killed.stderr
    storage = mr.connect(namespace=namespace)
    assert [record.fitness for record in storage.experiment("one").best()] == [0.25]
    assert storage.artifacts.download_bytes("weights") == bytes(5_000_000)
    assert storage.cache.get("a") == [1, 2]
    status = storage.status()
    served = [status["database"], status["cache"], *status["artifacts"].values()]
    assert [each["pid"] for each in served] == json.loads(killed.stdout.splitlines()[-1])
    storage.shutdown()


def test_shutdown_ends_the_actors_for_good(namespace: str, tmp_path: Path) -> None:
    storage = mr.connect(root=str(tmp_path / "one"), namespace=namespace)
    storage.experiment("one").record({"a": 1}, 1.0)
    storage.flush()
    storage.shutdown()
    with pytest.raises(mr.BackendUnavailable, match="connect"):
        storage.database.list_experiments()
    again = mr.connect(root=str(tmp_path / "one"), namespace=namespace)
    assert again.experiment("one").statistics()["num_evaluations"] == 1
    again.shutdown()
    again.shutdown()


def test_status_counts_and_names_the_restarts(sqlite_storage: mr.Storage) -> None:
    experiment = sqlite_storage.experiment("one")
    experiment.record({"a": 1}, 1.0)
    status = sqlite_storage.status()["database"]
    assert status["restarts"] == 0
    assert status["rows_committed"] == 1
    assert status["pool"]["size"] == 5
    assert abs(status["last_commit_at"] - time.time()) < 60
    os.kill(status["pid"], 9)
    wait_until(lambda: sqlite_storage.status()["database"]["restarts"] == 1, 60)
    assert experiment.statistics()["num_evaluations"] == 1


def test_the_command_prints_the_status(
    files_storage: mr.Storage, shared_namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files_storage.flush()
    command = [sys.executable, "-m", "morphml_ray.cli", "status", "--namespace", shared_namespace]
    address = ["--address", ray.get_runtime_context().gcs_address]
    done = subprocess.run([*command, *address], capture_output=True, text=True, timeout=120, check=False)
    status = json.loads(done.stdout)
    assert status["database"]["outage"] is None, done.stderr
    assert status["storage"] == {"address": address[1], "namespace": shared_namespace, "name": "default"}
    lost = subprocess.run(
        [*command[:-1], "nowhere", *address], capture_output=True, text=True, timeout=120, check=False
    )
    assert lost.returncode == 1
    assert "no storage 'default' runs in the namespace 'nowhere'" in lost.stderr
    with pytest.raises(SystemExit):
        main(["--version"])
    assert mr.__version__ in capsys.readouterr().out


def test_without_ray_the_remedy_is_named() -> None:
    program = "import morphml_ray as mr\ntry:\n mr.connect()\nexcept mr.ConfigurationError as error:\n print(error)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "ray.init()" in done.stdout, done.stderr


def test_facades_show_no_secret(servers_storage: mr.Storage, shared_postgres_url: str) -> None:
    secret = shared_postgres_url.rpartition("@")[0].rpartition(":")[2]
    shown = f"{servers_storage!r} {servers_storage.database!r} {servers_storage.status()}"
    assert "***" in shown
    assert secret not in shown
    known = str(ray._private.state.actors())
    assert secret not in known
    handle = servers_storage.database.channel.handle
    assert secret.encode() not in pickle.dumps(ray.get(handle.describe.remote()))


def test_lesson_16_no_log_of_the_cluster_holds_the_password(
    servers_storage: mr.Storage, shared_postgres_url: str
) -> None:
    secret = shared_postgres_url.rpartition("@")[0].rpartition(":")[2].encode()
    with pytest.raises(mr.NotFoundError):
        servers_storage.database.get_experiment_statistics("no")
    temporary = Path(ray.get_runtime_context().get_temp_dir())
    session = ray.get_runtime_context().get_session_name()
    logs = [path for path in (temporary / session / "logs").rglob("*") if path.is_file()]
    assert logs
    assert [path.name for path in logs if secret in path.read_bytes()] == []


def test_a_cache_that_is_unavailable_is_told_in_the_log_and_by_status(
    namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = mr.connect(root=str(tmp_path), cache="redis://127.0.0.1:1/0", namespace=namespace)
    assert "redis://127.0.0.1:1/0 is unavailable" in caplog.text
    assert storage.status()["cache"]["outage"]
    assert storage.cache.get("a") is None
    storage.shutdown()
