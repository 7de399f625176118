"""The write path: many callers' evaluations in a handful of statements.

The statements are set-based: PostgreSQL runs each once a round, SQLite inside the driver's own loop; nearly every
batch is one round.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from morphml_ray.database.contract import ExperimentRef, SaveUnit, number_of
from morphml_ray.database.sql.dialects import Dialect
from morphml_ray.database.sql.prepared import Prepared, Row
from morphml_ray.database.sql.rounds import Item, split_rounds
from morphml_ray.database.sql.schema import evaluations, experiments, sent_type, stored_value
from morphml_ray.database.sql.statements import ARCHITECTURE_COLUMNS, STORED_FIELDS, SaveStatements
from morphml_ray.database.sql.totals import total_of
from morphml_ray.errors import MorphMLRayError, NotFoundError

_KEY_FIELDS = frozenset({"write_id", "protocol_hash", "fidelity_key", "seed_key"})
_REPLACED_FIELDS = tuple(name for name in STORED_FIELDS if name not in _KEY_FIELDS)
"""What a better result brings along: all but what names the evaluation."""


class _Stored(NamedTuple):
    """Where an evaluation key's answer stands."""

    id: int
    architecture_id: int
    fitness: float | None


@dataclass
class _Totals:
    """What one batch adds to an experiment's counters."""

    succeeded: int = 0
    proposals: int = 0
    fitness: list[float] = field(default_factory=list)
    """What is added to the sum, and, negative, what is taken from it."""
    failures: Counter[str] = field(default_factory=Counter)


