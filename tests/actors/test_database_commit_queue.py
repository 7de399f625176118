"""Group commit, in-process, over real databases."""

import asyncio
import json
import pickle
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until, wait_until_true

from morphml_ray.config import BackendUrl
from morphml_ray.database.actor import DatabaseActor, DatabaseSettings
from morphml_ray.database.commit_queue import CommitQueue
from morphml_ray.database.contract import DatabaseReads, DatabaseWrites, EncodedEvaluation, SaveUnit
from morphml_ray.database.encoding import encode_evaluation, encode_experiment, new_write_id
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.devstack import PostgresServer
from morphml_ray.errors import (
    BackendUnavailable,
    ConfigurationError,
    MorphMLRayError,
    NotFoundError,
    Overloaded,
    ValidationError,
)
from morphml_ray.testing.database.caller import delete


def evaluation(number: int, **changes: Any) -> EncodedEvaluation:
    return encode_evaluation({"number": number}, number / 100)._replace(**changes)


def in_s(seconds: float) -> float:
    return time.monotonic() + seconds


class Opened:
    """A queue over a database with one experiment."""

    def __init__(self, url: str, max_rows: int = 1_000, max_bytes: int = 2**20) -> None:
        self.database = SqlDatabase(BackendUrl(url), timeout_s=0.5)
        self.database.open()
        self.experiment = self.database.create_experiment(encode_experiment("one", {}, None, "error"))
        self.queue = CommitQueue(self.database, max_rows=max_rows, max_bytes=max_bytes)

    def save(self, *evaluations: EncodedEvaluation, within_s: float = 20.0) -> "Future[Any]":
        units = [SaveUnit(self.experiment, [one]) for one in evaluations]
        saved: Future[Any] = self.queue.save(units, in_s(within_s))
        return saved

    def count(self) -> int:
        found: int = self.database.get_experiment_statistics(self.experiment)["num_evaluations"]
        return found

    def close(self) -> None:
        self.queue.close(10)
        self.database.close()


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def opened(sqlite_path: Path) -> Iterator[Opened]:
    with closing(Opened(f"sqlite:///{sqlite_path}")) as one:
        yield one


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's write lock, as a backup would: commits wait."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_calls_that_pile_up_during_a_commit_share_the_next(opened: Opened, sqlite_path: Path) -> None:
    with locked(sqlite_path):
        calls = [opened.save(evaluation(number)) for number in range(50)]
    ids = [call.result(20)[0][0] for call in calls]
    assert len(set(ids)) == 50
    assert opened.queue.counts.batches <= 3
    assert opened.queue.counts.rows == 50


@pytest.mark.parametrize("limit", [{"max_rows": 5}, {"max_bytes": 5 * 800}])
def test_a_full_queue_answers_overloaded_and_recovers(sqlite_path: Path, limit: dict[str, int]) -> None:
    with closing(Opened(f"sqlite:///{sqlite_path}", **limit)) as opened:
        taken: list[Future[Any]] = []
        with locked(sqlite_path):
            with pytest.raises(Overloaded):
                taken.extend(opened.save(evaluation(number)) for number in range(100))
            assert 1 <= len(taken) <= 10
            assert opened.queue.status()["refused_calls"] == 1
        assert all(call.result(20) for call in taken)
        assert opened.save(evaluation(1000)).result(20)
        assert opened.queue.status()["queue_rows"] == opened.queue.status()["queue_bytes"] == 0


def test_a_call_larger_than_the_queue_goes_through_alone(sqlite_path: Path) -> None:
    with closing(Opened(f"sqlite:///{sqlite_path}", max_rows=5)) as opened:
        saved = opened.save(*(evaluation(number) for number in range(20))).result(20)
        assert len({ids[0] for ids in saved}) == 20


def test_one_bad_record_fails_alone(postgres_url: str) -> None:
    with closing(Opened(postgres_url)) as opened:
        # The caller refuses NUL characters; a caller of another version might not.
        bad = evaluation(2, metrics=json.dumps({"text": "\0"}))
        first, refused, last = opened.save(evaluation(1), bad, evaluation(3)).result(20)
        assert isinstance(refused, ValidationError)
        assert first[0] < last[0]
        assert opened.count() == 2


