"""The write path: many callers' evaluations in a handful of statements.

The statements are set-based: PostgreSQL runs each once a round, SQLite inside the driver's own loop; nearly every
batch is one round.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from morphml_ray.backends.contracts import ExperimentRef, SaveUnit
from morphml_ray.backends.sql.dialects import Dialect
from morphml_ray.backends.sql.rounds import Item, split_rounds
from morphml_ray.backends.sql.schema import evaluations, experiments
from morphml_ray.backends.sql.statements import ARCHITECTURE_COLUMNS, LOOKUP_COLUMNS, SaveStatements
from morphml_ray.errors import MorphMLRayError, NotFoundError


class _Stored(NamedTuple):
    """Where an evaluation key's answer stands."""

    id: int
    architecture_id: int
    fitness: float | None


@dataclass
class _Totals:
    """What one batch adds to an experiment's counters."""

    succeeded: int = 0
    failed: int = 0
    proposals: int = 0
    fitness_sum: float = 0.0


class Batch:
    """One batch on its way through the statements, inside its caller's transaction."""

    def __init__(self, dialect: Dialect, statements: SaveStatements, connection: sa.Connection, now: datetime) -> None:
        self._dialect = dialect
        self._statements = statements
        self._connection = connection
        self._now = now
        self._proposals: list[dict[str, Any]] = []
        self._totals: dict[int, _Totals] = {}

    def save(self, units: Sequence[SaveUnit]) -> list[list[int] | MorphMLRayError]:
        """Store units; see ``Database.save``."""
        known = self._find_experiments({unit.experiment for unit in units})
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
        ids = self._find_written(list(by_write_id))
        new = [item for write_id, item in by_write_id.items() if write_id not in ids]
        if not new:
            return ids
        self._add_architectures(new)
        for part in split_rounds(new):
            self._add_evaluations(part.new)
            self._note_hits(part.hits)
        order = {item.evaluation.write_id: number for number, item in enumerate(new)}
        self._proposals.sort(key=lambda row: order[row["write_id"]])
        self._run(self._statements.insert_proposals, self._proposals)
        self._add_totals()
        return ids | {row["write_id"]: row["evaluation_id"] for row in self._proposals}

    def _find_experiments(self, refs: set[ExperimentRef]) -> dict[ExperimentRef, tuple[int, int]]:
        found: dict[ExperimentRef, tuple[int, int]] = {}
        for column, kind in ((experiments.c.id, int), (experiments.c.name, str)):
            wanted = [ref for ref in refs if isinstance(ref, kind)]
            if not wanted:
                continue
            # Locked, so that two actors on one server take turns in one experiment; ordered, so that none waits
            # in a circle.
            query = (
                sa.select(column, experiments.c.id, experiments.c.fitness_sign)
                .where(column.in_(wanted), ~experiments.c.is_deleted)
                .order_by(experiments.c.id)
                .with_for_update(key_share=True)
            )
            found.update({ref: (number, sign) for ref, number, sign in self._connection.execute(query)})
        return found

    def _run(self, statement: sa.Executable, rows: Sequence[Mapping[str, Any]], **shared: Any) -> None:
        self._dialect.run(self._connection, statement, rows, shared)

    def _find_written(self, write_ids: Sequence[str]) -> dict[str, int]:
        rows = [{"write_id": write_id} for write_id in write_ids]
        query = self._statements.find_written
        found = self._connection.execute(query, self._dialect.bind_texts(["write_id"], rows))
        return {write_id: evaluation_id for write_id, evaluation_id in found}  # noqa: C416 - typed as pairs

    def _add_architectures(self, items: Sequence[Item]) -> None:
        distinct = {item.evaluation.key: item.evaluation for item in items}
        # In the order of their keys, so that two actors on one server cannot wait for each other in a circle.
        rows = [{name: getattr(distinct[key], name) for name in ARCHITECTURE_COLUMNS} for key in sorted(distinct)]
        self._run(self._statements.insert_architectures, rows, now=self._now)

    def _add_evaluations(self, items: Sequence[Item]) -> None:
        leads: set[tuple[Any, ...]] = set()
        rows = []
        for item in items:
            is_lead = item.evaluation.status == "succeeded" and item.group not in leads
            if is_lead:
                leads.add(item.group)
            rows.append(_evaluation_row(item, is_lead=is_lead))
        self._run(self._statements.insert_evaluations, rows, now=self._now)
        self._note_added(items)

    def _note_added(self, items: Sequence[Item]) -> None:
        query = self._statements.find_added
        rows = [{"write_id": item.evaluation.write_id} for item in items]
        found = {
            row.write_id: row for row in self._connection.execute(query, self._dialect.bind_texts(["write_id"], rows))
        }
        answered, shared = [], {}
        for item in items:
            row = found.get(item.evaluation.write_id)
            if row is None:
                answered.append(item)
                continue
            outcome = "forced" if item.evaluation.on_duplicate == "replicate" else "miss"
            self._note(item, row.id, row.architecture_id, outcome)
            self._count(item)
            if row.rank_loss is None and item.evaluation.status == "succeeded":
                shared[item.group] = (item, row.architecture_id)
        self._note_hits(answered)
        self._rank(shared.values())

    def _note_hits(self, items: Sequence[Item]) -> None:
        if not items:
            return
        rows = [
            {"experiment_id": str(item.experiment_id)}
            | {name: getattr(item.evaluation, name) for name in LOOKUP_COLUMNS if name != "experiment_id"}
            for item in items
        ]
        query = self._statements.find_answers
        found = self._connection.execute(query, self._dialect.bind_texts(LOOKUP_COLUMNS, rows))
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
        values = {
            "fitness": new.fitness,
            "metrics": sa.cast(sa.literal(new.metrics, sa.Text()), evaluations.c.metrics.type),
            "generation": new.generation,
            "worker_id": new.worker_id,
            "duration_s": new.duration_s,
            "finished_at": self._now,
        }
        self._connection.execute(sa.update(evaluations).where(evaluations.c.id == old.id).values(values))
        self._totals_of(item).fitness_sum += new.fitness - old.fitness
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
            mean = sa.select(sa.func.avg(one.c.fitness)).where(members).scalar_subquery()
            self._connection.execute(
                sa.update(evaluations).where(evaluations.c.id == first).values(rank_loss=mean * item.fitness_sign)
            )

    def _note(self, item: Item, evaluation_id: int, architecture_id: int, outcome: str) -> None:
        self._proposals.append(
            {
                "write_id": item.evaluation.write_id,
                "experiment_id": item.experiment_id,
                "architecture_id": architecture_id,
                "evaluation_id": evaluation_id,
                "outcome": outcome,
                "generation": item.evaluation.generation,
                "parents": item.evaluation.parents,
            }
        )
        self._totals_of(item).proposals += 1

    def _totals_of(self, item: Item) -> _Totals:
        return self._totals.setdefault(item.experiment_id, _Totals())

    def _count(self, item: Item) -> None:
        totals = self._totals_of(item)
        if item.evaluation.fitness is None:
            totals.failed += 1
        else:
            totals.succeeded += 1
            totals.fitness_sum += item.evaluation.fitness

    def _add_totals(self) -> None:
        for experiment_id in sorted(self._totals):
            totals = self._totals[experiment_id]
            table = experiments.c
            self._connection.execute(
                sa.update(experiments)
                .where(table.id == experiment_id)
                .values(
                    num_succeeded=table.num_succeeded + totals.succeeded,
                    num_failed=table.num_failed + totals.failed,
                    num_proposals=table.num_proposals + totals.proposals,
                    fitness_sum=table.fitness_sum + totals.fitness_sum,
                    updated_at=self._now,
                )
            )


def _evaluation_row(item: Item, *, is_lead: bool) -> dict[str, Any]:
    new = item.evaluation
    return {
        "write_id": new.write_id,
        "experiment_id": item.experiment_id,
        "fitness_sign": item.fitness_sign,
        "key": new.key,
        "protocol_hash": new.protocol_hash,
        "fidelity_key": new.fidelity_key,
        "seed_key": new.seed_key,
        "on_duplicate": new.on_duplicate,
        "status": new.status,
        "fitness": new.fitness,
        "metrics": new.metrics,
        "generation": new.generation,
        "worker_id": new.worker_id,
        "duration_s": new.duration_s,
        "error_class": new.error_class,
        "error_text": new.error_text,
        "is_lead": is_lead,
    }
