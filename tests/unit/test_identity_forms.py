"""The forms in which architectures are accepted, what is refused how, and identities of one's own."""

import dataclasses
import enum
import math
import types
from typing import Any

import networkx as nx
import numpy as np
import pydantic
import pytest

from morphml_ray.errors import ValidationError
from morphml_ray.identity import decode_architecture, encode_architecture


def key_of(architecture: Any, identity: Any = "structural", scope: str = "") -> str:
    return encode_architecture(architecture, identity, scope).key


def graph(*operations: Any, edges: Any = (), **extra: Any) -> dict[str, Any]:
    nodes = [{"id": index, "operation": operation} for index, operation in enumerate(operations)]
    return {"nodes": nodes, "edges": list(edges), **extra}


def with_params(params: Any) -> dict[str, Any]:
    return {"nodes": [{"id": 0, "operation": "conv", "params": params}], "edges": []}


@dataclasses.dataclass
class Widths:
    layers: tuple[int, ...]
    activation: str = "relu"


class Settings(pydantic.BaseModel):
    depth: int
    rate: float


class Described:
    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def to_arch_spec(self) -> Any:
        return self.spec


class ModelGraph:
    """What MorphML's ModelGraph gives."""

    def to_dict(self) -> dict[str, Any]:
        nodes = [{"id": "n-81", "operation": "input", "params": {}}, {"id": "n-07", "operation": "dense", "params": {}}]
        edges = [{"source_id": "n-81", "target_id": "n-07", "operation": None}]
        return {"nodes": nodes, "edges": edges, "metadata": {"age": 3}}


class Activation(enum.Enum):
    RELU = "relu"


INPUT_DENSE = graph("input", "dense", edges=[(0, 1)])


def networkx_graph(kind: type, name: str) -> Any:
    built = kind()
    built.add_node("out", **{name: "dense"}, params={}, position=object())
    built.add_node(("in", 0), **{name: "input"})
    built.add_edge(("in", 0), "out")
    return built


@pytest.mark.parametrize(
    ("architecture", "same"),
    [
        (ModelGraph(), INPUT_DENSE),
        (networkx_graph(nx.DiGraph, "operation"), INPUT_DENSE),
        (networkx_graph(nx.MultiDiGraph, "op"), INPUT_DENSE),
        (([[0, 1], [0, 0]], ["input", "dense"]), INPUT_DENSE),
        ((((False, True), (False, False)), ("input", "dense")), INPUT_DENSE),
        ((np.array([[0, 1], [0, 0]]), ["input", "dense"]), INPUT_DENSE),
        ((np.array([[0.0, 0.0], [1.0, 0.0]]), np.array(["dense", "input"])), INPUT_DENSE),
        (([np.array([0, 1]), np.array([0, 0])], ("input", "dense")), INPUT_DENSE),
        (Described(INPUT_DENSE), INPUT_DENSE),
        (Described(Described(networkx_graph(nx.DiGraph, "op"))), INPUT_DENSE),
        (types.MappingProxyType(INPUT_DENSE), INPUT_DENSE),
        (([[0, 3, 0], [0, 0, "x"], [0, 0, 0]], ["a", "b", "c"]), graph("a", "b", "c", edges=[(0, 1, 3), (1, 2, "x")])),
        (Described({"depth": 3}), {"depth": 3}),
        (np.array([1, 0, 1]), [1, 0, 1]),
        (np.int64(5), 5),
        (Activation.RELU, "relu"),
        ({"act": Activation.RELU, "inner": Widths(())}, {"act": "relu", "inner": Widths(())}),
    ],
)
def test_many_forms_describe_one_architecture(architecture: Any, same: Any) -> None:
    assert encode_architecture(architecture).key == encode_architecture(same).key
    encoded = encode_architecture(architecture)
    assert encode_architecture(decode_architecture(encoded.spec, encoded.codec)) == encoded


