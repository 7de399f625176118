"""The database contract on SQLAlchemy Core, for PostgreSQL and SQLite."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa

from morphml_ray.config import BackendUrl
from morphml_ray.database.contract import (
    ExperimentRef,
    NewExperiment,
    Operator,
    SaveUnit,
)
from morphml_ray.database.outages import LockedError
from morphml_ray.database.sql import experiments, queries
from morphml_ray.database.sql.dialects import dialect_for
from morphml_ray.database.sql.driver_errors import committing, opening, translated
from morphml_ray.database.sql.migrating import migrate
from morphml_ray.database.sql.ranking import Ranking
from morphml_ray.database.sql.saving import Batch
from morphml_ray.database.sql.statements import SaveStatements
from morphml_ray.database.time_limit import hasty, limited, time_limit
from morphml_ray.database.wire import SPARE_ROWS, EncodedRecord, EncodedRecords
from morphml_ray.errors import BackendUnavailable, MorphMLRayError, ValidationError
from morphml_ray.model.records import Direction, EvaluationStatus, ExperimentRecord, ExperimentStatus

KNOWN_LOCK_WAIT_S = 0.1
"""How long to wait for a lock that was held a moment ago, seconds."""
MAX_WRITERS = 4


class SqlDatabase:
    """``Database`` on PostgreSQL or SQLite.

    Args:
        url: where it is; its secrets are resolved when it opens.
        pool_size: connections at most.
        echo: log every statement.
        timeout_s: how long a call may take, where its caller has set no ``time_limit``.
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
        if self._engine is not None:
            return
        with limited(self._timeout_s):
            limit = time_limit()
            if not self._opening.acquire(timeout=self._timeout_s if limit is None else limit.left_s):
                raise BackendUnavailable(f"{self._place} is being opened")
            try:
                if self._engine is None:
                    self._open()
            finally:
                self._opening.release()

    def _open(self) -> None:
        with opening(self._place):
            url = self._url.resolve("database")
            self._dialect = dialect = dialect_for(url)
            engine = dialect.create_engine(url, pool_size=self._pool_size, echo=self._echo, timeout_s=self._timeout_s)
            dialect.acquire(url)
            try:
                migrate(engine, dialect)
                with engine.begin() as connection:
                    dialect.begin(connection)
                    dialect.opened(connection)
            except BaseException:
                engine.dispose()
                dialect.release()
                raise
        self._statements = SaveStatements(dialect, engine.dialect)
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

    @property
    def max_writers(self) -> int:
        """See ``Database.max_writers``: readers need connections too."""
        is_shared = self._engine is not None and self._dialect.has_many_writers
        return max(1, min(MAX_WRITERS, self._pool_size * 2 // 5)) if is_shared else 1

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
    def _connection(self, operation: str) -> Iterator[sa.Connection]:
        engine = self._engine
        if engine is None:
            raise BackendUnavailable(f"{self._place} is not open")
        with limited(self._timeout_s), translated(self._place, operation):
            self._dialect.check_place()
            with engine.connect() as connection:
                yield connection

    @contextmanager
    def _reading(self, operation: str) -> Iterator[sa.Connection]:
        with self._connection(operation) as connection, connection.begin():
            self._dialect.begin(connection)
            yield connection

    @contextmanager
    def _writing(self, operation: str) -> Iterator[sa.Connection]:
        with self._connection(operation) as connection, connection.begin() as transaction:
            self._dialect.begin(connection)
            yield connection
            with committing(self._place, operation, self._dialect.check_place):
                transaction.commit()

    # Writes

    def save(self, units: Sequence[SaveUnit]) -> list[list[int] | MorphMLRayError]:
        """See ``Database.save``."""
        try:
            with self._writing("save") as connection:
                return self._batch(connection).save(units)
        except (ValidationError, LockedError):
            # One value among many is refused, or one experiment is locked: find it, so that the others are stored.
            with (
                limited(self._timeout_s),
                hasty(KNOWN_LOCK_WAIT_S),
                self._writing("save") as connection,
            ):
                return self._save_apart(connection, units)

    def _save_apart(self, connection: sa.Connection, units: Sequence[SaveUnit]) -> list[list[int] | MorphMLRayError]:
        groups: dict[ExperimentRef, list[int]] = {}
        for number, unit in enumerate(units):
            groups.setdefault(unit.experiment, []).append(number)
        outcomes: dict[int, list[int] | MorphMLRayError] = {}
        for numbers in groups.values():
            outcomes.update(zip(numbers, self._save_group(connection, [units[n] for n in numbers]), strict=True))
        return [outcomes[number] for number in range(len(units))]

    def _save_group(
        self, connection: sa.Connection, units: Sequence[SaveUnit]
    ) -> Sequence[list[int] | MorphMLRayError]:
        """Save units of one experiment; halve them until the values that are refused stand alone."""
        try:
            with translated(self._place, "save"), connection.begin_nested():
                # Alone, a unit is asked whether it was written already, whatever came with its write ids then.
                return self._batch(connection).save(units, by_rounds=len(units) == 1)
        except LockedError as error:
            return [error] * len(units)
        except ValidationError as error:
            if len(units) == 1:
                return [error]
        half = len(units) // 2
        return [*self._save_group(connection, units[:half]), *self._save_group(connection, units[half:])]

    def _batch(self, connection: sa.Connection) -> Batch:
        if self._statements is None:
            raise BackendUnavailable(f"{self._place} is not open")
        return Batch(self._dialect, self._statements, connection, _now())

    def create_experiment(self, experiment: NewExperiment) -> int:
        """See ``Database.create_experiment``."""
        with self._writing("create_experiment") as connection:
            return experiments.create(connection, self._dialect, experiment, _now())

    def update_experiment_status(self, experiment: ExperimentRef, status: ExperimentStatus, write_id: str) -> None:
        """See ``Database.update_experiment_status``."""
        with self._writing("update_experiment_status") as connection:
            experiments.update_status(connection, experiment, status, write_id, _now())

    def delete_experiment(self, experiment: ExperimentRef, write_id: str) -> bool:
        """See ``Database.delete_experiment``."""
        with self._writing("delete_experiment") as connection:
            return experiments.delete(connection, experiment, write_id, _now())

    def purge(self, limit: int) -> int:
        """See ``Database.purge``."""
        with self._writing("purge") as connection:
            return experiments.purge(connection, limit)

    # Reads

    def get_experiment(self, experiment: ExperimentRef) -> ExperimentRecord | None:
        """See ``Database.get_experiment``."""
        with self._reading("get_experiment") as connection:
            row = queries.experiment_row(connection, experiment)
            return None if row is None else queries.experiment_record(row)

    def get_experiment_by_name(self, name: str) -> ExperimentRecord | None:
        """See ``Database.get_experiment_by_name``."""
        with self._reading("get_experiment_by_name") as connection:
            row = queries.named_experiment_row(connection, name)
            return None if row is None else queries.experiment_record(row)

    def list_experiments(
        self, status: ExperimentStatus | None, limit: int | None, offset: int
    ) -> list[ExperimentRecord]:
        """See ``Database.list_experiments``."""
        with self._reading("list_experiments") as connection:
            return queries.list_experiments(connection, status, limit, offset)

    def get_experiment_statistics(self, experiment: ExperimentRef) -> dict[str, Any]:
        """See ``Database.get_experiment_statistics``."""
        with self._reading("get_experiment_statistics") as connection:
            return queries.statistics(connection, experiment)

    def get_best_architectures(
        self,
        experiment: ExperimentRef,
        top_k: int,
        metric: str | None,
        where: Mapping[str, tuple[Operator, float]],
        mode: Direction | None = None,
        fidelity_key: str | None = None,
        min_seeds: int = 1,
    ) -> EncodedRecords:
        """See ``Database.get_best_architectures``."""
        with self._reading("get_best_architectures") as connection:
            ranking = Ranking(self._dialect, connection, experiment, fidelity_key, min_seeds)
            return EncodedRecords(ranking.best(top_k + SPARE_ROWS, metric, mode, where), top_k)

    def find_evaluation(
        self, experiment: ExperimentRef, architecture_hash: str, fidelity_key: str, seed_key: str
    ) -> EncodedRecord | None:
        """See ``Database.find_evaluation``."""
        with self._reading("find_evaluation") as connection:
            row = queries.find_evaluation(connection, experiment, architecture_hash, fidelity_key, seed_key)
            return None if row is None else EncodedRecord(row)

    def get_architecture_by_hash(
        self, architecture_hash: str, experiment: ExperimentRef | None
    ) -> EncodedRecord | None:
        """See ``Database.get_architecture_by_hash``."""
        with self._reading("get_architecture_by_hash") as connection:
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
        with self._reading("list_architectures") as connection:
            some = limit + SPARE_ROWS
            rows = queries.list_evaluations(connection, experiment, generation, status, after_id, some)
            return EncodedRecords(rows, limit)


def _now() -> datetime:
    return datetime.now(timezone.utc)
