"""From the drivers' errors to ours, in one place."""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic.util import CommandError
from sqlalchemy import exc

from morphml_ray.errors import (
    BackendUnavailable,
    ConfigurationError,
    CorruptDataError,
    MorphMLRayError,
    ValidationError,
)

# Refusals that no waiting mends. While connecting, PostgreSQL's driver gives the text only, without its code.
_REFUSALS = (
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "already exists",  # a table of somebody else's has the name of one of ours
    "permission denied",
    "unsupported frontend protocol",
    "unable to open database file",
    "readonly database",
)
_TOO_LARGE = "54"  # PostgreSQL's class of codes for what exceeds a limit: a key too long for an index, for one
_DISK_FULL = "53100"  # PostgreSQL's code; while it connects there is its text only
# SQLite's words, and the system's.
_FULL_DISKS = ("database or disk is full", "No space left on device", "Disk quota exceeded")
_CORRUPTIONS = ("file is not a database", "database disk image is malformed")


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
    except (exc.DataError, exc.IntegrityError) as error:
        raise ValidationError(f"{place} refused a value in {operation}: {_reason(error)}") from error
    except exc.DBAPIError as error:
        raise _translate(place, operation, error) from error
    except exc.TimeoutError as error:
        raise BackendUnavailable(f"{place}: no connection was free for {operation}") from error
    except CommandError as error:
        raise ConfigurationError(
            f"{place} has a schema that this version of morphml_ray does not know ({error}): upgrade morphml_ray"
        ) from error


def _translate(place: str, operation: str, error: exc.DBAPIError) -> MorphMLRayError:
    reason = _reason(error)
    code = str(getattr(error.orig, "pgcode", None))
    if code.startswith(_TOO_LARGE):
        return ValidationError(f"{place} refused a value in {operation}: {reason}")
    if any(text in reason for text in _CORRUPTIONS):
        return CorruptDataError(f"{place} cannot be read: {reason}. Restore it from a backup.")
    if any(text in reason for text in _REFUSALS):
        return ConfigurationError(f"{place} refuses {operation}: {reason}. Correct the URL or the server's rights.")
    if code == _DISK_FULL or any(text in reason for text in _FULL_DISKS):
        return BackendUnavailable(
            f"{place} has no room for {operation}: the disk of the database is full ({reason}). Free space on it; what "
            "was stored before is safe."
        )
    return BackendUnavailable(f"{place} did not answer {operation}: {reason}")


def _reason(error: exc.DBAPIError) -> str:
    """The driver's own words in one line, without the statement and its parameters."""
    return " ".join(str(error.orig).split())
