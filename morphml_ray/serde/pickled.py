"""Values that are no plain data, as pickles. Reading one runs code: ``load`` is only for verified ones."""

import pickle
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from morphml_ray.errors import CorruptDataError, ValidationError

_PROTOCOL = 5  # the first with buffers of their own


class Pickler(Protocol):
    """What pickles values: a function like ``pickle.dumps``.

    Where values travel through Ray too, it is Ray's: each copy of cloudpickle numbers the classes of the main program
    for itself, and a class that came with one number is another class than the one that left with another.
    """

    def __call__(self, value: Any, *, protocol: int, buffer_callback: Callable[[pickle.PickleBuffer], None]) -> bytes:
        """Give the pickle, without the buffers that were handed to ``buffer_callback``.

        Raises:
            ValidationError: the value is, or holds, what is not to be stored.
        """


def dump(value: Any, pickler: Pickler) -> tuple[bytes, list[memoryview]]:
    """Pickle a value.

    Args:
        value: any value.
        pickler: decides what can be pickled, such as functions and classes of the main program.

    Returns:
        The pickle, and the memory of arrays and the like, which it refers to and does not hold.

    Raises:
        ValidationError: the value cannot be pickled, or the pickler refuses it.
    """
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> None:
        buffers.append(buffer.raw())

    try:
        return pickler(value, protocol=_PROTOCOL, buffer_callback=keep), buffers
    except ValidationError:
        raise
    except Exception as error:  # a class's own code runs here and may raise anything
        raise ValidationError(
            f"A value of type {type(value).__qualname__} cannot be stored: it cannot be pickled ({_reason(error)})"
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
            f"A stored value cannot be rebuilt here ({_reason(error)}). Its signature is good: "
            "the modules and versions that it was written with must be importable in this process"
        ) from error


def _reason(error: Exception) -> str:
    """Give the text of an error of somebody else as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split()):.300}"
