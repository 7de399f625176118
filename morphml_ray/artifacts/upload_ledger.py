"""Uploads in chunks, as all artifact backends keep them in mind."""

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from morphml_ray.artifacts.checks import MAX_CHUNKS
from morphml_ray.artifacts.contract import ObjectInfo, UploadId
from morphml_ray.artifacts.crc32 import checksum_text, combine, parse_checksum
from morphml_ray.errors import CorruptDataError, NotFoundError, ValidationError

_REMEMBERED = 1000

State = TypeVar("State")


class ChunkLedger:
    """What arrived of one object; thread-safe.

    Args:
        chunk_bytes: how large each but the last is.
        checksum: of the whole, or None.

    Raises:
        ValidationError: the checksum is none of ours.
    """

    def __init__(self, chunk_bytes: int, checksum: str | None) -> None:
        self.chunk_bytes = chunk_bytes
        self.stated_crc = None if checksum is None else parse_checksum(checksum)
        if checksum is not None and self.stated_crc is None:
            raise ValidationError(f"checksum={checksum!r} must look like crc32:0123abcd")
        self._arrived: dict[int, tuple[int, int]] = {}

    def check_chunk(self, index: int, size_bytes: int) -> None:
        """Check a chunk before it is stored: a longer one would reach into the next.

        Raises:
            ValidationError: its number is none, or it is too long.
        """
        if not 0 <= index < MAX_CHUNKS:
            raise ValidationError(f"chunk {index}: their numbers are from 0 to {MAX_CHUNKS - 1}; make chunks larger")
        if size_bytes > self.chunk_bytes:
            raise ValidationError(f"chunk {index} has {size_bytes} bytes: chunk_bytes is {self.chunk_bytes}")

    def add(self, index: int, crc: int, size_bytes: int) -> None:
        """Note a chunk that was stored."""
        self._arrived[index] = (crc, size_bytes)

    def check_whole(self) -> tuple[int, int]:
        """Check that all is there and as announced.

        Returns:
            CRC-32 and size of the whole.

        Raises:
            ValidationError: a chunk is missing or has the wrong size.
            CorruptDataError: the checksum differs.
        """
        parts = [self._arrived[index] for index in sorted(self._arrived)]
        if sorted(self._arrived) != list(range(len(parts))):
            missing = next(index for index in range(MAX_CHUNKS) if index not in self._arrived)
            raise ValidationError(f"chunk {missing} of the upload is missing")
        sizes = [size_bytes for _, size_bytes in parts]
        if any(size != self.chunk_bytes for size in sizes[:-1]):
            raise ValidationError(f"all chunks but the last have {self.chunk_bytes} bytes")
        crc = combine(parts)
        if self.stated_crc is not None and crc != self.stated_crc:
            raise CorruptDataError(
                f"what arrived has the checksum {checksum_text(crc)}, not {checksum_text(self.stated_crc)}"
            )
        return crc, sum(sizes)


class UploadLedger(Generic[State]):
    """The uploads that a backend has open; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[UploadId, tuple[State, threading.Lock]] = {}
        self._used_at: dict[UploadId, float] = {}
        self._finished: OrderedDict[UploadId, ObjectInfo] = OrderedDict()

    def add(self, state: State) -> UploadId:
        """Open one."""
        upload = uuid.uuid4().hex
        with self._lock:
            self._open[upload] = (state, threading.Lock())
            self._used_at[upload] = time.monotonic()
        return upload

    def get(self, upload: UploadId) -> State:
        """Find what is open.

        Raises:
            NotFoundError: nothing is.
        """
        with self._lock:
            if upload not in self._open:
                raise NotFoundError(f"there is no upload {upload}: it was finished or aborted, or its actor restarted")
            self._used_at[upload] = time.monotonic()
            return self._open[upload][0]

    def finish(self, upload: UploadId, complete: Callable[[State], ObjectInfo]) -> ObjectInfo:
        """Complete an upload once, whoever asks how often; the answer of the first is that of all.

        Raises:
            NotFoundError: there is no such upload.
        """
        with self._lock:
            turn = self._open[upload][1] if upload in self._open else threading.Lock()
        with turn:
            if upload in self._finished:
                return self._finished[upload]
            info = complete(self.get(upload))
            with self._lock:
                self._forget(upload)
                self._finished[upload] = info
                if len(self._finished) > _REMEMBERED:
                    self._finished.popitem(last=False)
            return info

    def pop(self, upload: UploadId) -> State | None:
        """Forget an upload; None where there is none."""
        with self._lock:
            return self._forget(upload)

    def pop_unused(self, unused_s: float) -> list[State]:
        """Forget all to which nothing was added for so long; 0 forgets all."""
        limit = time.monotonic() - unused_s
        with self._lock:
            old = [upload for upload, used_at in self._used_at.items() if used_at <= limit]
            return [state for state in map(self._forget, old) if state is not None]

    def _forget(self, upload: UploadId) -> State | None:
        self._used_at.pop(upload, None)
        return self._open.pop(upload, (None, None))[0]
