"""A typed graph, read from any of the forms in which callers describe one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from morphml_ray.errors import ValidationError
from morphml_ray.identity.canonical_json import BARE, EXACT, ODD
from morphml_ray.identity.fields import ENDS, Place, edge_label, graph_label, located, node_label
from morphml_ray.identity.named_values import class_mark, fields_of, has_fields

_MISSING = object()
_PAIR, _TRIPLE = 2, 3
_SHORT_INT_BITS = 64
_OPERATIONS = frozenset({"operation", "op"})
_OTHER_NAMES = "a config that is no graph needs other names than 'nodes' and 'edges'"


@dataclass(frozen=True, slots=True)
class Graph:
    """A directed graph with labels; self-loops, cycles and parallel edges are welcome.

    Attributes:
        labels: for each node, canonical JSON of what counts of it, without the braces.
        edges: source and target as positions in ``labels``, and canonical JSON of what else counts of the edge,
            without the braces, empty where nothing does.
        rest: the same of what stands beside the nodes and the edges.
        level: what the description that was read needs to be stored: BARE, EXACT or ODD. Edges that are tuples are
            BARE here.
        has_odd_ids: whether an id, or an end of an edge, is neither an ASCII text nor an int of at most 64 bits.
    """

    labels: Sequence[str]
    edges: Sequence[tuple[int, int, str]]
    rest: str
    level: int
    has_odd_ids: bool

    def to_json(self, order: Sequence[int]) -> str:
        """Write the graph as JSON that says what counts and no more, its nodes in this order, numbered from 0.

        The text is what keys are hashes of: ``{"edges":[...],"nodes":[...]}`` and what stands beside them; an edge
        has its fields, sorted, and then its ends, a node its position as its id and then its fields.
        """
        position = [0] * len(order)
        for new, old in enumerate(order):
            position[old] = new
        edges = sorted((position[source], position[target], label) for source, target, label in self.edges)
        node_texts = [f'{{"id":{new},{self.labels[old]}}}' for new, old in enumerate(order)]
        edge_texts = [
            f'{{{label}{"," if label else ""}"source":{source},"target":{target}}}' for source, target, label in edges
        ]
        beside = f",{self.rest}" if self.rest else ""
        return f'{{"edges":[{",".join(edge_texts)}],"nodes":[{",".join(node_texts)}]{beside}}}'


def is_graph(value: Any) -> bool:
    """Whether a value is meant as a graph, so that :func:`read_graph` says what is wrong with it.

    It is where it is a mapping with "nodes" and "edges" and both hold several things, or where one of the nodes is a
    mapping and has an operation; or a mapping of networkx's, whose edges are called "links".
    ``{"nodes": 3, "edges": 9}`` and ``{"nodes": 3, "lr": 0.1}`` are configs.
    """
    if not isinstance(value, Mapping) or not _holds_many(value.get("nodes")):
        return False
    nodes = [node for node in value["nodes"] if isinstance(node, Mapping)]
    if "edges" in value:
        return _holds_many(value["edges"]) or any("operation" in node or "op" in node for node in nodes)
    return bool(nodes) and _holds_many(value.get("links"))


def read_graph(value: Mapping[str, Any], where: str = "architecture") -> Graph:
    """Read a mapping for which :func:`is_graph` holds.

    Raises:
        ValidationError: an id occurs twice, an edge leads nowhere, a node has no operation, a value cannot be
            stored, or it is no graph at all; the message says where.
    """
    nodes, edges = _lists(value, where)
    rest, level = graph_label(value, (where, "", 0))
    kinds = {type(nodes), type(edges)}
    reader = _Reader(where, min(level, BARE if kinds == {list} else EXACT if kinds <= {list, tuple} else ODD))
    labels = [reader.node(node, index) for index, node in enumerate(nodes)]
    read = [reader.edge(edge, index) for index, edge in enumerate(edges)]
    return Graph(labels, read, rest, reader.level, reader.has_odd_ids)


def _holds_many(value: Any) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str | bytes)


def _lists(value: Mapping[str, Any], where: str) -> tuple[Sequence[Any], Sequence[Any]]:
    if "edges" not in value:
        raise ValidationError(
            f"{where}: a graph's 'links' are called 'edges' here; networkx: node_link_data(graph, edges='edges')"
        )
    for part in ("nodes", "edges"):
        if not isinstance(value[part], list | tuple) or has_fields(value[part]):
            kind = type(value[part]).__name__
            raise ValidationError(f"{where}[{part!r}]: a graph has a list here, not {kind}; {_OTHER_NAMES}")
    return value["nodes"], value["edges"]


class _Reader:
    """What is known while a graph is read."""

    def __init__(self, where: str, level: int) -> None:
        self.level = level
        self.has_odd_ids = False
        self._where = where
        self._positions: dict[Any, int] = {}

    def node(self, node: Any, index: int) -> str:
        """Read a node; give its label."""
        place = (self._where, "nodes", index)
        fields = node if type(node) is dict else opened(node, located(place))
        if fields is None:
            raise ValidationError(f"{located(place)}: a node must be a dict, not {node!r:.60}; {_OTHER_NAMES}")
        node_id = fields.get("id", index)
        kind = type(node_id)
        if not ((kind is str and node_id.isascii()) or (kind is int and node_id.bit_length() < _SHORT_INT_BITS)):
            node_id = self._odd(node_id, place)
        if self._positions.setdefault(node_id, index) != index:
            raise ValidationError(f"{located(place)}: the id {node_id!r:.60} occurs twice")
        label, level = node_label(fields, place)
        if level != BARE:
            self.level = min(self.level, level)
        return label

    def edge(self, edge: Any, index: int) -> tuple[int, int, str]:
        """Read an edge; give its ends and its label."""
        if type(edge) is dict and len(edge) == _PAIR:
            source, target = self._usual_end(edge, "source"), self._usual_end(edge, "target")
            if source is not None and target is not None:
                return source, target, ""
        place = (self._where, "edges", index)
        fields: Any = None
        if type(edge) not in (list, tuple):
            fields = edge if type(edge) is dict else opened_edge(edge, located(place))
        label, level = "", BARE
        if fields is not None:
            source = fields["source"] if "source" in fields else fields.get("source_id", _MISSING)
            target = fields["target"] if "target" in fields else fields.get("target_id", _MISSING)
            if type(edge) is not dict or len(edge) > _PAIR:
                label, level = edge_label(fields, place)
        elif isinstance(edge, list | tuple) and len(edge) in (_PAIR, _TRIPLE):
            source, target = edge[0], edge[1]
            if len(edge) == _TRIPLE or type(edge) not in (list, tuple):
                label, level = _sequence_label(edge, place)
        else:
            raise ValidationError(
                f"{located(place)}: an edge must be a dict with 'source' and 'target', or a pair, or a triple with "
                f"the operation, not {edge!r:.60}"
            )
        self.level = min(self.level, level)
        return self._end(source, "source", place), self._end(target, "target", place), label

    def _usual_end(self, edge: Mapping[str, Any], side: str) -> int | None:
        """Give the position of an end that has the usual name and type; None where it must be looked at."""
        name = edge.get(side)
        return self._positions.get(name) if type(name) is int or type(name) is str else None

    def _end(self, name: Any, side: str, place: Place) -> int:
        if type(name) is not int and type(name) is not str:
            if name is _MISSING:
                raise ValidationError(f"{located(place)}: no {side!r}")
            name = self._odd(name, place)
        position = self._positions.get(name)
        if position is None:
            raise ValidationError(f"{located(place)}: its {side} {name!r:.60} is no node")
        return position

    def _odd(self, node_id: Any, place: Place) -> Any:
        """Give an unusual id so that it can be looked up; JSON turns the tuple of an id into a list."""
        self.has_odd_ids, self.level = True, ODD
        frozen = tuple(node_id) if isinstance(node_id, list) else node_id
        try:
            hash(frozen)
        except TypeError:
            named = f"{located(place)}: {node_id!r:.60}"
            raise ValidationError(f"{named} cannot be an id: use a str, an int or a tuple") from None
        return frozen


def opened(value: Any, where: str) -> Mapping[str, Any] | None:
    """Give the fields of a mapping, or of an object, by name; None where it has none."""
    return value if isinstance(value, Mapping) else fields_of(value, where)


def opened_edge(edge: Any, where: str) -> Mapping[str, Any] | None:
    """Give the fields of an edge; None also for a named tuple whose fields do not name the ends."""
    fields = opened(edge, where)
    if fields is not None and isinstance(edge, tuple) and ENDS.isdisjoint(fields):
        return None
    return fields


def _sequence_label(edge: Sequence[Any], place: Place) -> tuple[str, int]:
    fields = {"operation": edge[2]} if len(edge) == _TRIPLE else {}
    label, level = edge_label(fields, place)
    if type(edge) in (list, tuple):
        return label, level
    return f"{class_mark(edge)}{label}" if has_fields(edge) else label, ODD
