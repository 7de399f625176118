"""Reading objects: in one request, or in parts side by side."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple, TypeVar

from botocore import exceptions as exc
from typing_extensions import Buffer
from urllib3.exceptions import HTTPError

from morphml_ray.artifacts.checks import CHUNK_BYTES
from morphml_ray.artifacts.contract import Advance, ObjectInfo
from morphml_ray.artifacts.crc32 import combine, crc32, parse_checksum
from morphml_ray.artifacts.s3.bucket import Bucket, describe
from morphml_ray.artifacts.s3.driver_errors import code_of
from morphml_ray.artifacts.s3.parts import Part, one_at_a_time, split, work_on
from morphml_ray.errors import BackendUnavailable, ConflictError, CorruptDataError

_BLOCK_BYTES = 256 * 1024

Result = TypeVar("Result")

Sink = Callable[[memoryview, int], None]
"""Takes bytes and where they belong; may be called again with the same ones."""
Taker = Callable[[Any, int, int], int]
"""Takes the body of an answer: where it belongs, and how many bytes of it; gives their CRC-32. May be repeated."""


class _BrokenError(Exception):
    """The connection broke while an object was being read."""


class _First(NamedTuple):
    info: ObjectInfo
    etag: str
    crc: int


class Receiver:
    """Reads objects from one bucket.

    Args:
        bucket: where they are.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def receive(
        self, key: str, check: Callable[[ObjectInfo], None], take: Taker, progress: Advance | None
    ) -> ObjectInfo:
        """Read a whole object and compare its checksum.

        Args:
            key: of the object.
            check: is told about the object before the first byte comes.
            take: takes the bytes, from several threads.
            progress: see ``ArtifactBackend``.
        """
        tell = one_at_a_time(progress)
        first = self._again(lambda: self._receive_first(key, check, take))
        read_bytes = min(CHUNK_BYTES, first.info.size_bytes)
        tell(read_bytes)
        parts = split(first.info.size_bytes, read_bytes)

        def receive_part(part: Part) -> tuple[int, int]:
            crc = self._again(lambda: self._receive_part(key, part, first.etag, take))
            tell(part.size_bytes)
            return crc, part.size_bytes

        rest = work_on(self._bucket.pool, parts, receive_part, self._bucket.parts_at_once)
        self.compare(key, combine([(first.crc, read_bytes), *rest]), first.info)
        return first.info

    def get(self, key: str, offset: int, length: int | None, version: str | None) -> bytes:
        """Read an object or a part of it into memory."""
        if length == 0:
            return self._get_nothing(key, version)
        return self._again(lambda: self._get(key, offset, length, version))

    def compare(self, key: str, crc: int, info: ObjectInfo) -> None:
        """Compare a checksum with the one that the writer left, if there is one.

        Raises:
            CorruptDataError: they differ.
        """
        if info.checksum is not None and parse_checksum(info.checksum) != crc:
            raise CorruptDataError(f"{self._bucket.place}: {key} is damaged: its checksum differs")

    def _get_nothing(self, key: str, version: str | None) -> bytes:
        found = self._bucket.head(key)
        if found is None:
            raise self._bucket.missing(key)
        if version not in (None, found[0].version):
            raise self._replaced(key)
        return b""

    def _get(self, key: str, offset: int, length: int | None, version: str | None) -> bytes:
        is_whole = offset == 0 and length is None
        last = "" if length is None else str(offset + length - 1)
        mode: Any = {"ChecksumMode": "ENABLED"} if is_whole else {"Range": f"bytes={offset}-{last}"}
        condition = {} if version is None else {"IfMatch": version}
        arguments = {**self._bucket.where(key), **mode, **condition}
        with self._bucket.working(f"get {key}"):
            try:
                answer = self._bucket.objects.get_object(**arguments)
                with _streamed(answer) as body:
                    data = bytes(body.read())
            except exc.ClientError as error:
                if code_of(error) == "InvalidRange":  # behind the end, which an empty object always is
                    return b"" if version is None else self._get_nothing(key, version)
                if code_of(error) == "PreconditionFailed":
                    raise self._replaced(key) from error
                raise
        if version not in (None, answer["ETag"]):  # not every server minds the condition
            raise self._replaced(key)
        if len(data) == _total_bytes(answer):
            self.compare(key, crc32(data), describe(key, len(data), answer))
        return data

    def _receive_first(self, key: str, check: Callable[[ObjectInfo], None], take: Taker) -> _First:
        with self._bucket.working(f"get {key}"):
            objects, where = self._bucket.objects, self._bucket.where(key)
            try:
                answer = objects.get_object(**where, Range=f"bytes=0-{CHUNK_BYTES - 1}")
            except exc.ClientError as error:
                if code_of(error) != "InvalidRange":
                    raise
                answer = objects.get_object(**where)  # empty, unless it was written meanwhile
            info = describe(key, _total_bytes(answer), answer)
            with _streamed(answer) as body:
                check(info)
                crc = take(body, 0, min(CHUNK_BYTES, info.size_bytes))
            return _First(info, answer["ETag"], crc)

    def _receive_part(self, key: str, part: Part, etag: str, take: Taker) -> int:
        with self._bucket.working(f"get {key}"):
            try:
                answer = self._bucket.objects.get_object(
                    **self._bucket.where(key),
                    Range=f"bytes={part.offset}-{part.offset + part.size_bytes - 1}",
                    IfMatch=etag,
                )
            except exc.ClientError as error:
                if code_of(error) in ("PreconditionFailed", "InvalidRange"):
                    raise self._replaced(key) from error
                raise
            with _streamed(answer) as body:
                return take(body, part.offset, part.size_bytes)

    def _replaced(self, key: str) -> ConflictError:
        return ConflictError(f"{self._bucket.place}: {key} was replaced while it was read")

    def _again(self, read: Callable[[], Result]) -> Result:
        """Read once more when the connection breaks in the middle, which boto3 leaves to its caller."""
        patience = self._bucket.patience()
        while True:
            try:
                return read()
            except _BrokenError as error:
                if not patience.pause():
                    raise BackendUnavailable(f"{self._bucket.place} broke off: {error}") from error


