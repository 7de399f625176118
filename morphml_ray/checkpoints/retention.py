"""Which checkpoints stay. The names are those of Orbax.

Policies rank what is committed, in the order of the commits: a generation below others, saved after a roll-back, is
the newest one. Whatever a policy says, the newest commit stays, and so does what is pinned.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from morphml_ray.checkpoints.manifest import CheckpointRecord
from morphml_ray.errors import ValidationError


class PreservationPolicy(Protocol):
    """Chooses among checkpoints; a frozen value."""

    def chosen(self, checkpoints: Sequence[CheckpointRecord]) -> Iterable[CheckpointRecord]:
        """Give those that stay.

        Args:
            checkpoints: oldest commit first, one a generation.
        """


@dataclass(frozen=True)
class LatestN:
    """The newest commits.

    Attributes:
        n: how many; None: all.
    """

    n: int | None

    def __post_init__(self) -> None:
        if self.n is not None:
            _check_count("LatestN", self.n)

    def chosen(self, checkpoints: Sequence[CheckpointRecord]) -> Iterable[CheckpointRecord]:
        """See ``PreservationPolicy``."""
        return checkpoints if self.n is None else checkpoints[-self.n :]


@dataclass(frozen=True)
class BestN:
    """Those with the best values of a metric; of equal ones the newer.

    One without the metric, or with NaN or an infinity, is not among the best. Where none has it, all stay: a name
    that is spelled wrong must not cost checkpoints.

    Attributes:
        n: how many.
        metric: its name.
        mode: which values are better.
    """

    n: int
    metric: str
    mode: Literal["max", "min"] = "max"

    def __post_init__(self) -> None:
        _check_count("BestN", self.n)
        check_mode(self.mode)

    def chosen(self, checkpoints: Sequence[CheckpointRecord]) -> Iterable[CheckpointRecord]:
        """See ``PreservationPolicy``."""
        if not any(self.metric in record.metrics for record in checkpoints):
            return checkpoints
        ranked = [record for record in checkpoints if math.isfinite(record.metrics.get(self.metric, math.nan))]
        sign = 1 if self.mode == "max" else -1
        ranked.sort(key=lambda record: (sign * record.metrics[self.metric], record.sequence))
        return ranked[-self.n :]


@dataclass(frozen=True)
class EveryNSteps:
    """One checkpoint of every ``n`` generations: the first that was saved in each of 0 to n-1, n to 2n-1, and so on.

    Where the multiples of ``n`` are saved, these are they; where they are not, there still is one of each stretch.

    Attributes:
        n: how many generations.
    """

    n: int

    def __post_init__(self) -> None:
        _check_count("EveryNSteps", self.n)

    def chosen(self, checkpoints: Sequence[CheckpointRecord]) -> Iterable[CheckpointRecord]:
        """See ``PreservationPolicy``."""
        first: dict[int, CheckpointRecord] = {}
        for record in sorted(checkpoints, key=lambda record: record.generation):
            first.setdefault(record.generation // self.n, record)
        return first.values()


@dataclass(frozen=True)
class AnyPreservation:
    """Those that any of several policies keeps.

    Attributes:
        policies: these; none of them keeps only what always stays.
    """

    policies: tuple[PreservationPolicy, ...]

    def chosen(self, checkpoints: Sequence[CheckpointRecord]) -> Iterable[CheckpointRecord]:
        """See ``PreservationPolicy``."""
        for policy in self.policies:
            yield from policy.chosen(checkpoints)


def kept(policy: PreservationPolicy, checkpoints: Iterable[CheckpointRecord]) -> tuple[CheckpointRecord, ...]:
    """Choose which checkpoints stay.

    The newest commit stays, and pinned ones do. Of a generation that was committed several times only the newest
    commit counts. One that is known to be damaged takes no other's place: it stays as long as the policy would keep
    it, were it good, and the policy then chooses among the good ones again.

    Args:
        policy: chooses.
        checkpoints: all that are committed, in any order.

    Returns:
        Those that stay, oldest commit first.
    """
    ordered = sorted(checkpoints, key=lambda record: record.sequence)
    newest = {record.generation: record for record in ordered}
    standing = [record for record in ordered if newest[record.generation] is record]
    healthy = [record for record in standing if record.damage is None]
    chosen = [record for record in policy.chosen(standing) if record.damage is not None]
    stay = {record.sequence for record in (*policy.chosen(healthy), *chosen, *ordered[-1:])}
    return tuple(record for record in ordered if record.pinned or record.sequence in stay)


def check_mode(mode: str) -> None:
    """Refuse what is no direction.

    Raises:
        ValidationError: it is neither "max" nor "min".
    """
    if mode not in ("max", "min"):
        raise ValidationError(f"mode={mode!r} must be 'max' or 'min'")


def _check_count(name: str, n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValidationError(f"{name}(n={n!r}): n must be an integer of at least 1")
