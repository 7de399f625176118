"""The actor in front of the database."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Concatenate, TypeVar

from typing_extensions import ParamSpec

from morphml_ray.config import BackendUrl, fingerprint
from morphml_ray.database.commit_queue import CommitQueue
from morphml_ray.database.contract import DatabaseReads, DatabaseWrites, SaveUnit
from morphml_ray.errors import BackendUnavailable, MorphMLRayError, Overloaded
from morphml_ray.rpc.call import can_overload
from morphml_ray.rpc.description import PROTOCOL_VERSION, ActorDescription
from morphml_ray.rpc.patience import Patience

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class DatabaseSettings:
    """What a database actor is made of; holds references to secrets, never secrets.

    Attributes:
        url: of the database; a plain password must be stashed before.
        pool_size: connections at most.
        echo: log every statement.
        deadline_s: how long a call waits for a database that is away, seconds.
        queue_max_rows: evaluations that may wait for a commit.
        queue_max_bytes: bytes that may wait for a commit.
    """

    url: BackendUrl
    pool_size: int
    echo: bool
    deadline_s: float
    queue_max_rows: int
    queue_max_bytes: int

    def describe(self) -> ActorDescription:
        """Tell what an actor of these settings serves."""
        return ActorDescription(PROTOCOL_VERSION, fingerprint(self.url), self.url, self.deadline_s)


class DatabaseActor:
    """Orders writes into shared transactions, and answers reads on other connections of one bounded pool.

    The constructor touches neither disk nor network; the first call connects.

    Args:
        settings: see ``DatabaseSettings``.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        # Here, so that workers, which import this module for the settings only, need not load SQLAlchemy.
        from morphml_ray.database.sql import SqlDatabase  # noqa: PLC0415 - see above

        self._settings = settings
        self._database = SqlDatabase(settings.url, pool_size=settings.pool_size, echo=settings.echo)
        self._queue = CommitQueue(self._database, max_rows=settings.queue_max_rows, max_bytes=settings.queue_max_bytes)
        self._readers = ThreadPoolExecutor(max(1, settings.pool_size - 1), thread_name_prefix="morphml-reader")
        self._started_at = time.time()
        self._reads = 0

    async def describe(self) -> ActorDescription:
        """Tell what this actor serves, without connecting."""
        return self._settings.describe()

    async def ready(self) -> None:
        """Connect and bring the schema up to date now.

        Raises:
            ConfigurationError: no waiting helps.
            BackendUnavailable: the database stayed away for the deadline.
        """
        await self.flush()

    async def verify(self, url: BackendUrl) -> None:
        """Check what somebody else states of the database that this actor serves.

        Raises:
            ConfigurationError: with that nobody is let in.
            BackendUnavailable: the database does not answer.
        """
        await asyncio.get_running_loop().run_in_executor(self._readers, self._verify, url)

    def _verify(self, url: BackendUrl) -> None:
        with closing(type(self._database)(url, pool_size=1)) as other:
            other.open()

    @can_overload
    async def save(self, unit: SaveUnit, patience_s: float = 0.0) -> list[int]:
        """Store evaluations of one experiment in one transaction; the ids, when they are committed.

        Args:
            unit: all of its evaluations are stored, or none.
            patience_s: how long to wait here for a place in the queue.

        Raises:
            Overloaded: the queue is full; nothing was taken.
            NotFoundError: there is no such experiment.
            ValidationError: the database refuses a value.
            BackendUnavailable: the database stayed away for the deadline.
        """
        (outcome,) = await self._save([unit], patience_s)
        if isinstance(outcome, MorphMLRayError):
            raise outcome
        return outcome

    @can_overload
    async def save_one(self, unit: SaveUnit, patience_s: float = 0.0) -> int:
        """Store one evaluation; see ``save``."""
        (evaluation_id,) = await self.save(unit, patience_s)
        return evaluation_id

    @can_overload
    async def save_each(self, unit: SaveUnit, patience_s: float = 0.0) -> list[int | MorphMLRayError]:
        """Store evaluations of one experiment, each on its own: an id or an error for each."""
        units = [SaveUnit(unit.experiment, [evaluation]) for evaluation in unit.evaluations]
        outcomes = await self._save(units, patience_s)
        return [outcome if isinstance(outcome, MorphMLRayError) else outcome[0] for outcome in outcomes]

    async def _save(self, units: Sequence[SaveUnit], patience_s: float) -> Sequence[list[int] | MorphMLRayError]:
        deadline = self._deadline()
        patience = Patience(patience_s)
        while True:
            try:
                saved = self._queue.save(units, deadline)
                break
            except Overloaded:
                if not await patience.pause_async():
                    raise
        return await asyncio.wrap_future(saved)

    async def write(
        self, operation: Callable[Concatenate[DatabaseWrites, P], R], *arguments: P.args, **named: P.kwargs
    ) -> R:
        """Run a write in its turn."""
        run: Callable[[], R] = partial(getattr(self._database, operation.__name__), *arguments, **named)
        return await asyncio.wrap_future(self._queue.run(run, self._deadline()))

    async def read(self, query: Callable[Concatenate[DatabaseReads, P], R], *arguments: P.args, **named: P.kwargs) -> R:
        """Answer a query beside the writes."""
        self._reads += 1
        run: Callable[[], R] = partial(getattr(self._database, query.__name__), *arguments, **named)
        patience = Patience(self._settings.deadline_s)
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, run, patience)

    def _read(self, run: Callable[[], R], patience: Patience) -> R:
        while True:
            try:
                self._database.open()
                return run()
            except BackendUnavailable:
                if not patience.pause():
                    raise

    async def flush(self) -> None:
        """Return when everything that waits now is committed."""
        await asyncio.wrap_future(self._queue.flush(self._deadline()))

    async def health(self) -> dict[str, Any]:
        """Tell the actor's status; answers while everything else is busy."""
        return {
            "place": self._settings.url.masked,
            "pid": os.getpid(),
            "started_at": self._started_at,
            "is_open": self._database.is_open,
            "reads": self._reads,
            "pool": self._database.pool_status(),
            **self._queue.status(),
        }

    async def close(self) -> None:
        """Commit what waits, and let all connections go."""
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        self._queue.close(self._settings.deadline_s)
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._database.close()

    def _deadline(self) -> float:
        return time.monotonic() + self._settings.deadline_s
