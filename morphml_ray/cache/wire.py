"""Values on their way through the cache: encoded by who writes, decoded where the answer is unpickled."""

import logging
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from morphml_ray.errors import ConfigurationError, CorruptDataError, UntrustedDataError
from morphml_ray.rpc.call import Encoded
from morphml_ray.rpc.values import decoded, pickle_value
from morphml_ray.serde import SigningKey, decode, encode, load_signing_key

_COUNTERS = range(-(2**63), 2**63)
_COUNTER = re.compile(rb"-?[0-9]{1,19}")
_log = logging.getLogger(__name__)


@cache
def _signing_key() -> SigningKey:
    return load_signing_key()


def encode_value(key: str, value: Any) -> bytes:
    """Encode a value; a whole number of 64 bits is written as a counter, so that ``increment`` takes it.

    Args:
        key: that it is kept under; a pickle is bound to it.
        value: any value.

    Raises:
        ValidationError: the value cannot be pickled, or holds a reference of Ray or an actor.
    """
    if type(value) is int and value in _COUNTERS:
        return b"%d" % value
    return encode(value, _signing_key(), pickle_value, bound_to=_place(key))


def decode_value(key: str, data: bytes) -> Any:
    """Decode what ``encode_value`` or a counter wrote.

    Raises:
        UntrustedDataError: a pickle of somebody else, or of another key; it was not read.
        CorruptDataError: the bytes are no value, or one that cannot be rebuilt in this process.
    """
    if _COUNTER.fullmatch(data):
        return int(data)
    signing_key = _signing_key()
    try:
        return decode(data, signing_key, bound_to=_place(key), writable=True)
    except UntrustedDataError as error:
        raise UntrustedDataError(f"cache key {key!r}: {error}") from error
    except (CorruptDataError, ConfigurationError) as error:
        raise CorruptDataError(f"cache key {key!r}: {error}") from error


def _place(key: str) -> str:
    return f"cache:{key}"


def _decode_all(found: Mapping[str, bytes]) -> dict[str, Any]:
    return {key: decode_value(key, data) for key, data in found.items()}


def _decode_what_can_be(found: Mapping[str, bytes]) -> dict[str, Any]:
    """Leave out what cannot be rebuilt here, with one warning: of a cache, anything may be gone."""
    values, lost = {}, []
    for key, data in found.items():
        try:
            values[key] = decode_value(key, data)
        except CorruptDataError as error:
            lost.append(str(error))
    if lost:
        more = f" (and {len(lost) - 1} others)" if lost[1:] else ""
        _log.warning("%s%s; what cannot be read is left out", lost[0], more)
    return values


class EncodedValue(Encoded[Any]):
    """Bytes of a value on their way to a caller: unpickling them there gives the value."""

    def __init__(self, key: str, data: bytes) -> None:
        self._key = key
        self._data = data

    def __reduce__(self) -> tuple[Any, ...]:
        """Decode where it is unpickled: callers pay, actors move bytes."""
        return decoded, (decode_value, self._key, self._data)


class EncodedValues(Encoded[dict[str, Any]]):
    """Bytes of values under their keys: unpickling them gives the values.

    Args:
        found: the bytes.
        is_strict: whether a value that cannot be rebuilt is an error; else it is left out.
    """

    def __init__(self, found: Mapping[str, bytes], *, is_strict: bool) -> None:
        self._found = found
        self._is_strict = is_strict

    def __reduce__(self) -> tuple[Any, ...]:
        """Decode where they are unpickled."""
        return decoded, (_decode_all if self._is_strict else _decode_what_can_be, self._found)
