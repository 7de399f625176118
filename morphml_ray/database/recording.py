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


class HasScopes(Protocol):
    """What records into any experiment."""

    def scope_of(self, experiment_id: int | str) -> Scope:
        """Tell how the architectures of an experiment are told apart."""


class HasScope(Protocol):
    """What records into one experiment."""

    @property
    def scope(self) -> Scope:
        """The experiment, and how its architectures are told apart."""


S = TypeVar("S", bound=HasScope)
T = TypeVar("T", bound=HasScopes)


def _saves(encode: Callable[P, SaveUnit]) -> Callable[[Callable[[T, SaveUnit], R]], Callable[Concatenate[T, P], R]]:
    parameters = list(inspect.signature(encode).parameters.values())

    def decorate(method: Callable[[T, SaveUnit], R]) -> Callable[Concatenate[T, P], R]:
        def save(owner: T, /, experiment_id: Any, architecture: Any, *args: Any, **kwargs: Any) -> R:
            encoded = owner.scope_of(experiment_id).encode(architecture)
            return method(owner, encode_save(experiment_id, encoded, *args, **kwargs))

        return _shown(save, method, parameters)  # type: ignore[arg-type]  # P begins with these two

    return decorate


def _records(
    encode: Callable[Concatenate[int | str, P], SaveUnit],
) -> Callable[[Callable[[S, SaveUnit], R]], Callable[Concatenate[S, P], R]]:
    _, *parameters = inspect.signature(encode).parameters.values()

    def decorate(method: Callable[[S, SaveUnit], R]) -> Callable[Concatenate[S, P], R]:
        def record(owner: S, /, architecture: Any, *args: Any, **kwargs: Any) -> R:
            scope = owner.scope
            return method(owner, encode_save(scope.experiment_id, scope.encode(architecture), *args, **kwargs))

        return _shown(record, method, parameters)  # type: ignore[arg-type]  # P begins with the architecture

    return decorate


Owner = TypeVar("Owner")


def _shown(
    wrapper: Callable[Concatenate[Owner, P], R],
    method: Callable[[Owner, SaveUnit], R],
    parameters: list[inspect.Parameter],
) -> Callable[Concatenate[Owner, P], R]:
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
