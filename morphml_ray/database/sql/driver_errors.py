"""From the drivers' errors to ours, in one place.

Errors are known by their codes, and by the driver's class where there is no code: servers speak many languages.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy import exc

from morphml_ray.database.outages import CommitLostError, LockedError, UnknownHostError
from morphml_ray.errors import (
    BackendUnavailable,
    ConfigurationError,
    CorruptDataError,
    MorphMLRayError,
    ValidationError,
)


class _Kind(Enum):
    VALUE = auto()
    ENCODING = auto()
    REFUSAL = auto()
    DAMAGE = auto()
    FULL_DISK = auto()
    BAD_DISK = auto()
    READ_ONLY = auto()
    LOCK = auto()
    HOST = auto()
    OUTAGE = auto()


# PostgreSQL's codes (https://www.postgresql.org/docs/current/errcodes-appendix.html), or their first two characters,
# which are a class. What is not listed may be otherwise later: too many clients, a shutdown, a start, a lock.
_SQLSTATES = {
    "22": _Kind.VALUE,
    "22021": _Kind.ENCODING,
    "22P05": _Kind.ENCODING,
    "23": _Kind.VALUE,
    "25006": _Kind.READ_ONLY,
    "26": _Kind.REFUSAL,  # a prepared statement is gone: a pooler gives each transaction another session
    "28": _Kind.REFUSAL,  # a wrong password, a role that may not log in, no entry in pg_hba.conf
    "3D": _Kind.REFUSAL,  # no such database
    "3F": _Kind.REFUSAL,  # no such schema
    "42": _Kind.REFUSAL,  # no right; no such table; a table of somebody else's has the name of one of ours
    "53100": _Kind.FULL_DISK,
    "54": _Kind.VALUE,  # what exceeds a limit: a key too long for an index, for one
    "55P03": _Kind.LOCK,
}
_SQLSTATES_WHILE_CONNECTING = {
    **_SQLSTATES,
    "0A": _Kind.REFUSAL,  # the server does not know our protocol
    "22": _Kind.REFUSAL,  # a setting among the URL's options has a wrong value
}

# SQLite's primary result codes (https://www.sqlite.org/rescode.html).
_ERROR, _PERM, _BUSY, _LOCKED, _NOMEM, _READONLY, _INTERRUPT, _IOERR, _CORRUPT = 1, 3, 5, 6, 7, 8, 9, 10, 11
_FULL, _CANTOPEN, _TOOBIG, _NOTADB = 13, 14, 18, 26
_SQLITE_CODES = {
    _ERROR: _Kind.REFUSAL,  # the file holds no such table; or a table of somebody else's
    _PERM: _Kind.REFUSAL,
    _READONLY: _Kind.REFUSAL,
    _IOERR: _Kind.BAD_DISK,
    _CORRUPT: _Kind.DAMAGE,
    _FULL: _Kind.FULL_DISK,
    _CANTOPEN: _Kind.REFUSAL,
    _TOOBIG: _Kind.VALUE,
    _NOTADB: _Kind.DAMAGE,
}
# Python 3.10 leaves the code out. SQLite has no other language than that of its source, so there its words will do;
# what they do not name has the first code.
_SQLITE_TEXTS = {
    "access permission denied": _PERM,
    "is locked": _BUSY,
    "locking protocol": _BUSY,
    "out of memory": _NOMEM,
    "attempt to write a readonly database": _READONLY,
    "interrupted": _INTERRUPT,
    "disk I/O error": _IOERR,
    "database disk image is malformed": _CORRUPT,
    "malformed database schema": _CORRUPT,
    "database or disk is full": _FULL,
    "unable to open database file": _CANTOPEN,
    "string or blob too big": _TOOBIG,
    "file is not a database": _NOTADB,
}
# The first code says nothing more: these words are of a value or a question, not of the file.
_SQLITE_VALUES = ("JSON", "too large", "too many", "too complex", "too long", "too deep", "overflow")

# What passes by itself, or when somebody frees what is full.
_TRANSIENT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

_ANSWERS: dict[_Kind, tuple[type[MorphMLRayError], str]] = {
    _Kind.VALUE: (ValidationError, "{place} refused a value in {operation}: {reason}"),
    _Kind.ENCODING: (
        ValidationError,
        (
            "{place} cannot hold a text in {operation}: {reason}. A database created with ENCODING 'UTF8' (TEMPLATE "
            "template0) holds all text but the NUL character."
        ),
    ),
    _Kind.REFUSAL: (
        ConfigurationError,
        "{place} refuses {operation}: {reason}. Correct the URL or the server's rights.",
    ),
    _Kind.DAMAGE: (CorruptDataError, "{place} cannot be read: {reason}. Restore it from a backup."),
    _Kind.FULL_DISK: (
        BackendUnavailable,
        (
            "{place} has no room for {operation}: the disk of the database is full ({reason}). Free space on it; what "
            "was stored before is safe."
        ),
    ),
    _Kind.BAD_DISK: (
        BackendUnavailable,
        "{place} cannot use its disk for {operation}: {reason}. It may be full, over its quota, or failing.",
    ),
    _Kind.READ_ONLY: (
        BackendUnavailable,
        (
            "{place} takes no writes, in {operation}: {reason}. After a fail-over the URL must lead to the new "
            "primary; else let the role write."
        ),
    ),
    _Kind.LOCK: (LockedError, "{place}: {operation} waits for a lock that another session holds ({reason})"),
    _Kind.HOST: (UnknownHostError, "{place} cannot be found for {operation}: {reason}. Correct the host in the URL."),
    _Kind.OUTAGE: (BackendUnavailable, "{place} did not answer {operation}: {reason}"),
}


@contextmanager
def translated(place: str, operation: str) -> Iterator[None]:
    """Let errors of SQLAlchemy and its drivers out as errors of ours.

    Args:
        place: the database as it may be shown, without a secret.
        operation: what was tried.

    Raises:
        ValidationError: the database refuses a value.
        ConfigurationError: no waiting helps: a wrong password, a missing database, no permission.
        CorruptDataError: the file is no database, or damaged.
        BackendUnavailable: anything else: it may work later, as when the disk is full and somebody frees space.
    """
    try:
        yield
    except exc.DBAPIError as error:
        first = _first(error)
        answer, text = _ANSWERS[_kind(first)]
        raise answer(text.format(place=place, operation=operation, reason=_reason(first))) from error
    except exc.TimeoutError as error:
        raise BackendUnavailable(f"{place}: no connection was free for {operation}") from error
    except CommandError as error:
        raise ConfigurationError(
            f"{place} has a schema that this version of morphml_ray does not know ({error}): upgrade morphml_ray"
        ) from error


@contextmanager
def opening(place: str) -> Iterator[None]:
    """As ``translated``, while a database is opened: what the system lacks now is no error of the settings.

    Raises:
        ConfigurationError: as there; or the host does not exist.
        BackendUnavailable: as there; or there is no descriptor, no memory, no room for a new file.
    """
    try:
        with translated(place, "opening"):
            yield
    except UnknownHostError as error:
        raise ConfigurationError(str(error)) from error
    except (ConfigurationError, OSError) as error:
        cause = error.__cause__ if isinstance(error, ConfigurationError) else error
        if getattr(cause, "errno", None) not in _TRANSIENT:
            raise
        raise BackendUnavailable(f"{place} cannot be opened now: {error}") from error


@contextmanager
def sending() -> Iterator[None]:
    """Let errors of a driver that cannot send a value out as ours: it has its own ones for what the server says.

    Raises:
        ValidationError: a text with a NUL character, or with half of a surrogate pair; a number of more than 64 bits.
    """
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise ValidationError(f"a value cannot be sent to the database: {error}") from error


@contextmanager
def driving(connection: sa.Connection) -> Iterator[Any]:
    """Give the driver's own connection, whose statements cost a fifth; its errors come as SQLAlchemy's, as else.

    For SQLite: nothing here notices that a server is gone.
    """
    raw = connection.connection.driver_connection
    try:
        with sending():
            yield raw
    except connection.dialect.loaded_dbapi.Error as error:
        raise exc.DBAPIError.instance(
            None, None, error, connection.dialect.loaded_dbapi.Error, hide_parameters=True, dialect=connection.dialect
        ) from error


@contextmanager
def committing(place: str, operation: str, check: Callable[[], None]) -> Iterator[None]:
    """As ``translated``, around a commit: where its answer is lost, it may have happened.

    Args:
        place: see ``translated``.
        operation: the same.
        check: whether what was committed can be found again.

    Raises:
        CommitLostError: the connection broke; or SQLite's file went away, or its disk failed after a part was written.
    """
    try:
        with translated(place, operation):
            yield
    except BackendUnavailable as error:
        cause = error.__cause__
        if isinstance(cause, exc.DBAPIError) and not cause.connection_invalidated and not _is_bad_disk(cause):
            raise  # the server said so
        raise CommitLostError(f"{error} (in the commit: it may be stored)") from cause
    try:
        check()
    except MorphMLRayError as error:
        raise CommitLostError(str(error)) from error


def _is_bad_disk(error: exc.DBAPIError) -> bool:
    return _kind(error) is _Kind.BAD_DISK


def _first(error: exc.DBAPIError) -> exc.DBAPIError:
    """Look behind a savepoint that could not be rolled back: what went wrong before has ended it."""
    while error.orig is not None and isinstance(error.orig.__context__, exc.DBAPIError):
        error = error.orig.__context__
    return error


def _kind(error: exc.DBAPIError) -> _Kind:
    """Tell what an error is; of the two drivers only PostgreSQL's has ``pgcode``."""
    kind = _postgres_kind(error) if hasattr(error.orig, "pgcode") else _sqlite_kind(error)
    is_value = isinstance(error, (exc.DataError, exc.IntegrityError)) and kind is not _Kind.ENCODING
    return _Kind.VALUE if is_value else kind


