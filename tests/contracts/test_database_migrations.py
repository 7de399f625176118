"""Data of an earlier schema, as its own release wrote them, after the migrations to this one."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from migrating import run

from morphml_ray.config import BackendUrl
from morphml_ray.database.contract import EncodedEvaluation, SaveUnit
from morphml_ray.database.encoding import new_write_id
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.testing.database.caller import best, create, delete, evaluation, only, page, purge_all, save

# What 0002 held after: a first evaluation with parents, a failure, a hit on the first one, and a replicate of it.
FIRST, FAILURE = evaluation(1, 0.5, parents=(7, "g1:0"), generation=2), evaluation(2, None)
HIT = evaluation(1, 0.9, parents=(8,), generation=3)
FORCED = evaluation(1, 0.75, parents=(9,), generation=4, on_duplicate="replicate")
ROWS = [(FIRST, 1, 0, -0.625), (FAILURE, 2, 0, None), (FORCED, 1, 1, None)]
PROPOSALS = [(FIRST, 1, 1, "miss"), (FAILURE, 2, 2, "miss"), (HIT, 1, 1, "hit"), (FORCED, 1, 3, "forced")]

ARCHITECTURE = "INSERT INTO architectures VALUES (:id, :key, :spec, :codec, :n_nodes, :n_edges, :now)"
EVALUATION = """
    INSERT INTO evaluations (id, write_id, experiment_id, architecture_id, protocol_hash, fidelity_key, seed_key,
      replicate, status, fitness, rank_loss, metrics, generation, worker_id, duration_s, error_text, finished_at)
    VALUES (:id, :write_id, :experiment, :architecture, '', '', '', :replicate, :status, :fitness, :loss, :metrics,
      :generation, NULL, 0.0, :error_text, :now)"""
PROPOSAL = """
    INSERT INTO proposals (write_id, experiment_id, architecture_id, evaluation_id, outcome, generation, parents)
    VALUES (:write_id, :experiment, :architecture, :evaluation, :outcome, :generation, :parents)"""
COUNTERS = "UPDATE experiments SET num_succeeded = 2, num_failed = 1, num_proposals = 4, fitness_total = 1.25"
CASTS = {"write_id": "UUID", "metrics": "JSONB", "parents": "JSONB", "now": "TIMESTAMPTZ"}
SEQUENCES = "SELECT setval('architectures_id_seq', 2), setval('evaluations_id_seq', 3)"


def at(url: str) -> SqlDatabase:
    return SqlDatabase(BackendUrl(url), timeout_s=20)


@pytest.fixture
def upgraded(database_url: str) -> Iterator[SqlDatabase]:
    """A database that was filled under 0002, and opened again."""
    with closing(at(database_url)) as older:
        older.open()
        number = create(older)
        assert older._engine is not None
        run(older._engine, command.downgrade, "0002")
        with older._engine.begin() as connection:
            fill(connection, number)
    with closing(at(database_url)) as database:
        database.open()
        yield database


def fill(connection: sa.Connection, number: int) -> None:
    shared: dict[str, Any] = {"experiment": number, "now": "2026-11-24 12:00:00.000000"}
    if connection.dialect.name == "postgresql":
        shared["now"] += "+00"

    def put(statement: str, sent: EncodedEvaluation, **more: object) -> None:
        values = sent._asdict() | shared | more
        if connection.dialect.name == "postgresql":
            for name, kind in CASTS.items():
                statement = statement.replace(f":{name}", f"CAST(:{name} AS {kind})")
        connection.execute(sa.text(statement), values)

    for architecture, one in ((1, FIRST), (2, FAILURE)):
        put(ARCHITECTURE, one, id=architecture)
    for row, (one, architecture, replicate, loss) in enumerate(ROWS, 1):
        put(EVALUATION, one, id=row, architecture=architecture, replicate=replicate, loss=loss)
    for one, architecture, answer, outcome in PROPOSALS:
        put(PROPOSAL, one, architecture=architecture, evaluation=answer, outcome=outcome)
    connection.exec_driver_sql(COUNTERS)
    connection.exec_driver_sql("INSERT INTO failures (experiment_id, status, number) VALUES (1, 'failed', 1)")
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(SEQUENCES)


def test_an_evaluation_is_its_own_proposal(upgraded: SqlDatabase) -> None:
    assert [(row.id, row.parents, row.generation) for row in page(upgraded, "one")] == [
        (1, (7, "g1:0"), 2),
        (2, (), 0),
        (3, (9,), 4),
    ]
    assert upgraded._engine is not None
    with upgraded._engine.connect() as connection:
        left = connection.execute(sa.text("SELECT evaluation_id, outcome, generation FROM proposals ORDER BY id")).all()
    assert list(map(tuple, left)) == [(1, "hit", 3), (3, "forced", 4)]


def test_what_was_written_before_is_written_once(upgraded: SqlDatabase) -> None:
    before = upgraded.get_experiment_statistics("one")
    outcomes = upgraded.save([SaveUnit("one", [one]) for one in (FORCED, HIT, FAILURE, FIRST)])
    assert outcomes == [[3], [1], [2], [1]]
    assert upgraded.get_experiment_statistics("one") == before
    assert (before["num_proposals"], before["num_duplicates"], before["avg_fitness"]) == (4, 1, 0.625)


def test_what_is_written_now_goes_on_from_there(upgraded: SqlDatabase) -> None:
    seeded = evaluation(1, 1.0, seed=1)
    ids = save(upgraded, "one", evaluation(3, 0.6, parents=(1,)), seeded, HIT._replace(write_id=new_write_id()))
    assert ids[0] > 3
    assert ids[2] == 1
    (first, second) = best(upgraded, "one")
    assert (first.id, first.fitness, first.n, second.id, second.parents) == (1, 0.75, 3, ids[0], (1,))
    assert delete(upgraded, "one")
    assert purge_all(upgraded) > 0
    save(upgraded, create(upgraded, "two"), FIRST._replace(write_id=new_write_id()))
    assert only(upgraded, "two").parents == (7, "g1:0")


def test_a_downgrade_gives_each_evaluation_its_row_again(upgraded: SqlDatabase) -> None:
    assert upgraded._engine is not None
    run(upgraded._engine, command.downgrade, "0002")
    with upgraded._engine.connect() as connection:
        found = connection.execute(sa.text("SELECT outcome, count(*) FROM proposals GROUP BY 1 ORDER BY 1")).all()
    assert list(map(tuple, found)) == [("forced", 1), ("hit", 1), ("miss", 2)]
