"""The bytes around a value: what it is, which format, and a checksum or signature over everything before it.

::

    plain            C1 "mr" version "p"                    message                        checksum (8)
    plain, buffers   C1 "mr" version "P"            layout  message  (padding buffer)...   checksum (8)
    pickled          C1 "mr" version "S" key id (4) layout  pickle   (padding buffer)...   signature (32)

The layout is the size of the message, the number of buffers (u64, u32) and the size of each (u64), little endian.
Buffers begin at multiples of 64 bytes, so that arrays are aligned in place. The first byte, C1, is one that msgpack
never uses, no text in UTF-8 has, and no pickle begins with.

The checksum is BLAKE3 cut to 8 bytes; it guards against damage, not against people, who may write plain data as they
please: reading it runs no code. The signature is BLAKE3 with the key, over the same bytes. Where a value is bound to
a place, the key is derived from the text that names the place (BLAKE3 of it with the key): nothing of it is stored.
"""

import re
import struct
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from blake3 import blake3

from morphml_ray.errors import CorruptDataError, UntrustedDataError
from morphml_ray.serde.signing_key import SIGNATURE_BYTES, SigningKey

VERSION = 1
_MAGIC = b"\xc1mr"
_PREFIX = _MAGIC + bytes([VERSION])
_PLAIN, _PLAIN_WITH_BUFFERS, _SIGNED = b"p"[0], b"P"[0], b"S"[0]
_PLAIN_PREFIX = _PREFIX + bytes([_PLAIN])
_PREFIX_BYTES = len(_PLAIN_PREFIX)
_CHECKSUM_BYTES = 8
_KEY_ID_BYTES = 4
_COUNTS = struct.Struct("<QI")
_ALIGNMENT = 64
# Pickles since protocol 2 begin with 80; older ones that name a class begin, after a mark, with "c" or "i" and it.
_PICKLE = re.compile(rb"\x80|\(*[ci][\w.]+\n[\w.]+\n")

Part = bytes | memoryview


class Envelope(NamedTuple):
    """What an envelope held; a pickle only if its signature was verified.

    Attributes:
        is_pickle: whether ``message`` is a pickle, else it is msgpack.
        message: the value without its large binary data.
        buffers: the large binary data.
    """

    is_pickle: bool
    message: memoryview
    buffers: Sequence[memoryview]


def seal_plain(message: bytes, buffers: Sequence[memoryview]) -> list[Part]:
    """Put plain data and its checksum into an envelope, given as parts to be written one after the other."""
    if not buffers:
        covered = _PLAIN_PREFIX + message
        return [covered + blake3(covered).digest(_CHECKSUM_BYTES)]
    parts = _lay_out(_PREFIX + bytes([_PLAIN_WITH_BUFFERS]), message, buffers)
    hasher = blake3()
    for part in parts:
        hasher.update(part)
    return [*parts, hasher.digest(_CHECKSUM_BYTES)]


def seal_pickle(pickled: bytes, buffers: Sequence[memoryview], key: SigningKey, bound_to: str) -> list[Part]:
    """Put a pickle and its signature into an envelope, given as parts to be written one after the other."""
    parts = _lay_out(_PREFIX + bytes([_SIGNED]) + key.id, pickled, buffers)
    return [*parts, key.sign(parts, bound_to)]


