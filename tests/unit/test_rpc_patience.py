"""The one wait, on a clock that only pauses move."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from morphml_ray.rpc.patience import Patience


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def pauses_of(patience: Patience, clock: Clock, most: int = 10_000) -> list[float]:
    pauses: list[float] = []
    while len(pauses) < most and (pause_s := patience.next_pause_s()) is not None:
        pauses.append(pause_s)
        clock.now += pause_s
    return pauses


@given(timeout_s=st.floats(0, 100), first_s=st.floats(0.01, 5), longest_s=st.floats(0.05, 5))
def test_pauses_fill_the_time_and_never_pass_it(timeout_s: float, first_s: float, longest_s: float) -> None:
    clock = Clock()
    patience = Patience(timeout_s, first_pause_s=first_s, longest_pause_s=longest_s, clock=clock)
    pauses = pauses_of(patience, clock)
    assert clock.now <= 1_000.0 + timeout_s
    assert patience.left_s <= longest_s * (1 + 1e-9)
    for number, pause_s in enumerate(pauses):
        whole_s = min(first_s * 2 ** min(number, 50), longest_s)
        assert whole_s / 2 <= pause_s <= whole_s


def test_pauses_are_spread() -> None:
    assert len({Patience(10, clock=Clock()).next_pause_s() for _ in range(20)}) > 10


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_counted(attempts: int) -> None:
    clock = Clock()
    assert len(pauses_of(Patience(attempts=attempts, clock=clock), clock)) == attempts - 1


def test_what_moves_renews_the_deadline_and_never_cuts_it() -> None:
    clock = Clock()
    patience = Patience(5, clock=clock)
    clock.now += 4
    patience.renew(5)
    assert patience.left_s == 5
    patience.renew(1)
    assert patience.left_s == 5
    clock.now += 6
    assert (patience.left_s, patience.next_pause_s()) == (0, None)


def test_without_a_deadline_it_goes_on() -> None:
    clock = Clock()
    patience = Patience(clock=clock)
    assert len(pauses_of(patience, clock, most=5_000)) == 5_000
    assert patience.left_s == math.inf


def test_pausing_and_pausing_async_end_alike() -> None:
    async def count() -> int:
        patience = Patience(attempts=4, first_pause_s=0.001)
        return [await patience.pause_async() for _ in range(6)].count(True)

    patience = Patience(attempts=4, first_pause_s=0.001)
    assert [patience.pause() for _ in range(6)].count(True) == asyncio.run(count()) == 3
