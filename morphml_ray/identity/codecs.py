"""Callers' own classes: how to describe one as a graph or a config, and how to build it again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from morphml_ray.errors import ValidationError

T = TypeVar("T")

_BUILTIN = (dict, list, tuple, str, int, float, bool, type(None), object)


@dataclass(frozen=True)
class Codec:
    """A registered pair.

    Attributes:
        name: ``module:qualname`` of the class, stored beside each spec.
        encode: gives the graph or config that describes an object.
        decode: builds an object from one.
    """

    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


_by_type: dict[type, Codec] = {}
_by_name: dict[str, Codec] = {}


def register_codec(type_: type[T], encode: Callable[[T], Any], decode: Callable[[Any], T]) -> None:
    """Let architectures be objects of a class of your own, or of a class below it.

    Call it where the class is defined, so that every process that imports the class can decode. A second call for
    the same class replaces the pair, so a notebook cell or a reloaded module can run again. Keys say nothing of the
    class: where two classes have equal descriptions for different networks, let ``encode`` add a field.

    Args:
        type_: the class. The most derived registered class of an object counts.
        encode: gives a nodes-and-edges dict or a config.
        decode: the way back. It sees what ``encode`` gave for the first one recorded, which another worker may have
            numbered otherwise.

    Raises:
        ValidationError: ``type_`` is no class, or one that needs no codec; or a function cannot be called.
    """
    if not isinstance(type_, type) or type_ in _BUILTIN:
        raise ValidationError(f"register_codec: a class of your own is needed, not {type_!r}")
    if not callable(encode) or not callable(decode):
        raise ValidationError(f"register_codec: encode and decode of {type_!r} must be functions")
    codec = Codec(f"{type_.__module__}:{type_.__qualname__}", encode, decode)
    _by_type[type_] = codec
    _by_name[codec.name] = codec


def codec_of(value: Any) -> Codec | None:
    """Give the codec registered for an object's class, or for the nearest class above it."""
    if not _by_type:
        return None
    return next((_by_type[kind] for kind in type(value).__mro__ if kind in _by_type), None)


def codec_named(name: str) -> Codec | None:
    """Give the codec of a name, None where this process has not registered it."""
    return _by_name.get(name)