class Batch:
    """One batch on its way through the statements, inside its caller's transaction."""

    def __init__(self, dialect: Dialect, statements: SaveStatements, connection: sa.Connection, now: datetime) -> None:
        self._dialect = dialect
        self._statements = statements
        self._connection = connection
        self._now = now
        self._moment = dialect.moment(now)
        self._proposals: list[Row] = []
        self._totals: dict[int, _Totals] = {}

    def save(self, units: Sequence[SaveUnit]) -> list[list[int] | MorphMLRayError]:
        """Store units; see ``Database.save``."""
        known = self._lock_experiments({unit.experiment for unit in units})
        ids = self._save_items(
            [
                Item(*known[unit.experiment], evaluation)
                for unit in units
                if unit.experiment in known
                for evaluation in unit.evaluations
            ]
        )
        return [
            [ids[evaluation.write_id] for evaluation in unit.evaluations]
            if unit.experiment in known
            else NotFoundError(f"there is no experiment {unit.experiment!r}")
            for unit in units
        ]

    def _save_items(self, items: Sequence[Item]) -> dict[str, int]:
        """Store what is new; gives the evaluation's id for each write id."""
        by_write_id: dict[str, Item] = {}
        for item in items:
            by_write_id.setdefault(item.evaluation.write_id, item)
        if not by_write_id:
            return {}
        ids: dict[str, int] = dict(self._find(self._statements.find_written, [(write_id,) for write_id in by_write_id]))
        new = [item for write_id, item in by_write_id.items() if write_id not in ids]
        if not new:
            return ids
        self._add_architectures(new)
        for part in split_rounds(new):
            self._add_evaluations(part.new)
            self._note_hits(part.hits)
        order = {item.evaluation.write_id: number for number, item in enumerate(new)}
        self._proposals.sort(key=lambda row: order[row[0]])
        self._run(self._statements.insert_proposals, self._proposals)
        self._add_totals()
        return ids | {row[0]: row[3] for row in self._proposals}

    def _lock_experiments(self, refs: set[ExperimentRef]) -> dict[ExperimentRef, tuple[int, int]]:
        """Find the ids and the signs of the fitness of those experiments that exist."""
        numbers = {ref: number for ref in refs if (number := number_of(ref)) is not None}
        names = [ref for ref in refs if isinstance(ref, str)]
        if names:
            query = sa.select(experiments.c.name, experiments.c.id).where(experiments.c.name.in_(names))
            numbers.update(tuple(row) for row in self._connection.execute(query))
        ids = [(str(number),) for number in sorted(set(numbers.values()))]
        found = self._find(self._statements.lock_experiments, ids) if ids else ()
        signs: dict[int, int] = dict(found)
        return {ref: (number, signs[number]) for ref, number in numbers.items() if number in signs}

    def _run(self, statement: Prepared, rows: Sequence[Row], *shared: Any) -> None:
        self._dialect.run(self._connection, statement, rows, shared)

    def _find(self, statement: Prepared, rows: Sequence[Row]) -> Sequence[Row]:
        return self._dialect.find(self._connection, statement, rows)

    def _add_architectures(self, items: Sequence[Item]) -> None:
        distinct = {item.evaluation.key: item.evaluation for item in reversed(items)}  # the first one's names stay
        # In the order of their keys, so that two actors on one server cannot wait for each other in a circle.
        columns = attrgetter(*ARCHITECTURE_COLUMNS)
        self._run(
            self._statements.insert_architectures, [columns(distinct[key]) for key in sorted(distinct)], self._moment
        )

    def _add_evaluations(self, items: Sequence[Item]) -> None:
        leads: set[tuple[Any, ...]] = set()
        rows = []
        for item in items:
            is_lead = item.evaluation.status == "succeeded" and item.group not in leads
            if is_lead:
                leads.add(item.group)
            rows.append(_evaluation_row(item, is_lead=is_lead))
        self._run(self._statements.insert_evaluations, rows, self._moment)
        self._note_added(items)

    def _note_added(self, items: Sequence[Item]) -> None:
        rows = self._find(self._statements.find_added, [(item.evaluation.write_id,) for item in items])
        found = {write_id: rest for write_id, *rest in rows}
        answered, shared = [], {}
        for item in items:
            if item.evaluation.write_id not in found:
                answered.append(item)
                continue
            number, architecture_id, rank_loss = found[item.evaluation.write_id]
            outcome = "forced" if item.evaluation.on_duplicate == "replicate" else "miss"
            self._note(item, number, architecture_id, outcome)
            self._count(item)
            if rank_loss is None and item.evaluation.status == "succeeded":
                shared[item.group] = (item, architecture_id)
        self._note_hits(answered)
        self._rank(shared.values())

    def _note_hits(self, items: Sequence[Item]) -> None:
        if not items:
            return
        rows = [
            (new.write_id, str(number), new.key, new.protocol_hash, new.fidelity_key, new.seed_key)
            for number, _, new in items
        ]
        found = self._find(self._statements.find_answers, rows)
        stored = {write_id: _Stored(*rest) for write_id, *rest in found}
        fitness = {old.id: old.fitness for old in stored.values()}
        for item in items:
            old = stored[item.evaluation.write_id]
            self._note(item, old.id, old.architecture_id, "hit")
            if item.evaluation.on_duplicate == "keep_best":
                fitness[old.id] = self._keep_better(item, old._replace(fitness=fitness[old.id]))

    def _keep_better(self, item: Item, old: _Stored) -> float | None:
        """Replace an answer by a better one; gives the fitness that stays."""
        new = item.evaluation
        if old.fitness is None or new.fitness is None:
            return old.fitness
        if new.fitness * item.fitness_sign >= old.fitness * item.fitness_sign:
            return old.fitness
        values: dict[str, Any] = {name: _as_stored(name, getattr(new, name)) for name in _REPLACED_FIELDS}
        values["finished_at"] = self._now
        self._connection.execute(sa.update(evaluations).where(evaluations.c.id == old.id).values(values))
        self._totals_of(item).fitness += [new.fitness, -old.fitness]
        self._rank([(item, old.architecture_id)])
        return new.fitness

    def _rank(self, groups: Iterable[tuple[Item, int]]) -> None:
        """Write the mean of each group to its earliest success."""
        for item, architecture_id in groups:
            values = item.evaluation
            one = evaluations.alias("one")
            members = sa.and_(
                one.c.experiment_id == item.experiment_id,
                one.c.architecture_id == architecture_id,
                one.c.protocol_hash == values.protocol_hash,
                one.c.fidelity_key == values.fidelity_key,
                one.c.status == "succeeded",
            )
            first = sa.select(sa.func.min(one.c.id)).where(members).scalar_subquery()
            mean = sa.select(self._dialect.mean(one.c.fitness)).where(members).scalar_subquery()
            self._connection.execute(
                sa.update(evaluations).where(evaluations.c.id == first).values(rank_loss=mean * item.fitness_sign)
            )

    def _note(self, item: Item, evaluation_id: int, architecture_id: int, outcome: str) -> None:
        new = item.evaluation
        row = (new.write_id, item.experiment_id, architecture_id, evaluation_id, outcome, new.generation, new.parents)
        self._proposals.append(row)
        self._totals_of(item).proposals += 1

    def _totals_of(self, item: Item) -> _Totals:
        return self._totals.setdefault(item.experiment_id, _Totals())

    def _count(self, item: Item) -> None:
        totals = self._totals_of(item)
        if item.evaluation.fitness is None:
            totals.failures[item.evaluation.status] += 1
        else:
            totals.succeeded += 1
            totals.fitness.append(item.evaluation.fitness)

    def _add_totals(self) -> None:
        totals = sorted(self._totals.items())
        rows = [
            (number, one.succeeded, one.failures.total(), one.proposals, format(total_of(one.fitness), "f"))
            for number, one in totals
        ]
        self._run(self._statements.add_totals, rows, self._moment)
        failed = [(number, *counted) for number, one in totals for counted in sorted(one.failures.items())]
        if failed:
            self._run(self._statements.add_failures, failed)


def _as_stored(name: str, value: Any) -> sa.ColumnElement[Any]:
    column = evaluations.c[name]
    return stored_value(column, sa.literal(value, sent_type(column)))


_stored_fields = attrgetter(*STORED_FIELDS)


def _evaluation_row(item: Item, *, is_lead: bool) -> Row:
    """Order the values as ``EVALUATION_COLUMNS``."""
    evaluation = item.evaluation
    address = (item.experiment_id, item.fitness_sign, is_lead, evaluation.key, evaluation.on_duplicate)
    return (*address, *_stored_fields(evaluation))
