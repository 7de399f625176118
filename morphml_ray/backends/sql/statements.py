"""The statements of the write path, built once a database."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from morphml_ray.backends.sql.dialects import Columns, Dialect
from morphml_ray.backends.sql.schema import ACTIVE, WriteId, architectures, evaluations, proposals

_KEY = ("protocol_hash", "fidelity_key", "seed_key")

ARCHITECTURE_COLUMNS: Columns = {
    "key": sa.Text(),
    "spec": sa.LargeBinary(),
    "codec": sa.Text(),
    "n_nodes": sa.Integer(),
    "n_edges": sa.Integer(),
}

EVALUATION_COLUMNS: Columns = {
    "write_id": sa.Text(),
    "experiment_id": sa.BigInteger(),
    "fitness_sign": sa.Integer(),
    "key": sa.Text(),
    "protocol_hash": sa.Text(),
    "fidelity_key": sa.Text(),
    "seed_key": sa.Text(),
    "on_duplicate": sa.Text(),
    "status": sa.Text(),
    "fitness": sa.Double(),
    "metrics": sa.Text(),
    "generation": sa.BigInteger(),
    "worker_id": sa.Text(),
    "duration_s": sa.Double(),
    "error_class": sa.Text(),
    "error_text": sa.Text(),
    "is_lead": sa.Boolean(),
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

LOOKUP_COLUMNS = ("write_id", "experiment_id", "key", *_KEY)


class SaveStatements:
    """Each statement runs over rows to come: ``Dialect.source`` or ``Dialect.texts``.

    Attributes:
        insert_architectures: over ``ARCHITECTURE_COLUMNS``, with ``now``; what is there stays.
        insert_evaluations: over ``EVALUATION_COLUMNS``, with ``now``; leaves out what has its answer.
        insert_proposals: over ``PROPOSAL_COLUMNS``.
        find_written: write id -> evaluation, of writes that happened already.
        find_added: write id -> evaluation, of rows just inserted.
        find_answers: over ``LOOKUP_COLUMNS``; of several answers to a key the one that counts comes last.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.insert_architectures = self._build_insert_architectures()
        self.insert_evaluations = self._build_insert_evaluations()
        self.insert_proposals = self._build_insert_proposals()
        self.find_written = self._build_find_written()
        self.find_added = self._build_find_added()
        self.find_answers = self._build_find_answers()

    def _build_insert_architectures(self) -> sa.Executable:
        rows = self._dialect.source(ARCHITECTURE_COLUMNS)
        columns = [*ARCHITECTURE_COLUMNS, "created_at"]
        new = sa.select(
            *[rows.c[name] for name in ARCHITECTURE_COLUMNS], sa.bindparam("now", type_=_type("created_at"))
        ).where(sa.true())
        insert = self._dialect.insert(architectures).from_select(columns, new)
        executable: sa.Executable = insert.on_conflict_do_nothing()
        return executable

    def _build_insert_evaluations(self) -> sa.Executable:
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
        insert = self._dialect.insert(evaluations).from_select(list(values), new)
        executable: sa.Executable = insert.on_conflict_do_nothing()
        return executable

    def _build_insert_proposals(self) -> sa.Executable:
        rows = self._dialect.source(PROPOSAL_COLUMNS)
        values: dict[str, Any] = {name: rows.c[name] for name in PROPOSAL_COLUMNS}
        values["write_id"] = sa.cast(rows.c.write_id, WriteId)
        values["parents"] = sa.cast(rows.c.parents, proposals.c.parents.type)
        new = sa.select(*values.values()).order_by(rows.c.ord)
        return sa.insert(proposals).from_select(list(values), new)

    def _build_find_written(self) -> sa.Executable:
        rows = self._dialect.texts(["write_id"])
        on = proposals.c.write_id == sa.cast(rows.c.write_id, WriteId)
        return sa.select(proposals.c.write_id, proposals.c.evaluation_id).join_from(rows, proposals, on)

    def _build_find_added(self) -> sa.Executable:
        rows = self._dialect.texts(["write_id"])
        found = evaluations.c
        on = found.write_id == sa.cast(rows.c.write_id, WriteId)
        return sa.select(found.write_id, found.id, found.architecture_id, found.rank_loss).join_from(
            rows, evaluations, on
        )

    def _build_find_answers(self) -> sa.Executable:
        rows = self._dialect.texts(LOOKUP_COLUMNS)
        found = evaluations.c
        return (
            sa.select(rows.c.write_id, found.id, found.architecture_id, found.fitness)
            .join_from(rows, architectures, architectures.c.key == rows.c.key)
            .join(evaluations, sa.and_(*_same_key(evaluations, rows, architectures.c.id)))
            .order_by(found.status == sa.literal_column("'succeeded'"), found.id.desc())
        )


def _evaluation_values(rows: sa.FromClause) -> dict[str, Any]:
    """Columns of a new evaluation, by name, from ``rows`` joined with its architecture."""
    earlier, twin = evaluations.alias("earlier"), evaluations.alias("twin")
    is_replicate = rows.c.on_duplicate == sa.literal_column("'replicate'")
    next_replicate = (
        sa.select(sa.func.coalesce(sa.func.max(earlier.c.replicate) + 1, 0))
        .where(*_same_key(earlier, rows, architectures.c.id))
        .scalar_subquery()
    )
    same_key = [rows.c[name] for name in ("experiment_id", "key", *_KEY)]
    # Replicates that come together do not see each other: they count from the next number on.
    turn = sa.func.row_number().over(partition_by=same_key, order_by=rows.c.ord) - 1
    has_twin = sa.exists().where(
        *_same_group(twin, rows, architectures.c.id), twin.c.status == sa.literal_column("'succeeded'")
    )
    is_first = sa.and_(rows.c.is_lead, sa.not_(has_twin))
    return {
        "write_id": sa.cast(rows.c.write_id, WriteId),
        "experiment_id": rows.c.experiment_id,
        "architecture_id": architectures.c.id,
        **{name: rows.c[name] for name in _KEY},
        "replicate": sa.case((is_replicate, next_replicate + turn), else_=0),
        "status": rows.c.status,
        "fitness": rows.c.fitness,
        "rank_loss": sa.case((is_first, rows.c.fitness * rows.c.fitness_sign), else_=sa.null()),
        "metrics": sa.cast(rows.c.metrics, evaluations.c.metrics.type),
        **{name: rows.c[name] for name in ("generation", "worker_id", "duration_s", "error_class", "error_text")},
        "finished_at": sa.bindparam("now", type_=_type("created_at")),
    }


def _same_group(
    table: sa.FromClause, rows: sa.FromClause, architecture_id: sa.ColumnElement[int]
) -> list[sa.ColumnElement[bool]]:
    # The addition keeps planners with stale statistics from walking a whole experiment through another index.
    experiment_id = table.c.experiment_id + sa.literal_column("0")
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


def _type(name: str) -> Any:
    return architectures.c[name].type
