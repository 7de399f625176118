"""What can be stored: checks of keys and arguments, the same for all artifact backends."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from typing_extensions import Buffer

from morphml_ray.artifacts.write_id import new_write_id
from morphml_ray.errors import ValidationError
from morphml_ray.model.arguments import count, word

PresignMethod = Literal["get_object", "put_object"]
PRESIGNED: tuple[PresignMethod, ...] = get_args(PresignMethod)

MAX_KEY_BYTES = 1024  # of S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
MIN_CHUNK_BYTES = 5 * 1024 * 1024  # of S3, for all parts but the last
MAX_CHUNKS = 10_000  # of S3
CHUNK_BYTES = 8 * 1024 * 1024
MAX_CALL_BYTES = 1024 * 1024 * 1024
"""What one call moves as bytes at most; the actor holds it in memory."""
MAX_BATCH_BYTES = 256 * 1024 * 1024
"""What the objects of one batch have together at most, when they are read in one call."""
MAX_PRESIGN_S = 7 * 24 * 3600  # of S3

NO_METADATA: Mapping[str, str] = MappingProxyType({})

# In the format of a buffer, beside the names of its fields.
_POINTERS = re.compile("[OPX&]")
_FIELD_NAMES = re.compile(":[^:]*:")
_WRITE_ID = re.compile("[A-Za-z0-9-]{1,64}")
# Control characters, NUL among them, halves of surrogate pairs, what is no character, and the backslash, which some
# servers take for a slash: unsafe in XML, a path or a key.
_UNSAFE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\ufffe\\uffff\\\\]")


@dataclass(frozen=True)
class WriteRequest:
    """What is to be written, checked; see ``ArtifactBackend.put``."""

    key: str
    metadata: Mapping[str, str]
    content_type: str | None
    if_absent: bool
    write_id: str


def check_write(
    key: str, metadata: Mapping[str, str], content_type: str | None, *, if_absent: bool, write_id: str | None
) -> WriteRequest:
    """Check what every way of writing is told; a write without an id gets one.

    Raises:
        ValidationError: a key, metadata or a media type that no object can have.
    """
    if write_id is not None and not _WRITE_ID.fullmatch(write_id):
        raise ValidationError("a write id has 1 to 64 of A-Z, a-z, 0-9 and -")
    content_type = check_content_type(content_type)
    return WriteRequest(check_key(key), check_metadata(metadata), content_type, if_absent, write_id or new_write_id())


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
    return str.__str__(key)  # a class of the caller's, such as an Enum of texts, is not known elsewhere


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
    return str.__str__(prefix)


def check_border(prefix: str) -> str:
    """Check a prefix to list what is directly below it.

    Raises:
        ValidationError: it is neither "" nor ends with a slash, or no key begins so.
    """
    check_prefix(prefix)
    if prefix and not prefix.endswith("/"):
        raise ValidationError(f"a folder ends with a slash: {prefix!r} does not")
    return str.__str__(prefix)


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
    return {str.__str__(name): str.__str__(value) for name, value in metadata.items()}


def check_content_type(content_type: str | None) -> str | None:
    """Check a media type, and give it as a plain text.

    Raises:
        ValidationError: it is no line of printable ASCII.
    """
    if content_type is None:
        return None
    if not (
        isinstance(content_type, str) and content_type.isascii() and content_type.isprintable() and content_type.strip()
    ):
        raise ValidationError(f"the content type {content_type!r} must be a media type, as in application/json")
    return str.__str__(content_type)


def check_range(offset: int, length: int | None) -> tuple[int, int | None]:
    """Check what part of an object to read, and give it as plain numbers.

    Raises:
        ValidationError: a number is none, or negative.
    """
    return count(offset, "offset"), None if length is None else count(length, "length")


def check_limit(limit: int | None) -> int | None:
    """Check how much is to be listed, and give it as a plain number.

    Raises:
        ValidationError: it is nothing, or less, or no number.
    """
    return None if limit is None else count(limit, "limit", 1)


def check_call_bytes(size_bytes: int, what: str, remedy: str) -> None:
    """Check what one call is to move as bytes, before memory is taken for it.

    Args:
        size_bytes: of all.
        what: is moved, for the message.
        remedy: what to call instead.

    Raises:
        ValidationError: it is too much.
    """
    if size_bytes > MAX_CALL_BYTES:
        raise ValidationError(f"{what}: {size_bytes} bytes, and one call moves {MAX_CALL_BYTES} at most: {remedy}")


def check_chunk_bytes(chunk_bytes: int) -> None:
    """Check how large chunks are.

    Raises:
        ValidationError: S3 refuses such parts.
    """
    if chunk_bytes < MIN_CHUNK_BYTES:
        raise ValidationError(f"chunk_bytes={chunk_bytes}: all chunks but the last have {MIN_CHUNK_BYTES} or more")


def check_presign(expires_s: int, method: str) -> tuple[int, PresignMethod]:
    """Check what a presigned URL may be, and give it as a plain number and word.

    Raises:
        ValidationError: it would do something else than reading or writing one object, or last too long.
    """
    if method not in PRESIGNED:
        raise ValidationError(f"method={method!r}: only get_object and put_object can be presigned")
    if count(expires_s, "expires_s", 1) > MAX_PRESIGN_S:
        raise ValidationError(f"expires_s={expires_s} must be at most {MAX_PRESIGN_S} (seven days)")
    return count(expires_s, "expires_s", 1), word(method, "method", PRESIGNED)


def view_bytes(data: Buffer) -> memoryview:
    """Look at data as bytes, without a copy.

    Raises:
        ValidationError: they have no buffer, one with gaps, or one of Python objects, which would be their addresses.
    """
    try:
        view = memoryview(data)
        if _POINTERS.search(_FIELD_NAMES.sub("", view.format)):
            raise ValidationError(
                f"data of type {type(data).__name__} hold Python objects, whose addresses mean nothing elsewhere: give "
                "the array a dtype of numbers or of fixed-length texts, or pickle it"
            )
        return view.cast("B") if view.nbytes else memoryview(b"")
    except (TypeError, ValueError) as error:  # the second of numpy, for datetime64 and types that are no numbers of C
        raise ValidationError(
            f"data must be bytes or have a contiguous buffer, not {type(data).__name__} ({error}): of an array give "
            "array.tobytes(), or save it with numpy.save"
        ) from error


def _check_text(text: str, noun: str) -> None:
    unsafe = _UNSAFE.search(text)
    if unsafe:
        raise ValidationError(f"{noun} must not hold the character {unsafe[0]!r}: {text!r}")
    if len(text.encode()) > MAX_KEY_BYTES:
        raise ValidationError(f"{noun} has at most {MAX_KEY_BYTES} bytes of UTF-8: {text[:80]!r}...")
