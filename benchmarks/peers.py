"""How others record results: bulk inserts, a connection a worker, and Optuna's storages."""

import contextlib
import functools
import hashlib
import itertools
import json
import socket
import sqlite3
import threading
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import optuna
import psycopg2
import ray
import sqlalchemy as sa
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState
from psycopg2.extras import execute_values
from sqlalchemy.dialects import postgresql, sqlite
from workload import OBJECTIVES, POOL, Workload

from morphml_ray import StorageConfig
from morphml_ray.database.contract import EncodedEvaluation
from morphml_ray.database.encoding import encode_experiment, new_write_id
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.database.sql.schema import architectures, evaluations

_LOOPBACK = "127.0.0.1"
_BUSY_S = 60
_READY_S = 30.0
_PREPARED_BATCHES = 60

_INSERT_ARCHITECTURES = """
    INSERT INTO architectures (key, spec, codec, n_nodes, n_edges, created_at) VALUES %s RETURNING id"""
_INSERT_EVALUATIONS = """
    INSERT INTO evaluations (write_id, experiment_id, architecture_id, protocol_hash, fidelity_key, seed_key,
      replicate, status, fitness, rank_loss, metrics, generation, worker_id, duration_s, parents, finished_at)
    VALUES %s RETURNING id"""


def create_schema(url: str) -> int:
    """Give a database our tables and one experiment; gives the experiment's id."""
    database = SqlDatabase(StorageConfig(database=url).database_url)
    database.open()
    try:
        return database.create_experiment(encode_experiment("peer", {}, OBJECTIVES, "error"))
    finally:
        database.close()


@dataclass(frozen=True)
class ExecuteValues:
    """psycopg2's ``execute_values``: one connection, ``POOL`` rows a table and commit, no question asked.

    Attributes:
        url: of a PostgreSQL database with our tables.
        experiment_id: of an experiment in it.
        is_encoding: encode every row from its graph, as our callers do; else the rows are there beforehand.
    """

    url: str
    experiment_id: int
    is_encoding: bool = False

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""
        batches = workload.encoded if self.is_encoding else prepared_batches(workload)
        with contextlib.closing(psycopg2.connect(self.url)) as connection:

            def step() -> int:
                with connection, connection.cursor() as cursor:
                    self._insert(cursor, batches())
                return POOL

            yield step

    def _insert(self, cursor: Any, batch: list[EncodedEvaluation]) -> None:
        now, insert = datetime.now(timezone.utc), functools.partial(execute_values, cursor, page_size=POOL)
        rows: list[tuple[Any, ...]] = [(e.key, e.spec, e.codec, e.n_nodes, e.n_edges, now) for e in batch]
        keys = [row[0] for row in insert(_INSERT_ARCHITECTURES, rows, fetch=True)]
        rows = [
            (
                *(e.write_id, self.experiment_id, key, e.protocol_hash, e.fidelity_key, e.seed_key, 0, e.status),
                *(e.fitness, -(e.fitness or 0.0), e.metrics, e.generation, e.worker_id, e.duration_s, e.parents, now),
            )
            for e, key in zip(batch, keys, strict=True)
        ]
        insert(_INSERT_EVALUATIONS, rows, fetch=True)


_ARCHITECTURE_ROW = (
    "INSERT INTO architectures (id, key, spec, codec, n_nodes, n_edges, created_at) VALUES (?,?,?,?,?,?,?)"
)
_EVALUATION_ROW = """
    INSERT INTO evaluations (id, write_id, experiment_id, architecture_id, protocol_hash, fidelity_key, seed_key,
      replicate, status, fitness, rank_loss, metrics, generation, worker_id, duration_s, parents, finished_at)
    VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"""


@dataclass(frozen=True)
class Executemany:
    """sqlite3's ``executemany``: one connection, ``POOL`` rows a table and commit, no question asked.

    Attributes:
        path: of a file with our tables.
        experiment_id: of an experiment in it.
    """

    path: str
    experiment_id: int

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""
        batches = prepared_batches(workload)
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM evaluations").fetchone()
            ids = itertools.count(last + 1)

            def step() -> int:
                connection.execute("BEGIN")
                self._insert(connection, batches(), ids)
                connection.execute("COMMIT")
                return POOL

            yield step

    def _insert(self, connection: sqlite3.Connection, batch: list[EncodedEvaluation], ids: Iterator[int]) -> None:
        now = str(datetime.now(timezone.utc))
        numbered = list(zip(ids, batch, strict=False))
        connection.executemany(
            _ARCHITECTURE_ROW, [(n, e.key, e.spec, e.codec, e.n_nodes, e.n_edges, now) for n, e in numbered]
        )
        rows = [
            (
                *(n, e.write_id, self.experiment_id, n, e.protocol_hash, e.fidelity_key, e.seed_key, 0, e.status),
                *(e.fitness, -(e.fitness or 0.0), e.metrics, e.generation, e.worker_id, e.duration_s, e.parents, now),
            )
            for n, e in numbered
        ]
        connection.executemany(_EVALUATION_ROW, rows)


def prepared_batches(workload: Workload) -> Callable[[], list[EncodedEvaluation]]:
    """Make batches beforehand, and further ones at little cost when they run out."""
    templates = workload.encoded()
    ready = deque(workload.renamed(templates) for _ in range(_PREPARED_BATCHES))
    return lambda: ready.popleft() if ready else workload.renamed(templates)


