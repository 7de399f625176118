"""References to secrets: ``env:NAME`` and ``file:/absolute/path``."""

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from morphml_ray.errors import ConfigurationError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_FILE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Reference:
    """Where a secret stands; it names the secret and does not hold it.

    Attributes:
        kind: "env" for an environment variable, "file" for a file.
        name: the variable, or the absolute path.
    """

    kind: Literal["env", "file"]
    name: str

    @property
    def text(self) -> str:
        """The reference as it is written in a setting."""
        return f"{self.kind}:{self.name}"

    def read(self) -> str:
        """Read the secret on this machine.

        Returns:
            The value; of a file without one trailing newline.

        Raises:
            ConfigurationError: the variable or the file is missing, empty or unreadable; the message names it
                and this host, never its content.
        """
        value = self._read_variable() if self.kind == "env" else self._read_file()
        if not value:
            raise self._unreadable("it is empty")
        if not is_plain_text(value):
            raise self._unreadable("it is not one line of printable UTF-8 text")
        return value

    def _read_variable(self) -> str:
        value = os.environ.get(self.name)
        if value is None:
            raise self._unreadable("it is not set")
        return value

    def _read_file(self) -> str:
        path = Path(self.name)
        try:
            if path.exists() and not path.is_file():  # a pipe would block for ever
                raise self._unreadable("it is not a regular file")
            with path.open("rb") as file:
                content = file.read(_MAX_FILE_BYTES + 1)
        except OSError as error:
            raise self._unreadable(error.strerror or type(error).__name__) from error
        if len(content) > _MAX_FILE_BYTES:
            raise self._unreadable(f"it is larger than {_MAX_FILE_BYTES} bytes")
        return content.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")

    def _unreadable(self, reason: str) -> ConfigurationError:
        noun = "environment variable" if self.kind == "env" else "file"
        return ConfigurationError(
            f"The {noun} {self.name} that a URL refers to cannot be used on host {socket.gethostname()}: "
            f"{reason}. It is read where the backend's actor runs: provide it on every node that may run one."
        )


def parse_reference(text: str) -> Reference | None:
    """Read a reference.

    Returns:
        The reference, or None if ``text`` does not begin with ``env:`` or ``file:``.

    Raises:
        ConfigurationError: it begins like a reference and is none. The message does not show it: it may be a
            password that happens to begin so.
    """
    kind, colon, name = text.partition(":")
    if colon and kind == "env":
        if _VARIABLE.fullmatch(name):
            return Reference("env", name)
        raise ConfigurationError(
            "After env: the name of an environment variable must follow (letters, digits, _). "
            "Write env%3A if a password really begins with these letters."
        )
    if colon and kind == "file":
        if name.startswith("/") and not name.startswith("//") and is_plain_text(name):
            return Reference("file", name)
        raise ConfigurationError(
            "After file: one absolute path must follow, as in file:/run/secrets/database. "
            "Write file%3A if a password really begins with these letters."
        )
    return None


def is_plain_text(text: str) -> bool:
    """Whether ``text`` has no control characters and can be written as UTF-8."""
    return not any(ord(char) < ord(" ") or char == "\x7f" or "\ud800" <= char <= "\udfff" for char in text)
