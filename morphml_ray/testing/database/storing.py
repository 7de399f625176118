"""What every database holds after a write, seen without its own reads."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from morphml_ray.database.contract import Database, EncodedEvaluation, SaveUnit
from morphml_ray.errors import NotFoundError
from morphml_ray.model.plain import decode_json
from morphml_ray.testing.database.caller import create, evaluation, purge_all, save

Stored = Callable[[int], Sequence[Mapping[str, Any]]]
"""Gives the evaluations of an experiment as they are stored; see ``DatabaseContract``."""

STORED_NAMES = tuple(name for name in EncodedEvaluation._fields if name != "on_duplicate")
_JSON_NAMES = frozenset({"metrics", "parents"})


def sent_values(evaluation: EncodedEvaluation) -> dict[str, Any]:
    """Give what must be stored of an evaluation, by the names of its fields."""
    return {name: _comparable(name, getattr(evaluation, name)) for name in STORED_NAMES}


def stored_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give what is stored of an evaluation, in the same form."""
    return {name: _comparable(name, row[name]) for name in STORED_NAMES}


def _comparable(name: str, value: Any) -> Any:
    return decode_json(value) if name in _JSON_NAMES else value


class StoringContract:
    """A save is never checked by the database's own answer: ``stored`` looks past it."""

    def test_what_is_saved_is_what_is_stored(self, database: Database, stored: Stored) -> None:
        number = create(database)
        sent = [
            evaluation(0, 0.1, {"loss": 0.25, "curve": (1, 2.5), "name": "ü"}, seed=7, fidelity={"epochs": 5}),
            evaluation(1, None, generation=3, worker_id="w", duration=1.5),
            evaluation(2, 0.3, parents=(1, "g1:0")),
            evaluation(2, -2.5, on_duplicate="replicate"),
        ]
        ids = save(database, number, *sent)
        rows = stored(number)
        assert [row["id"] for row in rows] == ids
        assert [stored_values(row) for row in rows] == [sent_values(one) for one in sent]
        assert [row["replicate"] for row in rows] == [0, 0, 0, 1]

    def test_a_duplicate_changes_nothing_that_is_stored(self, database: Database, stored: Stored) -> None:
        number = create(database)
        first = evaluation(0, 0.5, {"turn": 1})
        save(database, number, first)
        before = stored(number)
        save(database, number, evaluation(0, 0.9, {"turn": 2}), first)
        save(database, number, evaluation(0, 0.4, {"turn": 3}, on_duplicate="keep_best"))
        assert stored(number) == before

    def test_a_better_result_is_stored_in_place_of_the_first(self, database: Database, stored: Stored) -> None:
        number = create(database)
        first = evaluation(0, 0.5, {"turn": 1}, seed=1, generation=1, worker_id="a", duration=1)
        better = evaluation(
            0, 0.75, {"turn": 2}, seed=1, generation=2, worker_id="b", duration=2, on_duplicate="keep_best"
        )
        (kept,) = save(database, number, first)
        save(database, number, better)
        (row,) = stored(number)
        replaced = {"fitness", "metrics", "generation", "worker_id", "duration_s"}
        sources = {name: better if name in replaced else first for name in STORED_NAMES}
        assert stored_values(row) == {name: sent_values(source)[name] for name, source in sources.items()}
        assert row["id"] == kept

    def test_nothing_is_stored_of_what_is_refused(self, database: Database, stored: Stored) -> None:
        number = create(database)
        (refused, taken) = database.save([SaveUnit("nobody", [evaluation(0)]), SaveUnit(number, [evaluation(1)])])
        assert isinstance(refused, NotFoundError)
        assert [row["id"] for row in stored(number)] == taken

    def test_a_purge_leaves_nothing(self, database: Database, stored: Stored) -> None:
        number, other = create(database, "gone"), create(database, "other")
        save(database, number, evaluation(0), evaluation(1, None))
        save(database, other, evaluation(0))
        kept = stored(other)
        database.delete_experiment(number)
        purge_all(database)
        assert stored(number) == []
        assert stored(other) == kept