@dataclass(frozen=True)
class OwnConnection:
    """What people write themselves: each worker has its SQLAlchemy connection, and commits each result.

    The architecture's key is a hash of its JSON, which is cheaper than ours and takes renumbered graphs for new ones.

    Attributes:
        url: of a database with our tables, as SQLAlchemy reads it.
        experiment_id: of an experiment in it.
    """

    url: str
    experiment_id: int

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""
        is_sqlite = self.url.startswith("sqlite")
        insert: Callable[[sa.Table], Any] = sqlite.insert if is_sqlite else postgresql.insert
        engine = sa.create_engine(self.url, connect_args={"timeout": _BUSY_S} if is_sqlite else {})
        with contextlib.ExitStack() as opened:
            opened.callback(engine.dispose)
            connection = opened.enter_context(engine.connect())
            if is_sqlite:
                # The write-ahead log is a property of the file already; this one is the connection's own.
                connection.exec_driver_sql("PRAGMA synchronous = FULL")
                connection.commit()

            def step() -> int:
                self._save(connection, insert, workload.next())
                return 1

            yield step

    def _save(self, connection: sa.Connection, insert: Callable[[sa.Table], Any], new: dict[str, Any]) -> None:
        text, now = json.dumps(new["architecture"], sort_keys=True).encode(), datetime.now(timezone.utc)
        key = hashlib.sha256(text).hexdigest()
        architecture = {"key": key, "spec": zlib.compress(text), "codec": "json", "n_nodes": 0, "n_edges": 0}
        is_json_kept_as_text = connection.dialect.name == "sqlite"
        evaluation = {
            "write_id": new_write_id(),
            "experiment_id": self.experiment_id,
            "protocol_hash": "",
            "fidelity_key": "",
            "seed_key": "",
            "replicate": 0,
            "status": "succeeded",
            "fitness": new["fitness"],
            "rank_loss": -new["fitness"],
            "metrics": json.dumps(new["metrics"]) if is_json_kept_as_text else new["metrics"],
            "generation": new["generation"],
            "worker_id": new["worker_id"],
            "duration_s": new["duration"],
            "finished_at": now,
        }
        with connection.begin():
            connection.execute(insert(architectures).values(**architecture, created_at=now).on_conflict_do_nothing())
            found = connection.execute(sa.select(architectures.c.id).where(architectures.c.key == key)).scalar_one()
            new_row = insert(evaluations).values(**evaluation, architecture_id=found)
            connection.execute(new_row.on_conflict_do_nothing())


@contextlib.contextmanager
def _proxy_client(port: int) -> Iterator[GrpcStorageProxy]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = GrpcStorageProxy(host=_LOOPBACK, port=port)
    proxy.wait_server_ready(_READY_S)
    try:
        yield proxy
    finally:
        proxy.close()


@contextlib.contextmanager
def _trials(storage: BaseStorage, study: str, workload: Workload) -> Iterator[Callable[[], int]]:
    study_id = storage.get_study_id_from_name(study)

    def step() -> int:
        trial = storage.create_new_trial(study_id)
        storage.set_trial_state_values(trial, TrialState.COMPLETE, [workload.next()["fitness"]])
        return 1

    yield step


@dataclass(frozen=True)
class OptunaJournal:
    """Optuna's JournalStorage in a file; a trial without its architecture: created, then complete with its value.

    Attributes:
        path: of the file; ``create_study`` was called.
        study: its name.
    """

    path: str
    study: str

    def create_study(self) -> None:
        """Make the study, once."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        JournalStorage(JournalFileBackend(self.path)).create_new_study([StudyDirection.MAXIMIZE], self.study)

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""
        with _trials(JournalStorage(JournalFileBackend(self.path)), self.study, workload) as step:
            yield step


@dataclass(frozen=True)
class OptunaProxy:
    """Optuna's GrpcStorageProxy in front of its RDB storage; a trial as with the journal.

    Attributes:
        port: where the proxy's server listens.
        study: name of a study that exists.
    """

    port: int
    study: str

    @contextlib.contextmanager
    def session(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """See ``Pattern``."""
        with _proxy_client(self.port) as proxy, _trials(proxy, self.study, workload) as step:
            yield step


class OptunaServer:
    """The process of the proxy's server: a Ray actor, so that it ends with the run."""

    def serve(self, url: str) -> int:
        """Start serving a database; gives the port."""
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with socket.create_server((_LOOPBACK, 0)) as probe:
            port: int = probe.getsockname()[1]
        # get_storage puts a cache in front of the RDB storage, as Optuna's manual advises for the proxy.
        serve = functools.partial(
            optuna.storages.run_grpc_proxy_server, optuna.storages.get_storage(url), host=_LOOPBACK, port=port
        )
        threading.Thread(target=serve, name="optuna-proxy", daemon=True).start()
        return port


@contextlib.contextmanager
def optuna_proxy(url: str, study: str) -> Iterator[OptunaProxy]:
    """Run the server of Optuna's proxy on a PostgreSQL database.

    Args:
        url: as SQLAlchemy reads it.
        study: name of the study to create.
    """
    server: Any = ray.remote(num_cpus=0)(OptunaServer).remote()
    try:
        port = ray.get(server.serve.remote(url))
        with _proxy_client(port) as proxy:
            proxy.create_new_study([StudyDirection.MAXIMIZE], study)
        yield OptunaProxy(port, study)
    finally:
        ray.kill(server)
