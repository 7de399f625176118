"""What PostgreSQL and SQLite do differently: connecting, owning, and taking many rows in one statement."""

import json
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from math import ceil
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from morphml_ray.database.sql import postgres_arrivals, sqlite_arrivals
from morphml_ray.database.sql.arrivals import Arrivals, Stored
from morphml_ray.database.sql.driver_errors import sending
from morphml_ray.database.sql.prepared import Columns, Prepared, Row
from morphml_ray.database.sql.sqlite_file import SqliteFile
from morphml_ray.database.sql.totals import ExactMean, Totals, add_totals
from morphml_ray.database.time_limit import time_limit
from morphml_ray.errors import ConfigurationError

LONGEST_WAIT_S = 5.0
"""One wait for a connection, or for SQLite's lock, at most: whoever waits longer asks again until its deadline."""
LEAST_CONNECT_S = 2  # libpq takes one second for two
MIGRATION_LOCK = 0x6D6F7270686D6C  # "morphml", as a PostgreSQL advisory lock


_BEGIN = (
    "BEGIN; SET LOCAL statement_timeout = {statement_ms}; SET LOCAL lock_timeout = {lock_ms};"
    # What is looked for was mostly written moments ago and lies in memory: the default, for disks that seek, makes
    # the planner read whole tables instead of an index.
    " SET LOCAL random_page_cost = 1.1;"
    " SET LOCAL jit = off;"  # it takes longer than any of our statements
)
# Plans from statistics of a time when the tables were small would read them whole when they are large.
_BY_INDEX_ONLY = "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;"
_READ_ONLY_ROLE = sa.text(
    "SELECT current_user AS role FROM pg_settings WHERE name = 'default_transaction_read_only' AND setting = 'on'"
    " AND source IN ('user', 'database user', 'client') AND NOT pg_is_in_recovery()"
)