def open_envelope(data: memoryview, key: SigningKey, bound_to: str) -> Envelope:
    """Check an envelope and take it apart.

    Args:
        data: contiguous bytes.
        key: what a pickle must have been signed with.
        bound_to: the place that it must have been signed for.

    Returns:
        Views of ``data``.

    Raises:
        UntrustedDataError: a pickle without a signature by ``key`` for this place.
        CorruptDataError: damaged bytes, a newer format, or no envelope at all.
    """
    if len(data) <= _PREFIX_BYTES or data[: len(_PREFIX)] != _PREFIX:
        _refuse_foreign(data)
    kind = data[_PREFIX_BYTES - 1]
    if kind == _SIGNED:
        _verify(data, key, bound_to)
        message, buffers = _take_apart(data[:-SIGNATURE_BYTES], _PREFIX_BYTES + _KEY_ID_BYTES)
        return Envelope(is_pickle=True, message=message, buffers=buffers)
    covered = data[:-_CHECKSUM_BYTES]
    if blake3(covered).digest(_CHECKSUM_BYTES) != data[-_CHECKSUM_BYTES:]:
        raise CorruptDataError("The stored value is damaged or cut off: its checksum does not fit its bytes")
    if kind == _PLAIN:
        return Envelope(is_pickle=False, message=covered[_PREFIX_BYTES:], buffers=())
    if kind == _PLAIN_WITH_BUFFERS:
        message, buffers = _take_apart(covered, _PREFIX_BYTES)
        return Envelope(is_pickle=False, message=message, buffers=buffers)
    raise CorruptDataError("The stored value is damaged: its envelope is of no known kind")


def _verify(data: memoryview, key: SigningKey, bound_to: str) -> None:
    """Refuse a pickle that is not signed with this process's key for this place."""
    covered, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    if key.verifies(covered, signature, bound_to):
        return
    key_id = bytes(covered[_PREFIX_BYTES : _PREFIX_BYTES + _KEY_ID_BYTES])
    if len(key_id) == _KEY_ID_BYTES and key_id != key.id:
        cause = f"it names the signing key {key_id.hex()}, and this process has {key.id.hex()}"
    else:
        moved = "it was signed for another place, or " if bound_to else ""
        cause = f"{moved}it was changed or cut off after it was signed, or it was forged"
    raise UntrustedDataError(
        f"A pickled value was refused, unread: {cause}. If another node of yours wrote it, give all nodes the same "
        "key: set MORPHML_SIGNING_KEY on each of them, or copy ~/.morphml_ray/signing.key"
    )


def _refuse_foreign(data: memoryview) -> NoReturn:
    """Say what bytes are that are no envelope of this version."""
    head = bytes(data[:512])
    if _PICKLE.match(head):
        raise UntrustedDataError(
            "A pickle without a signature was refused, unread: reading it could run any code. It was not written "
            "by morphml_ray; store the value again through morphml_ray"
        )
    if head.startswith(_MAGIC) and len(head) > len(_MAGIC) and head[len(_MAGIC)] != VERSION:
        raise CorruptDataError(
            f"The stored value has format {head[len(_MAGIC)]}, and this version of morphml_ray reads format "
            f"{VERSION}: upgrade morphml_ray to the version that wrote it"
        )
    raise CorruptDataError("The stored bytes are no value of morphml_ray, or are cut off")


def _lay_out(head: bytes, message: bytes, buffers: Sequence[memoryview]) -> list[Part]:
    sizes = struct.pack(f"<{len(buffers)}Q", *(buffer.nbytes for buffer in buffers))
    parts: list[Part] = [head + _COUNTS.pack(len(message), len(buffers)) + sizes + message]
    position = len(parts[0])
    for buffer in buffers:
        padding = -position % _ALIGNMENT
        parts += [bytes(padding), buffer]
        position += padding + buffer.nbytes
    return parts


def _take_apart(covered: memoryview, position: int) -> tuple[memoryview, list[memoryview]]:
    """Find message and buffers; sizes that do not add up to the bytes that are there are refused."""
    try:
        message_bytes, count = _COUNTS.unpack_from(covered, position)
        sizes = struct.unpack_from(f"<{count}Q", covered, position + _COUNTS.size)
    except struct.error as error:
        raise CorruptDataError("The stored value is damaged: its table of buffers is cut off") from error
    start = position + _COUNTS.size + struct.calcsize(f"<{count}Q")
    end = start + message_bytes
    message = covered[start:end]
    buffers = []
    for size in sizes:
        start = end + -end % _ALIGNMENT
        end = start + size
        buffers.append(covered[start:end])
    if end != len(covered):
        raise CorruptDataError("The stored value is damaged: its sizes do not add up to its bytes")
    return message, buffers
