import math
from typing import Any

import pytest
from checkpoint_values import record
from hypothesis import given
from hypothesis import strategies as st

from morphml_ray.checkpoints.manifest import CheckpointRecord
from morphml_ray.checkpoints.policies import (
    AnySave,
    ContinuousCheckpointing,
    FixedInterval,
    OnNewBest,
    Preemption,
    SavePolicy,
    SaveState,
    StallShare,
)
from morphml_ray.checkpoints.retention import AnyPreservation, BestN, EveryNSteps, LatestN, PreservationPolicy, kept
from morphml_ray.errors import ValidationError

NUMBERS = st.floats() | st.integers(-5, 5)
POLICIES = st.recursive(
    st.builds(LatestN, st.none() | st.integers(1, 4))
    | st.builds(BestN, st.integers(1, 4), st.sampled_from(["a", "b"]), st.sampled_from(["max", "min"]))
    | st.builds(EveryNSteps, st.integers(1, 20)),
    lambda inner: st.lists(inner, max_size=3).map(tuple).map(AnyPreservation),
    max_leaves=4,
)


@st.composite
def histories(draw: st.DrawFn) -> list[CheckpointRecord]:
    numbers = draw(st.lists(st.integers(1, 99), min_size=1, max_size=12, unique=True))
    return [
        record(
            number,
            draw(st.integers(0, 30)),
            metrics=draw(st.dictionaries(st.sampled_from(["a", "b"]), NUMBERS)),
            pinned=draw(st.booleans()),
            damage=draw(st.sampled_from([None, None, "damaged"])),
        )
        for number in numbers
    ]


def numbers(policy: PreservationPolicy, *checkpoints: CheckpointRecord) -> list[int]:
    return [one.sequence for one in kept(policy, checkpoints)]


@given(POLICIES, histories())
def test_lesson_54_the_newest_commit_and_the_pinned_ones_stay(policy: PreservationPolicy, history: Any) -> None:
    stay = kept(policy, history)
    assert list(stay) == sorted(stay, key=lambda one: one.sequence)
    assert max(history, key=lambda one: one.sequence) in stay
    assert all(one in stay for one in history if one.pinned)
    assert kept(policy, stay) == stay or any(one.damage for one in history)  # nothing goes by asking again
    assert set(numbers(policy, *history[::-1])) == {one.sequence for one in stay}


@given(POLICIES, histories())
def test_of_a_generation_that_was_committed_twice_the_newest_stands(policy: PreservationPolicy, history: Any) -> None:
    for one in kept(policy, history):
        newer = [two for two in history if two.generation == one.generation and two.sequence > one.sequence]
        assert one.pinned or not newer


@given(POLICIES, histories())
def test_lesson_55_a_damaged_one_takes_no_others_place(policy: PreservationPolicy, history: Any) -> None:
    newest = {one.generation: one for one in sorted(history, key=lambda one: one.sequence)}
    good = [one for one in history if one.damage is None and newest[one.generation] is one]
    if good:
        assert set(numbers(policy, *good)) <= set(numbers(policy, *history)) | {max(one.sequence for one in good)}


def test_lesson_33_a_generation_saved_after_a_roll_back_stays() -> None:
    history = [record(1, 80), record(2, 90), record(3, 100), record(4, 10)]
    assert numbers(LatestN(1), *history) == [4]
    assert numbers(LatestN(2), *history) == [3, 4]


def test_lesson_54_best_does_not_evict_the_newest() -> None:
    history = [record(n, metrics={"acc": acc}) for n, acc in ((1, 0.9), (2, 0.8), (3, 0.1))]
    assert numbers(BestN(2, "acc"), *history) == [1, 2, 3]
    assert numbers(BestN(1, "acc", "min"), *history) == [3]


def test_lesson_7_nan_and_infinities_are_not_the_best() -> None:
    values = [math.nan, 0.5, math.inf, -math.inf]
    history = [record(n + 1, metrics={"acc": value}) for n, value in enumerate(values)]
    assert numbers(BestN(1, "acc"), *history) == [2, 4]
    assert numbers(BestN(1, "acc", "min"), *history, record(5)) == [2, 5]


