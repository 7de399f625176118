"""A process that dies between any two steps of a save, and the same save once more: it is stored once, and whole."""

import json
import subprocess
import sys
from typing import Any

import pytest

# Each phase runs in a child of one small process, which never opens a database itself: so it can be forked.
SCRIPT = """
import json, os, sys
from contextlib import closing
import sqlalchemy as sa
from morphml_ray.config import BackendUrl
from morphml_ray.database.contract import SaveUnit
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.database.sql.postgres_connection import PostgresCursor
from morphml_ray.testing.database.caller import best, create, evaluation, page, save

KILLED = 9

def batch():
    return [
        evaluation(1, 0.5), evaluation(2, None), evaluation(10, 0.9),
        evaluation(11, 0.95, generation=4, on_duplicate="keep_best"),
        evaluation(12, 0.25, on_duplicate="replicate"), evaluation(13, 0.75, seed=1), evaluation(1, 0.25, seed=2),
    ]

def prepare(database, name):
    save(database, create(database, name), *[evaluation(n, n / 32) for n in range(10, 14)])

def die_at(database, step):
    steps = iter(range(step))
    def count(*_):
        if next(steps, None) is None:
            os._exit(KILLED)
    if url.startswith("sqlite"):
        # It tells of a statement when that begins; so what follows the commit is a statement that reads.
        sa.event.listen(database._engine, "checkout", lambda raw, *_: raw.set_trace_callback(count))
        return
    execute = PostgresCursor.execute
    def dying(cursor, query, variables=None):
        count()
        execute(cursor, query, variables)
        count()
    PostgresCursor.execute = dying

def told(database, name):
    known = database.get_experiment_statistics(name)
    rows = page(database, name)
    return {
        "counters": [known[word] for word in ("num_evaluations", "num_failed", "num_proposals", "avg_fitness")],
        "rows": [[row.architecture["number"], row.fitness, row.status, row.replicate, row.seed, row.generation]
                 for row in rows],
        "best": [[row.architecture["number"], row.fitness, row.n] for row in best(database, name)],
    }

def child(work, *arguments):
    pid = os.fork()
    if not pid:
        with closing(SqlDatabase(BackendUrl(url), timeout_s=20)) as database:
            database.open()
            work(database, *arguments)
            sys.stdout.flush()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def first_try(database, name, sent, step):
    prepare(database, name)
    if step is not None:
        die_at(database, step)
    save(database, name, *sent)
    database.list_experiments(None, 1, 0)

def second_try(database, name, sent):
    save(database, name, *sent)
    print(json.dumps(told(database, name)))

url = sys.argv[1]
for step in (None, *range(100)):
    sent, name = batch(), f"killed at {step}"
    code = child(first_try, name, sent, step)
    assert code in (0, KILLED), code
    assert child(second_try, name, sent) == 0
    if code == 0 and step is not None:
        break
"""


@pytest.mark.timeout(240)
def test_a_save_survives_the_death_of_its_process_at_any_step(database_url: str) -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT, database_url], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    whole, *others = map(json.loads, run.stdout.splitlines())
    assert len(others) >= 8, "a save takes more steps than that"
    expected: list[Any] = [whole] * len(others)
    assert others == expected
