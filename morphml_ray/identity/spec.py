"""The bytes of an architecture: a format byte, a CRC-32, and JSON, compressed unless it is short.

The high half of the format byte is the version, 2. Bit 0 says that the JSON carries the tags of ``encode_json``, bit
1 that it is compressed by zlib and that its size comes first, as 4 bytes; bit 2 that it is ``[marks, value]``, where
the marks say which values are objects of a class (see ``marks.py``); bit 3 that it is a graph whose edges are tuples.
Numbers are big-endian; the checksum covers the format byte and everything after the checksum. Version 1, which is
still read, stated no size.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from morphml_ray.errors import CorruptDataError, ValidationError
from morphml_ray.identity.marks import Mark, put_marks, take_marks
from morphml_ray.model.plain import Plain, decode_json, encode_json

MAX_SPEC_BYTES = 16 * 1024 * 1024
"""Largest JSON text of an architecture. What it is read into takes at most some 25 times as much."""

_VERSION_1, _VERSION = 0x10, 0x20
_TAGGED, _COMPRESSED, _MARKED, _TUPLE_EDGES = 0x01, 0x02, 0x04, 0x08
_FORMS = frozenset((*range(_VERSION_1, _VERSION_1 + 4), *range(_VERSION + 1, _VERSION + 12, 2)))
_HEADER_BYTES = 5
_SIZE_BYTES = 4
_MIN_COMPRESSED_BYTES = 256
_MAX_OLD_BYTES = 64 * 1024 * 1024  # version 1 wrote up to so much
_MAX_OLD_ITEMS = MAX_SPEC_BYTES // 3  # as many as the densest text of today's size has: "[],[],..."


def pack_value(plain: Plain) -> bytes:
    """Give the bytes of a plain value; equal values of equal types give equal bytes.

    Raises:
        ValidationError: its JSON is longer than ``MAX_SPEC_BYTES``.
    """
    value, marks = take_marks(plain)
    return pack_json(encode_json(value).encode(), marks)


def pack_json(text: bytes, marks: Sequence[Mark] = (), *, has_tuple_edges: bool = False) -> bytes:
    """Give the bytes of a value that ``encode_json`` wrote.

    Args:
        text: the JSON.
        marks: where in the value objects of a class stand.
        has_tuple_edges: the value is a graph, and each of its edges, written as a list, was a tuple.

    Raises:
        ValidationError: the text is longer than ``MAX_SPEC_BYTES``.
    """
    form, payload = _VERSION | _TAGGED, text
    if has_tuple_edges:
        form |= _TUPLE_EDGES
    if marks:
        form, payload = form | _MARKED, b"[%b,%b]" % (msgspec.json.encode(marks), text)
    size = len(payload)
    if size > MAX_SPEC_BYTES:
        raise ValidationError(f"architecture: {size} bytes of JSON; at most {MAX_SPEC_BYTES} can be stored")
    if size >= _MIN_COMPRESSED_BYTES:
        form, payload = form | _COMPRESSED, size.to_bytes(_SIZE_BYTES, "big") + zlib.compress(payload, 1)
    return _header(form, payload) + payload


def unpack_spec(spec: bytes) -> Any:
    """Give the value that a spec holds.

    Raises:
        CorruptDataError: the bytes are not what :func:`pack_json` gave, or state more than ``MAX_SPEC_BYTES``.
    """
    form, payload = (spec[0], spec[_HEADER_BYTES:]) if len(spec) > _HEADER_BYTES else (0, b"")
    if form not in _FORMS or spec[:_HEADER_BYTES] != _header(form, payload):
        raise CorruptDataError(f"an architecture spec of {len(spec)} bytes is damaged, or of an unknown version")
    text = _text(form, payload)
    if form & _MARKED:
        return _marked_value(text)
    value = decode_json(text) if form & _TAGGED else _decoded(text, Any)
    return _with_tuple_edges(value) if form & _TUPLE_EDGES else value


def _with_tuple_edges(graph: Any) -> Any:
    edges = graph.get("edges") if isinstance(graph, dict) else None
    if not isinstance(edges, list) or not all(isinstance(edge, list) for edge in edges):
        raise CorruptDataError("an architecture spec is not the graph that it says it is")
    graph["edges"] = list(map(tuple, edges))
    return graph


def _marked_value(text: bytes) -> Any:
    marks, value = _decoded(text, tuple[list[Mark], msgspec.Raw])
    return put_marks(decode_json(bytes(value)), marks)


def _decoded(text: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise CorruptDataError(f"an architecture spec cannot be read: {error}") from error


def _header(form: int, payload: bytes) -> bytes:
    start = bytes([form])
    return start + zlib.crc32(payload, zlib.crc32(start)).to_bytes(4, "big")


def _text(form: int, payload: bytes) -> bytes:
    """Give the JSON text, once its size is known to be within its bound."""
    if not form & _VERSION:
        return _old_text(form, payload)
    size, data = len(payload), payload
    if form & _COMPRESSED:
        size, data = int.from_bytes(payload[:_SIZE_BYTES], "big"), payload[_SIZE_BYTES:]
    if not 0 < size <= MAX_SPEC_BYTES:
        raise CorruptDataError(f"an architecture spec states {size} bytes of JSON; at most {MAX_SPEC_BYTES} are read")
    text = _decompressed(data, size) if form & _COMPRESSED else data
    if len(text) != size:
        raise CorruptDataError(f"an architecture spec has {len(text)} bytes of JSON where it states {size}")
    return text


def _old_text(form: int, payload: bytes) -> bytes:
    text = _decompressed(payload, _MAX_OLD_BYTES) if form & _COMPRESSED else payload
    if len(text) > MAX_SPEC_BYTES and sum(map(text.count, (b",", b"[", b"{"))) > _MAX_OLD_ITEMS:
        raise CorruptDataError(f"an architecture spec of version 1 holds more than {_MAX_OLD_ITEMS} items")
    return text


def _decompressed(payload: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(payload, limit)
    except zlib.error as error:
        raise CorruptDataError(f"an architecture spec cannot be decompressed: {error}") from error
    if not stream.eof:
        raise CorruptDataError(f"an architecture spec is cut off, or decompresses to more than {limit} bytes")
    return text
