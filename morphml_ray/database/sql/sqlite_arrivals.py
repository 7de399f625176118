"""The short way on SQLite: the one writer knows the next ids, so rows are inserted and nothing is looked up again."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import sqlalchemy as sa

from morphml_ray.database.sql.arrivals import ARCHITECTURE_FIELDS, STORED_FIELDS, Arrivals, Stored
from morphml_ray.database.sql.driver_errors import driving
from morphml_ray.database.sql.totals import Totals

_LOOK = """
    SELECT 'experiment', id, fitness_sign FROM experiments
    WHERE id IN (SELECT value FROM json_each(:experiments)) AND NOT is_deleted
    UNION ALL SELECT 'last', name, seq FROM sqlite_sequence
    UNION ALL SELECT 'key', key, NULL FROM architectures WHERE key IN (SELECT value FROM json_each(:keys))"""
"""What the short way must know, in one question."""


def _insert(table: str, *names: str) -> str:
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 - names of our own columns


_INSERT_ARCHITECTURES = _insert("architectures", "id", "created_at", *ARCHITECTURE_FIELDS)
_INSERT_EVALUATIONS = _insert(
    "evaluations",
    *("id", "architecture_id", "experiment_id", "replicate", "finished_at", "rank_loss"),
    *STORED_FIELDS,
)


def save_arrivals(
    connection: sa.Connection, rows: Arrivals, experiments: Sequence[int], now: str, totals: Totals
) -> Stored:
    """Store what can go the short way; see ``postgres_arrivals.save_arrivals``.

    Args:
        connection: in a transaction.
        rows: the batch; its architectures are stored in any case.
        experiments: that it is for.
        now: when they came, as it is stored.
        totals: what is stored is counted there.
    """
    with driving(connection) as driver:
        signs, last, known_keys = _look(driver, rows, experiments)
        known = [index for index, number in enumerate(rows.experiment_ids) if number in signs]
        ids = _number(known, last.get("evaluations", 0))
        keys = rows.columns["key"]
        first = {keys[index]: index for index in reversed(known) if keys[index] not in known_keys}
        places = _number(sorted(first.values()), last.get("architectures", 0))
        stored = [index for index in places if rows.may_store[index]]
        picked = _columns(rows, ARCHITECTURE_FIELDS, places)
        _insert_all(driver, _INSERT_ARCHITECTURES, places.values(), repeat(now), *picked)
        _insert_all(
            driver,
            _INSERT_EVALUATIONS,
            (ids[index] for index in stored),
            (places[index] for index in stored),
            (rows.experiment_ids[index] for index in stored),
            repeat(0),
            repeat(now),
            _losses(rows, stored, signs),
            *_columns(rows, STORED_FIELDS, stored),
        )
    for index in stored:
        totals.count(rows.experiment_ids[index], rows.columns["status"][index], rows.columns["fitness"][index])
    return Stored(signs, ids, sorted(set(known).difference(stored)))


def _look(
    driver: sqlite3.Connection, rows: Arrivals, experiments: Sequence[int]
) -> tuple[Mapping[int, int], Mapping[str, int], Mapping[str, None]]:
    """Find the signs of experiments, the last ids, and the keys that are there."""
    found: dict[str, dict[Any, Any]] = {"experiment": {}, "last": {}, "key": {}}
    asked = {"experiments": json.dumps(experiments), "keys": json.dumps(rows.columns["key"])}
    for kind, name, value in driver.execute(_LOOK, asked):
        found[kind][name] = value
    return found["experiment"], found["last"], found["key"]


def _number(indexes: Sequence[int], last: int) -> dict[int, int]:
    return dict(zip(indexes, range(last + 1, last + 1 + len(indexes)), strict=True))


def _columns(rows: Arrivals, names: Sequence[str], indexes: Collection[int]) -> Iterator[Iterable[Any]]:
    """Pick rows out of columns."""
    for name in names:
        column = rows.columns[name]
        yield column if len(indexes) == len(rows) else [column[index] for index in indexes]


def _losses(rows: Arrivals, indexes: Sequence[int], signs: Mapping[int, int]) -> Iterator[float | None]:
    for index in indexes:
        fitness = rows.columns["fitness"][index]
        yield None if fitness is None else fitness * signs[rows.experiment_ids[index]]


def _insert_all(driver: sqlite3.Connection, statement: str, *columns: Iterable[Any]) -> None:
    rows = list(zip(*columns, strict=False))  # some repeat one value without an end
    if rows:
        driver.executemany(statement, rows)
