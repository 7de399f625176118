"""All evaluations of an experiment as a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import ray

from morphml_ray.errors import ConfigurationError
from morphml_ray.experiments.history import pages
from morphml_ray.model.plain import encode_json
from morphml_ray.model.records import ArchitectureRecord
from morphml_ray.rpc.channel import Channel, Steps

if TYPE_CHECKING:
    import pandas as pd

_SCALARS = (bool, int, float, str, datetime)
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Table(Steps["pd.DataFrame"]):
    """Makes the table, in the caller.

    Attributes:
        experiment_id: of the experiment.
    """

    experiment_id: int

    def run(self, channel: Channel) -> "pd.DataFrame":
        """See ``Steps.run``."""
        try:
            import pandas as pd  # noqa: PLC0415 - optional
        except ImportError as error:
            raise ConfigurationError("to_pandas() needs pandas: pip install 'morphml-ray[demo]', or pandas") from error
        rows = [_flat(record) for record in pages(channel, self.experiment_id)]
        names = list(dict.fromkeys(name for row in rows for name in row if name != "id"))
        columns = {name: _one_type([row.get(name) for row in rows]) for name in names}
        frame: pd.DataFrame = pd.DataFrame(columns, index=pd.Index([row["id"] for row in rows], name="id"))
        return frame

    def start(self, channel: Channel) -> "ray.ObjectRef[pd.DataFrame]":
        """See ``Steps.start``; returns when the table is made."""
        return ray.put(self.run(channel))


def _flat(record: ArchitectureRecord) -> dict[str, Any]:
    """One row of a table; a metric that has the name of a field gets a prefix."""
    fields = {name: value for name, value in vars(record).items() if name != "metrics"}
    metrics = {(f"metric_{name}" if name in fields else name): value for name, value in record.metrics.items()}
    return fields | metrics


def _one_type(values: Sequence[Any]) -> list[Any]:
    """Give values of one type, which any file format can hold: all as they are, or all as JSON texts."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) <= 1:
        is_held = kinds <= set(_SCALARS) and all(type(value) is not int or value in _INT64 for value in values)
        if is_held:
            return list(values)
    return [None if value is None else _as_text(value) for value in values]


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return encode_json(value)
