"""Where the actors are that this process uses: each is looked up once, not once a task."""

from dataclasses import dataclass
from typing import Any

from ray.actor import ActorHandle

from morphml_ray.rpc.cluster import current_cluster
from morphml_ray.rpc.deploy import ActorAddress, check_actor, find_actor, is_known_dead
from morphml_ray.rpc.description import ActorDescription

_KNOWN: "dict[tuple[tuple[str, str], ActorAddress], Whereabouts]" = {}


@dataclass(frozen=True)
class Whereabouts:
    """An actor that this process has found.

    Attributes:
        handle: of the actor.
        found: what it serves.
    """

    handle: "ActorHandle[Any]"
    found: ActorDescription


def locate(address: ActorAddress) -> Whereabouts | None:
    """Find the actor that has an address now; None where there is none.

    Raises:
        ConflictError: it speaks another version's protocol.
        BackendUnavailable: it does not answer.
        ConfigurationError: this process belongs to no cluster.
    """
    cluster = current_cluster()
    known = _KNOWN.get((cluster, address))
    if known is not None and not is_known_dead(known.handle):
        return known
    handle = find_actor(address)
    if handle is None:
        return None
    return remember(address, handle, check_actor(handle, None))


def remember(address: ActorAddress, handle: "ActorHandle[Any]", found: ActorDescription) -> Whereabouts:
    """Keep where an actor is, for all objects of this process that lead to it."""
    cluster = current_cluster()
    for key in [key for key in _KNOWN if key[0] != cluster]:
        _KNOWN.pop(key, None)  # handles die with their cluster
    whereabouts = _KNOWN[cluster, address] = Whereabouts(handle, found)
    return whereabouts


def last_known(address: ActorAddress) -> "ActorHandle[Any] | None":
    """Give the actor that had an address when this process last looked; None where it never did in this cluster."""
    known = _KNOWN.get((current_cluster(), address))
    return None if known is None else known.handle
