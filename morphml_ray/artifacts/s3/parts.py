"""Work on the parts of an object side by side, a bounded number at a time."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple, TypeVar

from morphml_ray.artifacts.checks import CHUNK_BYTES, MAX_CHUNKS
from morphml_ray.artifacts.contract import Advance
from morphml_ray.errors import BackendUnavailable

_MIB = 1024 * 1024
# What the parts of one object may hold in memory together.
_MEMORY_BYTES = 64 * _MIB

Result = TypeVar("Result")


class Part(NamedTuple):
    """A piece of an object.

    Attributes:
        number: from 0.
        offset: where it begins, in bytes.
        size_bytes: how large it is.
    """

    number: int
    offset: int
    size_bytes: int


def split(size_bytes: int, first: int = 0) -> list[Part]:
    """Cut an object into parts of 8 MiB, larger ones where that would be more than S3 takes.

    Args:
        size_bytes: of the whole.
        first: where to begin.
    """
    # In whole MiB, so that few sizes occur: each takes some work to combine checksums.
    part_bytes = max(CHUNK_BYTES, -(-size_bytes // (MAX_CHUNKS * _MIB)) * _MIB)
    return [
        Part(number, offset, min(part_bytes, size_bytes - offset))
        for number, offset in enumerate(range(first, size_bytes, part_bytes))
    ]


def work_on(
    pool: ThreadPoolExecutor, parts: Iterable[Part], work: Callable[[Part], Result], parts_at_once: int
) -> list[Result]:
    """Do ``work`` on all parts; after the first error, which is raised, no further one begins.

    Returns:
        The results in the order of the parts.

    Raises:
        BackendUnavailable: the pool was shut down meanwhile.
    """
    results: list[Future[Result]] = []
    waiting: set[Future[Result]] = set()
    try:
        for part in parts:
            limit = max(1, min(parts_at_once, _MEMORY_BYTES // max(1, part.size_bytes)))
            while len(waiting) >= limit:
                waiting = _take_finished(waiting)
            future = _submit(pool, work, part)
            results.append(future)
            waiting.add(future)
        while waiting:
            waiting = _take_finished(waiting)
    except BaseException:
        for future in waiting:
            future.cancel()
        wait(waiting)
        raise
    return [future.result() for future in results]


def _submit(pool: ThreadPoolExecutor, work: Callable[[Part], Result], part: Part) -> Future[Result]:
    try:
        return pool.submit(work, part)
    except RuntimeError as error:
        raise BackendUnavailable("the bucket was closed") from error


def _take_finished(waiting: set[Future[Result]]) -> set[Future[Result]]:
    finished, left = wait(waiting, return_when=FIRST_COMPLETED)
    for future in finished:
        future.result()
    return left


def one_at_a_time(progress: Advance | None) -> Advance:
    """Let many threads tell about their progress, one after the other."""
    if progress is None:
        return lambda _: None
    lock = threading.Lock()

    def tell(count: int) -> None:
        with lock:
            progress(count)

    return tell
