"""The cluster that this process belongs to."""

import os
from pathlib import Path

import ray
from ray.util.client import ray as ray_client

from morphml_ray.errors import ConfigurationError

_FORKED_FROM: list[int] = []
"""The process that had Ray when this one was forked from it; empty where there is none."""
_RAY_THREAD = "worker.io"


def require_ray() -> None:
    """Check that this process belongs to a Ray cluster; asking Ray itself would start one.

    Raises:
        ConfigurationError: it does not, or only through Ray Client, or it was forked from one that does.
    """
    if _FORKED_FROM:
        raise ConfigurationError(
            f"this process was forked from process {_FORKED_FROM[0]}, which had called ray.init(), and Ray does not "
            "work in a forked process: start it with the method 'spawn' (DataLoader(multiprocessing_context='spawn'), "
            "multiprocessing.get_context('spawn')), use threads or Ray tasks, or read in the process that has Ray"
        )
    if not ray.is_initialized():
        raise ConfigurationError("Ray is not initialized in this process: call ray.init() first")
    if ray_client.is_connected():  # type: ignore[no-untyped-call]  # Ray's
        raise ConfigurationError(
            "this process is connected through Ray Client (ray://...), where the actors cannot see its files and "
            "secrets: run it inside the cluster, as a job (ray job submit) or on a node with ray.init('auto')"
        )


def current_cluster() -> tuple[str, str]:
    """Tell this process' membership of a cluster from any other one, also from an earlier one of its own.

    Raises:
        ConfigurationError: see ``require_ray``.
    """
    require_ray()
    context = ray.get_runtime_context()
    return context.get_session_name(), context.get_job_id()


def this_node() -> str:
    """Give the id of the node this process runs on."""
    return ray.get_runtime_context().get_node_id()


def _note_fork() -> None:
    if ray.is_initialized() and not _FORKED_FROM:
        _FORKED_FROM.append(os.getppid())


def _has_no_thread_of_ray() -> bool:
    """Tell whether this process was forked from one that has Ray, as far as Linux tells: threads are not forked."""
    try:
        threads = list(Path("/proc/self/task").iterdir())
        return not any((thread / "comm").read_text().startswith(_RAY_THREAD) for thread in threads)
    except OSError:
        return False


os.register_at_fork(after_in_child=_note_fork)
# Who forked this process may have known Ray, and not this module.
if ray.is_initialized() and not ray_client.is_connected() and _has_no_thread_of_ray():  # type: ignore[no-untyped-call]  # Ray's
    _FORKED_FROM.append(os.getppid())
