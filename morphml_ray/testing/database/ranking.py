"""How every database ranks architectures."""

import math
from typing import Any

import pytest

from morphml_ray.database.contract import Database
from morphml_ray.testing.database.caller import best, create, evaluation, numbers, save
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
            assert numbers(best(database, number, top_k, "m")) == order[:top_k]

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
            assert numbers(best(database, number, 2, metric)) == [0, 1]
            assert numbers(best(database, number, 5, metric)) == [0, 1, 2]

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
        assert numbers(best(database, number, metric="f1")) == [2]
        assert best(database, number, metric="absent") == []
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
        assert numbers(best(database, number, metric="size")) == [1]
        assert best(database, number)[1].metrics == {"size": 10**400}
