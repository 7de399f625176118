"""One signature for whatever records: its methods take the arguments of ``encode_save`` and are handed a ``SaveUnit``.

So a further field of an evaluation is an argument of ``encode_save``, and of nothing else.
"""

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Concatenate, Protocol, TypeVar

from typing_extensions import ParamSpec

from morphml_ray.database.contract import SaveUnit
from morphml_ray.database.encoding import Scope, encode_save

_ARGUMENTS = (inspect.getdoc(encode_save) or "").partition("\n\n")[2]
"""What the arguments are, and what they may raise: written once."""

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class HasScope(Protocol):
    """What records into one experiment."""

    @property
    def scope(self) -> Scope:
        """The experiment."""


S = TypeVar("S", bound=HasScope)


def _saves(encode: Callable[P, SaveUnit]) -> Callable[[Callable[[T, SaveUnit], R]], Callable[Concatenate[T, P], R]]:
    signature = inspect.signature(encode)

    def decorate(method: Callable[[T, SaveUnit], R]) -> Callable[Concatenate[T, P], R]:
        def save(owner: T, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return method(owner, encode(*args, **kwargs))

        return _shown(save, method, list(signature.parameters.values()))

    return decorate


def _records(
    encode: Callable[Concatenate[int | str, P], SaveUnit],
) -> Callable[[Callable[[S, SaveUnit], R]], Callable[Concatenate[S, P], R]]:
    _, *parameters = inspect.signature(encode).parameters.values()

    def decorate(method: Callable[[S, SaveUnit], R]) -> Callable[Concatenate[S, P], R]:
        def record(owner: S, /, architecture: Any, *args: Any, **kwargs: Any) -> R:
            scope = owner.scope
            encoded: Any = scope.encode(architecture)
            return method(owner, encode_save(scope.experiment_id, encoded, *args, **kwargs))

        return _shown(record, method, parameters)  # type: ignore[arg-type]  # P begins with the architecture

    return decorate


def _shown(
    wrapper: Callable[Concatenate[T, P], R], method: Callable[[T, SaveUnit], R], parameters: list[inspect.Parameter]
) -> Callable[Concatenate[T, P], R]:
    """Let a wrapper have the name and the text of its method, and the arguments that it takes instead."""
    own = inspect.signature(method)
    shown: Any = update_wrapper(wrapper, method)
    shown.__signature__ = own.replace(parameters=[own.parameters["self"], *parameters])
    shown.__doc__ = f"{inspect.getdoc(method)}\n\n{_ARGUMENTS}"
    return wrapper


saves = _saves(encode_save)
"""Decorates a method that takes a ``SaveUnit``: its caller gives the arguments of ``encode_save``."""

records = _records(encode_save)
"""Decorates such a method of an object with a scope: its caller gives the same arguments, but no experiment."""
