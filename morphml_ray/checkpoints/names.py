"""Where the objects of one experiment lie, and what the key of each says.

::

    checkpoints/<experiment>/log/<sequence number, 20 digits>     entries of the log, made once, never replaced
    checkpoints/<experiment>/chunks/<era>/<BLAKE3>[.zst]          content of checkpoints

Nothing else below the prefix is ours: stray objects are neither read nor deleted. Numbers of the log have leading
zeros, so that a listing in pages meets them in their order: an entry that is made while it runs lies ahead of it.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple
from urllib.parse import quote, unquote

from morphml_ray.errors import ValidationError

MAX_NUMBER = 2**63 - 1
_ROOT = "checkpoints/"
_MAX_QUOTED_BYTES = 512  # a key has 1,024
_NUMBER = re.compile("[0-9]{20}")
_CHUNK = re.compile(r"(?P<era>0|[1-9][0-9]{0,18})/(?P<digest>[0-9a-f]{64})(?P<suffix>(?:\.zst)?)")
_DOTS = {".": "%2E", "..": "%2E%2E"}


class Codec(str, Enum):
    """How the content of a chunk is stored."""

    RAW = "raw"
    ZSTD = "zstd"


_SUFFIXES = {Codec.RAW: "", Codec.ZSTD: ".zst"}
_CODECS = {suffix: codec for codec, suffix in _SUFFIXES.items()}


class ChunkName(NamedTuple):
    """Names a chunk of an experiment.

    The codec stands in the name, so that two savers that compress differently never disagree about an object; the
    era, so that a name that was given up once is never used again (see ``collection``).

    Attributes:
        era: sequence number of the last sweep before it was stored; 0 before the first.
        digest: BLAKE3 of the content, 32 bytes.
        codec: how it is stored.
    """

    era: int
    digest: bytes
    codec: Codec


@dataclass(frozen=True)
class Place:
    """The prefix of one experiment.

    Attributes:
        experiment: its id, as text.
        prefix: what all its keys begin with; ends with a slash.
    """

    experiment: str
    prefix: str

    @property
    def log_prefix(self) -> str:
        """What the keys of all entries begin with."""
        return f"{self.prefix}log/"

    @property
    def chunk_prefix(self) -> str:
        """What the keys of all chunks begin with."""
        return f"{self.prefix}chunks/"

    def entry_key(self, sequence: int) -> str:
        """Give the key of an entry."""
        return f"{self.log_prefix}{sequence:020}"

    def chunk_key(self, name: ChunkName) -> str:
        """Give the key of a chunk."""
        return f"{self.chunk_prefix}{name.era}/{name.digest.hex()}{_SUFFIXES[name.codec]}"

    def sequence_of(self, key: str) -> int | None:
        """Read the number of an entry from its key; None: the key is none of an entry of this experiment."""
        digits = key.removeprefix(self.log_prefix)
        if not key.startswith(self.log_prefix) or not _NUMBER.fullmatch(digits):
            return None
        number = int(digits)
        return number if 0 < number <= MAX_NUMBER else None

    def chunk_of(self, key: str) -> ChunkName | None:
        """Read the name of a chunk from its key; None: the key is none of a chunk of this experiment."""
        match = _CHUNK.fullmatch(key, len(self.chunk_prefix)) if key.startswith(self.chunk_prefix) else None
        if match is None or int(match["era"]) > MAX_NUMBER:
            return None
        return ChunkName(int(match["era"]), bytes.fromhex(match["digest"]), _CODECS[match["suffix"]])


def place_of(experiment_id: int | str) -> Place:
    """Give the place of an experiment's checkpoints.

    Args:
        experiment_id: 7 and "7" are one; a text is percent-encoded in the keys, case counts.

    Raises:
        ValidationError: it is neither int nor str, empty, holds a "/", or is too long.
    """
    if isinstance(experiment_id, bool) or not isinstance(experiment_id, int | str):
        raise ValidationError(f"an experiment id is an int or a str, not {type(experiment_id).__name__}")
    text = str.__str__(experiment_id) if isinstance(experiment_id, str) else str(int(experiment_id))
    if not text or "/" in text:
        raise ValidationError(f"the experiment id {text!r} must not be empty or hold a '/'")
    try:
        quoted = _quote(text)
    except UnicodeEncodeError as error:
        raise ValidationError(f"the experiment id {text!r} holds half a character (a lone surrogate)") from error
    if len(quoted) > _MAX_QUOTED_BYTES:
        raise ValidationError(
            f"the experiment id {text[:40]!r}... is too long: percent-encoded it has {len(quoted)} characters, at most "
            f"{_MAX_QUOTED_BYTES}"
        )
    return Place(text, f"{_ROOT}{quoted}/")


def experiment_of(key: str) -> str | None:
    """Read from the key of any object of the store whose checkpoints it belongs to; None: nobody's."""
    root, slash, _ = key.removeprefix(_ROOT).partition("/")
    if not key.startswith(_ROOT) or not root or not slash:
        return None
    text = unquote(root, errors="replace")
    return text if "/" not in text and _quote(text) == root else None


def _quote(text: str) -> str:
    """Percent-encode all but A-Z, a-z, 0-9, ``-_~`` and dots; "." and ".." alone are no segments of a key."""
    return _DOTS.get(text) or quote(text, safe="")
