import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from morphml_ray.artifacts.crc32 import checksum_text, combine, crc32, parse_checksum


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_the_whole_follows_from_its_parts(parts: list[bytes]) -> None:
    assert combine((crc32(part), len(part)) for part in parts) == zlib.crc32(b"".join(parts))


@pytest.mark.parametrize("size_bytes", [1, 255, 256, 65_537, 8 * 1024 * 1024])
def test_the_whole_follows_from_large_parts(size_bytes: int) -> None:
    parts = [bytes([number]) * size_bytes for number in (0, 1, 255)]
    assert combine((crc32(part), size_bytes) for part in parts) == zlib.crc32(b"".join(parts))


def test_checksums_are_written_and_read() -> None:
    # The check value of CRC-32/ISO-HDLC in the catalogue of parametrised CRC algorithms.
    assert checksum_text(crc32(b"123456789")) == "crc32:cbf43926"
    assert parse_checksum("crc32:0000000a") == 10
    for text in ("", "crc32:", "crc32:123", "crc32:xxxxxxxx", "sha256:12345678", "12345678"):
        assert parse_checksum(text) is None
