"""Plain data to msgpack, keeping every type: what msgpack lacks becomes an extension type."""

import re
from types import NoneType
from typing import Any

import msgspec
from msgspec.msgpack import Ext

from morphml_ray.serde import extensions
from morphml_ray.serde.extensions import MAX_DEPTH, NotPlainError
from morphml_ray.serde.scalars import INTEGER, SCALARS, TEXT, Scalar

MAX_REPEATED_BYTES = 1 << 20
"""How much is written again of what stands at several places already; beyond it a pickle, which repeats nothing."""

# Below this, copying into the message is cheaper than a buffer of its own.
MIN_BUFFER_BYTES = 16 * 1024

_encode = msgspec.msgpack.Encoder().encode
_SURROGATE = re.compile("[\ud800-\udfff]")
_POINTER_BYTES = 8
_MIN_NATIVE_INT, _MAX_NATIVE_INT = -(2**63), 2**64 - 1


def pack_plain(value: Any) -> tuple[bytes, list[memoryview]] | None:
    """Write a value as msgpack.

    Args:
        value: any value; it is not changed.

    Returns:
        The message and the large buffers that it refers to, which are views of the value's own memory. None: the
        value holds something that is no plain data, is deeper than ``MAX_DEPTH``, contains itself, or holds so much
        at several places that a pickle, which holds it once, is better.
    """
    try:
        try:
            return _pack_with(Packer(), value)
        except (OverflowError, UnicodeEncodeError):  # an integer or a text that only the careful way can write
            return _pack_with(CarefulPacker(), value)
    except (NotPlainError, RecursionError, ValueError):  # ValueError: over 4 GB in one message
        return None


class Packer:
    """One encoding: replaces what msgpack lacks, and gathers the large buffers.

    Attributes:
        buffers: views of large binary data, in the order of their numbers in the message.
    """

    # Types that msgspec writes and reads back as they are. Exact types only: subclasses would lose their class.
    native: frozenset[type] = frozenset({NoneType, bool, int, float, str})

    def __init__(self) -> None:
        self.buffers: list[memoryview] = []
        self._written: set[int] = set()
        self._repeated_bytes = 0

    def pack(self, value: Any, depth: int) -> Any:
        """Replace what msgpack lacks.

        Args:
            value: any value.
            depth: how many containers it stands in.

        Returns:
            What msgspec can write; ``value`` itself where nothing had to be replaced.

        Raises:
            NotPlainError: ``value`` is, or holds, something that is no plain data.
        """
        kind = type(value)
        if kind in self.native:
            return value
        if depth > MAX_DEPTH:
            raise NotPlainError
        if kind in SCALARS:
            return _extension(SCALARS[kind], value)
        if id(value) in self._written:
            self._repeat(value)
        self._written.add(id(value))
        if kind is dict:
            return self._pack_dict(value, depth + 1)
        if kind is list:
            return self._pack_items(value, depth + 1)
        if kind in _SEQUENCES:
            return Ext(_SEQUENCES[kind], _encode(self._pack_items(list(value), depth + 1)))
        return self._pack_binary(value, kind)

    def keep(self, data: memoryview) -> int | bytes:
        """Take binary data out of the message if it is large.

        Args:
            data: contiguous bytes.

        Returns:
            The number of its buffer, or a copy that goes into the message.
        """
        if data.nbytes < MIN_BUFFER_BYTES:
            return bytes(data)
        self.buffers.append(data)
        return len(self.buffers) - 1

    def _repeat(self, value: Any) -> None:
        """Count what was written before: twice the same list of twice the same list of ... would grow without end."""
        self._repeated_bytes += _size_bytes(value)
        if self._repeated_bytes > MAX_REPEATED_BYTES:
            raise NotPlainError

    def _pack_items(self, items: list[Any], depth: int) -> list[Any]:
        if self.native.issuperset(map(type, items)):
            return items
        return [self.pack(item, depth) for item in items]

    def _pack_dict(self, value: dict[Any, Any], depth: int) -> Any:
        if not self._has_native_keys(value):
            pairs = [part for pair in value.items() for part in pair]
            return Ext(extensions.PAIRS, _encode(self._pack_items(pairs, depth)))
        if self.native.issuperset(map(type, value.values())):
            return value
        return {key: self.pack(item, depth) for key, item in value.items()}

    def _has_native_keys(self, value: dict[Any, Any]) -> bool:
        return self.native.issuperset(map(type, value))

    def _pack_binary(self, value: Any, kind: type) -> Any:
        if kind is bytes:
            kept = self.keep(memoryview(value))
            return value if isinstance(kept, bytes) else Ext(extensions.BYTES, _encode(kept))
        if kind is bytearray:
            return Ext(extensions.BYTEARRAY, _encode(self.keep(memoryview(value))))
        if kind.__module__ == "numpy":
            from morphml_ray.serde import arrays  # noqa: PLC0415 - numpy is there only if the caller brought it

            return arrays.pack_numpy(value, self.keep)
        raise NotPlainError


class CarefulPacker(Packer):
    """The same for integers beyond 64 bits and texts with lone surrogates, at the price of a look at each."""

    native = frozenset({NoneType, bool, float})

    def pack(self, value: Any, depth: int) -> Any:
        """Replace what msgpack lacks; see ``Packer.pack``."""
        if type(value) is int:
            return value if _MIN_NATIVE_INT <= value <= _MAX_NATIVE_INT else _extension(INTEGER, value)
        if type(value) is str:
            return _extension(TEXT, value) if _SURROGATE.search(value) else value
        return super().pack(value, depth)

    def _has_native_keys(self, value: dict[Any, Any]) -> bool:
        return all(type(key) is str and not _SURROGATE.search(key) for key in value)


_SEQUENCES: dict[type, int] = {
    tuple: extensions.TUPLE,
    set: extensions.SET,
    frozenset: extensions.FROZENSET,
}


def _size_bytes(value: Any) -> int:
    """Give about what a container, binary data or a value of numpy takes, without what it refers to."""
    if isinstance(value, bytes | bytearray):
        return len(value)
    return int(value.nbytes) if hasattr(value, "nbytes") else len(value) * _POINTER_BYTES


def _pack_with(packer: Packer, value: Any) -> tuple[bytes, list[memoryview]]:
    return _encode(packer.pack(value, 0)), packer.buffers


def _extension(scalar: Scalar, value: Any) -> Ext:
    return Ext(scalar.code, scalar.pack(value))
