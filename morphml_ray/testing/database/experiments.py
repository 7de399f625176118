"""What every database does with experiments."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from morphml_ray.database.contract import Database
from morphml_ray.database.encoding import MAX_KEY_BYTES, encode_experiment
from morphml_ray.errors import AlreadyExistsError, NotFoundError, ValidationError
from morphml_ray.model.records import ExperimentStatus
from morphml_ray.testing.database.caller import best, create, evaluation, only, page, purge_all, save

HOSTILE_TEXTS = (
    "it's",
    'a "quoted" name',
    "100%",
    "%s %(name)s :name $1 ?",
    "'; DROP TABLE experiments; --",
    "back\\slash",
    "tab\tand\nline",
    "$.path[0]",
    "Grüße 你好 🚀",
    " spaces ",
    "{}",
)


class ExperimentContract:
    """Creating, finding, changing and deleting experiments."""

    def test_an_experiment_comes_back_equal(self, database: Database) -> None:
        config = {
            "optimizer": "evolution",
            "shape": (3, (32, 32), []),
            "large": 2**70,
            "bounds": [-1e300, 1e16, 5e-324, math.inf],
            "words": list(HOSTILE_TEXTS),
            "$tuple": {"$float": "nan", "": None, "yes": True, "one": 1, "float": 1.0},
        }
        number = create(database, "digits", config, {"loss": "min", "accuracy": "max"})
        found = database.get_experiment(number)
        assert found is not None
        assert found == database.get_experiment("digits") == database.get_experiment_by_name("digits")
        assert (found.id, found.name, found.status, found.optimizer) == (number, "digits", "running", "evolution")
        assert list(found.objectives.items()) == [("loss", "min"), ("accuracy", "max")]
        assert found.identity == "structural"
        assert found.config == config
        assert repr(_sorted_like(found.config, config)) == repr(config)

    def test_nan_in_a_config_comes_back(self, database: Database) -> None:
        found = database.get_experiment(create(database, config={"value": math.nan}))
        assert found is not None
        assert math.isnan(found.config["value"])

    def test_lesson_9_times_are_aware_utc(self, database: Database) -> None:
        before = datetime.now(timezone.utc)
        number = create(database)
        first = database.get_experiment(number)
        save(database, number, evaluation())
        database.update_experiment_status(number, "completed")
        last = database.get_experiment(number)
        assert first is not None
        assert last is not None
        assert last.completed_at is not None
        recorded = only(database, number).evaluated_at
        assert recorded is not None
        times = [before, first.created_at, recorded, last.completed_at, datetime.now(timezone.utc)]
        assert times == sorted(times)
        assert {moment.utcoffset() for moment in (*times, last.updated_at)} == {timedelta(0)}
        assert first.updated_at == first.created_at == last.created_at
        assert last.updated_at == last.completed_at

    def test_a_recorded_evaluation_moves_updated_at(self, database: Database) -> None:
        number = create(database)
        before = database.get_experiment(number)
        save(database, number, evaluation())
        after = database.get_experiment(number)
        assert before is not None
        assert after is not None
        assert after.updated_at > before.updated_at

    def test_a_taken_name_is_refused_or_reused(self, database: Database) -> None:
        number = create(database, "taken", {"kept": True})
        with pytest.raises(AlreadyExistsError, match="'taken'"):
            create(database, "taken")
        assert create(database, "taken", {"kept": False}, {"loss": "min"}, if_exists="reuse") == number
        found = database.get_experiment(number)
        assert found is not None
        assert (found.config, found.objectives) == ({"kept": True}, {})

    def test_lesson_14_a_repeated_create_repeats_nothing(self, database: Database) -> None:
        new = encode_experiment("one", {}, None, "error")
        number = database.create_experiment(new)
        assert database.create_experiment(new) == number
        database.delete_experiment(number)
        assert database.create_experiment(new) == number
        assert database.get_experiment("one") is None
        other = create(database, "one")
        assert database.create_experiment(new) == number != other
        assert len(database.list_experiments(None, None, 0)) == 1

    def test_names_differ_by_every_character(self, database: Database) -> None:
        names = [*HOSTILE_TEXTS, "case", "Case", "e\u0301", "\u00e9", "12", "🚀" * (MAX_KEY_BYTES // 4)]
        ids = {name: create(database, name) for name in names}
        assert len(set(ids.values())) == len(names)
        assert {one.name: one.id for one in database.list_experiments(None, None, 0)} == ids
        for name, number in ids.items():
            found = database.get_experiment_by_name(name)
            assert found is not None
            assert (found.id, found.name) == (number, name)
        assert all(database.delete_experiment(number) for number in ids.values())

    def test_case_1_a_text_is_a_name_and_only_then_a_number(self, database: Database) -> None:
        first = create(database, "first")
        shadow = create(database, str(first))  # its name is the number of the first one
        (saved,) = save(database, str(first), evaluation(1, 0.5))
        assert [record.id for record in page(database, shadow)] == [saved]
        assert page(database, first) == []
        found = [database.get_experiment(text) for text in (str(first), str(shadow), "first")]
        assert [one.id if one else None for one in found] == [shadow, shadow, first]
        assert database.get_experiment_by_name(str(shadow)) is None
        key = evaluation(1).key
        assert database.get_architecture_by_hash(key, str(first)) is not None
        assert database.get_architecture_by_hash(key, "first") is None
        for ambiguous in (str(first), str(shadow)):
            with pytest.raises(ValidationError, match="pass the int"):
                database.delete_experiment(ambiguous)
        assert len(database.list_experiments(None, None, 0)) == 2
        assert database.delete_experiment(first)
        assert database.delete_experiment(str(first))  # by its name, which can mean nothing else now
        assert not database.delete_experiment("9" * 30)
        assert database.list_experiments(None, None, 0) == []

    def test_what_is_absent(self, database: Database) -> None:
        for nobody in (1, -1, 2**63 - 1, "nobody", "", "%"):
            assert database.get_experiment(nobody) is None
            assert not database.delete_experiment(nobody)
            for ask in (best, page):
                with pytest.raises(NotFoundError):
                    ask(database, nobody)
            with pytest.raises(NotFoundError):
                database.get_experiment_statistics(nobody)
            with pytest.raises(NotFoundError):
                database.update_experiment_status(nobody, "failed")
        assert database.list_experiments(None, None, 0) == []
        assert database.purge(10) == 0

    @pytest.mark.parametrize("status", ["completed", "failed"])
    def test_lesson_10_an_end_has_its_time(self, database: Database, status: ExperimentStatus) -> None:
        number = create(database)
        database.update_experiment_status(number, status)
        found = database.get_experiment(number)
        assert found is not None
        assert (found.status, found.completed_at is None) == (status, False)
        database.update_experiment_status("one", "running")
        found = database.get_experiment(number)
        assert found is not None
        assert (found.status, found.completed_at) == ("running", None)

    def test_experiments_are_listed_by_id(self, database: Database) -> None:
        ids = [create(database, f"{9 - i}") for i in range(5)]
        database.update_experiment_status(ids[1], "paused")
        database.update_experiment_status(ids[3], "paused")

        def listed(status: ExperimentStatus | None, limit: int | None, offset: int) -> list[int]:
            return [one.id for one in database.list_experiments(status, limit, offset)]

        assert listed(None, None, 0) == ids
        assert listed(None, 2, 1) == ids[1:3]
        assert listed(None, None, 3) == ids[3:]
        assert listed("paused", None, 0) == [ids[1], ids[3]]
        assert listed("paused", 1, 1) == [ids[3]]
        assert listed("archived", None, 0) == listed(None, 0, 0) == listed(None, None, 9) == []

    def test_a_deleted_experiment_is_gone_at_once(self, database: Database) -> None:
        number = create(database, "gone")
        save(database, number, evaluation(), evaluation(1, None))
        key = evaluation().key
        assert database.delete_experiment("gone")
        assert not database.delete_experiment(number)
        assert database.get_experiment(number) is None
        assert database.get_architecture_by_hash(key, None) is None
        assert database.get_architecture_by_hash(key, number) is None
        assert database.list_experiments(None, None, 0) == []
        with pytest.raises(NotFoundError):
            save(database, number, evaluation(2))
        with pytest.raises(NotFoundError):
            best(database, number)
        assert create(database, "gone") != number
        assert page(database, "gone") == []

    def test_lesson_3_deleting_leaves_other_experiments_alone(self, database: Database) -> None:
        first, second = create(database, "first"), create(database, "second")
        for number in (first, second):
            save(database, number, *[evaluation(i, i / 8) for i in range(4)], evaluation(9, None))
        before = _seen(database, second)
        database.delete_experiment(first)
        # 5 evaluations, 5 proposals or so, one experiment: the limit is below each.
        assert purge_all(database, limit=3) >= 6
        assert _seen(database, second) == before
        assert database.purge(3) == 0
        third = create(database, "first")
        save(database, third, evaluation(0, 0.75))
        assert [record.fitness for record in page(database, third)] == [0.75]
        assert _seen(database, second) == before

    def test_ids_are_never_given_twice(self, database: Database, reopen: Callable[[], Database]) -> None:
        last, saved = create(database, "0"), [0]
        for turn in range(1, 4):
            number = create(database, str(turn))
            ids = save(database, number, evaluation(turn), evaluation(turn + 1))
            assert number > last
            assert ids == sorted(ids)
            assert ids[0] > saved[-1]
            last, saved = number, ids
            database.delete_experiment(number)
            purge_all(database)
            if turn == 2:
                database = reopen()

    def test_what_is_stored_survives_reopening(self, database: Database, reopen: Callable[[], Database]) -> None:
        number = create(database, config={"shape": (1, 2)})
        save(database, number, evaluation(1, 0.25, {"a": (1,)}), evaluation(2, 0.75), evaluation(3, None))
        before = database.get_experiment(number), _seen(database, number)
        database = reopen()
        assert (database.get_experiment(number), _seen(database, number)) == before
        database.open()  # once more does nothing
        assert _seen(database, number) == before[1]


def _seen(database: Database, experiment: int) -> tuple[Any, ...]:
    return page(database, experiment), best(database, experiment), database.get_experiment_statistics(experiment)


def _sorted_like(value: Any, model: Any) -> Any:
    """Give ``value`` with the order of ``model``'s dict keys: a database may keep another one."""
    if isinstance(model, dict):
        return {key: _sorted_like(value[key], model[key]) for key in model}
    return value
