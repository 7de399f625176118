"""From an architecture to its key and its bytes, and back."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from morphml_ray.errors import CorruptDataError, ValidationError
from morphml_ray.identity.canonical_json import canonical_json, quick_json
from morphml_ray.identity.canonical_order import canonical_order
from morphml_ray.identity.codecs import codec_named
from morphml_ray.identity.description import pack_graph
from morphml_ray.identity.forms import WAYS, Form, open_form
from morphml_ray.identity.graph import Graph
from morphml_ray.identity.named_values import plain_for_key
from morphml_ray.identity.partition import WorkBoundError
from morphml_ray.identity.spec import pack_json, pack_value, unpack_spec
from morphml_ray.model.plain import UnsupportedTypeError, encode_json

Identity = Literal["structural", "exact"] | Callable[[Any], str | Mapping[str, Any]]

_logger = logging.getLogger("morphml_ray.identity")


@dataclass(frozen=True)
class EncodedArchitecture:
    """An architecture, ready to be stored.

    Attributes:
        key: ``<scheme>:<64 hex>``; the scheme is "g1" for a graph by structure, "j1" for a value as it is, "u1" for
            an identity of the caller's own.
        spec: the architecture itself, compressed.
        codec: what :func:`decode_architecture` needs beside the spec.
        n_nodes: nodes of the graph, 0 for a config.
        n_edges: edges of the graph, 0 for a config.
    """

    key: str
    spec: bytes
    codec: str
    n_nodes: int
    n_edges: int


def encode_architecture(architecture: Any, identity: Identity = "structural", scope: str = "") -> EncodedArchitecture:
    """Give an architecture's key and bytes.

    Equal keys mean equal architectures. With "structural", the ids and the listing order of a graph's nodes do not
    count, nor the few fields that describe and do not compute (``fields.py`` lists them); all else does. With
    "exact" everything counts, the order of lists included. A function gives what to compare: a text, or a dict that
    is compared by structure.

    Past 5,000 nodes, or where its nodes are too hard to tell apart, a graph is keyed as listed, and that is logged:
    the same network in another order then gets another key. The bounds count nodes and steps, never time.

    Args:
        architecture: a config, a graph, or an object that gives one; ``forms.WAYS`` lists them.
        identity: "structural", "exact" or a function of the architecture.
        scope: what an identity of the caller's own is valid for: the experiment's id.

    Raises:
        TypeError: it is no architecture; the message names what is.
        ValidationError: it cannot be stored; the message says where and why.
    """
    try:
        form = open_form(architecture)
        key, spec = _key_and_spec(architecture, form, identity, scope)
    except UnsupportedTypeError as error:
        raise TypeError(f"{error}. {WAYS}") from error
    if form.graph is None:
        return EncodedArchitecture(key, spec, form.codec, 0, 0)
    return EncodedArchitecture(key, spec, form.codec, len(form.graph.labels), len(form.graph.edges))


def decode_architecture(spec: bytes, codec: str, key: str = "") -> Any:
    """Give the architecture back: what :func:`encode_architecture` gives this key for.

    A config equals what went in, its numpy values as Python's. A graph is its dict of "nodes" and "edges", with its
    ids and names, in the order of its lists. An object is a dict of its fields (``NamedFields``), a named tuple a
    tuple (``NamedItems``); both know the name of the class. A registered codec builds its own object from that; where
    this process has not registered it, the undecoded description is given.

    Args:
        spec: what was stored.
        codec: what was stored beside it.
        key: the architecture's key, for errors.

    Raises:
        CorruptDataError: the bytes are damaged, or a registered codec fails on what they hold; the message names
            the key.
    """
    try:
        described = unpack_spec(bytes(spec))
    except CorruptDataError as error:
        raise CorruptDataError(f"the architecture {key or 'of an unstated key'}: {error}") from error
    registered = codec_named(codec)
    if registered is None:
        return described
    try:
        return registered.decode(described)
    except Exception as error:  # a function of the user
        raise CorruptDataError(f"the architecture {key}: decode of {registered.name} failed: {error!r:.200}") from error


def _key_and_spec(architecture: Any, form: Form, identity: Identity, scope: str) -> tuple[str, bytes]:
    if identity == "structural":
        if form.graph is None:
            return _exact(form.given)
        return _graph_key(form.graph), pack_graph(form.described, form.graph)
    if identity == "exact":
        return _exact(form.given)
    if not callable(identity):
        raise ValidationError(f"identity: 'structural', 'exact' or a function is needed, not {identity!r:.60}")
    # The whole description is kept, so that the function finds again what it looked at.
    return _own_key(identity(architecture), scope), _exact(form.given)[1]


def _exact(given: Any) -> tuple[str, bytes]:
    quick = quick_json(given)
    if quick is not None:
        return _key("j1", quick[0]), pack_json(encode_json(given).encode())
    plain = plain_for_key(given, "architecture")
    return _key("j1", canonical_json(plain)), pack_value(plain)


def _graph_key(graph: Graph) -> str:
    try:
        return _key("g1", graph.to_json(canonical_order(graph)))
    except WorkBoundError:
        _logger.warning(
            "a graph of %d nodes and %d edges is too large or too regular for a structural key: "
            "it is keyed as listed, so the same network listed in another order counts as another one",
            len(graph.labels),
            len(graph.edges),
        )
        return _key("j1", graph.to_json(range(len(graph.labels))))


def _own_key(identity: Any, scope: str) -> str:
    if isinstance(identity, str):
        kind, text = "text", plain_for_key(identity, "identity")
    elif isinstance(identity, Mapping):
        kind, text = "dict", _key_and_spec(identity, open_form(identity), "structural", "")[0]
    else:
        raise ValidationError(f"identity: the function must give a str or a dict, not {identity!r:.60}")
    return _key("u1", canonical_json([scope, kind, text]))


def _key(scheme: str, text: str) -> str:
    return f"{scheme}:{sha256(text.encode()).hexdigest()}"
