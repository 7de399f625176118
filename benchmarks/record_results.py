"""Compare how many results a second can be recorded: by ``morphml_ray`` and by what people use otherwise.

Workers are Ray actors that start together; everything that a pattern buffers is committed before its clock stops.
Servers, files and actors are this run's own and disappear with it. Nothing is asserted: read the ratios.

    python benchmarks/record_results.py --workers 1 4 8 16 --seconds 5
"""

import argparse
import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import machine
import ray
from crew import Crew, Pattern, local_ray, private_reference, scratch_directory
from patterns import Blocking, Bulk, NoOpEncoding, NoOpReady, NoOpSmall, Recording, start_no_op
from peers import Executemany, ExecuteValues, OptunaJournal, OwnConnection, create_schema, optuna_proxy
from rates import LoneTarget, Rates, Target, judge, judge_lone, verdicts
from workload import OBJECTIVES

import morphml_ray as mr
from morphml_ray.devstack import DevStack, PostgresServer

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
NO_OP_SMALL = "no-op actor, two small arguments"
NO_OP_READY = "no-op actor, evaluation encoded beforehand"
NO_OP_ENCODING = "no-op actor, caller encodes each evaluation"
BLOCKING = "{}: save_architecture, one after the other"
RECORDER = "{}: recorder()"
BULK = "{}: save_architectures, 1,000 a call"
OWN_CONNECTION = "{}: SQLAlchemy, a connection and commit each"
VALUES_READY = "PostgreSQL: execute_values, rows made beforehand"
VALUES_ENCODING = "PostgreSQL: execute_values, encoding each row"
EXECUTEMANY = "SQLite: executemany, rows made beforehand"
OPTUNA_PROXY = "PostgreSQL: Optuna GrpcStorageProxy"
OPTUNA_JOURNAL = "file: Optuna JournalStorage"

TARGET_WORKERS = 8
TARGETS = (
    *(
        Target(f"{database}: blocking saves / {NO_OP_ENCODING}, W = 8", ours, NO_OP_ENCODING, least, TARGET_WORKERS)
        for database, ours, least in (
            (SQLITE, BLOCKING.format(SQLITE), 0.8),
            (POSTGRESQL, BLOCKING.format(POSTGRESQL), 0.65),
        )
    ),
    *(
        Target(f"recorder() / {peer}, W = 8", RECORDER.format(database), peer, least, TARGET_WORKERS, peer_workers)
        for database, peer, least, peer_workers in (
            (POSTGRESQL, VALUES_READY, 1.5, 1),
            (POSTGRESQL, OWN_CONNECTION.format(POSTGRESQL), 15.0, None),
            (POSTGRESQL, OPTUNA_PROXY, 10.0, None),
            (SQLITE, EXECUTEMANY, 0.6, 1),
        )
    ),
)
LONE_TARGETS = tuple(
    LoneTarget(
        f"{database}: an empty call and 1.2 direct saves / a blocking save, W = 1",
        *(BLOCKING.format(database), NO_OP_ENCODING, OWN_CONNECTION.format(database)),
        factor=1.2,
    )
    for database in (SQLITE, POSTGRESQL)
)


@dataclass(frozen=True)
class Contender:
    """A line of the table.

    Attributes:
        label: of the line.
        create: makes the pattern for one measurement.
        is_single: it is one process, whatever the number of workers.
    """

    label: str
    create: Callable[[], Pattern]
    is_single: bool = False


class OurOwn:
    """Our patterns on one database; every measurement gets an experiment of its own."""

    def __init__(self, storage: mr.Storage) -> None:
        self._storage = storage
        self._numbers = itertools.count(1)

    def contenders(self, database: str) -> list[Contender]:
        """Give our lines of the table."""
        return [
            Contender(BLOCKING.format(database), lambda: Blocking(self._storage.database, self._experiment().id)),
            Contender(RECORDER.format(database), lambda: Recording(self._experiment())),
            Contender(BULK.format(database), lambda: Bulk(self._storage.database, self._experiment().id)),
        ]

    def _experiment(self) -> mr.Experiment:
        return self._storage.experiment(f"measurement {next(self._numbers)}", objectives=OBJECTIVES)


@contextlib.contextmanager
def no_op_contenders() -> Iterator[list[Contender]]:
    """Start the actor that does nothing; gives its lines of the table."""
    handle = start_no_op()
    try:
        yield [
            Contender(NO_OP_SMALL, lambda: NoOpSmall(handle)),
            Contender(NO_OP_READY, lambda: NoOpReady(handle)),
            Contender(NO_OP_ENCODING, lambda: NoOpEncoding(handle)),
        ]
    finally:
        ray.kill(handle)


@contextlib.contextmanager
def our_contenders(database: str, url: str) -> Iterator[list[Contender]]:
    """Start a database actor; gives its lines of the table."""
    storage = mr.connect(database=url, name=database)
    try:
        yield OurOwn(storage).contenders(database)
    finally:
        storage.shutdown()


