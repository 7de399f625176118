"""Handing the plain classes to Ray: names, placement, restarts. The only module that makes actors."""

import contextlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.actor import ActorHandle
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from morphml_ray.config import BackendUrl
from morphml_ray.errors import BackendUnavailable, ConfigurationError, ConflictError
from morphml_ray.rpc.call import Call, call
from morphml_ray.rpc.cluster import this_node
from morphml_ray.rpc.description import PROTOCOL_VERSION, ActorDescription, Settings, StorageActor
from morphml_ray.rpc.reception import Reception

HEALTH = "health"
GROUP_SIZE = 1_000
THREADED_GROUP_SIZE = 2
"""Of an actor without coroutines: each call of a group then has a thread."""
"""Calls of one group at once, as many as Ray lets run that are in none."""
ASK_TIMEOUT_S = 60.0
MAX_TASK_RETRIES = 3
"""How often Ray repeats a call under which its actor ended.

A restart costs each call in flight one repeat. A call that ends its actor each time, such as one that needs more memory
than there is, is given up here, and not repeated for ever.
"""
LOST = (ray.exceptions.ActorDiedError, ray.exceptions.ActorUnschedulableError)
"""What Ray raises of an actor that does not come back."""

_DEAD = 4  # in Ray's ActorTableData.ActorState

R = TypeVar("R")


@dataclass(frozen=True)
class ActorAddress:
    """Where an actor is found, in whatever cluster.

    Attributes:
        name: of the actor.
        namespace: of Ray.
    """

    name: str
    namespace: str

    def __str__(self) -> str:
        """Give it as it is shown."""
        return f"{self.namespace}/{self.name}"


def find_actor(address: ActorAddress) -> "ActorHandle[Any] | None":
    """Look a running actor up."""
    try:
        return ray.get_actor(address.name, namespace=address.namespace)
    except ValueError:
        return None


def find_actors(prefix: str, namespace: str) -> "dict[str, ActorHandle[Any]]":
    """Look up all running actors whose names begin so; gives them by what follows the prefix."""
    names = [
        actor["name"].removeprefix(prefix)
        for actor in list_named_actors(all_namespaces=True)
        if actor["namespace"] == namespace and actor["name"].startswith(prefix)
    ]
    found = {rest: find_actor(ActorAddress(prefix + rest, namespace)) for rest in names}
    return {rest: handle for rest, handle in found.items() if handle is not None}


def create_actor(
    kind: type, settings: Settings, address: ActorAddress, creator: str, node_id: str | None
) -> "ActorHandle[Any] | None":
    """Create a detached actor; None where the name is taken: of racing callers one creates it.

    Args:
        kind: its plain class; one without coroutines states on how many ``THREADS`` its calls run.
        settings: what it is made of; without secrets, for Ray's control store keeps them as they are.
        address: where it is to be found.
        creator: its first guest.
        node_id: where it must run; None lets Ray choose.

    Raises:
        ConfigurationError: what it would make is lost with this cluster.
    """
    _refuse_session_directory(settings.url)
    threads = getattr(kind, "THREADS", None)
    concurrency = {} if threads is None else {"max_concurrency": threads}
    placement = "DEFAULT" if node_id is None else NodeAffinitySchedulingStrategy(node_id, soft=False)
    options = {
        "name": address.name,
        "namespace": address.namespace,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": MAX_TASK_RETRIES,
        "scheduling_strategy": placement,
        **concurrency,
    }
    try:
        handle: ActorHandle[Any] = _shell(kind).options(**options).remote(settings, creator)
    except ray.exceptions.ActorAlreadyExistsError:
        return None
    return handle


@cache
def _shell(kind: type) -> Any:
    """Make the Ray class of a plain class, once a process: each one made is exported to the cluster again."""
    groups = {HEALTH: 2}
    for method in vars(kind).values():
        name = getattr(method, "concurrency_group", None)
        if name is not None:
            groups[name] = THREADED_GROUP_SIZE if hasattr(kind, "THREADS") else GROUP_SIZE
            ray.method(concurrency_group=name)(method)
    shell = type(kind.__name__, (Reception, kind), {"__doc__": kind.__doc__, "__module__": __name__})
    return ray.remote(concurrency_groups=groups)(shell)  # type: ignore[call-overload]  # not in Ray's stubs


def _refuse_session_directory(url: BackendUrl) -> None:
    """Refuse a place below the directory of this Ray session: a task or a job with a working_dir stands there."""
    context = ray.get_runtime_context()
    session = os.path.realpath(Path(context.get_temp_dir()) / context.get_session_name())
    if url.path is not None and Path(os.path.realpath(url.path)).is_relative_to(session):
        raise ConfigurationError(
            f"{url.path} lies below Ray's session directory ({session}), where the current directory of tasks and jobs "
            "with a working_dir is: the next cluster would not see it. State root= (or MORPHML_ROOT) with an absolute "
            "path, or the URLs of servers, or connect in the driver first"
        )


def node_of(url: BackendUrl) -> str | None:
    """Tell where an actor of this URL must run: a path and a stashed secret are on this node only."""
    is_here = url.scheme in ("sqlite", "file") or url.reveal().startswith("file:")
    return this_node() if is_here else None


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
    check_description(found, settings)
    return found


def check_description(found: ActorDescription, settings: Settings | None) -> None:
    """Check what an actor tells of itself; see ``check_actor``.

    Raises:
        ConflictError: it serves something else than is wanted, or speaks another version's protocol.
    """
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


def serves(handle: "ActorHandle[Any]", settings: Settings) -> bool:
    """Tell whether an actor serves what is wanted."""
    try:
        check_actor(handle, settings)
    except ConflictError:
        return False
    return True


def id_of(handle: "ActorHandle[Any]") -> str:
    """Give what tells an actor from any other one, also from an earlier one of its name."""
    found: str = handle._actor_id.hex()  # noqa: SLF001 - Ray has no public name for it
    return found


def is_known_dead(handle: "ActorHandle[Any]") -> bool:
    """Tell whether Ray has told this process already that an actor is gone for good; asks nobody."""
    state = handle._get_local_state()  # type: ignore[no-untyped-call]  # noqa: SLF001 - Ray has no public name for it
    return bool(state == _DEAD)


def count_restarts(handle: "ActorHandle[Any]") -> int:
    """How often Ray restarted an actor."""
    # Ray's public state API needs its dashboard; this is what its own RuntimeContext reads.
    found = ray._private.state.actors(id_of(handle))  # noqa: SLF001 - see above
    return int(found.get("NumRestarts", 0))


def stop_actor(handle: "ActorHandle[Any]", timeout_s: float) -> None:
    """Let an actor finish what it took, then end it for good."""
    with contextlib.suppress(ray.exceptions.RayError):
        ray.get(handle.close.remote(), timeout=timeout_s)
    # It is closed, or gone, or hangs: this settles all three.
    ray.kill(handle, no_restart=True)
