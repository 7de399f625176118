"""The artifact actors of a storage: one a node, each found or started when it is first used there."""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.actor import ActorHandle

from morphml_ray.artifacts.actor.actor import ArtifactActor, ArtifactSettings
from morphml_ray.artifacts.credentials import CredentialsMissingError, states_credentials, with_own_credentials
from morphml_ray.artifacts.node_channel import ArtifactChannel
from morphml_ray.errors import BackendUnavailable, ConfigurationError
from morphml_ray.model.arguments import text
from morphml_ray.rpc.call import call
from morphml_ray.rpc.cluster import current_cluster, this_node
from morphml_ray.rpc.deploy import ASK_TIMEOUT_S, ActorAddress, ask_beside, check_actor, find_actors
from morphml_ray.rpc.patience import Patience
from morphml_ray.rpc.visit import Met, Visit
from morphml_ray.rpc.whereabouts import last_known

STARTING_S = 2.0
"""How long after its database actor a storage may be without an artifact actor: whoever connects first starts both."""

_NODE_DIGITS = 16
_NODE = re.compile(f"[0-9a-f]{{{_NODE_DIGITS}}}")

# One of each for a process: tasks come and go in it, each with a facade of its own.
_OPENED: dict[tuple[tuple[str, str], ActorAddress, str, str], ArtifactChannel] = {}


@dataclass(frozen=True)
class ArtifactActors:
    """All artifact actors of a storage; pickles, and gives each process the actor of its node.

    Attributes:
        settings: of each of them.
        name: of the storage.
        namespace: of Ray.
        first: the way to the actor that the storage was found by.
    """

    settings: ArtifactSettings
    name: str
    namespace: str
    first: ArtifactChannel

    def here(self) -> ArtifactChannel:
        """Give the way to the actor that serves this node.

        Raises:
            ConflictError: the storage that has the name now serves another place.
            BackendUnavailable: the actors do not answer.
        """
        cluster, node_id = current_cluster(), this_node()
        key = (cluster, ActorAddress(self.name, self.namespace), self.first.fingerprint, node_id)
        channel = _OPENED.get(key)
        if channel is None or channel.is_gone:
            channel = _OPENED[key] = self._find(node_id)
        return channel

    def _find(self, node_id: str) -> ArtifactChannel:
        is_for_all = self.settings.home_node is not None
        if (is_for_all or node_id == self.first.node_id) and self.first.is_running():
            return self.first
        # In another cluster, or on another node than the first one.
        settings = _ask_settings(self.name, self.namespace, self.settings)
        if settings is None:
            # After a shutdown nobody starts an actor; but where only its node is gone, this one goes on.
            if is_for_all or not _died_with_node(self.first):
                return self.first  # whoever calls it is told
            settings = self.settings
        with Visit() as visit:
            return _meet(visit, settings, self.name, self.namespace).channel()

    def running(self) -> "dict[str, ActorHandle[Any]]":
        """Give those that run, by the beginnings of their nodes' ids."""
        return _find(self.name, self.namespace)

    def flush(self) -> None:
        """Return when all transfers have ended that are under way now, on all nodes."""
        for channel in self._channels():
            try:
                channel.wait(call(ArtifactActor.flush))
            except BackendUnavailable:
                if not channel.is_gone:  # with its node, and with what it had under way
                    raise

    def shutdown(self) -> None:
        """End the actors of all nodes, for everybody."""
        for channel in self._channels():
            channel.shutdown()

    def _channels(self) -> list[ArtifactChannel]:
        found = self.settings.describe()
        return [ArtifactChannel(_address(self.name, self.namespace, node), found, node) for node in self.running()]


