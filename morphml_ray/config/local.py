"""Directory URLs: ``file:///path/to/directory``."""

import os.path
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote

from morphml_ray.config.references import Reference, is_plain_text
from morphml_ray.errors import ConfigurationError

# What has no slash here would be a host; more likely it is a reference with too many slashes.
_STARTS = ("/", "./", "../", "~")


@dataclass(frozen=True)
class LocalUrl:
    """A directory of artifacts.

    Attributes:
        path: its absolute path.
    """

    path: Path
    scheme: ClassVar[str] = "file"
    secrets: ClassVar[tuple[str | Reference, ...]] = ()

    def render(self, show: Callable[[str | Reference], str]) -> str:  # noqa: ARG002 - a directory has no secrets
        """Give the URL's text."""
        return local_text(self.path)

    @property
    def identity(self) -> str:
        """What tells this directory from others, whatever links lead to it."""
        return local_text(Path(os.path.realpath(self.path)))


def local_text(path: Path) -> str:
    """Write the URL of a directory."""
    return f"file://{quote(str(path), safe='/!$&()*+,:;=@~')}"


def parse_local(rest: str, relative_to: Path | None) -> LocalUrl:
    """Read what follows ``file://``.

    ``file:///data/artifacts`` is absolute, ``file://./artifacts`` is relative, ``file://~/artifacts`` starts from
    the home directory.

    Args:
        rest: the text after ``file://``.
        relative_to: the directory that relative paths start from; None refuses them.

    Raises:
        ConfigurationError: no path, options, or a relative path where none may be.
    """
    if "?" in rest or "#" in rest:
        raise ConfigurationError("A file URL takes no options: remove ? and # and what follows (%3F, %23 in a name)")
    name = unquote(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest)
    if not name.startswith(_STARTS) or not name.strip("/") or not is_plain_text(name):
        raise ConfigurationError(
            "A file URL names a directory other than / by its path: file:///path/to/artifacts, file://./relative; a "
            "reference has one slash after its colon, as in file:/run/secrets/database"
        )
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises for an unknown user
    if relative_to is None and not path.is_absolute():
        raise ConfigurationError(
            "A file URL that is read from a reference must hold an absolute path: file:///data/artifacts"
        )
    return LocalUrl(((relative_to or Path("/")) / path).absolute())
