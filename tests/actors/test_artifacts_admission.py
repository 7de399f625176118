"""What an artifact actor admits at once, and whether anything moves."""

import asyncio
import time

import pytest

from morphml_ray.artifacts.actor.admission import Admission, Transfer
from morphml_ray.errors import Overloaded

PATIENCE_S = 0.2


async def hold(admission: Admission, size_bytes: int, until: asyncio.Event, patience_s: float = 0) -> None:
    async with admission.admitted(size_bytes, patience_s):
        await until.wait()


def test_what_is_held_has_a_bound_and_turns_come_in_order() -> None:
    async def work() -> None:
        admission = Admission(max_held_bytes=100)
        ends = [asyncio.Event() for _ in range(4)]
        tasks = []
        for end, size_bytes in zip(ends, (60, 50, 10, 0), strict=True):
            tasks.append(asyncio.create_task(hold(admission, size_bytes, end, patience_s=5)))
            await asyncio.sleep(0)
        # The third would fit, but the second came first; the fourth holds nothing.
        assert admission.status() == {"transfers": 2, "waiting": 2, "held_bytes": 60, "ended": 0, "refused": 0}
        with pytest.raises(Overloaded, match="60 bytes"):
            await hold(admission, 1, ends[0])
        ends[0].set()
        await tasks[0]
        await asyncio.sleep(0)
        assert admission.status() == {"transfers": 3, "waiting": 0, "held_bytes": 60, "ended": 1, "refused": 1}
        flushed = asyncio.create_task(admission.flush())
        for end in ends:
            assert not flushed.done()
            end.set()
        await asyncio.gather(flushed, *tasks)
        assert admission.status()["held_bytes"] == 0

    asyncio.run(work())


def test_one_that_is_too_large_goes_alone() -> None:
    async def work() -> None:
        admission = Admission(max_held_bytes=100)
        end = asyncio.Event()
        task = asyncio.create_task(hold(admission, 1000, end))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await hold(admission, 1, end)
        end.set()
        await task
        await hold(admission, 1, end)

    asyncio.run(work())


def test_patience_ends_when_nothing_moves_and_begins_again_when_something_does() -> None:
    async def work() -> None:
        admission = Admission(max_held_bytes=100)
        ends = [asyncio.Event() for _ in range(3)]
        first, second = (asyncio.create_task(hold(admission, 50, end)) for end in ends[:2])
        await asyncio.sleep(0)
        waiting = asyncio.create_task(hold(admission, 100, ends[2], PATIENCE_S))
        cancelled = asyncio.create_task(hold(admission, 1, ends[2], PATIENCE_S))
        await asyncio.sleep(0.7 * PATIENCE_S)
        cancelled.cancel()
        ends[0].set()
        await asyncio.sleep(0.7 * PATIENCE_S)
        assert not waiting.done()
        begun = time.monotonic()
        with pytest.raises(Overloaded):
            await waiting
        assert time.monotonic() - begun < 2 * PATIENCE_S
        ends[1].set()
        await asyncio.gather(first, second)
        assert admission.status()["held_bytes"] == 0
        assert admission.status()["waiting"] == 0

    asyncio.run(work())


def test_one_that_moves_keeps_the_others_patient() -> None:
    async def work() -> None:
        admission = Admission(max_held_bytes=100)
        end = asyncio.Event()

        async def move() -> None:
            async with admission.admitted(1000, 0) as transfer:
                while not end.is_set():
                    await asyncio.sleep(PATIENCE_S / 10)
                    transfer.advance(1)

        moving = asyncio.create_task(move())
        await asyncio.sleep(0)
        waiting = asyncio.create_task(hold(admission, 1, end, PATIENCE_S))
        await asyncio.sleep(2 * PATIENCE_S)
        assert not waiting.done()
        end.set()
        await asyncio.gather(moving, waiting)

    asyncio.run(work())


def test_whoever_gives_up_lets_the_next_one_in() -> None:
    async def work() -> None:
        admission = Admission(max_held_bytes=100)
        end = asyncio.Event()
        first = asyncio.create_task(hold(admission, 60, end))
        await asyncio.sleep(0)
        large = asyncio.create_task(hold(admission, 100, end, 60))
        small = asyncio.create_task(hold(admission, 40, end, 60))
        await asyncio.sleep(0.01)
        large.cancel()
        await asyncio.sleep(0.01)
        assert admission.status()["held_bytes"] == 100
        end.set()
        await asyncio.gather(first, small)

    asyncio.run(work())


def test_only_what_gets_further_counts_as_progress() -> None:
    transfer = Transfer(0)
    transfer.advance(10)
    reached_at = transfer.advanced_at
    transfer.restart()
    transfer.advance(10)
    assert (transfer.moved_bytes, transfer.advanced_at) == (10, reached_at)
    transfer.advance(1)
    assert transfer.advanced_at > reached_at


def test_a_stall_is_told() -> None:
    async def work() -> None:
        admission = Admission()
        async with admission.admitted(0, 0, "file") as transfer:
            await asyncio.sleep(0.05)
            assert admission.stalled_s() >= 0.05
            transfer.advance(5)
            assert admission.stalled_s() < 0.05
            assert admission.moved_bytes("file") == 5
        async with admission.admitted(100 * 1024 * 1024, 0):
            await asyncio.sleep(0.05)
            # Bytes whose backend tells of no progress are given time by their size.
            assert admission.stalled_s() == 0
        assert admission.moved_bytes("file") == 0

    asyncio.run(work())
