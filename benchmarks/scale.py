"""Compare an experiment of a million rows with one of a thousand, and watch the actor's memory and connections.

Nothing is asserted: read the ratios. Servers, files and actors are this run's own and disappear with it.

    python benchmarks/scale.py --rows 1000000 --parts queries memory connections
"""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import machine
from crew import Crew, local_ray, private_reference, scratch_directory
from rates import verdicts
from scale_actor import STEPS, count_connections, watch_memory
from scale_queries import LEAST_ROWS, analyze, compare, filled

import morphml_ray as mr
from morphml_ray.devstack import DevStack, PostgresServer

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
QUERIES, MEMORY, CONNECTIONS = "queries", "memory", "connections"
_SECONDS = 3.0
_WARM_S = 0.2

Urls = Callable[[str, str], str]
"""From a kind of database and a name to the URL of a new, empty one."""


def empty_databases(directory: Path, postgres: PostgresServer) -> Urls:
    """Give the function that makes empty databases."""

    def create(kind: str, name: str) -> str:
        return f"sqlite:///{directory}/{name}.db" if kind == SQLITE else postgres.create_database(name)

    return create


def compare_queries(create: Urls, kind: str, args: argparse.Namespace) -> Iterator[str]:
    """Fill a small and a large database; gives the verdicts."""
    urls = {rows: create(kind, f"rows_{rows}") for rows in (LEAST_ROWS, args.rows)}
    with filled(urls[LEAST_ROWS], LEAST_ROWS) as small, filled(urls[args.rows], args.rows) as large:
        print(
            f"  {kind}: {args.rows:,} rows in {large.fill_s:.0f} s, {args.rows / large.fill_s:,.0f} a second",
            flush=True,
        )
        if args.analyze:
            for url in urls.values():
                analyze(url)
        yield from compare(kind, small, large, args.repetitions)


def compare_memory(create: Urls, kind: str, directory: Path, rows: int) -> str:
    """Record through an actor of its own; gives the verdict."""
    with connected(create(kind, "memory"), directory / f"memory-{kind}.url", kind) as storage:
        return watch_memory(kind, storage, rows)


def compare_connections(create: Urls, postgres: PostgresServer, directory: Path, numbers: list[int]) -> Iterator[str]:
    """Let few and many workers use one actor; gives the verdicts."""
    url = create(POSTGRESQL, "connections")
    crew = Crew(max(numbers), _SECONDS, _WARM_S)
    with connected(url, directory / "connections.url", "connections") as storage:
        for workers in numbers:
            yield count_connections(postgres, "connections", storage, crew, workers)


@contextlib.contextmanager
def connected(url: str, reference: Path, name: str) -> Iterator[mr.Storage]:
    """Start an actor for a while; a password stays in a file of this run."""
    storage = mr.connect(database=url if url.startswith("sqlite") else private_reference(reference, url), name=name)
    try:
        yield storage
    finally:
        storage.shutdown()


def run(args: argparse.Namespace, directory: Path, postgres: PostgresServer) -> Iterator[str]:
    """Do the chosen parts; gives the verdicts."""
    create = empty_databases(directory, postgres)
    if QUERIES in args.parts:
        for kind in args.databases:
            yield from compare_queries(create, kind, args)
    if {MEMORY, CONNECTIONS}.isdisjoint(args.parts):
        return
    with local_ray(directory / "ray"):
        if MEMORY in args.parts:
            for kind in args.databases:
                yield compare_memory(create, kind, directory, args.rows)
        if CONNECTIONS in args.parts:
            yield from compare_connections(create, postgres, directory, args.workers)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rows", type=int, default=1_000_000, help="of the large experiment, and through the recorder")
    add("--repetitions", type=int, default=300, help="of each question (default 300)")
    add("--workers", type=int, nargs="+", default=[1, 32], help="numbers of workers for the connections")
    parts, databases = [QUERIES, MEMORY, CONNECTIONS], [SQLITE, POSTGRESQL]
    add("--parts", nargs="+", choices=parts, default=parts, help="what to measure (default: all)")
    add("--databases", nargs="+", choices=databases, default=databases, help="where (default: both)")
    add("--analyze", action=argparse.BooleanOptionalAction, default=True, help="run ANALYZE after a fill (default)")
    add("--directory", help="disk to measure on (default: the system's directory for temporary files)")
    args = parser.parse_args()
    if args.rows <= LEAST_ROWS or args.rows % STEPS or args.repetitions < 1 or min(args.workers) < 1:
        parser.error(f"--rows must be a multiple of {STEPS} above {LEAST_ROWS}; the others must be positive")
    return args


def main() -> None:
    """Measure, and print."""
    args = arguments()
    with scratch_directory(args.directory) as directory:
        print(machine.describe(directory), flush=True)
        with DevStack(directory / "servers") as stack:
            lines = list(run(args, directory, stack.postgres))
    print(f"\n{verdicts(lines)}")


if __name__ == "__main__":
    main()
