"""Handing the plain classes to Ray: names, placement, restarts. The only module that makes actors."""

import contextlib
from functools import cache
from typing import Any, Protocol, TypeVar

import ray
from ray.actor import ActorHandle
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from morphml_ray.config import BackendUrl
from morphml_ray.errors import BackendUnavailable, ConfigurationError, ConflictError
from morphml_ray.rpc.call import Call, call
from morphml_ray.rpc.description import PROTOCOL_VERSION, ActorDescription, StorageActor

HEALTH = "health"
GROUP_SIZE = 1_000
"""Calls of one group at once, as many as Ray lets run that are in none."""
ASK_TIMEOUT_S = 60.0

R = TypeVar("R")


class Settings(Protocol):
    """What an actor is made of."""

    @property
    def url(self) -> BackendUrl:
        """What it serves; references to secrets, never secrets."""

    def describe(self) -> ActorDescription:
        """Tell what an actor of these settings serves."""


def require_ray() -> None:
    """Check that this process belongs to a Ray cluster; asking Ray itself would start one.

    Raises:
        ConfigurationError: it does not.
    """
    if not ray.is_initialized():
        raise ConfigurationError("Ray is not initialized in this process: call ray.init() first")


def find_actor(name: str, namespace: str) -> "ActorHandle[Any] | None":
    """Look a running actor up by name."""
    try:
        return ray.get_actor(name, namespace=namespace)
    except ValueError:
        return None


def find_actors(prefix: str, namespace: str) -> "dict[str, ActorHandle[Any]]":
    """Look up all running actors whose names begin so; gives them by what follows the prefix."""
    names = [
        actor["name"].removeprefix(prefix)
        for actor in list_named_actors(all_namespaces=True)
        if actor["namespace"] == namespace and actor["name"].startswith(prefix)
    ]
    found = {rest: find_actor(prefix + rest, namespace) for rest in names}
    return {rest: handle for rest, handle in found.items() if handle is not None}


def start_actor(
    kind: type, settings: Settings, name: str, namespace: str, node_id: str | None = None
) -> "ActorHandle[Any]":
    """Get or create the detached actor of that name; racing callers get the same one.

    Args:
        kind: its plain class; one without coroutines states on how many ``THREADS`` its calls run.
        settings: what it is made of; without secrets, for Ray's control store keeps them as they are.
        name: of the actor.
        namespace: of Ray.
        node_id: where it must run; None lets Ray choose.
    """
    threads = getattr(kind, "THREADS", None)
    concurrency = {} if threads is None else {"max_concurrency": threads}
    placement = "DEFAULT" if node_id is None else NodeAffinitySchedulingStrategy(node_id, soft=False)
    handle: ActorHandle[Any] = (
        _shell(kind)
        .options(
            name=name,
            namespace=namespace,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=placement,
            **concurrency,
        )
        .remote(settings)
    )
    return handle


@cache
def _shell(kind: type) -> Any:
    """Make the Ray class of a plain class, once a process: each one made is exported to the cluster again."""
    groups = {HEALTH: 2}
    for method in vars(kind).values():
        name = getattr(method, "concurrency_group", None)
        if name is not None:
            groups[name] = GROUP_SIZE
            ray.method(concurrency_group=name)(method)
    return ray.remote(concurrency_groups=groups)(kind)  # type: ignore[call-overload]  # not in Ray's stubs


def node_of(url: BackendUrl) -> str | None:
    """Tell where an actor of this URL must run: a path and a stashed secret are on this node only."""
    is_here = url.scheme in ("sqlite", "file") or url.reveal().startswith("file:")
    return this_node() if is_here else None


def this_node() -> str:
    """Give the id of the node this process runs on."""
    return ray.get_runtime_context().get_node_id()


def ask_beside(handle: "ActorHandle[Any]", question: Call[R]) -> "ray.ObjectRef[R]":
    """Send a call that is answered while the actor is busy with others, as its health is."""
    method = getattr(handle, question.method).options(concurrency_group=HEALTH)
    answer: ray.ObjectRef[R] = method.remote(*question.arguments, **question.named)
    return answer


def check_actor(handle: "ActorHandle[Any]", settings: Settings | None) -> ActorDescription:
    """Check that an actor which was there already is of this version and serves what is wanted.

    Args:
        handle: of the actor.
        settings: what is wanted; None takes what runs.

    Raises:
        ConflictError: it serves something else, or speaks another version's protocol.
        BackendUnavailable: it does not answer.
    """
    try:
        found = ray.get(ask_beside(handle, call(StorageActor.describe)), timeout=ASK_TIMEOUT_S)
    except ray.exceptions.RayError as error:
        raise BackendUnavailable(f"an actor of morphml_ray does not answer: {error}") from error
    if found.protocol_version != PROTOCOL_VERSION:
        raise ConflictError(
            f"the running actor speaks protocol {found.protocol_version}, this process {PROTOCOL_VERSION}: "
            "install one version of morphml_ray everywhere, or choose another name or namespace"
        )
    wanted = None if settings is None else settings.describe()
    if wanted is not None and found.fingerprint != wanted.fingerprint:
        raise ConflictError(
            f"an actor of this name serves {found.place} already, not {wanted.place}: use that one (leave the URL "
            "out), shut it down, or choose another name= for connect()"
        )
    return found


def serves(handle: "ActorHandle[Any]", settings: Settings) -> bool:
    """Tell whether an actor serves what is wanted."""
    try:
        check_actor(handle, settings)
    except ConflictError:
        return False
    return True


def count_restarts(handle: "ActorHandle[Any]") -> int:
    """How often Ray restarted an actor."""
    # Ray's public state API needs its dashboard; this is what its own RuntimeContext reads.
    found = ray._private.state.actors(handle._actor_id.hex())  # noqa: SLF001 - see above
    return int(found.get("NumRestarts", 0))


def stop_actor(handle: "ActorHandle[Any]", timeout_s: float) -> None:
    """Let an actor finish what it took, then end it for good."""
    with contextlib.suppress(ray.exceptions.RayError):
        ray.get(handle.close.remote(), timeout=timeout_s)
    # It is closed, or gone, or hangs: this settles all three.
    ray.kill(handle, no_restart=True)
