"""The database contract on SQLAlchemy Core, for PostgreSQL and SQLite."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa

from morphml_ray.config import BackendUrl
from morphml_ray.database.contract import (
    EncodedRecord,
    EncodedRecords,
    ExperimentRef,
    NewExperiment,
    Operator,
    SaveUnit,
)
from morphml_ray.database.sql import experiments, queries
from morphml_ray.database.sql.dialects import dialect_for
from morphml_ray.database.sql.driver_errors import translated
from morphml_ray.database.sql.migrating import migrate
from morphml_ray.database.sql.saving import Batch
from morphml_ray.database.sql.statements import SaveStatements
from morphml_ray.errors import BackendUnavailable, MorphMLRayError, ValidationError
from morphml_ray.model.records import EvaluationStatus, ExperimentRecord, ExperimentStatus


class SqlDatabase:
    """``Database`` on PostgreSQL or SQLite.

    Args:
        url: where it is; its secrets are resolved when it opens.
        pool_size: connections at most.
        echo: log every statement.
        timeout_s: how long one wait for a connection or a lock may take.
    """

    def __init__(self, url: BackendUrl, *, pool_size: int = 5, echo: bool = False, timeout_s: float = 5.0) -> None:
        self._url = url
        self._pool_size = pool_size
        self._echo = echo
        self._timeout_s = timeout_s
        self._place = url.masked
        self._opening = threading.Lock()
        self._engine: sa.Engine | None = None
        self._statements: SaveStatements | None = None

    def open(self) -> None:
        """See ``Database.open``."""
        with self._opening:
            if self._engine is None:
                self._open()

    def _open(self) -> None:
        url = self._url.resolve("database")
        self._dialect = dialect_for(url)
        engine = self._dialect.create_engine(url, pool_size=self._pool_size, echo=self._echo, timeout_s=self._timeout_s)
        self._dialect.acquire(url)
        try:
            with translated(self._place, "opening"):
                migrate(engine, self._dialect)
        except BaseException:
            engine.dispose()
            self._dialect.release()
            raise
        self._statements = SaveStatements(self._dialect, engine.dialect)
        self._engine = engine

    def close(self) -> None:
        """See ``Database.close``."""
        with self._opening:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None
                self._dialect.release()

    @property
    def is_open(self) -> bool:
        """See ``Database.is_open``."""
        return self._engine is not None

    def pool_status(self) -> dict[str, int]:
        """See ``Database.pool_status``."""
        pool = self._engine.pool if self._engine is not None else None
        if not isinstance(pool, sa.QueuePool):
            return {"size": self._pool_size, "open": 0, "in_use": 0}
        return {
            "size": self._pool_size,
            "open": pool.checkedin() + pool.checkedout(),
            "in_use": pool.checkedout(),
        }

    @contextmanager
    def _transaction(self, operation: str) -> Iterator[sa.Connection]:
        if self._engine is None:
            raise BackendUnavailable(f"{self._place} is not open")
        with translated(self._place, operation), self._engine.begin() as connection:
            yield connection

    # Writes

    def save(self, units: Sequence[SaveUnit]) -> list[list[int] | MorphMLRayError]:
        """See ``Database.save``."""
        try:
            with self._transaction("save") as connection:
                return self._batch(connection).save(units)
        except ValidationError:
            # One value among many is refused: find it, so that its neighbours are stored.
            with self._transaction("save") as connection:
                return [self._save_alone(connection, unit) for unit in units]

    def _save_alone(self, connection: sa.Connection, unit: SaveUnit) -> list[int] | MorphMLRayError:
        try:
            with translated(self._place, "save"), connection.begin_nested():
                return self._batch(connection).save([unit])[0]
        except ValidationError as error:
            return error

    def _batch(self, connection: sa.Connection) -> Batch:
        if self._statements is None:
            raise BackendUnavailable(f"{self._place} is not open")
        self._dialect.begin_save(connection)
        return Batch(self._dialect, self._statements, connection, _now())

    def create_experiment(self, experiment: NewExperiment) -> int:
        """See ``Database.create_experiment``."""
        with self._transaction("create_experiment") as connection:
            return experiments.create(connection, self._dialect, experiment, _now())

    def update_experiment_status(self, experiment: ExperimentRef, status: ExperimentStatus) -> None:
        """See ``Database.update_experiment_status``."""
        with self._transaction("update_experiment_status") as connection:
            experiments.update_status(connection, experiment, status, _now())

    def delete_experiment(self, experiment: ExperimentRef) -> bool:
        """See ``Database.delete_experiment``."""
        with self._transaction("delete_experiment") as connection:
            return experiments.delete(connection, experiment, _now())

    def purge(self, limit: int) -> int:
        """See ``Database.purge``."""
        with self._transaction("purge") as connection:
            return experiments.purge(connection, limit)

    # Reads

    def get_experiment(self, experiment: ExperimentRef) -> ExperimentRecord | None:
        """See ``Database.get_experiment``."""
        with self._transaction("get_experiment") as connection:
            row = queries.experiment_row(connection, experiment)
            return None if row is None else queries.experiment_record(row)

    def get_experiment_by_name(self, name: str) -> ExperimentRecord | None:
        """See ``Database.get_experiment_by_name``."""
        with self._transaction("get_experiment_by_name") as connection:
            row = queries.named_experiment_row(connection, name)
            return None if row is None else queries.experiment_record(row)

    def list_experiments(
        self, status: ExperimentStatus | None, limit: int | None, offset: int
    ) -> list[ExperimentRecord]:
        """See ``Database.list_experiments``."""
        with self._transaction("list_experiments") as connection:
            return queries.list_experiments(connection, status, limit, offset)

    def get_experiment_statistics(self, experiment: ExperimentRef) -> dict[str, Any]:
        """See ``Database.get_experiment_statistics``."""
        with self._transaction("get_experiment_statistics") as connection:
            return queries.statistics(connection, experiment)

    def get_best_architectures(
        self,
        experiment: ExperimentRef,
        top_k: int,
        metric: str | None,
        where: Mapping[str, tuple[Operator, float]],
    ) -> EncodedRecords:
        """See ``Database.get_best_architectures``."""
        with self._transaction("get_best_architectures") as connection:
            return EncodedRecords(queries.Ranking(connection, experiment).best(top_k, metric, where))

    def get_architecture_by_hash(
        self, architecture_hash: str, experiment: ExperimentRef | None
    ) -> EncodedRecord | None:
        """See ``Database.get_architecture_by_hash``."""
        with self._transaction("get_architecture_by_hash") as connection:
            row = queries.find_by_hash(connection, architecture_hash, experiment)
            return None if row is None else EncodedRecord(row)

    def list_architectures(
        self,
        experiment: ExperimentRef,
        generation: int | None,
        status: EvaluationStatus | None,
        after_id: int | None,
        limit: int,
    ) -> EncodedRecords:
        """See ``Database.list_architectures``."""
        with self._transaction("list_architectures") as connection:
            return EncodedRecords(queries.list_evaluations(connection, experiment, generation, status, after_id, limit))


def _now() -> datetime:
    return datetime.now(timezone.utc)
