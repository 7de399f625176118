"""The statements of the rounds, built once a database."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from morphml_ray.database.sql.arrivals import STORED_FIELDS
from morphml_ray.database.sql.dialects import Dialect
from morphml_ray.database.sql.groups import GROUP, in_experiment, is_success, same_group
from morphml_ray.database.sql.prepared import Columns, Prepared
from morphml_ray.database.sql.schema import (
    ACTIVE,
    WriteId,
    architectures,
    evaluations,
    experiments,
    failures,
    proposals,
    sent_type,
    stored_value,
)

_KEY = ("protocol_hash", "fidelity_key", "seed_key")

EVALUATION_COLUMNS: Columns = {
    "id": sa.BigInteger(),
    "experiment_id": sa.BigInteger(),
    "key": sa.Text(),
    "on_duplicate": sa.Text(),
    **{name: sent_type(evaluations.c[name]) for name in STORED_FIELDS},
}

GROUP_COLUMNS: Columns = {
    "experiment_id": sa.BigInteger(),
    "fitness_sign": sa.Integer(),
    **{name: evaluations.c[name].type for name in GROUP},
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
    "fitness_total": sa.Text(),
}

FAILURE_COLUMNS: Columns = {"experiment_id": sa.BigInteger(), "status": sa.Text(), "number": sa.BigInteger()}

LOOKUP_COLUMNS = ("write_id", "experiment_id", "key", *_KEY)

_MOMENT: Columns = {"now": sa.DateTime(timezone=True)}
_ZERO, _ONE = sa.literal_column("0", sa.Integer), sa.literal_column("1", sa.Integer)


class SaveStatements:
    """Each statement runs over rows to come: ``Dialect.source`` or ``Dialect.texts``.

    Attributes:
        insert_evaluations: over ``EVALUATION_COLUMNS``, with ``now``; leaves out what has its answer.
        rank_groups: over ``GROUP_COLUMNS``; writes the mean of each group to its earliest success.
        insert_proposals: over ``PROPOSAL_COLUMNS``.
        add_totals: over ``TOTAL_COLUMNS``, with ``now``.
        add_failures: over ``FAILURE_COLUMNS``.
        find_written: write id -> evaluation, of writes that happened already.
        find_added: write id -> evaluation, architecture, of rows just inserted.
        find_answers: over ``LOOKUP_COLUMNS``; of several answers to a key the one that counts comes last.
    """

    def __init__(self, dialect: Dialect, driver: sa.Dialect) -> None:
        self._dialect = dialect
        self._driver = driver
        self.insert_evaluations = self._insert_evaluations()
        self.rank_groups = self._rank_groups()
        self.insert_proposals = self._insert_proposals()
        self.add_totals = self._add_totals()
        self.add_failures = self._add_failures()
        self.find_written = self._find_written()
        self.find_added = self._find_added()
        self.find_answers = self._find_answers()

    def _insert_evaluations(self) -> Prepared:
        rows = self._dialect.source(EVALUATION_COLUMNS)
        values = _evaluation_values(rows)
        # What has an answer is no new evaluation; a failure is remembered once, and not at all beside a success.
        old, answer = evaluations.alias("old"), evaluations.alias("answer")
        has_any = sa.exists().where(*_same_key(old, rows))
        has_answer = sa.exists().where(*_same_key(answer, rows)).where(answer.c.status.in_(_literals(ACTIVE)))
        is_new = sa.or_(
            rows.c.on_duplicate == sa.literal_column("'replicate'"),
            sa.and_(is_success(rows), sa.not_(has_answer)),
            sa.and_(sa.not_(is_success(rows)), sa.not_(has_any)),
        )
        new = (
            sa.select(*values.values())
            .join_from(rows, architectures, architectures.c.key == rows.c.key)
            .where(is_new)
            .order_by(rows.c.ord)
        )
        insert = self._dialect.insert(evaluations).from_select(list(values), new).on_conflict_do_nothing()
        return Prepared("insert_evaluations", insert, self._driver, EVALUATION_COLUMNS, _MOMENT)

    def _rank_groups(self) -> Prepared:
        rows = self._dialect.source(GROUP_COLUMNS)
        first, member = evaluations.alias("first"), evaluations.alias("member")
        lead = sa.select(sa.func.min(first.c.id)).where(*same_group(first, rows), is_success(first)).scalar_subquery()
        fitness = member.c.fitness
        # The mean of one value is that value, to the last bit.
        mean = sa.case((sa.func.count() == _ONE, sa.func.min(fitness)), else_=self._dialect.mean(fitness))
        loss = sa.select(mean).where(*same_group(member, rows), is_success(member)).scalar_subquery()
        update = sa.update(evaluations).where(evaluations.c.id == lead).values(rank_loss=loss * rows.c.fitness_sign)
        return Prepared("rank_groups", update, self._driver, GROUP_COLUMNS)

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
                fitness_total=self._dialect.add_exactly(table.fitness_total, rows.c.fitness_total),
                updated_at=_now(),
            )
        )
        return Prepared("add_totals", update, self._driver, TOTAL_COLUMNS, _MOMENT)

    def _add_failures(self) -> Prepared:
        rows = self._dialect.source(FAILURE_COLUMNS)
        new = sa.select(*(rows.c[name] for name in FAILURE_COLUMNS)).where(sa.true())
        insert = self._dialect.insert(failures).from_select(list(FAILURE_COLUMNS), new)
        counted = insert.on_conflict_do_update(
            index_elements=[failures.c.experiment_id, failures.c.status],
            set_={"number": failures.c.number + insert.excluded.number},
        )
        return Prepared("add_failures", counted, self._driver, FAILURE_COLUMNS)

    def _find_written(self) -> Prepared:
        rows, columns = self._dialect.texts(["write_id"])
        # An evaluation's own write, or one that it answered.
        answers = [
            sa.select(rows.c.write_id, number).join_from(
                rows, number.table, number.table.c.write_id == sa.cast(rows.c.write_id, WriteId)
            )
            for number in (evaluations.c.id, proposals.c.evaluation_id)
        ]
        return Prepared("find_written", sa.union_all(*answers), self._driver, columns)

    def _find_added(self) -> Prepared:
        rows, columns = self._dialect.texts(["write_id"])
        found = evaluations.c
        on = found.write_id == sa.cast(rows.c.write_id, WriteId)
        query = sa.select(rows.c.write_id, found.id, found.architecture_id).join_from(rows, evaluations, on)
        return Prepared("find_added", query, self._driver, columns)

    def _find_answers(self) -> Prepared:
        rows, columns = self._dialect.texts(LOOKUP_COLUMNS)
        found = evaluations.c
        query = (
            sa.select(rows.c.write_id, found.id, found.architecture_id, found.fitness)
            .join_from(rows, architectures, architectures.c.key == rows.c.key)
            .join(evaluations, sa.and_(*_same_key(evaluations, rows)))
            .order_by(is_success(), found.id.desc())
        )
        return Prepared("find_answers", query, self._driver, columns)


def _evaluation_values(rows: sa.FromClause) -> dict[str, Any]:
    """Columns of a new evaluation, by name, from ``rows`` joined with its architecture."""
    earlier = evaluations.alias("earlier")
    next_replicate = (
        sa.select(sa.func.coalesce(sa.func.max(earlier.c.replicate) + _ONE, _ZERO))
        .where(*_same_key(earlier, rows))
        .scalar_subquery()
    )
    same_key = [rows.c[name] for name in ("experiment_id", "key", *_KEY)]
    # Replicates that come together do not see each other: they count from the next number on.
    turn = sa.func.row_number().over(partition_by=same_key, order_by=rows.c.ord) - _ONE
    is_replicate = rows.c.on_duplicate == sa.literal_column("'replicate'")
    return {
        **{name: stored_value(evaluations.c[name], rows.c[name]) for name in STORED_FIELDS},
        "id": rows.c.id,
        "experiment_id": rows.c.experiment_id,
        "architecture_id": architectures.c.id,
        "replicate": sa.case((is_replicate, next_replicate + turn), else_=_ZERO),
        "finished_at": _now(),
    }


def _same_key(table: sa.FromClause, rows: sa.FromClause) -> list[sa.ColumnElement[bool]]:
    """Say that evaluations have the key of a row, which is joined with its architecture."""
    experiment = in_experiment(table, sa.cast(rows.c.experiment_id, sa.BigInteger))
    return [
        table.c.architecture_id == architectures.c.id,
        experiment,
        *(table.c[name] == rows.c[name] for name in _KEY),
    ]


def _literals(words: Iterable[str]) -> list[sa.ColumnElement[str]]:
    return [sa.literal_column(f"'{word}'") for word in words]


def _now() -> sa.ColumnElement[Any]:
    """The moment of the batch, as the driver writes it (``Dialect.moment``)."""
    kind = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
    return sa.cast(sa.bindparam("now", type_=kind), kind)