def test_of_equal_ones_the_newer_is_better() -> None:
    history = [record(n, metrics={"acc": 1}) for n in (1, 2, 3)]
    assert numbers(BestN(1, "acc"), *history, record(4)) == [3, 4]


def test_a_metric_that_nobody_has_costs_no_checkpoint() -> None:
    assert numbers(BestN(1, "precision"), *[record(n, metrics={"accuracy": n}) for n in (1, 2, 3)]) == [1, 2, 3]


def test_one_of_every_stretch_stays_also_where_no_multiple_was_saved() -> None:
    assert numbers(EveryNSteps(10), *[record(n, n) for n in (5, 10, 15, 20, 25, 30)]) == [5, 10, 20, 30]
    assert numbers(EveryNSteps(10), *[record(n, n) for n in (7, 14, 21, 28, 35)]) == [7, 14, 21, 35]


def test_none_keeps_all() -> None:
    assert numbers(LatestN(None), *[record(n) for n in (1, 2, 3)]) == [1, 2, 3]


@pytest.mark.parametrize(
    "make",
    [
        *(lambda: LatestN(0), lambda: LatestN(True), lambda: BestN(0, "a"), lambda: EveryNSteps(0)),  # noqa: FBT003
        *(lambda: BestN(1, "a", "best"), lambda: OnNewBest("a", "up"), lambda: FixedInterval(-1)),  # type: ignore[arg-type]
        *(lambda: StallShare(0), lambda: StallShare(101), lambda: ContinuousCheckpointing(math.nan)),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(make: Any) -> None:
    with pytest.raises(ValidationError):
        make()


def saves(policy: SavePolicy, *generations: int) -> list[int]:
    return [number for number in generations if policy.should_save(SaveState(number, now_s=0.0))]


def test_lesson_40_interval_0_is_never() -> None:
    assert saves(FixedInterval(0), *range(5)) == []
    assert saves(FixedInterval(2), *range(5)) == [0, 2, 4]


def test_continuously_means_so_long_after_the_last_save() -> None:
    policy = ContinuousCheckpointing(10)
    assert not policy.should_save(SaveState(1, now_s=109, started_s=100))
    assert policy.should_save(SaveState(1, now_s=110, started_s=100))
    assert not policy.should_save(SaveState(1, now_s=119, started_s=100, saved_at_s=110))
    assert ContinuousCheckpointing().should_save(SaveState(1, now_s=0))


def test_saves_stall_no_more_than_their_share() -> None:
    policy = StallShare(5)
    assert policy.should_save(SaveState(0, now_s=0))
    assert policy.should_save(SaveState(1, now_s=100, saved_at_s=1, stalled_s=5))
    assert not policy.should_save(SaveState(1, now_s=100, saved_at_s=1, stalled_s=5.1))


@given(st.lists(NUMBERS, max_size=8), st.sampled_from(["max", "min"]))
def test_a_new_best_is_better_than_all_before(values: list[float], mode: Any) -> None:
    state = SaveState(-1, now_s=0)
    before: list[float] = []
    for number, value in enumerate(values):
        state = state.followed_by(number, now_s=number, metrics={"a": value})
        is_best = math.isfinite(value) and all(value > old if mode == "max" else value < old for old in before)
        assert OnNewBest("a", mode).should_save(state) == is_best
        before += [value] if math.isfinite(value) else []
    assert not OnNewBest("b", mode).should_save(state)


def test_preemption_saves_each_generation_once() -> None:
    policy = AnySave((FixedInterval(0), Preemption()))
    assert not policy.should_save(SaveState(3, now_s=0))
    assert policy.should_save(SaveState(3, now_s=0, is_preempted=True, saved_generation=2))
    assert not policy.should_save(SaveState(3, now_s=0, is_preempted=True, saved_generation=3))
