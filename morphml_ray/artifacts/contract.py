"""The contract that artifact backends fulfil, and the values that cross it."""

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from typing_extensions import Buffer

from morphml_ray.artifacts.checks import CHUNK_BYTES, NO_METADATA, PresignMethod

Advance = Callable[[int], None]
"""Is told, one call at a time, how many more bytes have passed; an error it raises ends the transfer."""

UploadId = str
"""Names an upload in chunks; opaque."""


class ObjectInfo(NamedTuple):
    """What is known of an object.

    Attributes:
        key: its name below the root of the backend.
        size_bytes: how large it is.
        last_modified: when it was written, aware UTC.
        content_type: as given, or the backend's default; None in a listing.
        metadata: as given; empty in a listing.
        checksum: of the whole, as ``crc32:<8 hex>``; None in a listing, and where whoever wrote it left none.
        version: differs from that of any other bytes under this key; opaque, of this backend alone. None in a listing,
            and where the answer to a write does not tell.
        write_id: of the write that put it there; None in a listing, and where somebody else wrote it.
    """

    key: str
    size_bytes: int
    last_modified: datetime
    content_type: str | None = None
    metadata: Mapping[str, str] = NO_METADATA
    checksum: str | None = None
    version: str | None = None
    write_id: str | None = None


class ObjectPage(NamedTuple):
    """A part of a listing.

    Attributes:
        objects: ascending by the bytes of their keys, as far as the server lists them so.
        next_token: gives the next page, which may be empty; None where this is the last one.
    """

    objects: list[ObjectInfo]
    next_token: str | None


class ObjectFolder(NamedTuple):
    """What is directly below a prefix.

    Attributes:
        objects: whose keys have no further slash, ascending by the bytes of their keys.
        folders: what the keys of the others begin with, up to and without their next slash, ascending; each once.
    """

    objects: list[ObjectInfo]
    folders: list[str]


class ArtifactBackend(Protocol):
    """Immutable objects under keys: a write replaces the whole object, and is seen in whole or not at all.

    Keys are what ``check_key`` accepts; "a" and "a/b" may both be objects. Methods block and can be called from
    several threads. When a write returns, it is durable. Reads of a whole object compare its checksum.

    Every method raises ``BackendUnavailable`` where the server does not answer now, or was not opened;
    ``ConfigurationError`` where no waiting helps: wrong credentials, no right, no bucket; ``ValidationError`` for
    a key or an argument that no object can have.

    Attributes:
        answered_at: when the store answered last, on ``time.monotonic``'s clock: long listings, deletions and copies
            are many requests, and this tells that they go on.
    """

    @property
    def answered_at(self) -> float:
        """See the class."""

    def open(self) -> None:
        """Connect, make the bucket or directory where it is missing; does nothing where it is open."""

    def close(self) -> None:
        """Close all connections; ``open`` may follow."""

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
        progress: Advance | None = None,
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

    def get(self, key: str, offset: int = 0, length: int | None = None, version: str | None = None) -> bytes:
        """Read an object, or a range of it, which ends where the object ends.

        Args:
            key: of the object.
            offset: where the range begins, bytes.
            length: how many bytes at most; None for all that follow.
            version: of the object that is meant, as ``head`` gave it; None for any.

        Raises:
            NotFoundError: there is no such object.
            ConflictError: there is another version of it.
            CorruptDataError: the whole was read, and its checksum differs.
        """

    def get_into(self, key: str, buffer: Buffer, progress: Advance | None = None) -> ObjectInfo:
        """Read a whole object into a writable buffer of its size, without a copy in between.

        Raises:
            NotFoundError: there is no such object.
            ConflictError: its size is another, or it was replaced meanwhile.
            CorruptDataError: the checksum differs.
        """

    def get_parts(self, key: str, size_bytes: int, progress: Advance | None = None) -> list[Buffer]:
        """Read a whole object into memory, as the parts that arrive, in order: they are not copied together.

        Raises:
            NotFoundError: there is no such object.
            ConflictError: its size is another, or it was replaced meanwhile.
            CorruptDataError: the checksum differs.
        """

    def get_file(
        self, key: str, path: str | os.PathLike[str], progress: Advance | None = None, *, sync: bool = True
    ) -> ObjectInfo:
        """Write a whole object to a file, streamed in bounded memory.

        The file appears when it is complete and its checksum verified; until then one that was there stays.
        Missing directories are made.

        Args:
            key: of the object.
            path: of the file.
            progress: see ``Advance``.
            sync: bring the file to the disk before it appears; otherwise a power failure may leave a damaged one.

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
            ValidationError: the number is none, or the chunk is longer than ``chunk_bytes``.
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

    def list_folder(self, prefix: str = "") -> ObjectFolder:
        """List what is directly below ``prefix``, which is "" or ends with a slash; what is deeper is not read.

        Raises:
            ValidationError: the prefix is neither.
        """

    def list_page(self, prefix: str = "", *, token: str | None = None, limit: int = 1000) -> ObjectPage:
        """List some objects, in the order of the server; ``token`` is the ``next_token`` of the page before."""

    def total_size(self, prefix: str = "") -> int:
        """Sum up the bytes of what ``list`` lists."""

    def copy(self, source: str, dest: str, *, write_id: str | None = None) -> ObjectInfo:
        """Copy an object with its metadata, inside the server; for the write id see ``put``.

        Raises:
            NotFoundError: there is no such object.
        """

    def presign(self, key: str, expires_s: int, method: PresignMethod = "get_object") -> str:
        """Give a URL with which anybody may read, or write, the object for a while.

        Raises:
            ConfigurationError: the technology has no such URLs.
        """
