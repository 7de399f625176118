"""The write path: many callers' evaluations in a handful of statements.

What is new and stands alone is stored at once (``arrivals.py``). The rest goes in rounds, so that storing a batch gives
what storing its evaluations one by one would give; nearly every batch is one round.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from morphml_ray.database.contract import ExperimentRef, SaveUnit, number_of
from morphml_ray.database.sql.arrivals import STORED_FIELDS, Arrivals, Stored, arrivals_of
from morphml_ray.database.sql.dialects import Dialect
from morphml_ray.database.sql.prepared import Prepared, Row
from morphml_ray.database.sql.rounds import Item, split_rounds
from morphml_ray.database.sql.schema import evaluations, experiments, sent_type, stored_value
from morphml_ray.database.sql.statements import SaveStatements
from morphml_ray.database.sql.totals import Totals, total_of
from morphml_ray.errors import MorphMLRayError, NotFoundError

_KEPT_FIELDS = frozenset({"write_id", "protocol_hash", "fidelity_key", "seed_key", "parents"})
_REPLACED_FIELDS = tuple(name for name in STORED_FIELDS if name not in _KEPT_FIELDS)
"""What a better result brings along: all but what names the evaluation, and what its proposal was made from."""


class _Answer(NamedTuple):
    """Where an evaluation key's answer stands."""

    id: int
    architecture_id: int
    fitness: float | None


