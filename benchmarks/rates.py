"""The figures of a run, as a table, and what the targets make of them."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LABEL_WIDTH = 52


class Rates:
    """Results a second, by pattern and number of workers."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, int], list[float]] = defaultdict(list)
        self._labels: dict[str, None] = {}

    def add(self, label: str, workers: int, rate: float) -> None:
        """Keep one measurement."""
        self._labels[label] = None
        self._samples[label, workers].append(rate)

    def get(self, label: str, workers: int) -> float | None:
        """Give the median of a pattern's measurements; None where there is none."""
        samples = self._samples.get((label, workers))
        return statistics.median(samples) if samples else None

    def table(self) -> str:
        """Write all medians: a line a pattern, a column a number of workers."""
        columns = sorted({workers for _, workers in self._samples})
        head = f"{'results a second':<{LABEL_WIDTH}}" + "".join(f"{f'W = {workers}':>10}" for workers in columns)
        return "\n".join([head, "-" * len(head), *(self._line(label, columns) for label in self._labels)])

    def _line(self, label: str, columns: Sequence[int]) -> str:
        rates = [self.get(label, workers) for workers in columns]
        return f"{label:<{LABEL_WIDTH}}" + "".join(f"{'-' if rate is None else f'{rate:,.0f}':>10}" for rate in rates)


@dataclass(frozen=True)
class Target:
    """A ratio that must be reached.

    Attributes:
        title: what is compared.
        ours: label of our pattern.
        peer: label of the other one.
        least: the ratio.
        workers: of both.
        peer_workers: of the peer, where it has its own number.
    """

    title: str
    ours: str
    peer: str
    least: float
    workers: int
    peer_workers: int | None = None


@dataclass(frozen=True)
class LoneTarget:
    """What one worker may wait for a result: an empty call, and so many times what saving it directly takes.

    Attributes:
        title: what is compared.
        ours: label of our pattern.
        call: label of the empty call.
        direct: label of the direct save.
        factor: how many times.
    """

    title: str
    ours: str
    call: str
    direct: str
    factor: float


def judge_lone(target: LoneTarget, rates: Rates) -> str:
    """Write one line: what it may take over what it takes, met or missed."""
    ours, call, direct = (rates.get(label, 1) for label in (target.ours, target.call, target.direct))
    if not ours or not call or not direct:
        return f"{'not measured':>12}  {'':>6}  {'':>6}  {target.title}"
    ratio = ours * (1 / call + target.factor / direct)
    return verdict(target.title, ratio, 1.0, is_met=ratio >= 1)


def judge(target: Target, rates: Rates) -> str:
    """Write one line: the ratio measured, the ratio wanted, met or missed."""
    ours = rates.get(target.ours, target.workers)
    peer = rates.get(target.peer, target.peer_workers or target.workers)
    if ours is None or not peer:
        return f"{'not measured':>12}  {'':>6}  {'':>6}  {target.title}"
    return verdict(target.title, ours / peer, target.least, is_met=ours / peer >= target.least)


def verdict(title: str, ratio: float, wanted: float, *, is_met: bool) -> str:
    """Write one line of the list of targets."""
    return f"{'met' if is_met else 'MISSED':>12}  {ratio:>6.2f}  {wanted:>6.2f}  {title}"


def verdicts(lines: Iterable[str]) -> str:
    """Put the head on the list of targets."""
    return "\n".join([f"{'':>12}  {'ratio':>6}  {'wanted':>6}", *lines])
