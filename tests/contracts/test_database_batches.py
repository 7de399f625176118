"""Storing a batch in one transaction gives what a plain model gives that stores its evaluations one by one."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from database_model import FAILURE, Comparison, Saved, Unit, batches
from hypothesis import given, settings

from morphml_ray.config import BackendUrl
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.model.records import OnDuplicate


@pytest.fixture(scope="module")
def sqlite_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlDatabase]:
    database = SqlDatabase(BackendUrl(f"sqlite:///{tmp_path_factory.mktemp('batches')}/morphml.db"))
    with closing(database):
        database.open()
        yield database


def check(database: SqlDatabase, batches: list[list[Unit]]) -> None:
    comparison = Comparison(database)
    comparison.check()
    for batch in batches:
        comparison.save(batch)


@settings(max_examples=30, deadline=None)
@given(batches=batches)
def test_sqlite_stores_a_batch_as_one_by_one(sqlite_database: SqlDatabase, batches: list[list[Unit]]) -> None:
    check(sqlite_database, batches)


@settings(max_examples=10, deadline=None)
@given(batches=batches)
def test_postgres_stores_a_batch_as_one_by_one(postgres_database: SqlDatabase, batches: list[list[Unit]]) -> None:
    check(postgres_database, batches)


def sent(
    fitness: float, on_duplicate: OnDuplicate = "keep_first", architecture: int = 0, seed: int | None = None
) -> Saved:
    return Saved(architecture, fitness, on_duplicate, seed, None, 0, None)


@pytest.mark.parametrize(
    "evaluations",
    [
        [sent(FAILURE), sent(FAILURE), sent(0.5), sent(FAILURE)],
        [sent(FAILURE, "replicate"), sent(FAILURE), sent(0.5, "replicate"), sent(0.25)],
        [sent(FAILURE, seed=1), sent(0.5, seed=1), sent(0.5, seed=2)],
        [sent(0.5, "replicate"), sent(0.5, "replicate"), sent(0.5, architecture=1), sent(0.5, "replicate")],
        [sent(0.25), sent(0.5, "keep_best"), sent(0.25, "keep_best"), sent(1.0, "keep_best"), sent(0.5, "keep_best")],
        [sent(0.25, "keep_best"), sent(0.5, "replicate"), sent(1.0, "keep_best"), sent(FAILURE, "keep_best")],
    ],
)
def test_batches_that_were_stored_otherwise_once(
    sqlite_database: SqlDatabase, postgres_database: SqlDatabase, evaluations: list[Saved]
) -> None:
    for database in (sqlite_database, postgres_database):
        together = [Unit(0, by_name=False, evaluations=evaluations)]
        apart = [Unit(1, by_name=True, evaluations=[one]) for one in evaluations]
        check(database, [together + apart])
        check(database, [together, *([unit] for unit in apart)])
