"""The contract that artifact backends fulfil, and the values that cross it."""

import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from typing_extensions import Buffer

from morphml_ray.errors import ValidationError

MAX_KEY_BYTES = 1024  # of S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
MIN_CHUNK_BYTES = 5 * 1024 * 1024  # of S3, for all parts but the last
MAX_CHUNKS = 10_000  # of S3
CHUNK_BYTES = 8 * 1024 * 1024
MAX_PRESIGN_S = 7 * 24 * 3600  # of S3

Progress = Callable[[int], None]
"""Is told, one call at a time, how many more bytes have passed; an error it raises ends the transfer."""

PresignMethod = Literal["get_object", "put_object"]
UploadId = str
"""Names an upload in chunks; opaque."""

NO_METADATA: Mapping[str, str] = MappingProxyType({})

_WRITE_ID = re.compile("[A-Za-z0-9-]{1,64}")
# Control characters, NUL among them, halves of surrogate pairs, and what is no character: unsafe in XML or a path.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class ObjectInfo(NamedTuple):
    """What is known of an object.

    Attributes:
        key: its name below the root of the backend.
        size_bytes: how large it is.
        last_modified: when it was written, aware UTC.
        content_type: as given, or the backend's default; None in a listing.
        metadata: as given; empty in a listing.
        checksum: of the whole, as ``crc32:<8 hex>``; None in a listing, and where whoever wrote it left none.
    """

    key: str
    size_bytes: int
    last_modified: datetime
    content_type: str | None = None
    metadata: Mapping[str, str] = NO_METADATA
    checksum: str | None = None


class ObjectPage(NamedTuple):
    """A part of a listing.

    Attributes:
        objects: ascending by the bytes of their keys, as far as the server lists them so.
        next_token: gives the next page; None where this is the last one.
    """

    objects: list[ObjectInfo]
    next_token: str | None


@dataclass(frozen=True)
class WriteRequest:
    """What is to be written, checked; see ``ArtifactBackend.put``."""

    key: str
    metadata: Mapping[str, str]
    content_type: str | None
    if_absent: bool
    write_id: str


