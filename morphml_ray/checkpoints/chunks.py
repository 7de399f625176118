"""How a message and its buffers are cut into chunks, and how they are put together again.

Content is named by what it is, so what did not change since the last checkpoint is found there and not stored again.
That asks for cuts that stay where they are:

- A large buffer (256 KiB and more) is cut every 4 MiB, and shares no chunk with another.
- Small ones are packed together in their order. A pack of 1 MiB ends after the next buffer whose beginning says so,
  at 4 MiB in any case. One that is new, gone or of another size moves the ends of the packs near it, not all that
  follow.
- The message changes each time. A small one stands in the manifest.
- Where everything is at most 1 MiB, all of it does: such a checkpoint is one single object.

Nothing here copies large data: a plan says which bytes of which buffer make a chunk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from blake3 import blake3
from msgspec.structs import replace

from morphml_ray.checkpoints.compression import choose_codec, digest_of
from morphml_ray.checkpoints.manifest import CHUNK_BYTES, INLINE_BYTES, MAX_CHUNKS, MAX_REGIONS, Region, State
from morphml_ray.checkpoints.names import Codec
from morphml_ray.errors import CorruptDataError, ValidationError

SMALL_BYTES = 256 * 1024
"""A buffer below this is packed together with others, a message stands in the manifest."""

MESSAGE = -1
"""Stands for the message where buffers have numbers."""

INLINE = -1
"""Stands for the manifest where chunks have numbers."""

_MIN_PACK_BYTES = 1024 * 1024
_FINGERPRINT_BYTES = 1024
_PACK_ENDS = 8  # one small buffer of so many may end a pack

ArrayKind: TypeAlias = tuple[str, tuple[int, ...]]
"""dtype and shape of a buffer that is an array."""


class Slice(NamedTuple):
    """Bytes of the message or of a buffer.

    Attributes:
        buffer: its number, or ``MESSAGE``.
        start: of the bytes in it.
        stop: behind the last one.
    """

    buffer: int
    start: int
    stop: int


class Piece(NamedTuple):
    """What a chunk will hold.

    Attributes:
        digest: BLAKE3 of it.
        raw_bytes: its size.
        codec: how it is to be stored, where it is not stored yet.
        slices: the bytes that it is made of, in their order.
    """

    digest: bytes
    raw_bytes: int
    codec: Codec
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Content:
    """A checkpoint's content, cut: all that a save has to know of it beside the bytes.

    Attributes:
        is_pickle: whether the message is a pickle.
        message: where it goes.
        buffers: where they go.
        inline: what stands in the manifest.
        pieces: the chunks, in their order.
    """

    is_pickle: bool
    message: Region
    buffers: tuple[Region, ...]
    inline: bytes
    pieces: tuple[Piece, ...]


class _Cuts:
    """Gathers slices into chunks."""

    def __init__(self) -> None:
        self.inline: list[Slice] = []
        self.inline_bytes = 0
        self.chunks: list[list[Slice]] = []
        self._pack_bytes = 0
        self._pack: int | None = None

    def put_inline(self, buffer: int, size: int) -> Region:
        region = Region(size, INLINE, self.inline_bytes)
        self.inline.append(Slice(buffer, 0, size))
        self.inline_bytes += size
        return region

    def cut(self, buffer: int, size: int) -> Region:
        region = Region(size, len(self.chunks), 0)
        self.chunks += [[Slice(buffer, start, min(start + CHUNK_BYTES, size))] for start in range(0, size, CHUNK_BYTES)]
        return region

    def pack(self, buffer: int, data: memoryview) -> Region:
        if not data.nbytes:
            return Region(0, INLINE, 0)
        if self._pack is None or self._pack_bytes + data.nbytes > CHUNK_BYTES:
            self._pack, self._pack_bytes = len(self.chunks), 0
            self.chunks.append([])
        region = Region(data.nbytes, self._pack, self._pack_bytes)
        self.chunks[self._pack].append(Slice(buffer, 0, data.nbytes))
        self._pack_bytes += data.nbytes
        if self._pack_bytes >= _MIN_PACK_BYTES and _may_end_pack(data):
            self._pack = None
        return region


def cut(
    message: bytes | memoryview,
    buffers: Sequence[memoryview],
    *,
    is_pickle: bool,
    kinds: Sequence[ArrayKind | None] = (),
) -> Content:
    """Cut a message and its buffers, and name what must be stored.

    Reads everything once, for the digests; samples are compressed to choose codecs.

    Args:
        message: plain msgpack or a pickle.
        buffers: what it refers to, contiguous bytes. They must not change until the checkpoint is committed.
        is_pickle: which of both the message is.
        kinds: dtype and shape of each buffer that is an array, None for others; empty: nothing is known.

    Raises:
        ValidationError: there are more buffers or bytes than a checkpoint takes.
    """
    _check_bounds(message, buffers)
    whole = memoryview(message).cast("B") if len(message) else memoryview(b"")
    cuts = _Cuts()
    is_inline = whole.nbytes + sum(buffer.nbytes for buffer in buffers) <= INLINE_BYTES
    is_small = is_inline or whole.nbytes < SMALL_BYTES
    place = cuts.put_inline(MESSAGE, whole.nbytes) if is_small else cuts.cut(MESSAGE, whole.nbytes)
    regions = []
    for number, buffer in enumerate(buffers):
        if is_inline:
            regions.append(cuts.put_inline(number, buffer.nbytes))
        elif buffer.nbytes < SMALL_BYTES:
            regions.append(cuts.pack(number, buffer))
        else:
            regions.append(cuts.cut(number, buffer.nbytes))
    if kinds:
        regions = [_typed(region, kind) for region, kind in zip(regions, kinds, strict=True)]
    inline = b"".join(parts_of(cuts.inline, whole, buffers))
    return Content(is_pickle, place, tuple(regions), inline, tuple(_pieces(cuts.chunks, whole, buffers)))


def parts_of(slices: Sequence[Slice], message: bytes | memoryview, buffers: Sequence[memoryview]) -> list[memoryview]:
    """Give the bytes of a piece, as views of the message and the buffers."""
    return [
        (memoryview(message) if buffer == MESSAGE else buffers[buffer])[start:stop] for buffer, start, stop in slices
    ]


class Placement(NamedTuple):
    """Where bytes of a chunk go.

    Attributes:
        buffer: number of the buffer, or ``MESSAGE``.
        start: where in it.
        offset: of the bytes in the chunk.
        size_bytes: how many.
    """

    buffer: int
    start: int
    offset: int
    size_bytes: int


def placements(state: State) -> dict[int, tuple[Placement, ...]]:
    """Say where the bytes of each chunk go, before any memory is taken for them.

    Args:
        state: with its table.

    Returns:
        Of each chunk by its number, and of the bytes in the manifest (``INLINE``), the placements in their order:
        together they are the chunk exactly.

    Raises:
        CorruptDataError: regions and chunks do not fit together.
    """
    sizes = {INLINE: len(state.inline)} | {number: chunk.raw_bytes for number, chunk in enumerate(state.table.chunks)}
    regions = {MESSAGE: state.message} | dict(enumerate(state.table.buffers))
    if sum(sizes.values()) != sum(region.size_bytes for region in regions.values()):
        raise CorruptDataError("A checkpoint is damaged: its buffers do not have the sizes of its chunks")
    found: dict[int, list[Placement]] = {number: [] for number in sizes}
    for buffer, region in regions.items():
        for chunk, placement in _walk(buffer, region, sizes):
            found[chunk].append(placement)
    for number, there in found.items():
        there.sort(key=lambda placement: placement.offset)
        _check_tiled(there, sizes[number])
    return {number: tuple(there) for number, there in found.items()}


class Assembly:
    """Puts a checkpoint together from its chunks, in any order.

    Attributes:
        message: the message, complete when all chunks were added.
        buffers: the buffers; private memory that may be changed.
    """

    def __init__(self, state: State) -> None:
        """Take the memory.

        Args:
            state: with its table.

        Raises:
            CorruptDataError: regions and chunks do not fit together.
        """
        self._placements = placements(state)
        self.message = bytearray(state.message.size_bytes)
        self.buffers = [bytearray(region.size_bytes) for region in state.table.buffers]
        self.add(INLINE, state.inline)

    def add(self, number: int, content: bytes | memoryview) -> None:
        """Put the verified content of a chunk where it goes."""
        view = memoryview(content)
        for buffer, start, offset, size in self._placements[number]:
            target = self.message if buffer == MESSAGE else self.buffers[buffer]
            target[start : start + size] = view[offset : offset + size]


def _walk(buffer: int, region: Region, sizes: dict[int, int]) -> Iterator[tuple[int, Placement]]:
    chunk, offset, start = region.chunk, region.offset, 0
    while start < region.size_bytes:
        size = min(region.size_bytes - start, sizes.get(chunk, 0) - offset)
        if size <= 0 or (chunk == INLINE and size < region.size_bytes):
            raise CorruptDataError("A checkpoint is damaged: a buffer leaves its chunks")
        yield chunk, Placement(buffer, start, offset, size)
        chunk, offset, start = chunk + 1, 0, start + size


def _check_tiled(there: Sequence[Placement], size: int) -> None:
    end = 0
    for placement in there:
        if placement.offset != end:
            raise CorruptDataError("A checkpoint is damaged: buffers overlap, or leave gaps")
        end += placement.size_bytes
    if end != size:
        raise CorruptDataError("A checkpoint is damaged: a chunk has bytes of no buffer")


def _pieces(chunks: Sequence[Sequence[Slice]], message: memoryview, buffers: Sequence[memoryview]) -> Iterator[Piece]:
    """Name chunks; a buffer that is cut is sampled once, a pack by its first 4 MiB, which is all of it."""
    codec, sampled = Codec.RAW, None
    for slices in chunks:
        parts = parts_of(slices, message, buffers)
        owner = slices[0].buffer if len(slices) == 1 else None
        if owner is None or owner != sampled:
            whole = b"".join(parts) if owner is None else (message if owner == MESSAGE else buffers[owner])
            codec, sampled = choose_codec(memoryview(whole)), owner
        yield Piece(digest_of(parts), sum(part.nbytes for part in parts), codec, tuple(slices))


def _may_end_pack(data: memoryview) -> bool:
    """Decide by the beginning of a buffer, so that the same buffers end packs in every checkpoint."""
    return blake3(data[:_FINGERPRINT_BYTES]).digest(1)[0] % _PACK_ENDS == 0


def _typed(region: Region, kind: ArrayKind | None) -> Region:
    return region if kind is None else replace(region, dtype=kind[0], shape=kind[1])


def _check_bounds(message: bytes | memoryview, buffers: Sequence[memoryview]) -> None:
    chunks = sum(-(-buffer.nbytes // CHUNK_BYTES) for buffer in buffers) + -(-len(message) // CHUNK_BYTES)
    if len(buffers) > MAX_REGIONS or chunks > MAX_CHUNKS:
        raise ValidationError(
            f"a checkpoint of {len(buffers)} buffers and some {chunks} chunks of 4 MiB is too large: at most "
            f"{MAX_REGIONS} and {MAX_CHUNKS}"
        )
