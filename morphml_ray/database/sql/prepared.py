"""Statements of the write path that are compiled once, so that a batch costs what the driver costs and no more.

SQLAlchemy builds and checks them; run through its own execution layer, a small batch would take three times as long
(``benchmarks/record_results.py``).
"""

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

Row = tuple[Any, ...]
Columns = Mapping[str, "sa.types.TypeEngine[Any]"]


class Prepared:
    """A statement as the driver takes it.

    Args:
        name: unique among the statements of a database.
        statement: has no other parameters than ``columns`` and ``shared``.
        dialect: of the driver.
        columns: what a row of parameters holds, in order.
        shared: what all rows share, in order.

    Attributes:
        name: as given.
        sql: the text, with the driver's own marks for parameters.
        parameters: columns and shared parameters, in order.
        pick: orders the values of a row and of the shared parameters as positional marks want them.
    """

    def __init__(
        self,
        name: str,
        statement: sa.ClauseElement,
        dialect: sa.Dialect,
        columns: Columns,
        shared: Columns | None = None,
    ) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        self.name = name
        self.sql = str(compiled)
        self.columns = columns
        self.shared = shared or {}
        self.pick = _picker([*self.columns, *self.shared], compiled.positiontup or list(compiled.params))


def _picker(names: list[str], order: list[str]) -> Callable[[Row], Row]:
    if order == names:
        return tuple
    picked = itemgetter(*(names.index(name) for name in order))
    return picked if len(order) > 1 else lambda row: (picked(row),)