def test_an_unknown_experiment_fails_alone(opened: Opened) -> None:
    units = [SaveUnit(4711, [evaluation(1)]), SaveUnit(opened.experiment, [evaluation(2)])]
    missing, saved = opened.queue.save(units, in_s(20)).result(20)
    assert isinstance(missing, NotFoundError)
    assert isinstance(saved, list)


def test_a_write_repeated_after_a_lost_answer_is_stored_once(opened: Opened) -> None:
    new = [
        evaluation(1),
        evaluation(2, status="failed", fitness=None),
        encode_evaluation({"number": 3}, 0.3, on_duplicate="replicate"),
    ]
    first = opened.save(*new).result(20)
    assert opened.save(*new).result(20) == first
    statistics = opened.database.get_experiment_statistics(opened.experiment)
    assert (statistics["num_evaluations"], statistics["num_failed"], statistics["num_proposals"]) == (2, 1, 3)


def test_an_outage_past_the_deadline_is_an_error_and_the_queue_goes_on(opened: Opened, sqlite_path: Path) -> None:
    with locked(sqlite_path):
        late, patient = opened.save(evaluation(1), within_s=0.2), opened.save(evaluation(2))
        with pytest.raises(BackendUnavailable):
            late.result(20)
        assert "locked" in opened.queue.status()["outage"]
    assert patient.result(20)
    wait_until(lambda: opened.queue.status()["outage"] is None, 5)
    assert opened.count() == 1


class Watched(SqlDatabase):
    """Counts who saves at a time."""

    saving = most = 0
    lock = threading.Lock()

    def save(self, units: Sequence[SaveUnit]) -> list[list[int] | MorphMLRayError]:
        with self.lock:
            self.saving += 1
            self.most = max(self.most, self.saving)
        try:
            return super().save(units)
        finally:
            with self.lock:
                self.saving -= 1


def test_several_threads_save_what_is_more_than_a_batch_and_other_writes_run_alone(postgres_url: str) -> None:
    database = Watched(BackendUrl(postgres_url), timeout_s=60)
    database.open()
    experiment = database.create_experiment(encode_experiment("one", {}, None, "error"))
    queue = CommitQueue(database, max_rows=100_000, max_bytes=2**28)
    numbers = iter(range(10**6))
    template = evaluation(0)

    def unit() -> SaveUnit:
        new = [template._replace(write_id=new_write_id(), key=f"g1:{next(numbers):064x}") for _ in range(1_000)]
        return SaveUnit(experiment, new)

    with closing(database):
        sent = [unit() for _ in range(10)]
        saved = [queue.save([one], in_s(120)) for one in sent[:8]]
        seen = queue.run(lambda: (database.saving, database.get_experiment_statistics(experiment)), in_s(120))
        saved += [queue.save([one], in_s(120)) for one in sent[8:]]
        saving, known = seen.result(120)
        queue.flush(in_s(120)).result(120)
        assert all(call.done() for call in saved)
        queue.close(60)
        assert database.most == database.max_writers == 2
        assert (saving, known["num_evaluations"]) == (0, 8_000)
        for one, call in zip(sent, saved, strict=True):
            (ids,) = call.result(0)
            assert isinstance(ids, list)
            assert ids == sorted(set(ids))
            again = pickle.loads(pickle.dumps(one))  # noqa: S301 - written on this line
            assert list(again.evaluations) == one.evaluations
            assert database.save([again]) == [ids]


def test_closing_commits_what_waits(opened: Opened, sqlite_path: Path) -> None:
    with locked(sqlite_path):
        calls = [opened.save(evaluation(number), within_s=120) for number in range(10)]
    opened.queue.close(120)
    assert all(call.done() for call in calls)
    assert opened.count() == 10
    with pytest.raises(BackendUnavailable, match="shutting down"):
        opened.save(evaluation(11))


def test_a_deleted_experiment_is_purged_in_the_background(opened: Opened, sqlite_path: Path) -> None:
    opened.save(*(evaluation(number) for number in range(700))).result(20)
    assert opened.queue.run(lambda: delete(opened.database, "one"), in_s(20)).result(20)
    assert opened.database.get_experiment("one") is None
    with closing(sqlite3.connect(sqlite_path)) as connection:
        wait_until(lambda: not connection.execute("SELECT 1 FROM experiments").fetchall(), 20)
        assert not connection.execute("SELECT 1 FROM evaluations UNION SELECT 1 FROM proposals").fetchall()


