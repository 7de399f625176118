"""What a caller asks of an actor, named by the method itself, and how long values look on their way."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, SupportsIndex, TypeVar, overload

from ray.exceptions import RayTaskError
from typing_extensions import ParamSpec

from morphml_ray.errors import CorruptDataError, MorphMLRayError

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
M = TypeVar("M", bound=Callable[..., Any])


class Encoded(ABC, Generic[R_co]):
    """A value that travels encoded: unpickling it, in the caller, gives what it stands for.

    So callers pay for decoding, and actors move bytes.
    """

    @abstractmethod
    def __reduce__(self) -> tuple[Any, ...]:
        """Say what decodes it, and from what."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        """Let an error of decoding be an answer like one of the actor's, whoever waits for it."""
        decode, arguments = self.__reduce__()
        return _decoded, (type(self).__name__, decode, *arguments)


@dataclass(frozen=True)
class Call(Generic[R]):
    """A call that a facade prepared: arguments are encoded already. ``call`` makes it.

    Attributes:
        method: the name of the actor's method.
        arguments: by position.
        named: by name.
        can_overload: the method takes ``patience_s``, and may answer ``Overloaded``.
    """

    method: str
    arguments: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)
    can_overload: bool = False


@dataclass(frozen=True)
class Answer(Generic[R]):
    """A result that needs no actor."""

    value: R


def can_overload(method: M) -> M:
    """Mark a method of an actor that takes ``patience_s``, and answers ``Overloaded`` where it has no place."""
    method.can_overload = True  # type: ignore[attr-defined]  # functions carry attributes
    return method


def in_group(name: str) -> Callable[[M], M]:
    """Mark a method of an actor: its calls wait for none but those of the group, however many of others wait."""

    def mark(method: M) -> M:
        method.concurrency_group = name  # type: ignore[attr-defined]  # functions carry attributes
        return method

    return mark


@overload
def call(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, Encoded[R]]], /, *arguments: P.args, **named: P.kwargs
) -> Call[R]: ...


@overload
def call(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, Encoded[R] | None]],
    /,
    *arguments: P.args,
    **named: P.kwargs,
) -> Call[R | None]: ...


@overload
def call(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /, *arguments: P.args, **named: P.kwargs
) -> Call[R]: ...


@overload
def call(method: Callable[Concatenate[Any, P], Encoded[R]], /, *arguments: P.args, **named: P.kwargs) -> Call[R]: ...


@overload
def call(method: Callable[Concatenate[Any, P], R], /, *arguments: P.args, **named: P.kwargs) -> Call[R]: ...


def call(method: Callable[..., Any], /, *arguments: Any, **named: Any) -> Call[Any]:
    """Prepare a call; the arguments are checked against the method, and the answer is what arrives in the caller.

    Where the method takes a method of a contract, as ``call(DatabaseActor.read, DatabaseReads.get_experiment, 1)``,
    the arguments that follow are that one's.

    Args:
        method: of the actor's class.
        arguments: of the method, encoded.
        named: the same, by name.
    """
    return Call(method.__name__, arguments, named, getattr(method, "can_overload", False))


def _decoded(name: str, decode: Callable[..., Any], *arguments: Any) -> Any:
    """Decode an answer where it is unpickled; what fails is given as what Ray raises itself, from the actor's error.

    An error that is raised here would be logged by Ray with its traceback and hidden in a ``RaySystemError``.
    """
    try:
        return decode(*arguments)
    except MorphMLRayError as error:
        cause: MorphMLRayError = error
    except Exception as error:  # noqa: BLE001 - unpickling runs code of the value's class, which may raise anything
        cause = CorruptDataError(f"an answer cannot be decoded: {error!r}")
    text = f"{type(cause).__name__}: {cause}"
    return RayTaskError(f"decoding {name}", text, cause)  # type: ignore[no-untyped-call]  # Ray's