@pytest.mark.parametrize(
    "config",
    [
        ([[3]], [1]),
        ([[64, 3], [32, 3]], ["relu", "gelu"]),
        ([[64, 3], [32, 3], [16, 3]], ["relu", "gelu"]),
        ([[0, 1], [0, 0]], [1, 2]),
        ([], []),
        ([64, 32], ["relu", "relu"]),
        ("ab", ["a", "b"]),
        ([[0, 1], [0, 0]], ["a", "b"], "third"),
        [[[0, 1], [0, 0]], ["a", "b"]],
    ],
)
def test_other_pairs_stay_configs(config: Any) -> None:
    encoded = encode_architecture(config)
    assert encoded.key.startswith("j1:")
    assert decode_architecture(encoded.spec, encoded.codec) == config


@pytest.mark.parametrize(
    "config",
    [
        {"nodes": 3, "lr": 0.1},
        {"nodes": 5, "edges": 9},
        {"nodes": [64, 32], "lr": 0.1},
        {"nodes": [64, 32], "edges": 4},
        {"nodes": [], "edges": "dense"},
        {"nodes": [{"units": 3}], "edges": "dense"},
        {"nodes": 4, "edges": ["skip", "conv"]},
        {"nodes": [{"op": "conv", "inputs": [0]}]},
        {"edges": [["a", "b"]]},
        {"nodes": "abc", "edges": "ab"},
        {"nodes": 4, "links": [1]},
        {"nodes": [64, 32], "links": [1]},
    ],
)
def test_case_35_honest_configs_are_configs(config: Any) -> None:
    encoded = encode_architecture(config)
    assert (encoded.key[:3], encoded.codec) == ("j1:", "")
    assert decode_architecture(encoded.spec, encoded.codec) == config


MATRIX = [[0, 1], [0, 0]]
OPERATIONS = ["in", "out"]


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"nodes": ["conv"], "edges": []}, r"\['nodes'\]\[0\]: a node must be a dict, not 'conv'.*needs other names"),
        ({"nodes": [1, 2], "edges": []}, r"\['nodes'\]\[0\]: a node must be a dict, not 1"),
        ({"nodes": [("a", {"op": "x"})], "edges": []}, r"\['nodes'\]\[0\]: a node must be a dict"),
        ({"nodes": {"a": {"op": "x"}}, "edges": []}, r"\['nodes'\]: a graph has a list here, not dict"),
        ({"nodes": {"a"}, "edges": []}, r"\['nodes'\]: a graph has a list here, not set"),
        ({"nodes": np.array(["a"]), "edges": []}, r"\['nodes'\]: a graph has a list here, not ndarray"),
        ({"nodes": [{"op": "x"}], "edges": {}}, r"\['edges'\]: a graph has a list here, not dict"),
        ({"nodes": [{"op": "x"}], "edges": None}, r"\['edges'\]: a graph has a list here, not NoneType"),
        ({"nodes": [{"op": "x"}], "edges": np.array([[0, 0]])}, r"\['edges'\]: a graph has a list here, not ndarray"),
        ({"nodes": [{"op": "x"}], "edges": [0]}, r"\['edges'\]\[0\]: an edge must be"),
        ({"nodes": [{"op": "x", 3: 4}], "edges": []}, r"\['nodes'\]\[0\]: the dict key 3 is of type int"),
        ({"nodes": [{"op": "x"}], "edges": [], 3: 4}, r"architecture: the dict key 3 is of type int"),
        ({"nodes": [{"id": 0, "op": "x"}], "links": []}, r"'links' are called 'edges' here"),
        (
            nx.node_link_data(nx.path_graph(2, create_using=nx.DiGraph), edges="links"),
            "'links' are called 'edges' here",
        ),
        ((MATRIX, ["in"]), "each of its 1 operations, which are texts, but it has 2 rows"),
        (([[0, 1]], OPERATIONS), "but it has 1 rows"),
        (([[0, 1], [0]], OPERATIONS), "but row 1 has 1 cells"),
        (([[0, 1, 0], [0, 0, 0]], OPERATIONS), "but row 0 has 3 cells"),
        ((np.zeros((2, 3)), OPERATIONS), "but row 0 has 3 cells"),
        ((np.ones((3, 3)), OPERATIONS), "but it has 3 rows"),
        ((MATRIX, ["in", 3]), "but operation 3 is no text"),
        ((MATRIX, ["in", None]), "but operation None is no text"),
        (([[0, math.nan], [0, 0]], OPERATIONS), "nan is not a finite number"),
    ],
)
def test_case_35_what_looks_like_a_graph_and_is_none_is_an_error(architecture: Any, message: str) -> None:
    for identity in ("structural", "exact", lambda _: "x"):
        if identity == "structural" or "finite" not in message:
            with pytest.raises(ValidationError, match=message):
                encode_architecture(architecture, identity)


