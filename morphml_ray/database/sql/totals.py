"""Exact sums of floats, as decimal texts: a running sum of floats would overflow, and lose what a large value hides."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal, localcontext

_DIGITS = 1_000
"""More than any sum of floats has: they reach from 1e308 down to 5e-324."""


def add_totals(one: str, other: str) -> str:
    """Add two totals."""
    with localcontext() as context:
        context.prec = _DIGITS
        return format(Decimal(one) + Decimal(other), "f")


def total_of(values: Iterable[float]) -> Decimal:
    """Sum floats exactly, each by the shortest text that stands for it."""
    with localcontext() as context:
        context.prec = _DIGITS
        return sum((Decimal(repr(value)) for value in values), Decimal(0))


def mean_of(total: object, number: int) -> float | None:
    """Divide a stored total; None where there is nothing to divide by."""
    if not number:
        return None
    with localcontext() as context:
        context.prec = _DIGITS
        return float(Decimal(str(total)) / number)


@dataclass
class Total:
    """What a batch adds to an experiment's counters.

    Attributes:
        proposals: how many evaluations came, hits included.
        fitness: what is added to the sum, and, negative, what is taken from it.
        succeeded: how many new ones have a fitness.
        failures: how many new ones have none, by status.
    """

    proposals: int = 0
    fitness: list[float] = field(default_factory=list)
    succeeded: int = 0
    failures: Counter[str] = field(default_factory=Counter)


class Totals(dict[int, Total]):
    """The totals of a batch, by experiment."""

    def of(self, experiment_id: int) -> Total:
        """Give an experiment's."""
        return self.setdefault(experiment_id, Total())

    def count(self, experiment_id: int, status: str, fitness: float | None) -> None:
        """Count a new evaluation, and its proposal."""
        total = self.of(experiment_id)
        total.proposals += 1
        if fitness is None:
            total.failures[status] += 1
        else:
            total.succeeded += 1
            total.fitness.append(fitness)


class ExactMean:
    """The mean of floats as an aggregate of SQLite, whose own is infinite where their sum is."""

    def __init__(self) -> None:
        self._values: list[float] = []

    def step(self, value: float | None) -> None:
        """Take one value."""
        if value is not None:
            self._values.append(value)

    def finalize(self) -> float | None:
        """Give the mean of all; None of none."""
        return mean_of(total_of(self._values), len(self._values))
