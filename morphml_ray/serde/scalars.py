"""Plain values of the standard library that msgpack does not have: one extension type each."""

import struct
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from morphml_ray.errors import ConfigurationError
from morphml_ray.serde import extensions
from morphml_ray.serde.extensions import NotPlainError

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_COMPLEX = struct.Struct("<dd")


class Scalar(NamedTuple):
    """How one type is written and read.

    Attributes:
        code: the extension type.
        pack: the value's bytes; ``NotPlainError`` where only a pickle keeps the value whole.
        build: the value of such bytes; any standard error where they are wrong.
    """

    code: int
    pack: Callable[[Any], bytes]
    build: Callable[[bytes], Any]


def _pack_integer(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _build_integer(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _pack_complex(value: complex) -> bytes:
    return _COMPLEX.pack(value.real, value.imag)


def _build_complex(data: bytes) -> complex:
    return complex(*_COMPLEX.unpack(data))


def _pack_datetime(value: datetime) -> bytes:
    clock = (value.hour, value.minute, value.second, value.microsecond)
    return _pack([value.year, value.month, value.day, *clock, value.fold, _pack_zone(value.tzinfo)])


def _build_datetime(data: bytes) -> datetime:
    year, month, day, hour, minute, second, microsecond, fold, zone = _unpack(data)
    return datetime(year, month, day, hour, minute, second, microsecond, _build_zone(zone), fold=fold)


def _pack_zone(zone: tzinfo | None) -> Any:
    """None, the name of a time zone, or the parts of a fixed offset and its name if it has one."""
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key is not None and ZoneInfo(zone.key) is zone:
        return zone.key
    if type(zone) is not timezone:
        raise NotPlainError
    offset, name = zone.utcoffset(None), zone.tzname(None)
    parts = [offset.days, offset.seconds, offset.microseconds]
    return parts if name == timezone(offset).tzname(None) else [*parts, name]


def _build_zone(zone: Any) -> tzinfo | None:
    if zone is None:
        return None
    if isinstance(zone, str):
        try:
            return ZoneInfo(zone)
        except (ZoneInfoNotFoundError, OSError) as error:
            raise ConfigurationError(
                f"A stored time names the time zone {zone[:80]!r}, which this machine does not know: install tzdata"
            ) from error
    days, seconds, microseconds, *name = zone
    return timezone(timedelta(days, seconds, microseconds), *name)


def _pack_date(value: date) -> bytes:
    return _pack([value.year, value.month, value.day])


def _build_date(data: bytes) -> date:
    return date(*_unpack(data))


def _pack_timedelta(value: timedelta) -> bytes:
    return _pack([value.days, value.seconds, value.microseconds])


def _build_timedelta(data: bytes) -> timedelta:
    return timedelta(*_unpack(data))


def _pack_decimal(value: Decimal) -> bytes:
    return str(value).encode()


def _build_decimal(data: bytes) -> Decimal:
    return Decimal(data.decode())


def _pack_uuid(value: UUID) -> bytes:
    return value.bytes


def _build_uuid(data: bytes) -> UUID:
    return UUID(bytes=data)


def _pack_text(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _build_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


INTEGER = Scalar(extensions.INTEGER, _pack_integer, _build_integer)
TEXT = Scalar(extensions.TEXT, _pack_text, _build_text)
SCALARS: dict[type, Scalar] = {
    complex: Scalar(extensions.COMPLEX, _pack_complex, _build_complex),
    datetime: Scalar(extensions.DATETIME, _pack_datetime, _build_datetime),
    date: Scalar(extensions.DATE, _pack_date, _build_date),
    timedelta: Scalar(extensions.TIMEDELTA, _pack_timedelta, _build_timedelta),
    Decimal: Scalar(extensions.DECIMAL, _pack_decimal, _build_decimal),
    UUID: Scalar(extensions.UUID, _pack_uuid, _build_uuid),
}
