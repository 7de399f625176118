"""PostgreSQL keeps the contract; and what only a server has."""

import socket
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

import psycopg2
import pytest
import sqlalchemy as sa
from raw_evaluations import raw_evaluations
from servers import ask

from morphml_ray.config import BackendUrl
from morphml_ray.database.contract import SaveUnit
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.devstack import PostgresServer
from morphml_ray.errors import BackendUnavailable, ConfigurationError, MorphMLRayError
from morphml_ray.testing import DatabaseContract
from morphml_ray.testing.database.caller import best, create, evaluation, only, page, save, set_status
from morphml_ray.testing.database.storing import Stored


@pytest.fixture(scope="module")
def opened() -> Iterator[list[SqlDatabase]]:
    """What is open; one object serves many tests."""
    databases: list[SqlDatabase] = []
    yield databases
    for database in databases:
        database.close()


@pytest.fixture
def reopen(opened: list[SqlDatabase], empty_postgres_url: str) -> Callable[[], SqlDatabase]:
    def open_again() -> SqlDatabase:
        for database in opened:
            database.close()
        opened[:] = [at(empty_postgres_url)]
        opened[0].open()
        return opened[0]

    return open_again


@pytest.fixture
def database(opened: list[SqlDatabase], reopen: Callable[[], SqlDatabase]) -> SqlDatabase:
    return opened[0] if opened else reopen()


@pytest.fixture
def owners(empty_postgres_url: str) -> Iterator[list[SqlDatabase]]:
    """Four objects that write to one database, as four actors would."""
    databases = [at(empty_postgres_url) for _ in range(4)]
    with ExitStack() as stack:
        for database in databases:
            stack.enter_context(closing(database)).open()
        yield databases


def at(url: str) -> SqlDatabase:
    return SqlDatabase(BackendUrl(url), timeout_s=10)


@pytest.fixture
def stored(empty_postgres_url: str) -> Iterator[Stored]:
    with closing(psycopg2.connect(empty_postgres_url)) as connection:
        connection.autocommit = True
        yield lambda experiment: raw_evaluations(connection, experiment)


class TestPostgres(DatabaseContract):
    """The fixtures stand above."""


def test_lesson_4_counters_are_the_rows_of_the_tables(database: SqlDatabase, empty_postgres_url: str) -> None:
    number = create(database)
    save(database, number, *[evaluation(i, i / 4, {"m": i}) for i in range(3)], evaluation(3, None), evaluation(0, 9.0))
    save(database, number, evaluation(1, 0.75, on_duplicate="keep_best"), evaluation(2, 0.5, on_duplicate="replicate"))
    counters = "SELECT num_succeeded, num_failed, num_proposals, fitness_total FROM experiments"
    assert ask(empty_postgres_url, counters) == [(4, 1, 7, 1.75)]
    assert ask(empty_postgres_url, "SELECT count(fitness), count(*), sum(fitness) FROM evaluations") == [(4, 5, 1.75)]
    assert ask(empty_postgres_url, "SELECT outcome, count(*) FROM proposals GROUP BY 1 ORDER BY 1") == [
        ("forced", 1),
        ("hit", 2),
    ]
    assert ask(empty_postgres_url, "SELECT count(*) FROM evaluations WHERE metrics @> '{\"m\": 2}'") == [(1,)]


def test_lesson_2_owners_that_race_get_the_same_rows(owners: list[SqlDatabase]) -> None:
    names = ("first", "second")
    for name in names:
        create(owners[0], name)

    def race(owner: int) -> dict[tuple[str, int], int]:
        # Every other one goes the other way round, in the best of cases for a deadlock.
        turn = -1 if owner % 2 else 1
        found: dict[tuple[str, int], int] = {}
        for start in range(0, 20, 5):
            order = list(range(start, start + 5))[::turn]
            units = [SaveUnit(name, [evaluation(i, owner / 4) for i in order]) for name in names[::turn]]
            for unit, outcome in zip(units, owners[owner].save(units), strict=True):
                assert not isinstance(outcome, MorphMLRayError)
                found |= {(str(unit.experiment), i): row for i, row in zip(order, outcome, strict=True)}
        return found

    with ThreadPoolExecutor(len(owners)) as threads:
        first, *others = threads.map(race, range(len(owners)))
    assert others == [first] * 3
    assert len(set(first.values())) == 40
    for name in names:
        known = owners[0].get_experiment_statistics(name)
        assert (known["num_evaluations"], known["num_proposals"]) == (20, 80)
        assert len(page(owners[0], name)) == 20


