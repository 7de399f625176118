"""Who ends an actor: whoever leaves last, of those that could not connect."""

from dataclasses import dataclass

import pytest

from morphml_ray.config import BackendUrl
from morphml_ray.rpc import reception
from morphml_ray.rpc.description import PROTOCOL_VERSION, ActorDescription
from morphml_ray.rpc.reception import Reception

MEMORY = BackendUrl("memory://")


@dataclass(frozen=True)
class Served:
    url: BackendUrl = MEMORY

    def describe(self) -> ActorDescription:
        return ActorDescription(PROTOCOL_VERSION, "it", self.url, 30.0)


class Plain:
    def __init__(self, settings: Served) -> None:
        self.settings = settings


class Actor(Reception, Plain):
    pass


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_case_56_only_the_last_one_to_leave_ends_it() -> None:
    actor = Actor(Served(), "first")
    assert actor.settings == Served()
    assert actor.arrive("second") == Served().describe()
    assert not actor.leave("first", is_open=False)
    assert not actor.leave("nobody", is_open=False)
    assert actor.arrive("third") is not None
    assert not actor.leave("third", is_open=True)
    assert actor.leave("second", is_open=False)


def test_case_56_an_actor_that_ends_takes_nobody_in() -> None:
    actor = Actor(Served(), "first")
    assert actor.leave("first", is_open=True)
    assert actor.arrive("late") is None
    assert not actor.leave("late", is_open=False)


def test_case_56_who_has_connected_stays_for_good() -> None:
    clock = Clock()
    actor = Actor(Served(), "first", clock=clock)
    clock.now_s = 1e9
    actor.arrive("second")
    assert not actor.leave("second", is_open=True)


def test_who_was_killed_while_it_waited_keeps_no_actor_that_never_opened() -> None:
    clock = Clock()
    actor = Actor(Served(), "killed", clock=clock)
    clock.now_s = 1e9
    actor.arrive("second")
    assert actor.leave("second", is_open=False)


def test_the_list_of_guests_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "MAX_GUESTS", 2)
    actor = Actor(Served(), "first")
    actor.arrive("second")
    actor.arrive("unlisted")
    assert not actor.leave("first", is_open=True)
    assert not actor.leave("unlisted", is_open=True)
