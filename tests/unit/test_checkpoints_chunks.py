"""Cutting and putting together: everything comes back, what did not change keeps its chunks, damage is noticed."""

import os
import pickle
import random
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from morphml_ray.checkpoints.chunks import INLINE, MESSAGE, SMALL_BYTES, Assembly, Content, cut, parts_of, placements
from morphml_ray.checkpoints.compression import choose_codec, digest_of, pays, restore, store
from morphml_ray.checkpoints.manifest import CHUNK_BYTES, INLINE_BYTES, Chunk, Region, State, Table
from morphml_ray.checkpoints.names import Codec
from morphml_ray.errors import CorruptDataError, ValidationError

MB = 1024 * 1024
SOURCE = memoryview(random.Random(1).randbytes(12 * MB))  # noqa: S311 - the same bytes each time
SIZES = st.sampled_from([0, 1, 100, 60_000, SMALL_BYTES - 1, SMALL_BYTES, MB, CHUNK_BYTES, CHUNK_BYTES + 1, 9 * MB])


def buffer(size: int, start: int = 0) -> memoryview:
    return SOURCE[start : start + size]


def chunk_of(content: Content, number: int) -> Chunk:
    piece = content.pieces[number]
    return Chunk(0, piece.digest, piece.codec, piece.raw_bytes, 1)


def state_of(content: Content) -> State:
    chunks = tuple(chunk_of(content, number) for number in range(len(content.pieces)))
    return State(
        is_pickle=content.is_pickle,
        message=content.message,
        table=Table(content.buffers, chunks),
        inline=content.inline,
    )


def digests(content: Content) -> set[bytes]:
    return {piece.digest for piece in content.pieces}


