"""What one ``connect()`` does with actors: meet them, wait until they are open, and leave where that fails."""

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

import ray
from ray.actor import ActorHandle
from typing_extensions import Self

from morphml_ray.config import HeldSecret
from morphml_ray.errors import BackendUnavailable
from morphml_ray.rpc.call import call
from morphml_ray.rpc.channel import Channel
from morphml_ray.rpc.cluster import require_ray
from morphml_ray.rpc.deploy import (
    ASK_TIMEOUT_S,
    LOST,
    ActorAddress,
    ask_beside,
    check_description,
    count_restarts,
    create_actor,
    find_actor,
    node_of,
    serves,
    stop_actor,
)
from morphml_ray.rpc.description import ActorDescription, Settings, StorageActor
from morphml_ray.rpc.patience import Patience
from morphml_ray.rpc.reception import Reception
from morphml_ray.rpc.whereabouts import remember

logger = logging.getLogger(__name__)

TOLD_AFTER_S = 0.5
"""Whoever waits longer is told for what, as soon as the actor knows of an outage."""
TOLD_ANYHOW_AFTER_S = 5.0
STOP_TIMEOUT_S = 5.0
TURNS = 3

S = TypeVar("S", bound=Settings)
C = TypeVar("C", bound=Channel)


@dataclass(frozen=True)
class Met(Generic[S]):
    """An actor that was found or made, and need not have come up yet.

    Attributes:
        address: of the actor.
        handle: of the actor.
        found: what it serves.
        stated: what is wanted; None takes what runs.
        is_new: this visit has made it.
    """

    address: ActorAddress
    handle: "ActorHandle[Any]"
    found: ActorDescription
    stated: S | None
    is_new: bool

    def channel(self) -> Channel:
        """Give the way to it."""
        return Channel(self.address, self.found)


