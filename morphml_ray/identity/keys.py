"""From an architecture to its key and its bytes, and back."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from morphml_ray.errors import ValidationError
from morphml_ray.identity.canonical_json import canonical_json, plain_for_key
from morphml_ray.identity.canonical_order import canonical_order
from morphml_ray.identity.codecs import codec_named
from morphml_ray.identity.forms import WAYS, Form, open_form
from morphml_ray.identity.graph import Graph
from morphml_ray.identity.partition import WorkBoundError
from morphml_ray.identity.spec import pack_spec, unpack_spec
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

    Equal keys mean equal architectures. With "structural", a graph's ids, listing order, names and metadata do not
    count; only its nodes and edges are kept. With "exact" everything counts, the order of lists included. A
    function gives what to compare: a text, or a dict that is compared by structure.

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


def decode_architecture(spec: bytes, codec: str) -> Any:
    """Give the architecture back.

    A config equals what went in, its numpy values and objects as Python's. A graph is a dict of "nodes" and
    "edges", by structure in canonical order with ids from 0. A registered codec builds its object from that; where
    this process has not registered it, the undecoded description is given.

    Raises:
        CorruptDataError: the bytes are damaged.
    """
    described = unpack_spec(bytes(spec))
    registered = codec_named(codec)
    return described if registered is None else registered.decode(described)


def _key_and_spec(architecture: Any, form: Form, identity: Identity, scope: str) -> tuple[str, bytes]:
    if identity == "structural":
        return _structural(form)
    plain = plain_for_key(form.given, "architecture")
    spec = pack_spec(encode_json(plain), is_tagged=True)
    if identity == "exact":
        return _key("j1", canonical_json(plain)), spec
    if not callable(identity):
        raise ValidationError(f"identity: 'structural', 'exact' or a function is needed, not {identity!r:.60}")
    # The whole description is kept, so that the function finds again what it looked at.
    return _own_key(identity(architecture), scope), spec


def _structural(form: Form) -> tuple[str, bytes]:
    if form.graph is not None:
        scheme, text = _graph_text(form.graph)
        return _key(scheme, text), pack_spec(text, is_tagged=False)
    plain = plain_for_key(form.given, "architecture")
    return _key("j1", canonical_json(plain)), pack_spec(encode_json(plain), is_tagged=True)


def _graph_text(graph: Graph) -> tuple[str, str]:
    try:
        return "g1", graph.to_json(canonical_order(graph))
    except WorkBoundError:
        _logger.warning(
            "a graph of %d nodes and %d edges is too large or too regular for a structural key: "
            "it is keyed as listed, so the same network listed in another order counts as another one",
            len(graph.labels),
            len(graph.edges),
        )
        return "j1", graph.to_json(range(len(graph.labels)))


def _own_key(identity: Any, scope: str) -> str:
    if isinstance(identity, str):
        kind, text = "text", plain_for_key(identity, "identity")
    elif isinstance(identity, Mapping):
        kind, text = "dict", _structural(open_form(identity))[0]
    else:
        raise ValidationError(f"identity: the function must give a str or a dict, not {identity!r:.60}")
    return _key("u1", canonical_json([scope, kind, text]))


def _key(scheme: str, text: str) -> str:
    return f"{scheme}:{sha256(text.encode()).hexdigest()}"