@contextmanager
def _streamed(answer: Any) -> Iterator[Any]:
    """Read the body of an answer; ends the connection where not all is read."""
    with closing(answer["Body"]) as body:
        try:
            yield body
        except (exc.HTTPClientError, exc.IncompleteReadError, HTTPError) as error:  # boto3 lets errors of TLS through
            raise _BrokenError(" ".join(str(error).split())) from error


def drained(sink: Sink) -> Taker:
    """Pass the bytes on in small blocks, in bounded memory."""

    def drain(body: Any, offset: int, size_bytes: int) -> int:
        crc = position = 0
        for block in body.iter_chunks(_BLOCK_BYTES):
            wanted = memoryview(block)[: size_bytes - position]
            sink(wanted, offset + position)
            crc = crc32(wanted, crc)
            position += len(wanted)
            if position == size_bytes:
                return crc
        if position < size_bytes:
            raise _BrokenError("the server ended an object early")
        return crc

    return drain


def collected(parts: dict[int, Buffer]) -> Taker:
    """Keep what arrives as it is, by where it belongs."""

    def collect(body: Any, offset: int, size_bytes: int) -> int:
        data = memoryview(body.read())
        if len(data) < size_bytes:
            raise _BrokenError("the server ended an object early")
        parts[offset] = data[:size_bytes]
        return crc32(parts[offset])

    return collect


def _total_bytes(answer: Any) -> int:
    """Give the size of the object of which the answer may hold a part."""
    whole = answer.get("ContentRange", "").rpartition("/")[2]
    return int(whole) if whole else int(answer["ContentLength"])
