"""Pipelined recording: the records of one process share actor calls."""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import ray
from typing_extensions import Self

from morphml_ray.database.contract import EncodedEvaluation, ExperimentRef
from morphml_ray.database.encoding import encode_evaluation
from morphml_ray.errors import BackendUnavailable, MorphMLRayError, Overloaded, ValidationError
from morphml_ray.identity import Identity
from morphml_ray.rpc.channel import FIRST_WAIT_S, LONGEST_WAIT_S, Call, Channel

GATHER_S = 0.003
MAX_CALL_ROWS = 1_000
MAX_CALLS = 4
MAX_WAITING_ROWS = 8_000


class Recorder:
    """Records evaluations without waiting for each.

    ``record`` encodes and returns; a thread sends what gathered within a few milliseconds as one actor call.
    ``flush`` and leaving the ``with`` block wait until everything is committed, and raise what went wrong. Threads of
    a process may share a recorder; it does not pickle: each process makes its own.

    Args:
        channel: to the database actor.
        experiment_id: of the experiment.
        identity: how architectures are told apart.
    """

    def __init__(self, channel: Channel, experiment_id: ExperimentRef, identity: Identity = "structural") -> None:
        self._channel = channel
        self._experiment_id = experiment_id
        self._identity = identity
        self._changed = threading.Condition()
        self._waiting: list[EncodedEvaluation] = []
        self._unanswered = 0
        self._errors: list[MorphMLRayError] = []
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def record(
        self,
        architecture: Any,
        fitness: Any,
        metrics: Mapping[str, Any] | None = None,
        *,
        generation: int = 0,
        seed: Any = None,
        fidelity: Any = None,
        worker_id: str | None = None,
        duration: float = 0.0,
        parents: Sequence[Any] = (),
    ) -> None:
        """Take one evaluation; see ``DatabaseManager.save_architecture`` for the arguments.

        Waits only where 8,000 records are on their way.

        Raises:
            ValidationError: an argument cannot be stored, or the recorder is closed.
            TypeError: the architecture is of no known type.
        """
        encoded = encode_evaluation(
            architecture,
            fitness,
            metrics,
            generation,
            worker_id,
            duration,
            seed=seed,
            fidelity=fidelity,
            parents=parents,
            identity=self._identity,
            scope=str(self._experiment_id),
        )
        with self._changed:
            if self._is_closing:
                raise ValidationError("the recorder is closed: make a new one")
            if self._unanswered >= MAX_WAITING_ROWS:
                self._changed.wait_for(lambda: self._unanswered < MAX_WAITING_ROWS)
            self._waiting.append(encoded)
            self._unanswered += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="morphml-recorder", daemon=True)
                self._thread.start()
            if len(self._waiting) in (1, MAX_CALL_ROWS):
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything recorded so far is committed.

        Raises:
            MorphMLRayError: the first error since the last flush; its message counts the records that failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._unanswered)
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
        calls: list[tuple[ray.ObjectRef[Any], list[EncodedEvaluation]]] = []
        while True:
            rows = self._gather(wait=not calls)
            if rows:
                calls.append((self._send(rows), rows))
            elif not calls:
                return
            if len(calls) >= MAX_CALLS or not rows:
                self._settle(*calls.pop(0))

    def _gather(self, *, wait: bool) -> list[EncodedEvaluation]:
        """Take what gathered; nothing where calls are on their way and nothing is new, or at the end."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
            if not self._is_closing:
                self._changed.wait_for(lambda: len(self._waiting) >= MAX_CALL_ROWS, GATHER_S)
            rows, self._waiting = self._waiting[:MAX_CALL_ROWS], self._waiting[MAX_CALL_ROWS:]
            return rows

    def _send(self, rows: list[EncodedEvaluation]) -> "ray.ObjectRef[Any]":
        return self._channel.submit(Call("save_each", (self._experiment_id, rows), can_overload=True))

    def _settle(self, ref: "ray.ObjectRef[Any]", rows: list[EncodedEvaluation]) -> None:
        """Wait for a call's answer, and again where the actor was overloaded: no record is dropped for that."""
        try:
            outcomes = self._answer(ref, rows)
        except MorphMLRayError as error:
            outcomes = [error] * len(rows)
        except Exception as error:  # noqa: BLE001 - the thread must survive to report it
            outcomes = [BackendUnavailable(f"the call failed: {error!r}")] * len(rows)
        with self._changed:
            self._errors.extend(outcome for outcome in outcomes if isinstance(outcome, MorphMLRayError))
            self._unanswered -= len(rows)
            self._changed.notify_all()

    def _answer(self, ref: "ray.ObjectRef[Any]", rows: list[EncodedEvaluation]) -> Sequence[int | MorphMLRayError]:
        give_up_at = time.monotonic() + self._channel.deadline_s
        wait_s = FIRST_WAIT_S
        while True:
            try:
                answer: Sequence[int | MorphMLRayError] = self._channel.result(ref)
            except Overloaded:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads callers, keeps no secret
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
                ref = self._send(rows)
            else:
                return answer
