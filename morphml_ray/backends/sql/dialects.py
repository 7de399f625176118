"""What PostgreSQL and SQLite do differently: connecting, owning, and taking many rows in one statement."""

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from morphml_ray.config import check_directory, check_local_filesystem
from morphml_ray.errors import ConfigurationError, ConflictError

Rows = Sequence[Mapping[str, Any]]
Columns = Mapping[str, "sa.types.TypeEngine[Any]"]

CONNECT_TIMEOUT_S = 5
MIGRATION_LOCK = 0x6D6F7270686D6C  # "morphml", as a PostgreSQL advisory lock


class Dialect(Protocol):
    """One database technology."""

    insert: Any
    """Makes an INSERT that knows ``on_conflict_do_nothing``."""

    def create_engine(self, url: str, *, pool_size: int, echo: bool, timeout_s: float) -> sa.Engine:
        """Make the engine; nothing connects yet."""

    def acquire(self, url: str) -> None:
        """Become the only owner, where the technology allows one only."""

    def release(self) -> None:
        """Let the ownership go."""

    def lock_migrations(self, connection: sa.Connection) -> None:
        """Keep other migrations out until the transaction ends."""

    def source(self, columns: Columns) -> sa.FromClause:
        """Rows to come, as a table to select from in an INSERT."""

    def run(self, connection: sa.Connection, statement: sa.Executable, rows: Rows, shared: Mapping[str, Any]) -> None:
        """Execute a statement over a ``source`` for all rows, in their order, with parameters they share."""

    def texts(self, columns: Sequence[str]) -> sa.FromClause:
        """Rows of texts to come, as a table to select from and join with."""

    def bind_texts(self, columns: Sequence[str], rows: Rows) -> dict[str, Any]:
        """Give the parameters for ``texts(columns)``."""


class PostgresDialect:
    """PostgreSQL over psycopg2: one array a column, unnested in the server."""

    insert = staticmethod(postgresql.insert)

    def create_engine(self, url: str, *, pool_size: int, echo: bool, timeout_s: float) -> sa.Engine:
        """Make an engine whose connections notice a server that went away."""
        engine = sa.create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=timeout_s,
            pool_pre_ping=True,
            echo=echo,
            hide_parameters=True,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": "morphml_ray",
                # A server that vanished without a word is noticed after some 20 s instead of 2 hours.
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 2,
                "tcp_user_timeout": 20_000,
            },
        )

        @sa.event.listens_for(engine, "connect")
        def configure(connection: Any, _record: object) -> None:
            with connection, connection.cursor() as cursor:
                # What a save looks for was written moments ago and lies in memory: the default, for disks that seek,
                # makes the planner read whole tables instead of an index.
                cursor.execute("SET random_page_cost = 1.1")

        return engine

    def acquire(self, url: str) -> None:
        """PostgreSQL takes any number of owners."""

    def release(self) -> None:
        """PostgreSQL takes any number of owners."""

    def lock_migrations(self, connection: sa.Connection) -> None:
        """Take the advisory lock of this transaction."""
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))

    def source(self, columns: Columns) -> sa.FromClause:
        """Unnest one array parameter a column; ``ord`` counts the rows."""
        arrays = [
            sa.cast(sa.bindparam(name, type_=postgresql.ARRAY(kind)), postgresql.ARRAY(kind))
            for name, kind in columns.items()
        ]
        named = [sa.column(name, kind) for name, kind in columns.items()]
        return (
            sa.func.unnest(*arrays).table_valued(*named, with_ordinality="ord", name="rows").render_derived(name="rows")
        )

    def run(self, connection: sa.Connection, statement: sa.Executable, rows: Rows, shared: Mapping[str, Any]) -> None:
        """Execute once, with the rows turned into columns."""
        connection.execute(statement, {**self.bind_texts(tuple(rows[0]), rows), **shared})

    def texts(self, columns: Sequence[str]) -> sa.FromClause:
        """Unnest as in ``source``."""
        return self.source(dict.fromkeys(columns, sa.Text()))

    def bind_texts(self, columns: Sequence[str], rows: Rows) -> dict[str, Any]:
        """Turn rows into columns."""
        return {name: [row[name] for row in rows] for name in columns}


class SqliteDialect:
    """SQLite in one file that one process owns: write-ahead log, synced at every commit."""

    insert = staticmethod(sqlite.insert)

    def __init__(self) -> None:
        self._lock_fd: int | None = None

    def create_engine(self, url: str, *, pool_size: int, echo: bool, timeout_s: float) -> sa.Engine:
        """Make an engine whose connections sync at every commit and check foreign keys."""
        engine = sa.create_engine(
            url,
            poolclass=sa.QueuePool,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=timeout_s,
            echo=echo,
            hide_parameters=True,
            connect_args={"check_same_thread": False, "timeout": timeout_s},
        )

        @sa.event.listens_for(engine, "connect")
        def configure(connection: Any, _record: object) -> None:
            connection.isolation_level = None  # the driver would begin late and commit before DDL
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}")

        @sa.event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN")

        return engine

    def acquire(self, url: str) -> None:
        """Lock the file beside the database for as long as this process lives.

        Raises:
            ConflictError: another process has it.
            ConfigurationError: the place is no good for SQLite, or cannot be written.
        """
        # Whatever links lead to the file, its lock is one.
        path = Path(os.path.realpath(sa.make_url(url).database or ""))
        check_local_filesystem(path)
        check_directory(path.parent)
        self.release()
        try:
            fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigurationError(
                f"The lock file {path}.lock cannot be written: {error.strerror}. Remove it, or choose another file."
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(fd, 64, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise ConflictError(
                f"SQLite {path} is in use by another process (pid {owner}): one actor owns the file. Connect to "
                "that one (same cluster, namespace and name), shut it down, or choose another root or file."
            ) from error
        os.truncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock_fd = fd

    def release(self) -> None:
        """Unlock."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def lock_migrations(self, connection: sa.Connection) -> None:
        """The owner is alone."""

    def source(self, columns: Columns) -> sa.FromClause:
        """Select one row of parameters; ``run`` repeats it."""
        named = [sa.bindparam(name, type_=kind).label(name) for name, kind in columns.items()]
        return sa.select(*named, sa.literal_column("0").label("ord")).subquery("rows")

    def run(self, connection: sa.Connection, statement: sa.Executable, rows: Rows, shared: Mapping[str, Any]) -> None:
        """Execute once a row, inside the driver."""
        connection.execute(statement, [{**row, **shared} for row in rows])

    def texts(self, columns: Sequence[str]) -> sa.FromClause:
        """Read the rows from one JSON parameter."""
        each = sa.func.json_each(sa.bindparam("texts")).table_valued("key", "value")
        fields = [sa.func.json_extract(each.c.value, f"$[{i}]").label(name) for i, name in enumerate(columns)]
        return sa.select(*fields, each.c.key.label("ord")).subquery("rows")

    def bind_texts(self, columns: Sequence[str], rows: Rows) -> dict[str, Any]:
        """Write the rows as JSON."""
        return {"texts": json.dumps([[row[name] for name in columns] for row in rows])}


def dialect_for(url: str) -> Dialect:
    """Choose by the scheme of a URL that configuration has checked."""
    return SqliteDialect() if url.startswith("sqlite") else PostgresDialect()
