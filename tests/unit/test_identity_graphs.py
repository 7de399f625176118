"""Structural keys: isomorphic graphs, and only they, share one."""

import json
import logging
import random
from collections.abc import Callable, Iterable
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphml_ray.identity import decode_architecture, encode_architecture, partition, search
from morphml_ray.identity.canonical_order import canonical_order
from morphml_ray.identity.graph import read_graph

Edge = tuple[int, int, str | None]
GraphDict = dict[str, Any]


def key_of(architecture: Any) -> str:
    return encode_architecture(architecture).key


def build(operations: list[str], edges: Iterable[Edge]) -> GraphDict:
    return {
        "nodes": [{"id": index, "operation": operation} for index, operation in enumerate(operations)],
        "edges": [
            {"source": source, "target": target} | ({} if operation is None else {"operation": operation})
            for source, target, operation in edges
        ],
    }


def shuffled(graph: GraphDict, rng: random.Random) -> GraphDict:
    """The same graph under other ids, listed in another order."""
    names = [f"node-{number}" for number in range(len(graph["nodes"]))]
    rng.shuffle(names)
    nodes = [{**node, "id": names[node["id"]]} for node in graph["nodes"]]
    edges = [{**edge, "source": names[edge["source"]], "target": names[edge["target"]]} for edge in graph["edges"]]
    rng.shuffle(nodes)
    rng.shuffle(edges)
    return {"nodes": nodes, "edges": edges}


def both_ways(graph: nx.Graph) -> GraphDict:
    numbered = nx.convert_node_labels_to_integers(graph)
    return build(["conv"] * len(numbered), [(u, v, None) for u, v in numbered.to_directed().edges])


def copies(count: int, *parts: nx.Graph) -> nx.Graph:
    return nx.disjoint_union_all(list(parts) * count)


def between_ends(inner: nx.Graph) -> GraphDict:
    """An input, the graph with its edges in both directions, an output."""
    graph = both_ways(inner)
    count = len(graph["nodes"])
    graph["nodes"] += [{"id": count, "operation": "input"}, {"id": count + 1, "operation": "output"}]
    for node in range(count):
        graph["edges"] += [{"source": count, "target": node}, {"source": node, "target": count + 1}]
    return graph


def oracle(graph: GraphDict) -> nx.MultiDiGraph:
    built = nx.MultiDiGraph()
    for node in graph["nodes"]:
        built.add_node(node["id"], operation=node["operation"])
    for edge in graph["edges"]:
        built.add_edge(edge["source"], edge["target"], operation=edge.get("operation"))
    return built


def is_isomorphic(one: GraphDict, other: GraphDict) -> bool:
    def same_operations(left: dict[Any, Any], right: dict[Any, Any]) -> bool:
        return sorted(str(edge["operation"]) for edge in left.values()) == sorted(
            str(edge["operation"]) for edge in right.values()
        )

    return bool(
        nx.is_isomorphic(
            oracle(one),
            oracle(other),
            node_match=lambda left, right: left["operation"] == right["operation"],
            edge_match=same_operations,
        )
    )


@st.composite
def graphs(draw: st.DrawFn, max_nodes: int = 7, operations: str = "ab") -> GraphDict:
    """Any directed multigraph with few labels, so that much of it looks alike."""
    count = draw(st.integers(0, max_nodes))
    nodes = draw(st.lists(st.sampled_from(operations), min_size=count, max_size=count))
    ends = st.integers(0, max(0, count - 1))
    edge = st.tuples(ends, ends, st.sampled_from([None, None, "add"]))
    return build(nodes, draw(st.lists(edge, max_size=2 * count)) if count else [])


