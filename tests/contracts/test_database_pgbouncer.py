"""PostgreSQL behind PgBouncer keeps the contract: each transaction may run in another session."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest
from pgbouncer import through
from raw_evaluations import raw_evaluations

from morphml_ray.config import BackendUrl
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.testing.database.caller import best, create, evaluation, page, save
from morphml_ray.testing.database.saving import SavingContract
from morphml_ray.testing.database.storing import Stored, StoringContract

SETTINGS = "statement_timeout", "lock_timeout", "random_page_cost", "enable_seqscan", "jit"


@pytest.fixture(scope="module")
def opened() -> Iterator[list[SqlDatabase]]:
    """What is open; one object serves many tests."""
    databases: list[SqlDatabase] = []
    yield databases
    for database in databases:
        database.close()


@pytest.fixture
def reopen(opened: list[SqlDatabase], empty_postgres_url: str, pgbouncer: str) -> Callable[[], SqlDatabase]:
    def open_again() -> SqlDatabase:
        for database in opened:
            database.close()
        opened[:] = [SqlDatabase(BackendUrl(through(pgbouncer, empty_postgres_url)), timeout_s=20)]
        opened[0].open()
        return opened[0]

    return open_again


@pytest.fixture
def database(opened: list[SqlDatabase], reopen: Callable[[], SqlDatabase]) -> SqlDatabase:
    return opened[0] if opened else reopen()


@pytest.fixture
def stored(empty_postgres_url: str) -> Iterator[Stored]:
    with closing(psycopg2.connect(empty_postgres_url)) as connection:
        connection.autocommit = True
        yield lambda experiment: raw_evaluations(connection, experiment)


class TestPgBouncer(SavingContract, StoringContract):
    """The fixtures stand above; of the contract the part whose statements are not SQLAlchemy's."""


def test_case_19_an_empty_database_behind_pgbouncer_gets_its_tables(postgres_url: str, pgbouncer: str) -> None:
    with closing(SqlDatabase(BackendUrl(through(pgbouncer, postgres_url)), timeout_s=20)) as database:
        database.open()
        assert save(database, create(database), evaluation())


def test_case_19_sessions_change_under_many_threads(database: SqlDatabase) -> None:
    number = create(database)

    def work(worker: int) -> None:
        for i in range(10):
            save(database, number, *[evaluation(worker * 100 + i * 5 + row, row / 7) for row in range(5)])
            assert best(database, number, 1)

    with ThreadPoolExecutor(5) as threads:
        list(threads.map(work, range(5)))
    assert len(page(database, number)) == database.get_experiment_statistics(number)["num_evaluations"] == 250


def test_case_19_nothing_is_left_behind_for_who_gets_the_session_next(
    database: SqlDatabase, empty_postgres_url: str, pgbouncer: str
) -> None:
    number = create(database)
    for i in range(8):  # twice as many as there are sessions
        save(database, number, evaluation(i))
    question = "SELECT " + ", ".join(f"current_setting('{name}')" for name in SETTINGS)
    left = "SELECT count(*) FROM pg_prepared_statements"

    def ask(url: str) -> set[tuple[object, ...]]:
        with closing(psycopg2.connect(url)) as connection:
            found = set()
            for _ in range(8):
                with connection, connection.cursor() as cursor:
                    cursor.execute(question)
                    found.update(cursor.fetchall())
                    cursor.execute(left)
                    found.update(cursor.fetchall())
            return found

    fresh = ask(empty_postgres_url)
    assert len(fresh) == 2
    assert ask(through(pgbouncer, empty_postgres_url)) == fresh
