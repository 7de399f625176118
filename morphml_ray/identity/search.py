"""The search among nodes that refinement cannot tell apart.

One node of the first smallest cell is given a colour of its own and the rest refined again, until all nodes differ:

1. Each node of the cell is tried. Where the refined surroundings differ, the cell is split by them.
2. Nodes that an automorphism carries into each other are one choice. It is looked for as an exchange of what two
   trials moved (two parallel branches, two ends of a symmetric part) and checked edge by edge.
3. Where different choices remain, all are followed, and the least graph wins.

Since 1 and 3 depend on the graph alone and 2 is proven each time, so does the result. The frame is McKay's, as in
nauty ("Practical graph isomorphism II", 2014).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from morphml_ray.identity.partition import Partition, WorkBoundError

_MAX_BRANCHINGS = 50  # on one path; each multiplies the work, so that the bound on work comes first

Certificate = tuple[list[tuple[int, int, int]], list[int]]
"""The edges of the graph in some order, sorted, and that order."""


def least_order(partition: Partition) -> list[int]:
    """Give the order of the nodes that leads to the least graph.

    Raises:
        WorkBoundError: there are too many choices.
    """
    return _Search(partition).least(_MAX_BRANCHINGS)[1]


@dataclass(frozen=True, slots=True)
class _Trial:
    """What individualising a node does.

    Attributes:
        node: the node.
        trace: digest of the colours before and after, and the signatures, of the nodes in reach.
        colours: the nodes that moved and their new colours, after the cells that came into being were resolved too:
            one node a colour, and the colours follow each other, so that as many nodes have the same colours.
    """

    node: int
    trace: bytes
    colours: Mapping[int, int]


Automorphism = Mapping[int, int]
"""The image of each node that moves."""


class _Search:
    """The search for the least certificate below a partition."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self._automorphisms: list[Automorphism] = []  # found so far; they move no node that was individualised

    def least(self, branchings: int) -> Certificate:
        """Give the least certificate; the partition is left as it was found."""
        partition = self.partition
        mark, automorphisms = partition.mark, self._automorphisms
        last, is_free = -1, False
        while (cell := partition.smallest_cell()) is not None:
            if cell != last or not is_free:
                study = _CellStudy(partition, cell, self._automorphisms)
                self._automorphisms = self._automorphisms + study.automorphisms
                if study.split():
                    continue
                last, is_free = cell, study.is_free
                if len(study.choices) > 1:
                    found = min(self._below(node, branchings) for node in study.choices)
                    break
            self._individualise(min(partition.cells[cell]))
        else:
            found = _certificate(partition)
        partition.undo(mark)
        self._automorphisms = automorphisms
        return found

    def _below(self, node: int, branchings: int) -> Certificate:
        if not branchings:
            raise WorkBoundError
        mark, automorphisms = self.partition.mark, self._automorphisms
        self._individualise(node)
        found = self.least(branchings - 1)
        self.partition.undo(mark)
        self._automorphisms = automorphisms
        return found

    def _individualise(self, node: int) -> None:
        self.partition.individualise(node)
        self.partition.charge(len(self._automorphisms) // 8)
        self._automorphisms = [each for each in self._automorphisms if node not in each]


class _CellStudy:
    """Which nodes of a cell are alike.

    Attributes:
        choices: nodes of which one leads to the least certificate: the first of the cell, and each that is not
            known to be like one before it.
        automorphisms: those that were found, beyond the known ones.
        is_free: whether each node can be exchanged with the next without moving a third one of the cell. Then what
            is left when the first node leaves is alike too, and so on to the last.
    """

    def __init__(self, partition: Partition, cell: int, known: Iterable[Automorphism]) -> None:
        self.partition = partition
        self._members = partition.cells[cell].copy()
        self._nodes = sorted(self._members)
        self._alike: dict[int, int] = {}
        self._trials: list[_Trial] = []
        self.automorphisms: list[Automorphism] = []
        self.is_free = True
        for automorphism in known:
            self._join(automorphism)
        for node in self._nodes:
            if self._first_alike(node) == node:
                self._place(self._trial(node))
        self.choices = [node for node in self._nodes if self._first_alike(node) == node]
        self.is_free = self.is_free and len(self.automorphisms) == len(self._nodes) - 1

    def split(self) -> bool:
        """Split the cell by what its nodes do when they are individualised; False where they all do the same."""
        traces = {self._first_alike(trial.node): trial.trace for trial in self._trials}
        groups: dict[bytes, list[int]] = {}
        for node in self._nodes:
            groups.setdefault(traces[self._first_alike(node)], []).append(node)
        _, *leaving = sorted(groups)
        self.partition.split([groups[trace] for trace in leaving])
        return bool(leaving)

    def _place(self, trial: _Trial) -> None:
        """Find a node before that a new one is like; the newest of each kind is compared with the next.

        So a row of parallel branches gives exchanges of neighbours, and those of the rest still hold when the first
        branch is resolved.
        """
        for index in reversed(range(len(self._trials))):
            other = self._trials[index]
            if other.trace == trial.trace:
                image = self._exchange(other, trial)
                if image is not None:
                    self._trials[index] = trial
                    self.automorphisms.append({node: onto for node, onto in image.items() if node != onto})
                    moved = self._join(self.automorphisms[-1])
                    self.is_free = self.is_free and moved == 2  # noqa: PLR2004 - an exchange of two
                    return
        self._trials.append(trial)

    def _first_alike(self, node: int) -> int:
        while (before := self._alike.get(node, node)) != node:
            node = before
        return node

    def _join(self, automorphism: Automorphism) -> int:
        """Note which nodes of the cell an automorphism makes alike; gives how many it moves."""
        moved = self._members & automorphism.keys()
        self.partition.charge(len(moved))
        for node in moved:
            first, second = sorted((self._first_alike(node), self._first_alike(automorphism[node])))
            self._alike[second] = first
        return len(moved)

    def _trial(self, node: int) -> _Trial:
        partition = self.partition
        mark, oldest = partition.mark, partition.next_colour
        partition.individualise(node)
        before, colour = partition.moved_since(mark), partition.colour
        reach = partition.neighbours(before).union(before)
        effects = sorted((before.get(near, colour[near]), colour[near], partition.signature(near)) for near in reach)
        while (cell := partition.smallest_cell(oldest)) is not None:
            partition.individualise(min(partition.cells[cell]))
        colours = {moved: colour[moved] for moved in partition.moved_since(mark)}
        partition.undo(mark)
        return _Trial(node, blake2b(repr(effects).encode()).digest(), colours)

    def _exchange(self, one: _Trial, other: _Trial) -> Automorphism | None:
        """Give the automorphism that exchanges what two trials moved and leaves the rest, None if there is none."""
        if len(one.colours) != len(other.colours):
            return None
        onto = {colour: node for node, colour in other.colours.items()}
        image = {node: onto[colour] for node, colour in one.colours.items()}
        origin = {end: node for node, end in image.items()}
        for node in other.colours.keys() - one.colours.keys():
            end = node
            while end in origin:
                end = origin[end]
            image[node] = end
        return image if all(self._is_carried(node, image) for node in image) else None

    def _is_carried(self, node: int, image: Automorphism) -> bool:
        """Whether a node's colour and edges are those of its image; edges between nodes that stay need no check."""
        partition, onto = self.partition, image[node]
        partition.charge(1 + len(partition.into[node]) + len(partition.out_of[node]))
        return partition.colour[node] == partition.colour[onto] and all(
            sorted([(image.get(near, near), rank) for near, rank in edges[node]]) == sorted(edges[onto])
            for edges in (partition.into, partition.out_of)
        )


def _certificate(partition: Partition) -> Certificate:
    """Write the graph in the order of a discrete partition; node labels are the same in all such orders."""
    keys = list(zip(partition.initial, partition.colour, strict=True))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    partition.charge(len(order) + len(partition.edges))
    position = [0] * len(order)
    for index, node in enumerate(order):
        position[node] = index
    return sorted((position[source], position[target], rank) for source, target, rank in partition.edges), order
