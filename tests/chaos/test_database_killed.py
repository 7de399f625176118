"""Killing actors, workers and servers while they work."""

import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import ray
from waiting import wait_until

import morphml_ray as mr
from morphml_ray.devstack import PostgresServer

# Workers cannot import tests.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]  # Ray leaves it untyped

# What each writer does after the outage.
MORE = 20


class Writer:
    """A worker that notes what it was told is stored."""

    def __init__(self, experiment: mr.Experiment, worker: int) -> None:
        self.experiment = experiment
        self.worker = worker
        self.acknowledged: dict[int, int] = {}

    def write(self, after: Path | None) -> dict[int, int]:
        for number in numbers_until(after):
            architecture = {"worker": self.worker, "number": number}
            self.acknowledged[number] = self.experiment.record(architecture, number / 1e6)
        return self.acknowledged

    def write_through_a_recorder(self, after: Path) -> int:
        count = 0
        with self.experiment.recorder() as recorder:
            for number in numbers_until(after):
                recorder.record({"worker": self.worker, "number": number}, number / 1e6)
                count += 1
                time.sleep(0.001)
        return count


def numbers_until(after: Path | None) -> Iterator[int]:
    """Count on until the file is there, and a few more; without one for ever."""
    left = MORE
    for number in itertools.count():
        yield number
        left -= after is not None and after.exists()
        if not left:
            return


def start_writer(experiment: mr.Experiment, worker: int) -> Any:
    return ray.remote(num_cpus=0)(Writer).remote(experiment, worker)


def kill_actor(storage: mr.Storage) -> int:
    """Kill it, and wait until the next one serves."""
    pid: int = storage.status()["database"]["pid"]
    os.kill(pid, 9)
    assert storage.database.list_experiments()
    return pid


def test_lesson_49_killing_the_actor_loses_and_doubles_nothing(storage: mr.Storage, tmp_path: Path) -> None:
    experiment = storage.experiment("chaos")
    writers = [start_writer(experiment, worker) for worker in range(4)]
    work = [writer.write.remote(tmp_path / "over") for writer in writers]
    wait_until(lambda: experiment.statistics()["num_evaluations"] > 50, 60)
    pid = kill_actor(storage)
    (tmp_path / "over").touch()
    answers = ray.get(work, timeout=120)
    status = storage.status()["database"]
    assert status["pid"] != pid
    assert status["restarts"] == 1
    acknowledged = {(worker, number): row for worker, answer in enumerate(answers) for number, row in answer.items()}
    assert len(acknowledged) > 100
    stored = {
        (record.architecture["worker"], record.architecture["number"]): record.id for record in experiment.history()
    }
    assert stored == acknowledged
    statistics = experiment.statistics()
    assert statistics["num_evaluations"] == len(stored)
    assert statistics["num_duplicates"] == 0
    for writer in writers:
        ray.kill(writer)


def test_killing_the_actor_under_recorders_loses_and_doubles_nothing(storage: mr.Storage, tmp_path: Path) -> None:
    experiment = storage.experiment("chaos")
    writers = [start_writer(experiment, worker) for worker in range(3)]
    work = [writer.write_through_a_recorder.remote(tmp_path / "over") for writer in writers]
    wait_until(lambda: experiment.statistics()["num_evaluations"] > 50, 60)
    kill_actor(storage)
    (tmp_path / "over").touch()
    counts = ray.get(work, timeout=120)
    statistics = experiment.statistics()
    assert statistics["num_evaluations"] == sum(counts)
    assert statistics["num_duplicates"] == 0
    for writer in writers:
        ray.kill(writer)


def test_a_killed_worker_loses_only_what_was_not_acknowledged(sqlite_storage: mr.Storage) -> None:
    experiment = sqlite_storage.experiment("chaos")
    writer = start_writer(experiment, 0)
    work = writer.write.remote(None)
    wait_until(lambda: experiment.statistics()["num_evaluations"] > 20, 60)
    ray.kill(writer)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(work, timeout=30)
    numbers = [record.architecture["number"] for record in experiment.history()]
    assert numbers == list(range(len(numbers)))
    assert experiment.record({"after": 1}, 1.0)


def test_lesson_05_connections_do_not_grow_with_workers(postgres_storage: mr.Storage, migrated_url: str) -> None:
    experiment = postgres_storage.experiment("many")
    most = 0
    is_over = threading.Event()
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"  # and not the server's own vacuum
    )

    def watch() -> None:
        nonlocal most
        with closing(psycopg2.connect(migrated_url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            while not is_over.wait(0.02):
                cursor.execute(others)
                (found,) = cursor.fetchone() or (0,)
                most = max(most, found)

    @ray.remote(num_cpus=0.4)  # ten at once, by ten processes: twice as many as there may be connections
    def use(experiment: mr.Experiment, worker: int) -> None:
        for number in range(10):
            experiment.record({"worker": worker, "number": number}, 1.0)
            experiment.best(3)
            experiment.statistics()

    watcher = threading.Thread(target=watch)
    watcher.start()
    ray.get([use.remote(experiment, worker) for worker in range(32)], timeout=170)
    is_over.set()
    watcher.join()
    assert experiment.statistics()["num_evaluations"] == 320
    assert 1 <= most <= 5


def test_lesson_12_postgresql_restarts_under_working_workers(
    namespace: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    storage = mr.connect(database=postgres.url, root=str(tmp_path), namespace=namespace)
    experiment = storage.experiment("chaos")
    writers = [start_writer(experiment, worker) for worker in range(4)]
    work = [writer.write.remote(tmp_path / "over") for writer in writers]
    wait_until(lambda: experiment.statistics()["num_evaluations"] > 20, 60)
    postgres.kill()
    wait_until(lambda: storage.status()["database"]["outage"], 60)
    postgres.start()
    (tmp_path / "over").touch()
    answers = ray.get(work, timeout=120)
    stored = {record.id for record in experiment.history()}
    assert {row for answer in answers for row in answer.values()} == stored
    assert storage.status()["database"]["restarts"] == 0
    for writer in writers:
        ray.kill(writer)
    storage.shutdown()


def test_an_outage_past_the_deadline_is_our_error(
    namespace: str, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MORPHML_DEADLINE_S", "2")
    storage = mr.connect(database=postgres.url, root=str(tmp_path), namespace=namespace)
    experiment = storage.experiment("chaos")
    postgres.kill()
    with pytest.raises(mr.BackendUnavailable) as caught:
        experiment.record({"a": 1}, 1.0)
    assert type(caught.value) is mr.BackendUnavailable
    with pytest.raises(mr.BackendUnavailable):
        experiment.best()
    assert "127.0.0.1" in storage.status()["database"]["outage"]
    postgres.start()
    assert experiment.record({"a": 1}, 1.0)
    assert experiment.statistics()["num_evaluations"] == 1
    storage.shutdown()
