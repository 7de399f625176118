"""The way to one artifact actor."""

from typing import Any, TypeVar

import ray

from morphml_ray.artifacts.actor.actor import ArtifactActor
from morphml_ray.errors import BackendUnavailable, DeadlineExceeded
from morphml_ray.rpc.call import Call, call
from morphml_ray.rpc.channel import RESTART_ALLOWANCE_S, Channel
from morphml_ray.rpc.deploy import ActorAddress, ask_beside
from morphml_ray.rpc.description import ActorDescription

PROGRESS_TIMEOUT_S = 10.0

R = TypeVar("R")


class ArtifactChannel(Channel):
    """The way to one artifact actor; waits for as long as bytes move.

    Args:
        address: of the actor.
        found: what it serves.
        node_id: where it runs.
    """

    def __init__(self, address: ActorAddress, found: ActorDescription, node_id: str) -> None:
        super().__init__(address, found)
        self.node_id = node_id

    @property
    def is_gone(self) -> bool:
        """Whether no actor has its name any more: it was shut down, or its node died."""
        return not self.is_running()

    @property
    def stall_limit_s(self) -> float:
        """For how long nothing may move before a call is given up."""
        return self.deadline_s + RESTART_ALLOWANCE_S

    def result(self, ref: "ray.ObjectRef[R]") -> R:
        """Wait for an answer, however long bytes move; see ``Channel.wait`` for the errors."""
        while True:
            try:
                return super().result(ref)
            except DeadlineExceeded:
                _, stalled_s = self.progress()
                if stalled_s > self.stall_limit_s:
                    raise

    def progress(self, name: str = "") -> tuple[int, float]:
        """Ask how many bytes a named transfer has moved, and for how many seconds nothing has; infinite: no answer."""
        try:
            return ray.get(ask_beside(self.handle, call(ArtifactActor.progress, name)), timeout=PROGRESS_TIMEOUT_S)
        except (ray.exceptions.RayError, BackendUnavailable):
            return 0, float("inf")

    def _send(self, prepared: Call[R], **options: Any) -> "ray.ObjectRef[R]":
        if prepared.can_overload:
            # The actor admits in the order of coming; sending a large payload again and again would cost more.
            options = {"patience_s": self.deadline_s} | options
        return super()._send(prepared, **options)
