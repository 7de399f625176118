"""The typed ``.remote``: one definition of a method gives its blocking and its asynchronous form."""

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Protocol, cast, get_args, overload

from typing_extensions import ParamSpec, TypeVar

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


class BoundRemoteMethod(Protocol[P, R]):
    """A method of a facade: call it and wait, or call ``.remote`` and get a reference to the same value."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Wait for the answer."""

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> "ray.ObjectRef[R]":
        """Return at once; ``ray.get`` of the reference, or ``await``, gives what the call would give."""


class RemoteMethod(Generic[P, R]):
    """The descriptor behind a remote method; ``prepare`` checks and encodes, in the caller.

    Editors, ``help()`` and ``inspect.signature`` show what a user calls: the arguments of ``prepare``, and the answer
    in place of the call that is sent.
    """

    def __init__(self, prepare: Callable[..., Prepared[R]]) -> None:
        update_wrapper(self, prepare)
        self._prepare = prepare
        self.__signature__ = _shown(inspect.signature(prepare))
        _, *parameters = self.__signature__.parameters.values()
        self._bound_signature = self.__signature__.replace(parameters=parameters)

    def __call__(self, owner: Facade, *args: P.args, **kwargs: P.kwargs) -> R:
        """Wait for the answer, as the method of a class is called with its object."""
        return owner.channel.wait(self._prepare(owner, *args, **kwargs))

    @overload
    def __get__(self, owner: None, cls: type) -> "RemoteMethod[P, R]": ...

    @overload
    def __get__(self, owner: Facade, cls: type) -> BoundRemoteMethod[P, R]: ...

    def __get__(self, owner: Facade | None, cls: type) -> "RemoteMethod[P, R] | BoundRemoteMethod[P, R]":
        return self if owner is None else self._bind(owner)

    def _bind(self, owner: Facade) -> BoundRemoteMethod[P, R]:
        # A function, for help() shows the signature and the text of nothing else that an object holds.
        def wait(*args: P.args, **kwargs: P.kwargs) -> R:
            return owner.channel.wait(self._prepare(owner, *args, **kwargs))

        def remote(*args: P.args, **kwargs: P.kwargs) -> "ray.ObjectRef[R]":
            return owner.channel.submit(self._prepare(owner, *args, **kwargs))

        bound: Any = wait
        bound.remote = remote
        form: Any
        for form in (bound, remote):
            update_wrapper(form, self._prepare)
            form.__signature__ = self._bound_signature
        return cast("BoundRemoteMethod[P, R]", bound)


def remote_method(prepare: Callable[Concatenate[Any, P], Prepared[R]]) -> RemoteMethod[P, R]:
    """Make a remote method of one that checks and encodes its arguments and gives the call to send."""
    return RemoteMethod(prepare)


def _shown(signature: inspect.Signature) -> inspect.Signature:
    """Give the signature with the answer in place of what is sent: ``Call[int]`` becomes ``int``."""
    (answer,) = get_args(signature.return_annotation) or (Any,)
    return signature.replace(return_annotation=answer)
