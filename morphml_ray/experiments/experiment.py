"""The friendly object of one experiment."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from morphml_ray.database.actor import DatabaseActor
from morphml_ray.database.contract import SaveUnit
from morphml_ray.database.encoding import Scope
from morphml_ray.database.manager import DatabaseManager
from morphml_ray.database.recording import records
from morphml_ray.errors import ConfigurationError
from morphml_ray.experiments.recorder import Recorder
from morphml_ray.identity import Identity
from morphml_ray.model.records import ArchitectureRecord
from morphml_ray.rpc.call import Call, call
from morphml_ray.rpc.channel import Channel
from morphml_ray.rpc.remote_method import remote_method

if TYPE_CHECKING:
    import pandas as pd

PAGE = 5_000


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
        self._database = DatabaseManager.over(channel)

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

    def best(
        self,
        k: int = 10,
        *,
        metric: str | None = None,
        where: Mapping[str, tuple[str, float]] | None = None,
    ) -> list[ArchitectureRecord]:
        """Rank architectures, best first; see ``DatabaseManager.get_best_architectures``."""
        return self._database.get_best_architectures(self.id, k, metric=metric, where=where)

    def statistics(self) -> dict[str, Any]:
        """Summarise; see ``DatabaseManager.get_experiment_statistics``."""
        return self._database.get_experiment_statistics(self.id)

    def history(self) -> list[ArchitectureRecord]:
        """List all evaluations in the order of their ids, the failed ones too."""
        return list(self._pages())

    def to_pandas(self) -> "pd.DataFrame":
        """Give all evaluations as a DataFrame: a row each, a column for each field and each metric.

        Raises:
            ConfigurationError: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415 - optional
        except ImportError as error:
            raise ConfigurationError("to_pandas() needs pandas: pip install 'morphml-ray[demo]', or pandas") from error
        rows = [_flat(record) for record in self._pages()]
        index = pd.Index([row.pop("id") for row in rows], name="id")
        frame: pd.DataFrame = pd.DataFrame(rows, index=index)
        return frame

    def _pages(self) -> Iterator[ArchitectureRecord]:
        after_id = None
        while page := self._database.list_architectures(self.id, after_id=after_id, limit=PAGE):
            yield from page
            if len(page) < PAGE:
                return
            after_id = page[-1].id


def _flat(record: ArchitectureRecord) -> dict[str, Any]:
    """One row of a table; a metric that has the name of a field gets a prefix."""
    fields = {name: value for name, value in vars(record).items() if name != "metrics"}
    metrics = {(f"metric_{name}" if name in fields else name): value for name, value in record.metrics.items()}
    return fields | metrics
