"""PostgreSQL keeps the contract."""
from collections.abc import Callable, Iterator

import pytest

from morphml_ray.backends.sql import SqlDatabase
from morphml_ray.config import BackendUrl
from morphml_ray.testing import DatabaseContract


class TestPostgres(DatabaseContract):
    @pytest.fixture
    def reopen(self, empty_postgres_url: str) -> Iterator[Callable[[], SqlDatabase]]:
        url = BackendUrl(empty_postgres_url)
        opened: list[SqlDatabase] = []

        def open_again() -> SqlDatabase:
            for database in opened:
                database.close()
            opened.append(SqlDatabase(url))
            opened[-1].open()
            return opened[-1]

        yield open_again
        for database in opened:
            database.close()

    @pytest.fixture
    def database(self, reopen: Callable[[], SqlDatabase]) -> SqlDatabase:
        return reopen()
