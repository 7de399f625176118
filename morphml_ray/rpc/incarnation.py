"""Which life of which actor this process is: Ray restarts an actor in another process, maybe on another node."""

import uuid
from dataclasses import dataclass

import ray


@dataclass(frozen=True)
class Incarnation:
    """One life of an actor.

    Attributes:
        actor_id: stays the same over restarts, and is no other actor's.
        number: 0 for the first.
    """

    actor_id: str
    number: int = 0

    @classmethod
    def only(cls) -> "Incarnation":
        """Make one for what lives once, outside of an actor."""
        return cls(uuid.uuid4().hex)


def this_incarnation() -> Incarnation:
    """Tell which one this process is; outside of an actor, a new one."""
    actor_id = ray.get_runtime_context().get_actor_id() if ray.is_initialized() else None
    if actor_id is None:
        return Incarnation.only()
    # Ray's public state API needs its dashboard; this is what its own RuntimeContext reads.
    found = ray._private.state.actors(actor_id)  # noqa: SLF001 - see above
    return Incarnation(actor_id, int(found.get("NumRestarts", 0)))
