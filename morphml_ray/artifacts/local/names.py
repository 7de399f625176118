"""From keys to names of files and directories, and back.

Each segment of a key becomes a name; names of directories end with "+", which no file's name does: so "a" and "a/b" can
both be objects. "%", a "+" at the end, and what the file system takes for something else are percent-encoded. A segment
that is too long for one name goes on in a directory whose name ends with "%-". "%" otherwise stands before two
hexadecimal digits only, so names of our own that begin with "%" belong to no key.
"""

import re
from typing import Literal, NamedTuple
from urllib.parse import unquote

from morphml_ray.artifacts.checks import check_key
from morphml_ray.errors import ValidationError

_FOLDER = "+"
_CONTINUED = "%-"
_MAX_NAME_BYTES = 240  # of 255 on most file systems
_SPECIAL = re.compile(r"%|\+\Z")
# Where upper and lower case, or two spellings of an accent, are the same name.
_SPECIAL_FOLDED = re.compile(r"[^a-z0-9._ -]")


class Name(NamedTuple):
    """What a name of a file or directory stands for.

    Attributes:
        text: the segment, or its beginning, still encoded.
        kind: "file" for the end of a key, "folder" for a whole segment, "part" for a segment that goes on.
    """

    text: str
    kind: Literal["file", "folder", "part"]


def encode_key(key: str, *, is_folding: bool) -> tuple[list[str], str]:
    """Give the names of the directories, and of the file, of a key.

    Args:
        key: as ``check_key`` accepts it.
        is_folding: whether the file system takes "A" and "a" for one name.
    """
    *folders, last = key.split("/")
    *parts, end = _split(_encode(last, is_folding=is_folding))
    return [*_directories(folders, is_folding=is_folding), *(part + _CONTINUED for part in parts)], end


def encode_folder(prefix: str, *, is_folding: bool) -> list[str]:
    """Give the names of the directories below which all keys begin with ``prefix/``; none for ""."""
    return _directories(prefix.split("/") if prefix else [], is_folding=is_folding)


def read_name(name: str, *, is_directory: bool) -> Name | None:
    """Tell what a name stands for; None where it is none of ours."""
    if not is_directory:
        return Name(name, "file")
    if name.endswith(_CONTINUED):
        return Name(name.removesuffix(_CONTINUED), "part")
    if name.endswith(_FOLDER):
        return Name(name.removesuffix(_FOLDER), "folder")
    return None


def decode_segment(text: str, *, is_folding: bool) -> str | None:
    """Give the segment behind encoded text; None where it is none of ours."""
    try:
        segment = unquote(text, errors="strict")
        is_ours = _encode(segment, is_folding=is_folding) == text and check_key(segment) == segment
    except (UnicodeError, ValidationError):
        return None
    return segment if is_ours else None


def _directories(segments: list[str], *, is_folding: bool) -> list[str]:
    names = []
    for segment in segments:
        *parts, end = _split(_encode(segment, is_folding=is_folding))
        names += [*(part + _CONTINUED for part in parts), end + _FOLDER]
    return names


def _encode(segment: str, *, is_folding: bool) -> str:
    special = _SPECIAL_FOLDED if is_folding else _SPECIAL
    return special.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), segment)


def _split(text: str) -> list[str]:
    pieces, piece, size_bytes = [], "", 0
    # Between characters, and never inside a percent-encoded one.
    for unit in re.findall(r"%[0-9A-F]{2}|.", text, re.DOTALL):
        size_bytes += len(unit.encode())
        if size_bytes > _MAX_NAME_BYTES:
            pieces.append(piece)
            piece, size_bytes = "", len(unit.encode())
        piece += unit
    return [*pieces, piece]
