"""numpy arrays and scalars as plain data. Imports numpy: loaded only when a value or stored bytes need it."""

import math
import re
from collections.abc import Callable
from types import NoneType
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec.msgpack import Ext

from morphml_ray.errors import CorruptDataError
from morphml_ray.serde import extensions
from morphml_ray.serde.extensions import NotPlainError

_encode = msgspec.msgpack.Encoder().encode
# Booleans, numbers, texts, bytes, voids and times; "O" (objects) and other libraries' types are pickled.
_SIMPLE_DTYPE = re.compile(r"[<>|=][biufcmMSUV]\d*(\[\w+\])?")
_MAX_DTYPE_DEPTH = 16
# What stands for an array, for a dtype with a shape, and for a dtype with fields: names, dtypes, offsets, titles,
# size and whether it is aligned. numpy guesses at other types, so nothing else reaches it.
_Array = tuple[Any, list[int], Literal["C", "F"], Any]
_Subarray = tuple[Any, list[int]]
_Fields = tuple[list[str], list[Any], list[int], list[str | None], int, bool]
_FIELDS_PARTS, _SUBARRAY_PARTS = 6, 2


def pack_numpy(value: Any, keep: Callable[[memoryview], int | bytes]) -> Ext:
    """Write an array or a scalar.

    Args:
        value: what calls itself numpy's.
        keep: takes large data out of the message.

    Returns:
        The extension value.

    Raises:
        NotPlainError: objects inside, a subclass, or a dtype that only a pickle keeps whole.
    """
    kind = type(value)
    if kind is np.ndarray:
        description = _describe(value.dtype)  # first: objects have no bytes
        order, data = _order_and_bytes(value)
        return Ext(extensions.NUMPY_ARRAY, _encode([description, value.shape, order, keep(data)]))
    if kind is np.str_:
        return Ext(extensions.NUMPY_TEXT, value.encode("utf-8", "surrogatepass"))
    if kind is np.bytes_:
        return Ext(extensions.NUMPY_BYTES, bytes(value))
    if isinstance(value, np.generic) and kind is value.dtype.type:
        return Ext(extensions.NUMPY_SCALAR, _encode([_describe(value.dtype), value.tobytes()]))
    raise NotPlainError


def build_numpy(
    code: int,
    data: memoryview,
    unpack: Callable[[memoryview], Any],
    find: Callable[[Any], bytes | memoryview | bytearray],
) -> Any:
    """Read what ``pack_numpy`` wrote.

    Args:
        code: the extension type.
        data: its bytes.
        unpack: reads a message inside it.
        find: gives the data that ``keep`` took.

    Returns:
        The array, a view of what ``find`` gave, or the scalar. Any standard error where the bytes are wrong.
    """
    if code == extensions.NUMPY_TEXT:
        return np.str_(bytes(data).decode("utf-8", "surrogatepass"))
    if code == extensions.NUMPY_BYTES:
        return np.bytes_(data)
    if code == extensions.NUMPY_SCALAR:
        description, raw = unpack(data)
        return _array_over(bytearray(raw), description, [], "C")[()]
    description, shape, order, kept = msgspec.convert(unpack(data), _Array)
    return _array_over(find(kept), description, shape, order)


def _order_and_bytes(array: np.ndarray[Any, Any]) -> tuple[str, memoryview]:
    """The memory of an array; a copy only where it is not contiguous."""
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    if not array.nbytes:
        return order, memoryview(b"")
    flat = (array.T if order == "F" else np.ascontiguousarray(array)).reshape(-1)
    return order, flat.view(np.uint8).data


def _array_over(
    data: bytes | memoryview | bytearray, description: Any, shape: list[int], order: Literal["C", "F"]
) -> np.ndarray[Any, Any]:
    dtype = _dtype(description)
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise CorruptDataError("The stored value is damaged: an array has more or fewer bytes than its shape needs")
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, data, order=order)
    return array


def _describe(dtype: np.dtype[Any]) -> str | list[Any]:
    """A dtype as plain data that builds an equal one; numpy does not know those of others by their names."""
    try:
        description: str | list[Any] = _describe_parts(dtype)
        is_whole = dtype.metadata is None and _dtype(description) == dtype
    except Exception as error:  # the code of whoever made the dtype runs here
        raise NotPlainError from error
    if not is_whole:
        raise NotPlainError
    return description


def _describe_parts(dtype: np.dtype[Any], depth: int = 0) -> str | list[Any]:
    if depth > _MAX_DTYPE_DEPTH:
        raise NotPlainError
    if dtype.subdtype is not None:
        item, shape = dtype.subdtype
        return [_describe_parts(item, depth + 1), list(shape)]
    if dtype.names is None or dtype.fields is None:
        if not _SIMPLE_DTYPE.fullmatch(dtype.str):
            raise NotPlainError
        return str(dtype.str)
    fields: list[tuple[Any, ...]] = [dtype.fields[name] for name in dtype.names]
    formats = [_describe_parts(field[0], depth + 1) for field in fields]
    offsets = [field[1] for field in fields]
    titles = [field[2] if len(field) > len(("dtype", "offset")) else None for field in fields]
    if not {str, NoneType}.issuperset(map(type, titles)):  # a title may be any object
        raise NotPlainError
    return [list(dtype.names), formats, offsets, titles, dtype.itemsize, dtype.isalignedstruct]


def _dtype(description: Any, depth: int = 0) -> np.dtype[Any]:
    """Build a dtype; of a foreign description nothing but the kinds that ``_describe`` writes."""
    if isinstance(description, str) and _SIMPLE_DTYPE.fullmatch(description):
        return np.dtype(description)
    if isinstance(description, list) and depth <= _MAX_DTYPE_DEPTH:
        if len(description) == _SUBARRAY_PARTS:
            item, shape = msgspec.convert(description, _Subarray)
            return np.dtype((_dtype(item, depth + 1), tuple(shape)))
        if len(description) == _FIELDS_PARTS:
            names, items, offsets, titles, itemsize, is_aligned = msgspec.convert(description, _Fields)
            formats = [_dtype(item, depth + 1) for item in items]
            parts: Any = {
                "names": names,
                "formats": formats,
                "offsets": offsets,
                "titles": titles,
                "itemsize": itemsize,
            }
            dtype: np.dtype[Any] = np.dtype(parts, align=is_aligned)
            return dtype
    raise CorruptDataError("The stored value is damaged: an array has an unknown data type")
