"""When a checkpoint is saved. The names are those of Orbax, where it has them.

A policy is a frozen value and decides by what it is told, so that a test needs no clock and a driver asks in any
process.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from morphml_ray.checkpoints.retention import check_mode
from morphml_ray.errors import ValidationError

_NO_METRICS: Mapping[str, float] = {}


@dataclass(frozen=True)
class SaveState:
    """What a decision is made by.

    Times are seconds of one clock that never goes back, such as ``time.monotonic``.

    Attributes:
        generation: that was just finished.
        now_s: now.
        started_s: when the search began here.
        saved_at_s: when the last save began; None: there was none.
        saved_generation: its generation; None: there was none.
        stalled_s: how long the search stood still for saves since it began.
        metrics: of this generation.
        lowest: the lowest finite value of each metric in the generations before.
        highest: the highest.
        is_preempted: whether this machine is about to be taken away.
    """

    generation: int
    now_s: float
    started_s: float = 0.0
    saved_at_s: float | None = None
    saved_generation: int | None = None
    stalled_s: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    lowest: Mapping[str, float] = field(default_factory=dict)
    highest: Mapping[str, float] = field(default_factory=dict)
    is_preempted: bool = False

    def followed_by(self, generation: int, now_s: float, metrics: Mapping[str, float] = _NO_METRICS) -> "SaveState":
        """Give the state after the next generation; what it holds of saves stays."""
        finite = {name: value for name, value in self.metrics.items() if math.isfinite(value)}
        return replace(
            self,
            generation=generation,
            now_s=now_s,
            metrics=dict(metrics),
            lowest={**self.lowest, **{name: min(x, self.lowest.get(name, x)) for name, x in finite.items()}},
            highest={**self.highest, **{name: max(x, self.highest.get(name, x)) for name, x in finite.items()}},
        )


class SavePolicy(Protocol):
    """Decides whether to save now; a frozen value."""

    def should_save(self, state: SaveState) -> bool:
        """Whether the generation that was just finished is to be saved."""


@dataclass(frozen=True)
class FixedInterval:
    """Every ``n``-th generation, 0 included.

    Attributes:
        n: how many; 0: never.
    """

    n: int

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 0:
            raise ValidationError(f"FixedInterval(n={self.n!r}): n must be an integer, 0 for never")

    def should_save(self, state: SaveState) -> bool:
        """See ``SavePolicy``."""
        return self.n > 0 and state.generation % self.n == 0


@dataclass(frozen=True)
class ContinuousCheckpointing:
    """Whenever the last save began so long ago, or the search, where there was none.

    Attributes:
        every_s: seconds; 0: always.
    """

    every_s: float = 0.0

    def __post_init__(self) -> None:
        _check_finite("ContinuousCheckpointing", "every_s", self.every_s)

    def should_save(self, state: SaveState) -> bool:
        """See ``SavePolicy``."""
        return state.now_s - (state.started_s if state.saved_at_s is None else state.saved_at_s) >= self.every_s


@dataclass(frozen=True)
class StallShare:
    """As often as the search then stands still for saves no more than a share of its time; once at the start.

    Attributes:
        percent: the share, above 0, at most 100.
    """

    percent: float

    def __post_init__(self) -> None:
        _check_finite("StallShare", "percent", self.percent)
        if not 0 < self.percent <= 100:  # noqa: PLR2004 - percent
            raise ValidationError(f"StallShare(percent={self.percent!r}): above 0, at most 100")

    def should_save(self, state: SaveState) -> bool:
        """See ``SavePolicy``."""
        allowed_s = (state.now_s - state.started_s) * self.percent / 100
        return state.saved_at_s is None or state.stalled_s <= allowed_s


@dataclass(frozen=True)
class OnNewBest:
    """Whenever a metric is better than in all generations before.

    Attributes:
        metric: its name. A generation without it, or with NaN or an infinity, is none of the best.
        mode: which values are better.
    """

    metric: str
    mode: Literal["max", "min"] = "max"

    def __post_init__(self) -> None:
        check_mode(self.mode)

    def should_save(self, state: SaveState) -> bool:
        """See ``SavePolicy``."""
        value = state.metrics.get(self.metric, math.nan)
        if not math.isfinite(value):
            return False
        if self.mode == "max":
            return value > state.highest.get(self.metric, -math.inf)
        return value < state.lowest.get(self.metric, math.inf)


@dataclass(frozen=True)
class Preemption:
    """When this machine is about to be taken away, each generation once."""

    def should_save(self, state: SaveState) -> bool:
        """See ``SavePolicy``."""
        return state.is_preempted and state.saved_generation != state.generation


@dataclass(frozen=True)
class AnySave:
    """When any of several policies says so.

    Attributes:
        policies: these.
    """

    policies: tuple[SavePolicy, ...]

    def should_save(self, state: SaveState) -> bool:
        """See ``SavePolicy``."""
        return any(policy.should_save(state) for policy in self.policies)


def _check_finite(name: str, argument: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValidationError(f"{name}({argument}={value!r}): a number of at least 0")
