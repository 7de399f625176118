"""Compare what stores artifacts: ``morphml_ray``, boto3 at its best, and rclone, on one S3 server.

The server, the files and the actor are this run's own and disappear with it. Nothing is asserted: read the ratios.

    python benchmarks/artifacts.py --mib 256 --count 200 --large
"""

import argparse
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import perf_counter

import boto3
import machine
import psutil
from artifact_stores import BUCKET, Boto3, Contender, Files, our_large, our_small, rclone_large
from crew import local_ray, private_reference, scratch_directory
from rates import LABEL_WIDTH, Rates, verdict, verdicts

import morphml_ray as mr
from morphml_ray.devstack import DevStack, SeaweedServer
from morphml_ray.devstack.seaweedfs import REGION

PUT, GET = "put", "get"
WANTED_GROWTH_MB = 100
"""Of the actor's memory, while a file of ``LARGE_MIB`` passes."""
LARGE_MIB = 2048
_SMALL_BYTES = 100_000


@dataclass(frozen=True)
class Wanted:
    """What one of our ways may take at most, in the time of a peer's fastest one.

    Attributes:
        ours: label of our way.
        peer: what the labels of the peer's ways begin with.
        put: how much of the peer's time.
        get: the same.
    """

    ours: str
    peer: str
    put: float
    get: float


LARGE = (
    Wanted("morphml_ray: a file", "boto3: a file", 1.0, 1.0),
    Wanted("morphml_ray: a file", "rclone", 1.0, 1.0),
    Wanted("morphml_ray: bytes", "boto3: bytes", 1.0, 1.3),
)
SMALL = (
    Wanted("morphml_ray: one after another", "boto3: one", 1.4, 1.4),
    Wanted("morphml_ray: 8 threads", "boto3: 8", 0.8, 0.8),
    Wanted("morphml_ray: .remote(), all at once", "boto3: 8", 0.8, 0.8),
    Wanted("morphml_ray: all in one call", "boto3: 8", 0.5, 0.5),
)
_MIB, _MB = 2**20, 10**6
_SAMPLE_S = 0.02


def write_file(path: Path, mib: int) -> None:
    """Write a file that cannot be compressed; all of its parts differ."""
    block = os.urandom(_MIB)
    with path.open("wb") as file:
        for number in range(mib):
            file.write(number.to_bytes(8, "big") + block[8:])


@contextmanager
def our_storage(directory: Path, server: SeaweedServer) -> Iterator[mr.Storage]:
    """Start our actors; the credentials stay in a file of this run."""
    url = server.bucket_url(BUCKET, with_credentials=True)
    reference = private_reference(directory / "artifacts.url", url)
    storage = mr.connect(artifacts=reference, root=str(directory / "storage"))
    try:
        yield storage
    finally:
        storage.shutdown()


def measure(contenders: list[Contender], size_bytes: int, rounds: int) -> Rates:
    """Let all put and get in turns, so that a slow minute hits all of them; gives MB a second.

    The first turn only warms up: it opens connections and makes the bucket's volumes.
    """
    rates = Rates()
    for turn, contender in product(range(rounds + 1), contenders):
        for direction, action in ((PUT, contender.put), (GET, contender.get)):
            started = perf_counter()
            action()
            rate = size_bytes / _MB / (perf_counter() - started)
            if turn:
                rates.add(f"{direction}  {contender.label}", 1, rate)
    return rates


def compare(title: str, contenders: list[Contender], rates: Rates, wanted: tuple[Wanted, ...]) -> Iterator[str]:
    """Print the table; gives a verdict a direction and way of ours: its time, in that of the peer's fastest way."""
    print(f"\n{title:<{LABEL_WIDTH}}{'MB a second':>12}\n{'-' * (LABEL_WIDTH + 12)}")
    for direction in (PUT, GET):
        found = {each.label: rates.get(f"{direction}  {each.label}", 1) or 0.0 for each in contenders}
        for label, rate in found.items():
            print(f"{f'{direction}  {label}':<{LABEL_WIDTH}}{rate:>12,.0f}", flush=True)
        for each in wanted:
            best = max((label for label in found if label.startswith(each.peer)), key=found.__getitem__, default=None)
            if best is not None:
                ratio, most = found[best] / found[each.ours], each.put if direction == PUT else each.get
                yield verdict(f"time of {direction}, {each.ours} / {best}", ratio, most, is_met=ratio <= most)


