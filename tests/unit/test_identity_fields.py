"""What of a graph counts, and what comes back."""

import enum
import logging
import math
import random
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphml_ray.errors import ValidationError
from morphml_ray.identity import decode_architecture, encode_architecture, fields, spec

GraphDict = dict[str, Any]


@pytest.fixture(autouse=True)
def _nothing_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "_logged", {})


def key_of(architecture: Any) -> str:
    return encode_architecture(architecture).key


def back(architecture: Any) -> Any:
    """What is stored of an architecture, after a look that it hashes back."""
    encoded = encode_architecture(architecture)
    decoded = decode_architecture(encoded.spec, encoded.codec)
    assert encode_architecture(decoded) == encoded
    return decoded


def with_node(**more: Any) -> GraphDict:
    return {"nodes": [{"id": "stem", "operation": "conv", **more}, {"id": "head", "operation": "dense"}], "edges": []}


def with_edge(**more: Any) -> GraphDict:
    return {**with_node(), "edges": [{"source": "stem", "target": "head", **more}]}


def with_beside(**more: Any) -> GraphDict:
    return {**with_edge(), **more}


def digraph(**more: Any) -> Any:
    graph = nx.DiGraph(**more)
    graph.add_node("stem", operation="conv")
    graph.add_node("head", operation="dense")
    graph.add_edge("stem", "head")
    return graph


def multigraph(*keys: Any, **attributes: Any) -> Any:
    graph = nx.MultiDiGraph(digraph())
    graph.remove_edge("stem", "head")
    for key in keys:
        graph.add_edge("stem", "head", key=key, **attributes)
    return graph


@pytest.mark.parametrize("build", [with_node, with_edge, with_beside], ids=["node", "edge", "beside"])
@pytest.mark.parametrize("name", ["kernel", "label", "key", "lr", "weight", "type", "zzz", "a b", "ä", "op", "$tuple"])
@pytest.mark.parametrize("values", [(3, 5), (None, 0), ((1, [2]), (1, [3])), ({"a": True}, {"a": 1}), ("é", "e")])
def test_case_3_every_further_field_counts_and_comes_back(
    build: Callable[..., GraphDict], name: str, values: tuple[Any, Any]
) -> None:
    given = [build(**{name: value}) for value in values]
    assert [back(each) for each in given] == given
    # No operation is what an edge without one has.
    same_as_none = build is with_edge and name == "op" and None in values
    assert len({key_of(each) for each in (build(), *given)}) == 3 - same_as_none


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (with_edge(params={"kernel": 3}), with_edge(params={"kernel": 5})),
        (with_edge(params={"kernel": 3}), with_edge()),
        (with_edge(operation="add", op="mean"), with_edge(operation="add")),
        (with_node(params={"kernel": 3}), with_node(kernel=3)),
        (with_node(op="conv"), with_node()),
        (multigraph("left"), multigraph("right")),
        (multigraph(0), multigraph(1)),
        (multigraph(("a", 1)), multigraph(("a", 2))),
        (digraph(lr=1), digraph(lr=2)),
        (digraph(lr=1), digraph()),
    ],
)
def test_case_3_what_differs_in_a_field_is_two(one: Any, other: Any) -> None:
    assert key_of(one) != key_of(other)
    assert back(one) != back(other)


def test_case_3_a_networkx_graph_comes_back_with_all_its_attributes() -> None:
    graph = nx.MultiDiGraph(lr=0.1, name="g")
    graph.add_node("a", operation="x", kernel=3, position=object())
    graph.add_edge("a", "a", key="loop", label="again")
    assert back(graph) == {
        "nodes": [{"id": "a", "operation": "x", "kernel": 3}],
        "edges": [{"key": "loop", "source": "a", "target": "a", "label": "again"}],
        "lr": 0.1,
        "name": "g",
    }


def test_numbers_that_networkx_gives_to_parallel_edges_do_not_count() -> None:
    parallel = [{"source": "stem", "target": "head", "operation": operation} for operation in ("add", "mean")]
    built = []
    for operations in (("add", "mean"), ("mean", "add")):
        graph = multigraph()
        for operation in operations:
            graph.add_edge("stem", "head", operation=operation)
        built.append(key_of(graph))
    assert set(built) == {key_of(with_beside(edges=parallel))}
    assert key_of(multigraph(0, 1)) != key_of(multigraph(0, 2))


@pytest.mark.parametrize("name", ["source", "target"])
def test_an_attribute_that_would_be_lost_is_refused(name: str) -> None:
    graph = digraph()
    graph.edges["stem", "head"][name] = "elsewhere"
    with pytest.raises(ValidationError, match=f"an attribute '{name}'"):
        encode_architecture(graph)
    graph.edges["stem", "head"][name] = {"source": "stem", "target": "head"}[name]
    assert key_of(graph) == key_of(digraph())
    with pytest.raises(ValidationError, match="an attribute 'nodes'"):
        encode_architecture(digraph(nodes=3))


