"""Our own ways to record results, and the actor that does nothing."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ray
from workload import POOL, Workload

from morphml_ray import DatabaseManager, Experiment
from morphml_ray.database.encoding import encode_save
from morphml_ray.rpc.deploy import HEALTH


@dataclass(frozen=True)
class Blocking:
    """``save_architecture``: every result is durable before the next one."""

    database: DatabaseManager
    experiment_id: int

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""

        def step() -> int:
            self.database.save_architecture(self.experiment_id, **workload.next())
            return 1

        yield step


@dataclass(frozen=True)
class Recording:
    """``recorder()``: one recorder a worker."""

    experiment: Experiment

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""
        with self.experiment.recorder() as recorder:

            def step() -> int:
                recorder.record(**workload.next())
                return 1

            yield step


@dataclass(frozen=True)
class Bulk:
    """``save_architectures``: a thousand a call."""

    database: DatabaseManager
    experiment_id: int

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""

        def step() -> int:
            self.database.save_architectures(self.experiment_id, workload.bulk())
            return POOL

        yield step


class NoOp:
    """Takes what the database actor takes, and does nothing with it."""

    async def save_one(self, unit: object, patience_s: float = 0.0) -> int:
        """Give a number as ``DatabaseActor.save_one`` does."""
        del unit, patience_s
        return 1


def start_no_op() -> Any:
    """Start the actor that does nothing, with the database actor's options."""
    shell: Any = ray.remote(concurrency_groups={HEALTH: 2})(NoOp)  # type: ignore[call-overload]  # Ray's stubs lack it
    return shell.options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()


@dataclass(frozen=True)
class NoOpSmall:
    """Calls with two small numbers: the least that a call costs."""

    handle: Any

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""
        del workload
        yield lambda: ray.get(self.handle.save_one.remote(2))


@dataclass(frozen=True)
class NoOpReady:
    """Calls with an evaluation that was encoded beforehand."""

    handle: Any

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""
        ready = encode_save(1, **workload.next())
        yield lambda: ray.get(self.handle.save_one.remote(ready))


@dataclass(frozen=True)
class NoOpEncoding:
    """Encodes an evaluation and calls with it, as a blocking save does."""

    handle: Any

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""
        yield lambda: ray.get(self.handle.save_one.remote(encode_save(1, **workload.next())))
