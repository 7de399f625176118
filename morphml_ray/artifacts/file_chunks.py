"""Files sent and fetched in chunks, by callers whose file system their actor does not see: a worker in a container."""

import os
from collections import deque
from pathlib import Path
from typing import Any

import ray

from morphml_ray.artifacts.actor.actor import ArtifactActor
from morphml_ray.artifacts.actor.file_proof import FileProof
from morphml_ray.artifacts.checks import CHUNK_BYTES, MAX_CHUNKS, WriteRequest
from morphml_ray.artifacts.contract import ArtifactBackend, ObjectInfo
from morphml_ray.artifacts.crc32 import checksum_text, crc32
from morphml_ray.artifacts.file_io import opened_source, read_blocks, replaced_target, write_all
from morphml_ray.artifacts.progress import Meter
from morphml_ray.artifacts.wire import Payload
from morphml_ray.errors import BackendUnavailable, ConflictError, CorruptDataError, NotFoundError
from morphml_ray.rpc.call import call
from morphml_ray.rpc.channel import Channel

IN_FLIGHT = 4
TURNS = 3


def upload_in_chunks(channel: Channel, path: Path, write: WriteRequest, meter: Meter) -> str:
    """Send a file; gives the key of the object.

    Raises:
        OSError: the file cannot be read.
        ConflictError: it changed meanwhile.
        BackendUnavailable: the actor was restarted again and again.
    """
    before = FileProof.of(path)
    for _ in range(TURNS):
        try:
            return _upload(channel, path, write, meter)
        except NotFoundError as error:  # an upload ends with its actor: Ray has restarted it
            lost = error
            if channel.wait(call(ArtifactActor.is_settled, write)):  # only its answer was lost
                return write.key
        except CorruptDataError as error:
            if before != FileProof.of(path):
                raise ConflictError(f"{path} changed while it was read") from error
            raise
    raise BackendUnavailable(f"the artifact actor was restarted while {path} was uploaded, {TURNS} times") from lost


def download_in_chunks(channel: Channel, key: str, path: Path, meter: Meter) -> None:
    """Fetch an object into a file, which appears when it is complete and verified.

    Raises:
        NotFoundError: there is no such object.
        CorruptDataError: its checksum differs.
        ConflictError: it was replaced while it was read, again and again.
        OSError: the file cannot be written.
    """
    for _ in range(TURNS):
        info = _head(channel, key)
        meter.total_bytes = info.size_bytes
        try:
            with replaced_target(path, sync=False) as fd:
                crc = _receive(channel, info, fd, meter)
                _compare(channel, info, crc)
        except ConflictError as error:
            replaced = error
        else:
            return
    raise replaced


def _upload(channel: Channel, path: Path, write: WriteRequest, meter: Meter) -> str:
    with opened_source(path) as (fd, size_bytes):
        if size_bytes <= CHUNK_BYTES:
            data = Payload(_read(fd, 0, size_bytes, path))
            key = channel.wait(call(ArtifactActor.put, write, data))
            meter.move_to(size_bytes)
            return key
        chunk_bytes = max(CHUNK_BYTES, -(-size_bytes // MAX_CHUNKS))
        crc = 0
        for block in read_blocks(fd, size_bytes):
            crc = crc32(block, crc)
        upload = channel.wait(call(ArtifactActor.begin_upload, write, chunk_bytes, checksum_text(crc)))
        try:
            in_flight: deque[tuple[ray.ObjectRef[Any], int]] = deque()
            for index, offset in enumerate(range(0, size_bytes, chunk_bytes)):
                _settle(channel, in_flight, IN_FLIGHT - 1, meter)
                end = min(offset + chunk_bytes, size_bytes)
                data = Payload(_read(fd, offset, end - offset, path))
                in_flight.append((channel.submit(call(ArtifactActor.upload_chunk, upload, index, data)), end))
            _settle(channel, in_flight, 0, meter)
            key = channel.wait(call(ArtifactActor.finish_upload, upload))
        except BaseException:
            channel.submit(call(ArtifactActor.look_up, ArtifactBackend.abort_upload, upload))
            raise
        return key


def _settle(channel: Channel, in_flight: "deque[tuple[ray.ObjectRef[Any], int]]", left: int, meter: Meter) -> None:
    """Wait until no more than ``left`` chunks are on their way."""
    while len(in_flight) > left:
        ref, end = in_flight.popleft()
        channel.result(ref)
        meter.move_to(end)


def _read(fd: int, offset: int, length: int, path: Path) -> bytes:
    data = os.pread(fd, length, offset)
    if len(data) != length:
        raise ConflictError(f"{path} was cut off while it was read")
    return data


def _head(channel: Channel, key: str) -> ObjectInfo:
    info = channel.wait(call(ArtifactActor.look_up, ArtifactBackend.head, key))
    if info is None:
        raise NotFoundError(f"{channel.place}: there is no object {key}")
    return info


def _receive(channel: Channel, info: ObjectInfo, fd: int, meter: Meter) -> int:
    """Write all chunks of an object to a file; gives their CRC-32."""
    offsets = range(0, info.size_bytes, CHUNK_BYTES)
    in_flight: deque[ray.ObjectRef[Any]] = deque()
    crc = 0
    for number, offset in enumerate(offsets):
        while len(in_flight) < IN_FLIGHT and number + len(in_flight) < len(offsets):
            start = offsets[number + len(in_flight)]
            in_flight.append(channel.submit(call(ArtifactActor.get, info.key, start, CHUNK_BYTES, info.version)))
        data = channel.result(in_flight.popleft())
        if len(data) != min(CHUNK_BYTES, info.size_bytes - offset):
            raise ConflictError(f"{channel.place}: {info.key} was replaced while it was read")
        write_all(fd, memoryview(data), offset)
        crc = crc32(data, crc)
        meter.move_to(offset + len(data))
    return crc


def _compare(channel: Channel, info: ObjectInfo, crc: int) -> None:
    if info.checksum is not None and info.checksum == checksum_text(crc):
        return
    if _head(channel, info.key) != info:
        raise ConflictError(f"{channel.place}: {info.key} was replaced while it was read")
    if info.checksum is not None:
        raise CorruptDataError(f"{channel.place}: {info.key} is damaged: its checksum differs")
