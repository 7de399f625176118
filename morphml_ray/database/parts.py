"""Many evaluations in calls of a size that keeps nobody waiting."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ray

from morphml_ray.database.actor import DatabaseActor
from morphml_ray.database.contract import EncodedEvaluation, SaveUnit
from morphml_ray.rpc.call import call
from morphml_ray.rpc.channel import Channel, Prepared, Steps

MAX_ROWS = 10_000
MAX_BYTES = 32 * 1024 * 1024


def save_in_parts(unit: SaveUnit) -> Prepared[list[int]]:
    """Save evaluations in one call, or in several where they are too many for one."""
    parts = [SaveUnit(unit.experiment, part) for part in cut(unit.evaluations, MAX_ROWS)]
    return call(DatabaseActor.save, unit) if len(parts) < 2 else _SaveInParts(parts)  # noqa: PLR2004 - one is no part


@dataclass(frozen=True)
class _SaveInParts(Steps[list[int]]):
    """Saves of parts, one after the other, so that others get their turn in between."""

    parts: Sequence[SaveUnit]

    def run(self, channel: Channel) -> list[int]:
        """See ``Steps.run``."""
        return [number for part in self.parts for number in channel.wait(call(DatabaseActor.save, part))]

    def start(self, channel: Channel) -> "ray.ObjectRef[list[int]]":
        """See ``Steps.start``; returns when all but the answer is done."""
        return ray.put(self.run(channel))


def cut(evaluations: Sequence[EncodedEvaluation], max_rows: int) -> Iterator[list[EncodedEvaluation]]:
    """Cut evaluations into parts of so many rows, and ``MAX_BYTES``; gives at least one, which may be empty."""
    part: list[EncodedEvaluation] = []
    size_bytes = 0
    for evaluation in evaluations:
        if part and (len(part) == max_rows or size_bytes + evaluation.size_bytes > MAX_BYTES):
            yield part
            part, size_bytes = [], 0
        part.append(evaluation)
        size_bytes += evaluation.size_bytes
    yield part
