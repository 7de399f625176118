"""The content of a chunk to the bytes of its object and back, checked."""

from collections.abc import Sequence

import zstandard
from blake3 import blake3

from morphml_ray.checkpoints.manifest import CHUNK_BYTES, Chunk
from morphml_ray.checkpoints.names import Codec
from morphml_ray.errors import CorruptDataError

_LEVEL = 1  # some 500 MB/s a core; higher levels win little on arrays of floats
_SAMPLE_BYTES = 64 * 1024
_SAMPLES = 3
_PAYING_SHARE = 0.9
# What reading a chunk may take beside the content; frames of ours have windows of at most their content.
_MAX_WINDOW_BYTES = 2 * CHUNK_BYTES


def pays(sample_raw: int, sample_compressed: int) -> bool:
    """Whether a sample became so much smaller that compressing all is worth its time, now and on each load."""
    return sample_compressed <= _PAYING_SHARE * sample_raw


def choose_codec(data: memoryview) -> Codec:
    """Choose how to store data, by samples from its beginning, middle and end."""
    if data.nbytes <= _SAMPLES * _SAMPLE_BYTES:
        samples = [data]
    else:
        step = (data.nbytes - _SAMPLE_BYTES) // (_SAMPLES - 1)
        samples = [data[start : start + _SAMPLE_BYTES] for start in range(0, step * _SAMPLES, step)]
    raw = sum(sample.nbytes for sample in samples)
    compressed = sum(len(store(Codec.ZSTD, [sample])) for sample in samples)
    return Codec.ZSTD if pays(raw, compressed) else Codec.RAW


def digest_of(parts: Sequence[bytes | memoryview]) -> bytes:
    """Give the BLAKE3 of content, read one part after the other."""
    hasher = blake3()
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def store(codec: Codec, parts: Sequence[bytes | memoryview]) -> bytes:
    """Give the bytes of the object that holds this content."""
    if codec is Codec.RAW:
        return b"".join(parts)
    # A compressor is not for several threads, and costs little.
    size = sum(memoryview(part).nbytes for part in parts)
    stream = zstandard.ZstdCompressor(level=_LEVEL).compressobj(size=size)
    return b"".join([*(stream.compress(part) for part in parts), stream.flush()])


def restore(chunk: Chunk, stored: bytes | memoryview) -> bytes | memoryview:
    """Give the content of a chunk from the bytes of its object.

    Memory is taken for as much as the chunk is said to hold, whatever the bytes claim.

    Raises:
        CorruptDataError: it is not the content that the chunk names.
    """
    content = stored if chunk.codec is Codec.RAW else _decompress(chunk, stored)
    if len(content) != chunk.raw_bytes:
        raise CorruptDataError(f"{_named(chunk)} is cut off or damaged: {len(content)} bytes of {chunk.raw_bytes}")
    if digest_of([content]) != chunk.digest:
        raise CorruptDataError(f"{_named(chunk)} is damaged: its content has another digest")
    return content


def _decompress(chunk: Chunk, stored: bytes | memoryview) -> bytes:
    try:
        if zstandard.get_frame_parameters(stored).content_size != chunk.raw_bytes:
            raise CorruptDataError(f"{_named(chunk)} is damaged: its frame claims another size")
        reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        return reader.decompress(stored, max_output_size=chunk.raw_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptDataError(f"{_named(chunk)} is damaged: it cannot be decompressed ({error})") from error


def _named(chunk: Chunk) -> str:
    return f"The chunk {chunk.digest.hex()[:16]}... of era {chunk.era}"
