"""Workers that start together and record until time is up."""

import contextlib
import itertools
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Protocol

import ray
from workload import Workload

START_DELAY_S = 0.2
"""From the driver's order to the common start: the order has reached every worker by then."""


class Pattern(Protocol):
    """A way to record results; it pickles.

    ``session`` opens what it needs in the worker and gives the step to repeat, which tells how many results it
    recorded. Leaving the session waits until all of them are durable.
    """

    def session(self, workload: Workload) -> AbstractContextManager[Callable[[], int]]:
        """Open a session."""


class Worker:
    """One worker: a Ray actor, so that its process is warm and the same for all patterns."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._opened = ExitStack()
        self._step: Callable[[], int] | None = None

    def prepare(self, pattern: Pattern, measurement: int, warm_s: float) -> None:
        """Warm up in a session of its own, then open the one that will be measured."""
        self._opened.close()
        workload = Workload(measurement, self._number)
        with pattern.session(workload) as step:
            _repeat(step, time.monotonic() + warm_s)
        self._step = self._opened.enter_context(pattern.session(workload))

    def run(self, start_at: float, seconds: float) -> tuple[int, float]:
        """Record from ``start_at`` on; gives how many results are durable, and when the last one was.

        Args:
            start_at: on the clock that all processes of a machine share, ``time.monotonic``.
            seconds: no step starts later than this.
        """
        if self._step is None:
            raise RuntimeError("the worker was not prepared")
        time.sleep(max(0.0, start_at - time.monotonic()))
        recorded = _repeat(self._step, start_at + seconds)
        self._step = None
        self._opened.close()
        return recorded, time.monotonic()


def _repeat(step: Callable[[], int], until: float) -> int:
    recorded = step()
    while time.monotonic() < until:
        recorded += step()
    return recorded


class Crew:
    """All workers of a run.

    Args:
        size: how many.
        seconds: length of a measurement.
        warm_s: length of its warm-up.
    """

    def __init__(self, size: int, seconds: float, warm_s: float) -> None:
        shell = ray.remote(num_cpus=0)(Worker)
        self._workers: list[Any] = [shell.remote(number) for number in range(size)]
        self._seconds = seconds
        self._warm_s = warm_s
        self._measurements = itertools.count(1)

    def measure(self, pattern: Pattern, workers: int) -> float:
        """Give the results that ``workers`` workers record a second.

        The clock runs until the last result is durable, so what a pattern buffers counts against it.
        """
        members = self._workers[:workers]
        measurement = next(self._measurements)
        ray.get([member.prepare.remote(pattern, measurement, self._warm_s) for member in members])
        start_at = time.monotonic() + START_DELAY_S
        outcomes: list[tuple[int, float]] = ray.get([member.run.remote(start_at, self._seconds) for member in members])
        return sum(recorded for recorded, _ in outcomes) / (max(ended for _, ended in outcomes) - start_at)


@contextlib.contextmanager
def scratch_directory(parent: str | None) -> Iterator[Path]:
    """Make a directory that disappears again, and that a server which runs as another user can enter.

    Args:
        parent: where; None means the system's directory for temporary files.
    """
    with tempfile.TemporaryDirectory(prefix="mrb-", dir=parent, ignore_cleanup_errors=True) as name:
        path = Path(name).absolute()
        path.chmod(0o755)
        yield path


@contextlib.contextmanager
def local_ray(directory: Path) -> Iterator[None]:
    """Run a Ray of our own.

    Args:
        directory: where it keeps its files; the path must be short, because Ray's sockets lie there.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(directory),
    )
    try:
        yield
    finally:
        ray.shutdown()


def private_reference(path: Path, url: str) -> str:
    """Keep a URL with its password in a file of this user's, and give the reference to it."""
    path.touch(mode=0o600)
    path.write_text(url, encoding="utf-8")
    return f"file:{path}"