class Operation(enum.Enum):
    IN = "in"
    OUT = "out"


@pytest.mark.parametrize(
    ("matrix", "cell"),
    [
        ([[0, 3], [0, 0]], 3),
        ([[0, 0.5], [0, 0]], 0.5),
        ([["", "conv"], [None, ""]], "conv"),
        ([[False, True], [False, False]], None),
        ([[0, (1, 2)], [0, 0]], [1, 2]),
        ([[0, {"op": "conv", "kernel": 3}], [0, 0]], {"op": "conv", "kernel": 3}),
        (np.array([[0, 3], [0, 0]]), 3),
        (np.array([[None, "conv"], [None, None]], dtype=object), "conv"),
        ([np.array([0, 3]), [0, np.int64(0)]], 3),
    ],
)
def test_case_35_labels_in_a_matrix_are_edge_operations(matrix: Any, cell: Any) -> None:
    edge = (0, 1) if cell is None else (0, 1, cell)
    turned = [[matrix[1][1], matrix[1][0]], [matrix[0][1], matrix[0][0]]]
    for pair in ((matrix, OPERATIONS), (matrix, tuple(Operation)), (turned, OPERATIONS[::-1])):
        assert key_of(pair) == key_of(graph("in", "out", edges=[edge]))
    encoded = encode_architecture((matrix, OPERATIONS))
    decoded = decode_architecture(encoded.spec, encoded.codec)
    assert decoded["nodes"] == [{"id": 0, "operation": "in"}, {"id": 1, "operation": "out"}]
    assert decoded["edges"] == [{"source": 0, "target": 1, **({} if cell is None else {"operation": matrix[0][1]})}]
    exact = encode_architecture((matrix, OPERATIONS), "exact")
    assert encode_architecture(decode_architecture(exact.spec, exact.codec), "exact") == exact


def test_a_networkx_graph_keeps_its_edge_attributes_and_its_parallel_edges() -> None:
    multi = nx.MultiDiGraph()
    multi.add_nodes_from([("a", {"op": "x"}), ("b", {"op": "x"})])
    multi.add_edge("a", "b", operation="add", port=0)
    multi.add_edge("a", "b", op="add", port=1)
    ports = [{"source": 0, "target": 1, "operation": "add", "port": port} for port in (1, 0)]
    assert key_of(multi) == key_of(graph("x", "x", edges=ports))
    assert key_of(nx.path_graph(3, create_using=nx.DiGraph)) == key_of(graph(None, None, None, edges=[(0, 1), (1, 2)]))


class HasOtherDict:
    def to_dict(self) -> dict[str, Any]:
        return {"weights": [1]}


