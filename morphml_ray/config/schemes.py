"""The URL schemes that a backend can have, and how each is read."""

import difflib
import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from morphml_ray.config.local import parse_local
from morphml_ray.config.memory import parse_memory
from morphml_ray.config.postgresql import parse_postgresql
from morphml_ray.config.redis import parse_redis, parse_rediss
from morphml_ray.config.references import Reference, is_plain_text
from morphml_ray.config.s3 import parse_s3
from morphml_ray.config.sqlite import parse_sqlite
from morphml_ray.errors import ConfigurationError

Kind = Literal["database", "cache", "artifacts"]
"""What a backend is for."""

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
    """One kind of URL.

    Attributes:
        kind: what the backends behind it are for.
        example: how such a URL looks, for messages.
        parse: reads what follows ``://``; its second argument is where relative paths start, None refuses
            them.
        drivers: the names that may follow a plus sign; all mean the same.
        module: what must be importable, if anything.
        remedy: what to do when it is not.
    """

    kind: Kind
    example: str
    parse: Callable[[str, Path | None], ParsedUrl]
    drivers: tuple[str, ...] = ()
    module: str | None = None
    remedy: str = ""


SCHEMES = {
    "sqlite": Scheme(
        kind="database",
        example="sqlite:///path/to/file.db",
        parse=parse_sqlite,
        drivers=("pysqlite",),
        module="_sqlite3",
        remedy="use a Python that was built with SQLite",
    ),
    "postgresql": Scheme(
        kind="database",
        example="postgresql://user:password@host:port/database",
        parse=parse_postgresql,
        drivers=("psycopg2",),
        module="psycopg2",
        remedy="pip install psycopg2-binary",
    ),
    "redis": Scheme(
        kind="cache",
        example="redis://user:password@host:6379/0",
        parse=parse_redis,
        module="redis",
        remedy="pip install redis",
    ),
    "rediss": Scheme(
        kind="cache",
        example="rediss://user:password@host:6379/0",
        parse=parse_rediss,
        module="redis",
        remedy="pip install redis",
    ),
    "memory": Scheme(kind="cache", example="memory://", parse=parse_memory),
    "s3": Scheme(
        kind="artifacts",
        example="s3://bucket/prefix?endpoint_url=http://host:port",
        parse=parse_s3,
        module="boto3",
        remedy="pip install boto3",
    ),
    "file": Scheme(kind="artifacts", example="file:///path/to/directory", parse=parse_local),
}
_ALIASES = {"postgres": "postgresql", "valkey": "redis", "valkeys": "rediss"}
_SOCKET = "A Redis behind a UNIX socket is not supported: let it listen on an address, and write redis://"
_SEVERAL = "are not supported: name one server with redis:// or rediss://, or a proxy that looks like one"
_REFUSED = {
    "unix": _SOCKET,
    "redis+unix": _SOCKET,
    "redis+socket": _SOCKET,
    "redis+cluster": f"Clusters of Redis {_SEVERAL}",
    "rediss+cluster": f"Clusters of Redis {_SEVERAL}",
    "redis+sentinel": f"Redis Sentinels {_SEVERAL}",
    "rediss+sentinel": f"Redis Sentinels {_SEVERAL}",
}


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
    if name + plus + driver in _REFUSED:
        raise ConfigurationError(_REFUSED[name + plus + driver])
    scheme = SCHEMES.get(name)
    if scheme is None:
        raise ConfigurationError(
            f"The URL scheme {stated}:// is not supported{_hint(stated)}. Supported are {_supported()}"
        )
    if plus and driver not in scheme.drivers:
        used = f", morphml_ray uses {scheme.drivers[0]}" if scheme.drivers else ""
        raise ConfigurationError(f"The driver in {stated}:// is not supported{used}: write {name}://")
    return name, scheme


def _hint(stated: str) -> str:
    if stated in ("env", "file"):
        return f": a reference has no slashes after its colon but those of a path, as in {_REFERENCES[stated]}"
    near = difflib.get_close_matches(stated.partition("+")[0], [*SCHEMES, *_ALIASES], n=1)
    return f"; did you mean {near[0]}://?" if near else ""


_REFERENCES = {"env": "env:NAME", "file": "file:/run/secrets/database"}


def examples_of(kind: Kind | None = None) -> str:
    """List how URLs look, those of one kind or all."""
    return ", ".join(scheme.example for scheme in SCHEMES.values() if kind in (None, scheme.kind))


def _supported() -> str:
    return f"{examples_of()}, and the references env:NAME and file:/absolute/path to one of them"


def _require_driver(name: str, scheme: Scheme) -> None:
    """Look for the driver without importing it: an import would cost time in processes that never connect."""
    if scheme.module is None:
        return
    if sys.modules.get(scheme.module) is None and importlib.util.find_spec(scheme.module) is None:
        raise ConfigurationError(f"The driver for {name}:// ({scheme.module}) is not installed: {scheme.remedy}")
