"""How long an exchange with a cache's server may take."""

import pytest

from morphml_ray.cache.redis.pace import SLOWEST_BYTES_PER_S, Pace


class Timed:
    """A pace and its time."""

    def __init__(self, timeout_s: float, longest_s: float) -> None:
        self.now_s = 100.0
        self.pace = Pace(timeout_s, longest_s, lambda: self.now_s)


def test_case_60_an_exchange_has_one_deadline_that_moves_with_what_moves() -> None:
    timed = Timed(1.0, 30.0)
    assert timed.pace.left_s() == 1.0
    timed.now_s += 0.75
    timed.pace.move(20)
    assert timed.pace.left_s() == pytest.approx(0.25, abs=0.001)
    timed.pace.move(SLOWEST_BYTES_PER_S * 10)
    # However much has moved: what comes next comes within the time-out.
    assert timed.pace.left_s() == 1.0
    timed.now_s += 10
    assert timed.pace.left_s() == pytest.approx(0.25, abs=0.001)
    timed.now_s += 0.3
    with pytest.raises(TimeoutError):
        timed.pace.left_s()
    timed.pace.begin()
    assert timed.pace.left_s() == 1.0


def test_case_60_no_exchange_takes_longer_than_an_answer_may() -> None:
    timed = Timed(1.0, 5.0)
    timed.pace.move(10**9)
    timed.now_s += 4.5
    assert timed.pace.left_s() == 0.5
    timed.now_s += 0.5
    with pytest.raises(TimeoutError):
        timed.pace.left_s()