@pytest.mark.parametrize(
    "architecture",
    [
        None,
        object(),
        {1, 2},
        b"bytes",
        lambda: 1,
        1j,
        int,
        Widths,
        ModelGraph,
        HasOtherDict(),
        {"op": object()},
        [{"x": {1}}],
        with_params({"f": len}),
        with_params({"f": [{"g": b"x"}]}),
        graph(object()),
        nx.path_graph(3),
    ],
)
def test_anything_else_is_a_type_error_that_names_the_ways(architecture: Any) -> None:
    with pytest.raises(TypeError, match=r"to_arch_spec\(\).*register_codec") as caught:
        encode_architecture(architecture)
    assert type(caught.value) is TypeError


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (graph("a", edges=[(0, 1)]), r"architecture\['edges'\]\[0\]: its target 1 is no node"),
        (graph("a", edges=[{"source": "z", "target": 0}]), r"\['edges'\]\[0\]: its source 'z' is no node"),
        (graph("a", edges=[(0, 0), {"source": 0}]), r"\['edges'\]\[1\]: no 'target'"),
        (graph("a", edges=[{"source": {}, "target": 0}]), r"\['edges'\]\[0\]: \{\} cannot be an id"),
        (graph("a", edges=[5]), r"\['edges'\]\[0\]: an edge must be a dict"),
        (graph("a", edges=[(0,)]), r"\['edges'\]\[0\]: an edge must be a dict"),
        (graph("a", edges=["ab"]), r"\['edges'\]\[0\]: an edge must be a dict"),
        ({"nodes": [{"id": 1, "op": "a"}, {"id": 1, "op": "b"}], "edges": []}, r"\['nodes'\]\[1\]: the id 1 occurs"),
        ({"nodes": [{"id": [[]], "op": "a"}], "edges": []}, r"\['nodes'\]\[0\]: .* cannot be an id"),
        ({"nodes": [{"op": "a"}, 5], "edges": []}, r"\['nodes'\]\[1\]: a node must be a dict, not 5"),
        ({"nodes": [{"type": "conv"}], "edges": []}, r"\['nodes'\]\[0\]: no 'operation'"),
        (with_params([1]), r"\['nodes'\]\[0\]\['params'\]: must be a dict"),
        (with_params({"rate": math.nan}), r"\['nodes'\]\[0\]\['params'\]\['rate'\]: nan is not a finite number"),
        (with_params({"a": [math.inf]}), r"\['params'\]\['a'\]\[0\]: inf is not a finite number"),
        (with_params({1: 2}), r"\['params'\]: the dict key 1 is of type int"),
        (with_params({"s": "\ud800"}), r"\['params'\]\['s'\]: a lone surrogate"),
        (graph("\ud800"), r"\['operation'\]: a lone surrogate"),
        (graph("a", edges=[(0, 0, math.nan)]), r"\['edges'\]\[0\]\['operation'\]: nan"),
        ({"lr": math.nan}, r"architecture\['lr'\]: nan is not a finite number"),
        ([1.0, -math.inf], r"architecture\[1\]: -inf"),
        ({"a": {2: 1}}, r"architecture\['a'\]: the dict key 2"),
        ({"s": ["\udfff"]}, r"architecture\['s'\]\[0\]: a lone surrogate"),
        ([10**5000], r"architecture\[0\]: an int of more than 4000 digits"),
    ],
)
def test_what_cannot_be_stored_is_a_validation_error_that_says_where(architecture: Any, message: str) -> None:
    for identity in ("structural", "exact"):
        with pytest.raises(ValidationError, match=message):
            encode_architecture(architecture, identity)


def test_deep_nesting_is_refused_by_name() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    for architecture in (deep, {"a": deep}, with_params({"a": deep})):
        with pytest.raises(ValidationError, match="nested deeper than 100 levels"):
            encode_architecture(architecture)
    endless = Described(None)
    endless.spec = endless
    with pytest.raises(TypeError, match="to_arch_spec"):
        encode_architecture(endless)
    with pytest.raises(ValidationError, match="led to no end"):
        encode_architecture(Forever())


class Forever:
    def to_arch_spec(self) -> "Forever":
        return Forever()


