"""Values between Ray and storage: pickled as Ray pickles them, and decoded where Ray unpickles them."""

import io
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import ray
from ray.actor import ActorHandle
from ray.cloudpickle import CloudPickler

from morphml_ray.errors import MorphMLRayError, ValidationError
from morphml_ray.model.handles import remedy_for

R = TypeVar("R")

_HANDLES = (ray.ObjectRef, ray.ObjectRefGenerator, ActorHandle)


class _ValuePickler(CloudPickler):
    """Ray's pickler, which knows the classes of the main program, without what dies with the cluster."""

    def reducer_override(self, obj: Any) -> Any:
        """Refuse a reference or a handle, wherever in a value it stands."""
        if isinstance(obj, _HANDLES):
            raise ValidationError(f"The value cannot be stored: {remedy_for(obj)}")
        return super().reducer_override(obj)  # type: ignore[no-untyped-call]  # Ray leaves it untyped


def pickle_value(value: Any, *, protocol: int, buffer_callback: Callable[[pickle.PickleBuffer], None]) -> bytes:
    """Pickle a value that is to be stored; the ``Pickler`` of ``serde`` wherever values come from Ray's workers.

    Args:
        value: any value.
        protocol: of the pickle.
        buffer_callback: takes large buffers out of it.

    Raises:
        ValidationError: it holds a reference of Ray or an actor.
    """
    with io.BytesIO() as file:
        pickler: Any = _ValuePickler
        pickler(file, protocol=protocol, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()


def decoded(decode: Callable[..., R], *arguments: Any) -> "R | ray.exceptions.RayTaskError":
    """Decode an answer where it is unpickled; an error of ours becomes the answer of a task that failed with it.

    Ray raises that in whoever waits, by ``ray.get``, ``await`` or as an argument of a task. An error raised in here
    would be logged with all of Ray's frames and arrive as a ``RaySystemError``.

    Args:
        decode: gives the value.
        arguments: of ``decode``.
    """
    try:
        return decode(*arguments)
    except MorphMLRayError as error:
        failed: Any = ray.exceptions.RayTaskError
        answer: ray.exceptions.RayTaskError = failed("decode", f"{type(error).__name__}: {error}", error)
        return answer
