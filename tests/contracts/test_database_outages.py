"""What hangs, is locked, breaks, or never was there: an end to every wait, and the right error."""

import resource
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
import sqlalchemy as sa
from broken_postgres import Proxy, hung, row_lock
from servers import ask

from morphml_ray.config import BackendUrl
from morphml_ray.database.contract import SaveUnit
from morphml_ray.database.outages import CommitLostError, LockedError
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.database.sql.driver_errors import translated
from morphml_ray.database.sql.postgres_connection import HostNotFound
from morphml_ray.database.time_limit import limited
from morphml_ray.devstack import DevStack, PostgresServer
from morphml_ray.errors import BackendUnavailable, ConfigurationError, ValidationError
from morphml_ray.testing.database.caller import create, evaluation, page, save, set_status


def at(url: str, timeout_s: float = 10) -> SqlDatabase:
    return SqlDatabase(BackendUrl(url), timeout_s=timeout_s)


@pytest.fixture
def database(empty_postgres_url: str) -> Iterator[SqlDatabase]:
    with closing(at(empty_postgres_url)) as database:
        database.open()
        yield database


@pytest.mark.timeout(90)
def test_case_13_a_server_that_hangs_is_given_up(devstack: DevStack) -> None:
    with closing(at(devstack.database_url, timeout_s=1)) as database:
        database.open()
        number = create(database)
        save(database, number, evaluation(1))
        calls: list[Callable[[], object]] = [
            lambda: page(database, number),
            lambda: save(database, number, evaluation(2)),
            lambda: set_status(database, number, "paused"),
        ]
        with hung(devstack), closing(at(devstack.database_url, timeout_s=1)) as late:
            for call in (*calls, late.open):
                with pytest.raises(BackendUnavailable):
                    call()
        assert save(database, number, evaluation(2))
        assert len(page(database, number)) == 2


def test_case_13_each_wait_of_a_transaction_ends(database: SqlDatabase) -> None:
    assert database._engine is not None
    question = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
    with limited(1.5, lock_wait_s=0.25), database._writing("looking") as connection:
        statement, lock = connection.exec_driver_sql(question).one()
    assert 1000 < int(statement.removesuffix("ms")) <= 1500
    assert lock == "250ms"
    with (
        pytest.raises(BackendUnavailable, match="statement timeout"),
        limited(0.5),
        database._reading("looking") as connection,
    ):
        connection.exec_driver_sql("SELECT pg_sleep(60)")
    with database._engine.connect() as connection:
        assert connection.exec_driver_sql(question).one() == ("0", "0")


def test_case_13_a_locked_experiment_is_set_apart_from_its_batch(
    database: SqlDatabase, empty_postgres_url: str
) -> None:
    for name in ("first", "locked", "last"):
        create(database, name)
    units = [SaveUnit(name, [evaluation(i)]) for i, name in enumerate(("first", "locked", "last", "locked", "first"))]
    with row_lock(empty_postgres_url, "locked"), limited(10, lock_wait_s=0.2):
        outcomes = database.save(units)
        with pytest.raises(LockedError, match="lock"):
            set_status(database, "locked", "paused")
    assert [type(outcome) for outcome in outcomes] == [list, LockedError, list, LockedError, list]
    assert [len(page(database, name)) for name in ("first", "locked", "last")] == [2, 0, 1]
    again = database.save(units)
    assert [outcomes[i] for i in (0, 2, 4)] == [again[i] for i in (0, 2, 4)]
    assert len(page(database, "locked")) == 2


def test_case_57_a_commit_whose_answer_is_lost_is_told_as_such(empty_postgres_url: str) -> None:
    with closing(Proxy(empty_postgres_url)) as proxy, closing(at(proxy.url)) as database:
        database.open()
        number = create(database)
        sent = evaluation(1, on_duplicate="replicate")
        proxy.loses_commits = True
        with pytest.raises(CommitLostError):
            save(database, number, sent)
        with pytest.raises(BackendUnavailable) as refused:
            save(database, number, sent)
        assert type(refused.value) is BackendUnavailable
        proxy.loses_commits = False
        (row,) = page(database, number)
        assert save(database, number, sent) == [row.id]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_case_8_a_database_of_another_encoding_takes_what_it_can_hold(
    postgres_server: PostgresServer, encoding: str
) -> None:
    name = f"encoding_{encoding.lower()}"
    ask(
        postgres_server.url,
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C'",
    )
    try:
        with closing(at(postgres_server.url.rpartition("/")[0] + f"/{name}")) as database:
            database.open()
            number = create(database, "größe")
            texts = ["plain", "ü", "プ", "\N{EURO SIGN}", "also plain"]
            units = [SaveUnit(number, [evaluation(i, 0.5, {"t": text})]) for i, text in enumerate(texts)]
            refused = {
                i: str(outcome) for i, outcome in enumerate(database.save(units)) if not isinstance(outcome, list)
            }
            kept = [row.metrics["t"] for row in page(database, number)]
            assert kept == [text for i, text in enumerate(texts) if i not in refused]
            assert set(refused) == ({2, 3} if encoding == "LATIN1" else set())
            assert all("LATIN1" in told and "ENCODING 'UTF8'" in told for told in refused.values()), refused
    finally:
        postgres_server.drop_database(name)


