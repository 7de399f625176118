"""The canonical order of a graph's nodes: two graphs are isomorphic exactly if they are equal in this order.

Nodes are told apart by label, longest distance from an input, longest distance to an output and degrees, then by
refinement; that settles nearly every network. What still looks alike is left to the search. Each step depends on
the graph alone, so the order is exact, as long as the work stays within its bound.
"""

from collections.abc import Sequence

from morphml_ray.identity.graph import Graph
from morphml_ray.identity.partition import Partition, WorkBoundError
from morphml_ray.identity.search import least_order

MAX_NODES = 5_000
"""Graphs with more nodes are not put in order."""


def canonical_order(graph: Graph) -> list[int]:
    """Give the positions of the nodes in canonical order; along the edges where there is no cycle.

    Raises:
        WorkBoundError: there are more than ``MAX_NODES`` nodes, or too many choices between nodes alike.
    """
    if len(graph.labels) > MAX_NODES:
        raise WorkBoundError
    initial = _initial_colours(graph)
    if len(set(initial)) == len(initial):
        return sorted(range(len(initial)), key=initial.__getitem__)
    return least_order(Partition(graph, initial))


def _initial_colours(graph: Graph) -> list[int]:
    count = len(graph.labels)
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    for source, target, _ in graph.edges:
        after[source].append(target)
        before[target].append(source)
    depth = _longest_paths(before, after)
    height = _longest_paths(after, before)
    keys = list(zip(depth, graph.labels, height, map(len, before), map(len, after), strict=True))
    ranks = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return [ranks[key] for key in keys]


def _longest_paths(before: Sequence[Sequence[int]], after: Sequence[Sequence[int]]) -> list[int]:
    """Give the longest distance of each node from a source; all zero where there is a cycle."""
    waits_for = [len(nodes) for nodes in before]
    ready = [node for node, count in enumerate(waits_for) if not count]
    longest = [0] * len(before)
    for node in ready:  # grows while it is walked
        beyond = longest[node] + 1
        for other in after[node]:
            longest[other] = max(longest[other], beyond)
            waits_for[other] -= 1
            if not waits_for[other]:
                ready.append(other)
    return longest if len(ready) == len(before) else [0] * len(before)
