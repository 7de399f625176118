"""The statements of the write path, built once a database."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from morphml_ray.database.contract import EncodedEvaluation
from morphml_ray.database.sql.dialects import Dialect
from morphml_ray.database.sql.prepared import Columns, Prepared
from morphml_ray.database.sql.schema import (
    ACTIVE,
    WriteId,
    architectures,
    evaluations,
    experiments,
    proposals,
    sent_type,
    stored_value,
)

_KEY = ("protocol_hash", "fidelity_key", "seed_key")

ARCHITECTURE_COLUMNS: Columns = {
    "key": sa.Text(),
    "spec": sa.LargeBinary(),
    "codec": sa.Text(),
    "n_nodes": sa.Integer(),
    "n_edges": sa.Integer(),
}

STORED_FIELDS = tuple(name for name in EncodedEvaluation._fields if name in evaluations.c)
"""Fields of an evaluation that are columns of its row, under the same names."""

EVALUATION_COLUMNS: Columns = {
    "experiment_id": sa.BigInteger(),
    "fitness_sign": sa.Integer(),
    "is_lead": sa.Boolean(),
    "key": sa.Text(),
    "on_duplicate": sa.Text(),
    **{name: sent_type(evaluations.c[name]) for name in STORED_FIELDS},
}

PROPOSAL_COLUMNS: Columns = {
    "write_id": sa.Text(),
    "experiment_id": sa.BigInteger(),
    "architecture_id": sa.BigInteger(),
    "evaluation_id": sa.BigInteger(),
    "outcome": sa.Text(),
    "generation": sa.BigInteger(),
    "parents": sa.Text(),
}

TOTAL_COLUMNS: Columns = {
    "experiment_id": sa.BigInteger(),
    "succeeded": sa.BigInteger(),
    "failed": sa.BigInteger(),
    "proposals": sa.BigInteger(),
    "fitness_sum": sa.Double(),
}

LOOKUP_COLUMNS = ("write_id", "experiment_id", "key", *_KEY)

_MOMENT: Columns = {"now": sa.DateTime(timezone=True)}
_ZERO, _ONE = sa.literal_column("0", sa.Integer), sa.literal_column("1", sa.Integer)


class SaveStatements:
    """Each statement runs over rows to come: ``Dialect.source`` or ``Dialect.texts``.

    Attributes:
        lock_experiments: id -> id, sign of the fitness; of those that exist.
        insert_architectures: over ``ARCHITECTURE_COLUMNS``, with ``now``; what is there stays.
        insert_evaluations: over ``EVALUATION_COLUMNS``, with ``now``; leaves out what has its answer.
        insert_proposals: over ``PROPOSAL_COLUMNS``.
        add_totals: over ``TOTAL_COLUMNS``, with ``now``.
        find_written: write id -> evaluation, of writes that happened already.
        find_added: write id -> evaluation, of rows just inserted.
        find_answers: over ``LOOKUP_COLUMNS``; of several answers to a key the one that counts comes last.
    """

    def __init__(self, dialect: Dialect, driver: sa.Dialect) -> None:
        self._dialect = dialect
        self._driver = driver
        self.lock_experiments = self._lock_experiments()
        self.insert_architectures = self._insert_architectures()
        self.insert_evaluations = self._insert_evaluations()
        self.insert_proposals = self._insert_proposals()
        self.add_totals = self._add_totals()
        self.find_written = self._find_written()
        self.find_added = self._find_added()
        self.find_answers = self._find_answers()

    def _lock_experiments(self) -> Prepared:
        rows, columns = self._dialect.texts(["id"])
        found = experiments.c
        # Locked, so that two actors on one server take turns in one experiment; ordered, so that none waits in a
        # circle.
        query = (
            sa.select(found.id, found.fitness_sign)
            .join_from(rows, experiments, found.id == sa.cast(rows.c.id, sa.BigInteger))
            .where(sa.not_(found.is_deleted))
            .order_by(found.id)
            .with_for_update(key_share=True, of=experiments)
        )
        return Prepared("lock_experiments", query, self._driver, columns)

    def _insert_architectures(self) -> Prepared:
        rows = self._dialect.source(ARCHITECTURE_COLUMNS)
        values = {name: rows.c[name] for name in ARCHITECTURE_COLUMNS} | {"created_at": _now()}
        new = sa.select(*values.values()).where(sa.true())
        insert = self._dialect.insert(architectures).from_select(list(values), new).on_conflict_do_nothing()
        return Prepared("insert_architectures", insert, self._driver, ARCHITECTURE_COLUMNS, _MOMENT)

    def _insert_evaluations(self) -> Prepared:
        rows = self._dialect.source(EVALUATION_COLUMNS)
        values = _evaluation_values(rows)
        # What has an answer is no new evaluation; a failure is remembered once, and not at all beside a success.
        old, answer = evaluations.alias("old"), evaluations.alias("answer")
        has_any = sa.exists().where(*_same_key(old, rows, architectures.c.id))
        has_answer = (
            sa.exists()
            .where(*_same_key(answer, rows, architectures.c.id))
            .where(answer.c.status.in_(_literals(ACTIVE)))
        )
        is_success = rows.c.status == sa.literal_column("'succeeded'")
        is_new = sa.or_(
            rows.c.on_duplicate == sa.literal_column("'replicate'"),
            sa.and_(is_success, sa.not_(has_answer)),
            sa.and_(sa.not_(is_success), sa.not_(has_any)),
        )
        new = (
            sa.select(*values.values())
            .join_from(rows, architectures, architectures.c.key == rows.c.key)
            .where(is_new)
            .order_by(rows.c.ord)
        )
        insert = self._dialect.insert(evaluations).from_select(list(values), new).on_conflict_do_nothing()
        return Prepared("insert_evaluations", insert, self._driver, EVALUATION_COLUMNS, _MOMENT)

    def _insert_proposals(self) -> Prepared:
        rows = self._dialect.source(PROPOSAL_COLUMNS)
        values = {name: stored_value(proposals.c[name], rows.c[name]) for name in PROPOSAL_COLUMNS}
        new = sa.select(*values.values()).order_by(rows.c.ord)
        insert = sa.insert(proposals).from_select(list(values), new)
        return Prepared("insert_proposals", insert, self._driver, PROPOSAL_COLUMNS)

    def _add_totals(self) -> Prepared:
        rows = self._dialect.source(TOTAL_COLUMNS)
        table = experiments.c
        update = (
            sa.update(experiments)
            .where(table.id == rows.c.experiment_id)
            .values(
                num_succeeded=table.num_succeeded + rows.c.succeeded,
                num_failed=table.num_failed + rows.c.failed,
                num_proposals=table.num_proposals + rows.c.proposals,
                fitness_sum=table.fitness_sum + rows.c.fitness_sum,
                updated_at=_now(),
            )
        )
        return Prepared("add_totals", update, self._driver, TOTAL_COLUMNS, _MOMENT)

    def _find_written(self) -> Prepared:
        rows, columns = self._dialect.texts(["write_id"])
        on = proposals.c.write_id == sa.cast(rows.c.write_id, WriteId)
        query = sa.select(rows.c.write_id, proposals.c.evaluation_id).join_from(rows, proposals, on)
        return Prepared("find_written", query, self._driver, columns)

    def _find_added(self) -> Prepared:
        rows, columns = self._dialect.texts(["write_id"])
        found = evaluations.c
        on = found.write_id == sa.cast(rows.c.write_id, WriteId)
        query = sa.select(rows.c.write_id, found.id, found.architecture_id, found.rank_loss)
        return Prepared("find_added", query.join_from(rows, evaluations, on), self._driver, columns)

    def _find_answers(self) -> Prepared:
        rows, columns = self._dialect.texts(LOOKUP_COLUMNS)
        found = evaluations.c
        query = (
            sa.select(rows.c.write_id, found.id, found.architecture_id, found.fitness)
            .join_from(rows, architectures, architectures.c.key == rows.c.key)
            .join(evaluations, sa.and_(*_same_key(evaluations, rows, architectures.c.id)))
            .order_by(found.status == sa.literal_column("'succeeded'"), found.id.desc())
        )
        return Prepared("find_answers", query, self._driver, columns)


def _evaluation_values(rows: sa.FromClause) -> dict[str, Any]:
    """Columns of a new evaluation, by name, from ``rows`` joined with its architecture."""
    earlier, twin = evaluations.alias("earlier"), evaluations.alias("twin")
    is_replicate = rows.c.on_duplicate == sa.literal_column("'replicate'")
    next_replicate = (
        sa.select(sa.func.coalesce(sa.func.max(earlier.c.replicate) + _ONE, _ZERO))
        .where(*_same_key(earlier, rows, architectures.c.id))
        .scalar_subquery()
    )
    same_key = [rows.c[name] for name in ("experiment_id", "key", *_KEY)]
    # Replicates that come together do not see each other: they count from the next number on.
    turn = sa.func.row_number().over(partition_by=same_key, order_by=rows.c.ord) - _ONE
    has_twin = sa.exists().where(
        *_same_group(twin, rows, architectures.c.id), twin.c.status == sa.literal_column("'succeeded'")
    )
    is_first = sa.and_(rows.c.is_lead, sa.not_(has_twin))
    return {
        **{name: stored_value(evaluations.c[name], rows.c[name]) for name in STORED_FIELDS},
        "experiment_id": rows.c.experiment_id,
        "architecture_id": architectures.c.id,
        "replicate": sa.case((is_replicate, next_replicate + turn), else_=_ZERO),
        "rank_loss": sa.case((is_first, rows.c.fitness * rows.c.fitness_sign), else_=sa.null()),
        "finished_at": _now(),
    }


def _same_group(
    table: sa.FromClause, rows: sa.FromClause, architecture_id: sa.ColumnElement[int]
) -> list[sa.ColumnElement[bool]]:
    # The addition keeps planners with stale statistics from walking a whole experiment through another index.
    experiment_id = table.c.experiment_id + _ZERO
    return [
        table.c.architecture_id == architecture_id,
        experiment_id == sa.cast(rows.c.experiment_id, sa.BigInteger),
        table.c.protocol_hash == rows.c.protocol_hash,
        table.c.fidelity_key == rows.c.fidelity_key,
    ]


def _same_key(
    table: sa.FromClause, rows: sa.FromClause, architecture_id: sa.ColumnElement[int]
) -> list[sa.ColumnElement[bool]]:
    return [*_same_group(table, rows, architecture_id), table.c.seed_key == rows.c.seed_key]


def _literals(words: Iterable[str]) -> list[sa.ColumnElement[str]]:
    return [sa.literal_column(f"'{word}'") for word in words]


def _now() -> sa.ColumnElement[Any]:
    """The moment of the batch, as the driver writes it (``Dialect.moment``)."""
    kind = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
    return sa.cast(sa.bindparam("now", type_=kind), kind)
