"""SQLite keeps the contract."""
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from morphml_ray.backends.sql import SqlDatabase
from morphml_ray.config import BackendUrl
from morphml_ray.testing import DatabaseContract


class TestSqlite(DatabaseContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Callable[[], SqlDatabase]]:
        url = BackendUrl(f"sqlite:///{tmp_path}/morphml.db")
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