def _postgres_kind(error: exc.DBAPIError) -> _Kind:
    code: str | None = getattr(error.orig, "pgcode", None)
    if type(error.orig).__name__ == "HostNotFound":  # SQLite does without the driver's module
        return _Kind.HOST
    if code is None:
        # The driver or its library lost the server; or, in this class, it cannot use what the URL says.
        return _Kind.REFUSAL if isinstance(error, exc.ProgrammingError) else _Kind.OUTAGE
    # What a statement meets in the classes 0A and 22 has other classes of the driver.
    is_connecting = isinstance(error, exc.OperationalError)
    kinds = _SQLSTATES_WHILE_CONNECTING if is_connecting else _SQLSTATES
    return kinds.get(code) or kinds.get(code[:2], _Kind.OUTAGE)


def _sqlite_kind(error: exc.DBAPIError) -> _Kind:
    code = _sqlite_code(error)
    if code == _ERROR and any(words in _reason(error) for words in _SQLITE_VALUES):
        return _Kind.VALUE
    if code == _CANTOPEN and _open_files_error() in _TRANSIENT:
        return _Kind.OUTAGE
    return _SQLITE_CODES.get(code, _Kind.OUTAGE)


def _sqlite_code(error: exc.DBAPIError) -> int:
    """The primary code, which is the lowest byte of the one that tells more."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is None:
        reason = _reason(error)
        code = next((code for text, code in _SQLITE_TEXTS.items() if text in reason), _ERROR)
    return int(code) & 0xFF


def _open_files_error() -> int | None:
    """Tell why this process can open no file: SQLite has one code for that and for a file that cannot be opened."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno
    return None


def _reason(error: exc.DBAPIError) -> str:
    """The driver's own words in one line, without the statement and its parameters."""
    return " ".join(str(error.orig).split())
