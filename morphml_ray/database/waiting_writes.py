"""Writes on their way through the commit queue, and those that wait for a lock of somebody else."""

import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from morphml_ray.database.contract import SaveUnit
from morphml_ray.database.outages import public_error
from morphml_ray.errors import MorphMLRayError, OutcomeUnknownError
from morphml_ray.rpc.patience import Patience

logger = logging.getLogger(__name__)

FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 1.0


@dataclass(eq=False)
class Write:
    """One call that waits: units to save, or another operation.

    Attributes:
        deadline: on ``time.monotonic``'s clock.
        units: to save.
        operation: instead of them.
        rows: how many evaluations the units hold.
        size_bytes: what these take in memory.
        may_be_stored: the answer to a commit of it was lost.
        future: of the answer.
    """

    deadline: float
    units: Sequence[SaveUnit] = ()
    operation: Callable[[], Any] | None = None
    rows: int = 0
    size_bytes: int = 0
    may_be_stored: bool = False
    future: Future[Any] = field(default_factory=Future)

    def fail(self, error: MorphMLRayError) -> None:
        """Answer with an error of this call's own."""
        if self.may_be_stored:
            error = OutcomeUnknownError(
                f"{self._name()} may be stored: the answer to the commit was lost, and then {error}. Repeated with the "
                "same write_id= it is stored once."
            )
        self.future.set_exception(public_error(error))

    def _name(self) -> str:
        """Name what may be stored, by the write id where it is one evaluation."""
        evaluations = [evaluation for unit in self.units for evaluation in unit.evaluations]
        if len(evaluations) == 1:
            return f"the evaluation with the write id {evaluations[0].write_id}"
        return f"{len(evaluations)} evaluations" if evaluations else "a change"


@dataclass
class _Lane:
    writes: deque[Write]
    error: MorphMLRayError
    patience: Patience
    due_at: float


class LockedWrites:
    """Writes that met a lock, each experiment in a lane of its own, so that the others go on.

    Who comes later for such an experiment waits behind them. A lane is tried again after pauses that grow.
    """

    def __init__(self) -> None:
        self._lanes: dict[Hashable, _Lane] = {}

    def __len__(self) -> int:
        return sum(len(lane.writes) for lane in list(self._lanes.values()))  # asked without the queue's lock

    def put(self, writes: Iterable[Write], error: MorphMLRayError) -> None:
        """Keep writes that met a lock; what comes back from another try goes first again."""
        retried: dict[Hashable, list[Write]] = {}
        for write in writes:
            retried.setdefault(_key_of(write), []).append(write)
        for key, group in retried.items():
            lane = self._lanes.get(key)
            if lane is None:
                logger.warning("Some writes wait: %s", error)
                patience = Patience(first_pause_s=FIRST_RETRY_S, longest_pause_s=LONGEST_RETRY_S)
                lane = self._lanes[key] = _Lane(deque(), error, patience, 0.0)
            lane.writes.extendleft(reversed(group))
            lane.error = error
            lane.due_at = time.monotonic() + (lane.patience.next_pause_s() or 0.0)

    def join(self, write: Write) -> bool:
        """Put a write behind others for its experiment; False where none waits."""
        lane = self._lanes.get(_key_of(write))
        if lane is None:
            return False
        lane.writes.append(write)
        return True

    def take(self, max_rows: int, *, at_once: bool) -> list[Write]:
        """Give what is to be tried again now, of one lane; the lane stays for those behind it."""
        now = time.monotonic()
        for key, lane in list(self._lanes.items()):
            if not lane.writes:
                del self._lanes[key]  # its last try went well
            elif at_once or lane.due_at <= now:
                batch = [lane.writes.popleft()]
                rows = batch[0].rows
                while lane.writes and rows + lane.writes[0].rows <= max_rows:
                    rows += lane.writes[0].rows
                    batch.append(lane.writes.popleft())
                return batch
        return []

    def take_late(self, now: float) -> list[tuple[Write, MorphMLRayError]]:
        """Take out those whose deadline is over, with what they waited for."""
        late: list[tuple[Write, MorphMLRayError]] = []
        for lane in self._lanes.values():
            late += [(write, lane.error) for write in lane.writes if write.deadline <= now]
            lane.writes = deque(write for write in lane.writes if write.deadline > now)
        return late

    def next_s(self) -> float | None:
        """Seconds until something is due; None where nothing waits."""
        if not self._lanes:
            return None
        return max(0.0, min(lane.due_at for lane in self._lanes.values()) - time.monotonic())


def _key_of(write: Write) -> Hashable:
    return write.units[0].experiment if write.units else write
