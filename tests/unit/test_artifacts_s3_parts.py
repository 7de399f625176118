"""How objects are cut into parts for S3."""

from typing import Any

import pytest

from morphml_ray.artifacts.checks import MAX_CHUNKS, MIN_CHUNK_BYTES
from morphml_ray.artifacts.s3.copying import Copier
from morphml_ray.artifacts.s3.parts import Part, split

MIB, GIB, TIB = 2**20, 2**30, 2**40
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_PART_BYTES = 5 * GIB


def parts_of_copy(size_bytes: int) -> list[Part]:
    bucket: Any = None  # it is not asked
    return Copier(bucket)._parts(size_bytes)


@pytest.mark.parametrize("size_bytes", [17 * MIB, 6 * GIB, 80 * GIB - 1, 80 * GIB + 1, 5 * TIB])
@pytest.mark.parametrize("cut", [split, parts_of_copy])
def test_lesson_29_no_size_exceeds_what_s3_takes(cut: Any, size_bytes: int) -> None:
    parts = cut(size_bytes)
    assert len(parts) <= MAX_CHUNKS
    assert max(part.size_bytes for part in parts) < MAX_PART_BYTES
    assert all(part.size_bytes >= MIN_CHUNK_BYTES for part in parts[:-1])
    assert [part.number for part in parts] == list(range(len(parts)))
    ends = [part.offset + part.size_bytes for part in parts]
    assert [part.offset for part in parts] == [0, *ends[:-1]]
    assert ends[-1] == size_bytes


@pytest.mark.parametrize(
    ("size_bytes", "first", "parts"), [(0, 0, 0), (1, 0, 1), (8 * MIB, 8 * MIB, 0), (9 * MIB, 8 * MIB, 1)]
)
def test_what_is_read_already_is_no_part(size_bytes: int, first: int, parts: int) -> None:
    found = split(size_bytes, first)
    assert len(found) == parts
    assert sum(part.size_bytes for part in found) == size_bytes - first