@given(message=SIZES, sizes=st.lists(SIZES, max_size=12), chance=st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_everything_comes_back_from_its_chunks_in_any_order(message: int, sizes: list[int], chance: Any) -> None:
    buffers = [buffer(size, number * 1000) for number, size in enumerate(sizes)]
    content = cut(buffer(message, 7), buffers, is_pickle=False)
    total = message + sum(sizes)
    assert (total <= INLINE_BYTES) == (len(content.inline) == total)
    assert len(content.inline) <= INLINE_BYTES
    state = state_of(content)
    assembly = Assembly(state)
    order = list(range(len(content.pieces)))
    chance.shuffle(order)
    for number in order:
        piece = content.pieces[number]
        assert 0 < piece.raw_bytes <= CHUNK_BYTES
        stored = store(piece.codec, parts_of(piece.slices, buffer(message, 7), buffers))
        assembly.add(number, restore(state.table.chunks[number], stored))
    assert assembly.message == buffer(message, 7)
    assert assembly.buffers == buffers


def test_a_large_buffer_shares_no_chunk() -> None:
    sizes = [100, 9 * MB, SMALL_BYTES, 200]
    content = cut(b"m", [buffer(size) for size in sizes], is_pickle=True, kinds=[None, ("<f4", (9, 2**18)), None, None])
    owners = [{one.buffer for one in piece.slices} for piece in content.pieces]
    assert owners == [{0, 3}, {1}, {1}, {1}, {2}]
    assert [piece.raw_bytes for piece in content.pieces] == [300, 4 * MB, 4 * MB, MB, SMALL_BYTES]
    assert content.message.chunk == INLINE
    assert content.buffers[1] == Region(9 * MB, 1, 0, "<f4", (9, 2**18))


def test_a_large_message_is_cut_and_a_small_one_stays_in_the_manifest() -> None:
    large = cut(buffer(5 * MB), [], is_pickle=False)
    assert [piece.slices[0].buffer for piece in large.pieces] == [MESSAGE, MESSAGE]
    small = cut(buffer(1000), [buffer(2 * MB)], is_pickle=False)
    assert small.inline == buffer(1000)


def test_what_did_not_change_keeps_its_chunks() -> None:
    chance = random.Random(3)  # noqa: S311 - the same arrays each time
    arrays = [chance.randbytes(chance.randint(20_000, 120_000)) for _ in range(300)]
    before = cut(b"m", [memoryview(array) for array in arrays], is_pickle=False)
    arrays[150] = chance.randbytes(50_000)
    del arrays[40]
    arrays.insert(220, chance.randbytes(70_000))
    after = cut(b"other", [memoryview(array) for array in arrays], is_pickle=False)
    shared = len(digests(before) & digests(after))
    assert len(before.pieces) >= 6
    assert shared >= len(before.pieces) - 6


def test_tiny_buffers_make_few_chunks() -> None:
    content = cut(b"", [buffer(100, number) for number in range(30_000)], is_pickle=False)
    assert len(content.pieces) <= 3


def test_a_checkpoint_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(ValidationError, match="too large"):
        cut(b"", [memoryview(b"")] * 1_000_001, is_pickle=False)


ONE = Chunk(0, bytes(32), Codec.RAW, 10, 10)


@pytest.mark.parametrize(
    ("message", "buffers", "chunks"),
    [
        (Region(3, -1, 0), [Region(10, 1, 0)], [ONE]),  # no such chunk
        (Region(3, -1, 0), [Region(10, 0, 1)], [ONE]),  # leaves it
        (Region(3, -1, 0), [Region(6, 0, 0), Region(4, 0, 5)], [ONE]),  # overlap
        (Region(3, -1, 0), [Region(9, 0, 0)], [ONE]),  # a byte of nobody
        (Region(3, -1, 0), [Region(10, 0, 0), Region(10, 0, 0)], [ONE, ONE]),  # twice, and one never
        (Region(2, -1, 0), [Region(11, -1, 2)], [ONE]),  # from the manifest into a chunk
        (Region(13, 0, 0), [], [ONE]),
        (Region(3, 0, 0), [Region(10, 0, 0)], [ONE]),  # bytes of the manifest that are nobody's
        (Region(2**62, 0, 0), [], [ONE]),
    ],
)
def test_lesson_37_regions_that_do_not_fit_are_damage(
    message: Region, buffers: list[Region], chunks: list[Chunk]
) -> None:
    state = State(is_pickle=False, message=message, inline=b"abc", table=Table(tuple(buffers), tuple(chunks)))
    with pytest.raises(CorruptDataError):
        placements(state)


@pytest.mark.parametrize("codec", list(Codec))
def test_lesson_37_a_damaged_or_truncated_chunk_is_refused(codec: Codec) -> None:
    raw = b"0123456789" * 30
    stored = store(codec, [raw[:50], memoryview(raw)[50:]])
    chunk = Chunk(0, digest_of([raw]), codec, len(raw), len(stored))
    assert restore(chunk, stored) == raw
    for size in range(len(stored)):
        with pytest.raises(CorruptDataError):
            restore(chunk, stored[:size])
    with pytest.raises(CorruptDataError):
        restore(chunk, stored + b"x")
    for position in range(len(stored)):
        damaged = bytearray(stored)
        damaged[position] ^= 0x10
        try:
            content = restore(chunk, bytes(damaged))
        except CorruptDataError:
            continue
        assert content == raw  # a bit of a frame that means nothing


def test_a_frame_takes_no_more_memory_than_its_chunk_says() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(64 * MB))
    chunk = Chunk(0, bytes(32), Codec.ZSTD, 1000, len(bomb))
    with pytest.raises(CorruptDataError, match="another size"):
        restore(chunk, bomb)
    stream = zstandard.ZstdCompressor().compressobj()
    unsized = stream.compress(bytes(64 * MB)) + stream.flush()
    with pytest.raises(CorruptDataError):
        restore(chunk, unsized)


def test_compression_is_used_where_it_pays() -> None:
    assert pays(1000, 900)
    assert not pays(1000, 901)
    assert choose_codec(memoryview(bytes(3 * MB))) is Codec.ZSTD
    assert choose_codec(memoryview(os.urandom(3 * MB))) is Codec.RAW
    assert choose_codec(memoryview(os.urandom(100))) is Codec.RAW
    content = cut(b"", [memoryview(bytes(2 * MB)), buffer(2 * MB)], is_pickle=False)
    assert [piece.codec for piece in content.pieces] == [Codec.ZSTD, Codec.RAW]


def test_a_chunk_of_an_impossible_size_is_damage() -> None:
    with pytest.raises(CorruptDataError):
        restore(replace(ONE, raw_bytes=11), b"0123456789")


def test_what_a_save_has_to_know_crosses_processes() -> None:
    content = cut(buffer(100), [buffer(2 * MB), buffer(300)], is_pickle=True, kinds=[("<f4", (2**19,)), None])
    assert pickle.loads(pickle.dumps(content)) == content  # noqa: S301 - it was pickled here
    assert pickle.loads(pickle.dumps(state_of(content))) == state_of(content)  # noqa: S301 - the same
