"""Values to bytes and back."""

from typing import Any

import cloudpickle  # type: ignore[import-untyped]  # it carries no type information

from morphml_ray.errors import ValidationError
from morphml_ray.serde import pickled
from morphml_ray.serde.envelope import open_envelope, seal_pickle, seal_plain
from morphml_ray.serde.packing import pack_plain
from morphml_ray.serde.pickled import Pickler
from morphml_ray.serde.signing_key import SigningKey
from morphml_ray.serde.unpacking import unpack_plain


def encode(value: Any, key: SigningKey, pickler: Pickler = cloudpickle.dumps, *, bound_to: str = "") -> bytes:
    """Write a value as bytes.

    Plain data is written as msgpack and comes back with its types: None, bool, int of any size, float, complex, str,
    bytes, bytearray, list, tuple, set, frozenset, dict with any plain keys, datetime, date, timedelta, Decimal, UUID,
    and numpy arrays and scalars without objects in them. A value that holds anything else, subclasses included, is
    pickled whole and signed. So is one of which large parts stand at several places: a pickle holds them once.

    Args:
        value: any value that can be pickled; it is not changed.
        key: signs pickles; plain data does not need it.
        pickler: makes the pickles; who sends values through Ray too hands in Ray's own.
        bound_to: names the place that a pickle is stored at; it is refused at any other.

    Returns:
        The bytes, for ``decode``.

    Raises:
        ValidationError: the value is no plain data and cannot be pickled.
    """
    return b"".join(encode_parts(value, key, pickler, bound_to=bound_to))


def encode_parts(
    value: Any, key: SigningKey, pickler: Pickler = cloudpickle.dumps, *, bound_to: str = ""
) -> list[bytes | memoryview]:
    """Write a value as bytes without copying large arrays.

    Args:
        value: any value, as in ``encode``. Parts are views of its arrays: it must not change until they are used.
        key: as in ``encode``.
        pickler: the same.
        bound_to: the same.

    Returns:
        The parts of what ``encode`` gives, each contiguous, to be written one after the other.

    Raises:
        ValidationError: the value is no plain data and cannot be pickled.
    """
    plain = pack_plain(value)
    if plain is not None:
        return seal_plain(*plain)
    return seal_pickle(*pickled.dump(value, pickler), key, bound_to)


def decode(data: bytes | bytearray | memoryview, key: SigningKey, *, bound_to: str = "", writable: bool = False) -> Any:
    """Read a value that ``encode`` or ``encode_parts`` wrote.

    Args:
        data: the bytes, contiguous. Arrays of 16 KB and more are views of them, and keep them in memory.
        key: what pickles must have been signed with.
        bound_to: the place that pickles must have been signed for.
        writable: give arrays that may be changed, each a private copy, instead of read-only ones.

    Returns:
        The value.

    Raises:
        UntrustedDataError: a pickle that was not signed with ``key`` for this place; it was not read.
        CorruptDataError: damaged bytes, bytes of a newer version, or bytes that are no value.
        ConfigurationError: the value needs numpy, or a time zone, that is not installed here.
        ValidationError: ``data`` is not contiguous bytes.
    """
    try:
        view = memoryview(data).cast("B").toreadonly()
    except TypeError as error:
        raise ValidationError(f"decode() reads contiguous bytes, not {type(data).__name__}") from error
    is_pickle, message, buffers = open_envelope(view, key, bound_to)
    if is_pickle:
        return pickled.load(message, buffers, writable=writable)
    return unpack_plain(message, buffers, writable=writable)
