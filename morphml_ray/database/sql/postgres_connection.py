"""A PostgreSQL connection whose failure to connect has the server's code.

While connecting, libpq keeps the text of a refusal only, and in it the server's language. It can be told to write the
code instead, but not before the first attempt: so a refusal is asked for once more.
"""

import ctypes
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import _psycopg, extensions

_PQERRORS_SQLSTATE = 3  # of libpq-fe.h, since libpq 12
_CODE = re.compile(rb":  ([0-9A-Z]{5})$", re.MULTILINE)  # after the severity, which may be translated


class PostgresConnection(extensions.connection):
    """psycopg2's connection, with two differences while it connects.

    Raises:
        psycopg2.OperationalError: the server refuses the connection, and ``pgcode`` says why; without a code the
            server did not answer.
        psycopg2.ProgrammingError: the driver refuses, because the URL lacks something.
    """

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


def _failure(text: str, failed: int | None, dsn: str) -> psycopg2.Error:
    """Make the error that the driver should have raised."""
    libpq, failure = _libpq(), psycopg2.OperationalError(text)
    # Only while libpq holds a socket has somebody answered: an outage is not waited for twice.
    if failed is None or libpq.PQsocket(failed) < 0:
        return failure
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
