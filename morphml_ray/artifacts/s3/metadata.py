"""Metadata that survive the headers of HTTP, which hold printable ASCII in small letters only.

What headers can hold stays readable for everybody, as S3 has it; the rest goes as one JSON object into a header of its
own. Names that begin with ``morphml-`` are ours.
"""

import json
import re
from collections.abc import Mapping
from email.header import decode_header, make_header
from typing import NamedTuple

from morphml_ray.artifacts.crc32 import checksum_text, parse_checksum
from morphml_ray.errors import ValidationError

_OURS = "morphml-"
_JSON = "morphml-json"
_CRC = "morphml-crc32"
_WRITE_ID = "morphml-write"
KEPT_HEADERS = {
    "CacheControl": "Cache-Control",
    "ContentDisposition": "Content-Disposition",
    "ContentEncoding": "Content-Encoding",
    "ContentLanguage": "Content-Language",
}
"""What others may have said of their objects, and a copy says too: as boto3 calls it, and HTTP."""
_MAX_BYTES = 2048  # of S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
_PLAIN_NAME = re.compile("[a-z0-9][a-z0-9-]*")
# Without blanks at its ends or side by side, which proxies and signatures fold.
_PLAIN_VALUE = re.compile("[!-~]+(?: [!-~]+)*")
_ENCODED_WORD = re.compile(r"=\?.*\?=")  # RFC 2047: how AWS returns what is not ASCII


class Stored(NamedTuple):
    """What the headers of an object say.

    Attributes:
        metadata: as given.
        crc: CRC-32 of the whole; None where somebody else wrote it, or nobody knew it.
        write_id: what its writer called this write.
    """

    metadata: dict[str, str]
    crc: int | None
    write_id: str | None


def encode_metadata(metadata: Mapping[str, str], crc: int | None, write_id: str) -> dict[str, str]:
    """Give what goes into the headers.

    Raises:
        ValidationError: it is more than S3 takes.
    """
    headers = {name: value for name, value in metadata.items() if _is_plain(name, value)}
    rest = {name: value for name, value in metadata.items() if name not in headers}
    if rest:
        text = json.dumps(rest, separators=(",", ":"))
        headers[_JSON] = text.replace(" ", "\\u0020").replace("\x7f", "\\u007f")
    if crc is not None:
        headers[_CRC] = checksum_text(crc)
    headers[_WRITE_ID] = write_id
    size_bytes = sum(len(name) + len(value) for name, value in headers.items())
    if size_bytes > _MAX_BYTES:
        raise ValidationError(f"the metadata take {size_bytes} bytes of the {_MAX_BYTES} that S3 has for them")
    return headers


def with_write_id(headers: Mapping[str, str], write_id: str) -> dict[str, str]:
    """Give the headers of an object to a copy of it, which is a write of its own."""
    return {name.lower(): value for name, value in headers.items()} | {_WRITE_ID: write_id}


def decode_metadata(headers: Mapping[str, str]) -> Stored:
    """Read the headers, also those that somebody else wrote."""
    named = {name.lower(): value for name, value in headers.items()}
    metadata = {name: _decode_word(value) for name, value in named.items() if not name.startswith(_OURS)}
    try:
        rest = json.loads(named.get(_JSON, "{}"))
    except (ValueError, RecursionError):
        rest = {}
    if isinstance(rest, dict):
        metadata |= {str(name): str(value) for name, value in rest.items()}
    return Stored(metadata, parse_checksum(named.get(_CRC, "")), named.get(_WRITE_ID))


def _is_plain(name: str, value: str) -> bool:
    return bool(
        _PLAIN_NAME.fullmatch(name)
        and not name.startswith(_OURS)
        and _PLAIN_VALUE.fullmatch(value)
        and not _ENCODED_WORD.search(value)
    )


def _decode_word(value: str) -> str:
    if not _ENCODED_WORD.search(value):
        return value
    try:
        return str(make_header(decode_header(value)))
    except (ValueError, LookupError):
        return value