class ArtifactBackend(Protocol):
    """Immutable objects under keys: a write replaces the whole object, and is seen in whole or not at all.

    Keys are what ``check_key`` accepts; "a" and "a/b" may both be objects. Methods block and can be called from
    several threads. When a write returns, it is durable. Reads of a whole object compare its checksum.

    Every method raises ``BackendUnavailable`` where the server does not answer now, or was not opened;
    ``ConfigurationError`` where no waiting helps: wrong credentials, no right, no bucket; ``ValidationError`` for
    a key or an argument that no object can have.
    """

    def open(self) -> None:
        """Connect, make the bucket or directory where it is missing; does nothing where it is open."""

    def close(self) -> None:
        """Let all connections go; ``open`` may follow."""

    def put(
        self,
        key: str,
        data: Buffer,
        metadata: Mapping[str, str] = NO_METADATA,
        *,
        content_type: str | None = None,
        if_absent: bool = False,
        write_id: str | None = None,
    ) -> ObjectInfo:
        """Store bytes.

        Args:
            key: what to call them.
            data: anything with a buffer; never copied as a whole.
            metadata: texts under names, any characters; S3 takes 2 KB of them.
            content_type: a media type.
            if_absent: store only where there is no such object.
            write_id: a text that the caller made for this write; where the object that is there was written with
                the same one, ``if_absent`` takes it for its own. A repeated write needs it; without it one is made.

        Raises:
            AlreadyExistsError: ``if_absent``, and another write was first.
        """

    def put_file(
        self,
        key: str,
        path: str | os.PathLike[str],
        metadata: Mapping[str, str] = NO_METADATA,
        progress: Progress | None = None,
        *,
        content_type: str | None = None,
        if_absent: bool = False,
        write_id: str | None = None,
    ) -> ObjectInfo:
        """Store a file, streamed in bounded memory; arguments and errors are those of ``put``.

        Raises:
            OSError: the file cannot be read; as Python raises it.
            ConflictError: the file changed meanwhile.
        """

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read an object, or a range of it, which ends where the object ends.

        Raises:
            NotFoundError: there is no such object.
            CorruptDataError: the whole was read, and its checksum differs.
        """

    def get_into(self, key: str, buffer: Buffer, progress: Progress | None = None) -> ObjectInfo:
        """Read a whole object into a writable buffer of its size, without a copy in between.

        Raises:
            NotFoundError: there is no such object.
            ConflictError: its size is another, or it was replaced meanwhile.
            CorruptDataError: the checksum differs.
        """

    def get_file(self, key: str, path: str | os.PathLike[str], progress: Progress | None = None) -> ObjectInfo:
        """Write a whole object to a file, streamed in bounded memory.

        The file appears when it is complete and its checksum verified; until then one that was there stays.
        Missing directories are made.

        Raises:
            NotFoundError: there is no such object.
            ConflictError: it was replaced meanwhile.
            CorruptDataError: the checksum differs.
            OSError: the file cannot be written; as Python raises it.
        """

    def begin_upload(
        self,
        key: str,
        metadata: Mapping[str, str] = NO_METADATA,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        checksum: str | None = None,
        content_type: str | None = None,
        if_absent: bool = False,
        write_id: str | None = None,
    ) -> UploadId:
        """Begin to store what arrives in chunks; the arguments are those of ``put``.

        An upload lives in this object: after ``close`` or a crash it is gone, and nothing of it is left.

        Args:
            key: what to call the object.
            metadata: texts under names.
            chunk_bytes: how large each chunk but the last is, at least ``MIN_CHUNK_BYTES``.
            checksum: of the whole, ``crc32:<8 hex>``; compared when the upload finishes and whenever the whole is
                read. Where it is None, S3 objects are read without a comparison.
            content_type: a media type.
            if_absent: store only where there is no such object.
            write_id: see ``put``.
        """

    def upload_chunk(self, upload: UploadId, index: int, data: Buffer) -> None:
        """Take chunk number ``index``, from 0; in any order, from any thread; again replaces it.

        Raises:
            NotFoundError: there is no such upload.
        """

    def finish_upload(self, upload: UploadId) -> ObjectInfo:
        """Make the object appear; again gives the same answer.

        Raises:
            NotFoundError: there is no such upload.
            AlreadyExistsError: ``if_absent``, and another write was first; the upload is gone.
            CorruptDataError: what arrived does not have the checksum; the upload is gone.
            ValidationError: a chunk is missing or has the wrong size.
        """

    def abort_upload(self, upload: UploadId) -> None:
        """Forget an upload and what arrived; does nothing where there is none."""

    def purge_uploads(self, older_than_s: float) -> int:
        """Free what crashed processes left of uploads that began so long ago; gives how many there were."""

    def head(self, key: str) -> ObjectInfo | None:
        """Look at an object; None where the server says that there is none."""

    def exists(self, key: str) -> bool:
        """Tell whether there is such an object."""

    def delete(self, key: str) -> bool:
        """Delete an object; False where there was none."""

    def delete_prefix(self, prefix: str) -> int:
        """Delete the object ``prefix`` and all whose keys begin with ``prefix/``; gives how many there were.

        A prefix that ends with a slash leaves the object of that name.

        Raises:
            ValidationError: the prefix is "" or "/".
            BackendUnavailable: some were not deleted; the message says how many were.
        """

    def list(self, prefix: str = "", *, limit: int | None = None) -> Iterator[ObjectInfo]:
        """List objects whose keys begin with ``prefix``, ascending by the bytes of their keys.

        Args:
            prefix: plain text; no border is added.
            limit: how many at most: those that the server lists first.
        """

    def list_page(self, prefix: str = "", *, token: str | None = None, limit: int = 1000) -> ObjectPage:
        """List some objects, in the order of the server; ``token`` is the ``next_token`` of the page before."""

    def total_size(self, prefix: str = "") -> int:
        """Sum up the bytes of what ``list`` lists."""

    def copy(self, source: str, dest: str) -> ObjectInfo:
        """Copy an object with its metadata, inside the server.

        Raises:
            NotFoundError: there is no such object.
        """

    def presign(self, key: str, expires_s: int, method: PresignMethod = "get_object") -> str:
        """Give a URL with which anybody may read, or write, the object for a while.

        Raises:
            ConfigurationError: the technology has no such URLs.
        """


def check_write(
    key: str, metadata: Mapping[str, str], content_type: str | None, *, if_absent: bool, write_id: str | None
) -> WriteRequest:
    """Check what every way of writing is told; a write without an id gets one.

    Raises:
        ValidationError: a key, metadata or a media type that no object can have.
    """
    if write_id is not None and not _WRITE_ID.fullmatch(write_id):
        raise ValidationError("a write id has 1 to 64 of A-Z, a-z, 0-9 and -")
    check_content_type(content_type)
    return WriteRequest(check_key(key), check_metadata(metadata), content_type, if_absent, write_id or uuid.uuid4().hex)


def check_key(key: str) -> str:
    """Check the key of an object.

    Keys are relative paths: segments of printable text between single slashes.

    Returns:
        The key.

    Raises:
        ValidationError: it is no text, empty, longer than 1,024 bytes of UTF-8, begins or ends with a slash, or
            holds an empty segment, "." or "..", or a character that cannot be stored.
    """
    if not isinstance(key, str):
        raise ValidationError(f"a key must be a text, not {type(key).__name__}")
    _check_text(key, "a key")
    if not key:
        raise ValidationError("a key must not be empty")
    if any(segment in ("", ".", "..") for segment in key.split("/")):
        raise ValidationError(
            f"the key {key!r} must be a relative path: no slash at its ends, no empty segment, no . or .."
        )
    return key


def check_prefix(prefix: str) -> str:
    """Check the beginning of keys, as listings take it.

    Raises:
        ValidationError: no key begins so.
    """
    if not isinstance(prefix, str):
        raise ValidationError(f"a prefix must be a text, not {type(prefix).__name__}")
    _check_text(prefix, "a prefix")
    *whole, _ = prefix.split("/")
    if any(segment in ("", ".", "..") for segment in whole):
        raise ValidationError(f"no key begins with {prefix!r}: keys are relative paths without empty segments")
    return prefix


def check_folder(prefix: str) -> str:
    """Check a prefix to delete.

    Returns:
        The prefix without a slash at its end.

    Raises:
        ValidationError: it is "" or "/", which would be everything, or no key begins so.
    """
    if isinstance(prefix, str) and not prefix.strip("/"):
        raise ValidationError(f"the prefix {prefix!r} would delete everything: name what is to go")
    return check_key(prefix.removesuffix("/") if isinstance(prefix, str) else prefix)


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Check metadata, and copy them.

    Raises:
        ValidationError: a name or a value is no text, a name is empty, or all together are too large.
    """
    for name, value in metadata.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ValidationError(f"metadata are texts under texts, not {type(value).__name__} under {name!r}")
        if not name:
            raise ValidationError("metadata must not have an empty name")
        if any("\ud800" <= char <= "\udfff" for char in name + value):
            raise ValidationError(f"the metadata {name!r} hold a lone surrogate")
    return dict(metadata)


