"""The database actor in bad times: locks, hung servers, lost answers, defects."""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from broken_postgres import Proxy, hung, row_lock
from waiting import wait_until

import morphml_ray as mr
from morphml_ray.config import BackendUrl
from morphml_ray.database.actor import DatabaseActor, DatabaseSettings
from morphml_ray.database.commit_queue import CommitQueue
from morphml_ray.database.contract import (
    DatabaseReads,
    DatabaseWrites,
    EncodedEvaluation,
    SaveUnit,
)
from morphml_ray.database.encoding import encode_evaluation, encode_experiment
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.database.wire import EncodedRecords
from morphml_ray.devstack import DevStack
from morphml_ray.errors import BackendUnavailable, ConflictError, CorruptDataError, OutcomeUnknownError, ValidationError
from morphml_ray.testing.database.caller import set_status


def evaluation(number: int, **changes: Any) -> EncodedEvaluation:
    return encode_evaluation({"number": number}, number / 100)._replace(**changes)


def unit(experiment: str, number: int, **changes: Any) -> SaveUnit:
    return SaveUnit(experiment, [evaluation(number, **changes)])


@contextmanager
def queue_over(database: SqlDatabase, *experiments: str) -> Iterator[CommitQueue]:
    queue = CommitQueue(database, max_rows=10_000, max_bytes=2**24)
    with closing(database):
        database.open()
        for name in experiments:
            database.create_experiment(encode_experiment(name, {}, None, "error"))
        try:
            yield queue
        finally:
            queue.close(20)


def at(url: str) -> SqlDatabase:
    return SqlDatabase(BackendUrl(url), timeout_s=10)


def in_s(seconds: float) -> float:
    return time.monotonic() + seconds


def count(database: SqlDatabase, experiment: str) -> int:
    found: int = database.get_experiment_statistics(experiment)["num_evaluations"]
    return found


# Locks


def test_case_13_a_lock_on_one_experiment_stops_no_other(postgres_url: str) -> None:
    database = at(postgres_url)
    with queue_over(database, "locked", "free") as queue:
        with row_lock(postgres_url, "locked"):
            stuck = [queue.save([unit("locked", number)], in_s(60)) for number in range(3)]
            paused = queue.run(lambda: set_status(database, "locked", "paused"), in_s(60))
            flushed = queue.flush(in_s(60))
            for number in range(5):
                assert queue.save([unit("free", number)], in_s(20)).result(20)
            stuck.append(queue.save([unit("locked", 3)], in_s(60)))
            assert queue.save([unit("free", 6)], in_s(20)).result(20)
            assert not any(call.done() for call in (*stuck, paused, flushed))
            assert queue.status()["locked_calls"] >= 4
        ids: list[Any] = [call.result(30)[0] for call in stuck]
        assert ids == sorted(ids)
        assert paused.result(30) is flushed.result(30) is None
        assert queue.status()["locked_calls"] == queue.status()["queue_rows"] == 0
        assert (count(database, "locked"), count(database, "free")) == (4, 6)


def test_case_13_a_lock_that_lasts_is_told_at_the_deadline(postgres_url: str) -> None:
    database = at(postgres_url)
    with queue_over(database, "locked") as queue:
        with row_lock(postgres_url, "locked"):
            calls: list[Future[Any]] = [queue.save([unit("locked", 1)], in_s(2)), queue.flush(in_s(2))]
            for call in calls:
                with pytest.raises(BackendUnavailable, match="lock") as caught:
                    call.result(20)
                assert type(caught.value) is BackendUnavailable
        assert queue.save([unit("locked", 2)], in_s(20)).result(20)
        assert count(database, "locked") == 1


# Servers that hang, answers that are lost


def actor_of(url: str, deadline_s: float = 20.0, pool_size: int = 5) -> DatabaseActor:
    settings = DatabaseSettings(BackendUrl(url), pool_size, False, deadline_s, 1_000, 2**20)  # noqa: FBT003 - no echo
    return DatabaseActor(settings)


def run(scenario: Callable[[DatabaseActor], Awaitable[None]], actor: DatabaseActor) -> None:
    async def all_of_it() -> None:
        try:
            await scenario(actor)
        finally:
            await actor.close()

    asyncio.run(all_of_it())


async def make(actor: DatabaseActor, name: str) -> int:
    return await actor.write(DatabaseWrites.create_experiment, encode_experiment(name, {}, None, "error"))