def test_lesson_4_owners_that_count_together_count_right(owners: list[SqlDatabase]) -> None:
    number = create(owners[0])

    def write(owner: int) -> None:
        for i in range(10):
            save(owners[owner], number, evaluation(owner * 10 + i, 0.25), evaluation(99, 0.5, on_duplicate="replicate"))

    with ThreadPoolExecutor(len(owners)) as threads:
        list(threads.map(write, range(len(owners))))
    known = owners[0].get_experiment_statistics(number)
    assert (known["num_evaluations"], known["avg_fitness"]) == (80, 0.375)
    rows = page(owners[0], number)
    assert sorted(row.replicate for row in rows if row.fitness == 0.5) == list(range(40))
    assert best(owners[0], number, 1)[0].fitness == 0.5


def test_owners_that_create_one_name_get_one_experiment(owners: list[SqlDatabase]) -> None:
    with ThreadPoolExecutor(len(owners)) as threads:
        ids = list(threads.map(lambda owner: create(owner, "same", if_exists="reuse"), owners))
    assert len(set(ids)) == 1


def test_lesson_5_no_more_connections_than_the_pool(postgres_server: PostgresServer, empty_postgres_url: str) -> None:
    before = postgres_server.connections("contracts")
    with closing(SqlDatabase(BackendUrl(empty_postgres_url), pool_size=3, timeout_s=10)) as database:
        database.open()
        number = create(database)
        with ThreadPoolExecutor(16) as threads:
            answers = [threads.submit(page, database, number) for _ in range(64)]
            most = max(postgres_server.connections("contracts") for _ in range(5))
            assert [answer.result() for answer in answers] == [[]] * 64
        assert most - before <= 3
        assert database.pool_status() == {"size": 3, "open": 3, "in_use": 0}
        assert postgres_server.connections("contracts") - before == 3
    assert postgres_server.connections("contracts") - before <= 3


def test_lesson_9_times_are_utc_in_any_session(empty_postgres_url: str) -> None:
    url = f"{empty_postgres_url}?options=-c%20TimeZone%3DAsia/Kolkata"
    with closing(at(url)) as database:
        database.open()
        number = create(database)
        save(database, number, evaluation())
        recorded = only(database, number).evaluated_at
        assert recorded is not None
        assert recorded.utcoffset() == timedelta(0)
        assert timedelta(0) <= datetime.now(timezone.utc) - recorded < timedelta(minutes=1)


def test_lesson_12_a_restarted_server_is_found_again(postgres_server: PostgresServer, database: SqlDatabase) -> None:
    number = create(database)
    sent = evaluation(1, 0.5)
    with ThreadPoolExecutor(5) as threads:  # so that several connections lie in the pool
        list(threads.map(lambda _: page(database, number), range(20)))
    (row,) = save(database, number, sent)
    try:
        postgres_server.kill()
        with pytest.raises(BackendUnavailable):
            save(database, number, evaluation(2))
        with pytest.raises(BackendUnavailable):
            page(database, number)
        with pytest.raises(BackendUnavailable):
            database.list_experiments(None, None, 0)
    finally:
        postgres_server.start()
    for _ in range(6):  # more than there are connections
        assert only(database, number).id == row
    assert save(database, number, sent) == [row]


def test_a_full_disk_says_so_and_keeps_what_is_stored(database: SqlDatabase, empty_postgres_url: str) -> None:
    number = create(database)
    save(database, number, evaluation(1))
    # The server's own code and words, in the middle of a save.
    fail = "RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'"
    ask(empty_postgres_url, f"CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {fail}; END $$")
    ask(empty_postgres_url, "CREATE TRIGGER full_disk BEFORE INSERT ON evaluations EXECUTE FUNCTION fill()")
    try:
        with pytest.raises(BackendUnavailable, match=r"no room for save: .* is full .*Free space"):
            save(database, number, evaluation(2))
        assert len(page(database, number)) == 1
    finally:
        ask(empty_postgres_url, "DROP FUNCTION fill CASCADE")
    save(database, number, evaluation(2))
    assert database.get_experiment_statistics(number)["num_evaluations"] == len(page(database, number)) == 2


