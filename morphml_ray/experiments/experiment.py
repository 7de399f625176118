"""The friendly object of one experiment."""

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from morphml_ray.database.actor import DatabaseActor
from morphml_ray.database.contract import DatabaseReads, SaveUnit
from morphml_ray.database.encoding import Scope, encode_key
from morphml_ray.database.manager import DatabaseManager
from morphml_ray.database.recording import records
from morphml_ray.errors import MorphMLRayError
from morphml_ray.experiments.history import History
from morphml_ray.experiments.recorder import Recorder
from morphml_ray.experiments.table import Table
from morphml_ray.identity import Identity
from morphml_ray.model.records import ArchitectureRecord, Direction, ExperimentStatus
from morphml_ray.rpc.call import Answer, Call, call
from morphml_ray.rpc.channel import Channel, Prepared, Steps
from morphml_ray.rpc.remote_method import remote_method

if TYPE_CHECKING:
    import pandas as pd


class Experiment:
    """One experiment: record evaluations, ask for the best. ``Storage.experiment`` gives it.

    It pickles: pass it to tasks.

    Attributes:
        id: its number.
        name: its unique name.
    """

    channel: Channel

    def __init__(self, channel: Channel, experiment_id: int, name: str, identity: Identity) -> None:
        self.id = experiment_id
        self.name = name
        self.channel = channel
        self.scope = Scope(experiment_id, identity)

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}, id={self.id})"

    @remote_method
    @records
    def record(self, unit: SaveUnit) -> Call[int]:
        """Store one evaluation and give its id, when it is committed.

        See ``DatabaseManager.save_architecture`` for the arguments and errors. Recording the same evaluation again
        gives the same id and changes nothing.
        """
        return call(DatabaseActor.save_one, unit)

    def recorder(self) -> Recorder:
        """Make a recorder, which does not wait for each record: use it in a ``with`` block."""
        return Recorder(self.channel, self.scope)

    @remote_method
    def key(self, architecture: Any) -> Answer[str]:
        """Give the key of an architecture in this experiment, computed in the caller.

        Raises:
            TypeError: the architecture is of no known type.
            ValidationError: it is no valid graph, or holds values that cannot be stored.
        """
        return Answer(self.scope.encode(architecture).key)

    @remote_method
    def lookup(self, architecture: Any, *, seed: Any = None, fidelity: Any = None) -> Call[ArchitectureRecord | None]:
        """Find the answer to an evaluation: its earliest success, or else its earliest failure, or None.

        Args:
            architecture: as for ``record``.
            seed: of the evaluation; None finds what was recorded without one.
            fidelity: of the evaluation; None finds what was recorded without one.

        Raises:
            NotFoundError: the experiment was deleted.
        """
        return call(
            DatabaseActor.read,
            DatabaseReads.find_evaluation,
            self.id,
            self.scope.encode(architecture).key,
            encode_key(fidelity, "fidelity"),
            encode_key(seed, "seed"),
        )

    @remote_method
    def best(
        self,
        k: int = 10,
        *,
        metric: str | None = None,
        where: Mapping[str, tuple[str, float]] | None = None,
        mode: Direction | None = None,
        fidelity: Any = None,
        min_seeds: int = 1,
    ) -> Prepared[list[ArchitectureRecord]]:
        """Rank architectures, best first; see ``DatabaseManager.get_best_architectures``."""
        return DatabaseManager.get_best_architectures.prepare(
            self, self.id, k, metric=metric, where=where, mode=mode, fidelity=fidelity, min_seeds=min_seeds
        )

    @remote_method
    def statistics(self) -> Prepared[dict[str, Any]]:
        """Summarise; see ``DatabaseManager.get_experiment_statistics``."""
        return DatabaseManager.get_experiment_statistics.prepare(self, self.id)

    @remote_method
    def history(self) -> Steps[list[ArchitectureRecord]]:
        """List all evaluations in the order of their ids, the failed ones too."""
        return History(self.id)

    @remote_method
    def to_pandas(self) -> Steps["pd.DataFrame"]:
        """Give all evaluations as a DataFrame: a row each, a column for each field and each metric.

        Every column is of one type that Parquet can hold: lists, dicts and graphs, and whatever differs in type from
        row to row, are JSON texts.

        Raises:
            ConfigurationError: pandas is not installed.
        """
        return Table(self.id)

    @remote_method
    def complete(self, status: ExperimentStatus = "completed") -> Prepared[None]:
        """Set the status; a ``with`` block sets "completed" when it ends, "failed" when an exception ends it.

        Raises:
            ValidationError: there is no such status.
            NotFoundError: the experiment was deleted.
        """
        return DatabaseManager.update_experiment_status.prepare(self, self.id, status)

    @remote_method
    def delete(self) -> Prepared[bool]:
        """Delete the experiment with its evaluations; False where that was done already."""
        return DatabaseManager.delete_experiment.prepare(self, self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.complete("completed" if error is None else "failed")
        except MorphMLRayError as other:
            if error is None:
                raise
            raise error from other  # the caller's own error matters more
