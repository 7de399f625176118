"""What a database does with evaluations, stored one by one: a plain model, and its comparison with a real one."""

import itertools
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import strategies as st

from morphml_ray.database.contract import EncodedEvaluation, SaveUnit
from morphml_ray.database.encoding import encode_evaluation, encode_experiment
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.errors import NotFoundError
from morphml_ray.model.records import ArchitectureRecord, OnDuplicate

FAILURE = math.nan
UNKNOWN = 10**9
NUMBERS = itertools.count()


@dataclass
class Row:
    """One evaluation in the model."""

    id: int
    evaluation: EncodedEvaluation
    replicate: int
    kept: EncodedEvaluation

    @property
    def group(self) -> tuple[str, str]:
        return self.evaluation.key, self.evaluation.fidelity_key

    @property
    def key(self) -> tuple[str, str, str]:
        return *self.group, self.evaluation.seed_key

    @property
    def is_success(self) -> bool:
        return self.evaluation.status == "succeeded"


@dataclass
class Model:
    """One experiment; stores one evaluation at a time."""

    sign: int
    rows: list[Row] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=dict)

    def save(self, new: EncodedEvaluation) -> int:
        if new.write_id not in self.written:
            self.written[new.write_id] = self._save(new)
        return self.written[new.write_id]

    def _save(self, new: EncodedEvaluation) -> int:
        row = Row(len(self.rows), new, 0, new)
        same = [old for old in self.rows if old.key == row.key]
        answers = [old for old in same if old.is_success]
        if new.on_duplicate == "replicate":
            row.replicate = max((old.replicate + 1 for old in same), default=0)
        elif answers or (same and not row.is_success):
            answer = (answers or same)[0]
            if new.on_duplicate == "keep_best" and row.is_success and self._loss(new) < self._loss(answer.kept):
                answer.kept = new
            return answer.id
        self.rows.append(row)
        return row.id

    def _loss(self, evaluation: EncodedEvaluation) -> float:
        assert evaluation.fitness is not None
        return evaluation.fitness * self.sign

    def statistics(self) -> dict[str, Any]:
        fitness = [row.kept.fitness for row in self.rows if row.kept.fitness is not None]
        return {
            "num_evaluations": len(fitness),
            "num_failed": len(self.rows) - len(fitness),
            "num_proposals": len(self.written),
            "num_duplicates": len(self.written) - len(self.rows),
            "best_fitness": next((mean for _, mean in self.best()), None),
            "avg_fitness": sum(fitness) / len(fitness) if fitness else None,
            "min_fitness": min(fitness, default=None),
            "max_fitness": max(fitness, default=None),
            "max_generation": max((row.kept.generation for row in self.rows), default=None),
        }

    def best(self) -> list[tuple[Row, float]]:
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            if row.is_success:
                groups.setdefault(row.group, []).append(row)
        means = [(sum(row.kept.fitness or 0 for row in rows) / len(rows), rows[0]) for rows in groups.values()]
        ranked = sorted(means, key=lambda pair: (pair[0] * self.sign, pair[1].id))
        first: dict[str, tuple[Row, float]] = {}
        for mean, row in ranked:
            first.setdefault(row.evaluation.key, (row, mean))
        return list(first.values())


class Saved(NamedTuple):
    """One evaluation to come; ``repeats`` names an earlier one that is written again instead."""

    architecture: int
    fitness: float
    on_duplicate: OnDuplicate
    seed: int | None
    fidelity: int | None
    generation: int
    repeats: int | None

    def encode(self) -> EncodedEvaluation:
        return encode_evaluation(
            {"architecture": self.architecture},
            self.fitness,
            {"number": next(NUMBERS)},
            self.generation,
            seed=self.seed,
            fidelity=self.fidelity,
            on_duplicate=self.on_duplicate,
        )


class Unit(NamedTuple):
    """Evaluations of one experiment; the experiment is 0, 1 or 2, which does not exist."""

    experiment: int
    by_name: bool
    evaluations: list[Saved]


