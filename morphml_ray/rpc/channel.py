"""One actor call and its answer, with our own errors and a deadline on every wait."""

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeAlias, TypeVar

import ray
from ray.actor import ActorHandle

from morphml_ray.errors import (
    BackendUnavailable,
    ConfigurationError,
    CorruptDataError,
    DeadlineExceeded,
    MorphMLRayError,
    Overloaded,
)
from morphml_ray.rpc.call import Answer, Call, call
from morphml_ray.rpc.deploy import Settings, check_actor, stop_actor
from morphml_ray.rpc.description import ActorDescription, StorageActor
from morphml_ray.rpc.patience import Patience

RESTART_ALLOWANCE_S = 30.0
"""What an answer may take beyond the actor's own deadline: Ray restarts a killed actor meanwhile."""

R = TypeVar("R")


class Steps(ABC, Generic[R]):
    """What takes more than one call; the caller's own part of it runs in the caller."""

    @abstractmethod
    def run(self, channel: "Channel") -> R:
        """Do it all, and give the result."""

    @abstractmethod
    def start(self, channel: "Channel") -> "ray.ObjectRef[R]":
        """Begin it, and give a reference to the result."""


Prepared: TypeAlias = Call[R] | Answer[R] | Steps[R]
"""What a facade's method makes of its arguments."""


class Channel:
    """The way to one actor; pickles with its handle, so tasks need no look-up by name.

    Args:
        handle: of the actor.
        place: what the actor serves, without a secret.
        deadline_s: how long the actor itself waits for its backend, seconds.
    """

    def __init__(self, handle: "ActorHandle[Any]", place: str, deadline_s: float) -> None:
        self.handle = handle
        self.place = place
        self.deadline_s = deadline_s

    def __repr__(self) -> str:
        return f"Channel({self.place!r})"

    def submit(self, prepared: Prepared[R]) -> "ray.ObjectRef[R]":
        """Send a call; the actor itself waits for a place in its queue."""
        if isinstance(prepared, Answer):
            return ray.put(prepared.value)
        if isinstance(prepared, Steps):
            return prepared.start(self)
        if prepared.can_overload:
            return self._send(prepared, patience_s=self.deadline_s)
        return self._send(prepared)

    def wait(self, prepared: Prepared[R]) -> R:
        """Send a call and wait for its answer; while the actor is overloaded, try again with back-off.

        Raises:
            MorphMLRayError: what the actor raised, itself.
            OSError: the actor could not read or write a file of the caller.
            Overloaded: the actor stayed overloaded for the deadline.
            DeadlineExceeded: no answer came in time.
            BackendUnavailable: the actor is gone.
        """
        if isinstance(prepared, Answer):
            return prepared.value
        if isinstance(prepared, Steps):
            return prepared.run(self)
        return self.result_of(prepared, self._send(prepared))

    def result_of(self, sent: Call[R], ref: "ray.ObjectRef[R]") -> R:
        """Wait for the answer to a call that was sent; while the actor is overloaded, send it again with back-off."""
        patience = Patience(self.deadline_s)
        while True:
            try:
                return self.result(ref)
            except Overloaded:
                if not sent.can_overload or not patience.pause():
                    raise
            ref = self._send(sent)

    def result(self, ref: "ray.ObjectRef[R]") -> R:
        """Wait for an answer; see ``wait`` for the errors."""
        timeout_s = self.deadline_s + RESTART_ALLOWANCE_S
        try:
            return ray.get(ref, timeout=timeout_s)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, (MorphMLRayError, OSError)):
                raise cause from None
            raise
        except ray.exceptions.GetTimeoutError as error:
            raise DeadlineExceeded(
                f"no answer from the actor of {self.place} within {timeout_s:.0f} s; the call may still take effect"
            ) from error
        except (ray.exceptions.ActorDiedError, ray.exceptions.ActorUnschedulableError) as error:
            raise BackendUnavailable(
                f"the actor of {self.place} is gone (shut down, or its node died): call morphml_ray.connect() again"
            ) from error
        except ray.exceptions.ActorUnavailableError as error:
            raise BackendUnavailable(f"the actor of {self.place} cannot be reached: {error}") from error
        except ray.exceptions.RaySystemError as error:
            if isinstance(error.client_exc, MorphMLRayError):
                raise error.client_exc from None
            raise CorruptDataError(f"an answer from {self.place} cannot be decoded: {error}") from error
        except ray.exceptions.RayError as error:  # its node died with the answer, or Ray's memory ran full
            raise BackendUnavailable(f"an answer from {self.place} was lost: {error}") from error

    def _send(self, prepared: Call[R], **options: Any) -> "ray.ObjectRef[R]":
        ref: ray.ObjectRef[R] = getattr(self.handle, prepared.method).remote(
            *prepared.arguments, **prepared.named, **options
        )
        return ref


def open_channel(handle: "ActorHandle[Any]", settings: Settings | None) -> Channel:
    """Check an actor, wait until its backend answers, and give the way to it.

    Args:
        handle: of the actor.
        settings: what is wanted; None takes what runs.

    Raises:
        ConflictError: the actor serves something else, or another version.
        ConfigurationError: the backend refuses the connection.
        BackendUnavailable: it did not answer within the deadline.
    """
    found = check_actor(handle, settings)
    channel = Channel(handle, found.place, found.deadline_s)
    open_backend(channel, found, settings)
    return channel


def open_backend(channel: Channel, found: ActorDescription, settings: Settings | None) -> None:
    """Wait until the backend of an actor answers, also to what is wanted now; see ``open_channel`` for the errors.

    Args:
        channel: to the actor.
        found: what it serves.
        settings: what is wanted; another password than the actor's is tried out. None takes what runs.
    """
    if settings is not None and settings.url.path is None and settings.url != found.url:
        channel.wait(call(StorageActor.verify, settings.url))
    try:
        channel.wait(call(StorageActor.ready))
    except ConfigurationError:
        # It will never open, and would stand in the way of one that is made of the right settings.
        if not channel.wait(call(StorageActor.health))["is_open"]:
            stop_actor(channel.handle, channel.deadline_s)
        raise
