"""How every database ranks architectures."""

import math
import sys
from typing import Any

import pytest

from morphml_ray.database.contract import Database
from morphml_ray.errors import ValidationError
from morphml_ray.testing.database.caller import best, create, evaluation, numbers, page, save
from morphml_ray.testing.database.experiments import HOSTILE_TEXTS

WHERE: tuple[tuple[tuple[str, float], list[int]], ...] = (
    (("<", 3), [0, 1]),
    (("<=", 3), [0, 1, 2]),
    ((">", 3), [3]),
    ((">=", 3), [2, 3]),
    (("==", 3), [2]),
    (("!=", 3), [0, 1, 3]),
    (("<", math.inf), [0, 1, 2, 3]),
    (("<=", -math.inf), []),
    ((">", -1e300), [0, 1, 2, 3]),
)
NAMES = (*HOSTILE_TEXTS, "a.b", "$", "$.a", 'a"b', "[0]", "0", "*", "#-1", "a" * 10_000)


class RankingContract:
    """Top lists by fitness and by metrics."""

    @pytest.mark.parametrize(
        ("objectives", "order"), [(None, [3, 1, 0, 2]), ({"a": "max"}, [3, 1, 0, 2]), ({"a": "min"}, [2, 0, 1, 3])]
    )
    def test_the_first_objective_decides(self, database: Database, objectives: Any, order: list[int]) -> None:
        number = create(database, objectives=objectives)
        save(database, number, *[evaluation(i, fitness) for i, fitness in enumerate([0.0, 0.5, -2.0, 7.5])])
        assert numbers(best(database, number)) == order
        assert numbers(best(database, "one", 2)) == order[:2]
        assert numbers(best(database, number, metric="fitness")) == order
        if objectives:
            assert numbers(best(database, number, metric="a")) == order

    @pytest.mark.parametrize("direction", ["max", "min"])
    def test_lesson_9_ties_go_to_the_earliest(self, database: Database, direction: str) -> None:
        number = create(database, objectives={"score": direction})
        order = [17 * i % 100 for i in range(100)]
        for start in range(0, 100, 20):
            save(database, number, *[evaluation(i, 0.5, {"m": 1}) for i in order[start : start + 20]])
        save(database, number, evaluation(order[0], 0.5, {"m": 1}, on_duplicate="replicate"))
        for top_k in (1, 10, 64, 65, 100, 1000):
            assert numbers(best(database, number, top_k)) == order[:top_k]
            assert numbers(best(database, number, top_k, "m", mode=direction)) == order[:top_k]

    def test_seeds_and_replicates_are_averaged(self, database: Database) -> None:
        number = create(database)
        save(database, number, evaluation(0, 0.5, seed=1), evaluation(1, 1.0, {"kept": 1}, seed=1))
        save(database, number, evaluation(1, 0.25, seed=2), evaluation(1, None, seed=3))
        save(database, number, evaluation(1, -0.5, seed=1, on_duplicate="replicate"))
        first, second = best(database, number)
        assert (first.architecture, first.fitness) == ({"number": 0}, 0.5)
        assert (second.architecture, second.fitness) == ({"number": 1}, 0.25)
        assert (second.seed, second.replicate, second.metrics) == (1, 0, {"kept": 1})
        save(database, number, evaluation(1, 2.5, seed=2, on_duplicate="keep_best"))
        assert [(record.architecture["number"], record.fitness) for record in best(database, number)] == [
            (1, 1.0),
            (0, 0.5),
        ]

    def test_of_several_fidelities_the_best_counts(self, database: Database) -> None:
        number = create(database)
        save(database, number, *[evaluation(0, fitness, fidelity=f) for f, fitness in ((1, 0.5), (2, 0.75), (3, 0.25))])
        save(database, number, evaluation(0, 0.75, fidelity=4), evaluation(1, 0.625))
        first, second = best(database, number)
        assert (first.architecture, first.fitness, first.fidelity) == ({"number": 0}, 0.75, 2)
        assert (second.architecture, second.fitness, second.fidelity) == ({"number": 1}, 0.625, None)

    def test_an_architecture_of_many_fidelities_hides_no_other(self, database: Database) -> None:
        number = create(database)
        save(database, number, *[evaluation(0, 1.0 - f % 2 / 8, {"m": 1.0}, fidelity=f) for f in range(200)])
        save(database, number, evaluation(1, 0.5, {"m": 1.0}), evaluation(2, 0.5, {"m": 1.0}))
        for metric in (None, "m"):
            assert numbers(best(database, number, 2, metric, mode="max")) == [0, 1]
            assert numbers(best(database, number, 5, metric, mode="max")) == [0, 1, 2]

    def test_another_metric_ranks(self, database: Database) -> None:
        number = create(database, objectives={"accuracy": "max", "params": "min"})
        sent = [(0, 0.9, {"params": 30}), (1, 0.8, {"params": 10.5}), (2, 0.7, {"params": 20, "f1": 0.5})]
        save(database, number, *[evaluation(i, fitness, metrics) for i, fitness, metrics in sent])
        others = [{}, {"params": None}, {"params": "5"}, {"params": True}, {"params": math.nan}, {"params": [1]}]
        save(database, number, *[evaluation(10 + i, 1.0, metrics) for i, metrics in enumerate(others)])
        save(database, number, evaluation(20, None, {"params": 1}))
        found = best(database, number, metric="params")
        assert numbers(found) == [1, 2, 0]
        assert [record.fitness for record in found] == [0.8, 0.7, 0.9]
        assert numbers(best(database, number, metric="f1", mode="max")) == [2]
        # The mean over seeds counts: (30 - 28) / 2 is the least.
        save(database, number, evaluation(0, 0.9, {"params": -28}, seed=1))
        assert numbers(best(database, number, 1, metric="params")) == [0]

    def test_where_compares(self, database: Database) -> None:
        number = create(database, objectives={"score": "min", "size": "min"})
        save(database, number, *[evaluation(i, i + 1, {"size": size}) for i, size in enumerate([1, 2.5, 3.0, 10**30])])
        save(database, number, evaluation(8, 0.5, {"size": "3"}), evaluation(9, 0.5), evaluation(10, None, {"size": 3}))
        for condition, expected in WHERE:
            assert numbers(best(database, number, where={"size": condition})) == expected
            assert numbers(best(database, number, metric="size", where={"size": condition})) == expected

    def test_where_sees_the_fitness_too(self, database: Database) -> None:
        number = create(database, objectives={"loss": "min", "size": "min"})
        save(database, number, *[evaluation(i, i / 4, {"size": 9 - i}) for i in range(8)])
        save(database, number, evaluation(3, -0.75, seed=1))  # mean 0
        assert numbers(best(database, number, where={"loss": (">", 0)})) == [1, 2, 4, 5, 6, 7]
        assert numbers(best(database, number, where={"fitness": ("<=", 0.25), "size": ("<", 9)})) == [3, 1]
        assert numbers(best(database, number, 2, "size", {"loss": ("<", 1.5)})) == [5, 4]

    def test_any_text_names_a_metric(self, database: Database) -> None:
        number = create(database, objectives={"score": "max"} | dict.fromkeys(NAMES, "min"))
        save(database, number, evaluation(0, 0.5, {"a": {"b": 1}} | dict.fromkeys(NAMES, 3)))
        save(database, number, evaluation(1, 0.75, dict.fromkeys(NAMES, 1)))
        save(database, number, evaluation(2, 1.0, {f"{name}+": 1 for name in NAMES}))
        for name in NAMES:
            assert numbers(best(database, number, where={name: (">=", 1)})) == [1, 0]
            assert numbers(best(database, number, where={name: (">", 1)})) == [0]
            assert numbers(best(database, number, metric=name)) == [1, 0]

    def test_an_int_beyond_floats_spoils_no_ranking(self, database: Database) -> None:
        number = create(database)
        save(database, number, evaluation(0, 0.5, {"size": 10**400}), evaluation(1, 0.75, {"size": 5}))
        assert numbers(best(database, number, where={"size": (">", 1)})) == [1]
        assert numbers(best(database, number, metric="size", mode="max")) == [1]
        assert best(database, number)[1].metrics == {"size": 10**400}

    def test_case_39_the_direction_of_a_metric_is_stated(self, database: Database) -> None:
        number = create(database, objectives={"accuracy": "max", "latency": "min"})
        save(database, number, *[evaluation(i, i / 4, {"latency": 3 - i, "size": i}) for i in range(3)])
        assert numbers(best(database, number, metric="latency")) == [2, 1, 0]
        assert numbers(best(database, number, metric="latency", mode="max")) == [0, 1, 2]
        assert numbers(best(database, number, metric="size", mode="min")) == [0, 1, 2]
        assert numbers(best(database, number, mode="min")) == [0, 1, 2]
        with pytest.raises(ValidationError, match="mode='max' or mode='min'"):
            best(database, number, metric="size")

    def test_case_39_a_metric_that_is_nowhere_is_an_error_with_near_names(self, database: Database) -> None:
        number = create(database, objectives={"accuracy": "max"})
        assert best(database, number, metric="accuracy") == []
        save(database, number, evaluation(0, 0.5, {"latency": 1.0, "words": "many"}))
        wrong: list[dict[str, Any]] = [{"metric": "latencyy", "mode": "min"}, {"metric": "latencyy"}]
        for options in wrong:
            with pytest.raises(ValidationError, match="'latencyy'; there are: latency"):
                best(database, number, **options)
        with pytest.raises(ValidationError, match="'latencie'; there are: latency"):
            best(database, number, where={"latencie": ("<", 1)})
        assert best(database, number, where={"latency": ("<", 1)}) == []
        assert best(database, number, metric="words", mode="max") == []

    def test_case_39_fidelity_and_seeds_filter_and_records_tell_the_spread(self, database: Database) -> None:
        number = create(database)
        for seed, (one, other) in enumerate([(90.0, 80.0), (92.0, 82.0), (88.0, 96.0)]):
            save(database, number, evaluation(0, one, seed=seed, fidelity={"epochs": 5}))
            save(database, number, evaluation(1, other, seed=seed, fidelity={"epochs": 5}))
        save(database, number, evaluation(2, 99.0, fidelity={"epochs": 5}), evaluation(0, 99.5, fidelity={"epochs": 1}))
        at_five = best(database, number, fidelity_key='{"epochs":5}')
        assert [(record.architecture["number"], record.fitness, record.n) for record in at_five] == [
            (2, 99.0, 1),
            (0, 90.0, 3),
            (1, 86.0, 3),
        ]
        assert [record.std for record in at_five] == [None, pytest.approx(2.0), pytest.approx(8.717797887081348)]
        assert numbers(best(database, number, min_seeds=3)) == [0, 1]
        assert best(database, number, min_seeds=4) == []
        assert best(database, number, 1)[0].fitness == 99.5
        assert database.get_experiment_statistics(number)["best_fitness"] == 99.5
        assert {(record.n, record.std) for record in page(database, number)} == {(1, None)}

    def test_case_9_penalties_as_large_as_floats_spoil_nothing(self, database: Database) -> None:
        number = create(database, objectives={"loss": "min"})
        largest = sys.float_info.max
        save(database, number, *[evaluation(0, largest, seed=seed) for seed in range(3)])
        save(
            database, number, evaluation(1, 1e-300, seed=0), evaluation(1, 0.0, seed=1), evaluation(2, -largest, seed=0)
        )
        save(database, number, evaluation(2, largest, seed=1), evaluation(3, 0.5))
        assert [record.fitness for record in best(database, number)] == [0.0, 5e-301, 0.5, largest]
        known = database.get_experiment_statistics(number)
        assert (known["min_fitness"], known["max_fitness"]) == (-largest, largest)
        assert known["avg_fitness"] == pytest.approx(3 / 8 * largest)

    def test_case_9_a_large_value_that_was_replaced_leaves_the_mean_exact(self, database: Database) -> None:
        number = create(database, objectives={"loss": "min"})
        save(database, number, evaluation(0, 1e20), evaluation(1, 0.3), evaluation(2, 0.4))
        save(database, number, evaluation(0, 0.5, on_duplicate="keep_best"))
        assert database.get_experiment_statistics(number)["avg_fitness"] == 0.4
