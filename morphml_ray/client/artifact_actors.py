"""The artifact actors of a storage: one a node, each found or started when it is first used there."""

import contextlib
import re
from dataclasses import dataclass
from typing import Any

import ray
from ray.actor import ActorHandle

from morphml_ray.actors.artifacts import ArtifactActor, ArtifactSettings
from morphml_ray.actors.deploy import ASK_TIMEOUT_S, HEALTH, check_actor, find_actors, start_actor, this_node
from morphml_ray.client.artifact_channel import ArtifactChannel
from morphml_ray.client.channel import Call
from morphml_ray.errors import BackendUnavailable

_NODE_DIGITS = 16
_NODE = re.compile(f"[0-9a-f]{{{_NODE_DIGITS}}}")

# One of each for a process: tasks come and go in it, each with a facade of its own.
_OPENED: dict[tuple[str, str], ArtifactChannel] = {}


@dataclass(frozen=True)
class ArtifactActors:
    """All artifact actors of a storage; pickles, and gives each process the actor of its node.

    Attributes:
        settings: of each of them.
        name: of the storage.
        namespace: of Ray.
        first: the actor that the storage was found by.
    """

    settings: ArtifactSettings
    name: str
    namespace: str
    first: ArtifactChannel

    def here(self) -> ArtifactChannel:
        """Give the way to the actor that serves this node.

        Raises:
            BackendUnavailable: the storage was shut down.
        """
        node_id = this_node()
        if node_id == self.first.node_id or self.settings.home_node is not None:
            return self.first
        # The first one's id tells this storage from a later one of the same name.
        key = (self.first.handle._actor_id.hex(), node_id)  # noqa: SLF001 - Ray has no public name for it
        channel = _OPENED.get(key)
        if channel is None or channel.is_gone:
            # After a shutdown nobody starts an actor; but where only its node is gone, this one goes on.
            with contextlib.suppress(ray.exceptions.ActorUnschedulableError):
                check_actor(self.first.handle, self.settings)
            channel = _OPENED[key] = _open(self.settings, self.name, self.namespace)
        return channel

    def running(self) -> "dict[str, ActorHandle[Any]]":
        """Give those that run, by the beginnings of their nodes' ids."""
        return _find(self.name, self.namespace)

    def flush(self) -> None:
        """Return when all transfers have ended that are under way now, on all nodes."""
        for node, handle in self.running().items():
            ArtifactChannel(handle, self.first.place, self.first.deadline_s, node).wait(Call("flush"))


def connect_artifacts(wanted: ArtifactSettings, name: str, namespace: str, *, is_stated: bool) -> ArtifactActors:
    """Find the artifact actors of a storage, or start that of this node, and open the store.

    Args:
        wanted: what they are to be made of.
        name: of the storage.
        namespace: of Ray.
        is_stated: refuse actors that serve another place; otherwise take what runs.

    Raises:
        ConflictError: they serve something else, or another version.
        ConfigurationError: the store refuses the credentials, or there is no such bucket or directory.
        BackendUnavailable: the store did not answer within the deadline.
    """
    settings = _ask_settings(name, namespace, wanted if is_stated else None) or wanted
    channel = _open(settings, name, namespace)
    channel.wait(Call("ready"))
    return ArtifactActors(settings, name, namespace, channel)


def find_artifacts(name: str, namespace: str) -> ArtifactActors | None:
    """Find the artifact actors of a storage; None where none runs.

    Raises:
        ConflictError: they are of another version.
        BackendUnavailable: they do not answer.
    """
    settings = _ask_settings(name, namespace, None)
    if settings is None:
        return None
    return ArtifactActors(settings, name, namespace, _open(settings, name, namespace))


def _open(settings: ArtifactSettings, name: str, namespace: str) -> ArtifactChannel:
    """Get or create the artifact actor that serves this node."""
    node_id = settings.home_node or this_node()
    handle = start_actor(ArtifactActor, settings, _prefix(name) + node_id[:_NODE_DIGITS], namespace, node_id)
    found = check_actor(handle, settings)
    return ArtifactChannel(handle, found.place, found.deadline_s, node_id)


def _find(name: str, namespace: str) -> "dict[str, ActorHandle[Any]]":
    found = find_actors(_prefix(name), namespace)
    return {node: handle for node, handle in found.items() if _NODE.fullmatch(node)}


def _ask_settings(name: str, namespace: str, stated: ArtifactSettings | None) -> ArtifactSettings | None:
    """Ask what the actors of a storage are made of; None where there are none."""
    handles = _find(name, namespace).values()
    asked = {handle.settings.options(concurrency_group=HEALTH).remote(): handle for handle in handles}
    while asked:
        answered, _ = ray.wait(list(asked), timeout=ASK_TIMEOUT_S)
        if not answered:
            raise BackendUnavailable(f"the artifact actors of the storage {name!r} do not answer")
        handle = asked.pop(answered[0])
        with contextlib.suppress(ray.exceptions.RayActorError, ray.exceptions.ActorUnschedulableError):
            settings: ArtifactSettings = ray.get(answered[0])
            check_actor(handle, stated)
            return settings
    return None


def _prefix(name: str) -> str:
    return f"artifacts:{name}:"
