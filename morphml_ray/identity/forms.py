"""The forms in which callers hand over an architecture, opened to a config or a graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from morphml_ray.errors import ValidationError
from morphml_ray.identity.canonical_json import plain_for_key
from morphml_ray.identity.codecs import codec_of
from morphml_ray.identity.graph import Graph, is_graph, read_graph

WAYS = (
    "An architecture is a dict, list, tuple, str or number; a dict with 'nodes' and 'edges'; a networkx DiGraph; "
    "a tuple (adjacency matrix, operations); a dataclass, pydantic model or numpy value; or an object with "
    "to_arch_spec(), or with to_dict() that gives nodes and edges. For other classes call "
    "register_codec(type, encode, decode)."
)

GRAPH_CODEC = "graph"

_PLAIN = frozenset({dict, list, str, int, float, bool})
_MAX_OPENINGS = 10  # an object whose description is an object, and so on


@dataclass(frozen=True, slots=True)
class Form:
    """An opened architecture.

    Attributes:
        given: the config, or the graph's description; not yet plain.
        graph: the graph, None for a config.
        codec: "" for a config, "graph" for a graph, else the name of the registered codec.
    """

    given: Any
    graph: Graph | None
    codec: str


def open_form(architecture: Any) -> Form:
    """Find out what an architecture is.

    Raises:
        TypeError: it is none of ``WAYS``, or holds a value that is none.
        ValidationError: it cannot be stored; the message says where and why.
    """
    given, codec = architecture, ""
    for _ in range(_MAX_OPENINGS):
        opened, name = _opened(given)
        codec = codec or name
        if opened is given:
            break
        given = opened
    else:
        raise ValidationError(f"architecture: {_MAX_OPENINGS} descriptions of {type(architecture)!r} led to no end")
    if given is None:
        raise TypeError(f"None is no architecture. {WAYS}")
    if type(given) not in _PLAIN and not isinstance(given, Mapping | tuple):
        given = plain_for_key(given, "architecture")
    graph = _graph(given)
    return Form(given, graph, codec or (GRAPH_CODEC if graph else ""))


def _opened(value: Any) -> tuple[Any, str]:
    """Take one layer off: give what describes an object, and the codec used; a value without layers itself."""
    if type(value) in _PLAIN:
        return value, ""
    codec = codec_of(value)
    if codec is not None:
        return codec.encode(value), codec.name
    if _has(value, "to_arch_spec"):
        return value.to_arch_spec(), ""
    if _has(value, "is_directed") and _has(value, "number_of_nodes"):
        return _networkx_as_dict(value), ""
    if _has(value, "to_dict"):
        described = value.to_dict()
        if is_graph(described):
            return described, ""
    return value, ""


def _has(value: Any, method: str) -> bool:
    return not isinstance(value, type) and callable(getattr(type(value), method, None))


def _networkx_as_dict(graph: Any) -> dict[str, Any]:
    if not graph.is_directed():
        raise TypeError(f"an undirected networkx graph: call to_directed() first. {WAYS}")
    nodes = [
        # A graph without attributes is its shape; attributes of other names are a mistake that read_graph reports.
        {**(attributes or {"operation": None}), "id": node}
        for node, attributes in graph.nodes(data=True)
    ]
    edges = [
        {**attributes, "source": source, "target": target} for source, target, attributes in graph.edges(data=True)
    ]
    return {"nodes": nodes, "edges": edges}


def _graph(value: Any) -> Graph | None:
    if is_graph(value):
        return read_graph(value)
    if type(value) is tuple and len(value) == 2:  # noqa: PLR2004 - a pair
        return _adjacency_graph(*value)
    return None


def _adjacency_graph(matrix: Any, operations: Any) -> Graph | None:
    """Read (adjacency matrix, operations); None unless it is a square of 0 and 1 and as many texts."""
    rows, names = (value.tolist() if _has(value, "tolist") else value for value in (matrix, operations))
    if not isinstance(rows, list | tuple) or not isinstance(names, list | tuple) or not names:
        return None
    rows = [row.tolist() if _has(row, "tolist") else row for row in rows]
    is_square = len(rows) == len(names) and all(isinstance(row, list | tuple) and len(row) == len(rows) for row in rows)
    if not is_square or not all(isinstance(name, str) for name in names):
        return None
    if not all(isinstance(cell, int | float) and cell in (0, 1) for row in rows for cell in row):
        return None
    edges = [(source, target) for source, row in enumerate(rows) for target, cell in enumerate(row) if cell]
    return read_graph({"nodes": [{"operation": name} for name in names], "edges": edges})
