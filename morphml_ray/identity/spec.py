"""The bytes of an architecture: one format byte, a CRC-32, and JSON, compressed unless it is short.

The high half of the format byte is the version, 1. Bit 0 says that the JSON carries the tags of
``model.values.encode_json`` (configs; a graph is canonical JSON without), bit 1 that it is compressed by zlib. The
checksum, big-endian, covers the format byte and everything after the checksum.
"""

import zlib
from typing import Any

import msgspec

from morphml_ray.errors import CorruptDataError, ValidationError
from morphml_ray.model.plain import decode_json

MAX_SPEC_BYTES = 64 * 1024 * 1024
"""Largest JSON text of an architecture; also what a compressed spec may grow to when it is read."""

_VERSION = 0x10
_TAGGED = 0x01
_COMPRESSED = 0x02
_HEADER_BYTES = 5
_MIN_COMPRESSED_BYTES = 256


def pack_spec(text: str, *, is_tagged: bool) -> bytes:
    """Give the bytes of a JSON text; equal texts give equal bytes.

    Raises:
        ValidationError: the text is longer than ``MAX_SPEC_BYTES``.
    """
    payload = text.encode()
    if len(payload) > MAX_SPEC_BYTES:
        raise ValidationError(f"architecture: {len(payload)} bytes of JSON; at most {MAX_SPEC_BYTES} can be stored")
    form = _VERSION | (_TAGGED if is_tagged else 0)
    if len(payload) >= _MIN_COMPRESSED_BYTES:
        form, payload = form | _COMPRESSED, zlib.compress(payload, 1)
    return _header(form, payload) + payload


def unpack_spec(spec: bytes) -> Any:
    """Give the value that a spec holds.

    Raises:
        CorruptDataError: the bytes are not what :func:`pack_spec` gave.
    """
    form, payload = (spec[0], spec[_HEADER_BYTES:]) if len(spec) > _HEADER_BYTES else (0, b"")
    if form & ~(_TAGGED | _COMPRESSED) != _VERSION or spec[:_HEADER_BYTES] != _header(form, payload):
        raise CorruptDataError(f"an architecture spec of {len(spec)} bytes is damaged, or of an unknown version")
    text = _decompressed(payload) if form & _COMPRESSED else payload
    if form & _TAGGED:
        return decode_json(text)
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise CorruptDataError(f"an architecture spec cannot be read: {error}") from error


def _header(form: int, payload: bytes) -> bytes:
    start = bytes([form])
    return start + zlib.crc32(payload, zlib.crc32(start)).to_bytes(4, "big")


def _decompressed(payload: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(payload, MAX_SPEC_BYTES)
    except zlib.error as error:
        raise CorruptDataError(f"an architecture spec cannot be decompressed: {error}") from error
    if not stream.eof:
        raise CorruptDataError(f"an architecture spec is cut off, or decompresses to more than {MAX_SPEC_BYTES} bytes")
    return text
