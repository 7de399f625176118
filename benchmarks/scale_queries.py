"""What a million rows change: the same questions to a small and to a large experiment, in turns."""

import contextlib
import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import psycopg2
from rates import verdict
from workload import OBJECTIVES, Workload, repeated

from morphml_ray import StorageConfig
from morphml_ray.database.contract import EncodedEvaluation, SaveUnit
from morphml_ray.database.encoding import encode_experiment
from morphml_ray.database.sql import SqlDatabase

LEAST_ROWS = 1_000
FILL_BATCH = 10_000
WANTED_RATIO = 1.5
_KNOWN = 2_000
_TOP_K = 10


@dataclass
class Filled:
    """A database with one experiment of ``rows`` evaluations.

    Attributes:
        database: open.
        experiment_id: of the experiment.
        known: some of its evaluations, to be saved again.
        fill_s: how long it took to fill, seconds.
    """

    database: SqlDatabase
    experiment_id: int
    known: list[EncodedEvaluation] = field(default_factory=list)
    fill_s: float = 0.0

    def fill(self, rows: int) -> None:
        """Save ``rows`` evaluations of different architectures."""
        workload = Workload()
        templates = workload.encoded()
        started = time.monotonic()
        for done in range(0, rows, FILL_BATCH):
            size = min(FILL_BATCH, rows - done)
            batch = workload.renamed(templates[turn % len(templates)] for turn in range(size))
            self.database.save([SaveUnit(self.experiment_id, batch)])
            self.known += batch[:: max(1, rows // _KNOWN)]
        self.fill_s = time.monotonic() - started

    def questions(self, chance: random.Random) -> Mapping[str, Callable[[], object]]:
        """Give what is measured, by name."""
        return {
            "top-10": lambda: self.database.get_best_architectures(self.experiment_id, _TOP_K, None, {}),
            "statistics": lambda: self.database.get_experiment_statistics(self.experiment_id),
            "deduplicated save": lambda: self._save_again(chance.choice(self.known)),
        }

    def _save_again(self, evaluation: EncodedEvaluation) -> None:
        self.database.save([SaveUnit(self.experiment_id, [repeated(evaluation)])])


@contextlib.contextmanager
def filled(url: str, rows: int) -> Iterator[Filled]:
    """Open an empty database and fill it."""
    database = SqlDatabase(StorageConfig(database=url).database_url)
    database.open()
    try:
        experiment_id = database.create_experiment(encode_experiment("scale", {}, OBJECTIVES, "error"))
        subject = Filled(database, experiment_id)
        subject.fill(rows)
        yield subject
    finally:
        database.close()


def analyze(url: str) -> None:
    """Let a database know its own sizes, and finish the writing that a fill left behind."""
    if url.startswith("sqlite:///"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            file.execute("ANALYZE")
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("VACUUM (ANALYZE)")
            cursor.execute("CHECKPOINT")


def compare(database: str, small: Filled, large: Filled, repetitions: int) -> Iterator[str]:
    """Ask both in turns, so that a slow moment hits both; gives a verdict a question."""
    chance = random.Random(0)  # noqa: S311 - chance, not secrecy
    few, many = small.questions(chance), large.questions(chance)
    for name in few:
        times: list[tuple[float, float]] = [(_ms(few[name]), _ms(many[name])) for _ in range(repetitions)]
        at_small, at_large = (statistics.median(column) for column in zip(*times, strict=True))
        title = f"{database}: {name}, {at_small:.2f} ms -> {at_large:.2f} ms"
        yield verdict(title, at_large / at_small, WANTED_RATIO, is_met=at_large <= WANTED_RATIO * at_small)


def _ms(question: Callable[[], object]) -> float:
    started = time.perf_counter()
    question()
    return (time.perf_counter() - started) * 1e3
