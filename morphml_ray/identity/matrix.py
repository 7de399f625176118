"""Adjacency matrices beside their operations, described as dicts of nodes and edges."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from morphml_ray.errors import ValidationError


def matrix_as_dict(value: Any) -> dict[str, Any] | None:
    """Describe a pair (matrix, operations) as nodes and edges.

    A cell of 1 or True is an edge from the row's node to the column's; 0, False, None or "" is none; anything else is
    the operation of an edge.

    Returns:
        None where the value is not meant as such a pair: it is no tuple of two; the first is neither an array of two
        dimensions nor a list of rows that each have an empty cell; or no operation is a text, and the first no array
        of 0 and 1 that fits them.

    Raises:
        ValidationError: it is meant as one, but its size is wrong, or an operation is no text.
    """
    if type(value) is not tuple or len(value) != 2:  # noqa: PLR2004 - a pair
        return None
    rows, operations = _rows(value[0]), _listed(value[1])
    is_array = _has_tolist(value[0])
    if not rows or not operations:
        return None
    if not any(map(_is_text, operations)) and not (is_array and _is_of_0_and_1(rows, operations)):
        return None
    if not is_array and not _is_of_0_and_1(rows, operations) and not all(any(map(_is_empty, row)) for row in rows):
        return None
    _check(rows, operations)
    edges = [
        {"source": source, "target": target, **({} if cell == 1 else {"operation": cell})}
        for source, row in enumerate(rows)
        for target, cell in enumerate(row)
        if not _is_empty(cell)
    ]
    return {"nodes": [{"id": index, "operation": each} for index, each in enumerate(operations)], "edges": edges}


def _check(rows: Sequence[Sequence[Any]], operations: Sequence[Any]) -> None:
    problem = next((f"operation {each!r:.60} is no text" for each in operations if not _is_text(each)), "")
    if len(rows) != len(operations):
        problem = f"it has {len(rows)} rows"
    for index, row in enumerate(rows):
        if len(row) != len(operations):
            problem = problem or f"row {index} has {len(row)} cells"
    if problem:
        raise ValidationError(
            f"architecture: a pair (adjacency matrix, operations) needs a row and a column for each of its "
            f"{len(operations)} operations, which are texts, but {problem}; a config that is no graph can be a list"
        )


def _rows(matrix: Any) -> list[list[Any]]:
    """Give the cells of a matrix; nothing where it is none."""
    rows = _listed(matrix)
    if not all(isinstance(row, list | tuple) or _has_tolist(row) for row in rows):
        return []
    listed = [_listed(row) for row in rows]
    return listed if all(listed) else []


def _listed(value: Any) -> list[Any]:
    """Give the items of a list, a tuple or an array, its scalars as Python's; nothing for anything else."""
    items = value.tolist() if _has_tolist(value) else value
    if not isinstance(items, list | tuple):
        return []
    return [item.tolist() if _has_tolist(item) else item for item in items]


def _has_tolist(value: Any) -> bool:
    return callable(getattr(type(value), "tolist", None))


def _is_text(value: Any) -> bool:
    return isinstance(value, str | Enum)


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str | int | float) and cell in (0, ""))


def _is_of_0_and_1(rows: Sequence[Sequence[Any]], operations: Sequence[Any]) -> bool:
    return all(len(row) == len(operations) for row in rows) and all(
        isinstance(cell, int | float) and cell in (0, 1) for row in rows for cell in row
    )
