"""The typed ``.remote``: one definition of a method gives its blocking and its asynchronous form."""

from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Protocol, TypeVar, cast, overload

from typing_extensions import ParamSpec

from morphml_ray.rpc.channel import Channel, Prepared

if TYPE_CHECKING:
    import ray

P = ParamSpec("P")
R = TypeVar("R")


class Facade(Protocol):
    """What has remote methods: anything with a channel to its actor."""

    @property
    def channel(self) -> Channel:
        """The way to the actor."""


class BoundRemoteMethod(Generic[P, R]):
    """A method of a facade: call it and wait, or call ``.remote`` and get a reference to the same value."""

    def __init__(self, owner: Facade, prepare: Callable[..., Prepared[Any]]) -> None:
        self._owner = owner
        self._prepare = prepare
        update_wrapper(self, prepare)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Wait for the answer."""
        return cast("R", self._owner.channel.wait(self._prepare(self._owner, *args, **kwargs)))

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> "ray.ObjectRef[R]":
        """Return at once; ``ray.get`` of the reference, or ``await``, gives what the call would give."""
        return self._owner.channel.submit(self._prepare(self._owner, *args, **kwargs))


class RemoteMethod(Generic[P, R]):
    """The descriptor behind a remote method; ``prepare`` checks and encodes, in the caller."""

    def __init__(self, prepare: Callable[..., Prepared[Any]]) -> None:
        self._prepare = prepare
        self.__doc__ = prepare.__doc__

    @overload
    def __get__(self, owner: None, cls: type) -> "RemoteMethod[P, R]": ...

    @overload
    def __get__(self, owner: Facade, cls: type) -> BoundRemoteMethod[P, R]: ...

    def __get__(self, owner: Facade | None, cls: type) -> "RemoteMethod[P, R] | BoundRemoteMethod[P, R]":
        return self if owner is None else BoundRemoteMethod(owner, self._prepare)


def remote_method(prepare: Callable[Concatenate[Any, P], Prepared[R]]) -> RemoteMethod[P, R]:
    """Make a remote method of one that checks and encodes its arguments and gives the call to send."""
    return RemoteMethod(prepare)
