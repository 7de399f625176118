"""Architecture keys: which architectures are one, what is accepted, and what is refused how."""

import hashlib
import json
import math
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morphml_ray.errors import ValidationError
from morphml_ray.identity import decode_architecture, encode_architecture
from morphml_ray.identity.canonical_json import BARE, EXACT, canonical_json, quick_json
from morphml_ray.identity.named_values import plain_for_key
from morphml_ray.model.plain import decode_json

GOLDEN = json.loads((Path(__file__).parent / "golden" / "identity.json").read_text())
CONFIGS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
).filter(lambda config: config is not None)


def key_of(architecture: Any, identity: Any = "structural", scope: str = "") -> str:
    return encode_architecture(architecture, identity, scope).key


def graph(*operations: Any, edges: Any = (), **extra: Any) -> dict[str, Any]:
    nodes = [{"id": index, "operation": operation} for index, operation in enumerate(operations)]
    return {"nodes": nodes, "edges": list(edges), **extra}


def with_params(params: Any) -> dict[str, Any]:
    return {"nodes": [{"id": 0, "operation": "conv", "params": params}], "edges": []}


@pytest.mark.parametrize("vector", GOLDEN, ids=lambda vector: vector["name"])
def test_keys_never_change(vector: dict[str, Any]) -> None:
    assert key_of(vector["architecture"], vector["identity"]) == vector["key"]


def test_a_key_can_be_computed_by_hand() -> None:
    text = (
        '{"edges":[{"source":0,"target":1},{"operation":"add","port":1,"source":0,"target":1}],"nodes":['
        '{"id":0,"operation":"conv","params":{"bias":null,"k":3,"rate":0.5}},{"id":1,"operation":"out","params":{}}]}'
    )
    nodes = [
        {"id": "b", "operation": "out"},
        {"id": "a", "op": "conv", "params": {"rate": 0.5, "k": 3.0, "bias": None}},
    ]
    edges = [{"source": "a", "target": "b", "operation": "add", "port": 1}, ("a", "b")]
    assert key_of({"nodes": nodes, "edges": edges}) == f"g1:{hashlib.sha256(text.encode()).hexdigest()}"
    config_text = b'{"a":[1,0,true,null],"b":1e-07}'
    config = f"j1:{hashlib.sha256(config_text).hexdigest()}"
    assert key_of({"b": 1e-7, "a": (1.0, -0.0, True, None)}) == config


