"""A batch as it comes in: its rows as columns, and what became of them the short way.

The short way stores, in one go and asking nothing, what is new and stands alone: the first evaluation, in its batch and
at all, of an architecture that nobody had. It is no hit, no replicate and no member of a group to be ranked anew; what
repeats a write has an architecture that is there. All else goes the way of the rounds (``saving.py``), within the same
transaction.
"""

from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple

from morphml_ray.database.contract import EncodedEvaluation, EvaluationColumns, SaveUnit
from morphml_ray.database.sql.schema import architectures, evaluations

STORED_FIELDS = tuple(name for name in EncodedEvaluation._fields if name in evaluations.c)
"""Fields of an evaluation that are columns of its row, under the same names."""
ARCHITECTURE_FIELDS = tuple(name for name in EncodedEvaluation._fields if name in architectures.c)
"""The same, of its architecture's row."""


class Arrivals:
    """The evaluations of a batch, column by column.

    Args:
        parts: evaluations and the id of their experiment.
        may_store: whether any may be stored the short way.

    Attributes:
        experiment_ids: of each row.
        columns: by the fields of an evaluation.
        may_store: whether a row is stored the short way if its architecture is new.
    """

    def __init__(self, parts: Sequence[tuple[int, EvaluationColumns]], *, may_store: bool = True) -> None:
        self.experiment_ids = list(chain.from_iterable(repeat(number, len(rows)) for number, rows in parts))
        self.columns: Mapping[str, Sequence[Any]] = {
            name: list(chain.from_iterable(rows.columns[name] for _, rows in parts))
            for name in EncodedEvaluation._fields
        }
        first = self._first_by_key()
        is_first = [first[key] == index for index, key in enumerate(self.columns["key"])]
        self.may_store = [
            may_store and is_first[index] and word != "replicate"
            for index, word in enumerate(self.columns["on_duplicate"])
        ]

    def _first_by_key(self) -> dict[str, int]:
        keys = self.columns["key"]
        return dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))

    def __len__(self) -> int:
        return len(self.experiment_ids)

    def evaluation(self, index: int) -> EncodedEvaluation:
        """Give one row."""
        return EncodedEvaluation(*(column[index] for column in self.columns.values()))


class Stored(NamedTuple):
    """What became of a batch the short way.

    Attributes:
        signs: sign of the fitness by experiment, of those that exist; they are locked.
        ids: by row, of an experiment that exists: the evaluation's, or what it will have if it is stored later.
        later: the rows of such experiments that have not been stored.
    """

    signs: Mapping[int, int]
    ids: Mapping[int, int]
    later: Sequence[int]


def arrivals_of(units: Sequence[SaveUnit], numbers: Mapping[Any, int], *, may_store: bool) -> Arrivals:
    """Put the evaluations of units, whose experiments have numbers, below each other."""
    parts = [
        (numbers[unit.experiment], EvaluationColumns.of(unit.evaluations))
        for unit in units
        if unit.experiment in numbers
    ]
    return Arrivals(parts, may_store=may_store)
