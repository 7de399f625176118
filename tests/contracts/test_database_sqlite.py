"""SQLite keeps the contract; and what only a file has."""

import os
import re
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import sqlalchemy as sa
from raw_evaluations import raw_evaluations

from morphml_ray.config import BackendUrl
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.database.sql.driver_errors import translated
from morphml_ray.errors import BackendUnavailable, ConfigurationError, ConflictError, CorruptDataError
from morphml_ray.testing import DatabaseContract
from morphml_ray.testing.database.caller import best, create, evaluation, page, save, set_status
from morphml_ray.testing.database.storing import Stored

OWN_IT = """
import sys
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.config import BackendUrl
SqlDatabase(BackendUrl(sys.argv[1])).open()
print("open", flush=True)
sys.stdin.read()
"""


class TestSqlite(DatabaseContract):
    @pytest.fixture
    def reopen(self, path: Path) -> Iterator[Callable[[], SqlDatabase]]:
        opened: list[SqlDatabase] = []

        def open_again() -> SqlDatabase:
            for database in opened:
                database.close()
            opened.append(at(path))
            opened[-1].open()
            return opened[-1]

        yield open_again
        for database in opened:
            database.close()

    @pytest.fixture
    def database(self, reopen: Callable[[], SqlDatabase]) -> SqlDatabase:
        return reopen()

    @pytest.fixture
    def stored(self, path: Path) -> Iterator[Stored]:
        with closing(sqlite3.connect(path)) as connection:
            yield lambda experiment: raw_evaluations(connection, experiment)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "morphml.db"


@pytest.fixture
def database(path: Path) -> Iterator[SqlDatabase]:
    opened = at(path)
    opened.open()
    yield opened
    opened.close()


def at(path: Path) -> SqlDatabase:
    return SqlDatabase(BackendUrl(f"sqlite:///{path}"), timeout_s=0.2)


def ask(path: Path, question: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def test_lesson_4_counters_are_the_rows_of_the_tables(database: SqlDatabase, path: Path) -> None:
    number = create(database)
    save(database, number, *[evaluation(i, i / 4) for i in range(3)], evaluation(3, None), evaluation(0, 9.0))
    save(database, number, evaluation(1, 0.75, on_duplicate="keep_best"), evaluation(2, 0.5, on_duplicate="replicate"))
    counters = "SELECT num_succeeded, num_failed, num_proposals, fitness_total FROM experiments"
    assert ask(path, counters) == [(4, 1, 7, "1.75")]
    assert ask(path, "SELECT count(fitness), count(*), sum(fitness) FROM evaluations") == [(4, 5, 1.75)]
    assert ask(path, "SELECT outcome, count(*) FROM proposals GROUP BY 1 ORDER BY 1") == [
        ("forced", 1),
        ("hit", 2),
    ]
    assert ask(path, "SELECT count(*) FROM architectures") == [(4,)]


def test_a_commit_is_synced_and_foreign_keys_are_checked(database: SqlDatabase) -> None:
    assert database._engine is not None
    with database._engine.connect() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
        assert found == ["wal", 2]
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        with pytest.raises(sa.exc.IntegrityError):
            connection.exec_driver_sql(
                "INSERT INTO events (experiment_id, kind, detail, created_at) VALUES (9, '', '', '')"
            )


def test_lesson_15_a_second_owner_is_refused(database: SqlDatabase, path: Path, tmp_path: Path) -> None:
    number = create(database)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(path)
    for same in (path, link):
        second = at(same)
        with pytest.raises(ConflictError, match=rf"pid {os.getpid()}\)"):
            second.open()
        second.close()
    save(database, number, evaluation())
    database.close()
    with pytest.raises(BackendUnavailable, match="not open"):
        page(database, number)
    second.open()
    assert len(page(second, number)) == 1
    with pytest.raises(ConflictError):
        database.open()
    second.close()
    database.open()


def test_lesson_15_another_process_is_refused_until_the_owner_dies(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWN_IT, f"sqlite:///{path}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"open\n"
        database = at(path)
        with pytest.raises(ConflictError, match=rf"{path}.*pid {owner.pid}\)"):
            database.open()
        owner.kill()
    database.open()
    assert database.list_experiments(None, None, 0) == []
    database.close()


class Mount(NamedTuple):
    mountpoint: str
    fstype: str


def test_lesson_15_a_network_file_system_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: Path
) -> None:
    share = tmp_path / "share"
    share.mkdir()
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [Mount("/", "ext4"), Mount(str(share), "nfs4")])
    (tmp_path / "link.db").symlink_to(share / "morphml.db")
    for refused in (share / "morphml.db", tmp_path / "link.db"):
        with pytest.raises(ConfigurationError, match=r"network file system \(nfs4"):
            at(refused).open()
    assert list(share.iterdir()) == []
    local = at(path)
    local.open()
    local.close()


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_bytes(b"something else " * 1000)
    database = at(path)
    for _ in range(2):
        with pytest.raises(CorruptDataError, match=rf"sqlite:///{path} cannot be read: file is not a database"):
            database.open()
    assert path.read_bytes() == b"something else " * 1000
    path.unlink()
    database.open()
    database.close()


