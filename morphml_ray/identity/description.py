"""What is stored of a graph: the dict of nodes and edges as it was given, with its ids, its names and its order.

What only describes is left out where it cannot be stored (an object among the metadata) or makes the graph too large.
Ids that JSON cannot keep apart are replaced by the positions of their nodes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from morphml_ray.errors import ValidationError
from morphml_ray.identity.canonical_json import BARE, EXACT, quick_json
from morphml_ray.identity.fields import EDGE_DESCRIBES, ENDS, GRAPH_DESCRIBES, NODE_DESCRIBES
from morphml_ray.identity.graph import Graph, opened, opened_edge, read_graph
from morphml_ray.identity.named_values import NamedFields, has_fields, named_items, plain_for_key
from morphml_ray.identity.spec import pack_json, pack_value, unpack_spec
from morphml_ray.model.plain import Plain, encode_json

_IDS = ENDS | {"id"}
_WHERE = "architecture"


def pack_graph(given: Mapping[str, Any], graph: Graph) -> bytes:
    """Give the spec of a graph.

    Args:
        given: its description.
        graph: what was read from it.

    Raises:
        ValidationError: it is too large, even without what only describes.
    """
    try:
        if graph.level == BARE:
            return _pack_bare(given)
        if graph.level == EXACT:
            return pack_json(encode_json(given).encode())
        return _pack_odd(given, graph)
    except ValidationError:
        return _pack_plain(_plain(_renumbered(given, graph) if graph.has_odd_ids else given, keeps_all=False))


def _pack_bare(given: Mapping[str, Any]) -> bytes:
    """Write edges that are tuples as ``encode_json`` does; all else is bare, which saves the look at each value."""
    kinds = set(map(type, given["edges"]))
    if tuple not in kinds:
        return pack_json(msgspec.json.encode(given))
    if kinds == {tuple}:
        return pack_json(msgspec.json.encode(given), has_tuple_edges=True)
    edges = [{"$tuple": list(edge)} if type(edge) is tuple else edge for edge in given["edges"]]
    return pack_json(msgspec.json.encode({**given, "edges": edges}))


def _pack_odd(given: Mapping[str, Any], graph: Graph) -> bytes:
    try:
        spec = _pack_plain(_plain(given))
        if not graph.has_odd_ids or read_graph(unpack_spec(spec)).edges == graph.edges:
            return spec
    except ValidationError:
        if not graph.has_odd_ids:
            raise
    return _pack_plain(_plain(_renumbered(given, graph)))


def _pack_plain(given: Plain) -> bytes:
    """Pack a description that has become plain: in the same bytes as if it had been so."""
    if type(given) is dict and type(given["edges"]) is list:
        bare = {**given, "edges": [list(edge) if type(edge) is tuple else edge for edge in given["edges"]]}
        _, level = quick_json(bare) or ("", EXACT)
        if level == BARE:
            return _pack_bare(given)
    return pack_value(given)


def _plain(given: Mapping[str, Any], *, keeps_all: bool = True) -> Plain:
    """Give the description as a plain value, without describing fields that cannot be stored, or without any."""
    beside = {name: value for name, value in given.items() if name not in ("nodes", "edges")}
    whole: dict[str, Plain] = _kept(beside, GRAPH_DESCRIBES, keeps_all)
    for part, describes in (("nodes", NODE_DESCRIBES), ("edges", EDGE_DESCRIBES)):
        items = [_kept(item, describes, keeps_all) for item in given[part]]
        whole[part] = tuple(items) if isinstance(given[part], tuple) else items
    return _like(given, {name: whole[name] for name in given if name in whole})


def _kept(item: Any, describes: frozenset[str], keeps_all: bool) -> Plain:
    """Give a node or an edge, or what stands beside them, as a plain value."""
    owner = opened_edge(item, _WHERE)
    if keeps_all or owner is None:
        try:
            return _storable(item)
        except ValidationError:
            if owner is None:
                raise
    stays = describes if keeps_all else describes & _IDS
    fields = {
        name: value for name, value in owner.items() if name not in describes or (name in stays and _is_storable(value))
    }
    return _storable(_like(owner, fields))


def _storable(value: Any) -> Plain:
    return plain_for_key(value, _WHERE, finite=False)


def _is_storable(value: Any) -> bool:
    try:
        _storable(value)
    except ValidationError:
        return False
    return True


def _like(owner: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """Give the fields the class of their owner."""
    return NamedFields(owner.type_name, fields) if isinstance(owner, NamedFields) else fields


def _renumbered(given: Mapping[str, Any], graph: Graph) -> Mapping[str, Any]:
    """Give the description with positions for ids."""
    nodes = []
    for index, node in enumerate(given["nodes"]):
        fields = opened(node, _WHERE)
        nodes.append(_like(fields, {**(fields or {}), "id": index}))
    edges = [_with_ends(edge, ends) for edge, (*ends, _) in zip(given["edges"], graph.edges, strict=True)]
    return _like(given, {**given, "nodes": nodes, "edges": edges})


def _with_ends(edge: Any, ends: Sequence[int]) -> Any:
    fields = opened_edge(edge, _WHERE)
    if fields is not None:
        beside = {name: value for name, value in fields.items() if name not in ENDS}
        return _like(fields, {**beside, "source": ends[0], "target": ends[1]})
    items = (*ends, *edge[2:])
    return named_items(edge, items) if has_fields(edge) else type(edge)(items)