def test_case_8_a_value_that_the_driver_cannot_send_fails_alone(database: SqlDatabase) -> None:
    number = create(database)
    workers = ["ann", "a\0b", "bob", "\ud800"]
    units = [SaveUnit(number, [evaluation(i)._replace(worker_id=worker)]) for i, worker in enumerate(workers)]
    outcomes = database.save(units)
    assert [type(outcome) for outcome in outcomes] == [list, ValidationError, list, ValidationError]
    assert [row.worker_id for row in page(database, number)] == ["ann", "bob"]


def test_case_18_a_host_that_does_not_exist_is_told_at_once() -> None:
    with (
        closing(at("postgresql://ann:secret@no-such-host.invalid/nas")) as nowhere,
        pytest.raises(ConfigurationError, match="host"),
    ):
        nowhere.open()
    # Later the same answer is an outage: names come and go while servers move.
    with pytest.raises(BackendUnavailable), translated("place", "save"):
        raise sa.exc.OperationalError(None, None, HostNotFound("unknown"))


@pytest.mark.parametrize("setting", ["SET default_transaction_read_only = on", "CONNECTION LIMIT -1"])
def test_case_18_a_role_that_may_only_read_is_told_at_once(empty_postgres_url: str, setting: str) -> None:
    ask(empty_postgres_url, "CREATE ROLE reader LOGIN PASSWORD 'secret'; GRANT pg_read_all_data TO reader")
    try:
        ask(empty_postgres_url, f"ALTER ROLE reader {setting}")
        with (
            closing(at(f"postgresql://reader:secret@{empty_postgres_url.partition('@')[2]}")) as database,
            pytest.raises(ConfigurationError, match=r"read|rights"),
        ):
            database.open()
            create(database)
    finally:
        ask(empty_postgres_url, "DROP ROLE reader")


def test_case_18_a_missing_schema_is_told_at_once(postgres_url: str) -> None:
    with (
        closing(at(f"{postgres_url}?options=-c%20search_path%3Dnowhere")) as database,
        pytest.raises(ConfigurationError, match="schema"),
    ):
        database.open()


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


WORDS = [
    ("malformed JSON", ValidationError),
    ("Expression tree is too large (maximum depth 1000)", ValidationError),
    ("too many SQL variables", ValidationError),
    ("string or blob too big", ValidationError),
    ("no such table: events", ConfigurationError),
    ('near "SELEC": syntax error', ConfigurationError),
    ("database table is locked", BackendUnavailable),
    ("out of memory", BackendUnavailable),
    ("interrupted", BackendUnavailable),
]


@pytest.mark.parametrize(("words", "expected"), WORDS, ids=[words for words, _ in WORDS])
def test_case_64_words_of_sqlite(words: str, expected: type[Exception]) -> None:
    with pytest.raises(expected) as caught, translated("place", "save"):
        raise sa.exc.OperationalError(None, None, sqlite3.OperationalError(words))
    assert type(caught.value) is expected


@pytest.mark.parametrize("statement", ["SELECT * FROM json_each('{')", f"SELECT {'1+' * 1100}1"])
def test_case_64_what_sqlite_refuses_is_a_value(statement: str) -> None:
    engine = sa.create_engine("sqlite://")
    with pytest.raises(ValidationError), translated("place", "save"), engine.connect() as connection:
        connection.exec_driver_sql(statement).all()
    engine.dispose()


def test_case_64_no_descriptor_left_is_an_outage(database_url: str) -> None:
    with closing(at(database_url)) as database:
        database.open()
        number = create(database)
        save(database, number, evaluation(1))
        database.close()
        with no_descriptors(), pytest.raises(BackendUnavailable):
            database.open()
        database.open()
        with (
            ThreadPoolExecutor(1) as other,
            database._reading("holding the only connection"),
            no_descriptors(),
            pytest.raises(BackendUnavailable),
        ):
            other.submit(page, database, number).result()
        assert len(page(database, number)) == 1
