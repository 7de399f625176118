"""Handing the plain classes to Ray: names, placement, restarts. The only module that makes actors."""

import contextlib
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from morphml_ray.actors.database import PROTOCOL_VERSION, ActorDescription, DatabaseActor, DatabaseSettings
from morphml_ray.config import fingerprint
from morphml_ray.errors import BackendUnavailable, ConfigurationError, ConflictError

HEALTH = "health"
ASK_TIMEOUT_S = 60.0


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


def start_database_actor(settings: DatabaseSettings, name: str, namespace: str) -> "ActorHandle[Any]":
    """Get or create the database actor of that name; racing callers get the same one."""
    # A file and a stashed secret are on this node; anything else is reached from every node.
    is_local = settings.url.scheme in ("sqlite", "file") or settings.url.reveal().startswith("file:")
    placement = NodeAffinitySchedulingStrategy(_this_node(), soft=False) if is_local else "DEFAULT"
    shell: Any = ray.remote(concurrency_groups={HEALTH: 2})(DatabaseActor)  # type: ignore[call-overload]  # not in Ray's stubs
    handle: ActorHandle[Any] = shell.options(
        name=name,
        namespace=namespace,
        get_if_exists=True,
        lifetime="detached",
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        scheduling_strategy=placement,
    ).remote(settings)
    return handle


def check_actor(handle: "ActorHandle[Any]", settings: DatabaseSettings | None) -> ActorDescription:
    """Check that an actor which was there already is of this version and serves what is wanted.

    Args:
        handle: of the actor.
        settings: what is wanted; None takes what runs.

    Raises:
        ConflictError: it serves another database, or speaks another version's protocol.
        BackendUnavailable: it does not answer.
    """
    try:
        found: ActorDescription = ray.get(
            handle.describe.options(concurrency_group=HEALTH).remote(), timeout=ASK_TIMEOUT_S
        )
    except (ray.exceptions.GetTimeoutError, ray.exceptions.RayActorError) as error:
        raise BackendUnavailable(f"the database actor does not answer: {error}") from error
    if found.protocol_version != PROTOCOL_VERSION:
        raise ConflictError(
            f"the running database actor speaks protocol {found.protocol_version}, this process {PROTOCOL_VERSION}: "
            "install one version of morphml_ray everywhere, or choose another name or namespace"
        )
    if settings is not None and found.fingerprint != fingerprint(settings.url):
        raise ConflictError(
            f"a database actor of this name serves {found.place} already, not {settings.url.masked}: use that "
            "one (leave the URL out), shut it down, or choose another name= for connect()"
        )
    return found


def count_restarts(handle: "ActorHandle[Any]") -> int:
    """How often Ray restarted an actor."""
    # Ray's public state API needs its dashboard; this is what its own RuntimeContext reads.
    found = ray._private.state.actors(handle._actor_id.hex())  # noqa: SLF001 - see above
    return int(found.get("NumRestarts", 0))


def stop_actor(handle: "ActorHandle[Any]", timeout_s: float) -> None:
    """Let an actor finish what it took, then end it for good."""
    with contextlib.suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        ray.get(handle.close.remote(), timeout=timeout_s)
    # It is closed, or gone, or hangs: this settles all three.
    ray.kill(handle, no_restart=True)


def _this_node() -> str:
    return ray.get_runtime_context().get_node_id()