def test_lesson_01_keys_are_the_same_in_every_process() -> None:
    program = (
        "from morphml_ray.identity import encode_architecture as encode\n"
        "graph = {'nodes': [{'id': name, 'operation': 'x'} for name in {'a', 'b', 'c'}], 'edges': [('a', 'b')]}\n"
        "print(encode(graph).key, encode({name: 1 for name in {'x', 'y', 'z'}}, 'exact').key)\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(printed) == 1


def test_lesson_01_wiring_and_edge_operations_count() -> None:
    convs = ["conv"] * 5
    chain = [(0, 1), (1, 2), (2, 3), (3, 4)]
    keys = {
        key_of(graph("conv32", "conv64", edges=[(0, 1)])),
        key_of(graph("conv64", "conv32", edges=[(0, 1)])),
        key_of(graph(*convs, edges=[*chain, (1, 3)])),
        key_of(graph(*convs, edges=[*chain, (1, 4)])),
        key_of(graph(*convs, edges=[*chain, (1, 4, "add")])),
        key_of(graph(*convs, edges=[*chain, (1, 4, "concat")])),
        key_of(graph(*convs, edges=[*chain, {"source": 1, "target": 4, "port": 0}])),
        key_of(graph(*convs, edges=[*chain, {"source": 1, "target": 4, "port": 1}])),
        key_of(graph(*convs, edges=[*chain, (1, 4), (1, 4)])),
        key_of(graph(*convs, edges=[*chain, (4, 1)])),
    }
    assert len(keys) == 10


def test_names_positions_and_metadata_do_not_count() -> None:
    plain = graph("conv", "pool", edges=[(0, 1)])
    nodes = [
        {"id": "x", "operation": "pool", "name": "n1", "position": (0, 1), "metadata": {"seen": object()}},
        {"id": "y", "operation": "conv", "params": None, "pos": 3, "predecessor_ids": [], "successor_ids": ["x"]},
    ]
    ends = {"source_id": "y", "target_id": "x"}
    edge: dict[str, Any] = {**ends, "operation": None, "params": {}, "port": None, "name": "e", "metadata": 3, "id": 7}
    dressed = {"nodes": nodes, "edges": [edge], "metadata": {"created": 1}, "name": "n", "id": 2}
    assert key_of(plain) == key_of(dressed)


@pytest.mark.parametrize(
    "edge",
    [
        {"source": 0, "target": 1, "operation": "add"},
        {"source": 0, "target": 1, "op": "add"},
        {"source_id": 0, "target_id": 1, "operation": "add", "port": None},
        (0, 1, "add"),
        [0, 1, "add"],
        {"source": np.int64(0), "target": 1.0, "op": np.str_("add")},
        types.MappingProxyType({"source": 0, "target": 1, "op": "add"}),
    ],
)
def test_edges_can_be_written_in_several_ways(edge: Any) -> None:
    assert key_of(graph("a", "b", edges=[edge])) == key_of(graph("a", "b", edges=[(0, 1, "add")]))


@pytest.mark.parametrize("ids", [("a", "b"), (7, "7"), ((0, 1), (1, 0)), (None, 0), (3, -1)])
def test_ids_can_be_anything_that_names(ids: tuple[Any, Any]) -> None:
    nodes = [{"id": ids[0], "operation": "a"}, {"id": ids[1], "operation": "b"}]
    assert key_of({"nodes": nodes, "edges": [(ids[0], ids[1])]}) == key_of(graph("a", "b", edges=[(0, 1)]))
    as_json = {"nodes": nodes, "edges": [[list(each) if isinstance(each, tuple) else each for each in ids]]}
    assert key_of(as_json) == key_of(graph("a", "b", edges=[(0, 1)]))


def test_a_node_without_an_id_goes_by_its_position() -> None:
    nodes = ({"operation": "a"}, {"operation": "b"})
    assert key_of({"nodes": nodes, "edges": ((0, 1),)}) == key_of(graph("a", "b", edges=[(0, 1)]))


@pytest.mark.parametrize(
    "edges", [[], [(0, 0)], [(0, 1), (1, 0)], [(0, 1), (0, 1)], [(0, 0), (0, 0), (1, 1)], [(0, 1, "x"), (0, 1)]]
)
def test_loops_cycles_and_parallel_edges_work(edges: list[Any]) -> None:
    encoded = encode_architecture(graph("a", "a", edges=edges))
    decoded = decode_architecture(encoded.spec, encoded.codec)
    assert encode_architecture(decoded) == encoded
    assert (encoded.n_nodes, encoded.n_edges, encoded.codec) == (2, len(edges), "graph")
    others = [[], [(0, 1)], [(0, 0), (1, 1)], [(0, 0), (1, 1), (1, 1), (1, 1)]]
    assert encoded.key not in [key_of(graph("a", "a", edges=other)) for other in others if other != edges]


def test_the_empty_graph_and_a_single_node_work() -> None:
    empty = encode_architecture({"nodes": [], "edges": []})
    assert decode_architecture(empty.spec, empty.codec) == {"nodes": [], "edges": []}
    assert (empty.n_nodes, empty.n_edges) == (0, 0)
    single = encode_architecture(graph("conv"))
    decoded = decode_architecture(single.spec, single.codec)
    assert decoded == graph("conv")
    assert len({empty.key, single.key, key_of({"nodes": 3, "edges": []})}) == 3


def test_only_nodes_with_edges_make_a_graph() -> None:
    for config in ({"nodes": 5, "edges": 9}, {"nodes": [], "edges": "dense"}, {"nodes": 3, "lr": 0.1}):
        encoded = encode_architecture(config)
        assert (encoded.key[:3], encoded.codec, encoded.n_nodes) == ("j1:", "", 0)
        assert decode_architecture(encoded.spec, encoded.codec) == config


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"x": 1}, {"x": 1.0}),
        ({"x": 0}, {"x": -0.0}),
        ({"x": 10**22}, {"x": 1e22}),
        ({"x": (1, [2])}, {"x": [1, (2,)]}),
        ({"x": 1, "y": 2}, {"y": 2, "x": 1}),
        ({"x": 0.5}, {"x": np.float32(0.5)}),
        ({"x": 3}, {"x": np.int8(3)}),
        ({"x": True}, {"x": np.bool_(True)}),  # noqa: FBT003 - numpy's own constructor
        ({"x": [1, 2]}, {"x": np.array([1, 2])}),
        ({"ä": "ö"}, {"ä": np.str_("ö")}),
    ],
)
def test_lesson_08_equal_values_have_equal_keys(one: Any, other: Any) -> None:
    assert key_of(one) == key_of(other)
    assert key_of(with_params(one)) == key_of(with_params(other))
    assert key_of({"nodes": [{"op": "x", "k": one}], "edges": []}) == key_of(
        {"nodes": [{"op": "x", "k": other}], "edges": []}
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"x": True}, {"x": 1}),
        ({"x": False}, {"x": 0}),
        ({"x": None}, {}),
        ({"x": "1"}, {"x": 1}),
        ({"x": 2**53}, {"x": 2**53 + 1}),
        ({"x": float(2**53)}, {"x": 2**53 + 1}),
        ({"x": 0.1}, {"x": np.float32(0.1)}),
        ({"x": [1, 2]}, {"x": [2, 1]}),
        ({"x": [[1], 2]}, {"x": [1, [2]]}),
        ({"x": "null"}, {"x": None}),
        ({"x": "é"}, {"x": "e\u0301"}),
        ({"x": "\0"}, {"x": ""}),
        ({'a":1,"b': 1}, {"a": 1, "b": 1}),
    ],
)
def test_unequal_values_have_different_keys(one: Any, other: Any) -> None:
    assert key_of(one) != key_of(other)
    assert key_of(with_params(one)) != key_of(with_params(other))
    assert key_of(with_params({"deep": [one]})) != key_of(with_params({"deep": [other]}))