def test_a_damaged_page_is_told_as_such(path: Path) -> None:
    database = at(path)
    database.open()
    number = create(database)
    save(database, number, *[evaluation(i, 0.5, {"text": "x" * 500}) for i in range(200)])
    database.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"\xff" * (size // 2))

    def read() -> None:
        database.open()
        page(database, number)

    with pytest.raises(CorruptDataError, match="malformed"):
        read()
    database.close()


def test_case_62_a_damaged_experiment_is_named_and_the_others_are_given(
    database: SqlDatabase, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = [create(database, name) for name in ("a", "b", "c")]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE experiments SET config = '{' WHERE name = 'b'")
    assert [one.id for one in database.list_experiments(None, None, 0)] == [numbers[0], numbers[2]]
    assert "experiment 'b'" in caplog.text
    with pytest.raises(CorruptDataError, match="experiment 'b'"):
        database.get_experiment("b")


def test_a_damaged_schema_is_told_as_such(database: SqlDatabase, path: Path) -> None:
    database.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = 'nonsense' WHERE name = 'events'")
    with pytest.raises(CorruptDataError, match="malformed"):
        database.open()


@pytest.mark.parametrize("what", ["file", "lock"])
def test_a_directory_in_the_way_is_a_configuration_error(path: Path, what: str) -> None:
    blocked = path if what == "file" else Path(f"{path}.lock")
    blocked.mkdir()
    database = at(path)
    with pytest.raises(ConfigurationError, match=str(path)):
        database.open()
    blocked.rmdir()
    database.open()
    database.close()


def test_a_full_disk_says_so_and_keeps_what_is_stored(database: SqlDatabase) -> None:
    number = create(database)
    save(database, number, evaluation(1))
    limit_pages(database, 1)  # which SQLite takes for as many as there are
    large = evaluation(2, metrics={"text": "x" * 100_000})
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match=r"no room for save: .* is full .*Free space"):
            save(database, number, large)
    assert [row.fitness for row in page(database, number)] == [0.5]
    limit_pages(database, 1_000_000)
    save(database, number, large)
    assert database.get_experiment_statistics(number)["num_evaluations"] == len(page(database, number)) == 2


def test_a_quota_says_so_and_keeps_what_is_stored(database: SqlDatabase) -> None:
    number = create(database)
    save(database, number, evaluation(1))
    large = evaluation(2, metrics={"text": "x" * 5_000_000})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(BackendUnavailable, match=r"cannot use its disk for save: .* quota"):
            save(database, number, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(page(database, number)) == 1
    save(database, number, large)
    assert len(page(database, number)) == 2


def test_a_full_disk_in_a_savepoint_is_told_as_such(database: SqlDatabase) -> None:
    assert database._engine is not None
    with database._engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE large (value BLOB)")
    limit_pages(database, 1)
    # SQLite ends the transaction, and with it the savepoint that SQLAlchemy then wants to go back to.
    with (
        pytest.raises(BackendUnavailable, match=r"no room for save: .* is full"),
        translated("place", "save"),
        database._engine.begin() as connection,
        connection.begin_nested(),
    ):
        connection.exec_driver_sql("INSERT INTO large VALUES (?)", (b"x" * 1_000_000,))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("attempt to write a readonly database", ConfigurationError),
        ("unable to open database file", ConfigurationError),
        ("table events already exists", ConfigurationError),
        ("file is not a database", CorruptDataError),
        ("malformed database schema (events)", CorruptDataError),
        ("database is locked", BackendUnavailable),
    ],
)
def test_python_3_10_gives_words_only(words: str, expected: type[Exception]) -> None:
    with pytest.raises(expected, match=re.escape(words)), translated("place", "opening"):
        raise sa.exc.OperationalError(None, None, sqlite3.OperationalError(words))


