"""What many saves and many workers change at the actor: its memory, and the connections it holds."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
from crew import Crew
from rates import verdict
from workload import OBJECTIVES, Workload

import morphml_ray as mr
from morphml_ray.devstack import PostgresServer

WANTED_GROWTH = 1.1
"""Of the actor's memory, from a tenth of the rows to all of them."""
STEPS = 10
_SAMPLE_S = 0.1
_MIB = 2**20


@dataclass(frozen=True)
class SaveAndRead:
    """A worker that saves, and asks for the best, in turns: both of the actor's ways to the database."""

    experiment: mr.Experiment

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""

        def step() -> int:
            self.experiment.record(**workload.next())
            self.experiment.best(10)
            return 1

        yield step


def watch_memory(database: str, storage: mr.Storage, rows: int) -> str:
    """Record evaluations through a recorder, and print the actor's memory after each tenth; gives the verdict.

    Args:
        database: what to call it.
        storage: connected.
        rows: how many evaluations.
    """
    actor = psutil.Process(storage.status()["database"]["pid"])
    experiment = storage.experiment("memory", objectives=OBJECTIVES)
    workload = Workload()
    sizes = [actor.memory_info().rss]
    with experiment.recorder() as recorder:
        for _ in range(STEPS):
            for _ in range(rows // STEPS):
                recorder.record(**workload.next())
            recorder.flush()
            sizes.append(actor.memory_info().rss)
            done = (len(sizes) - 1) * (rows // STEPS)
            print(f"  {database}: the actor takes {sizes[-1] / _MIB:.0f} MiB after {done:,} rows", flush=True)
    before, tenth, last = (size / _MIB for size in (sizes[0], sizes[1], sizes[-1]))
    title = f"{database}: memory of the actor, {before:.0f} -> {tenth:.0f} (a tenth) -> {last:.0f} MiB (all)"
    return verdict(title, last / tenth, WANTED_GROWTH, is_met=last <= WANTED_GROWTH * tenth)


def count_connections(postgres: PostgresServer, database: str, storage: mr.Storage, crew: Crew, workers: int) -> str:
    """Let workers save and read, and count the connections to their database meanwhile."""
    pattern = SaveAndRead(storage.experiment(f"{workers} workers", objectives=OBJECTIVES))
    most = 0
    is_over = threading.Event()

    def sample() -> None:
        nonlocal most
        while not is_over.wait(_SAMPLE_S):
            most = max(most, postgres.connections(database))

    sampler = threading.Thread(target=sample, name="connection-sampler")
    sampler.start()
    try:
        crew.measure(pattern, workers)
    finally:
        is_over.set()
        sampler.join()
    pool_size: int = storage.status()["database"]["pool"]["size"]
    title = f"PostgreSQL: {most} connections at most, W = {workers}, pool of {pool_size}"
    return verdict(title, most / pool_size, 1.0, is_met=most <= pool_size)
