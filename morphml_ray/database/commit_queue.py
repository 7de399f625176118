"""Group commit: many callers' writes share one transaction."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from morphml_ray.database.contract import Database, SaveUnit
from morphml_ray.errors import BackendUnavailable, MorphMLRayError, OutcomeUnknownError, Overloaded
from morphml_ray.rpc.patience import Patience

logger = logging.getLogger(__name__)

MAX_BATCH_ROWS = 5_000
PURGE_ROWS = 500

Outcome = list[int] | MorphMLRayError


@dataclass
class _Write:
    """One call that waits: units to save, or another operation."""

    deadline: float
    units: Sequence[SaveUnit] = ()
    operation: Callable[[], Any] | None = None
    rows: int = 0
    size_bytes: int = 0
    future: Future[Any] = field(default_factory=Future)


@dataclass
class CommitCounts:
    """What the queue did since it started."""

    batches: int = 0
    rows: int = 0
    largest_batch_rows: int = 0
    last_batch_rows: int = 0
    last_commit_at: float | None = None
    refused: int = 0
    unexpected_errors: int = 0


class CommitQueue:
    """Orders writes, and commits on one thread what gathered while the last commit ran.

    The first call goes at once. Each call gets its own answer: one bad record does not fail its neighbours. While the
    database is away, calls wait until their own deadlines. The queue is bounded in rows and bytes.

    Args:
        database: where to.
        max_rows: evaluations that may wait.
        max_bytes: bytes that may wait.
    """

    def __init__(self, database: Database, *, max_rows: int, max_bytes: int) -> None:
        self._database = database
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._waiting: deque[_Write] = deque()
        self._rows = 0
        self._bytes = 0
        self._is_closing = False
        self._needs_purge = True
        self._outage: MorphMLRayError | None = None
        self._thread: threading.Thread | None = None
        self.counts = CommitCounts()

    def save(self, units: Sequence[SaveUnit], deadline: float) -> "Future[list[Outcome]]":
        """Queue units; the future gives an outcome for each once they are committed.

        Args:
            units: what to store.
            deadline: on ``time.monotonic``'s clock; past it the answer is ``BackendUnavailable``.

        Raises:
            Overloaded: the queue is full; nothing was taken.
        """
        evaluations = [evaluation for unit in units for evaluation in unit.evaluations]
        size_bytes = sum(evaluation.size_bytes for evaluation in evaluations)
        return self._put(_Write(deadline, units=units, rows=len(evaluations), size_bytes=size_bytes))

    def run(self, operation: Callable[[], Any], deadline: float) -> "Future[Any]":
        """Queue any other write; it runs in its turn, in a transaction of its own."""
        return self._put(_Write(deadline, operation=operation))

    def flush(self, deadline: float) -> "Future[None]":
        """Give a future that is done when all that waits now is committed."""
        return self.run(lambda: None, deadline)

    def close(self, timeout_s: float) -> None:
        """Commit what waits, then stop; what cannot be committed in time gets an error."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def status(self) -> dict[str, Any]:
        """Queue depth, batch sizes and the last commit, without waiting for anything."""
        counts = self.counts
        return {
            "queue_rows": self._rows,
            "queue_bytes": self._bytes,
            "queue_calls": len(self._waiting),
            "commits": counts.batches,
            "rows_committed": counts.rows,
            "mean_batch_rows": counts.rows / counts.batches if counts.batches else 0.0,
            "last_batch_rows": counts.last_batch_rows,
            "largest_batch_rows": counts.largest_batch_rows,
            "last_commit_at": counts.last_commit_at,
            "refused_calls": counts.refused,
            "unexpected_errors": counts.unexpected_errors,
            "outage": None if self._outage is None else str(self._outage),
        }

    def _put(self, write: _Write) -> "Future[Any]":
        # A call that Ray cancels is committed all the same: from here on its future cannot be cancelled.
        write.future.set_running_or_notify_cancel()
        with self._changed:
            if self._is_closing:
                raise BackendUnavailable("the database actor is shutting down")
            is_full = self._rows + write.rows > self._max_rows or self._bytes + write.size_bytes > self._max_bytes
            if is_full and self._rows:
                self.counts.refused += 1
                raise Overloaded(
                    f"the database actor's queue is full ({self._rows} evaluations, {self._bytes} bytes wait)"
                )
            self._waiting.append(write)
            self._rows += write.rows
            self._bytes += write.size_bytes
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="morphml-writer", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return write.future

    def _work(self) -> None:
        while True:
            batch = self._take()
            if batch is None:
                return
            if batch:
                self._settle(batch)
            else:
                self._purge()

    def _take(self) -> list[_Write] | None:
        """Wait for work: saves up to a batch, or one other operation; none means time to purge; None to stop."""
        with self._changed:
            while not self._waiting and not self._is_closing and not self._needs_purge:
                self._changed.wait()
            if not self._waiting:
                return None if self._is_closing else []
            batch = [self._waiting.popleft()]
            rows = batch[0].rows
            while (
                batch[0].operation is None
                and self._waiting
                and self._waiting[0].operation is None
                and rows + self._waiting[0].rows <= MAX_BATCH_ROWS
            ):
                rows += self._waiting[0].rows
                batch.append(self._waiting.popleft())
            return batch

    def _settle(self, batch: list[_Write]) -> None:
        """Commit a batch, waiting an outage out, and answer everyone in it."""
        patience = Patience()  # without an end: each call has a deadline of its own
        while batch:
            try:
                self._database.open()
                self._commit(batch)
            except BackendUnavailable as error:
                self._note_outage(error)
                batch = self._drop_late(batch, error)
                if batch:
                    self._pause(patience.next_pause_s())
            except MorphMLRayError as error:
                self._fail(batch, error)
                return
            except Exception as error:
                # The thread must outlive a defect: whoever waits is told, the next batch is tried.
                self.counts.unexpected_errors += 1
                logger.exception("A batch of %d writes failed unexpectedly", len(batch))
                self._fail(batch, OutcomeUnknownError(f"the write failed unexpectedly: {error!r}"))
                return
            else:
                self._outage = None
                return

    def _commit(self, batch: list[_Write]) -> None:
        operation = batch[0].operation
        if operation is not None:
            answer = operation()
            self._needs_purge = True
            self._answer(batch[0], answer)
            return
        outcomes = iter(self._database.save([unit for write in batch for unit in write.units]))
        self._count(sum(write.rows for write in batch))
        for write in batch:
            self._answer(write, [next(outcomes) for _ in write.units])

    def _count(self, rows: int) -> None:
        counts = self.counts
        counts.batches += 1
        counts.rows += rows
        counts.last_batch_rows = rows
        counts.largest_batch_rows = max(counts.largest_batch_rows, rows)
        counts.last_commit_at = time.time()

    def _purge(self) -> None:
        """Free some rows of deleted experiments while nobody waits."""
        try:
            self._database.open()
            self._needs_purge = self._database.purge(PURGE_ROWS) > 0
        except MorphMLRayError as error:
            self._needs_purge = False
            logger.warning("Rows of deleted experiments were not freed: %s", error)

    def _note_outage(self, error: MorphMLRayError) -> None:
        if self._outage is None:
            logger.warning("Writes wait: %s", error)
        self._outage = error

    def _pause(self, pause_s: float | None) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing, pause_s)

    def _drop_late(self, batch: list[_Write], error: MorphMLRayError) -> list[_Write]:
        """Answer the calls whose deadline is over, in the batch and behind it; gives who is left of the batch."""
        with self._changed:
            now = float("inf") if self._is_closing else time.monotonic()
            late = [write for write in (*batch, *self._waiting) if write.deadline <= now]
            self._waiting = deque(write for write in self._waiting if write.deadline > now)
        self._fail(late, error)
        return [write for write in batch if write.deadline > now]

    def _fail(self, writes: Iterable[_Write], error: MorphMLRayError) -> None:
        for write in writes:
            self._leave(write)
            write.future.set_exception(error)

    def _answer(self, write: _Write, answer: Any) -> None:
        self._leave(write)
        write.future.set_result(answer)

    def _leave(self, write: _Write) -> None:
        with self._changed:
            self._rows -= write.rows
            self._bytes -= write.size_bytes
