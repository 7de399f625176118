"""A PostgreSQL connection whose failure to connect has the server's code, and whose every wait has an end.

While connecting, libpq keeps the text of a refusal only, and in it the server's language. It can be told to write the
code instead, but not before the first attempt: so a refusal is asked for once more.
"""

import ctypes
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import _psycopg, extensions

from morphml_ray.database.sql.watchdog import WATCHDOG
from morphml_ray.database.time_limit import TimeLimit, time_limit

FRESH_S = 1.0
GRACE_S = 0.5
"""What a server gets beyond its own time-outs to tell of them, and to roll back."""

_PQERRORS_SQLSTATE = 3  # of libpq-fe.h, since libpq 12
_CODE = re.compile(rb":  ([0-9A-Z]{5})$", re.MULTILINE)  # after the severity, which may be translated


class HostNotFound(psycopg2.OperationalError):
    """The name service says that it knows none of the hosts."""


class PostgresConnection(extensions.connection):
    """psycopg2's connection, with differences while it connects, and with an end to what it waits for.

    Connecting has libpq's own time-out. Afterwards what is asked within a ``time_limit`` is given up when that is over.
    What begins a transaction travels with its first statement, which saves a round trip.

    Attributes:
        preface: statements that the next one takes along.

    Raises:
        psycopg2.OperationalError: the server refuses the connection, and ``pgcode`` says why; without a code the
            server did not answer.
        psycopg2.ProgrammingError: the driver refuses, because the URL lacks something.
    """

    preface = ""
    _line: socket.socket | None = None
    _used_at = 0.0

    def __init__(self, dsn: str, *args: Any, **options: Any) -> None:
        try:
            super().__init__(dsn, *args, **options)
        except (psycopg2.OperationalError, UnicodeDecodeError) as error:
            # Before a session has an encoding, the server writes in its own, and the driver reads UTF-8 only.
            text = error.object.decode(errors="replace") if isinstance(error, UnicodeDecodeError) else str(error)
            try:
                raise _failure(text, self.pgconn_ptr, dsn) from None
            finally:
                self.close()
        try:
            # A descriptor of its own: nobody else's gets cut, whatever the driver does with its own meanwhile.
            self._line = socket.socket(fileno=os.dup(self.fileno()))
        except OSError as error:
            self.close()
            raise psycopg2.OperationalError(f"the connection cannot be used: {error.strerror}") from error
        self.cursor_factory = PostgresCursor
        self.autocommit = True  # the driver would begin with a round trip of its own

    def commit(self) -> None:
        """Commit what was begun, and wait no longer than the time limit."""
        self._end("COMMIT")

    def rollback(self) -> None:
        """Roll back what was begun, and wait no longer than the time limit."""
        self._end("ROLLBACK")

    def _end(self, statement: str) -> None:
        self.preface = ""
        if self.get_transaction_status() != extensions.TRANSACTION_STATUS_IDLE:
            with self.cursor() as cursor:
                cursor.execute(statement)

    def is_in_use(self) -> bool:
        """Tell whether the server answered a moment ago, so that it need not be asked whether it is there."""
        return not self.closed and time.monotonic() - self._used_at < FRESH_S

    def close(self) -> None:
        """Close at once."""
        super().close()
        if self._line is not None:
            self._line.close()

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Give the connection up if this block waits beyond the time limit.

        Raises:
            psycopg2.OperationalError: there was no answer in time.
        """
        limit = time_limit()
        if limit is None or self._line is None:
            yield
            return
        started_at = time.monotonic()
        try:
            with WATCHDOG.watching(self._line, max(started_at, limit.ends_at) + GRACE_S) as watch:
                yield
            self._used_at = time.monotonic()
        except psycopg2.Error:
            if not watch.is_over:
                raise
            waited_s = time.monotonic() - started_at
            raise psycopg2.OperationalError(f"no answer within {waited_s:.1f} s: the server hangs") from None


class PostgresCursor(extensions.cursor):
    """psycopg2's cursor, which waits no longer than the time limit."""

    connection: PostgresConnection

    def execute(self, query: Any, variables: Any = None) -> None:
        """Execute a statement, behind what it takes along."""
        preface, self.connection.preface = self.connection.preface, ""
        with self.connection.limited():
            super().execute(preface + query if preface else query, variables)


def check_time(limit: TimeLimit) -> None:
    """See that there is time to connect.

    Raises:
        psycopg2.OperationalError: there is none.
    """
    if limit.ends_at <= time.monotonic():
        raise psycopg2.OperationalError("no answer in time")


def _failure(text: str, failed: int | None, dsn: str) -> psycopg2.Error:
    """Make the error that the driver should have raised."""
    libpq, failure = _libpq(), psycopg2.OperationalError(text)
    # Only while libpq holds a socket has somebody answered: an outage is not waited for twice.
    if failed is None or libpq.PQsocket(failed) < 0:
        return HostNotFound(text) if _knows_no_host(dsn) else failure
    if libpq.PQconnectionNeedsPassword(failed) or _lacks_root_certificate(dsn):
        return psycopg2.ProgrammingError(text)
    # The way in which a pickled error gets its code back.
    failure.__setstate__({"pgcode": _ask_again(failed)})  # type: ignore[no-untyped-call]  # the stubs leave it untyped
    return failure


@cache
def _libpq() -> ctypes.CDLL:
    """Load the libpq that the driver's module is linked with: looking up a name there finds it."""
    libpq = ctypes.CDLL(_psycopg.__file__)
    for name in ("PQsocket", "PQconnectionNeedsPassword", "PQreset", "PQerrorMessage"):
        getattr(libpq, name).argtypes = [ctypes.c_void_p]
    libpq.PQsetErrorVerbosity.argtypes = [ctypes.c_void_p, ctypes.c_int]
    libpq.PQreset.restype = None
    libpq.PQerrorMessage.restype = ctypes.c_char_p
    return libpq


def _ask_again(failed: int) -> str | None:
    """Connect once more, with the same parameters and time-out, and give the code of the last server that refuses."""
    libpq = _libpq()
    libpq.PQsetErrorVerbosity(failed, _PQERRORS_SQLSTATE)
    libpq.PQreset(failed)
    codes = _CODE.findall(libpq.PQerrorMessage(failed))
    return codes[-1].decode() if codes else None


def _lacks_root_certificate(dsn: str) -> bool:
    """Tell whether the server's certificate is to be verified by a file that is not there; libpq has no code for it."""
    stated = extensions.parse_dsn(dsn)
    mode = stated.get("sslmode") or os.environ.get("PGSSLMODE", "")
    file = stated.get("sslrootcert") or os.environ.get("PGSSLROOTCERT") or Path.home() / ".postgresql" / "root.crt"
    return mode in {"verify-ca", "verify-full"} and file != "system" and not Path(file).exists()


def _knows_no_host(dsn: str) -> bool:
    """Ask the name service itself; what it cannot tell now may be known later."""
    stated = extensions.parse_dsn(dsn)
    hosts = (stated.get("hostaddr") or stated.get("host") or "").split(",")
    return all(map(_is_unknown, hosts))


def _is_unknown(host: str) -> bool:
    if not host or host.startswith(("/", "@")):  # the default, or the directory of a socket
        return False
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as error:
        return error.errno == socket.EAI_NONAME
    except UnicodeError:
        return True
    return False
