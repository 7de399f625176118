"""The reads: every one answered in SQL, with an index."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from morphml_ray.database.contract import RECORD_COLUMNS, ExperimentRef, Operator, Row, number_of
from morphml_ray.database.sql.schema import architectures, evaluations, experiments, proposals
from morphml_ray.errors import NotFoundError
from morphml_ray.model.plain import decode_json
from morphml_ray.model.records import EvaluationStatus, ExperimentRecord, ExperimentStatus

_COMPARE: Mapping[Operator, Any] = {
    "<": sa.ColumnElement.__lt__,
    "<=": sa.ColumnElement.__le__,
    ">": sa.ColumnElement.__gt__,
    ">=": sa.ColumnElement.__ge__,
    "==": sa.ColumnElement.__eq__,
    "!=": sa.ColumnElement.__ne__,
}
_IS_SUCCESS = evaluations.c.status == sa.literal_column("'succeeded'")
_PAGE = 64
_LARGEST: sa.ColumnElement[float] = sa.literal_column(repr(sys.float_info.max))


_EXPERIMENT = sa.select(
    *[
        sa.cast(column, sa.Text).label(column.name) if column.name in {"objectives", "config"} else column
        for column in experiments.c
    ]
).where(~experiments.c.is_deleted)


def experiment_row(connection: sa.Connection, experiment: ExperimentRef) -> sa.Row[Any] | None:
    """Look an experiment up; see ``ExperimentRef``."""
    rows = connection.execute(_EXPERIMENT.where(could_mean(experiment))).all()
    return min(rows, key=lambda row: row.name != experiment, default=None)


def named_experiment_row(connection: sa.Connection, name: str) -> sa.Row[Any] | None:
    """Look an experiment up by its name alone."""
    return connection.execute(_EXPERIMENT.where(experiments.c.name == name)).one_or_none()


def could_mean(experiment: ExperimentRef) -> sa.ColumnElement[bool]:
    """Whether an experiment is the one, or one of the two, that a reference could mean."""
    number = number_of(experiment)
    is_number = sa.false() if number is None else experiments.c.id == number
    return is_number if isinstance(experiment, int) else sa.or_(experiments.c.name == experiment, is_number)


def require_experiment(connection: sa.Connection, experiment: ExperimentRef) -> sa.Row[Any]:
    """Look an experiment up that must exist.

    Raises:
        NotFoundError: it does not.
    """
    row = experiment_row(connection, experiment)
    if row is None:
        raise NotFoundError(f"there is no experiment {experiment!r}")
    return row


def experiment_record(row: sa.Row[Any]) -> ExperimentRecord:
    """Turn a row of the table into the record that callers see."""
    return ExperimentRecord(
        id=row.id,
        name=row.name,
        status=row.status,
        optimizer=row.optimizer,
        objectives=dict(decode_json(row.objectives)),
        config=decode_json(row.config),
        identity=row.identity,
        created_at=row.created_at,
        updated_at=row.updated_at,
        completed_at=row.finished_at,
    )


def list_experiments(
    connection: sa.Connection, status: ExperimentStatus | None, limit: int | None, offset: int
) -> list[ExperimentRecord]:
    """See ``Database.list_experiments``."""
    query = _EXPERIMENT.order_by(experiments.c.id)
    if status is not None:
        query = query.where(experiments.c.status == status)
    return [experiment_record(row) for row in connection.execute(query.limit(limit).offset(offset))]


def statistics(connection: sa.Connection, experiment: ExperimentRef) -> dict[str, Any]:
    """See ``Database.get_experiment_statistics``: counters, and the ends of indexes."""
    row = require_experiment(connection, experiment)
    mine = evaluations.c.experiment_id == row.id
    fitness = sa.select(evaluations.c.fitness).where(mine, _IS_SUCCESS).limit(1)
    lowest = fitness.order_by(evaluations.c.fitness).scalar_subquery()
    highest = fitness.order_by(evaluations.c.fitness.desc()).scalar_subquery()
    newest = sa.select(sa.func.max(evaluations.c.generation)).where(mine).scalar_subquery()
    low, high, generation = connection.execute(sa.select(lowest, highest, newest)).one()
    return {
        "experiment_id": row.id,
        "name": row.name,
        "status": row.status,
        "num_evaluations": row.num_succeeded,
        "num_failed": row.num_failed,
        "num_proposals": row.num_proposals,
        "num_duplicates": row.num_proposals - row.num_succeeded - row.num_failed,
        "best_fitness": low if row.fitness_sign > 0 else high,
        "avg_fitness": row.fitness_sum / row.num_succeeded if row.num_succeeded else None,
        "min_fitness": low,
        "max_fitness": high,
        "max_generation": generation,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def list_evaluations(
    connection: sa.Connection,
    experiment: ExperimentRef,
    generation: int | None,
    status: EvaluationStatus | None,
    after_id: int | None,
    limit: int,
) -> list[Row]:
    """See ``Database.list_architectures``."""
    row = require_experiment(connection, experiment)
    query = _select(evaluations.c.fitness).where(evaluations.c.experiment_id == row.id)
    if generation is not None:
        query = query.where(evaluations.c.generation == generation)
    if status is not None:
        query = query.where(evaluations.c.status == status)
    if after_id is not None:
        query = query.where(evaluations.c.id > after_id)
    return _fetch(connection, query.order_by(evaluations.c.id).limit(limit))


def find_by_hash(connection: sa.Connection, architecture_hash: str, experiment: ExperimentRef | None) -> Row | None:
    """See ``Database.get_architecture_by_hash``."""
    row = None if experiment is None else experiment_row(connection, experiment)
    if experiment is not None and row is None:
        return None
    query = (
        _select(evaluations.c.fitness)
        .join(experiments, experiments.c.id == evaluations.c.experiment_id)
        .where(architectures.c.key == architecture_hash, ~experiments.c.is_deleted)
        .order_by(_IS_SUCCESS.desc(), evaluations.c.id)
        .limit(1)
    )
    if row is not None:
        query = query.where(experiments.c.id == row.id)
    return next(iter(_fetch(connection, query)), None)


class Ranking:
    """Top architectures of one experiment, one row each."""

    def __init__(self, connection: sa.Connection, experiment: ExperimentRef) -> None:
        self._connection = connection
        self._experiment = require_experiment(connection, experiment)
        self._sign = self._experiment.fitness_sign
        self._objectives = dict(decode_json(self._experiment.objectives))
        self._is_lead = sa.and_(
            evaluations.c.experiment_id == self._experiment.id, evaluations.c.rank_loss.is_not(None)
        )

    def best(self, top_k: int, metric: str | None, where: Mapping[str, tuple[Operator, float]]) -> list[Row]:
        """See ``Database.get_best_architectures``."""
        if self._is_fitness(metric):
            score: sa.ColumnElement[Any] = evaluations.c.rank_loss
            fitness: sa.ColumnElement[Any] = evaluations.c.rank_loss * self._sign
            query = _select(fitness, score.label("score")).where(self._is_lead)
        else:
            query, score = self._by_metric(str(metric))
        for name, (operator, bound) in where.items():
            query = query.where(_COMPARE[operator](self._value(name), bound))
        return self._first_per_architecture(query.order_by(score, evaluations.c.id), score, top_k)

    def _is_fitness(self, metric: str | None) -> bool:
        return metric in (None, "fitness", next(iter(self._objectives), None))

    def _value(self, name: str) -> sa.ColumnElement[Any]:
        if self._is_fitness(name):
            mean: sa.ColumnElement[Any] = evaluations.c.rank_loss * self._sign
            return mean
        return metric_number(self._connection, evaluations.c.metrics, name)

    def _by_metric(self, metric: str) -> tuple[sa.Select[Any], sa.ColumnElement[Any]]:
        """Rank by the mean of a metric over each group; reads the whole experiment."""
        member = evaluations.alias("member")
        sign = 1 if self._objectives.get(metric) == "min" else -1
        mean = sa.func.avg(metric_number(self._connection, member.c.metrics, metric)) * sign
        group = (member.c.architecture_id, member.c.protocol_hash, member.c.fidelity_key)
        scored = (
            sa.select(*group, mean.label("score"))
            .where(
                member.c.experiment_id == self._experiment.id,
                member.c.status == sa.literal_column("'succeeded'"),
            )
            .group_by(*group)
            .having(mean.is_not(None))
            .subquery("scored")
        )
        same = sa.and_(*(scored.c[column.name] == evaluations.c[column.name] for column in group))
        query = _select(evaluations.c.rank_loss * self._sign, scored.c.score.label("score")).join(scored, same)
        return query.where(self._is_lead), scored.c.score

    def _first_per_architecture(self, query: sa.Select[Any], score: sa.ColumnElement[Any], top_k: int) -> list[Row]:
        """Take the best group of each architecture; an architecture has a group for each fidelity."""
        best: dict[str, Row] = {}
        for row in self._pages(query, score, max(top_k, _PAGE)):
            best.setdefault(row.architecture_hash, _plain(row))
            if len(best) >= top_k:
                break
        return list(best.values())

    def _pages(self, query: sa.Select[Any], score: sa.ColumnElement[Any], size: int) -> Iterator[sa.Row[Any]]:
        page = query
        while True:
            rows = list(self._connection.execute(page.limit(size)))
            yield from rows
            if len(rows) < size:
                return
            last = rows[-1]
            page = query.where(sa.tuple_(score, evaluations.c.id) > sa.tuple_(last.score, last.id))


def metric_number(connection: sa.Connection, metrics: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
    """Give a metric's number; NULL where it is missing, no number, or an int beyond all floats."""
    if connection.dialect.name == "postgresql":
        value = sa.func.jsonb_extract_path(metrics, name)
        text = sa.func.jsonb_extract_path_text(metrics, name)
        is_number = sa.func.jsonb_typeof(value) == sa.literal_column("'number'")
        # Nested: only what is a number can be cast.
        is_float = sa.func.abs(sa.cast(text, sa.Numeric)) <= _LARGEST
        number = sa.case((is_float, sa.cast(text, sa.Double)), else_=sa.null())
        return sa.case((is_number, number), else_=sa.null())
    each = sa.func.json_each(metrics).table_valued("key", "value", "type", joins_implicitly=True)
    is_number = each.c.type.in_(["integer", "real"])
    is_float = sa.func.abs(each.c.value) <= _LARGEST
    return sa.select(each.c.value).where(each.c.key == name, is_number, is_float).scalar_subquery()


