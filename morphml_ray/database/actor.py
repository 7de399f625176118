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
from morphml_ray.database.contract import Database, DatabaseReads, DatabaseWrites, SaveUnit
from morphml_ray.database.outages import OutageNote, public_error
from morphml_ray.database.time_limit import limited
from morphml_ray.errors import BackendUnavailable, MorphMLRayError, Overloaded, ValidationError
from morphml_ray.rpc.call import can_overload, in_group
from morphml_ray.rpc.description import PROTOCOL_VERSION, ActorDescription
from morphml_ray.rpc.patience import Patience

WRITES, READS, LONG_READS = "writes", "reads", "long_reads"
"""Groups of calls: however many of one wait, those of the others are answered."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class DatabaseSettings:
    """What a database actor is made of; holds references to secrets, never secrets.

    Attributes:
        url: of the database; a plain password must be stashed before.
        pool_size: connections at most.
        echo: log every statement.
        deadline_s: how long a call waits for a database that does not answer, seconds.
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

    The constructor touches neither disk nor network; the first call connects. No call is bound to an event loop: each
    group has one of its own.

    Args:
        settings: see ``DatabaseSettings``.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._database = create_database(
            settings.url, pool_size=settings.pool_size, echo=settings.echo, timeout_s=settings.deadline_s
        )
        self._queue = CommitQueue(self._database, max_rows=settings.queue_max_rows, max_bytes=settings.queue_max_bytes)
        # One connection is the writer's, whose helpers take one when it is free; of the others long reads get at most
        # a half.
        readers = max(1, settings.pool_size - 1)
        self._readers = ThreadPoolExecutor(readers - readers // 2, thread_name_prefix="morphml-reader")
        self._long_readers = (
            ThreadPoolExecutor(readers // 2, thread_name_prefix="morphml-long-reader") if readers > 1 else self._readers
        )
        self._outage = OutageNote("Reads wait")
        self._started_at = time.time()
        self._reads = 0

    async def describe(self) -> ActorDescription:
        """Tell what this actor serves, without connecting."""
        return self._settings.describe()

    async def ready(self) -> None:
        """Connect and bring the schema up to date now.

        Raises:
            ConfigurationError: no waiting helps.
            BackendUnavailable: the database stayed unavailable for the deadline.
        """
        await asyncio.wrap_future(self._queue.run(lambda: None, self._deadline()))

    async def verify(self, url: BackendUrl) -> None:
        """Check what somebody else states of the database that this actor serves.

        Raises:
            ConfigurationError: with that nobody is let in.
            BackendUnavailable: the database does not answer.
        """
        await asyncio.get_running_loop().run_in_executor(self._readers, self._verify, url)

    def _verify(self, url: BackendUrl) -> None:
        with closing(create_database(url, pool_size=1)) as other:
            other.open()

    @in_group(WRITES)
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
            BackendUnavailable: the database stayed unavailable, or the experiment locked, for the deadline.
            OutcomeUnknownError: the same, after the answer to a commit was lost.
        """
        (outcome,) = await self._save([unit], patience_s)
        if isinstance(outcome, MorphMLRayError):
            raise outcome
        return outcome

    @in_group(WRITES)
    @can_overload
    async def save_one(self, unit: SaveUnit, patience_s: float = 0.0) -> int:
        """Store one evaluation; see ``save``."""
        (evaluation_id,) = await self.save(unit, patience_s)
        return evaluation_id

    @in_group(WRITES)
    @can_overload
    async def save_each(self, unit: SaveUnit, patience_s: float = 0.0) -> list[MorphMLRayError]:
        """Store evaluations of one experiment, each on its own; the errors of those that were not stored."""
        (outcome,) = await self._save([unit], patience_s)
        if isinstance(outcome, ValidationError) and len(unit.evaluations) > 1:
            each = [SaveUnit(unit.experiment, [evaluation]) for evaluation in unit.evaluations]
            return [error for error in await self._save(each, patience_s) if isinstance(error, MorphMLRayError)]
        return [outcome] * len(unit.evaluations) if isinstance(outcome, MorphMLRayError) else []

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

    @in_group(WRITES)
    async def write(
        self, operation: Callable[Concatenate[DatabaseWrites, P], R], *arguments: P.args, **named: P.kwargs
    ) -> R:
        """Run a write in its turn."""
        run: Callable[[], R] = partial(getattr(self._database, operation.__name__), *arguments, **named)
        return await asyncio.wrap_future(self._queue.run(run, self._deadline()))

    @in_group(READS)
    async def read(self, query: Callable[Concatenate[DatabaseReads, P], R], *arguments: P.args, **named: P.kwargs) -> R:
        """Answer a query beside the writes."""
        return await self._read_on(self._readers, partial(getattr(self._database, query.__name__), *arguments, **named))

    @in_group(LONG_READS)
    async def read_long(
        self, query: Callable[Concatenate[DatabaseReads, P], R], *arguments: P.args, **named: P.kwargs
    ) -> R:
        """Answer a query that may look at a whole experiment; others do not wait for it."""
        run: Callable[[], R] = partial(getattr(self._database, query.__name__), *arguments, **named)
        return await self._read_on(self._long_readers, run)

    async def _read_on(self, readers: ThreadPoolExecutor, run: Callable[[], R]) -> R:
        self._reads += 1
        patience = Patience(self._settings.deadline_s)
        return await asyncio.get_running_loop().run_in_executor(readers, self._read, run, patience)

    def _read(self, run: Callable[[], R], patience: Patience) -> R:
        if self._outage.text is None:
            patience.renew(self._settings.deadline_s)  # so far it has waited for other reads only
        elif not patience.left_s:
            raise BackendUnavailable(self._outage.text)
        while True:
            try:
                with limited(patience.left_s):
                    self._database.open()
                    answer = run()
            except BackendUnavailable as error:
                self._outage.begin(error)
                if not patience.pause():
                    raise public_error(error) from error
            else:
                self._outage.end()
                return answer

    async def flush(self) -> None:
        """Return when everything that waits now is committed."""
        await asyncio.wrap_future(self._queue.flush(self._deadline()))

    async def health(self) -> dict[str, Any]:
        """Tell the actor's status; answers while everything else is busy."""
        queue = self._queue.status()
        return {
            **queue,
            "place": self._settings.url.masked,
            "pid": os.getpid(),
            "started_at": self._started_at,
            "is_open": self._database.is_open,
            "reads": self._reads,
            "pool": self._database.pool_status(),
            "outage": queue["outage"] or self._outage.text,
        }

    async def close(self) -> None:
        """Commit what waits, and close all connections."""
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        self._queue.close(self._settings.deadline_s)
        for readers in (self._readers, self._long_readers):
            readers.shutdown(wait=True, cancel_futures=True)
        self._database.close()

    def _deadline(self) -> float:
        return time.monotonic() + self._settings.deadline_s


def create_database(url: BackendUrl, *, pool_size: int = 5, echo: bool = False, timeout_s: float = 5.0) -> Database:
    """Make the database that a URL names, not opened yet. To be called where it will be used: references are followed.

    Args:
        url: of PostgreSQL, or of a file of SQLite.
        pool_size: connections at most.
        echo: log every statement.
        timeout_s: how long it may be silent, seconds.
    """
    # Here, so that workers, which import this module for the settings only, need not load SQLAlchemy.
    from morphml_ray.database.sql import SqlDatabase  # noqa: PLC0415 - see above

    return SqlDatabase(url, pool_size=pool_size, echo=echo, timeout_s=timeout_s)
