"""How every database stores evaluations."""

import dataclasses
import math
import pickle
import random
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, cast

import numpy as np
import pytest

from morphml_ray.database.contract import Database, EncodedEvaluation, SaveUnit
from morphml_ray.database.encoding import MAX_KEY_BYTES, encode_evaluation
from morphml_ray.errors import NotFoundError, ValidationError
from morphml_ray.identity import encode_architecture
from morphml_ray.model.arguments import MAX_INT
from morphml_ray.model.records import ArchitectureRecord, EvaluationStatus
from morphml_ray.testing.database.caller import best, create, evaluation, numbers, only, page, save
from morphml_ray.testing.database.experiments import HOSTILE_TEXTS

GRAPH = {
    "nodes": [{"id": 7, "operation": "conv", "params": {"filters": 32}}, {"id": 3, "operation": "relu"}],
    "edges": [{"source": 7, "target": 3}],
}


class SavingContract:
    """Duplicates, failures, values, and what happens to a batch."""

    def test_lesson_2_racing_saves_get_one_row(self, database: Database) -> None:
        number = create(database)
        units = [
            SaveUnit(who, [evaluation(i, i / 8 + turn)]) for turn in (0, 1) for who in (number, "one") for i in (0, 1)
        ]
        outcomes = database.save(units)
        assert outcomes[:2] * 4 == outcomes
        assert save(database, number, evaluation(1, 9.0)) == outcomes[1]
        assert [record.fitness for record in page(database, number)] == [0.0, 0.125]

    def test_lesson_3_each_experiment_has_its_own_evaluation(self, database: Database) -> None:
        first, second = create(database, "first"), create(database, "second")
        (one,) = save(database, first, evaluation(1, 0.25))
        (two,) = save(database, second, evaluation(1, 0.75))
        assert one != two
        for number, own, fitness in ((first, one, 0.25), (second, two, 0.75)):
            assert [(record.id, record.fitness) for record in best(database, number)] == [(own, fitness)]
            assert database.get_experiment_statistics(number)["num_evaluations"] == 1

    def test_lesson_4_counters_are_the_rows(self, database: Database) -> None:
        number = create(database)
        for turn in range(25):
            batch = [evaluation(turn * 8 + worker, worker / 8) for worker in range(7)]
            database.save([SaveUnit(number, [one]) for one in (*batch, evaluation(turn * 8 + 7, None), batch[0])])
        rows = page(database, number)
        known = database.get_experiment_statistics(number)
        assert (known["num_evaluations"], known["num_failed"]) == (175, 25)
        assert len(rows) == known["num_proposals"] == 200
        assert known["avg_fitness"] == sum(row.fitness or 0 for row in rows) / 175

    @pytest.mark.parametrize("direction", ["max", "min"])
    def test_lesson_7_what_is_no_number_is_a_failure(self, database: Database, direction: str) -> None:
        for fitness in (None, math.nan, math.inf, -math.inf, np.float32("nan")):
            number = create(database, repr(fitness), objectives={"score": direction})
            failure = evaluation(0, fitness, {"epochs": 3})
            (failed,) = save(database, number, failure)
            record = only(database, number)
            assert (record.id, record.status, record.fitness) == (failed, "failed", None)
            assert record.metrics == {"epochs": 3}
            assert str(fitness) in (record.error or "")
            assert best(database, number) == []
            save(database, number, evaluation(1, 0.5))
            assert numbers(best(database, number)) == [1]
            (succeeded,) = save(database, number, evaluation(0, 0.25))
            assert succeeded != failed
            assert sorted(numbers(best(database, number))) == [0, 1]
            found = database.get_architecture_by_hash(failure.key, number)
            assert found is not None
            assert found.decode().id == succeeded

    def test_a_failure_is_remembered_once_and_never_hides_a_success(self, database: Database) -> None:
        number = create(database)
        ids = [save(database, number, evaluation(0, fitness))[0] for fitness in (None, math.nan, 0.5, None)]
        assert ids == [ids[0], ids[0], ids[2], ids[2]]
        known = database.get_experiment_statistics(number)
        assert (known["num_evaluations"], known["num_failed"], known["num_duplicates"]) == (1, 1, 2)

    def test_every_kind_of_failure_is_kept(self, database: Database) -> None:
        number = create(database)
        kinds: list[EvaluationStatus] = ["failed", "oom", "timeout", "pruned", "cancelled", "lost", "invalid"]
        sent = [evaluation(i, None)._replace(status=kind, error_text=kind * 2) for i, kind in enumerate(kinds)]
        ids = save(database, number, *sent)
        assert save(database, number, *[evaluation(i, None)._replace(status="oom") for i in range(len(kinds))]) == ids
        records = page(database, number)
        assert [(record.status, record.error) for record in records] == [(kind, kind * 2) for kind in kinds]
        assert database.get_experiment_statistics(number)["num_failed"] == len(kinds)
        assert best(database, number) == []

    def test_lesson_8_numpy_values_are_stored_as_plain_ones(self, database: Database) -> None:
        number = create(database)
        metrics = {
            "loss": np.float32(0.5),
            "params": np.int64(2**62),
            "is_good": np.bool_(True),  # noqa: FBT003 - the value itself is tested
            "curve": np.array([[1.0, 2.5]]),
            "half": np.float16(0.25),
        }
        sent = encode_evaluation(
            {"width": np.int32(3)}, np.float64(0.5), metrics, np.int64(4), seed=np.uint8(7), duration=np.float32(1.5)
        )
        save(database, number, sent)
        record = only(database, number)
        plain = {"loss": 0.5, "params": 2**62, "is_good": True, "curve": [[1.0, 2.5]], "half": 0.25}
        assert record.metrics == plain
        assert {name: type(value) for name, value in record.metrics.items()} == {
            name: type(value) for name, value in plain.items()
        }
        assert (record.fitness, record.generation, record.seed, record.duration) == (0.5, 4, 7, 1.5)
        assert save(database, number, encode_evaluation({"width": 3}, 0.5, seed=7)) == [record.id]

    def test_lesson_11_a_record_is_a_plain_value(self, database: Database) -> None:
        number = create(database)
        save(
            database, number, evaluation(1, 0.5, {"curve": (1, 2)}, seed=3, fidelity={"epochs": 5}, parents=[1, "g1:0"])
        )
        record = only(database, number)
        assert type(record) is ArchitectureRecord
        assert pickle.loads(pickle.dumps(record)) == record  # noqa: S301 - written on this line
        listed = database.list_architectures(number, None, None, None, 10)
        assert pickle.loads(pickle.dumps(listed)) == [record]  # noqa: S301 - written on this line
        found = database.get_architecture_by_hash(record.architecture_hash, None)
        assert pickle.loads(pickle.dumps(found)) == record  # noqa: S301 - written on this line
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.fitness = 1.0  # type: ignore[misc]  # that it is refused is tested

    def test_an_architecture_hashes_back_to_its_key(self, database: Database) -> None:
        number = create(database)
        configs = [{"units": (64, 32), "nul": "\0", "act": "relu"}, [1, [2.5, None]], "text"]
        sent = [encode_evaluation(architecture, 0.5) for architecture in (*configs, GRAPH)]
        save(database, number, *sent)
        found = page(database, number)
        assert [record.architecture_hash for record in found] == [one.key for one in sent]
        assert [encode_architecture(record.architecture).key for record in found] == [one.key for one in sent]
        assert [record.architecture for record in found] == [*configs, GRAPH]

    def test_case_34_an_architecture_comes_back_as_the_first_one_recorded_it(self, database: Database) -> None:
        number = create(database)
        first, second = ({"nodes": [{"id": name, "operation": "conv"}], "edges": []} for name in ("stem", "block1"))
        save(database, number, *(encode_evaluation(each, 0.5, seed=seed) for seed, each in enumerate((first, second))))
        save(database, number, encode_evaluation(second, 0.5, seed=2))
        assert [record.architecture for record in page(database, number)] == [first] * 3

    def test_every_field_comes_back(self, database: Database) -> None:
        number = create(database)
        metrics = {text: text for text in HOSTILE_TEXTS} | {
            "long": "é" * 10_000,
            "tuple": (1, (2.5, ())),
            "large": 10**30,
            "floats": [1e300, 1e16, -1e23, 0.1, 5e-324, math.inf],
            "none": None,
            "nested": {"$tuple": 1},
        }
        for i, text in enumerate(HOSTILE_TEXTS):
            options = {"seed": [text, i], "fidelity": {text: 1}, "worker_id": text, "parents": (text, (1,))}
            sent = evaluation(i, 0.5, metrics, generation=MAX_INT - i, duration=1e-9, **options)
            save(database, number, sent._replace(error_text=text))
        for i, (text, record) in enumerate(zip(HOSTILE_TEXTS, page(database, number), strict=True)):
            assert record.metrics == metrics
            assert repr(record.metrics["floats"]) == repr(metrics["floats"])
            assert (record.generation, record.duration) == (MAX_INT - i, 1e-9)
            assert (record.seed, record.fidelity) == ([text, i], {text: 1})
            assert (record.worker_id, record.error, record.parents) == (text, text, (text, (1,)))

    def test_nan_in_metrics_comes_back(self, database: Database) -> None:
        number = create(database)
        save(database, number, evaluation(0, 0.5, {"loss": math.nan, "curve": [1.0, math.nan]}))
        metrics = only(database, number).metrics
        assert math.isnan(metrics["loss"])
        assert repr(metrics["curve"]) == "[1.0, nan]"

    def test_a_fitness_is_kept_to_the_last_bit(self, database: Database) -> None:
        number = create(database)
        values = [1.7976931348623157e308, 1e16, 2**53 + 1, 0.1, 5e-324, -0.0, -0.1, -1e308]
        save(database, number, *[evaluation(i, fitness) for i, fitness in enumerate(values)])
        assert [record.fitness for record in page(database, number)] == [float(value) for value in values]
        assert [record.fitness for record in best(database, number)] == [float(value) for value in values]

    def test_long_keys_are_stored_or_refused_at_once(self, database: Database) -> None:
        number = create(database)
        chance = random.Random(0)  # noqa: S311 - chance keeps the texts from being compressed

        def text(low: int, high: int) -> str:
            return "".join(chr(chance.randint(low, high)) for _ in range(MAX_KEY_BYTES - 2))

        def sent(text: str) -> EncodedEvaluation:
            return evaluation(0, 0.5, seed=text, fidelity=text)

        plain = text(0x5D, 0x7E)
        (long,) = save(database, number, sent(plain))
        assert (only(database, number).seed, only(database, number).fidelity) == (plain, plain)
        for low in (0x4E00, 0x1F300):
            wide = text(low, low + 900)
            neighbours = evaluation(low), evaluation(low + 1)
            try:
                first, refused, last = database.save(
                    [SaveUnit(number, [one]) for one in (neighbours[0], sent(wide), neighbours[1])]
                )
            except ValidationError:
                continue  # the caller refused it
            assert isinstance(first, list)
            assert isinstance(last, list)
            assert isinstance(refused, (list, ValidationError))
        assert save(database, number, sent(plain)) == [long]

    def test_nul_characters_are_refused_by_the_caller(self, database: Database) -> None:
        number = create(database)
        for options in ({"seed": "\0"}, {"fidelity": {"a": "\0"}}):
            with pytest.raises(ValidationError, match="NUL"):
                save(database, number, evaluation(0, 0.5, **options))
        for name, config in (("\0", {}), ("name", {"a": ["\0"]})):
            with pytest.raises(ValidationError, match="NUL"):
                create(database, name, config)
        assert page(database, number) == []

    def test_case_21_no_side_value_costs_a_result(self, database: Database) -> None:
        number = create(database)
        sides: list[dict[str, Any]] = [
            {"metrics": {"a": "\0", "\0": 1, "ü\ud800": "\udfff"}},
            {"metrics": {"loss": Decimal("0.25"), 7: {1, 2}, "when": datetime(2026, 1, 1, tzinfo=timezone.utc)}},
            {"metrics": {"model": object(), "z": 1 + 2j, "bytes": b"\0"}},
            {"metrics": [0.5]},
            {"worker_id": "\0", "duration": -0.001, "parents": ["\0", object()]},
            {"worker_id": "", "duration": None, "parents": {"of": 1}},
            {"duration": "long"},
        ]
        ids = save(database, number, *[evaluation(i, 0.5, **options) for i, options in enumerate(sides)])
        records = page(database, number)
        assert [record.id for record in records] == ids
        assert (records[1].metrics["loss"], records[3].metrics) == (0.25, {"metrics": [0.5]})
        assert {record.duration for record in records} == {0.0}
        assert records[5].worker_id is None

    def test_seeds_and_fidelities_are_evaluations_of_their_own(self, database: Database) -> None:
        number = create(database)
        seeds: list[Any] = [None, 0, 1, "1", True, [1], {"a": 1}]
        sent = [evaluation(0, i / 8, seed=seed) for i, seed in enumerate(seeds)]
        sent += [evaluation(0, i / 8, fidelity=seed) for i, seed in enumerate(seeds[1:])]
        ids = save(database, number, *sent)
        assert len(set(ids)) == len(sent)
        assert save(database, number, evaluation(0, 0.5, seed=1.0), evaluation(0, 0.5, seed=(1,))) == [ids[2], ids[5]]
        assert [record.seed for record in page(database, number)][: len(seeds)] == seeds

    @pytest.mark.parametrize(("direction", "better", "worse"), [("max", 0.75, 0.25), ("min", 0.25, 0.75)])
    def test_keep_best_replaces_by_what_is_better(
        self, database: Database, direction: str, better: float, worse: float
    ) -> None:
        number = create(database, objectives={"score": direction})
        (first,) = save(database, number, evaluation(0, 0.5, {"turn": 1}, seed=4))
        for fitness, turn in ((worse, 2), (0.5, 3), (None, 4), (better, 5), (worse, 6)):
            options = {"generation": turn, "worker_id": str(turn), "duration": turn}
            sent = evaluation(0, fitness, {"turn": turn}, seed=4, on_duplicate="keep_best", **options)
            assert save(database, number, sent) == [first]
        record = only(database, number)
        assert (record.fitness, record.metrics, record.generation) == (better, {"turn": 5}, 5)
        assert (record.worker_id, record.duration, record.replicate) == ("5", 5.0, 0)
        known = database.get_experiment_statistics(number)
        assert known["avg_fitness"] == known["best_fitness"] == better
        assert (known["num_evaluations"], known["num_failed"], known["num_duplicates"]) == (1, 0, 5)

    def test_replicates_are_numbered(self, database: Database) -> None:
        number = create(database)
        sent = [evaluation(0, i / 4, on_duplicate="replicate") for i in range(5)]
        ids = save(database, number, *sent[:2]) + save(database, number, *sent[2:])
        assert [(record.id, record.replicate, record.fitness) for record in page(database, number)] == [
            (ids[i], i, i / 4) for i in range(5)
        ]
        assert save(database, number, evaluation(0, 9.0)) == ids[:1]
        assert [(record.id, record.fitness) for record in best(database, number)] == [(ids[0], 0.5)]

    def test_a_write_that_is_repeated_is_one_write(self, database: Database) -> None:
        number = create(database)
        sent = [evaluation(i, None if i == 2 else i / 4, on_duplicate="replicate") for i in range(3)]
        ids = save(database, number, *sent)
        seen = database.get_experiment_statistics(number)
        assert save(database, number, *sent) == ids
        assert save(database, number, sent[1], sent[1], sent[0]) == [ids[1], ids[1], ids[0]]
        assert database.get_experiment_statistics(number) == seen
        assert save(database, number, sent[2], evaluation(3))[0] == ids[2]
        assert len(page(database, number)) == 4

    def test_lesson_10_a_unit_without_experiment_fails_alone(self, database: Database) -> None:
        number = create(database)
        nobody: list[int | str] = ["nobody", 10**12]
        units = [SaveUnit(who, [evaluation(i)]) for i, who in enumerate([number, *nobody, "one"])]
        first, *refused, last = database.save(units)
        assert [type(error) for error in refused] == [NotFoundError, NotFoundError]
        assert all(repr(name) in str(error) for name, error in zip(nobody, refused, strict=True))
        assert [record.id for record in page(database, number)] == [*cast("list[int]", first), *cast("list[int]", last)]

    def test_a_refused_value_fails_its_unit_alone_and_whole(self, database: Database) -> None:
        number = create(database)
        bad = evaluation(1)._replace(metrics=cast("str", None))
        units = [[evaluation(0)], [evaluation(4), bad, evaluation(5)], [evaluation(2), evaluation(3)], []]
        outcomes = database.save([SaveUnit(number, unit) for unit in units])
        assert isinstance(outcomes[1], ValidationError)
        assert outcomes[3] == []
        assert numbers(page(database, number)) == [0, 2, 3]
        known = database.get_experiment_statistics(number)
        assert (known["num_evaluations"], known["num_proposals"]) == (3, 3)
        assert save(database, number, evaluation(4)) == [page(database, number)[-1].id]

    def test_nothing_is_saved_at_no_cost(self, database: Database) -> None:
        number = create(database)
        seen = database.get_experiment(number)
        assert database.save([]) == []
        assert database.save([SaveUnit(number, [])]) == [[]]
        assert database.get_experiment(number) == seen