def watch_memory(storage: mr.Storage, directory: Path) -> Iterator[str]:
    """Move a file of ``LARGE_MIB`` both ways; gives a verdict on the actor's memory a direction."""
    (status,) = storage.status()["artifacts"].values()
    actor = psutil.Process(status["pid"])
    source, target = directory / "2GiB", directory / "2GiB.fetched"
    write_file(source, LARGE_MIB)
    moves: dict[str, Callable[[], object]] = {
        PUT: lambda: storage.artifacts.upload_file(source, "ours/2GiB"),
        GET: lambda: storage.artifacts.download_file("ours/2GiB", target),
    }
    idle = actor.memory_info().rss
    for direction, move in moves.items():
        peak = highest_memory(actor, move)
        title = f"{direction} of {LARGE_MIB} MiB: the actor's memory, MB above {idle / _MB:.0f} when idle"
        growth = (peak - idle) / _MB
        yield verdict(title, growth, WANTED_GROWTH_MB, is_met=growth < WANTED_GROWTH_MB)
    source.unlink()
    target.unlink()


def highest_memory(process: psutil.Process, action: Callable[[], object]) -> int:
    """Give the most memory, in bytes, that a process takes during an action."""
    most: int = process.memory_info().rss
    is_over = threading.Event()

    def sample() -> None:
        nonlocal most
        while not is_over.wait(_SAMPLE_S):
            most = max(most, process.memory_info().rss)

    sampler = threading.Thread(target=sample, name="memory-sampler")
    sampler.start()
    try:
        action()
    finally:
        is_over.set()
        sampler.join()
    return most


def run(args: argparse.Namespace, directory: Path, server: SeaweedServer) -> Iterator[str]:
    """Do all parts; gives the verdicts."""
    small = [os.urandom(_SMALL_BYTES) for _ in range(args.count)]
    files = Files(directory / "file", directory / "fetched", small)
    write_file(files.large, args.mib)
    exports = server.exports()
    credentials = {name: exports[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    with our_storage(directory, server) as storage:
        if args.large:
            yield from watch_memory(storage, directory)  # first, while the actor is as it started
        theirs = Boto3(server.endpoint_url, credentials, REGION)
        rclone = rclone_large(server.endpoint_url, credentials, REGION, files)
        large = [*our_large(storage.artifacts, files), *theirs.large(files), *rclone]
        rates = measure(large, args.mib * _MIB, args.rounds)
        yield from compare(f"{args.mib} MiB", large, rates, LARGE)
        many = [*our_small(storage.artifacts, files), *theirs.small(files)]
        rates = measure(many, args.count * _SMALL_BYTES, args.rounds)
        yield from compare(f"{args.count} x 100 KB", many, rates, SMALL)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=256, help="size of the one file (default 256)")
    parser.add_argument("--count", type=int, default=200, help="number of small objects (default 200)")
    parser.add_argument("--rounds", type=int, default=3, help="measure all of it so often; medians count (default 3)")
    parser.add_argument("--large", action="store_true", help="watch the actor's memory while a file of 2 GiB passes")
    parser.add_argument("--directory", help="disk to work on (default: the system's directory for temporary files)")
    args = parser.parse_args()
    if min(args.mib, args.count, args.rounds) < 1:
        parser.error("--mib, --count and --rounds must be positive")
    return args


def main() -> None:
    """Measure, and print."""
    args = arguments()
    with scratch_directory(args.directory) as directory:
        print(machine.describe(directory), f"boto3 {boto3.__version__}", sep="\n", flush=True)
        with DevStack(directory / "servers") as stack, local_ray(directory / "ray"):
            lines = list(run(args, directory, stack.seaweed))
    print(f"\n{verdicts(lines)}")


if __name__ == "__main__":
    main()
