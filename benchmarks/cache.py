"""Compare reads and writes of the cache: through its actor, by an actor that does nothing, by redis-py alone.

Workers are Ray actors that start together and use the same hundred keys. Servers and actors are this run's own and
disappear with it. Nothing is asserted: read the ratios.

    python benchmarks/cache.py --workers 1 8 --seconds 5
"""

import argparse
import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import ray
import redis
from crew import Crew, Pattern, local_ray, private_reference, scratch_directory
from patterns import NoOpSmall, start_no_op
from rates import Rates, Target, judge, verdicts
from workload import Workload

import morphml_ray as mr
from morphml_ray.cache.actor import CacheActor
from morphml_ray.cache.wire import encode_value
from morphml_ray.devstack import DevStack
from morphml_ray.rpc.deploy import HEALTH

VALKEY, MEMORY = "Valkey", "memory"
NO_OP, COROUTINE = "no-op actor, as the cache's", "no-op actor of coroutines"
GET, SET, MANY = "get", "set", "get_multiple, 100 keys"
OURS, ALONE = "{}: {}", "redis-py alone: {}"
_KEYS = tuple(f"architecture {number}" for number in range(100))
_VALUE = {"fitness": 0.9731, "metrics": {"params": 12_345, "loss": 0.25}, "duration": 0.03}
_PEER_PREFIX = "peer:"

WANTED_OF_NO_OP = 0.8
WANTED_OF_SINGLE_GETS = 20.0


class Nothing:
    """Takes what the cache actor takes, on as many threads, and does nothing with it."""

    def get_multiple(self, keys: list[str]) -> None:
        """Give nothing."""


@dataclass(frozen=True)
class NoOp:
    """Calls with one key, and an answer without a value: the least that a look-up costs."""

    handle: Any

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""
        del workload
        keys = itertools.cycle(_KEYS)

        def step() -> int:
            ray.get(self.handle.get_multiple.remote([next(keys)]))
            return 1

        yield step


@dataclass(frozen=True)
class ThroughActor:
    """The facade, which encodes, decodes and calls the cache actor."""

    cache: mr.DistributedCache
    operation: str

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""
        del workload
        keys = itertools.cycle(_KEYS)
        steps: dict[str, Callable[[], Any]] = {
            GET: lambda: self.cache.get(next(keys)),
            SET: lambda: self.cache.set(next(keys), _VALUE),
            MANY: lambda: self.cache.get_multiple(_KEYS),
        }
        yield functools.partial(_count, steps[self.operation], self.operation)


@dataclass(frozen=True)
class OwnConnection:
    """redis-py: a connection a worker, and bytes that were encoded beforehand and are not decoded."""

    url: str
    operation: str

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""
        del workload
        names = [_PEER_PREFIX + key for key in _KEYS]
        keys, value = itertools.cycle(names), encode_value(_KEYS[0], _VALUE)
        with contextlib.closing(redis.Redis.from_url(self.url)) as client:
            steps: dict[str, Callable[[], Any]] = {
                GET: lambda: client.get(next(keys)),
                SET: lambda: client.set(next(keys), value),
                MANY: lambda: client.mget(names),
            }
            yield functools.partial(_count, steps[self.operation], self.operation)


def _count(step: Callable[[], Any], operation: str) -> int:
    """Do one step; gives how many keys it served."""
    step()
    return len(_KEYS) if operation == MANY else 1


@contextlib.contextmanager
def all_patterns(urls: Mapping[str, str], server_url: str, directory: Path) -> Iterator[dict[str, Pattern]]:
    """Start the actors and fill the caches; gives what is measured, by the labels of the table.

    Args:
        urls: of our caches, by their names.
        server_url: of the server, for redis-py.
        directory: where our storages keep what is not measured.
    """
    patterns: dict[str, Pattern] = {}
    with contextlib.ExitStack() as started:
        shell: Any = ray.remote(concurrency_groups={HEALTH: 2})(Nothing)  # type: ignore[call-overload]  # Ray's stubs
        no_op = shell.options(num_cpus=0, max_concurrency=CacheActor.THREADS, max_task_retries=-1).remote()
        coroutine = start_no_op()
        started.callback(ray.kill, no_op)
        started.callback(ray.kill, coroutine)
        patterns |= {NO_OP: NoOp(no_op), COROUTINE: NoOpSmall(coroutine)}
        for kind, url in urls.items():
            storage = mr.connect(cache=url, root=str(directory / kind), name=kind)
            started.callback(storage.shutdown)
            storage.cache.set_multiple(dict.fromkeys(_KEYS, _VALUE))
            patterns |= {OURS.format(kind, what): ThroughActor(storage.cache, what) for what in (GET, SET, MANY)}
        with contextlib.closing(redis.Redis.from_url(server_url)) as client:
            client.mset({_PEER_PREFIX + key: encode_value(key, _VALUE) for key in _KEYS})
        patterns |= {ALONE.format(what): OwnConnection(server_url, what) for what in (GET, SET, MANY)}
        yield patterns


def measure_all(patterns: Mapping[str, Pattern], crew: Crew, args: argparse.Namespace) -> Rates:
    """Measure every pattern with every number of workers, in turns, so that a slow minute hits all of them."""
    rates = Rates()
    for _, workers, (label, pattern) in itertools.product(range(args.rounds), args.workers, patterns.items()):
        rates.add(label, workers, crew.measure(pattern, workers))
    return rates


def targets(workers: int) -> Iterator[Target]:
    """Give what must be reached with so many workers; what has no target is in the table."""
    for kind in (VALKEY, MEMORY):
        get, many = OURS.format(kind, GET), OURS.format(kind, MANY)
        for no_op in (NO_OP, COROUTINE):
            yield Target(f"{kind}: get / {no_op}, W = {workers}", get, no_op, WANTED_OF_NO_OP, workers)
        title = f"{kind}: get_multiple / get, keys, W = {workers}"
        yield Target(title, many, get, WANTED_OF_SINGLE_GETS, workers)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8], help="numbers of workers (default 1 8)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one measurement (default 5)")
    parser.add_argument("--warm", type=float, default=0.5, help="length of its warm-up, seconds (default 0.5)")
    parser.add_argument("--rounds", type=int, default=3, help="measure all of it so often; medians count (default 3)")
    parser.add_argument("--directory", help="disk to work on (default: the system's directory for temporary files)")
    args = parser.parse_args()
    if min(args.workers) < 1 or args.seconds <= 0 or args.rounds < 1:
        parser.error("--workers, --seconds and --rounds must be positive")
    return args


def main() -> None:
    """Measure, and print."""
    args = arguments()
    with scratch_directory(args.directory) as directory:
        print(machine.describe(directory), f"redis-py {redis.__version__}", sep="\n", flush=True)
        with DevStack(directory / "servers") as stack, local_ray(directory / "ray"):
            urls = {VALKEY: private_reference(directory / "cache.url", stack.cache_url), MEMORY: "memory://"}
            crew = Crew(max(args.workers), args.seconds, args.warm)
            with all_patterns(urls, stack.cache_url, directory) as patterns:
                rates = measure_all(patterns, crew, args)
    lines = [judge(target, rates) for workers in args.workers for target in targets(workers)]
    print(f"\n{rates.table()}\n\n{verdicts(lines)}")


if __name__ == "__main__":
    main()
