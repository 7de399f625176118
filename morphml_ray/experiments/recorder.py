"""Pipelined recording: the records of one process share actor calls."""

import logging
import os
import threading
from types import TracebackType
from typing import Any, TypeAlias

import ray
from typing_extensions import Self

from morphml_ray.database.actor import DatabaseActor
from morphml_ray.database.contract import EncodedEvaluation, SaveUnit
from morphml_ray.database.encoding import Scope
from morphml_ray.database.parts import MAX_BYTES, cut
from morphml_ray.database.recording import records
from morphml_ray.errors import BackendUnavailable, ConfigurationError, MorphMLRayError, ValidationError
from morphml_ray.rpc.call import Call, call
from morphml_ray.rpc.channel import Channel

logger = logging.getLogger(__name__)

GATHER_S = 0.02
"""How long records gather for a call: it costs as much as ten of them."""
MAX_CALL_ROWS = 1_000
MAX_CALLS = 4
MAX_WAITING_ROWS = 8_000
MAX_WAITING_BYTES = MAX_BYTES
"""Of what gathers: a caller that is faster waits, and as much again is on its way at most a few times."""

_Errors: TypeAlias = list[MorphMLRayError]
_Saving: TypeAlias = Call[_Errors]


class Recorder:
    """Records evaluations without waiting for each.

    ``record`` encodes and returns; a thread sends what gathered as one actor call: after 20 milliseconds, when the call
    before was answered, or a thousand.
    ``flush`` and leaving the ``with`` block wait until everything is committed, and raise what went wrong. Threads of
    a process may share a recorder; it does not pickle: each process makes its own.

    Args:
        channel: to the database actor.
        scope: the experiment, and how its architectures are told apart.
    """

    def __init__(self, channel: Channel, scope: Scope) -> None:
        self.scope = scope
        self._channel = channel
        self._changed = threading.Condition()
        self._waiting: list[EncodedEvaluation] = []
        self._waiting_bytes = 0
        self._unanswered = 0
        self._errors: list[MorphMLRayError] = []
        self._is_closing = False
        self._flushes = 0
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    @records
    def record(self, unit: SaveUnit) -> None:
        """Take one evaluation; see ``DatabaseManager.save_architecture`` for the arguments.

        Waits only where 8,000 records are on their way, or 32 MB of them have gathered.

        Raises:
            ValidationError: an argument cannot be stored, or the recorder is closed.
            TypeError: the architecture is of no known type.
            ConfigurationError: this process was forked from the one that made the recorder.
        """
        self._check_process()
        with self._changed:
            if self._is_closing:
                raise ValidationError("the recorder is closed: make a new one")
            if not self._has_room():
                self._changed.wait_for(self._has_room)
            self._waiting.extend(unit.evaluations)
            self._waiting_bytes += sum(evaluation.size_bytes for evaluation in unit.evaluations)
            self._unanswered += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="morphml-recorder", daemon=True)
                self._thread.start()
            if len(self._waiting) in (1, MAX_CALL_ROWS) or self._waiting_bytes >= MAX_WAITING_BYTES:
                self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._unanswered < MAX_WAITING_ROWS and self._waiting_bytes < MAX_WAITING_BYTES

    def flush(self) -> None:
        """Wait until everything recorded so far is committed.

        Raises:
            MorphMLRayError: the first error since the last flush; its message counts the records that failed.
            ConfigurationError: this process was forked from the one that made the recorder.
        """
        self._check_process()
        with self._changed:
            self._flushes += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: not self._unanswered)
            finally:
                self._flushes -= 1
            errors, self._errors = self._errors, []
        if errors:
            first = errors[0]
            raise type(first)(f"{len(errors)} records were not stored; the first: {first}") from first

    def close(self) -> None:
        """Flush, and end the thread; closing again does nothing."""
        try:
            self.flush()
        finally:
            with self._changed:
                self._is_closing = True
                self._changed.notify_all()
            if self._thread is not None:
                self._thread.join()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ConfigurationError(
                "a recorder does not work in a forked process, which has neither its thread nor Ray: start processes "
                'with the method "spawn", or record in the process that made it'
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except MorphMLRayError as other:
            # The caller's own error matters more, and must not hide that records are missing.
            raise error from other

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Recorder does not leave its process: pass the Experiment, and call recorder() there")

    def _work(self) -> None:
        try:
            self._send_and_settle()
        except Exception as error:
            # Whoever waits for this thread must hear of its end, whatever the defect was.
            logger.exception("The recorder's thread ended")
            with self._changed:
                lost = BackendUnavailable(f"the recorder's thread ended unexpectedly: {error!r}")
                self._errors.extend([lost] * self._unanswered)
                self._waiting, self._waiting_bytes, self._unanswered, self._is_closing = [], 0, 0, True
                self._changed.notify_all()

    def _send_and_settle(self) -> None:
        calls: list[tuple[_Saving, ray.ObjectRef[_Errors] | None]] = []
        while True:
            evaluations = self._gather(wait=not calls)
            if evaluations:
                saving = call(DatabaseActor.save_each, SaveUnit(self.scope.experiment_id, evaluations))
                calls.append((saving, self._submit(saving)))
            elif not calls:
                return
            if len(calls) >= MAX_CALLS or len(evaluations) < MAX_CALL_ROWS:
                self._settle(*calls.pop(0))  # more gathers meanwhile

    def _submit(self, saving: "_Saving") -> "ray.ObjectRef[_Errors] | None":
        """Send a call; None where that failed, and its records with it."""
        try:
            return self._channel.submit(saving)
        except Exception as error:  # noqa: BLE001 - Ray was shut down, or its memory is full: told by flush()
            self._fail(saving, BackendUnavailable(f"the call could not be sent: {error!r}"))
            return None

    def _gather(self, *, wait: bool) -> list[EncodedEvaluation]:
        """Take what gathered; nothing where calls are on their way and nothing is new, or at the end."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
            if self._waiting:
                self._changed.wait_for(self._is_urgent, GATHER_S)
            if len(self._waiting) <= MAX_CALL_ROWS and self._waiting_bytes <= MAX_WAITING_BYTES:
                evaluations, self._waiting, self._waiting_bytes = self._waiting, [], 0
            else:
                evaluations = next(cut(self._waiting, MAX_CALL_ROWS))
                self._waiting = self._waiting[len(evaluations) :]
                self._waiting_bytes -= sum(evaluation.size_bytes for evaluation in evaluations)
            self._changed.notify_all()  # there is room again
            return evaluations

    def _is_urgent(self) -> bool:
        is_full = len(self._waiting) >= MAX_CALL_ROWS or self._waiting_bytes >= MAX_WAITING_BYTES
        return self._is_closing or self._flushes > 0 or is_full

    def _settle(self, saving: "_Saving", ref: "ray.ObjectRef[_Errors] | None") -> None:
        """Wait for a call's answer, and again where the actor was overloaded: no record is dropped for that."""
        if ref is None:
            return
        try:
            self._answer(saving, self._channel.result_of(saving, ref))
        except MorphMLRayError as error:
            self._fail(saving, error)
        except Exception as error:  # noqa: BLE001 - the thread must survive to report it
            self._fail(saving, BackendUnavailable(f"the call failed: {error!r}"))

    def _fail(self, saving: "_Saving", error: MorphMLRayError) -> None:
        """Note that none of a call's evaluations was stored."""
        self._answer(saving, [error] * _size(saving))

    def _answer(self, saving: "_Saving", errors: "_Errors") -> None:
        """Note the answer to a call."""
        with self._changed:
            self._errors += errors
            self._unanswered -= _size(saving)
            self._changed.notify_all()


def _size(saving: "_Saving") -> int:
    (unit,) = saving.arguments
    return len(unit.evaluations)
