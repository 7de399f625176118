"""SQLite URLs: ``sqlite:///relative/or/absolute/path.db``."""

import os.path
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

from morphml_ray.config.references import Reference, is_plain_text
from morphml_ray.errors import ConfigurationError

# SQLAlchemy 2.1 percent-decodes the path, 2.0 does not; what is left reads alike in both.
_UNPORTABLE = re.compile(r"\?|%[0-9A-Fa-f]{2}")


@dataclass(frozen=True)
class SqliteUrl:
    """A SQLite database file.

    Attributes:
        path: its absolute path.
    """

    path: Path
    scheme: ClassVar[str] = "sqlite"
    secrets: ClassVar[tuple[str | Reference, ...]] = ()

    def render(self, show: Callable[[str | Reference], str]) -> str:  # noqa: ARG002 - a SQLite URL has no secrets
        """Give the URL's text."""
        return f"sqlite:///{self.path}"

    @property
    def identity(self) -> str:
        """What tells this database from others: the file, whatever links lead to it."""
        return f"sqlite:///{os.path.realpath(self.path)}"


def sqlite_text(path: Path) -> str:
    """Write the URL of a file as a user would have to."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def parse_sqlite(rest: str, relative_to: Path | None) -> SqliteUrl:
    """Read what follows ``sqlite://``.

    Args:
        rest: the text after ``sqlite://``.
        relative_to: the directory that relative paths start from; None refuses them.

    Raises:
        ConfigurationError: no path, an in-memory database, options, or a relative path where none may be.
    """
    if rest in ("", "/") or rest.startswith(("/:memory:", "/file:")):
        raise ConfigurationError(
            "A SQLite database in memory, or without a path, is refused: the actor must find its data again "
            "after a restart. Name a file: sqlite:///path/to/morphml.db"
        )
    if not rest.startswith("/"):
        raise ConfigurationError(
            "A SQLite URL has three slashes before a relative path and four before an absolute one: "
            "sqlite:///morphml.db, sqlite:////data/morphml.db"
        )
    if "?" in rest:
        raise ConfigurationError("A SQLite URL takes no options: remove the ? and what follows it (%3F in a name)")
    return SqliteUrl(_absolute(unquote(rest[1:]), relative_to))


def _absolute(name: str, relative_to: Path | None) -> Path:
    if name.endswith("/") or not is_plain_text(name):
        raise ConfigurationError("A SQLite URL ends with the name of a file: sqlite:///path/to/morphml.db")
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises for an unknown user
    if relative_to is None and not path.is_absolute():
        raise ConfigurationError(
            "A SQLite URL that is read from a reference must hold an absolute path: sqlite:////data/morphml.db"
        )
    path = ((relative_to or Path("/")) / path).absolute()
    if _UNPORTABLE.search(str(path)):
        raise ConfigurationError(
            f"The path {path} holds a ? or a % before two hexadecimal digits, which SQLAlchemy misreads: choose "
            "another one"
        )
    return path
