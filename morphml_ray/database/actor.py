"""The actor in front of the database."""

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from morphml_ray.config import BackendUrl, fingerprint
from morphml_ray.database.commit_queue import FIRST_WAIT_S, LONGEST_WAIT_S, CommitQueue
from morphml_ray.database.contract import READS, WRITES, EncodedEvaluation, ExperimentRef, SaveUnit
from morphml_ray.errors import BackendUnavailable, MorphMLRayError, Overloaded, ValidationError
from morphml_ray.rpc.description import PROTOCOL_VERSION, ActorDescription


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

    async def save(
        self, experiment: ExperimentRef, evaluations: Sequence[EncodedEvaluation], patience_s: float = 0.0
    ) -> list[int]:
        """Store evaluations of one experiment in one transaction; the ids, when they are committed.

        Args:
            experiment: id or name.
            evaluations: all of them are stored, or none.
            patience_s: how long to wait here for a place in the queue.

        Raises:
            Overloaded: the queue is full; nothing was taken.
            NotFoundError: there is no such experiment.
            ValidationError: the database refuses a value.
            BackendUnavailable: the database stayed away for the deadline.
        """
        (outcome,) = await self._save([SaveUnit(experiment, evaluations)], patience_s)
        if isinstance(outcome, MorphMLRayError):
            raise outcome
        return outcome

    async def save_one(self, experiment: ExperimentRef, evaluation: EncodedEvaluation, patience_s: float = 0.0) -> int:
        """Store one evaluation; see ``save``."""
        return (await self.save(experiment, [evaluation], patience_s))[0]

    async def save_each(
        self, experiment: ExperimentRef, evaluations: Sequence[EncodedEvaluation], patience_s: float = 0.0
    ) -> list[int | MorphMLRayError]:
        """Store evaluations of one experiment, each on its own: an id or an error for each."""
        units = [SaveUnit(experiment, [evaluation]) for evaluation in evaluations]
        outcomes = await self._save(units, patience_s)
        return [outcome if isinstance(outcome, MorphMLRayError) else outcome[0] for outcome in outcomes]

    async def _save(self, units: Sequence[SaveUnit], patience_s: float) -> Sequence[list[int] | MorphMLRayError]:
        deadline = self._deadline()
        give_up_at = time.monotonic() + patience_s
        wait_s = FIRST_WAIT_S
        while True:
            try:
                saved = self._queue.save(units, deadline)
                break
            except Overloaded:
                if time.monotonic() + wait_s > give_up_at:
                    raise
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
        return await asyncio.wrap_future(saved)

    async def write(self, operation: str, *arguments: Any) -> Any:
        """Run one of ``contracts.WRITES`` in its turn."""
        _check(operation, WRITES)
        method = getattr(self._database, operation)
        return await asyncio.wrap_future(self._queue.run(lambda: method(*arguments), self._deadline()))

    async def read(self, query: str, *arguments: Any) -> Any:
        """Answer one of ``contracts.READS``."""
        _check(query, READS)
        self._reads += 1
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, query, arguments, self._deadline())

    def _read(self, query: str, arguments: Sequence[Any], deadline: float) -> Any:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                self._database.open()
                return getattr(self._database, query)(*arguments)
            except BackendUnavailable:
                if time.monotonic() + wait_s > deadline:
                    raise
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def flush(self) -> None:
        """Return when everything that waits now is committed."""
        await asyncio.wrap_future(self._queue.flush(self._deadline()))

    async def health(self) -> dict[str, Any]:
        """Tell how the actor does; answers while everything else is busy."""
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


def _check(name: str, allowed: frozenset[str]) -> None:
    if name not in allowed:
        raise ValidationError(f"the database actor has no operation {name!r}")