@pytest.mark.no_cover  # the same
@given(graphs(max_nodes=10), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_lesson_01_ids_and_order_never_count(graph: GraphDict, rng: random.Random) -> None:
    other = shuffled(graph, rng)
    first, second = encode_architecture(graph), encode_architecture(other)
    assert first.key == second.key
    assert first.key.startswith("g1:")
    assert decode_architecture(first.spec, first.codec) == graph
    assert decode_architecture(second.spec, second.codec) == other


@given(graphs(max_nodes=10))
@settings(deadline=None)
def test_a_decoded_graph_has_the_same_key_and_bytes(graph: GraphDict) -> None:
    encoded = encode_architecture(graph)
    decoded = decode_architecture(encoded.spec, encoded.codec)
    assert encode_architecture(decoded) == encoded
    assert [node["id"] for node in decoded["nodes"]] == list(range(len(graph["nodes"])))
    assert is_isomorphic(graph, decoded)


@given(graphs(max_nodes=5), graphs(max_nodes=5))
@settings(deadline=None)
def test_keys_are_equal_exactly_for_isomorphic_graphs(one: GraphDict, other: GraphDict) -> None:
    assert (key_of(one) == key_of(other)) == is_isomorphic(one, other)


@given(graphs(max_nodes=8, operations="a"), st.data())
@settings(deadline=None)
def test_lesson_01_moving_one_edge_gives_another_key_unless_isomorphic(graph: GraphDict, data: st.DataObject) -> None:
    if not graph["edges"]:
        return
    index = data.draw(st.integers(0, len(graph["edges"]) - 1))
    target = data.draw(st.integers(0, len(graph["nodes"]) - 1))
    edges = list(graph["edges"])
    edges[index] = {**edges[index], "target": target}
    moved = {**graph, "edges": edges}
    assert (key_of(graph) == key_of(moved)) == is_isomorphic(graph, moved)


def test_every_small_digraph_against_brute_force() -> None:
    """All 512 loop-carrying digraphs on three nodes fall into exactly the 104 classes there are (OEIS A000595)."""
    pairs = [(source, target) for source in range(3) for target in range(3)]
    keys = {
        key_of(build(["x"] * 3, [(*pair, None) for bit, pair in enumerate(pairs) if number >> bit & 1]))
        for number in range(2**9)
    }
    assert len(keys) == 104


def test_what_is_hashed_lists_nodes_along_the_edges() -> None:
    chain = read_graph(build(["z", "y", "x", "w"], [(3, 1, None), (1, 0, None), (0, 2, None), (3, 2, "skip")]))
    hashed = json.loads(chain.to_json(canonical_order(chain)))
    assert [node["operation"] for node in hashed["nodes"]] == ["w", "y", "z", "x"]
    assert all(edge["source"] < edge["target"] for edge in hashed["edges"])


FAMILIES: dict[str, Callable[[], GraphDict]] = {
    "C8+2C4": lambda: both_ways(copies(1, nx.cycle_graph(8), nx.cycle_graph(4), nx.cycle_graph(4))),
    "3 copies of C8+2C4": lambda: both_ways(copies(3, nx.cycle_graph(8), nx.cycle_graph(4), nx.cycle_graph(4))),
    "3 copies of a cubic graph": lambda: both_ways(copies(3, nx.random_regular_graph(3, 14, seed=2))),
    "Petersen": lambda: both_ways(nx.petersen_graph()),
    "rook's graph beside Shrikhande's relatives": lambda: both_ways(nx.line_graph(nx.complete_bipartite_graph(4, 4))),
    "hypercube": lambda: both_ways(nx.hypercube_graph(5)),
    "torus": lambda: both_ways(nx.grid_2d_graph(6, 6, periodic=True)),
    "complete": lambda: both_ways(nx.complete_graph(12)),
    "directed cycle": lambda: build(["x"] * 40, [(node, (node + 1) % 40, None) for node in range(40)]),
    "300 nodes without edges": lambda: build(["x"] * 300, []),
    "8-cycle between ends": lambda: between_ends(nx.cycle_graph(8)),
    "two 4-cycles between ends": lambda: between_ends(copies(2, nx.cycle_graph(4))),
    "heads": lambda: heads(layers=6, count=8),
}


def heads(layers: int, count: int) -> GraphDict:
    """Layers of parallel branches that are alike and have inputs that are alike, as in a transformer."""
    operations, edges, last = ["input"], list[Edge](), 0
    for _ in range(layers):
        outputs = []
        for _ in range(count):
            first = len(operations)
            operations += ["linear", "linear", "linear", "attention"]
            edges += [(last, first + part, None) for part in range(3)]
            edges += [(first + part, first + 3, None) for part in range(3)]
            outputs.append(first + 3)
        last = len(operations)
        operations.append("concat")
        edges += [(output, last, None) for output in outputs]
    return build(operations, edges)


@pytest.mark.parametrize("family", FAMILIES)
def test_named_families_get_one_key_each(family: str) -> None:
    graph, rng = FAMILIES[family](), random.Random(5)  # noqa: S311 - a reproducible shuffle
    first = encode_architecture(graph)
    assert first.key.startswith("g1:")
    for _ in range(4):
        other = encode_architecture(shuffled(graph, rng))
        assert (other.key, other.n_nodes, other.n_edges) == (first.key, first.n_nodes, first.n_edges)


def test_named_families_get_different_keys() -> None:
    keys = {key_of(make()) for make in FAMILIES.values()}
    assert len(keys) == len(FAMILIES)


@pytest.mark.no_cover  # a minute of tracing, for lines that the other tests have
@pytest.mark.parametrize("size", [8, 10, 14, 20, 30])
def test_random_cubic_graphs_get_one_key_each(size: int) -> None:
    rng = random.Random(size)  # noqa: S311 - a reproducible shuffle
    for seed in range(12):
        graph = both_ways(nx.random_regular_graph(3, size, seed=seed))
        assert len({key_of(shuffled(graph, rng)) for _ in range(3)}) == 1


@pytest.mark.no_cover  # the same
def test_all_cubic_graphs_of_ten_nodes_are_told_apart() -> None:
    classes: list[nx.Graph] = []
    alike: dict[tuple[float, ...], list[nx.Graph]] = {}
    for seed in range(150):
        graph = nx.random_regular_graph(3, 10, seed=seed)
        # Graphs with another spectrum are others: that spares networkx nearly all of its long searches.
        spectrum = tuple(np.linalg.eigvalsh(nx.to_numpy_array(graph)).round(6) + 0.0)
        known = alike.setdefault(spectrum, [])
        if not any(nx.is_isomorphic(graph, other) for other in known):
            known.append(graph)
            classes.append(graph)
    assert len({key_of(both_ways(graph)) for graph in classes}) == len(classes) > 10


def strongly_regular(differences: set[tuple[int, int]]) -> nx.Graph:
    cells = [(row, column) for row in range(4) for column in range(4)]
    return nx.Graph(
        (one, other)
        for one in cells
        for other in cells
        if ((other[0] - one[0]) % 4, (other[1] - one[1]) % 4) in differences
    )


def test_graphs_that_fool_refinement_are_told_apart() -> None:
    """The rook's graph and Shrikhande's are strongly regular with equal parameters."""
    rook = strongly_regular({(0, step) for step in (1, 2, 3)} | {(step, 0) for step in (1, 2, 3)})
    shrikhande = strongly_regular({(0, 1), (0, 3), (1, 0), (3, 0), (1, 1), (3, 3)})
    rng = random.Random(1)  # noqa: S311 - a reproducible shuffle
    mixed = both_ways(nx.disjoint_union(rook, shrikhande))
    assert key_of(both_ways(rook)) != key_of(both_ways(shrikhande))
    assert len({key_of(shuffled(mixed, rng)) for _ in range(3)}) == 1


def test_a_search_with_real_choices_finds_one_key() -> None:
    """In Paulus' graph no two nodes need be alike, yet refinement after one choice tells nothing."""
    latin = [[(row * 2 + column) % 5 for column in range(5)] for row in range(5)]
    latin[0][:2], latin[1][:2] = [1, 0], latin[1][:2]
    cells = [(row, column) for row in range(5) for column in range(5)]
    graph = nx.Graph(
        (one, other)
        for one in cells
        for other in cells
        if one < other
        and (one[0] == other[0] or one[1] == other[1] or latin[one[0]][one[1]] == latin[other[0]][other[1]])
    )
    rng = random.Random(3)  # noqa: S311 - a reproducible shuffle
    assert len({key_of(shuffled(both_ways(graph), rng)) for _ in range(4)}) == 1


def test_too_many_nodes_are_keyed_as_listed(caplog: pytest.LogCaptureFixture) -> None:
    graph = build(["x"] * 5001, [(0, 1, None)])
    with caplog.at_level(logging.WARNING, "morphml_ray.identity"):
        encoded = encode_architecture(graph)
    assert "5001 nodes and 1 edges" in caplog.text
    assert encoded.key.startswith("j1:")
    assert (encoded.codec, encoded.n_nodes, encoded.n_edges) == ("graph", 5001, 1)
    renamed = {**graph, "nodes": [{**node, "id": f"n{node['id']}"} for node in graph["nodes"]], "edges": [("n0", "n1")]}
    assert key_of(renamed) == encoded.key
    assert encode_architecture(decode_architecture(encoded.spec, encoded.codec)) == encoded


def test_too_much_work_is_counted_and_keyed_as_listed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = both_ways(nx.random_regular_graph(3, 20, seed=0))
    monkeypatch.setattr(partition, "MAX_WORK", 500)
    with caplog.at_level(logging.WARNING, "morphml_ray.identity"):
        encoded = encode_architecture(graph)
    assert encoded.key.startswith("j1:")
    assert "keyed as listed" in caplog.text
    assert encode_architecture(decode_architecture(encoded.spec, encoded.codec)) == encoded


def test_five_thousand_nodes_still_have_a_structure() -> None:
    graph = build(["x"] * 5000, [(node, node + 1, None) for node in range(4999)])
    rng = random.Random(0)  # noqa: S311 - a reproducible shuffle
    assert key_of(graph) == key_of(shuffled(graph, rng))
    assert key_of(graph).startswith("g1:")


def test_work_stays_small_where_networks_are_regular(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, so that it cannot depend on the machine: real networks are far from the bound."""
    monkeypatch.setattr(partition, "MAX_WORK", 100_000)
    assert key_of(heads(layers=12, count=12)).startswith("g1:")
    assert key_of(FAMILIES["torus"]()).startswith("g1:")


def test_choices_within_choices_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    rook = strongly_regular({(0, step) for step in (1, 2, 3)} | {(step, 0) for step in (1, 2, 3)})
    shrikhande = strongly_regular({(0, 1), (0, 3), (1, 0), (3, 0), (1, 1), (3, 3)})
    mixed = both_ways(nx.disjoint_union(rook, shrikhande))
    assert key_of(mixed).startswith("g1:")
    monkeypatch.setattr(search, "_MAX_BRANCHINGS", 0)
    assert key_of(mixed).startswith("j1:")


def test_trials_that_move_different_numbers_of_nodes_cannot_be_exchanged() -> None:
    graph = read_graph(both_ways(nx.cycle_graph(4)))
    study = search._CellStudy(partition.Partition(graph, [0] * 4), 0, [])
    one, other = search._Trial(0, b"", {0: 4}), search._Trial(1, b"", {1: 4, 2: 5})
    assert study._exchange(one, other) is None
