"""One migrated PostgreSQL database for all contract tests, emptied before each: making one takes a second."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from servers import ask

from morphml_ray.config import BackendUrl
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.database.sql.schema import metadata
from morphml_ray.devstack import PostgresServer


@pytest.fixture(scope="session")
def migrated_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database with our tables."""
    url = postgres_server.create_database("contracts")
    database = SqlDatabase(BackendUrl(url))
    database.open()
    database.close()
    yield url
    postgres_server.drop_database("contracts")


@pytest.fixture
def empty_postgres_url(migrated_postgres_url: str) -> str:
    """The URL of a database whose tables are empty."""
    ask(migrated_postgres_url, "; ".join(f"DELETE FROM {table}" for table in reversed(metadata.sorted_tables)))  # noqa: S608 - our names
    return migrated_postgres_url


@pytest.fixture(scope="module")
def postgres_database(migrated_postgres_url: str) -> Iterator[SqlDatabase]:
    """A database with our tables, opened."""
    with closing(SqlDatabase(BackendUrl(migrated_postgres_url))) as database:
        database.open()
        yield database