def test_case_13_a_hung_server_is_an_outage_like_any_other(devstack: DevStack) -> None:
    async def scenario(actor: DatabaseActor) -> None:
        experiment = await make(actor, "one")
        await actor.save(SaveUnit(experiment, [evaluation(1)]))
        with hung(devstack):
            reads = [actor.read(DatabaseReads.get_experiment, experiment) for _ in range(12)]
            writes = [actor.save(SaveUnit(experiment, [evaluation(number)])) for number in range(2, 5)]
            answers = await asyncio.wait_for(asyncio.gather(*reads, *writes, return_exceptions=True), 30)
            assert {type(answer) for answer in answers} == {BackendUnavailable}
            assert (await actor.health())["outage"]
        assert await actor.save(SaveUnit(experiment, [evaluation(5)]))
        found = await actor.read(DatabaseReads.get_experiment_statistics, experiment)
        assert found["num_evaluations"] == 2
        assert (await actor.health())["outage"] is None

    run(scenario, actor_of(devstack.database_url, deadline_s=2))


def test_case_57_a_lost_answer_to_a_commit_is_an_unknown_outcome(postgres_url: str) -> None:
    with closing(Proxy(postgres_url)) as proxy, queue_over(at(proxy.url), "one") as queue:
        sent = encode_evaluation({"number": 1}, 0.5, on_duplicate="replicate")
        proxy.loses_commits = True
        with pytest.raises(OutcomeUnknownError, match="write id"):
            queue.save([SaveUnit("one", [sent])], in_s(2)).result(20)
        with pytest.raises(BackendUnavailable) as refused:
            queue.save([unit("one", 2)], in_s(0.5)).result(20)
        assert type(refused.value) is BackendUnavailable
        proxy.loses_commits = False
        (ids,) = queue.save([SaveUnit("one", [sent])], in_s(20)).result(20)
        database = at(postgres_url)
        with closing(database):
            database.open()
            assert [record.id for record in database.list_architectures("one", None, None, None, 9).decode()] == ids


def test_case_54_each_caller_gets_an_error_of_its_own(tmp_path: Path) -> None:
    with queue_over(at(f"sqlite:///{tmp_path}/morphml.db"), "one") as queue:
        (tmp_path / "morphml.db").rename(tmp_path / "elsewhere.db")
        calls = [queue.save([unit("one", number)], in_s(20)) for number in range(50)]
        wait(calls, 20)
        errors = [call.exception(0) for call in calls]
        assert len(set(map(id, errors))) == 50
        assert {type(error) for error in errors} == {CorruptDataError}


