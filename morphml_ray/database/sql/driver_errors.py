"""From the drivers' errors to ours, in one place.

Errors are known by their codes, and by the driver's class where there is no code: servers speak many languages.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

from alembic.util import CommandError
from sqlalchemy import exc

from morphml_ray.errors import (
    BackendUnavailable,
    ConfigurationError,
    CorruptDataError,
    MorphMLRayError,
    ValidationError,
)


class _Kind(Enum):
    VALUE = auto()
    REFUSAL = auto()
    DAMAGE = auto()
    FULL_DISK = auto()
    BAD_DISK = auto()
    READ_ONLY = auto()
    OUTAGE = auto()


# PostgreSQL's codes (https://www.postgresql.org/docs/current/errcodes-appendix.html), or their first two characters,
# which are a class. What is not listed may be otherwise later: too many clients, a shutdown, a start, a lock.
_SQLSTATES = {
    "22": _Kind.VALUE,
    "23": _Kind.VALUE,
    "25006": _Kind.READ_ONLY,
    "26": _Kind.REFUSAL,  # a prepared statement is gone: a pooler gives each transaction another session
    "28": _Kind.REFUSAL,  # a wrong password, a role that may not log in, no entry in pg_hba.conf
    "3D": _Kind.REFUSAL,  # no such database
    "3F": _Kind.REFUSAL,  # no such schema
    "42": _Kind.REFUSAL,  # no right; no such table; a table of somebody else's has the name of one of ours
    "53100": _Kind.FULL_DISK,
    "54": _Kind.VALUE,  # what exceeds a limit: a key too long for an index, for one
}
_SQLSTATES_WHILE_CONNECTING = {
    **_SQLSTATES,
    "0A": _Kind.REFUSAL,  # the server does not know our protocol
    "22": _Kind.REFUSAL,  # a setting among the URL's options has a wrong value
}

# SQLite's primary result codes (https://www.sqlite.org/rescode.html).
_ERROR, _PERM, _READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN, _NOTADB = 1, 3, 8, 10, 11, 13, 14, 26
_SQLITE_CODES = {
    _ERROR: _Kind.REFUSAL,  # the file holds no such table; or a table of somebody else's
    _PERM: _Kind.REFUSAL,
    _READONLY: _Kind.REFUSAL,
    _IOERR: _Kind.BAD_DISK,
    _CORRUPT: _Kind.DAMAGE,
    _FULL: _Kind.FULL_DISK,
    _CANTOPEN: _Kind.REFUSAL,
    _NOTADB: _Kind.DAMAGE,
}
# Python 3.10 leaves the code out. SQLite has no other language than that of its source, so there its words will do.
_SQLITE_TEXTS = {
    "already exists": _ERROR,
    "access permission denied": _PERM,
    "attempt to write a readonly database": _READONLY,
    "disk I/O error": _IOERR,
    "database disk image is malformed": _CORRUPT,
    "malformed database schema": _CORRUPT,
    "database or disk is full": _FULL,
    "unable to open database file": _CANTOPEN,
    "file is not a database": _NOTADB,
}

_ANSWERS: dict[_Kind, tuple[type[MorphMLRayError], str]] = {
    _Kind.VALUE: (ValidationError, "{place} refused a value in {operation}: {reason}"),
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


def _first(error: exc.DBAPIError) -> exc.DBAPIError:
    """Look behind a savepoint that could not be rolled back: what went wrong before has ended it."""
    while error.orig is not None and isinstance(error.orig.__context__, exc.DBAPIError):
        error = error.orig.__context__
    return error


def _kind(error: exc.DBAPIError) -> _Kind:
    """Tell what an error is; of the two drivers only PostgreSQL's has ``pgcode``."""
    if isinstance(error, (exc.DataError, exc.IntegrityError)):
        return _Kind.VALUE
    if hasattr(error.orig, "pgcode"):
        return _postgres_kind(error)
    return _SQLITE_CODES.get(_sqlite_code(error), _Kind.OUTAGE)


def _postgres_kind(error: exc.DBAPIError) -> _Kind:
    code: str | None = getattr(error.orig, "pgcode", None)
    if code is None:
        # The driver or its library lost the server; or, in this class, it cannot use what the URL says.
        return _Kind.REFUSAL if isinstance(error, exc.ProgrammingError) else _Kind.OUTAGE
    # What a statement meets in the classes 0A and 22 has other classes of the driver.
    is_connecting = isinstance(error, exc.OperationalError)
    kinds = _SQLSTATES_WHILE_CONNECTING if is_connecting else _SQLSTATES
    return kinds.get(code) or kinds.get(code[:2], _Kind.OUTAGE)


def _sqlite_code(error: exc.DBAPIError) -> int:
    """The primary code, which is the lowest byte of the one that tells more; 0 for none."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is None:
        reason = _reason(error)
        code = next((code for text, code in _SQLITE_TEXTS.items() if text in reason), 0)
    return int(code) & 0xFF


def _reason(error: exc.DBAPIError) -> str:
    """The driver's own words in one line, without the statement and its parameters."""
    return " ".join(str(error.orig).split())