@given(CONFIGS)
def test_a_config_comes_back_equal(config: Any) -> None:
    encoded = encode_architecture(config)
    decoded = decode_architecture(encoded.spec, encoded.codec)
    assert repr(decoded) == repr(config)
    assert encode_architecture(decoded) == encoded


def as_list(value: Any) -> Any:
    """What == does not know: a tuple counts as a list, a bool is no number."""
    if isinstance(value, list | tuple):
        return [as_list(item) for item in value]
    if isinstance(value, dict):
        return {key: as_list(item) for key, item in value.items()}
    return ("bool", value) if isinstance(value, bool) else value


@given(CONFIGS, CONFIGS)
def test_canonical_texts_are_equal_exactly_for_equal_values(one: Any, other: Any) -> None:
    texts = [canonical_json(plain_for_key(value, "")) for value in (one, other)]
    assert (texts[0] == texts[1]) == (as_list(one) == as_list(other))
    assert canonical_json(json.loads(texts[0])) == texts[0]


@given(CONFIGS | st.dictionaries(st.text(max_size=4), st.floats() | st.text()))
def test_the_short_way_to_canonical_json_agrees_with_the_long_one(value: Any) -> None:
    quick = quick_json(value)
    if quick is None:
        with pytest.raises(ValidationError, match="not a finite number"):
            plain_for_key(value, "")
        return
    text, level = quick
    assert text == canonical_json(plain_for_key(value, ""))
    assert level in (BARE, EXACT)
    if level == BARE:
        assert decode_json(msgspec.json.encode(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        {"\ud800": 1},
        math.nan,
        [-math.inf],
        {1: 2},
        {"a": {1, 2}},
        10**4000,
        np.int64(1),
        "x" * 300 + "\udfff",
    ],
)
def test_the_short_way_leaves_what_must_be_looked_at(value: Any) -> None:
    assert quick_json(value) is None


def test_the_short_way_knows_how_deep_is_too_deep() -> None:
    value: Any = "x"
    for depth in range(1, 103):
        value = {"a": value} if depth % 2 else [value, *["wide"] * 60]
        assert (quick_json(value) is None) == (depth > 100)
    assert quick_json([[index] for index in range(500)]) is not None


@pytest.mark.parametrize(
    ("value", "level"), [((1,), EXACT), ({"$x": 1}, EXACT), (1e16, EXACT), ({"$x": 1, "y": 2}, BARE)]
)
def test_what_json_has_no_word_for_is_not_bare(value: Any, level: int) -> None:
    assert (quick_json([value]) or ("", 0))[1] == level
