"""Writes to the table of experiments."""

from datetime import datetime

import sqlalchemy as sa

from morphml_ray.database.contract import ExperimentRef, NewExperiment
from morphml_ray.database.sql.dialects import Dialect
from morphml_ray.database.sql.queries import could_mean, require_experiment
from morphml_ray.database.sql.schema import evaluations, events, experiments, proposals
from morphml_ray.errors import AlreadyExistsError, ValidationError
from morphml_ray.model.plain import encode_json
from morphml_ray.model.records import ExperimentStatus

_FINAL = ("completed", "failed")


def create(connection: sa.Connection, dialect: Dialect, new: NewExperiment, now: datetime) -> int:
    """See ``Database.create_experiment``."""
    first = new.objectives[0][1] if new.objectives else "max"
    values = {
        "write_id": new.write_id,
        "name": new.name,
        "status": "running",
        "optimizer": new.optimizer,
        "objectives": _json([list(pair) for pair in new.objectives]),
        "fitness_sign": 1 if first == "min" else -1,
        "config": sa.cast(sa.literal(new.config, sa.Text), experiments.c.config.type),
        "identity": new.identity,
        "created_at": now,
        "updated_at": now,
    }
    added = connection.execute(dialect.insert(experiments).values(values).on_conflict_do_nothing()).rowcount
    # A repeated write finds its experiment also where that was deleted, and its name taken, in between.
    is_repeat = experiments.c.write_id == new.write_id
    query = (
        sa.select(experiments.c.id, experiments.c.write_id)
        .where(sa.or_(is_repeat, experiments.c.name == new.name))
        .order_by(is_repeat.desc())
        .limit(1)
    )
    row = connection.execute(query).one()
    if added:
        _note(connection, row.id, "created", {}, now)
    elif row.write_id != new.write_id and new.if_exists == "error":
        raise AlreadyExistsError(
            f"there is an experiment {new.name!r} already: choose another name, or if_exists='reuse'"
        )
    return int(row.id)


def update_status(
    connection: sa.Connection, experiment: ExperimentRef, status: ExperimentStatus, now: datetime
) -> None:
    """See ``Database.update_experiment_status``."""
    row = require_experiment(connection, experiment)
    values = {"status": status, "updated_at": now, "finished_at": now if status in _FINAL else None}
    connection.execute(sa.update(experiments).where(experiments.c.id == row.id).values(values))
    _note(connection, row.id, "status", {"from": row.status, "to": status}, now)


def delete(connection: sa.Connection, experiment: ExperimentRef, now: datetime) -> bool:
    """See ``Database.delete_experiment``."""
    rows = connection.execute(sa.select(experiments).where(could_mean(experiment), ~experiments.c.is_deleted)).all()
    if not rows:
        return False
    if isinstance(experiment, str) and any(row.name != experiment for row in rows):
        (row,) = (row for row in rows if row.name != experiment)
        raise ValidationError(
            f"{experiment!r} may mean the experiment {row.name!r} with that id: to delete it pass the int {row.id}, to "
            "delete another pass its int"
        )
    (row,) = rows
    # The name is free again at once; the row goes when the last of its evaluations has gone.
    values = {"is_deleted": True, "name": f"{row.name}\t{row.write_id}", "updated_at": now}
    connection.execute(sa.update(experiments).where(experiments.c.id == row.id).values(values))
    return True


def purge(connection: sa.Connection, limit: int) -> int:
    """See ``Database.purge``."""
    gone = sa.select(experiments.c.id).where(experiments.c.is_deleted).limit(1)
    experiment_id = connection.execute(gone).scalar_one_or_none()
    if experiment_id is None:
        return 0
    for table in (proposals, evaluations):
        some = sa.select(table.c.id).where(table.c.experiment_id == experiment_id).limit(limit)
        freed = connection.execute(sa.delete(table).where(table.c.id.in_(some))).rowcount
        if freed:
            return freed
    return connection.execute(sa.delete(experiments).where(experiments.c.id == experiment_id)).rowcount


def _note(connection: sa.Connection, experiment_id: int, kind: str, detail: object, now: datetime) -> None:
    values = {"experiment_id": experiment_id, "kind": kind, "detail": _json(detail), "created_at": now}
    connection.execute(sa.insert(events).values(values))


def _json(value: object) -> sa.ColumnElement[str]:
    return sa.cast(sa.literal(encode_json(value), sa.Text), events.c.detail.type)
