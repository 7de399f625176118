"""Values that are no plain data, as pickles. Reading one runs code: ``load`` is only for verified ones."""

import pickle
from collections.abc import Sequence
from typing import Any

import cloudpickle  # type: ignore[import-untyped]  # it carries no type information

from morphml_ray.errors import CorruptDataError, ValidationError

_PROTOCOL = 5  # the first with buffers of their own


def dump(value: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle a value, functions and classes of the main program included.

    Args:
        value: any value.

    Returns:
        The pickle, and the memory of arrays and the like, which it refers to and does not hold.

    Raises:
        ValidationError: the value cannot be pickled.
    """
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> None:
        buffers.append(buffer.raw())

    try:
        return cloudpickle.dumps(value, protocol=_PROTOCOL, buffer_callback=keep), buffers
    except Exception as error:  # a class's own code runs here and may raise anything
        raise ValidationError(
            f"A value of type {type(value).__qualname__} cannot be stored: it cannot be pickled "
            f"({type(error).__name__}: {error})"
        ) from error


def load(pickled: memoryview, buffers: Sequence[memoryview], *, writable: bool) -> Any:
    """Rebuild a value whose signature was verified.

    Args:
        pickled: the pickle.
        buffers: the memory that it refers to, read-only.
        writable: whether arrays are private copies that may be changed, or views of ``buffers``.

    Returns:
        The value.

    Raises:
        CorruptDataError: the value cannot be rebuilt here, mostly since a module or class is missing.
    """
    given = [bytearray(buffer) for buffer in buffers] if writable else buffers
    try:
        return pickle.loads(pickled, buffers=given)  # noqa: S301 - the signature was verified
    except Exception as error:  # the same
        raise CorruptDataError(
            f"A stored value cannot be rebuilt here ({type(error).__name__}: {error}). Its signature is good: "
            "the modules and versions that it was written with must be importable in this process"
        ) from error
