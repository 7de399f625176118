"""URLs of a store in the memory of its actor: ``memory://``."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from morphml_ray.config.references import Reference
from morphml_ray.errors import ConfigurationError

_REST = re.compile(r"/?(?:\?max_bytes=(?P<max_bytes>[1-9][0-9]{0,14}))?")


@dataclass(frozen=True)
class MemoryUrl:
    """A cache in memory.

    Attributes:
        max_bytes: how much it holds; None leaves it to the cache.
    """

    max_bytes: int | None
    scheme: ClassVar[str] = "memory"
    secrets: ClassVar[tuple[str | Reference, ...]] = ()
    path: ClassVar[Path | None] = None
    # Its size changes no stored data.
    identity: ClassVar[str] = "memory://"

    def render(self, show: Callable[[str | Reference], str]) -> str:  # noqa: ARG002 - it has no secrets
        """Give the URL's text."""
        return "memory://" if self.max_bytes is None else f"memory://?max_bytes={self.max_bytes}"


def parse_memory(rest: str, relative_to: Path | None) -> MemoryUrl:  # noqa: ARG001 - one signature a scheme
    """Read what follows ``memory://``.

    Raises:
        ConfigurationError: something else than its size follows.
    """
    match = _REST.fullmatch(rest)
    if match is None:
        raise ConfigurationError(
            "Nothing may follow memory:// but how much it holds, in bytes: memory://?max_bytes=268435456"
        )
    return MemoryUrl(int(match["max_bytes"]) if match["max_bytes"] else None)
