"""The migrations make the tables that ``schema.py`` describes, on both technologies, however many start at once."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from migrating import migrations, run

from morphml_ray.config import BackendUrl
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.database.sql.schema import metadata
from morphml_ray.errors import ConfigurationError
from morphml_ray.testing.database.caller import create, evaluation, page, save

OPEN_IT = """
import sys
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.config import BackendUrl
database = SqlDatabase(BackendUrl(sys.argv[1]), timeout_s=20)
print("ready", flush=True)
sys.stdin.readline()
database.open()
database.close()
print("opened", flush=True)
"""
TABLES = {*metadata.tables, "alembic_version"}


@pytest.fixture
def database(database_url: str) -> Iterator[SqlDatabase]:
    """An opened database of its own, on each technology."""
    with closing(at(database_url)) as opened:
        opened.open()
        yield opened


@pytest.fixture
def engine(database: SqlDatabase) -> sa.Engine:
    assert database._engine is not None
    return database._engine


def at(url: str) -> SqlDatabase:
    return SqlDatabase(BackendUrl(url), timeout_s=20)


def described(engine: sa.Engine) -> dict[str, Any]:
    """Everything that a look at the database tells of our tables."""
    inspector = sa.inspect(engine)
    return {
        table: {
            "columns": [{**column, "type": str(column["type"])} for column in inspector.get_columns(table)],
            "primary key": inspector.get_pk_constraint(table),
            "foreign keys": named(inspector.get_foreign_keys(table)),
            "unique": named(inspector.get_unique_constraints(table)),
            "indexes": named(inspector.get_indexes(table)),
        }
        for table in metadata.tables
    }


def named(found: Any) -> dict[str, Any]:
    return {one["name"]: comparable(one) for one in found}


def comparable(value: Any) -> Any:
    """Give the texts of a partial index's conditions, which are objects without equality."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    return str(value) if isinstance(value, sa.ClauseElement) else value


def test_migrations_make_what_the_metadata_describe(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert set(sa.inspect(engine).get_table_names()) == TABLES
    migrated = described(engine)
    # The comparison of Alembic sees neither the conditions of partial indexes nor rules for deletion on SQLite.
    metadata.drop_all(engine)
    metadata.create_all(engine)
    assert described(engine) == migrated


def test_a_downgrade_takes_all_away_and_an_upgrade_brings_it_back(database: SqlDatabase, engine: sa.Engine) -> None:
    before = described(engine)
    save(database, create(database), evaluation())
    run(engine, command.downgrade, "base")
    assert set(sa.inspect(engine).get_table_names()) == {"alembic_version"}
    run(engine, command.upgrade, "head")
    assert described(engine) == before
    assert len(save(database, create(database), evaluation())) == 1


def test_opening_again_keeps_the_data(database: SqlDatabase, database_url: str) -> None:
    number = create(database)
    save(database, number, evaluation())
    database.close()
    with closing(at(database_url)) as again:
        again.open()
        assert len(page(again, number)) == 1


def test_a_newer_schema_is_left_alone(database: SqlDatabase, engine: sa.Engine, database_url: str) -> None:
    save(database, create(database), evaluation())
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    older = at(database_url)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"9999.*upgrade morphml_ray"):
            older.open()


def test_a_migration_that_fails_leaves_nothing_behind(database_url: str) -> None:
    with closing(at(database_url)) as first:
        first.open()
        assert first._engine is not None
        run(first._engine, command.downgrade, "base")
        with first._engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE events (id INTEGER)")  # the last table to be made
    broken = at(database_url)
    with pytest.raises(ConfigurationError, match=r"events.* already exists"):
        broken.open()
    with closing(at(database_url)) as again:
        engine = sa.create_engine(database_url.replace("postgresql://", "postgresql+psycopg2://"))
        assert set(sa.inspect(engine).get_table_names()) == {"alembic_version", "events"}
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE events")
        engine.dispose()
        again.open()
        create(again)


def test_there_is_one_line_of_migrations() -> None:
    scripts = ScriptDirectory.from_config(migrations())
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert scripts.get_heads() == revisions[:1]
    assert revisions == sorted(revisions, reverse=True)


def test_lesson_6_processes_that_migrate_at_once_do_not_collide(postgres_url: str) -> None:
    command_line = [sys.executable, "-c", OPEN_IT, postgres_url]
    with ExitStack() as stack:
        processes = []
        for _ in range(2):
            process = subprocess.Popen(command_line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes.append(stack.enter_context(process))
        pipes = [(process.stdin, process.stdout) for process in processes]
        assert [answers.readline() for _, answers in pipes if answers] == ["ready\n"] * 2
        for orders, _ in pipes:
            assert orders is not None
            orders.write("go\n")
            orders.flush()
        assert [answers.readline() for _, answers in pipes if answers] == ["opened\n"] * 2


def test_threads_of_one_process_may_migrate_many_databases(tmp_path: Path) -> None:
    databases = [at(f"sqlite:///{tmp_path}/{i}.db") for i in range(6)]
    with ThreadPoolExecutor(len(databases)) as threads:
        assert list(threads.map(SqlDatabase.open, databases)) == [None] * len(databases)
    for database in databases:
        save(database, create(database), evaluation())
        database.close()