def connection_contender(database: str, url: str, our_url: str) -> Contender:
    """Prepare the baseline of one connection a worker, on a database of its own."""
    pattern = OwnConnection(url, create_schema(our_url))
    return Contender(OWN_CONNECTION.format(database), lambda: pattern)


def values_contenders(postgres: PostgresServer) -> list[Contender]:
    """Prepare ``execute_values``, on a database of its own."""
    url = postgres.create_database("bulk_inserts")
    experiment_id = create_schema(url)
    return [
        Contender(VALUES_READY, lambda: ExecuteValues(url, experiment_id), is_single=True),
        Contender(VALUES_ENCODING, lambda: ExecuteValues(url, experiment_id, is_encoding=True), is_single=True),
    ]


def executemany_contender(path: Path) -> Contender:
    """Prepare ``executemany``, in a file of its own."""
    experiment_id = create_schema(f"sqlite:///{path}")
    return Contender(EXECUTEMANY, lambda: Executemany(str(path), experiment_id), is_single=True)


def journal_contender(directory: Path) -> Contender:
    """Prepare Optuna's journal; each measurement gets a file of its own, because every worker replays all of it."""
    numbers = itertools.count(1)

    def create() -> OptunaJournal:
        pattern = OptunaJournal(str(directory / f"journal-{next(numbers)}.log"), "measurement")
        pattern.create_study()
        return pattern

    return Contender(OPTUNA_JOURNAL, create)


def with_driver(url: str) -> str:
    """Name the driver, as plain SQLAlchemy wants it."""
    return url.replace("postgresql://", "postgresql+psycopg2://", 1)


@contextlib.contextmanager
def all_contenders(directory: Path, postgres: PostgresServer) -> Iterator[list[Contender]]:
    """Start everything; gives the lines of the table."""
    ours, theirs = postgres.create_database("ours"), postgres.create_database("own_connections")
    reference = private_reference(directory / "ours.url", ours)
    files = [f"sqlite:///{directory}/{name}.db" for name in ("ours", "own_connections")]
    with contextlib.ExitStack() as started:
        proxy = started.enter_context(optuna_proxy(with_driver(postgres.create_database("optuna")), "measurement"))
        yield [
            *started.enter_context(no_op_contenders()),
            *started.enter_context(our_contenders(SQLITE, files[0])),
            *started.enter_context(our_contenders(POSTGRESQL, reference)),
            *values_contenders(postgres),
            executemany_contender(directory / "executemany.db"),
            connection_contender(SQLITE, files[1], files[1]),
            connection_contender(POSTGRESQL, with_driver(theirs), theirs),
            Contender(OPTUNA_PROXY, lambda: proxy),
            journal_contender(directory),
        ]


def measure_all(contenders: list[Contender], crew: Crew, args: argparse.Namespace) -> Rates:
    """Measure every contender with every number of workers, in turns, so that a slow minute hits all of them."""
    rates = Rates()
    turns = list(itertools.product(range(args.rounds), args.workers, contenders))
    for number, (_, workers, contender) in enumerate(turns, 1):
        members = 1 if contender.is_single else workers
        try:
            rate = crew.measure(contender.create(), members)
        except (ray.exceptions.RayTaskError, mr.MorphMLRayError) as error:
            print(f"{contender.label}, W = {members} failed: {str(error).splitlines()[-1]}", file=sys.stderr)
            continue
        rates.add(contender.label, members, rate)
        if args.progress:
            print(f"[{number}/{len(turns)}] W = {members:<3} {rate:>10,.0f}  {contender.label}", file=sys.stderr)
    return rates


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 8, 16], help="numbers of workers")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one measurement (default 5)")
    parser.add_argument("--warm", type=float, default=0.5, help="length of its warm-up, seconds (default 0.5)")
    parser.add_argument("--rounds", type=int, default=1, help="measure all of it so often; medians count (default 1)")
    parser.add_argument("--only", default="", help="measure only the lines whose label contains this")
    parser.add_argument("--directory", help="disk to measure on (default: the system's directory for temporary files)")
    parser.add_argument("--progress", action="store_true", help="print each figure when it is there")
    args = parser.parse_args()
    if min(args.workers) < 1 or args.seconds <= 0 or args.rounds < 1:
        parser.error("--workers, --seconds and --rounds must be positive")
    return args


def main() -> None:
    """Measure, and print."""
    args = arguments()
    with scratch_directory(args.directory) as directory:
        print(machine.describe(directory), machine.describe_encoding(), sep="\n", flush=True)
        with DevStack(directory / "servers") as stack, local_ray(directory / "ray"):
            crew = Crew(max(args.workers), args.seconds, args.warm)
            with all_contenders(directory, stack.postgres) as contenders:
                chosen = [contender for contender in contenders if args.only in contender.label]
                rates = measure_all(chosen, crew, args)
    judged = (judge(target, rates) for target in TARGETS)
    judged_alone = (judge_lone(target, rates) for target in LONE_TARGETS)
    print(f"\n{rates.table()}\n\n{verdicts([*judged, *judged_alone])}")


if __name__ == "__main__":
    main()