def limit_pages(database: SqlDatabase, count: int) -> None:
    """Let the file grow to so many pages; a limit of its one connection."""
    assert database._engine is not None
    assert database.pool_status()["open"] == 1
    with database._engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {count}")


class Steps:
    """Counts what SQLite's virtual machine does: a cost without a clock."""

    def __init__(self, database: SqlDatabase) -> None:
        assert database._engine is not None
        self._engine = database._engine
        self._count = 0
        sa.event.listen(self._engine, "checkout", self._watch)

    def _watch(self, connection: Any, *_: object) -> None:
        connection.set_progress_handler(self._tick, 1)

    def _tick(self) -> int:
        self._count += 1
        return 0

    def of(self, call: Callable[[], object]) -> int:
        before = self._count
        call()
        return self._count - before


def test_lesson_13_no_cost_grows_with_the_rows(database: SqlDatabase) -> None:
    number, steps = create(database), Steps(database)
    numbers = iter(range(10**9))

    def fill(rows: int) -> None:
        # Many generations, failures and seeds; the best come first, in the middle and last.
        sent = [(i, None if i % 9 == 0 else i * 7919 % 1009 / 1024, {"m": i}) for i in range(rows)]
        save(database, number, *[evaluation(next(numbers), f, m, generation=i % 10) for i, f, m in sent])

    def costs() -> dict[str, int]:
        last = page(database, number, limit=1)[0].id
        one = next(numbers)
        return {
            "save": steps.of(lambda: save(database, number, evaluation(one, 0.5))),
            "duplicate": steps.of(lambda: save(database, number, evaluation(one, 0.75))),
            "better": steps.of(lambda: save(database, number, evaluation(one, 0.75, on_duplicate="keep_best"))),
            "replicate": steps.of(lambda: save(database, number, evaluation(one, 0.25, on_duplicate="replicate"))),
            "failure": steps.of(lambda: save(database, number, evaluation(next(numbers), None))),
            "best": steps.of(lambda: best(database, number)),
            "statistics": steps.of(lambda: database.get_experiment_statistics(number)),
            "page": steps.of(lambda: page(database, number, after_id=last, limit=10)),
            "generation": steps.of(lambda: page(database, number, generation=7, limit=5)),
            "hash": steps.of(lambda: database.get_architecture_by_hash(evaluation(one).key, number)),
            "status": steps.of(lambda: set_status(database, number, "running")),
        }

    fill(300)
    costs()  # the first calls read the schema
    few = costs()
    fill(3000)
    many = costs()
    assert all(few.values())
    # Deeper trees cost a few steps; a scan would cost ten times as many.
    assert {name: (few[name], many[name]) for name in few if many[name] > 1.1 * few[name] + 10} == {}
