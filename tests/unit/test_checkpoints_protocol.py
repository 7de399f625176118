"""The protocol as a whole: savers, takers-over, collectors, readers, all at once, over a store that forgets."""

import random
from typing import Any

import pytest
from checkpoint_model import Model
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from morphml_ray.checkpoints.retention import LatestN

FAULTS = ["", "", "", "", "lost", "late", "down", "again", "own"]
POLICIES = [LatestN(1), LatestN(2), None]
INDEX = st.integers(0, 5)
GENERATIONS = st.integers(0, 3)


class Protocol(RuleBasedStateMachine):
    """What the model may do, in the order that hypothesis likes; it makes a failure small."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    @rule(who=INDEX, chunks=st.lists(GENERATIONS, max_size=2), generation=GENERATIONS, policy=st.sampled_from(POLICIES))
    def begin_save(self, who: int, chunks: list[int], generation: int, policy: Any) -> None:
        self.model.begin_save(who, chunks, generation, policy)

    @rule(who=INDEX, name=st.sampled_from(["begin_resume", "begin_tidying", "restart_a_coordinator"]))
    def begin_something(self, who: int, name: str) -> None:
        getattr(self.model, name)(who)

    @rule(who=INDEX, generation=st.none() | GENERATIONS)
    def begin_load(self, who: int, generation: int | None) -> None:
        self.model.begin_load(who, generation)

    @rule(who=INDEX, grace_s=st.sampled_from([0, 3]), again_after_s=st.sampled_from([0, 5]))
    def begin_collection(self, who: int, grace_s: float, again_after_s: float) -> None:
        self.model.begin_collection(who, grace_s, again_after_s)

    @rule(who=INDEX, generation=GENERATIONS, change=st.sampled_from(["pin", "unpin", "drop"]))
    def begin_change(self, who: int, generation: int, change: str) -> None:
        if change == "drop":
            self.model.begin_drop(who, generation)
        else:
            self.model.begin_pin(who, generation, is_pinned=change == "pin")

    @rule(which=INDEX, steps=st.integers(0, 8), fault=st.sampled_from(FAULTS))
    def go_on(self, which: int, steps: int, fault: str) -> None:
        self.model.go_on(which, steps, fault)

    @rule(which=INDEX, name=st.sampled_from(["repeat_a_save_elsewhere", "crash", "a_late_request_arrives"]))
    def happen(self, which: int, name: str) -> None:
        getattr(self.model, name)(which)

    @invariant()
    def all_holds(self) -> None:
        self.model.check()

    def teardown(self) -> None:
        self.model.finish()


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(
    max_examples=40, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)


# What a long history is made of; most of it goes on with what was begun.
SHARES = {
    "go_on": 60,
    "begin_save": 12,
    "begin_collection": 7,
    "a_late_request_arrives": 5,
    "begin_resume": 3,
    "begin_load": 3,
    "crash": 3,
    "repeat_a_save_elsewhere": 2,
    "begin_pin": 2,
    "begin_tidying": 1,
    "begin_drop": 1,
    "restart_a_coordinator": 1,
}


def step(model: Model, chance: random.Random) -> None:
    name = chance.choices(list(SHARES), list(SHARES.values()))[0]
    generation = chance.randrange(4)
    arguments: dict[str, tuple[Any, ...]] = {
        "go_on": (chance.randint(1, 8), chance.choice(FAULTS)),
        "begin_save": (chance.choices(range(4), k=chance.randrange(3)), generation, chance.choice(POLICIES)),
        "begin_collection": (chance.choice([0, 0, 3]), chance.choice([0, 0, 5])),
        "begin_load": (chance.choice([None, None, generation]),),
        "begin_pin": (generation, chance.choice([True, False])),
        "begin_drop": (generation,),
    }
    getattr(model, name)(chance.randrange(6), *arguments.get(name, ()))


# Long histories find what short ones cannot: a number that was deleted and made again, a sweep beside a save.
@pytest.mark.parametrize("first", range(0, 100, 10))
def test_long_histories(first: int) -> None:
    for seed in range(first, first + 10):
        chance, model = random.Random(seed), Model()  # noqa: S311 - the same history each time
        for _ in range(120):
            step(model, chance)
            model.check()
        model.finish()
        assert model.acknowledged, seed