DESCRIBES = [
    (with_node, ("id", "name", "pos", "position", "metadata", "predecessor_ids", "successor_ids")),
    (with_edge, ("id", "name", "metadata")),
    (with_beside, ("id", "name", "metadata")),
]


@pytest.mark.parametrize(("build", "name"), [(build, name) for build, names in DESCRIBES for name in names])
def test_what_describes_does_not_count_but_comes_back(build: Callable[..., GraphDict], name: str) -> None:
    for value in ("x", (1, 2.5), {"deep": [None]}, "é"):
        if isinstance(value, dict) and name == "id" and build is with_node:
            continue  # cannot be an id
        given = build(**{name: value}) if name != "id" or build is not with_node else renamed(value)
        assert back(given) == given
        assert key_of(given) == key_of(build())


def renamed(name: Any) -> GraphDict:
    return {"nodes": [{"id": name, "operation": "conv"}, {"id": "head", "operation": "dense"}], "edges": []}


@pytest.mark.parametrize("unstorable", [object(), {"deep": len}, {1: 2}, "\ud800"], ids=range(4))
def test_what_describes_is_left_out_where_it_cannot_be_stored(unstorable: Any) -> None:
    for build, names in DESCRIBES:
        given = build(**{name: unstorable for name in names if name != "id"}, width=3)
        assert back(given) == build(width=3)
    assert math.isnan(back(with_node(position=[math.nan]))["nodes"][0]["position"][0])


def test_what_describes_is_left_out_where_it_makes_the_graph_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    given = with_node(metadata="x" * 500, kernel=3)
    assert back(given) == given
    monkeypatch.setattr(spec, "MAX_SPEC_BYTES", 400)
    assert back(given) == with_node(kernel=3)
    assert back(with_node(metadata="x" * 500, kernel=np.int64(3))) == with_node(kernel=3)
    odd = {"nodes": [{"id": (1,), "operation": "x", "metadata": "x" * 500}], "edges": [((1,), (1,))]}
    assert back(odd) == {"nodes": [{"id": 0, "operation": "x"}], "edges": [(0, 0)]}
    with pytest.raises(ValidationError, match="at most 400 can be stored"):
        encode_architecture(with_node(kernel="x" * 500))


def test_fields_that_count_are_logged_once_by_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "morphml_ray.identity"):
        for _ in range(3):
            encode_architecture(with_node(x=0.5, params={"a": 1}))
            encode_architecture(with_edge(port=1, operation="add", params={"a": 1}, name="e", x=1))
            encode_architecture(with_beside(x=1))
    assert [record.args for record in caplog.records] == [("node", "x"), ("edge", "x"), ("graph", "x")]


def test_made_up_names_are_not_logged_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    encode_architecture(with_node(**{f"field{number}": 1 for number in range(fields._MAX_LOGGED + 50)}))
    assert len(caplog.records) == fields._MAX_LOGGED


def test_case_34_names_ids_and_order_come_back_as_they_were_given() -> None:
    given = {
        "nodes": [
            {"id": "head", "op": "dense", "name": "classifier", "params": {"units": 10.0}},
            {"id": "stem", "operation": "conv", "params": {"kernel": (3, 3)}, "stride": 2},
            {"operation": "relu", "id": 7},
        ],
        "edges": [{"source": 7, "target": "head"}, ("stem", 7, "add"), ["stem", "head"]],
        "lr": 0.1,
    }
    decoded = back(given)
    assert decoded == given
    assert repr(decoded) == repr(given)
    assert list(decoded) == ["nodes", "edges", "lr"]


@pytest.mark.parametrize(
    ("ids", "stored"),
    [
        (("stem", "block1"), ("stem", "block1")),
        ((7, "7"), (7, "7")),
        (((0, 1), (1, 0)), ((0, 1), (1, 0))),
        (([0, 1], [1, 0]), ([0, 1], [1, 0])),
        ((None, 1.5), (None, 1.5)),
        ((np.int64(3), np.str_("x")), (3, "x")),
        (("é", "e"), ("é", "e")),
        # What JSON cannot keep, or not apart, is numbered by position.
        ((object(), 1), (0, 1)),
        ((b"x", b"y"), (0, 1)),
        ((frozenset({1}), frozenset({2})), (0, 1)),
        ((10**5000, 5), (0, 1)),
        (("\ud800", "x"), (0, 1)),
    ],
)
def test_case_34_ids_come_back_where_json_can_keep_them_apart(ids: tuple[Any, Any], stored: tuple[Any, Any]) -> None:
    nodes = [{"id": ids[0], "operation": "conv"}, {"id": ids[1], "operation": "dense"}]
    same = key_of(with_edge(port=1))
    for edge in (
        {"source": ids[0], "target": ids[1], "port": 1},
        {"source_id": ids[0], "target_id": ids[1], "port": 1},
    ):
        decoded = back({"nodes": nodes, "edges": [edge]})
        assert [node["id"] for node in decoded["nodes"]] == list(stored)
        assert key_of({"nodes": nodes, "edges": [edge]}) == same
    assert [tuple(edge) for edge in back({"nodes": nodes, "edges": [ids]})["edges"]] == [stored]
    assert key_of({"nodes": nodes, "edges": [(*ids, "add")]}) == key_of(with_edge(operation="add"))