def test_exact_counts_ids_and_order() -> None:
    one = graph("a", "b", edges=[(0, 1)])
    listed = {"nodes": one["nodes"][::-1], "edges": one["edges"]}
    assert key_of(one) == key_of(listed)
    assert key_of(one, "exact") != key_of(listed, "exact")
    assert key_of(one, "exact").startswith("j1:")
    named = {**one, "name": "first"}
    encoded = encode_architecture(named, "exact")
    decoded = decode_architecture(encoded.spec, encoded.codec)
    assert decoded == named
    assert encode_architecture(decoded, "exact") == encoded
    assert (encoded.codec, encoded.n_nodes, encoded.n_edges) == ("graph", 2, 1)


def test_exact_accepts_the_same_forms() -> None:
    multi = networkx_graph(nx.MultiDiGraph, "op")
    del multi.nodes["out"]["position"]
    for architecture in (multi, ModelGraph(), (np.array([[0, 1], [0, 0]]), ["a", "b"]), Widths((1,)), 3):
        encoded = encode_architecture(architecture, "exact")
        assert encode_architecture(decode_architecture(encoded.spec, encoded.codec), "exact") == encoded


def test_an_identity_of_ones_own() -> None:
    by_width = lambda architecture: f"width {architecture['width']}"  # noqa: E731 - a user's lambda
    one, other = {"width": 3, "name": "a"}, {"width": 3, "name": "b"}
    assert key_of(one, by_width) == key_of(other, by_width)
    assert key_of(one, by_width).startswith("u1:")
    assert key_of(one, by_width) != key_of({"width": 4}, by_width)
    assert key_of(one, by_width, "1") != key_of(one, by_width, "2")
    encoded = encode_architecture(one, by_width, "1")
    assert decode_architecture(encoded.spec, encoded.codec) == one


def test_an_identity_of_ones_own_may_give_a_dict_that_is_compared_by_structure() -> None:
    first = graph("a", "b", edges=[(0, 1)], name="x", owner="x")
    second = {
        "nodes": [{"id": "q", "op": "b"}, {"id": "p", "op": "a"}],
        "edges": [("p", "q")],
        "name": "y",
        "owner": "x",
    }
    assert key_of(first, lambda graph: graph) == key_of(second, lambda graph: graph)
    assert key_of(first, lambda graph: graph) != key_of({**second, "owner": "y"}, lambda graph: graph)
    assert key_of(first, lambda graph: {"owner": graph["owner"]}) == key_of(first, lambda _: {"owner": "x"})
    structure = key_of(first)
    assert key_of(first, lambda graph: graph) != key_of(first, lambda _: structure)
    encoded = encode_architecture(first, lambda graph: {"owner": graph["owner"]})
    assert decode_architecture(encoded.spec, encoded.codec)["owner"] == "x"


@pytest.mark.parametrize("result", [None, 3, ["a"], b"x", ("a",)])
def test_an_identity_that_gives_something_else_is_refused(result: Any) -> None:
    with pytest.raises(ValidationError, match="the function must give a str or a dict"):
        encode_architecture({"a": 1}, lambda _: result)


@pytest.mark.parametrize("identity", ["Structural", "", None, 3])
def test_an_unknown_identity_is_refused(identity: Any) -> None:
    with pytest.raises(ValidationError, match="'structural', 'exact' or a function"):
        encode_architecture({"a": 1}, identity)


def test_case_35_an_array_whose_operations_are_no_texts_is_an_error() -> None:
    with pytest.raises(ValidationError, match="is no text"):
        encode_architecture((np.array([[0, 1], [0, 0]]), [1, 2]))
    assert encode_architecture((np.array([[0.5, 1.5], [0, 0]]), [1, 2])).key.startswith("j1:")  # weights of a config
    assert encode_architecture((np.array([[0, 1], [0, 0]]), [1, 2, 3])).key.startswith("j1:")
