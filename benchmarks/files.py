"""Compare what moves many files: ``morphml://`` and s3fs, both through fsspec, on one S3 server.

The server, the files and the actor are this run's own and disappear with it. Nothing is asserted: read the ratios.

    python benchmarks/files.py --count 500 --mib 200
"""

import argparse
import os
import shutil
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter

import fsspec  # type: ignore[import-untyped]  # it carries no type information
import machine
import numpy as np
import s3fs
from artifact_stores import BUCKET
from artifacts import our_storage
from crew import local_ray, scratch_directory
from rates import LABEL_WIDTH, verdict, verdicts

from morphml_ray.devstack import DevStack, SeaweedServer
from morphml_ray.devstack.seaweedfs import REGION

OURS, THEIRS = "morphml://", "s3fs"
WANTED = 1.0
"""Time of ours, of that of s3fs, at most."""
_SMALL_BYTES = 4_000
_RANGE = (100, 1_100)
_MIB = 2**20
_NUMBER_BYTES = 8
_FOLDERS = 10


class Side:
    """One of the two file systems.

    Args:
        name: of it.
        files: the file system.
        root: where its files are, without a slash at the end.
        directory: for local files.
    """

    def __init__(self, name: str, files: fsspec.AbstractFileSystem, root: str, directory: Path) -> None:
        self.name = name
        self._files = files
        self._root = root
        self._directory = directory

    def actions(self, source: Path, count: int) -> Iterator[tuple[str, Callable[[], object]]]:
        """Give what is measured, in an order in which each finds what it needs."""
        files, many, large = self._files, f"{self._root}/many", f"{self._root}/large.npy"
        fetched = self._directory / f"fetched-{self.name.partition(':')[0]}"
        names = [f"{many}/{path.parent.name}/{path.name}" for path in sorted(source.glob("many/*/*"))]

        def get() -> None:
            shutil.rmtree(fetched, ignore_errors=True)
            files.get(many, str(fetched), recursive=True)

        def load() -> None:
            with files.open(large, "rb") as file:
                np.load(file)

        yield "put", lambda: files.put(str(source / "many"), many, recursive=True)
        yield "get", get
        yield "copy", lambda: files.copy(many, f"{self._root}/copied", recursive=True)
        yield "du", lambda: self._fresh().du(many)
        yield "walk", lambda: list(self._fresh().walk(many))
        yield "cat_ranges", lambda: files.cat_ranges(names, [_RANGE[0]] * count, [_RANGE[1]] * count)
        yield "np.load", load

    def prepare(self, source: Path) -> None:
        """Put the large file there."""
        self._files.put_file(str(source / "large.npy"), f"{self._root}/large.npy")

    def clear(self) -> None:
        """Delete what the last round put, so that the next one puts into nothing."""
        for folder in ("many", "copied"):
            if self._fresh().exists(f"{self._root}/{folder}"):
                self._files.rm(f"{self._root}/{folder}", recursive=True)

    def _fresh(self) -> fsspec.AbstractFileSystem:
        """Forget listings: what is measured is asking the server."""
        self._files.invalidate_cache()
        return self._files


def measure(sides: list[Side], source: Path, count: int, rounds: int) -> dict[tuple[str, str], float]:
    """Let both act in turns, so that a slow minute hits both; gives the median seconds of each action of each side.

    The first turn only warms up: it opens connections and makes the bucket's volumes.
    """
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)
    for side in sides:
        side.prepare(source)
    for turn in range(rounds + 1):
        for side in sides:
            side.clear()
        for actions in zip(*(side.actions(source, count) for side in sides), strict=True):
            for side, (name, action) in zip(sides, actions, strict=True):
                began = perf_counter()
                action()
                if turn:
                    samples[name, side.name].append(perf_counter() - began)
    return {key: statistics.median(seconds) for key, seconds in samples.items()}


def compare(seconds: Mapping[tuple[str, str], float]) -> Iterator[str]:
    """Print the table; gives a verdict an action."""
    print(f"\n{'milliseconds':<{LABEL_WIDTH}}{OURS:>12}{THEIRS:>12}\n{'-' * (LABEL_WIDTH + 24)}")
    for name in dict.fromkeys(name for name, _ in seconds):
        ours, theirs = seconds[name, OURS], seconds[name, THEIRS]
        print(f"{name:<{LABEL_WIDTH}}{ours * 1000:>12,.0f}{theirs * 1000:>12,.0f}", flush=True)
        yield verdict(f"{name}: time of ours / of s3fs", ours / theirs, WANTED, is_met=ours <= WANTED * theirs)


def write_files(directory: Path, count: int, mib: int) -> Path:
    """Write small files in ten folders, and one large array."""
    source = directory / "source"
    for number in range(count):
        path = source / "many" / f"{number % _FOLDERS}" / f"{number:05}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(_SMALL_BYTES))
    np.save(source / "large.npy", np.random.default_rng(0).random(mib * _MIB // _NUMBER_BYTES))
    return source


def run(args: argparse.Namespace, directory: Path, server: SeaweedServer) -> Iterator[str]:
    """Measure both on one bucket; gives the verdicts."""
    exports = server.exports()
    theirs = s3fs.S3FileSystem(
        key=exports["AWS_ACCESS_KEY_ID"],
        secret=exports["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=server.endpoint_url,
        client_kwargs={"region_name": REGION},
        skip_instance_cache=True,
    )
    source = write_files(directory, args.count, args.mib)
    with our_storage(directory, server):
        sides = [
            Side(OURS, fsspec.filesystem("morphml"), "ours", directory),
            Side(THEIRS, theirs, f"{BUCKET}/theirs", directory),
        ]
        yield from compare(measure(sides, source, args.count, args.rounds))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="number of small files (default 500)")
    parser.add_argument("--mib", type=int, default=200, help="size of the one large file (default 200)")
    parser.add_argument("--rounds", type=int, default=3, help="measure all of it so often; medians count (default 3)")
    parser.add_argument("--directory", help="disk to work on (default: the system's directory for temporary files)")
    args = parser.parse_args()
    if min(args.count, args.mib, args.rounds) < 1:
        parser.error("--count, --mib and --rounds must be positive")
    return args


def main() -> None:
    """Measure, and print."""
    args = arguments()
    with scratch_directory(args.directory) as directory:
        print(machine.describe(directory), f"s3fs {s3fs.__version__}", sep="\n", flush=True)
        with DevStack(directory / "servers") as stack, local_ray(directory / "ray"):
            lines = list(run(args, directory, stack.seaweed))
    print(f"\n{verdicts(lines)}")


if __name__ == "__main__":
    main()