class Name(enum.Enum):
    A = "a"


def test_ids_that_become_one_text_are_numbered() -> None:
    nodes: list[dict[str, Any]] = [{"id": Name.A, "operation": "conv"}, {"id": "a", "operation": "dense"}]
    assert back({"nodes": nodes, "edges": [(Name.A, "a")]})["edges"] == [(0, 1)]
    nodes[1]["id"] = "b"
    assert back({"nodes": nodes, "edges": [(Name.A, "b")]})["edges"] == [("a", "b")]


class Alias(str):
    """What is looked up as "a", and written as what it is."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other == "a"

    def __hash__(self) -> int:
        return hash("a")


def test_ends_that_are_written_as_another_node_are_numbered() -> None:
    nodes = [{"id": "a", "operation": "conv"}, {"id": "b", "operation": "dense"}]
    assert back({"nodes": nodes, "edges": [(Alias("b"), "b")]})["edges"] == [(0, 1)]


VALUES = st.sampled_from([None, 0, 1, True, "x", (1, 2), [1, 2], 0.5, np.int64(1)])


@st.composite
def graphs(draw: st.DrawFn, max_nodes: int = 4) -> GraphDict:
    """Graphs of which little differs, in every spelling."""
    count = draw(st.integers(0, max_nodes))
    fields_of_nodes = st.fixed_dictionaries(
        {}, optional={"kernel": VALUES, "name": VALUES, "params": st.just({"k": 1})}
    )
    nodes = [{"id": f"n{i}", "operation": draw(st.sampled_from("ab")), **draw(fields_of_nodes)} for i in range(count)]
    names = st.sampled_from([node["id"] for node in nodes] or ["none"])
    fields_of_edges = st.fixed_dictionaries({}, optional={"label": VALUES, "id": VALUES, "port": st.integers(0, 1)})
    as_dict = st.builds(lambda s, t, more: {"source": s, "target": t, **more}, names, names, fields_of_edges)
    as_tuple = st.tuples(names, names) | st.tuples(names, names, st.sampled_from([None, "add"]))
    edges = draw(st.lists(as_dict | as_tuple, max_size=4)) if nodes else []
    return {"nodes": nodes, "edges": edges, **draw(st.fixed_dictionaries({}, optional={"lr": VALUES}))}


def counted(value: Any) -> Any:
    """What == does not know: a tuple counts as a list, a bool is no number."""
    if isinstance(value, list | tuple):
        return [counted(item) for item in value]
    if isinstance(value, dict):
        return {name: counted(item) for name, item in value.items()}
    return ("bool", value) if isinstance(value, bool) else int(value) if isinstance(value, np.int64) else value


def oracle(graph: GraphDict) -> Any:
    built = nx.MultiDiGraph()
    for node in graph["nodes"]:
        label = {name: counted(value) for name, value in node.items() if name not in ("id", "name")}
        built.add_node(node["id"], label={"params": {}, **label})
    for edge in graph["edges"]:
        if isinstance(edge, dict):
            ends = (edge["source"], edge["target"])
            label = {name: counted(edge[name]) for name in edge.keys() & {"label", "port"}}
        else:
            ends = edge[:2]
            label = {"operation": edge[2]} if edge[2:] and edge[2] else {}
        built.add_edge(*ends, label=label)
    return built


def is_same(one: GraphDict, other: GraphDict) -> bool:
    def same_edges(left: dict[Any, Any], right: dict[Any, Any]) -> bool:
        unmatched = [edge["label"] for edge in right.values()]
        for edge in left.values():
            if edge["label"] not in unmatched:
                return False
            unmatched.remove(edge["label"])
        return not unmatched

    if ("lr" in one) != ("lr" in other) or counted(one.get("lr")) != counted(other.get("lr")):
        return False
    same_nodes = lambda left, right: left["label"] == right["label"]  # noqa: E731 - one line
    return bool(nx.is_isomorphic(oracle(one), oracle(other), node_match=same_nodes, edge_match=same_edges))


@given(graphs(), graphs())
@settings(deadline=None)
def test_case_3_keys_are_equal_exactly_for_graphs_equal_in_all_that_counts(one: GraphDict, other: GraphDict) -> None:
    assert (key_of(one) == key_of(other)) == is_same(one, other)


@given(graphs(max_nodes=6), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_case_34_any_graph_comes_back_equal_and_order_never_counts(graph: GraphDict, rng: random.Random) -> None:
    assert back(graph) == graph
    shuffled = {**graph, "nodes": graph["nodes"][:], "edges": graph["edges"][:]}
    rng.shuffle(shuffled["nodes"])
    rng.shuffle(shuffled["edges"])
    assert back(shuffled) == shuffled
    assert key_of(shuffled) == key_of(graph)