_found = evaluations.c
_RECORD: Mapping[str, sa.ColumnElement[Any]] = {
    "architecture_hash": architectures.c.key,
    "spec": architectures.c.spec,
    "codec": architectures.c.codec,
    "metrics": sa.cast(_found.metrics, sa.Text),
    "duration": _found.duration_s,
    "evaluated_at": _found.finished_at,
    "seed": _found.seed_key,
    "fidelity": _found.fidelity_key,
    "parents": sa.cast(proposals.c.parents, sa.Text),
    "error": _found.error_text,
}
"""Of ``RECORD_COLUMNS`` those that are no column of an evaluation, or are called otherwise there."""


def _select(fitness: sa.ColumnElement[Any], *more: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Select ``RECORD_COLUMNS``, with ``fitness`` as told, and more behind them."""
    columns = {name: _RECORD[name] if name in _RECORD else _found[name] for name in RECORD_COLUMNS} | {
        "fitness": fitness
    }
    return (
        sa.select(*(column.label(name) for name, column in columns.items()), *more)
        .join_from(evaluations, architectures, architectures.c.id == _found.architecture_id)
        .outerjoin(proposals, proposals.c.write_id == _found.write_id)
    )


def _fetch(connection: sa.Connection, query: sa.Select[Any]) -> list[Row]:
    return [_plain(row) for row in connection.execute(query)]


def _plain(row: Sequence[Any]) -> Row:
    """Give ``RECORD_COLUMNS``, with bytes where a driver gives a memoryview."""
    values = row[: len(RECORD_COLUMNS)]
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in values)