# The actor's class, without Ray


def actor_of(url: str, deadline_s: float = 20.0, **limits: int) -> DatabaseActor:
    bounds = {"pool_size": 2, "queue_max_rows": 1_000, "queue_max_bytes": 2**20, **limits}
    return DatabaseActor(DatabaseSettings(url=BackendUrl(url), echo=False, deadline_s=deadline_s, **bounds))


async def told(actor: DatabaseActor, name: str, least: int = 1) -> None:
    """Wait until the actor counts so much, or has something to tell."""

    async def is_there() -> bool:
        found = (await actor.health())[name]
        return bool(found) and (isinstance(found, str) or found >= least)

    await wait_until_true(is_there, 30)


def test_a_cancelled_call_is_committed_all_the_same(sqlite_path: Path) -> None:
    async def scenario() -> int:
        actor = actor_of(f"sqlite:///{sqlite_path}")
        experiment = await actor.write(DatabaseWrites.create_experiment, encode_experiment("one", {}, None, "error"))
        with locked(sqlite_path):
            call = asyncio.create_task(actor.save(SaveUnit(experiment, [evaluation(1)])))
            await told(actor, "queue_rows")
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        await actor.flush()
        found = await actor.read(DatabaseReads.get_experiment_statistics, experiment)
        await actor.close()
        return int(found["num_evaluations"])

    assert asyncio.run(scenario()) == 1


def test_a_patient_call_waits_for_a_place_in_the_queue(sqlite_path: Path) -> None:
    async def scenario() -> list[int]:
        actor = actor_of(f"sqlite:///{sqlite_path}", queue_max_rows=1)
        experiment = await actor.write(DatabaseWrites.create_experiment, encode_experiment("one", {}, None, "error"))
        with locked(sqlite_path):
            first = asyncio.create_task(actor.save(SaveUnit(experiment, [evaluation(1)])))
            await told(actor, "queue_rows")
            with pytest.raises(Overloaded):
                await actor.save(SaveUnit(experiment, [evaluation(2)]))
            patient = asyncio.create_task(actor.save(SaveUnit(experiment, [evaluation(3)]), patience_s=20))
            await told(actor, "refused_calls", 2)  # its first try was the second one refused
        ids = await first + await patient
        await actor.close()
        return ids

    assert len(set(asyncio.run(scenario()))) == 2


def test_the_actor_connects_late(tmp_path: Path) -> None:
    async def scenario() -> None:
        actor = actor_of(f"sqlite:///{tmp_path}/late/morphml.db")
        assert not (tmp_path / "late").exists()
        await actor.ready()
        assert (tmp_path / "late" / "morphml.db").exists()
        await actor.close()

    asyncio.run(scenario())


def test_a_wrong_password_is_told_at_once_without_showing_it(postgres_url: str) -> None:
    user, _, rest = postgres_url.partition("@")
    wrong = f"{user.rpartition(':')[0]}:not-the-secret@{rest}"

    async def scenario() -> None:
        actor = actor_of(wrong, deadline_s=60)
        started = time.monotonic()
        with pytest.raises(ConfigurationError, match="password") as caught:
            await actor.ready()
        assert time.monotonic() - started < 30
        assert "not-the-secret" not in str(caught.value)
        await actor.close()

    asyncio.run(scenario())


def test_lesson_12_an_outage_of_postgresql_is_waited_out(postgres: PostgresServer) -> None:
    async def scenario() -> list[int]:
        actor = actor_of(postgres.url, deadline_s=60)
        experiment = await actor.write(DatabaseWrites.create_experiment, encode_experiment("one", {}, None, "error"))
        await actor.save(SaveUnit(experiment, [evaluation(1)]))
        postgres.kill()
        waiting = [
            asyncio.create_task(actor.save(SaveUnit(experiment, [evaluation(number)]))) for number in range(2, 6)
        ]
        reading = asyncio.create_task(actor.read(DatabaseReads.get_experiment, experiment))
        await told(actor, "outage")
        assert not any(call.done() for call in (*waiting, reading))
        postgres.start()
        ids = [(await call)[0] for call in waiting]
        found = await reading
        assert found is not None
        assert found.name == "one"
        await actor.close()
        return ids

    assert len(set(asyncio.run(scenario()))) == 4
