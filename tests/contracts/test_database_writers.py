"""Several writers at once: for each experiment there is an order of their batches in which a plain model agrees."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest
from database_model import Comparison, Model, Unit, units
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from morphml_ray.config import BackendUrl
from morphml_ray.database.contract import EncodedEvaluation, SaveUnit
from morphml_ray.database.sql import SqlDatabase


@dataclass
class Call:
    """What one writer sent in one batch for one experiment, and the ids it got."""

    sent: list[EncodedEvaluation]
    ids: list[int]


def orders(writers: Sequence[Sequence[Call]]) -> Iterator[list[Call]]:
    """Give every order in which calls may have been stored: each writer's own are in turn."""
    if not any(writers):
        yield []
    for turn, calls in enumerate(writers):
        if calls:
            rest = [calls[1:] if number == turn else other for number, other in enumerate(writers)]
            yield from ([calls[0], *order] for order in orders(rest))


class Writers:
    """Writers that save at once, some of them over one object, as helpers of an actor; others as further actors."""

    def __init__(self, databases: Sequence[SqlDatabase]) -> None:
        self.databases = databases
        self.comparison = Comparison(databases[0])

    def race(self, parts: Sequence[list[list[Unit]]]) -> list[int]:
        """Save all at once; gives the experiments that no order explains."""
        shared: list[list[EncodedEvaluation]] = [[], []]
        encoded = [[self._encode(batch, shared) for batch in batches] for batches in parts]
        with ThreadPoolExecutor(len(parts)) as threads:
            outcomes = list(threads.map(self._write, range(len(parts)), encoded))
        unexplained = []
        for turn, experiment in enumerate(self.comparison.ids):
            writers = [calls_for(experiment, sent, got) for sent, got in zip(encoded, outcomes, strict=True)]
            if not any(self._is_explained(turn, order) for order in orders(writers)):
                unexplained.append(turn)
        return unexplained

    def _encode(self, batch: list[Unit], shared: list[list[EncodedEvaluation]]) -> list[SaveUnit]:
        """Encode a batch; a repeated write may be one of another writer, as when a call is sent again elsewhere."""
        units = []
        for unit in batch:
            turn = unit.experiment % 2
            for one in unit.evaluations:
                is_repeat = one.repeats is not None and one.repeats < len(shared[turn])
                shared[turn].append(shared[turn][one.repeats or 0] if is_repeat else one.encode())
            sent = shared[turn][len(shared[turn]) - len(unit.evaluations) :]
            units.append(SaveUnit(self.comparison.ids[turn], sent))
        return units

    def _write(self, writer: int, batches: list[list[SaveUnit]]) -> list[list[list[int]]]:
        database = self.databases[writer % len(self.databases)]
        return [[ids for ids in database.save(batch) if isinstance(ids, list)] for batch in batches]

    def _is_explained(self, turn: int, order: list[Call]) -> bool:
        self.comparison.models[turn] = Model(self.comparison.models[turn].sign)
        self.comparison.rows[turn] = {}
        for call in order:
            for sent, given_id in zip(call.sent, call.ids, strict=True):
                number = self.comparison.models[turn].save(sent)
                if self.comparison.rows[turn].setdefault(number, given_id) != given_id:
                    return False
        try:
            self.comparison.check_one(turn)
        except AssertionError:
            return False
        return True


def calls_for(experiment: int, batches: list[list[SaveUnit]], outcomes: list[list[list[int]]]) -> list[Call]:
    calls = []
    for batch, got in zip(batches, outcomes, strict=True):
        call = Call([], [])
        for unit, ids in zip(batch, got, strict=True):
            if unit.experiment == experiment:
                call.sent += unit.evaluations
                call.ids += ids
        if call.sent:
            calls.append(call)
    return calls


def at_once(batch: st.SearchStrategy[list[Unit]], writers: int) -> st.SearchStrategy[list[list[list[Unit]]]]:
    return st.lists(st.lists(batch, min_size=1, max_size=2), min_size=writers, max_size=writers)


@pytest.fixture(scope="module")
def two_actors(postgres_database: SqlDatabase, migrated_postgres_url: str) -> Iterator[list[SqlDatabase]]:
    with ExitStack() as stack:
        other = stack.enter_context(closing(SqlDatabase(BackendUrl(migrated_postgres_url))))
        other.open()
        yield [postgres_database, other]


# A race does not come again at will: nothing is tried to be made smaller.
@settings(max_examples=25, deadline=None, phases=[Phase.generate])
@given(parts=at_once(st.lists(units, min_size=1, max_size=3), writers=4))
def test_several_writers_store_their_batches_in_some_order(
    two_actors: list[SqlDatabase], parts: list[list[list[Unit]]]
) -> None:
    assert Writers(two_actors).race(parts) == []
