"""networkx graphs, described as dicts; networkx itself is not imported."""

from collections.abc import Iterator, Mapping
from typing import Any

from morphml_ray.errors import ValidationError


def networkx_as_dict(graph: Any) -> dict[str, Any]:
    """Describe a DiGraph or MultiDiGraph with all attributes of the graph, its nodes and its edges.

    Raises:
        ValidationError: an attribute has a name that the description needs for something else.
    """
    # A graph without attributes is its shape; nodes with others but no operation are a mistake that is reported.
    nodes = [
        {"id": node, **{name: value for name, value in (attributes or {"operation": None}).items() if name != "id"}}
        for node, attributes in graph.nodes(data=True)
    ]
    edges = [
        _with(attributes, f"the edge {source!r:.40} to {target!r:.40}", **key, source=source, target=target)
        for source, target, key, attributes in _edges(graph)
    ]
    return _with(getattr(graph, "graph", {}), "the graph", nodes=nodes, edges=edges)


def _edges(graph: Any) -> Iterator[tuple[Any, Any, dict[str, Any], Mapping[str, Any]]]:
    """Give the ends, the key if it counts, and the attributes of each edge.

    Where the keys of parallel edges are 0, 1, 2, ... they are the numbers that networkx gives by itself, which say
    in which order the edges were added.
    """
    for source, targets in graph.adjacency():
        for target, found in targets.items():
            if not graph.is_multigraph():
                yield source, target, {}, found
                continue
            is_numbered = set(found) == set(range(len(found)))
            for key, attributes in found.items():
                yield source, target, {} if is_numbered else {"key": key}, attributes


def _with(attributes: Mapping[str, Any], what: str, **own: Any) -> dict[str, Any]:
    for name, value in own.items():
        if name in attributes and not _is_same(attributes[name], value):
            raise ValidationError(f"networkx: {what} has an attribute {name!r}, which stands for something else here")
    return {**own, **attributes}


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and type(one) in (int, str) and one == other)
