"""What PostgreSQL and SQLite do differently: connecting, owning, and taking many rows in one statement."""

import fcntl
import json
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from morphml_ray.config import check_directory, check_local_filesystem
from morphml_ray.database.sql.prepared import Columns, Prepared, Row
from morphml_ray.errors import ConfigurationError, ConflictError

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

    def texts(self, columns: Sequence[str]) -> tuple[sa.FromClause, Columns]:
        """Rows of texts to come, as a table to select from and join with; and its parameters."""

    def moment(self, moment: datetime) -> Any:
        """Write a time as the driver stores it."""

    def begin_save(self, connection: sa.Connection) -> None:
        """Prepare a transaction for the write path."""

    def run(self, connection: sa.Connection, statement: Prepared, rows: Sequence[Row], shared: Row = ()) -> None:
        """Execute a statement over a ``source`` for all rows, in their order."""

    def find(self, connection: sa.Connection, statement: Prepared, rows: Sequence[Row]) -> Sequence[Row]:
        """Execute a query over ``texts`` for all rows."""


class PostgresDialect:
    """PostgreSQL over psycopg2: one array a column, unnested in the server."""

    insert = staticmethod(postgresql.insert)

    def create_engine(self, url: str, *, pool_size: int, echo: bool, timeout_s: float) -> sa.Engine:
        """Make an engine whose connections notice a server that went away."""
        # SQLite does without the driver.
        from morphml_ray.database.sql.postgres_connection import PostgresConnection  # noqa: PLC0415 - see above

        engine = sa.create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=timeout_s,
            pool_pre_ping=True,
            echo=echo,
            hide_parameters=True,
            connect_args={
                "connection_factory": PostgresConnection,
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
                cursor.execute("SET random_page_cost = 1.1; SET plan_cache_mode = force_generic_plan")

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

    def texts(self, columns: Sequence[str]) -> tuple[sa.FromClause, Columns]:
        """Unnest as in ``source``."""
        texts = dict.fromkeys(columns, sa.Text())
        return self.source(texts), texts

    def moment(self, moment: datetime) -> Any:
        """Leave it to the driver."""
        return moment

    def begin_save(self, connection: sa.Connection) -> None:
        """Allow plans by index only.

        A plan made while the tables were small would otherwise go on reading them whole when they are large.
        """
        off = "; ".join(f"SET LOCAL enable_{way} = off" for way in ("seqscan", "hashjoin", "mergejoin"))
        connection.exec_driver_sql(off)

    def run(self, connection: sa.Connection, statement: Prepared, rows: Sequence[Row], shared: Row = ()) -> None:
        """Execute once, with the rows turned into columns."""
        self._execute(connection, statement, rows, shared)

    def find(self, connection: sa.Connection, statement: Prepared, rows: Sequence[Row]) -> Sequence[Row]:
        """Execute once, with the rows turned into columns."""
        return [tuple(row) for row in self._execute(connection, statement, rows, ())]

    def _execute(
        self, connection: sa.Connection, statement: Prepared, rows: Sequence[Row], shared: Row
    ) -> sa.CursorResult[Any]:
        """Run the server's prepared statement; a connection prepares each at its first use."""
        make, execute = _server_statements(statement)
        known: set[str] = connection.info.setdefault("prepared", set())
        if statement.name not in known:
            connection.exec_driver_sql(make)
            known.add(statement.name)
        return connection.exec_driver_sql(execute, (*map(list, zip(*rows, strict=True)), *shared))


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

    def texts(self, columns: Sequence[str]) -> tuple[sa.FromClause, Columns]:
        """Read the rows from one JSON parameter."""
        each = sa.func.json_each(sa.bindparam("texts", type_=sa.Text())).table_valued("key", "value")
        paths: list[sa.ColumnElement[str]] = [sa.literal_column(f"'$[{i}]'") for i in range(len(columns))]
        fields = [
            sa.func.json_extract(each.c.value, path).label(name) for name, path in zip(columns, paths, strict=True)
        ]
        return sa.select(*fields, each.c.key.label("ord")).subquery("rows"), {"texts": sa.Text()}

    def moment(self, moment: datetime) -> Any:
        """Write it as SQLAlchemy reads it: UTC, without a zone."""
        return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")

    def begin_save(self, connection: sa.Connection) -> None:
        """Nothing to prepare."""

    def run(self, connection: sa.Connection, statement: Prepared, rows: Sequence[Row], shared: Row = ()) -> None:
        """Execute once a row, inside the driver."""
        connection.exec_driver_sql(statement.sql, [statement.pick((*row, *shared)) for row in rows])

    def find(self, connection: sa.Connection, statement: Prepared, rows: Sequence[Row]) -> Sequence[Row]:
        """Execute once, with the rows as JSON."""
        found = connection.exec_driver_sql(statement.sql, statement.pick((json.dumps(rows),)))
        return [tuple(row) for row in found]


def dialect_for(url: str) -> Dialect:
    """Choose by the scheme of a URL that configuration has checked."""
    return SqliteDialect() if url.startswith("sqlite") else PostgresDialect()


@cache
def _server_statements(statement: Prepared) -> tuple[str, str]:
    """Write PREPARE and EXECUTE; the casts give arrays without a value their type."""
    text = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    types = [f"{kind.compile(dialect=text)}[]" for kind in statement.columns.values()]
    types += [kind.compile(dialect=text) for kind in statement.shared.values()]
    marks = {name: f"${index}" for index, name in enumerate([*statement.columns, *statement.shared], 1)}
    make = f"PREPARE {statement.name} ({', '.join(types)}) AS {statement.sql % marks}"
    return make, f"EXECUTE {statement.name} ({', '.join(f'%s::{kind}' for kind in types)})"
