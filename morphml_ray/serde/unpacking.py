"""Plain data from msgpack. The bytes may be anybody's: whatever is wrong with them is a ``CorruptDataError``."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from morphml_ray.errors import ConfigurationError, CorruptDataError, MorphMLRayError
from morphml_ray.serde import extensions
from morphml_ray.serde.extensions import MAX_DEPTH
from morphml_ray.serde.scalars import INTEGER, SCALARS, TEXT

_BROKEN = (struct.error, ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError)


def unpack_plain(message: memoryview, buffers: Sequence[memoryview], *, writable: bool) -> Any:
    """Read a value that ``pack_plain`` wrote.

    Args:
        message: the msgpack message.
        buffers: the large buffers that it refers to.
        writable: whether numpy arrays are private copies that may be changed, or read-only.

    Returns:
        The value; its large arrays are views of ``buffers`` unless ``writable``.

    Raises:
        CorruptDataError: the message is damaged, hostile, or uses types of a newer version.
        ConfigurationError: it holds numpy values and numpy is not installed, or a time zone that is unknown here.
    """
    unpacker = _WRITABLE if writable else _READ_ONLY
    if buffers:
        unpacker = Unpacker(dict(enumerate(buffers)), writable=writable)
    try:
        return unpacker.unpack(message)
    except MorphMLRayError:
        raise
    except _BROKEN as error:
        raise CorruptDataError(
            f"The stored value is damaged: its message cannot be read ({type(error).__name__})"
        ) from error


class Unpacker:
    """Reads messages that stand at one depth of extension types in extension types."""

    def __init__(self, buffers: dict[int, memoryview], *, writable: bool, depth: int = 0) -> None:
        self._buffers = buffers
        self._writable = writable
        self._depth = depth
        self._inner: Unpacker | None = None
        self.unpack: Callable[[bytes | memoryview], Any] = msgspec.msgpack.Decoder(ext_hook=self._build).decode

    def find(self, kept: Any) -> bytes | memoryview | bytearray:
        """Give the binary data that ``Packer.keep`` took, each buffer once: a few bytes cannot ask for many copies.

        Args:
            kept: the data itself, or the number of its buffer.

        Returns:
            The data; a private copy if values are to be writable.
        """
        if type(kept) is int and kept in self._buffers:
            data: bytes | memoryview = self._buffers.pop(kept)
        elif type(kept) is bytes:
            data = kept
        else:
            raise CorruptDataError("The stored value is damaged: it refers to a buffer that is not there")
        return bytearray(data) if self._writable else data

    def _build(self, code: int, data: memoryview) -> Any:
        if code in _SCALARS:
            return _SCALARS[code](bytes(data))
        if code in _NUMPY:
            return _numpy_builder()(code, data, self._inside(), self.find)
        if code in _CONTAINERS:
            return _CONTAINERS[code](self._list(data))
        if code in _BINARY:
            return _BINARY[code](self.find(self._inside()(data)))
        raise CorruptDataError(
            f"The stored value holds data of type {code}, which this version of morphml_ray does not know: "
            "it was written by a newer version, upgrade this one; or it is damaged"
        )

    def _list(self, data: memoryview) -> list[Any]:
        items = self._inside()(data)
        if type(items) is not list:
            raise CorruptDataError("The stored value is damaged: a container holds no list of items")
        return items

    def _inside(self) -> Callable[[bytes | memoryview], Any]:
        """What reads the message in an extension type."""
        if self._inner is None:
            if self._depth > MAX_DEPTH:
                raise CorruptDataError(f"The stored value is damaged: it is nested deeper than {MAX_DEPTH} levels")
            self._inner = Unpacker(self._buffers, writable=self._writable, depth=self._depth + 1)
        return self._inner.unpack


def _dict(parts: list[Any]) -> dict[Any, Any]:
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _numpy_builder() -> Callable[..., Any]:
    try:
        from morphml_ray.serde import arrays  # noqa: PLC0415 - numpy is needed only by those who store its values
    except ImportError as error:
        raise ConfigurationError("The stored value holds numpy data: install numpy to read it") from error
    return arrays.build_numpy


_SCALARS = {scalar.code: scalar.build for scalar in (INTEGER, TEXT, *SCALARS.values())}
_NUMPY = {extensions.NUMPY_ARRAY, extensions.NUMPY_SCALAR, extensions.NUMPY_TEXT, extensions.NUMPY_BYTES}
_BINARY: dict[int, Callable[[Any], Any]] = {extensions.BYTES: bytes, extensions.BYTEARRAY: bytearray}
_CONTAINERS: dict[int, Callable[[list[Any]], Any]] = {
    extensions.TUPLE: tuple,
    extensions.SET: set,
    extensions.FROZENSET: frozenset,
    extensions.PAIRS: _dict,
}
_READ_ONLY = Unpacker({}, writable=False)
_WRITABLE = Unpacker({}, writable=True)
