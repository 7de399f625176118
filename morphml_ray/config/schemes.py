"""The URL schemes that a backend can have, and how each is read."""

import difflib
import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from morphml_ray.config.postgresql import parse_postgresql
from morphml_ray.config.references import Reference, is_plain_text
from morphml_ray.config.sqlite import parse_sqlite
from morphml_ray.errors import ConfigurationError

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9.+-]*)://(?P<rest>.*)")


class ParsedUrl(Protocol):
    """A URL whose parts were told apart."""

    @property
    def scheme(self) -> str:
        """The kind of backend, without a driver's name."""

    @property
    def secrets(self) -> tuple[str | Reference, ...]:
        """Each secret in it, as a literal or a reference."""

    @property
    def path(self) -> Path | None:
        """The file or directory that it names on this machine, if it does."""

    @property
    def identity(self) -> str:
        """What tells the data behind it from other data; no secrets."""

    def render(self, show: Callable[[str | Reference], str]) -> str:
        """Give the URL's text, in which ``show`` writes each secret."""


@dataclass(frozen=True)
class Scheme:
    """One kind of backend.

    Attributes:
        drivers: the names that may follow a plus sign; all mean the same.
        module: what must be importable.
        remedy: what to do when it is not.
        parse: reads what follows ``://``; its second argument is where relative paths start, None refuses
            them.
    """

    drivers: tuple[str, ...]
    module: str
    remedy: str
    parse: Callable[[str, Path | None], ParsedUrl]


SCHEMES = {
    "sqlite": Scheme(("pysqlite",), "_sqlite3", "use a Python that was built with SQLite", parse_sqlite),
    "postgresql": Scheme(("psycopg2",), "psycopg2", "pip install psycopg2-binary", parse_postgresql),
}
_ALIASES = {"postgres": "postgresql"}


def parse_url(text: str, relative_to: Path | None) -> ParsedUrl:
    """Read a literal URL.

    Args:
        text: the URL.
        relative_to: the directory that relative paths start from; None refuses them.

    Raises:
        ConfigurationError: the URL is wrong, or its driver is not installed. The message shows nothing of it
            but the scheme.
    """
    match = _URL.fullmatch("sqlite:///:memory:" if text == ":memory:" else text)
    if match is None or not is_plain_text(text):
        raise ConfigurationError(
            f"This is not a URL (it is not shown, since it may hold a password). Supported are {_supported()}"
        )
    name, scheme = _find_scheme(match["scheme"].lower())
    _require_driver(name, scheme)
    return scheme.parse(match["rest"], relative_to)


def _find_scheme(stated: str) -> tuple[str, Scheme]:
    name, plus, driver = stated.partition("+")
    name = _ALIASES.get(name, name)
    scheme = SCHEMES.get(name)
    if scheme is None:
        raise ConfigurationError(
            f"The URL scheme {stated}:// is not supported{_hint(stated)}. Supported are {_supported()}"
        )
    if plus and driver not in scheme.drivers:
        raise ConfigurationError(
            f"The driver in {stated}:// is not supported, morphml_ray uses {scheme.drivers[0]}: write {name}://"
        )
    return name, scheme


def _hint(stated: str) -> str:
    if stated in ("env", "file"):
        return f": a reference has no slashes after its colon but those of a path, as in {_REFERENCES[stated]}"
    near = difflib.get_close_matches(stated.partition("+")[0], [*SCHEMES, *_ALIASES], n=1)
    return f"; did you mean {near[0]}://?" if near else ""


_REFERENCES = {"env": "env:NAME", "file": "file:/run/secrets/database"}


def _supported() -> str:
    return (
        "sqlite:///path/to/file.db, postgresql://user:password@host:port/database, "
        "and the references env:NAME and file:/absolute/path to one of them"
    )


def _require_driver(name: str, scheme: Scheme) -> None:
    """Look for the driver without importing it: an import would cost time in processes that never connect."""
    if sys.modules.get(scheme.module) is None and importlib.util.find_spec(scheme.module) is None:
        raise ConfigurationError(f"The driver for {name}:// ({scheme.module}) is not installed: {scheme.remedy}")