class Batch:
    """One batch on its way through the statements, inside its caller's transaction."""

    def __init__(self, dialect: Dialect, statements: SaveStatements, connection: sa.Connection, now: datetime) -> None:
        self._dialect = dialect
        self._statements = statements
        self._connection = connection
        self._now = now
        self._moment = dialect.moment(now)
        self._ids: dict[str, int] = {}
        self._proposals: list[Row] = []
        self._groups: dict[Row, Row] = {}
        self._totals = Totals()

    def save(self, units: Sequence[SaveUnit], *, by_rounds: bool = False) -> list[list[int] | MorphMLRayError]:
        """Store units; see ``Database.save``.

        Args:
            units: what to store.
            by_rounds: ask of every evaluation whether it was written already, also of those that nothing speaks for.
        """
        numbers = self._numbers({unit.experiment for unit in units})
        rows = arrivals_of(units, numbers, may_store=not by_rounds)
        experiments = sorted(set(numbers.values()))
        stored = self._dialect.save_arrivals(self._connection, rows, experiments, self._moment, self._totals)
        ids = dict(stored.ids)
        if stored.later:
            self._dialect.plan_by_index(self._connection)
            self._save_items([_item(rows, stored, index) for index in stored.later])
            ids |= {index: self._ids[rows.columns["write_id"][index]] for index in stored.later}
        self._add_totals()
        return list(_outcomes(units, numbers, stored.signs, ids))

    def _numbers(self, refs: set[ExperimentRef]) -> dict[ExperimentRef, int]:
        """Find the ids of experiments, which may not exist."""
        numbers = {ref: number for ref in refs if (number := number_of(ref)) is not None}
        names = [ref for ref in refs if isinstance(ref, str)]
        if names:
            query = sa.select(experiments.c.name, experiments.c.id).where(experiments.c.name.in_(names))
            numbers.update(tuple(row) for row in self._connection.execute(query))
        return numbers

    def _save_items(self, items: Sequence[Item]) -> None:
        by_write_id: dict[str, Item] = {}
        for item in items:
            by_write_id.setdefault(item.evaluation.write_id, item)
        found = self._find(self._statements.find_written, [(write_id,) for write_id in by_write_id])
        self._ids = dict(found)
        new = [item for write_id, item in by_write_id.items() if write_id not in self._ids]
        for part in split_rounds(new):
            self._add_evaluations(part.new)
            self._note_hits(part.hits)
        order = {item.evaluation.write_id: item.id for item in new}
        self._run(self._statements.insert_proposals, sorted(self._proposals, key=lambda row: order[row[0]]))
        self._run(self._statements.rank_groups, list(self._groups.values()))

    def _run(self, statement: Prepared, rows: Sequence[Row], *shared: Any) -> None:
        if rows:
            self._dialect.run(self._connection, statement, rows, shared)

    def _find(self, statement: Prepared, rows: Sequence[Row]) -> Sequence[Row]:
        return self._dialect.find(self._connection, statement, rows) if rows else ()

    def _add_evaluations(self, items: Sequence[Item]) -> None:
        self._run(self._statements.insert_evaluations, [_evaluation_row(item) for item in items], self._moment)
        rows = self._find(self._statements.find_added, [(item.evaluation.write_id,) for item in items])
        added = {write_id: rest for write_id, *rest in rows}
        for item in items:
            new = item.evaluation
            if new.write_id in added:
                number, architecture_id = added[new.write_id]
                self._ids[new.write_id] = number
                self._totals.count(item.experiment_id, new.status, new.fitness)
                if new.on_duplicate == "replicate":
                    self._propose(item, number, architecture_id, "forced")
                if new.status == "succeeded":
                    self._rank(item, architecture_id)
        self._note_hits([item for item in items if item.evaluation.write_id not in added])

    def _note_hits(self, items: Sequence[Item]) -> None:
        rows = [
            (new.write_id, str(number), new.key, new.protocol_hash, new.fidelity_key, new.seed_key)
            for _, number, _, new in items
        ]
        answers = {write_id: _Answer(*rest) for write_id, *rest in self._find(self._statements.find_answers, rows)}
        fitness = {answer.id: answer.fitness for answer in answers.values()}
        for item in items:
            answer = answers[item.evaluation.write_id]
            self._ids[item.evaluation.write_id] = answer.id
            self._propose(item, answer.id, answer.architecture_id, "hit")
            self._totals.of(item.experiment_id).proposals += 1
            if item.evaluation.on_duplicate == "keep_best":
                fitness[answer.id] = self._keep_better(item, answer._replace(fitness=fitness[answer.id]))

    def _keep_better(self, item: Item, old: _Answer) -> float | None:
        """Replace an answer by a better one; gives the fitness that stays."""
        new = item.evaluation
        if old.fitness is None or new.fitness is None:
            return old.fitness
        if new.fitness * item.fitness_sign >= old.fitness * item.fitness_sign:
            return old.fitness
        values: dict[str, Any] = {name: _as_stored(name, getattr(new, name)) for name in _REPLACED_FIELDS}
        values["finished_at"] = self._now
        self._connection.execute(sa.update(evaluations).where(evaluations.c.id == old.id).values(values))
        self._totals.of(item.experiment_id).fitness += [new.fitness, -old.fitness]
        self._rank(item, old.architecture_id)
        return new.fitness

    def _rank(self, item: Item, architecture_id: int) -> None:
        new = item.evaluation
        group = (item.experiment_id, architecture_id, new.protocol_hash, new.fidelity_key)
        self._groups[group] = (item.experiment_id, item.fitness_sign, *group[1:])

    def _propose(self, item: Item, evaluation_id: int, architecture_id: int, outcome: str) -> None:
        new = item.evaluation
        row = (new.write_id, item.experiment_id, architecture_id, evaluation_id, outcome, new.generation, new.parents)
        self._proposals.append(row)

    def _add_totals(self) -> None:
        totals = sorted(self._totals.items())
        rows = [
            (number, one.succeeded, one.failures.total(), one.proposals, format(total_of(one.fitness), "f"))
            for number, one in totals
        ]
        self._run(self._statements.add_totals, rows, self._moment)
        failed = [(number, *counted) for number, one in totals for counted in sorted(one.failures.items())]
        self._run(self._statements.add_failures, failed)


def _outcomes(
    units: Sequence[SaveUnit], numbers: Mapping[ExperimentRef, int], signs: Mapping[int, int], ids: Mapping[int, int]
) -> Iterator[list[int] | MorphMLRayError]:
    start = 0
    for unit in units:
        number = numbers.get(unit.experiment)
        rows = range(start, start + len(unit.evaluations)) if number is not None else range(start, start)
        start = rows.stop
        is_known = number in signs
        yield [ids[row] for row in rows] if is_known else NotFoundError(f"there is no experiment {unit.experiment!r}")


def _item(rows: Arrivals, stored: Stored, index: int) -> Item:
    number = rows.experiment_ids[index]
    return Item(stored.ids[index], number, stored.signs[number], rows.evaluation(index))


def _as_stored(name: str, value: Any) -> sa.ColumnElement[Any]:
    column = evaluations.c[name]
    return stored_value(column, sa.literal(value, sent_type(column)))


_stored_fields = attrgetter(*STORED_FIELDS)


def _evaluation_row(item: Item) -> Row:
    """Order the values as ``EVALUATION_COLUMNS``."""
    new = item.evaluation
    return (item.id, item.experiment_id, new.key, new.on_duplicate, *_stored_fields(new))
