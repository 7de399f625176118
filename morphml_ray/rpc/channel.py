"""One actor call and its answer, with our own errors and a deadline on every wait."""

import logging
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeAlias, TypeVar

import ray
from ray.actor import ActorHandle

from morphml_ray.errors import (
    BackendUnavailable,
    ConflictError,
    CorruptDataError,
    DeadlineExceeded,
    MorphMLRayError,
    Overloaded,
)
from morphml_ray.rpc.call import Answer, Call
from morphml_ray.rpc.cluster import require_ray
from morphml_ray.rpc.deploy import LOST, ActorAddress, stop_actor
from morphml_ray.rpc.description import ActorDescription
from morphml_ray.rpc.patience import Patience
from morphml_ray.rpc.whereabouts import locate

logger = logging.getLogger(__name__)

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
    """The way to one actor; pickles by the actor's name, and is resolved once a process, when it is first used.

    It leads to the actor that has the name now, as long as that serves the same place: also in another cluster, and
    after the actor was shut down and started anew.

    Args:
        address: of the actor.
        found: what it serves.

    Attributes:
        address: of the actor.
        place: what it serves, without a secret.
        deadline_s: how long it waits for its backend, seconds.
        fingerprint: of what it serves.
    """

    def __init__(self, address: ActorAddress, found: ActorDescription) -> None:
        self.address = address
        self.place = found.place
        self.deadline_s = found.deadline_s
        self.fingerprint = found.fingerprint

    @property
    def handle(self) -> "ActorHandle[Any]":
        """The actor that has the name now.

        Raises:
            BackendUnavailable: there is none.
            ConflictError: it serves another place, or speaks another version's protocol.
            ConfigurationError: this process belongs to no cluster, or was forked from one that does.
        """
        whereabouts = locate(self.address)
        if whereabouts is None:
            raise BackendUnavailable(
                f"the actor of {self.place} is gone (shut down, or its node died, or this is another cluster: no "
                f"{self.address} runs): call morphml_ray.connect() again, or make this object anew"
            )
        if whereabouts.found.fingerprint != self.fingerprint:
            raise ConflictError(
                f"this object is of {self.place}, and {self.address} of this cluster serves {whereabouts.found.place}: "
                "take the one that connect() gives here, or connect() to the other place under another name="
            )
        self.deadline_s = whereabouts.found.deadline_s
        return whereabouts.handle

    def is_running(self) -> bool:
        """Tell whether an actor has the name now."""
        return locate(self.address) is not None

    def shutdown(self) -> None:
        """End the actor, for everybody, when it has finished what it took; nothing where it is gone already."""
        if self.is_running():
            handle = self.handle
            logger.warning("Ending the actor %s of %s, for everybody who uses it", self.address, self.place)
            stop_actor(handle, self.deadline_s)

    def __repr__(self) -> str:
        return f"Channel({self.place!r})"

    def submit(self, prepared: Prepared[R]) -> "ray.ObjectRef[R]":
        """Send a call; the actor itself waits for a place in its queue."""
        require_ray()
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
        """Wait for the answer to a call that was sent.

        While the actor is overloaded, it is sent again with back-off; where another actor has taken the name, once.
        """
        patience = Patience(self.deadline_s)
        can_turn = True
        while True:
            try:
                return self.result(ref)
            except Overloaded:
                if not sent.can_overload or not patience.pause():
                    raise
            except BackendUnavailable as error:
                if not isinstance(error.__cause__, LOST) or not can_turn or not self.is_running():
                    raise
                can_turn = False
            ref = self._send(sent)

    def result(self, ref: "ray.ObjectRef[R]") -> R:
        """Wait for an answer; see ``wait`` for the errors."""
        return self.result_within(ref, self.deadline_s + RESTART_ALLOWANCE_S)

    def result_within(self, ref: "ray.ObjectRef[R]", timeout_s: float) -> R:
        """Wait for an answer for so many seconds; see ``wait`` for the errors."""
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
        except LOST as error:
            raise BackendUnavailable(
                f"the actor of {self.place} is gone (shut down, or its node died): call morphml_ray.connect() "
                "again, or make this object anew"
            ) from error
        except ray.exceptions.ActorUnavailableError as error:
            raise BackendUnavailable(
                f"the actor of {self.place} ended each time it worked on this call (is it too large for its memory?), "
                f"or cannot be reached; the call may have taken effect: {error}"
            ) from error
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
