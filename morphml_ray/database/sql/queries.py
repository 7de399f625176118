"""The reads: every one answered in SQL, with an index."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from morphml_ray.database.contract import ExperimentRef, number_of
from morphml_ray.database.sql.groups import in_experiment, is_success
from morphml_ray.database.sql.schema import architectures, evaluations, experiments, failures
from morphml_ray.database.sql.totals import mean_of
from morphml_ray.database.wire import RECORD_COLUMNS, Row
from morphml_ray.errors import CorruptDataError, NotFoundError
from morphml_ray.model.plain import decode_json
from morphml_ray.model.records import EvaluationStatus, ExperimentRecord, ExperimentStatus

_logger = logging.getLogger(__name__)

_IS_SUCCESS = is_success()


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
    """Turn a row of the table into the record that callers see.

    Raises:
        CorruptDataError: its JSON cannot be read back; the message names the experiment.
    """
    try:
        objectives, config = dict(decode_json(row.objectives)), decode_json(row.config)
    except CorruptDataError as error:
        raise CorruptDataError(f"the experiment {row.name!r} ({row.id}) cannot be read back: {error}") from error
    return ExperimentRecord(
        id=row.id,
        name=row.name,
        status=row.status,
        optimizer=row.optimizer,
        objectives=objectives,
        config=config,
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
    found = []
    for row in connection.execute(query.limit(limit).offset(offset)):
        try:
            found.append(experiment_record(row))
        except CorruptDataError as error:
            _logger.warning("left out of a listing: %s", error)
    return found


def statistics(connection: sa.Connection, experiment: ExperimentRef) -> dict[str, Any]:
    """See ``Database.get_experiment_statistics``: counters, and the ends of indexes."""
    row = require_experiment(connection, experiment)
    mine = evaluations.c.experiment_id == row.id
    fitness = sa.select(evaluations.c.fitness).where(mine, _IS_SUCCESS).limit(1)
    lowest = fitness.order_by(evaluations.c.fitness).scalar_subquery()
    highest = fitness.order_by(evaluations.c.fitness.desc()).scalar_subquery()
    newest = sa.select(sa.func.max(evaluations.c.generation)).where(mine).scalar_subquery()
    is_ranked = evaluations.c.rank_loss.is_not(None)
    least = sa.select(sa.func.min(evaluations.c.rank_loss)).where(mine, is_ranked).scalar_subquery()
    low, high, generation, best = connection.execute(sa.select(lowest, highest, newest, least)).one()
    counted = sa.select(failures.c.status, failures.c.number).where(failures.c.experiment_id == row.id)
    return {
        "experiment_id": row.id,
        "name": row.name,
        "status": row.status,
        "num_evaluations": row.num_succeeded,
        "num_failed": row.num_failed,
        "failures": {one.status: one.number for one in connection.execute(counted.order_by(failures.c.status))},
        "num_proposals": row.num_proposals,
        "num_duplicates": row.num_proposals - row.num_succeeded - row.num_failed,
        "best_fitness": None if best is None else best * row.fitness_sign,
        "avg_fitness": mean_of(row.fitness_total, row.num_succeeded),
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
    query = select_records(evaluations.c.fitness).where(evaluations.c.experiment_id == row.id)
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
        select_records(evaluations.c.fitness)
        .join(experiments, experiments.c.id == evaluations.c.experiment_id)
        .where(architectures.c.key == architecture_hash, ~experiments.c.is_deleted)
        .order_by(_IS_SUCCESS.desc(), evaluations.c.id)
        .limit(1)
    )
    if row is not None:
        query = query.where(experiments.c.id == row.id)
    return next(iter(_fetch(connection, query)), None)


def find_evaluation(
    connection: sa.Connection, experiment: ExperimentRef, architecture_hash: str, fidelity_key: str, seed_key: str
) -> Row | None:
    """See ``Database.find_evaluation``."""
    row = require_experiment(connection, experiment)
    query = (
        select_records(evaluations.c.fitness)
        .where(
            architectures.c.key == architecture_hash,
            in_experiment(evaluations, row.id),
            evaluations.c.fidelity_key == fidelity_key,
            evaluations.c.seed_key == seed_key,
        )
        .order_by(_IS_SUCCESS.desc(), evaluations.c.id)
        .limit(1)
    )
    return next(iter(_fetch(connection, query)), None)


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
    "parents": sa.cast(_found.parents, sa.Text),
    "error": _found.error_text,
    "n": sa.literal_column("1", sa.Integer),
    "std": sa.null(),
}
"""Of ``RECORD_COLUMNS`` those that are no column of an evaluation, or are called otherwise there."""


def select_records(fitness: sa.ColumnElement[Any], *more: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Select ``RECORD_COLUMNS``, with ``fitness`` as told, and more behind them."""
    columns = {name: _RECORD[name] if name in _RECORD else _found[name] for name in RECORD_COLUMNS} | {
        "fitness": fitness
    }
    selected = sa.select(*(column.label(name) for name, column in columns.items()), *more)
    return selected.join_from(evaluations, architectures, architectures.c.id == _found.architecture_id)


def _fetch(connection: sa.Connection, query: sa.Select[Any]) -> list[Row]:
    return [plain_row(row) for row in connection.execute(query)]


def plain_row(row: Sequence[Any]) -> Row:
    """Give ``RECORD_COLUMNS``, with bytes where a driver gives a memoryview."""
    values = row[: len(RECORD_COLUMNS)]
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in values)
