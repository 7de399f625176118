"""Stored evaluations on their way to a caller, who decodes them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from morphml_ray.errors import CorruptDataError
from morphml_ray.identity import decode_architecture
from morphml_ray.model.plain import decode_json
from morphml_ray.model.records import ArchitectureRecord
from morphml_ray.rpc.call import Encoded

_logger = logging.getLogger(__name__)

RECORD_COLUMNS = (
    *(field.name for field in fields(ArchitectureRecord) if field.name != "architecture"),
    "spec",
    "codec",
)
"""What a row holds, in order: the fields of ``ArchitectureRecord``, the architecture as its spec and codec."""
_ID = RECORD_COLUMNS.index("id")
_DAMAGES_NAMED = 3

Row = tuple[Any, ...]
"""A stored evaluation: values of ``RECORD_COLUMNS``, texts of JSON undecoded."""

_DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "metrics": decode_json,
    "seed": lambda text: decode_json(text) if text else None,
    "fidelity": lambda text: decode_json(text) if text else None,
    "parents": lambda text: tuple(decode_json(text)) if text else (),
}

SPARE_ROWS = 16
"""How many rows more than asked for a listing sends, so that damaged ones leave no gap in it."""


def decode_row(row: Row) -> ArchitectureRecord:
    """Decode a stored evaluation.

    Raises:
        CorruptDataError: the stored bytes cannot be read back; the message names the evaluation.
    """
    values = dict(zip(RECORD_COLUMNS, row, strict=True))
    spec, codec = values.pop("spec"), values.pop("codec")
    try:
        values["architecture"] = decode_architecture(spec, codec, values["architecture_hash"])
        for name, decode in _DECODERS.items():
            values[name] = decode(values[name])
    except CorruptDataError as error:
        raise CorruptDataError(f"the evaluation {values['id']} cannot be read back: {error}") from error
    return ArchitectureRecord(**values)


class Records(list[ArchitectureRecord]):
    """A listing.

    Attributes:
        last_id: of the last evaluation that was looked at, also where that is damaged; None where there was none.
    """

    last_id: int | None = None


def _decode_rows(rows: Sequence[Row], limit: int) -> Records:
    """Decode as many as asked for of those that can be read back, and name the others in one warning."""
    records = Records()
    damages: list[str] = []
    for row in rows:
        if len(records) == limit:
            break
        records.last_id = row[_ID]
        try:
            records.append(decode_row(row))
        except CorruptDataError as error:
            damages.append(str(error))
    if damages:
        more = f"; and {len(damages) - _DAMAGES_NAMED} more" if len(damages) > _DAMAGES_NAMED else ""
        _logger.warning("left out of a listing: %s%s", "; ".join(damages[:_DAMAGES_NAMED]), more)
    return records


class EncodedRecord(Encoded[ArchitectureRecord]):
    """One row on its way to a caller, which gets an ``ArchitectureRecord``."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def decode(self) -> ArchitectureRecord:
        """Decode here."""
        return decode_row(self._row)

    def __reduce__(self) -> tuple[Any, ...]:
        """Decode where it is unpickled."""
        return decode_row, (self._row,)


class EncodedRecords(Encoded[Records]):
    """Rows on their way to a caller, which gets a list of ``ArchitectureRecord`` without the damaged ones.

    Args:
        rows: what was found, up to ``SPARE_ROWS`` more than ``limit``.
        limit: records at most.
    """

    def __init__(self, rows: Sequence[Row], limit: int) -> None:
        self._rows = rows
        self._limit = limit

    def decode(self) -> Records:
        """Decode here."""
        return _decode_rows(self._rows, self._limit)

    def __reduce__(self) -> tuple[Any, ...]:
        """Decode where they are unpickled."""
        return _decode_rows, (self._rows, self._limit)
