"""Values on their way through the cache: encoded by who writes, decoded where the answer is unpickled."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from morphml_ray.rpc.call import Encoded
from morphml_ray.serde import SigningKey, decode, encode, load_signing_key

_COUNTERS = range(-(2**63), 2**63)
_COUNTER = re.compile(rb"-?[0-9]{1,19}")


@cache
def _signing_key() -> SigningKey:
    return load_signing_key()


def encode_value(value: Any) -> bytes:
    """Encode a value; a whole number of 64 bits is written as a counter, so that ``increment`` takes it.

    Raises:
        ValidationError: the value cannot be pickled.
    """
    if type(value) is int and value in _COUNTERS:
        return b"%d" % value
    return encode(value, _signing_key())


def decode_value(data: bytes) -> Any:
    """Decode what ``encode_value`` or a counter wrote.

    Raises:
        UntrustedDataError: a pickle of somebody else; it was not read.
        CorruptDataError: the bytes are no value.
    """
    return int(data) if _COUNTER.fullmatch(data) else decode(data, _signing_key(), writable=True)


def _decode_values(found: Mapping[str, bytes]) -> dict[str, Any]:
    return {key: decode_value(data) for key, data in found.items()}


class EncodedValue(Encoded[Any]):
    """Bytes of a value on their way to a caller: unpickling them there gives the value."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> tuple[Any, ...]:
        """Decode where it is unpickled: callers pay, actors move bytes."""
        return decode_value, (self._data,)


class EncodedValues(Encoded[dict[str, Any]]):
    """Bytes of values under their keys: unpickling them gives the values."""

    def __init__(self, found: Mapping[str, bytes]) -> None:
        self._found = found

    def __reduce__(self) -> tuple[Any, ...]:
        """Decode where they are unpickled."""
        return _decode_values, (self._found,)