def check_content_type(content_type: str | None) -> None:
    """Check a media type.

    Raises:
        ValidationError: it is no line of printable ASCII.
    """
    if content_type is not None and not (
        isinstance(content_type, str) and content_type.isascii() and content_type.isprintable() and content_type.strip()
    ):
        raise ValidationError(f"the content type {content_type!r} must be a media type, as in application/json")


def check_range(offset: int, length: int | None) -> None:
    """Check what part of an object to read.

    Raises:
        ValidationError: a number is negative.
    """
    if offset < 0 or (length is not None and length < 0):
        raise ValidationError(f"offset={offset} and length={length} must not be negative")


def check_limit(limit: int | None) -> None:
    """Check how much is to be listed.

    Raises:
        ValidationError: it is nothing, or less.
    """
    if limit is not None and limit < 1:
        raise ValidationError(f"limit={limit} must be at least 1")


def check_chunk_bytes(chunk_bytes: int) -> None:
    """Check how large chunks are.

    Raises:
        ValidationError: S3 refuses such parts.
    """
    if chunk_bytes < MIN_CHUNK_BYTES:
        raise ValidationError(f"chunk_bytes={chunk_bytes}: all chunks but the last have {MIN_CHUNK_BYTES} or more")


def check_presign(expires_s: int, method: str) -> None:
    """Check what a presigned URL may be.

    Raises:
        ValidationError: it would do something else than reading or writing one object, or last too long.
    """
    if method not in ("get_object", "put_object"):
        raise ValidationError(f"method={method!r}: only get_object and put_object can be presigned")
    if not 0 < expires_s <= MAX_PRESIGN_S:
        raise ValidationError(f"expires_s={expires_s} must be between 1 and {MAX_PRESIGN_S} (seven days)")


def view_bytes(data: Buffer) -> memoryview:
    """Look at data as bytes, without a copy.

    Raises:
        ValidationError: they have no buffer, or one with gaps.
    """
    try:
        view = memoryview(data)
        return view.cast("B") if view.nbytes else memoryview(b"")
    except TypeError as error:
        raise ValidationError(f"data must be bytes or have a contiguous buffer, not {type(data).__name__}") from error


def _check_text(text: str, noun: str) -> None:
    unsafe = _UNSAFE.search(text)
    if unsafe:
        raise ValidationError(f"{noun} must not hold the character {unsafe[0]!r}: {text!r}")
    if len(text.encode()) > MAX_KEY_BYTES:
        raise ValidationError(f"{noun} has at most {MAX_KEY_BYTES} bytes of UTF-8: {text[:80]!r}...")