@pytest.mark.parametrize(
    ("change", "expected", "reason"),
    [
        (
            lambda url: url.replace(password_of(url), "not-the-one"),
            ConfigurationError,
            "password authentication failed",
        ),
        (lambda url: url.replace("morphml:", "nobody:"), ConfigurationError, "password authentication failed"),
        (lambda url: url + "_missing", ConfigurationError, 'database "contracts_missing" does not exist'),
        (
            lambda url: url.replace(f":{password_of(url)}@", "@") + "?password=not-the-one",
            ConfigurationError,
            "password authentication failed",
        ),
        (lambda url: url + "?options=-c%20work_mem%3Dmuch", ConfigurationError, "invalid value"),
        (lambda url: url.replace(f":{urlsplit(url).port}/", f":{closed_port()}/"), BackendUnavailable, "refused"),
    ],
    ids=["password", "user", "database", "password-option", "setting", "server"],
)
def test_lesson_16_what_fails_to_open_says_why_without_the_password(
    migrated_postgres_url: str, change: Callable[[str], str], expected: type[Exception], reason: str
) -> None:
    url = change(migrated_postgres_url)
    database = at(url)
    for _ in range(2):
        with pytest.raises(expected, match=reason) as caught:
            database.open()
        told = "".join(traceback.format_exception(caught.value)) + repr(database.pool_status())
        assert password_of(migrated_postgres_url) not in told
        assert "not-the-one" not in told
        assert "***" in str(caught.value)
    database.close()


def password_of(url: str) -> str:
    password = urlsplit(url).password
    assert password
    return password


def closed_port() -> int:
    """A port of this machine where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


class Touched:
    """Counts the rows that PostgreSQL looks at: a cost without a clock."""

    QUESTION = "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_xact_user_tables"

    def __init__(self, database: SqlDatabase) -> None:
        assert database._engine is not None
        self._engine = database._engine
        self._count = 0
        sa.event.listen(self._engine, "commit", self._look)

    def _look(self, connection: sa.Connection) -> None:
        self._count += int(connection.exec_driver_sql(self.QUESTION).scalar_one())
        # Else the next transaction would count this one's rows again.
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")

    def by(self, call: Callable[[], object]) -> int:
        before = self._count
        call()
        return self._count - before


def test_lesson_13_no_call_looks_at_all_rows(reopen: Callable[[], SqlDatabase], empty_postgres_url: str) -> None:
    database = reopen()
    number, touched = create(database), Touched(database)
    sent = [(i, None if i % 9 == 0 else i * 7919 % 1009 / 1024, {"m": i}) for i in range(5000)]
    save(database, number, *[evaluation(i, f, m, generation=i % 50) for i, f, m in sent])
    ask(empty_postgres_url, "ANALYZE")
    last = page(database, number, limit=1)[0].id
    better, replicate = evaluation(1, 0.99, on_duplicate="keep_best"), evaluation(1, on_duplicate="replicate")
    rows = {
        "save": touched.by(lambda: save(database, number, evaluation(-1, 0.5))),
        "duplicate": touched.by(lambda: save(database, number, evaluation(-1, 0.75))),
        "better": touched.by(lambda: save(database, number, better)),
        "replicate": touched.by(lambda: save(database, number, replicate)),
        "failure": touched.by(lambda: save(database, number, evaluation(-2, None))),
        "best": touched.by(lambda: best(database, number)),
        "statistics": touched.by(lambda: database.get_experiment_statistics(number)),
        "page": touched.by(lambda: page(database, number, after_id=last, limit=10)),
        "generation": touched.by(lambda: page(database, number, generation=7, limit=5)),
        "hash": touched.by(lambda: database.get_architecture_by_hash(evaluation(1).key, number)),
        "status": touched.by(lambda: set_status(database, number, "running")),
    }
    assert all(rows.values())
    # A top list looks at 64 rows of each of three tables, for architectures of several fidelities.
    assert {name: touched for name, touched in rows.items() if touched > (220 if name == "best" else 60)} == {}
