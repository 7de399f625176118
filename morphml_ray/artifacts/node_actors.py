"""The artifact actors of a storage: one a node, each found or started when it is first used there."""

import contextlib
import re
from dataclasses import dataclass
from typing import Any

import ray
from ray.actor import ActorHandle

from morphml_ray.artifacts.actor.actor import ArtifactActor, ArtifactSettings
from morphml_ray.artifacts.node_channel import ArtifactChannel
from morphml_ray.errors import BackendUnavailable, ConfigurationError
from morphml_ray.rpc.call import call
from morphml_ray.rpc.channel import open_backend
from morphml_ray.rpc.deploy import ASK_TIMEOUT_S, ask_beside, check_actor, find_actors, start_actor, this_node

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
            try:
                check_actor(self.first.handle, self.settings)
            except BackendUnavailable as error:
                if not isinstance(error.__cause__, ray.exceptions.ActorUnschedulableError):
                    raise
            channel = _OPENED[key] = _open(self.settings, self.name, self.namespace)
        return channel

    def running(self) -> "dict[str, ActorHandle[Any]]":
        """Give those that run, by the beginnings of their nodes' ids."""
        return _find(self.name, self.namespace)

    def flush(self) -> None:
        """Return when all transfers have ended that are under way now, on all nodes."""
        for node, handle in self.running().items():
            channel = ArtifactChannel(handle, self.first.place, self.first.deadline_s, node)
            try:
                channel.wait(call(ArtifactActor.flush))
            except BackendUnavailable:
                if not channel.is_gone:  # with its node, and with what it had under way
                    raise


@dataclass(frozen=True)
class StartedArtifacts:
    """The artifact actor of this node, found or started, which need not have come up yet.

    Attributes:
        settings: what it is made of.
        name: of the storage.
        namespace: of Ray.
        stated: what the caller wants; None takes what runs.
        handle: of the actor.
    """

    settings: ArtifactSettings
    name: str
    namespace: str
    stated: ArtifactSettings | None
    handle: "ActorHandle[Any]"

    def open(self) -> ArtifactActors:
        """Wait until it is up and its store answers.

        Raises:
            ConflictError: it is of another version.
            ConfigurationError: the store refuses the credentials, or there is no such bucket or directory.
            BackendUnavailable: the store did not answer within the deadline.
        """
        channel = _channel(self.handle, self.settings)
        open_backend(channel, self.settings.describe(), self.stated)
        return ArtifactActors(self.settings, self.name, self.namespace, channel)


def start_artifacts(
    wanted: ArtifactSettings, name: str, namespace: str, *, is_stated: bool, is_new: bool
) -> StartedArtifacts:
    """Find the artifact actors of a storage, or start that of this node.

    Args:
        wanted: what they are to be made of.
        name: of the storage.
        namespace: of Ray.
        is_stated: refuse actors that serve another place; otherwise take what runs.
        is_new: nothing of this storage runs yet.

    Raises:
        ConflictError: they serve something else, or another version.
        ConfigurationError: the storage runs and its artifact actors are gone: nothing tells where artifacts are.
        BackendUnavailable: they do not answer.
    """
    stated = wanted if is_stated else None
    found = _ask_settings(name, namespace, stated)
    if found is None and not is_stated and not is_new:
        raise ConfigurationError(
            f"the storage {name!r} runs, but its artifact actors are gone with their nodes: state artifacts= (or "
            "MORPHML_ARTIFACTS_URL) as when it was started"
        )
    settings = found or wanted
    return StartedArtifacts(settings, name, namespace, stated, _start(settings, name, namespace))


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
    return _channel(_start(settings, name, namespace), settings)


def _start(settings: ArtifactSettings, name: str, namespace: str) -> "ActorHandle[Any]":
    node_id = _node_of(settings)
    return start_actor(ArtifactActor, settings, artifact_prefix(name) + node_id[:_NODE_DIGITS], namespace, node_id)


def _channel(handle: "ActorHandle[Any]", settings: ArtifactSettings) -> ArtifactChannel:
    found = check_actor(handle, settings)
    return ArtifactChannel(handle, found.place, found.deadline_s, _node_of(settings))


def _node_of(settings: ArtifactSettings) -> str:
    return settings.home_node or this_node()


def _find(name: str, namespace: str) -> "dict[str, ActorHandle[Any]]":
    found = find_actors(artifact_prefix(name), namespace)
    return {node: handle for node, handle in found.items() if _NODE.fullmatch(node)}


def _ask_settings(name: str, namespace: str, stated: ArtifactSettings | None) -> ArtifactSettings | None:
    """Ask what the actors of a storage are made of; None where there are none."""
    handles = _find(name, namespace).values()
    asked = {ask_beside(handle, call(ArtifactActor.settings)): handle for handle in handles}
    while asked:
        answered, _ = ray.wait(list(asked), timeout=ASK_TIMEOUT_S)
        if not answered:
            raise BackendUnavailable(f"the artifact actors of the storage {name!r} do not answer")
        handle = asked.pop(answered[0])
        with contextlib.suppress(ray.exceptions.RayError, BackendUnavailable):  # gone with its node
            settings: ArtifactSettings = ray.get(answered[0])
            check_actor(handle, stated)
            return settings
    return None


def artifact_prefix(name: str) -> str:
    """Give what the names of a storage's artifact actors begin with; a node follows."""
    return f"artifacts:{name}:"