@dataclass(frozen=True)
class MetArtifacts:
    """The artifact actor of this node, found or made, which need not have come up yet.

    Attributes:
        actor: of this node.
        settings: what it is made of.
        name: of the storage.
        namespace: of Ray.
    """

    actor: Met[ArtifactSettings]
    settings: ArtifactSettings
    name: str
    namespace: str

    def channel(self) -> ArtifactChannel:
        """Give the way to the actor."""
        return ArtifactChannel(self.actor.address, self.actor.found, _node_of(self.settings))

    def actors(self) -> ArtifactActors:
        """Give the way to all."""
        return ArtifactActors(self.settings, self.name, self.namespace, self.channel())

    def open(self, visit: Visit) -> ArtifactActors:
        """Wait until the store answers; see ``Visit.open`` for the errors.

        Where the nodes have no credentials, a new actor gets those of this process' environment.
        """
        try:
            visit.open(self.actor, self.channel())
        except CredentialsMissingError:
            url = with_own_credentials(self.settings.url)
            if url is None or not visit.take_back(self.actor):
                raise
        else:
            return self.actors()
        settings = replace(self.settings, url=url, home_node=this_node())
        return _meet(visit, settings, self.name, self.namespace).open(visit)


def meet_artifacts(
    visit: Visit,
    wanted: Callable[[], ArtifactSettings],
    name: str,
    namespace: str,
    *,
    is_stated: bool,
    is_new: bool,
) -> MetArtifacts:
    """Find the artifact actors of a storage, or start that of this node.

    Args:
        visit: of the caller.
        wanted: gives what they are to be made of.
        name: of the storage.
        namespace: of Ray.
        is_stated: refuse actors that serve another place; otherwise take what runs.
        is_new: this caller has started the storage.

    Raises:
        ConflictError: they serve something else, or another version.
        ConfigurationError: the storage runs and its artifact actors are gone: nothing tells where artifacts are.
        BackendUnavailable: they do not answer.
    """
    stated = wanted() if is_stated else None
    found = _ask_settings(name, namespace, stated)
    patience = Patience(STARTING_S)
    while found is None and not is_new and patience.pause():
        found = _ask_settings(name, namespace, stated)
    if found is None and not is_stated and not is_new:
        raise ConfigurationError(
            f"the storage {name!r} runs, but its artifact actors are gone with their nodes: state artifacts= (or "
            "MORPHML_ARTIFACTS_URL) as when it was started"
        )
    met = _meet(visit, found or stated or wanted(), name, namespace)
    # Without credentials in the URL the actors find some, whoever states it: there is nothing to try out.
    tried = stated if stated is not None and states_credentials(stated.url) else None
    return replace(met, actor=replace(met.actor, stated=tried))


def open_artifacts(settings: ArtifactSettings, name: str, namespace: str) -> ArtifactActors:
    """Find or start the artifact actors of a store that stands alone; see ``meet_artifacts`` for the errors."""
    with Visit() as visit:
        return meet_artifacts(visit, lambda: settings, name, namespace, is_stated=True, is_new=True).open(visit)


def find_artifacts(name: str, namespace: str) -> ArtifactActors | None:
    """Find the artifact actors of a storage; None where none runs.

    Raises:
        ConflictError: they are of another version.
        BackendUnavailable: they do not answer.
    """
    name, namespace = text(name, "name"), text(namespace, "namespace")
    settings = _ask_settings(name, namespace, None)
    if settings is None:
        return None
    with Visit() as visit:
        return _meet(visit, settings, name, namespace).actors()


def _meet(visit: Visit, settings: ArtifactSettings, name: str, namespace: str) -> MetArtifacts:
    """Get or create the artifact actor that serves this node."""
    address = _address(name, namespace, _node_of(settings))
    actor = visit.meet(ArtifactActor, address, lambda: settings, is_stated=True, node=_node_of)
    return MetArtifacts(actor, settings, name, namespace)


def _died_with_node(channel: ArtifactChannel) -> bool:
    """Tell whether an actor that this process knew is gone because its node is."""
    handle = last_known(channel.address)
    if handle is None:
        return False
    try:
        check_actor(handle, None)
    except BackendUnavailable as error:
        return isinstance(error.__cause__, ray.exceptions.ActorUnschedulableError)
    return False


def _node_of(settings: ArtifactSettings) -> str:
    return settings.home_node or this_node()


def _address(name: str, namespace: str, node_id: str) -> ActorAddress:
    return ActorAddress(artifact_prefix(name) + node_id[:_NODE_DIGITS], namespace)


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
