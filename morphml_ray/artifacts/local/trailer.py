"""What stands behind the data in an object's file: metadata and checksum, so that both appear with the data at once.

A file is: the data; a JSON object; 16 bytes that hold a mark, the size and the CRC-32 of the JSON.
"""

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from morphml_ray.artifacts.contract import ObjectInfo
from morphml_ray.artifacts.crc32 import checksum_text, crc32
from morphml_ray.errors import CorruptDataError, ValidationError

_MARK = b"mrayobj1"
_END = struct.Struct(">8sII")
_MAX_JSON_BYTES = 64 * 1024
_FIRST_READ_BYTES = 1024
DEFAULT_CONTENT_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class Trailer:
    """What is kept beside the data.

    Attributes:
        metadata: as given.
        content_type: as given, or the default.
        crc: CRC-32 of the data.
        write_id: what its writer called this write.
    """

    metadata: Mapping[str, str]
    content_type: str | None
    crc: int
    write_id: str

    def encode(self) -> bytes:
        """Give the bytes that follow the data.

        Raises:
            ValidationError: the metadata are too large.
        """
        fields = {
            "metadata": dict(self.metadata),
            "content_type": self.content_type or DEFAULT_CONTENT_TYPE,
            "crc32": self.crc,
            "write_id": self.write_id,
        }
        text = json.dumps(fields, separators=(",", ":")).encode()
        if len(text) > _MAX_JSON_BYTES:
            raise ValidationError(f"the metadata have {len(text)} bytes, of {_MAX_JSON_BYTES} at most")
        return text + _END.pack(_MARK, len(text), crc32(text))


@dataclass(frozen=True)
class StoredFile:
    """An object's file, opened.

    Attributes:
        fd: its descriptor; whoever opened it closes it.
        size_bytes: of the data.
        modified_at: when it was written, aware UTC.
        trailer: what stands behind the data.
    """

    fd: int
    size_bytes: int
    modified_at: datetime
    trailer: Trailer

    @property
    def version(self) -> str:
        """What tells it from others under its key.

        A write that is repeated keeps its id; the file that it sends may have changed meanwhile.
        """
        return f"{self.trailer.write_id}-{self.trailer.crc:08x}"

    def info(self, key: str) -> ObjectInfo:
        """Describe the object under its key."""
        return ObjectInfo(
            key,
            self.size_bytes,
            self.modified_at,
            self.trailer.content_type,
            dict(self.trailer.metadata),
            checksum_text(self.trailer.crc),
            self.version,
            self.trailer.write_id,
        )


def read_trailer(fd: int, name: str) -> StoredFile:
    """Read what stands behind the data.

    Args:
        fd: the file.
        name: what to call it in a message.

    Raises:
        CorruptDataError: the file is cut off, or none of ours.
    """
    status = os.fstat(fd)
    tail = os.pread(fd, _FIRST_READ_BYTES, max(0, status.st_size - _FIRST_READ_BYTES))
    text = _cut_json(fd, tail, status.st_size)
    trailer = None if text is None else _parse(text)
    if text is None or trailer is None:
        raise CorruptDataError(
            f"{name} is damaged: it is cut off, or its metadata are overwritten, or something else put it there"
        )
    return StoredFile(fd, status.st_size - _END.size - len(text), modified_at(status), trailer)


def modified_at(status: os.stat_result) -> datetime:
    """Tell when a file was written, aware UTC; the epoch where its file system says what no calendar has."""
    try:
        return datetime.fromtimestamp(status.st_mtime, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, timezone.utc)


def _parse(text: bytes) -> Trailer | None:
    """Read the fields; None where they are not ours."""
    try:
        fields = json.loads(text)
        trailer = Trailer(fields["metadata"], fields["content_type"], fields["crc32"], fields["write_id"])
        texts = [*trailer.metadata, *trailer.metadata.values(), trailer.content_type, trailer.write_id]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    is_ours = all(isinstance(one, str) for one in texts) and isinstance(trailer.crc, int)
    return trailer if is_ours else None


def _cut_json(fd: int, tail: bytes, file_bytes: int) -> bytes | None:
    if len(tail) < _END.size:
        return None
    mark, json_bytes, crc = _END.unpack(tail[-_END.size :])
    if mark != _MARK or json_bytes > min(_MAX_JSON_BYTES, file_bytes - _END.size):
        return None
    if json_bytes + _END.size > len(tail):
        tail = os.pread(fd, json_bytes + _END.size, file_bytes - json_bytes - _END.size)
    text = tail[-_END.size - json_bytes : -_END.size]
    return text if len(text) == json_bytes and crc32(text) == crc else None
