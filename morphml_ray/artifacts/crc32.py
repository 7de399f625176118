"""CRC-32 of bytes that are read in parts, in any order.

The checksum of a whole follows from those of its parts (as zlib's ``crc32_combine`` has it), so parts can travel side
by side. Random damage goes unseen once in four billion times; it is no protection against intent.
"""

import functools
import zlib
from collections.abc import Iterable

from typing_extensions import Buffer

_POLYNOMIAL = 0xEDB88320  # of CRC-32, lowest power in the highest bit
_ONE = 1 << 31
_PREFIX = "crc32:"
_HEX_DIGITS = 8


def crc32(data: Buffer, start: int = 0) -> int:
    """Give the CRC-32 of ``data`` that follows on bytes whose CRC-32 is ``start``."""
    return zlib.crc32(data, start)


def combine(parts: Iterable[tuple[int, int]]) -> int:
    """Give the CRC-32 of a whole.

    Args:
        parts: for each part, in order, its CRC-32 and its size in bytes.
    """
    whole = 0
    for crc, size_bytes in parts:
        whole = _multiply(_shift(size_bytes), whole) ^ crc
    return whole


def checksum_text(crc: int) -> str:
    """Write a CRC-32 as a checksum: ``crc32:<8 hex>``."""
    return f"{_PREFIX}{crc:08x}"


def parse_checksum(text: str) -> int | None:
    """Read a checksum; None where it is none of ours."""
    digits = text.removeprefix(_PREFIX)
    if not text.startswith(_PREFIX) or len(digits) != _HEX_DIGITS:
        return None
    try:
        return int(digits, 16)
    except ValueError:
        return None


@functools.lru_cache(maxsize=256)
def _shift(size_bytes: int) -> int:
    """Give x to the power of the number of bits: what a CRC is multiplied with when so many bytes follow."""
    power, square = _ONE, _ONE >> 8  # x**0, and x**8: the bits of one byte
    while size_bytes:
        if size_bytes & 1:
            power = _multiply(square, power)
        square = _multiply(square, square)
        size_bytes >>= 1
    return power


def _multiply(a: int, b: int) -> int:
    """Multiply two polynomials modulo that of CRC-32."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product
