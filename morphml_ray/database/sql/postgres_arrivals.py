"""The short way on PostgreSQL: a batch is one statement, over one array a column.

The arrays are written here, as the server reads them: the driver would make an object of each value.
"""

from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from morphml_ray.database.sql.arrivals import ARCHITECTURE_FIELDS, STORED_FIELDS, Arrivals, Stored
from morphml_ray.database.sql.driver_errors import sending
from morphml_ray.database.sql.schema import architectures, evaluations

_TEXTS = {"spec": "text", "fitness": "text"}
"""What is no text in its column: bytes come as base64, and a fitness is added up as it is written."""


def _types() -> Mapping[str, str]:
    driver = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    stored = {
        **{name: architectures.c[name] for name in ARCHITECTURE_FIELDS},
        **{name: evaluations.c[name] for name in ("experiment_id", *STORED_FIELDS)},
    }
    types = {name: column.type.compile(driver) for name, column in stored.items()}
    return {**types, **_TEXTS, "may_store": "boolean"}


_ROWS = _types()
_PLACED = ("experiment_id", *STORED_FIELDS)
_PLAIN = [name for name in STORED_FIELDS if name not in _TEXTS]


def _join(names: Iterable[str], form: str = "{0}") -> str:
    return ", ".join(form.format(name, _ROWS.get(name)) for name in names)


_COUNT_FAILURES = """
    failed AS (
        INSERT INTO failures (experiment_id, status, number)
        SELECT experiment_id, status, count(*) FROM placed
        WHERE id_of_architecture IS NOT NULL AND status <> 'succeeded' GROUP BY experiment_id, status
        ON CONFLICT (experiment_id, status) DO UPDATE SET number = failures.number + excluded.number),"""

# Experiments are locked after the architectures are in, so that several writers get that far side by side; and before
# ids are given, so that ids of one experiment become visible in their order. Locks of all writers are taken in one
# order: keys, then experiments, each ascending.
_SAVE = f"""
    WITH rows AS MATERIALIZED (
        SELECT * FROM unnest({_join(_ROWS, "%({0})s::{1}[]")}) WITH ORDINALITY AS rows ({_join(_ROWS)}, ord)),
    added AS (
        INSERT INTO architectures ({_join(ARCHITECTURE_FIELDS)}, created_at)
        SELECT DISTINCT ON (key) {_join(ARCHITECTURE_FIELDS).replace("spec", "decode(spec, 'base64')")},
            %(now)s::timestamptz
        FROM rows WHERE experiment_id IN (
            SELECT id FROM experiments WHERE id = ANY (%(experiments)s::bigint[]) AND NOT is_deleted)
        ORDER BY key, ord
        ON CONFLICT DO NOTHING RETURNING id, key),
    locked AS MATERIALIZED (
        SELECT found.id, found.fitness_sign FROM (SELECT count(*) AS done FROM added) AS waited, experiments AS found
        WHERE found.id = ANY (%(experiments)s::bigint[]) AND NOT found.is_deleted AND waited.done >= 0
        ORDER BY found.id FOR NO KEY UPDATE OF found),
    placed AS (
        SELECT known.*, nextval('evaluations_id_seq') AS id FROM (
            SELECT ord, fitness_sign, added.id AS id_of_architecture, {_join(_PLACED, "rows.{0}")}
            FROM rows JOIN locked ON locked.id = rows.experiment_id
            LEFT JOIN added ON added.key = rows.key AND rows.may_store ORDER BY ord) AS known),
    stored AS (
        INSERT INTO evaluations (id, experiment_id, architecture_id, replicate, fitness, rank_loss, finished_at,
            {_join(_PLAIN)})
        SELECT id, experiment_id, id_of_architecture, 0, fitness::float8, fitness::float8 * fitness_sign,
            %(now)s::timestamptz, {_join(_PLAIN)} FROM placed WHERE id_of_architecture IS NOT NULL),
    counted AS (
        SELECT experiment_id, count(*) AS number, count(fitness) AS succeeded,
            coalesce(sum(fitness::numeric), 0) AS total
        FROM placed WHERE id_of_architecture IS NOT NULL GROUP BY experiment_id),
    {{count_failures}}
    updated AS (
        UPDATE experiments SET num_succeeded = num_succeeded + succeeded, num_failed = num_failed + number - succeeded,
            num_proposals = num_proposals + number, fitness_total = fitness_total + total,
            updated_at = %(now)s::timestamptz
        FROM counted WHERE experiments.id = experiment_id)
    SELECT array_agg(ord ORDER BY ord) FILTER (WHERE id_of_architecture IS NULL),
        CASE WHEN count(*) < %(size)s THEN array_agg(ord ORDER BY ord) END, array_agg(id ORDER BY id),
        (SELECT array_agg(id) FROM locked), (SELECT array_agg(fitness_sign) FROM locked)
    FROM placed"""  # noqa: S608 - names of our own columns
_SAVE_SUCCESSES, _SAVE_ALL = (_SAVE.format(count_failures=one) for one in ("", _COUNT_FAILURES))


def save_arrivals(connection: sa.Connection, rows: Arrivals, experiments: Sequence[int], now: datetime) -> Stored:
    """Store what can go the short way, lock the experiments, and count.

    Args:
        connection: in a transaction.
        rows: the batch; its architectures are stored in any case.
        experiments: to be locked.
        now: when they came.
    """
    columns = {**rows.columns, "experiment_id": rows.experiment_ids, "may_store": rows.may_store}
    statement = _SAVE_SUCCESSES if set(columns["status"]) <= {"succeeded"} else _SAVE_ALL
    with sending():
        arrays = {name: _array(columns[name]) for name in _ROWS}
        shared = {"now": now, "experiments": _array(experiments), "size": len(rows)}
        later, known, ids, *locked = connection.exec_driver_sql(statement, arrays | shared).one()
    indexes = range(len(ids or ())) if known is None else [turn - 1 for turn in known]
    signs = dict(zip(*(numbers or () for numbers in locked), strict=True))
    return Stored(signs, dict(zip(indexes, ids or (), strict=True)), [turn - 1 for turn in later or ()])


def _array(values: Sequence[Any]) -> str:
    """Write an array; most columns of a batch hold one value again and again."""
    distinct = set(values)
    if len(distinct) == 1 and not isinstance(values[0], float):  # of the two zeros a set keeps one
        return "{" + ",".join([_element(*distinct)] * len(values)) + "}"
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, bytes):
        return b2a_base64(value, newline=False).decode() or '""'
    return "NULL" if value is None else repr(value)