# Sums of these fractions are exact, in whatever order.
saved = st.builds(
    Saved,
    architecture=st.integers(0, 2),
    fitness=st.sampled_from([0.25, 0.5, 1.0, -1.0, FAILURE, FAILURE]),
    on_duplicate=st.sampled_from(["keep_first", "keep_best", "replicate"]),
    seed=st.sampled_from([None, 1]),
    fidelity=st.sampled_from([None, 5]),
    generation=st.integers(0, 3),
    repeats=st.none() | st.integers(0, 3),
)
units = st.builds(
    Unit,
    experiment=st.sampled_from([0, 0, 0, 1, 1, 2]),
    by_name=st.booleans(),
    evaluations=st.lists(saved, max_size=6),
)
batches = st.lists(st.lists(units, max_size=6), max_size=3)


class Comparison:
    """A database beside its model, two experiments each."""

    def __init__(self, database: SqlDatabase) -> None:
        self.database = database
        self.models = [Model(sign=-1), Model(sign=1)]
        self.names = [f"experiment {next(NUMBERS)}" for _ in self.models]
        self.ids = [self._create(name, way) for name, way in zip(self.names, ("max", "min"), strict=True)]
        self.rows: list[dict[int, int]] = [{}, {}]
        self.history: list[list[EncodedEvaluation]] = [[], []]

    def _create(self, name: str, direction: str) -> int:
        return self.database.create_experiment(encode_experiment(name, {}, {"score": direction}, "error"))

    def save(self, batch: list[Unit]) -> None:
        encoded = [self._encode(unit) for unit in batch]
        outcomes = self.database.save(encoded)
        assert len(outcomes) == len(batch)
        for unit, sent, outcome in zip(batch, encoded, outcomes, strict=True):
            if unit.experiment == 2:
                assert isinstance(outcome, NotFoundError)
                continue
            assert isinstance(outcome, list)
            model, rows = self.models[unit.experiment], self.rows[unit.experiment]
            for evaluation, given_id in zip(sent.evaluations, outcome, strict=True):
                assert rows.setdefault(model.save(evaluation), given_id) == given_id
        self.check()

    def _encode(self, unit: Unit) -> SaveUnit:
        if unit.experiment == 2:
            reference: int | str = "nobody" if unit.by_name else UNKNOWN
            return SaveUnit(reference, [saved.encode() for saved in unit.evaluations])
        history = self.history[unit.experiment]
        evaluations = []
        for one in unit.evaluations:
            is_repeat = one.repeats is not None and one.repeats < len(history)
            evaluations.append(history[-1 - (one.repeats or 0)] if is_repeat else one.encode())
            history.append(evaluations[-1])
        reference = (self.names if unit.by_name else self.ids)[unit.experiment]
        return SaveUnit(reference, evaluations)

    def check(self) -> None:
        for turn in range(len(self.ids)):
            self.check_one(turn)

    def check_one(self, turn: int) -> None:
        experiment, model, rows = self.ids[turn], self.models[turn], self.rows[turn]
        assert sorted(rows) == [row.id for row in model.rows]
        assert [rows[row.id] for row in model.rows] == sorted(rows.values())
        known = self.database.get_experiment_statistics(experiment)
        expected = model.statistics()
        assert {name: known[name] for name in expected} == expected
        stored = self.database.list_architectures(experiment, None, None, None, 1000).decode()
        assert [told(one) for one in stored] == [told_by(row, rows, row.kept.fitness) for row in model.rows]
        for top_k in (1, 100):
            best = self.database.get_best_architectures(experiment, top_k, None, {}).decode()
            assert [told(one) for one in best] == [told_by(row, rows, mean) for row, mean in model.best()[:top_k]]


def told(record: ArchitectureRecord) -> tuple[Any, ...]:
    return (
        record.id,
        record.architecture_hash,
        record.fitness,
        record.status,
        record.replicate,
        record.seed,
        record.fidelity,
        record.metrics["number"],
        record.generation,
    )


def told_by(row: Row, ids: dict[int, int], fitness: float | None) -> tuple[Any, ...]:
    kept = row.kept
    return (
        ids[row.id],
        kept.key,
        fitness,
        kept.status,
        row.replicate,
        int(kept.seed_key) if kept.seed_key else None,
        int(kept.fidelity_key) if kept.fidelity_key else None,
        int(kept.metrics.partition(":")[2].rstrip("}")),
        kept.generation,
    )
