"""A typed graph, read from any of the forms in which callers describe one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from morphml_ray.errors import ValidationError
from morphml_ray.identity.canonical_json import canonical_json, canonical_json_of_flat, plain_for_key

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Graph:
    """A directed graph with labels; self-loops, cycles and parallel edges are welcome.

    Attributes:
        labels: for each node, canonical JSON of its operation and parameters, without the braces.
        edges: source and target as positions in ``labels``, and canonical JSON of the edge's operation and port,
            without the braces, empty where it has neither.
    """

    labels: Sequence[str]
    edges: Sequence[tuple[int, int, str]]

    def to_json(self, order: Sequence[int]) -> str:
        """Write the graph as canonical JSON, its nodes in this order and numbered from 0."""
        position = [0] * len(order)
        for new, old in enumerate(order):
            position[old] = new
        edges = sorted((position[source], position[target], label) for source, target, label in self.edges)
        node_texts = [f'{{"id":{new},{self.labels[old]}}}' for new, old in enumerate(order)]
        edge_texts = [
            f'{{{label}{"," if label else ""}"source":{source},"target":{target}}}' for source, target, label in edges
        ]
        return f'{{"edges":[{",".join(edge_texts)}],"nodes":[{",".join(node_texts)}]}}'


def is_graph(value: Any) -> bool:
    """Whether a value is a mapping with "nodes" (a list of mappings) and "edges" (a list).

    Nodes that are partly mappings count too, so that reading them can say what is wrong.
    """
    if not isinstance(value, Mapping) or "nodes" not in value or "edges" not in value:
        return False
    nodes = value["nodes"]
    if not isinstance(nodes, list | tuple) or not isinstance(value["edges"], list | tuple):
        return False
    return not nodes or any(isinstance(node, Mapping) for node in nodes)


def read_graph(value: Mapping[str, Any], where: str = "architecture") -> Graph:
    """Read a mapping for which :func:`is_graph` holds.

    Only nodes and edges count: everything else in the mapping, and every unknown field of a node or an edge, is
    left out.

    Raises:
        ValidationError: an id occurs twice, an edge leads nowhere, a node has no operation, a value cannot be
            stored; the message says where.
    """
    positions: dict[Any, int] = {}
    labels = []
    for index, node in enumerate(value["nodes"]):
        if not isinstance(node, Mapping):
            raise ValidationError(f"{where}['nodes'][{index}]: a node must be a dict, not {node!r:.60}")
        node_id = node.get("id", index)
        if type(node_id) not in (int, str):
            node_id = _hashable(node_id, f"{where}['nodes'][{index}]")
        if positions.setdefault(node_id, index) != index:
            raise ValidationError(f"{where}['nodes'][{index}]: the id {node_id!r:.60} occurs twice")
        labels.append(_node_label(node, where, index))
    edges = [
        (*_ends(edge, positions, where, index), _edge_label(edge, where, index))
        for index, edge in enumerate(value["edges"])
    ]
    return Graph(labels, edges)


def _hashable(node_id: Any, where: str) -> Any:
    """Give an id that can be looked up; JSON turns the tuple of an id into a list."""
    frozen = tuple(node_id) if isinstance(node_id, list) else node_id
    try:
        hash(frozen)
    except TypeError:
        raise ValidationError(f"{where}: {node_id!r:.60} cannot be an id: use a str, an int or a tuple") from None
    return frozen


def _node_label(node: Mapping[str, Any], where: str, index: int) -> str:
    operation = node.get("operation", _MISSING)
    if operation is _MISSING:
        operation = node.get("op", _MISSING)
        if operation is _MISSING:
            raise ValidationError(
                f"{where}['nodes'][{index}]: no 'operation' (or 'op') in {node!r:.100}; "
                "a node without one has 'operation': None"
            )
    params = node.get("params")
    if params is None:
        params = {}
    elif not isinstance(params, Mapping):
        raise ValidationError(f"{where}['nodes'][{index}]['params']: must be a dict, not {params!r:.60}")
    text = _canonical(params, where, "nodes", index, "params")
    return f'"operation":{_canonical(operation, where, "nodes", index, "operation")},"params":{text}'


def _canonical(value: Any, where: str, part: str, index: int, field: str) -> str:
    text = canonical_json_of_flat(value)
    if text is not None:
        return text
    return canonical_json(plain_for_key(value, f"{where}[{part!r}][{index}][{field!r}]"))


def _ends(edge: Any, positions: Mapping[Any, int], where: str, index: int) -> tuple[int, int]:
    if type(edge) is dict:
        try:
            return positions[edge["source"]], positions[edge["target"]]
        except (KeyError, TypeError):
            pass  # another spelling, or a mistake to be named
    if isinstance(edge, Mapping):
        names = [edge.get(name, edge.get(f"{name}_id", _MISSING)) for name in ("source", "target")]
    elif isinstance(edge, list | tuple) and len(edge) in (2, 3):
        names = list(edge[:2])
    else:
        raise ValidationError(
            f"{where}['edges'][{index}]: an edge must be a dict with 'source' and 'target', or a pair, or a triple "
            f"with the operation, not {edge!r:.60}"
        )
    source, target = (
        _end(name, side, positions, f"{where}['edges'][{index}]")
        for name, side in zip(names, ("source", "target"), strict=True)
    )
    return source, target


def _end(name: Any, side: str, positions: Mapping[Any, int], where: str) -> int:
    if name is _MISSING:
        raise ValidationError(f"{where}: no {side!r}")
    position = positions.get(_hashable(name, where))
    if position is None:
        raise ValidationError(f"{where}: its {side} {name!r:.60} is no node")
    return position


def _edge_label(edge: Any, where: str, index: int) -> str:
    port = None
    if isinstance(edge, Mapping):
        port = edge.get("port")
        operation = edge.get("operation")
        if operation is None:
            operation = edge.get("op")
    else:
        operation = edge[2] if len(edge) > 2 else None  # noqa: PLR2004 - a triple
    if operation is None and port is None:
        return ""
    return ",".join(
        f'"{field}":{_canonical(value, where, "edges", index, field)}'
        for field, value in (("operation", operation), ("port", port))
        if value is not None
    )
