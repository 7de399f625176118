"""Group commit: many callers' writes share one transaction."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from morphml_ray.database.contract import Database, EvaluationColumns, SaveUnit
from morphml_ray.database.outages import CommitLostError, LockedError, OutageNote
from morphml_ray.database.time_limit import limited
from morphml_ray.database.waiting_writes import LockedWrites, Write
from morphml_ray.errors import BackendUnavailable, MorphMLRayError, OutcomeUnknownError, Overloaded
from morphml_ray.rpc.patience import Patience

logger = logging.getLogger(__name__)

MAX_BATCH_ROWS = 2_000
PURGE_ROWS = 500
PURGE_TIMEOUT_S = 30.0
FIRST_LOCK_WAIT_S, LOCK_WAIT_S = 1.0, 0.2
"""How long a batch waits for a lock of another session, and how long what met one already does: others wait so long."""

Outcome = list[int] | MorphMLRayError


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
    """Orders writes, and commits on a thread what gathered while the last commit ran.

    The first call goes at once. Where more than a batch waits, further threads help with the saves, as many as the
    database takes; any other write runs alone, in its turn. Each call gets its own answer: one bad record does not fail
    its neighbours. While the database is unavailable, calls wait until their deadlines; while another session holds a
    lock, only those that need it do. The queue is bounded in rows and bytes.

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
        self._waiting: deque[Write] = deque()
        self._locked = LockedWrites()
        self._unanswered: set[Write] = set()
        self._waiting_rows = 0
        self._rows = 0
        self._bytes = 0
        self._is_closing = False
        self._needs_purge = True
        self._outage = OutageNote("Writes wait")
        self._thread: threading.Thread | None = None
        self._helpers: set[threading.Thread] = set()
        self._is_busy = self._is_alone = False
        self.counts = CommitCounts()

    def save(self, units: Sequence[SaveUnit], deadline: float) -> "Future[list[Outcome]]":
        """Queue units; the future gives an outcome for each once they are committed.

        Args:
            units: what to store.
            deadline: on ``time.monotonic``'s clock; past it the answer is ``BackendUnavailable``, or
                ``OutcomeUnknownError`` where the answer to a commit was lost.

        Raises:
            Overloaded: the queue is full; nothing was taken.
        """
        rows = sum(len(unit.evaluations) for unit in units)
        size_bytes = sum(EvaluationColumns.of(unit.evaluations).size_bytes for unit in units)
        return self._put(Write(deadline, units=units, rows=rows, size_bytes=size_bytes))

    def run(self, operation: Callable[[], Any], deadline: float) -> "Future[Any]":
        """Queue any other write; it runs in its turn, in a transaction of its own."""
        return self._put(Write(deadline, operation=operation))

    def flush(self, deadline: float) -> "Future[None]":
        """Give a future that is done when all that waits now is committed."""
        with self._changed:
            earlier = [write.future for write in self._unanswered]

        def see() -> None:
            if not all(future.done() for future in earlier):
                raise LockedError("earlier writes wait for a lock that another session holds")

        return self.run(see, deadline)

    def close(self, timeout_s: float) -> None:
        """Commit what waits, then stop; what cannot be committed in time gets an error."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            threads = [thread for thread in (self._thread, *self._helpers) if thread is not None]
        patience = Patience(timeout_s)
        for thread in threads:
            thread.join(patience.left_s)

    def status(self) -> dict[str, Any]:
        """Queue depth, batch sizes and the last commit, without waiting for anything."""
        counts = self.counts
        return {
            "queue_rows": self._rows,
            "queue_bytes": self._bytes,
            "queue_calls": len(self._waiting),
            "locked_calls": len(self._locked),
            "commits": counts.batches,
            "rows_committed": counts.rows,
            "mean_batch_rows": counts.rows / counts.batches if counts.batches else 0.0,
            "last_batch_rows": counts.last_batch_rows,
            "largest_batch_rows": counts.largest_batch_rows,
            "last_commit_at": counts.last_commit_at,
            "refused_calls": counts.refused,
            "unexpected_errors": counts.unexpected_errors,
            "outage": self._outage.text,
        }

    def _put(self, write: Write) -> "Future[Any]":
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
            self._waiting_rows += write.rows
            self._unanswered.add(write)
            self._rows += write.rows
            self._bytes += write.size_bytes
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="morphml-writer", daemon=True)
                self._thread.start()
            self._call_helper()
            self._changed.notify_all()
        return write.future

    def _work(self) -> None:
        try:
            while (batch := self._take()) is not None:
                if batch:
                    self._settle(batch, FIRST_LOCK_WAIT_S)
                if locked := self._take_locked():
                    self._settle(locked, LOCK_WAIT_S)
                elif not batch and self._needs_purge:
                    self._purge()
        finally:
            self._end()

    def _call_helper(self) -> None:
        """Start a further thread where more than a batch waits; the lock is held."""
        if self._is_busy and self._can_help() and len(self._helpers) + 1 < self._database.max_writers:
            helper = threading.Thread(target=self._help, name="morphml-helper", daemon=True)
            self._helpers.add(helper)
            helper.start()

    def _can_help(self) -> bool:
        return not self._is_alone and self._waiting_rows >= MAX_BATCH_ROWS and self._waiting[0].operation is None

    def _help(self) -> None:
        batch: list[Write] = []
        try:
            while batch := self._take_part():
                self._settle(batch, FIRST_LOCK_WAIT_S)
        finally:
            with self._changed:
                self._helpers.discard(threading.current_thread())
                self._changed.notify_all()
            self._fail(batch, OutcomeUnknownError("a thread that writes ended unexpectedly: see the actor's log"))

    def _take_part(self) -> list[Write]:
        with self._changed:
            return self._take_batch() if self._can_help() else []

    def _take(self) -> list[Write] | None:
        """Wait for work: saves up to a batch, or one other operation; none means to look elsewhere; None to stop."""
        with self._changed:
            self._is_busy = self._is_alone = False
            while not self._has_work():
                pause_s = self._locked.next_s()
                if pause_s == 0:
                    return []
                self._changed.wait(pause_s)
            if not self._waiting:
                return None if self._is_closing and not self._locked else []
            self._is_busy = True
            return self._take_batch()

    def _has_work(self) -> bool:
        is_next_save = bool(self._waiting) and self._waiting[0].operation is None
        if self._helpers and not is_next_save:
            return False  # whatever else there is waits for them
        return bool(self._waiting) or self._is_closing or self._needs_purge

    def _take_batch(self) -> list[Write]:
        batch: list[Write] = []
        rows = 0
        while self._waiting and (not batch or rows + self._waiting[0].rows <= MAX_BATCH_ROWS):
            is_other = self._waiting[0].operation is not None
            if is_other and batch:
                break
            write = self._waiting.popleft()
            self._waiting_rows -= write.rows
            if self._locked.join(write):
                continue
            rows += write.rows
            batch.append(write)
            if is_other:
                self._is_alone = True
                break
        self._call_helper()
        return batch

    def _take_locked(self) -> list[Write]:
        """Answer those in lanes whose deadline is over, and take a lane's that is due."""
        with self._changed:
            late = self._locked.take_late(time.monotonic())
            due = self._locked.take(MAX_BATCH_ROWS, at_once=self._is_closing)
        for write, error in late:
            self._fail([write], error)
        return due

    def _settle(self, batch: list[Write], lock_wait_s: float) -> None:
        """Commit a batch, waiting an outage out, and answer everyone in it."""
        patience = Patience()  # without an end: each call has a deadline of its own
        while batch:
            is_last = self._is_closing  # one more try after that, not begun before it
            try:
                with limited(max(write.deadline for write in batch) - time.monotonic(), lock_wait_s):
                    self._database.open()
                    self._commit(batch)
            except LockedError as error:
                self._put_aside(batch, error)
                return
            except BackendUnavailable as error:
                self._note_outage(batch, error)
                batch = self._drop_late(batch, error, is_last=is_last)
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
                self._outage.end()
                return

    def _commit(self, batch: list[Write]) -> None:
        operation = batch[0].operation
        if operation is not None:
            answer = operation()
            self._needs_purge = True
            self._answer(batch[0], answer)
            return
        outcomes = iter(self._database.save([unit for write in batch for unit in write.units]))
        stored = 0
        aside: list[Write] = []
        for write in batch:
            answers = [next(outcomes) for _ in write.units]
            locked = next((answer for answer in answers if isinstance(answer, LockedError)), None)
            if locked is None:
                stored += write.rows
                self._answer(write, answers)
            else:
                aside.append(write)
                error = locked
        if aside:  # together, for they go on in their order
            self._put_aside(aside, error)
        self._count(stored)

    def _count(self, rows: int) -> None:
        counts = self.counts
        with self._changed:
            counts.batches += 1
            counts.rows += rows
            counts.last_batch_rows = rows
            counts.largest_batch_rows = max(counts.largest_batch_rows, rows)
            counts.last_commit_at = time.time()

    def _purge(self) -> None:
        """Free some rows of deleted experiments while nobody waits."""
        try:
            with limited(PURGE_TIMEOUT_S, LOCK_WAIT_S):
                self._database.open()
                self._needs_purge = self._database.purge(PURGE_ROWS) > 0
        except MorphMLRayError as error:
            self._needs_purge = False
            logger.warning("Rows of deleted experiments were not freed: %s", error)
        except Exception:
            # As in _settle. Nothing is lost: it is tried again after the next deletion.
            self._needs_purge = False
            self.counts.unexpected_errors += 1
            logger.exception("Rows of deleted experiments were not freed, unexpectedly")

    def _put_aside(self, writes: Sequence[Write], error: LockedError) -> None:
        """Let writes wait for a lock in a lane of their own; while closing nobody waits."""
        now = float("inf") if self._is_closing else time.monotonic()
        self._fail([write for write in writes if write.deadline <= now], error)
        with self._changed:
            self._locked.put([write for write in writes if write.deadline > now], error)
            self._changed.notify_all()

    def _note_outage(self, batch: Iterable[Write], error: BackendUnavailable) -> None:
        self._outage.begin(error)
        if isinstance(error, CommitLostError):
            for write in batch:
                write.may_be_stored = True

    def _pause(self, pause_s: float | None) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing, pause_s)

    def _drop_late(self, batch: list[Write], error: MorphMLRayError, *, is_last: bool) -> list[Write]:
        """Answer the calls whose deadline is over, in the batch and behind it; gives who is left of the batch."""
        with self._changed:
            now = float("inf") if is_last else time.monotonic()
            late = [write for write in (*batch, *self._waiting) if write.deadline <= now]
            late += [write for write, _ in self._locked.take_late(now)]
            self._waiting = deque(write for write in self._waiting if write.deadline > now)
            self._waiting_rows = sum(write.rows for write in self._waiting)
        self._fail(late, error)
        return [write for write in batch if write.deadline > now]

    def _end(self) -> None:
        """Tell whoever still waits that the thread ends; the next call starts another."""
        with self._changed:
            self._thread = None
            left = list(self._unanswered)
            self._waiting.clear()
            self._waiting_rows = 0
            self._locked = LockedWrites()
        self._fail(left, OutcomeUnknownError("the thread that writes ended unexpectedly: see the actor's log"))

    def _fail(self, writes: Iterable[Write], error: MorphMLRayError) -> None:
        for write in writes:
            if self._leave(write):
                write.fail(error)

    def _answer(self, write: Write, answer: Any) -> None:
        if self._leave(write):
            write.future.set_result(answer)

    def _leave(self, write: Write) -> bool:
        """Take a write off the books; False where it was answered already."""
        with self._changed:
            if write not in self._unanswered:
                return False
            self._unanswered.discard(write)
            self._rows -= write.rows
            self._bytes -= write.size_bytes
            return True
