"""The forms in which callers hand over an architecture, opened to a config or a graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from morphml_ray.errors import ValidationError
from morphml_ray.identity.codecs import codec_of
from morphml_ray.identity.graph import Graph, is_graph, read_graph
from morphml_ray.identity.matrix import matrix_as_dict
from morphml_ray.identity.named_values import NamedFields, fields_of, plain_for_key
from morphml_ray.identity.networkx_graph import networkx_as_dict

WAYS = (
    "An architecture is a dict, list, tuple, str or number; a dict with 'nodes' and 'edges'; a networkx DiGraph or "
    "MultiDiGraph; a tuple (adjacency matrix, operations); a dataclass, named tuple, pydantic model or numpy value; "
    "or an object with "
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
        described: the same, but of a matrix or a named tuple that is a graph a dict of nodes and edges.
        graph: the graph, None for a config.
        codec: "" for a config, "graph" for a graph, else the name of the registered codec.
    """

    given: Any
    described: Any
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
    described = matrix_as_dict(given) or _named_graph(given) or given
    graph = read_graph(described) if is_graph(described) else None
    return Form(given, described, graph, codec or (GRAPH_CODEC if graph else ""))


def _named_graph(value: Any) -> NamedFields | None:
    """Give the fields of a named tuple that is a graph."""
    fields = fields_of(value, "architecture") if isinstance(value, tuple) else None
    return fields if is_graph(fields) else None


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
        if not value.is_directed():
            raise TypeError(f"an undirected networkx graph: call to_directed() first. {WAYS}")
        return networkx_as_dict(value), ""
    if _has(value, "to_dict"):
        described = value.to_dict()
        if is_graph(described):
            return described, ""
    return value, ""


def _has(value: Any, method: str) -> bool:
    return not isinstance(value, type) and callable(getattr(type(value), method, None))