def test_case_18_a_closed_port_is_logged_and_told_at_once(devstack: DevStack, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(actor: DatabaseActor) -> None:
        experiment = await make(actor, "one")
        devstack.postgres.kill()
        reading = asyncio.create_task(actor.read(DatabaseReads.get_experiment, experiment))
        await asyncio.to_thread(wait_until, lambda: actor._outage.text, 20)
        assert (await actor.health())["outage"]
        assert not reading.done()
        (told,) = (record for record in caplog.records if record.levelno == logging.WARNING)
        assert told.getMessage().startswith("Reads wait: ")
        devstack.postgres.start()
        assert await reading
        assert (await actor.health())["outage"] is None

    run(scenario, actor_of(devstack.database_url, deadline_s=60))


# The file of SQLite


@pytest.mark.parametrize("what", ["moved", "replaced", "directory", "lock"])
def test_case_2_what_is_stored_into_a_file_that_is_gone_is_not_acknowledged(tmp_path: Path, what: str) -> None:
    home, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    path, lock = home / "morphml.db", home / "morphml.db.lock"

    async def scenario(actor: DatabaseActor) -> None:
        experiment = await make(actor, "one")
        await actor.save(SaveUnit(experiment, [evaluation(1)]))
        if what == "lock":
            lock.unlink()
        else:
            (home if what == "directory" else path).rename(elsewhere)
        if what == "replaced":
            path.write_bytes(elsewhere.read_bytes())
        expected = ConflictError if what == "replaced" else CorruptDataError
        with pytest.raises(expected, match=r"morphml\.db.* while it was in use"):
            await actor.save(SaveUnit(experiment, [evaluation(2)]))
        with pytest.raises(expected):
            await actor.read(DatabaseReads.get_experiment, experiment)
        if what == "lock":
            return
        elsewhere.rename(home if what == "directory" else path)
        await actor.save(SaveUnit(experiment, [evaluation(3)]))
        assert (await actor.read(DatabaseReads.get_experiment_statistics, experiment))["num_evaluations"] == 2

    run(scenario, actor_of(f"sqlite:///{path}"))


def test_case_56_a_full_disk_at_a_restart_is_an_outage_and_reads_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "morphml.db"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    async def fill(actor: DatabaseActor) -> None:
        await actor.save(SaveUnit(await make(actor, "one"), [evaluation(1)]))

    async def read(actor: DatabaseActor) -> None:
        await actor.ready()
        assert (await actor.read(DatabaseReads.get_experiment_statistics, "one"))["num_evaluations"] == 1

    async def begin(actor: DatabaseActor) -> None:
        with pytest.raises(BackendUnavailable, match="No space left"):
            await actor.ready()

    run(fill, actor_of(f"sqlite:///{path}"))
    monkeypatch.setattr("os.fsync", full)
    run(read, actor_of(f"sqlite:///{path}"))
    run(begin, actor_of(f"sqlite:///{tmp_path}/new.db", deadline_s=1))


# Defects


class Defective(SqlDatabase):
    """A database with a bug."""

    defect: BaseException | None = None

    def save(self, units: Any) -> Any:
        if isinstance(self.defect, SystemExit):
            raise self.defect
        return super().save(units)

    def purge(self, limit: int) -> int:
        if self.defect is not None:
            raise self.defect
        return super().purge(limit)


def test_case_14_an_unexpected_error_while_purging_ends_nothing(tmp_path: Path) -> None:
    database = Defective(BackendUrl(f"sqlite:///{tmp_path}/morphml.db"))
    with queue_over(database, "one") as queue:
        database.defect = RuntimeError("a bug")
        assert queue.save([unit("one", 1)], in_s(20)).result(20)
        wait_until(lambda: queue.status()["unexpected_errors"] == 1, 20)
        assert queue.save([unit("one", 2)], in_s(20)).result(20)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_case_14_whoever_waits_is_told_when_the_thread_ends(tmp_path: Path) -> None:
    database = Defective(BackendUrl(f"sqlite:///{tmp_path}/morphml.db"))
    with queue_over(database, "one") as queue:
        assert queue.save([unit("one", 1)], in_s(20)).result(20)
        database.defect = SystemExit()
        with pytest.raises(OutcomeUnknownError, match="ended unexpectedly"):
            queue.save([unit("one", 2)], in_s(20)).result(20)
        database.defect = None
        assert queue.save([unit("one", 3)], in_s(20)).result(20)
        assert queue.status()["queue_rows"] == 0


# Who waits for whom


class Slow(SqlDatabase):
    """Ranking by a metric takes as long as the test wants."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.may_end = threading.Event()

    def get_best_architectures(self, *arguments: Any) -> EncodedRecords:
        assert self.may_end.wait(60)
        return super().get_best_architectures(*arguments)


@pytest.mark.parametrize("pool_size", [3, 5])
def test_case_58_long_reads_do_not_hold_short_ones_up(tmp_path: Path, pool_size: int) -> None:
    async def scenario(actor: DatabaseActor) -> None:
        experiment = await make(actor, "one")
        slow = actor._database = Slow(actor._settings.url)
        actor._queue.close(5)
        await asyncio.to_thread(actor._queue._database.close)
        ranked = [
            asyncio.create_task(actor.read_long(DatabaseReads.get_best_architectures, experiment, 3, "m", {}, "max"))
            for _ in range(16)
        ]
        await asyncio.sleep(0.05)
        found = await asyncio.wait_for(actor.read(DatabaseReads.get_experiment_statistics, experiment), 20)
        assert found["num_evaluations"] == 0
        slow.may_end.set()
        answers = await asyncio.gather(*ranked, return_exceptions=True)
        assert {type(answer) for answer in answers} == {ValidationError}  # there is no evaluation with that metric

    run(scenario, actor_of(f"sqlite:///{tmp_path}/morphml.db", pool_size=pool_size))


def test_case_58_reads_do_not_wait_behind_a_thousand_writes(postgres_storage: mr.Storage, migrated_url: str) -> None:
    database = postgres_storage.database
    number = postgres_storage.experiment("locked").id
    with row_lock(migrated_url, "locked"):
        writes = [database.save_architecture.remote(number, {"n": n}, 0.5) for n in range(1_100)]
        found = ray.get(database.get_experiment_statistics.remote(number), timeout=25)
        assert found["num_evaluations"] == 0
    ids = ray.get(writes, timeout=100)
    assert len(set(ids)) == 1_100


def test_case_58_threads_of_one_loop_each_share_the_actor(tmp_path: Path) -> None:
    """Ray gives each group of calls an event loop of its own."""
    actor = actor_of(f"sqlite:///{tmp_path}/morphml.db")
    experiment = asyncio.run(make(actor, "one"))

    def write(number: int) -> None:
        asyncio.run(actor.save(SaveUnit(experiment, [evaluation(number)])))
        asyncio.run(actor.read(DatabaseReads.get_experiment, experiment))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(12)))

    async def check(actor: DatabaseActor) -> None:
        assert (await actor.read(DatabaseReads.get_experiment_statistics, experiment))["num_evaluations"] == 12

    run(check, actor)
