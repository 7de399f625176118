"""Which fields of a graph, of its nodes and of its edges count, and how they are written.

A field that counts by mistake costs a second training, one that does not a result. So all count but the few of a
closed list, which describe and do not compute.
"""

import logging
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring
from typing import Any, TypeAlias

from morphml_ray.errors import ValidationError
from morphml_ray.identity.canonical_json import BARE, ODD, canonical_json, quick_json, quick_node_label
from morphml_ray.identity.named_values import NamedFields, class_mark, has_fields, plain_for_key

ENDS = frozenset({"source", "target", "source_id", "target_id"})
"""Fields of an edge that name its ends."""

NODE_DESCRIBES = frozenset({"id", "name", "pos", "position", "metadata", "predecessor_ids", "successor_ids"})
"""Fields of a node that do not count."""

EDGE_DESCRIBES = frozenset({"id", "name", "metadata"}) | ENDS
"""Fields of an edge that do not count; its ends do, as positions."""

GRAPH_DESCRIBES = frozenset({"id", "name", "metadata"})
"""Fields beside "nodes" and "edges" that do not count."""

_USUAL = frozenset({"operation", "params", "port"})
_PARTS = frozenset({"nodes", "edges"})
_IDS = frozenset({"id"})
_USUAL_OF_NODE = frozenset({"id", "operation", "op", "params"})
_DICT_OR_NONE = (dict, type(None))
_MAX_LOGGED = 200  # names; whoever makes up names for fields has been told by then

_logger = logging.getLogger("morphml_ray.identity")
_logged: dict[tuple[str, str], object] = {}


Place: TypeAlias = tuple[str, str, int]
"""Where a node or an edge stands, for errors: what the architecture is called, "nodes" or "edges", the index in that
list; ("architecture", "", 0) is the graph itself."""


def located(place: Place) -> str:
    """Write a place as an error shows it."""
    where, part, index = place
    return f"{where}[{part!r}][{index}]" if part else where


def node_label(node: Mapping[str, Any], place: Place) -> tuple[str, int]:
    """Give what of a node counts, as canonical JSON without the braces, and what the node needs to be stored.

    Raises:
        ValidationError: it has no operation, or holds what cannot be stored.
    """
    label = _usual_node_label(node)
    if label is not None:
        return label, BARE
    counted, level = _counted(node, NODE_DESCRIBES, _IDS)
    if "operation" not in counted:
        if "op" not in counted:
            raise ValidationError(
                f"{located(place)}: no 'operation' (or 'op') in {node!r:.100}; a node without one has 'operation': None"
            )
        counted["operation"] = counted.pop("op")
    params = counted.get("params")
    if params is None:
        counted["params"] = {}
    elif type(params) is not dict and not isinstance(params, Mapping) and not has_fields(params):
        raise ValidationError(f"{located(place)}['params']: must be a dict, not {params!r:.60}")
    return _label(node, counted, level, "node", place)


def _usual_node_label(node: Mapping[str, Any]) -> str | None:
    """Give the label of a node as nearly all are, in a third of the time."""
    if type(node) is not dict or not _USUAL_OF_NODE.issuperset(node) or ("op" in node) == ("operation" in node):
        return None
    params = node.get("params")
    operation = node["operation"] if "operation" in node else node["op"]
    return quick_node_label(operation, {} if params is None else params) if type(params) in _DICT_OR_NONE else None


def edge_label(edge: Mapping[str, Any], place: Place) -> tuple[str, int]:
    """Give what of an edge counts beside its ends; as :func:`node_label`, but empty where nothing does.

    Raises:
        ValidationError: it holds what cannot be stored.
    """
    counted, level = _counted(edge, EDGE_DESCRIBES, ENDS)
    for name in ("operation", "op", "port"):
        if counted.get(name) is None:
            counted.pop(name, None)
    if "operation" not in counted and "op" in counted:
        counted["operation"] = counted.pop("op")
    if "params" in counted and _is_nothing(counted["params"]):
        del counted["params"]
    return _label(edge, counted, level, "edge", place)


def graph_label(graph: Mapping[str, Any], place: Place) -> tuple[str, int]:
    """Give what counts beside the nodes and the edges; as :func:`edge_label`.

    Raises:
        ValidationError: it holds what cannot be stored.
    """
    if type(graph) is dict and len(graph) == len(_PARTS):
        return "", BARE
    counted, level = _counted(graph, GRAPH_DESCRIBES | _PARTS, _PARTS)
    return _label(graph, counted, level, "graph", place)


def _is_nothing(params: Any) -> bool:
    return params is None or (isinstance(params, Mapping) and not params and not has_fields(params))


def _counted(fields: Mapping[str, Any], describes: frozenset[str], known: frozenset[str]) -> tuple[dict[str, Any], int]:
    """Give the fields that count, and what the others need to be stored, but for the known ones."""
    level = BARE if type(fields) is dict else ODD
    counted = {}
    for name, value in fields.items():
        if name not in describes:
            counted[name] = value
        elif level and name not in known:
            _, needed = quick_json(value) or ("", ODD)
            level = min(level, needed)
    return counted, level


def _label(owner: Any, counted: dict[str, Any], level: int, part: str, place: Place) -> tuple[str, int]:
    if not counted.keys() <= _USUAL:
        plain_for_key(dict.fromkeys(counted), located(place))  # the names must be texts
        _log(counted.keys() - _USUAL, part)
    quick = quick_json(counted)
    if quick is not None:
        text, needed = quick
        label, level = text[1:-1], min(level, needed)
    else:
        label, level = ",".join([_member(name, counted[name], place) for name in sorted(counted)]), ODD
    return f"{class_mark(owner)}{label}" if type(owner) is NamedFields else label, level


def _member(name: str, value: Any, place: Place) -> str:
    return f"{encode_basestring(name)}:{canonical_json(plain_for_key(value, f'{located(place)}[{name!r}]'))}"


def _log(names: Iterable[str], part: str) -> None:
    """Say of each name once a process that it counts, so that a coordinate that splits networks is noticed."""
    for name in sorted(names):
        mark = object()
        if len(_logged) < _MAX_LOGGED and _logged.setdefault((part, name), mark) is mark:
            _logger.warning(
                "the %s field %r counts: architectures that differ in it are two. "
                "What only describes (a position, a colour) belongs into 'metadata', which does not count",
                part,
                name,
            )