class Visit:
    """Meets actors; leaving its ``with`` block by an error ends those to which nobody else has come."""

    def __init__(self) -> None:
        require_ray()
        self._guest = uuid.uuid4().hex
        self._met: list[ActorHandle[Any]] = []
        self._made: list[ActorHandle[Any]] = []
        self._secrets: list[HeldSecret] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._met = [handle for handle in reversed(self._met) if not self._leave(handle)]
        # Secrets are needed by what was made of them and goes on.
        is_needed = kind is None or any(handle in self._met for handle in self._made)
        for secret in self._secrets:
            secret.release(keep=is_needed)

    def meet(
        self,
        kind: type,
        address: ActorAddress,
        wanted: Callable[[], S],
        *,
        is_stated: bool,
        node: Callable[[S], str | None] = lambda settings: node_of(settings.url),
    ) -> Met[S]:
        """Find an actor, or make it; of racing callers one makes it, and the others wait until it tells what it serves.

        Args:
            kind: its plain class.
            address: where it is found.
            wanted: gives what it is to be made of.
            is_stated: refuse an actor that serves another place; otherwise take what runs.
            node: tells where an actor of these settings must run.

        Raises:
            ConflictError: it serves something else, or speaks another version's protocol.
            ConfigurationError: it may not be made here.
            BackendUnavailable: it does not answer.
        """
        stated = self._make(wanted) if is_stated else None
        patience = Patience(ASK_TIMEOUT_S)
        while True:
            handle = find_actor(address)
            if handle is None:
                settings = stated or self._make(wanted)
                handle = create_actor(kind, settings, address, self._guest, node(settings))
                if handle is not None:
                    self._met.append(handle)
                    self._made.append(handle)
                    return Met(address, handle, settings.describe(), stated, is_new=True)
            else:
                found = self._arrive(handle)
                if found is not None:
                    check_description(found, stated)
                    return Met(address, handle, found, stated, is_new=False)
            if not patience.pause():
                raise BackendUnavailable(f"{address} is taken by an actor that ends")

    def open(self, met: Met[Any], channel: C) -> C:
        """Wait until the backend of an actor answers, also to what is wanted now; gives the channel to it.

        Another password than the actor's is tried out.

        Raises:
            ConfigurationError: the backend refuses the connection.
            BackendUnavailable: it did not answer within the deadline.
        """
        remember(met.address, met.handle, met.found)
        stated = met.stated
        if stated is not None and stated.url.path is None and stated.url != met.found.url:
            channel.wait(call(StorageActor.verify, stated.url))
        ready = channel.submit(call(StorageActor.ready))
        _tell(met, ready)
        channel.result(ready)
        return channel

    def take_back(self, met: Met[Any]) -> bool:
        """End an actor that this visit has made, unless others have come to it; tells whether it did."""
        if not met.is_new or not self._leave(met.handle):
            return False
        self._met.remove(met.handle)
        return True

    def _make(self, wanted: Callable[[], S]) -> S:
        """Make settings, and hold the secret that they stash."""
        for _ in range(TURNS):
            settings = wanted()
            try:
                self._secrets.append(HeldSecret(settings.url))
            except FileNotFoundError:  # removed by somebody who failed with it just now, or on another node
                continue
            break
        return settings

    def _arrive(self, handle: "ActorHandle[Any]") -> ActorDescription | None:
        """Become a guest; None where the actor ends."""
        try:
            found = ray.get(ask_beside(handle, call(Reception.arrive, self._guest)), timeout=ASK_TIMEOUT_S)
        except LOST:
            return None
        except ray.exceptions.RayError as error:
            raise BackendUnavailable(f"an actor of morphml_ray does not answer: {error}") from error
        if found is not None:
            self._met.append(handle)
        return found

    def _leave(self, handle: "ActorHandle[Any]") -> bool:
        """Stop being a guest, and end the actor where nobody else is one; tells whether it is gone."""
        try:
            # One that was started again has forgotten who had come.
            if count_restarts(handle) > 0:
                return False
            health = ray.get(ask_beside(handle, call(StorageActor.health)), timeout=ASK_TIMEOUT_S)
            leaving = call(Reception.leave, self._guest, is_open=health["is_open"])
            is_last = ray.get(ask_beside(handle, leaving), timeout=ASK_TIMEOUT_S)
        except LOST:
            return True
        except ray.exceptions.RayError:  # it hangs: then nobody knows who else has come
            return False
        if is_last:
            stop_actor(handle, STOP_TIMEOUT_S)
        return is_last


def open_actor(kind: type, settings: Settings, address: ActorAddress, *, shared: ActorAddress | None = None) -> Channel:
    """Find or start the actor of a facade that is made alone, and wait until its backend answers.

    Args:
        kind: its plain class.
        settings: what is wanted.
        address: of its own.
        shared: of an actor that is taken where it serves the same.

    Raises:
        ConflictError: the actor serves something else, or another version.
        ConfigurationError: the backend refuses the connection.
        BackendUnavailable: it did not answer within the deadline.
    """
    with Visit() as visit:
        handle = None if shared is None else find_actor(shared)
        if shared is not None and handle is not None and serves(handle, settings):
            address = shared
        met = visit.meet(kind, address, lambda: settings, is_stated=True)
        return visit.open(met, met.channel())


def _tell(met: Met[Any], ready: "ray.ObjectRef[None]") -> None:
    """Log what a long wait is for, as soon as the actor knows."""
    up_at = float("inf")
    while not ray.wait([ready], timeout=TOLD_AFTER_S, fetch_local=False)[0]:
        try:
            health = ray.get(ask_beside(met.handle, call(StorageActor.health)), timeout=TOLD_AFTER_S)
        except ray.exceptions.RayError:  # its process comes up, or has gone: the answer will tell
            continue
        up_at = min(up_at, time.monotonic())
        outage = health.get("outage")
        if outage is not None or time.monotonic() - up_at > TOLD_ANYHOW_AFTER_S:
            place, deadline_s = met.found.place, met.found.deadline_s
            logger.warning("Waiting for %s for up to %g s: %s", place, deadline_s, outage or "no answer so far")
            return
