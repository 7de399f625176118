"""Colour refinement: telling the nodes of a graph apart by their surroundings.

Two nodes get different colours when their numbers of neighbours of some colour, over edges of some label and
direction, differ; this repeats until nothing changes. The method is Weisfeiler and Leman's; individualising a node
and refining again is McKay's ("Practical graph isomorphism", 1981).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from morphml_ray.identity.graph import Graph

MAX_WORK = 1_500_000
"""Bound on counted steps (a neighbour looked at is one) per graph, about a second. Never timed: a time-out would
give one graph different keys on a fast and on a slow machine."""


class WorkBoundError(Exception):
    """Telling this graph's nodes apart takes more steps than ``MAX_WORK``."""


Signature = tuple[tuple[int, ...], tuple[int, ...]]


class Partition:
    """Nodes by colour, refined in place; every step can be undone.

    Colours are numbers that depend on the graph and its initial colours alone, never on how nodes are numbered.

    Attributes:
        initial: the colours to start from, dense from 0.
        colour: the colour of each node.
        cells: the nodes of each colour.
        open_cells: the colours that more than one node has.
    """

    def __init__(self, graph: Graph, initial: Sequence[int]) -> None:
        self.work = 0
        self.initial = initial
        self.colour = list(initial)
        self.cells: dict[int, set[int]] = {}
        for node, colour in enumerate(initial):
            self.cells.setdefault(colour, set()).add(node)
        self.open_cells = {colour for colour, nodes in self.cells.items() if len(nodes) > 1}
        self._journal: list[tuple[int, int]] = []
        self._index(graph)
        self.refine(range(len(initial)))

    def _index(self, graph: Graph) -> None:
        ranks = {label: rank for rank, label in enumerate(sorted({label for _, _, label in graph.edges}))}
        self.edges = [(source, target, ranks[label]) for source, target, label in graph.edges]
        self._n_labels = max(1, len(ranks))
        self.into: list[list[tuple[int, int]]] = [[] for _ in graph.labels]
        self.out_of: list[list[tuple[int, int]]] = [[] for _ in graph.labels]
        for source, target, rank in self.edges:
            self.out_of[source].append((target, rank))
            self.into[target].append((source, rank))

    @property
    def mark(self) -> int:
        """The present state, for :meth:`undo` and :meth:`moved_since`."""
        return len(self._journal)

    @property
    def next_colour(self) -> int:
        """The colour that the next cell gets; all colours so far are less."""
        return len(self.initial) + len(self._journal)

    def signature(self, node: int) -> Signature:
        """Give the colours and edge labels around a node, as sorted numbers."""
        into, out_of = self.into[node], self.out_of[node]
        self.charge(1 + len(into) + len(out_of))
        colour, n_labels = self.colour, self._n_labels
        return (
            tuple(sorted([colour[other] * n_labels + rank for other, rank in into])),
            tuple(sorted([colour[other] * n_labels + rank for other, rank in out_of])),
        )

    def charge(self, steps: int) -> None:
        """Count steps.

        Raises:
            WorkBoundError: they are more than ``MAX_WORK`` by now.
        """
        self.work += steps
        if self.work > MAX_WORK:
            raise WorkBoundError

    def individualise(self, node: int) -> None:
        """Give a node a colour of its own and refine."""
        self.split([[node]])

    def split(self, groups: Iterable[list[int]]) -> None:
        """Give each of these groups, parts of one cell each, a colour of its own, in this order, and refine."""
        moved = [node for group in groups for node in self._move(self.colour[group[0]], group)]
        self.refine(self.neighbours(moved))

    def refine(self, dirty: Collection[int]) -> None:
        """Split cells until the nodes of each have equal signatures.

        Args:
            dirty: the nodes whose signature may differ from that of the rest of their cell.
        """
        while dirty and self.open_cells:
            splits = [split for cell in self._open_among(dirty) for split in self._splits(*cell)]
            moved = [node for colour, nodes in splits for node in self._move(colour, nodes)]
            dirty = self.neighbours(moved)
            self.charge(len(dirty))

    def neighbours(self, nodes: Iterable[int]) -> set[int]:
        """Give all nodes that share an edge with one of these."""
        found: set[int] = set()
        for node in nodes:
            found.update([other for other, _ in self.into[node]])
            found.update([other for other, _ in self.out_of[node]])
        return found

    def smallest_cell(self, oldest: int = 0) -> int | None:
        """Give the first smallest open cell among colours from ``oldest`` on; None without one."""
        self.charge(len(self.open_cells) // 8)
        recent = [colour for colour in self.open_cells if colour >= oldest]
        return min(recent, key=lambda colour: (len(self.cells[colour]), colour), default=None)

    def moved_since(self, mark: int) -> dict[int, int]:
        """Give the nodes whose colour changed since a mark, each with its colour at the mark."""
        before: dict[int, int] = {}
        for old, new in self._journal[mark:]:
            before[new] = before.get(old, old)
        return {node: colour for new, colour in before.items() for node in self.cells[new]}

    def undo(self, mark: int) -> None:
        """Go back to the state at a mark."""
        while len(self._journal) > mark:
            old, new = self._journal.pop()
            nodes = self.cells.pop(new)
            for node in nodes:
                self.colour[node] = old
            self.cells[old] |= nodes
            self.open_cells.add(old)
            self.open_cells.discard(new)

    def _open_among(self, dirty: Iterable[int]) -> list[tuple[int, list[int]]]:
        groups = defaultdict(list)
        for node in dirty:
            if self.colour[node] in self.open_cells:
                groups[self.colour[node]].append(node)
        return sorted(groups.items())

    def _splits(self, colour: int, dirty: list[int]) -> list[tuple[int, list[int]]]:
        """Give the groups of nodes that leave a cell, in an order that their signatures decide."""
        groups = defaultdict(list)
        for node in dirty:
            groups[self.signature(node)].append(node)
        cell = self.cells[colour]
        if len(dirty) < len(cell):
            seen = set(dirty)
            # All other nodes of the cell have one signature; who shares it stays with them.
            stays = self.signature(next(node for node in cell if node not in seen))
        else:
            stays = min(groups, key=lambda signature: (-len(groups[signature]), signature))
        return [(colour, groups[signature]) for signature in sorted(groups) if signature != stays]

    def _move(self, old: int, nodes: list[int]) -> list[int]:
        new = self.next_colour
        self._journal.append((old, new))
        cell = self.cells[old]
        cell.difference_update(nodes)
        self.cells[new] = set(nodes)
        for node in nodes:
            self.colour[node] = new
        if len(cell) == 1:
            self.open_cells.discard(old)
        if len(nodes) > 1:
            self.open_cells.add(new)
        return nodes