class Dialect(Protocol):
    """One database technology."""

    insert: Any
    """Makes an INSERT that knows ``on_conflict_do_nothing``."""
    has_many_writers: bool
    """Whether several threads may save at a time."""

    def create_engine(self, url: str, *, pool_size: int, echo: bool, timeout_s: float) -> sa.Engine:
        """Make the engine; nothing connects yet."""

    def acquire(self, url: str) -> None:
        """Become the only owner, where the technology allows one only."""

    def opened(self, connection: sa.Connection) -> None:
        """Note what was opened, and refuse what no waiting makes writable."""

    def check_place(self) -> None:
        """See that the database still is the one that was opened."""

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

    def add_exactly(self, total: sa.ColumnElement[Any], sent: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Add what was sent as text to an exact total."""

    def mean(self, value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Give the mean of floats, also where their sum is no float."""

    def begin(self, connection: sa.Connection) -> None:
        """Prepare a transaction: each of its statements ends within the ``time_limit``."""

    def save_arrivals(
        self, connection: sa.Connection, rows: Arrivals, experiments: Sequence[int], moment: Any, totals: Totals
    ) -> Stored:
        """Store a batch's architectures, and of its evaluations what can go the short way; lock its experiments.

        Args:
            connection: in a transaction.
            rows: the batch.
            experiments: that it is for.
            moment: when it came, as ``moment`` writes it.
            totals: what is stored is counted there, if not in the database at once.
        """

    def plan_by_index(self, connection: sa.Connection) -> None:
        """Let the rest of a transaction find its rows by indexes, whatever statistics say."""

    def run(self, connection: sa.Connection, statement: Prepared, rows: Sequence[Row], shared: Row = ()) -> None:
        """Execute a statement over a ``source`` for all rows, in their order."""

    def find(self, connection: sa.Connection, statement: Prepared, rows: Sequence[Row]) -> Sequence[Row]:
        """Execute a query over ``texts`` for all rows."""


class PostgresDialect:
    """PostgreSQL over psycopg2: one array a column, unnested in the server.

    Whatever it sets ends with the transaction, and the server keeps no statements: a pooler may give each transaction
    another session.
    """

    insert = staticmethod(postgresql.insert)
    has_many_writers = True

    def create_engine(self, url: str, *, pool_size: int, echo: bool, timeout_s: float) -> sa.Engine:
        """Make an engine whose connections notice a server that went away."""
        # SQLite does without the driver.
        from morphml_ray.database.sql.postgres_connection import PostgresConnection, check_time  # noqa: PLC0415 - see above

        part_s = ceil(timeout_s / 3)
        engine = sa.create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=min(timeout_s, LONGEST_WAIT_S),
            pool_pre_ping=True,
            echo=echo,
            hide_parameters=True,
            connect_args={
                "connection_factory": PostgresConnection,
                "application_name": "morphml_ray",
                # Else a database of another encoding would be spoken to in that one.
                "client_encoding": "utf8",
                # A server that vanished without a word is noticed in time instead of after 2 hours.
                "keepalives_idle": part_s,
                "keepalives_interval": part_s,
                "keepalives_count": 2,
                "tcp_user_timeout": ceil(timeout_s * 1000),
            },
        )

        @sa.event.listens_for(engine, "do_connect")
        def hurry(_dialect: object, _record: object, _arguments: object, options: dict[str, Any]) -> None:
            limit = time_limit()
            if limit is not None:
                check_time(limit)
            left_s = LONGEST_WAIT_S if limit is None else min(limit.left_s, LONGEST_WAIT_S)
            options["connect_timeout"] = max(LEAST_CONNECT_S, ceil(left_s))

        ask = engine.dialect.do_ping

        def ping(raw: Any) -> bool:
            return raw.is_in_use() or ask(raw)

        engine.dialect.do_ping = ping  # type: ignore[assignment, method-assign]  # as its own subclasses do
        return engine

    def acquire(self, url: str) -> None:
        """PostgreSQL takes any number of owners."""

    def opened(self, connection: sa.Connection) -> None:
        """Refuse a role that may not write."""
        row = connection.execute(_READ_ONLY_ROLE).one_or_none()
        if row is not None:
            raise ConfigurationError(
                f"The role {row.role} may only read (default_transaction_read_only is on for it): name another one, "
                f"or ALTER ROLE {row.role} RESET default_transaction_read_only"
            )

    def check_place(self) -> None:
        """It is where its URL leads."""

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

    def add_exactly(self, total: sa.ColumnElement[Any], sent: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Add numerics."""
        return total + sa.cast(sent, sa.Numeric)

    def mean(self, value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Average as numerics, which the shortest texts of the floats give exactly."""
        exact = sa.func.avg(sa.cast(sa.cast(value, sa.Text), sa.Numeric))
        # What is too small for a float is an error to the server.
        is_tiny = sa.func.abs(exact) < sa.literal_column("1e-320", sa.Numeric)
        return sa.case((is_tiny, sa.literal_column("0.0", sa.Double)), else_=sa.cast(exact, sa.Double))

    def begin(self, connection: sa.Connection) -> None:
        """Set time-outs, and what makes plans good, for this transaction."""
        limit = time_limit()
        left_ms = 0 if limit is None else ceil(limit.left_s * 1000)  # 0 sets no limit
        lock_ms = 0 if limit is None else ceil(min(limit.lock_wait_s * 1000, left_ms))
        _send_along(connection, _BEGIN.format(statement_ms=left_ms, lock_ms=lock_ms))

    def save_arrivals(
        self,
        connection: sa.Connection,
        rows: Arrivals,
        experiments: Sequence[int],
        moment: Any,
        totals: Totals,  # noqa: ARG002 - the statement itself counts
    ) -> Stored:
        """See ``postgres_arrivals``."""
        return postgres_arrivals.save_arrivals(connection, rows, experiments, moment)

    def plan_by_index(self, connection: sa.Connection) -> None:
        """Turn all other plans off for this transaction."""
        _send_along(connection, _BY_INDEX_ONLY)

    def run(self, connection: sa.Connection, statement: Prepared, rows: Sequence[Row], shared: Row = ()) -> None:
        """Execute once, with the rows turned into columns."""
        self._execute(connection, statement, rows, shared)

    def find(self, connection: sa.Connection, statement: Prepared, rows: Sequence[Row]) -> Sequence[Row]:
        """Execute once, with the rows turned into columns."""
        return [tuple(row) for row in self._execute(connection, statement, rows, ())]

    def _execute(
        self, connection: sa.Connection, statement: Prepared, rows: Sequence[Row], shared: Row
    ) -> sa.CursorResult[Any]:
        names = (*statement.columns, *statement.shared)
        values = (*map(list, zip(*rows, strict=True)), *shared)
        with sending():
            return connection.exec_driver_sql(statement.sql, dict(zip(names, values, strict=True)))


class SqliteDialect:
    """SQLite in one file that one process owns: write-ahead log, synced at every commit."""

    insert = staticmethod(sqlite.insert)
    has_many_writers = False

    def __init__(self) -> None:
        self._file: SqliteFile | None = None

    def create_engine(self, url: str, *, pool_size: int, echo: bool, timeout_s: float) -> sa.Engine:
        """Make an engine whose connections sync at every commit and check foreign keys."""
        engine = sa.create_engine(
            url,
            poolclass=sa.QueuePool,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=min(timeout_s, LONGEST_WAIT_S),
            echo=echo,
            hide_parameters=True,
            connect_args={"check_same_thread": False, "timeout": min(timeout_s, LONGEST_WAIT_S)},
        )

        @sa.event.listens_for(engine, "connect")
        def configure(connection: Any, _record: object) -> None:
            connection.isolation_level = None  # the driver would begin late and commit before DDL
            connection.create_function("add_totals", 2, add_totals, deterministic=True)
            connection.create_aggregate("exact_mean", 1, ExactMean)
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}")

        @sa.event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN")

        return engine

    def acquire(self, url: str) -> None:
        """Lock the file; see ``SqliteFile.acquire``."""
        self.release()
        file = SqliteFile(Path(os.path.realpath(sa.make_url(url).database or "")))
        file.acquire()
        self._file = file

    def opened(self, connection: sa.Connection) -> None:  # noqa: ARG002 - one signature a technology
        """Remember which file it is."""
        if self._file is not None:
            self._file.remember()

    def check_place(self) -> None:
        """Compare the file with the one that was opened; see ``SqliteFile.check``."""
        if self._file is not None:
            self._file.check()

    def release(self) -> None:
        """Unlock the file."""
        if self._file is not None:
            self._file.release()
            self._file = None

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

    def add_exactly(self, total: sa.ColumnElement[Any], sent: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Add decimal texts, by a function of this process."""
        return sa.func.add_totals(total, sent)

    def mean(self, value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Average by a function of this process."""
        return sa.func.exact_mean(value)

    def begin(self, connection: sa.Connection) -> None:
        """Nothing to prepare: the driver has its time-out for locks, and nobody else can hang."""

    def save_arrivals(
        self, connection: sa.Connection, rows: Arrivals, experiments: Sequence[int], moment: Any, totals: Totals
    ) -> Stored:
        """See ``sqlite_arrivals``."""
        return sqlite_arrivals.save_arrivals(connection, rows, experiments, moment, totals)

    def plan_by_index(self, connection: sa.Connection) -> None:
        """SQLite gathers no statistics by itself."""

    def run(self, connection: sa.Connection, statement: Prepared, rows: Sequence[Row], shared: Row = ()) -> None:
        """Execute once a row, inside the driver."""
        with sending():
            connection.exec_driver_sql(statement.sql, [statement.pick((*row, *shared)) for row in rows])

    def find(self, connection: sa.Connection, statement: Prepared, rows: Sequence[Row]) -> Sequence[Row]:
        """Execute once, with the rows as JSON."""
        found = connection.exec_driver_sql(statement.sql, statement.pick((json.dumps(rows),)))
        return [tuple(row) for row in found]


def _send_along(connection: sa.Connection, statements: str) -> None:
    raw: Any = connection.connection.dbapi_connection
    raw.preface += statements


def dialect_for(url: str) -> Dialect:
    """Choose by the scheme of a URL that configuration has checked."""
    return SqliteDialect() if url.startswith("sqlite") else PostgresDialect()
