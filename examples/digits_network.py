"""What the search chooses among: small networks over graphs, their training on digits, and their mutations.

A graph holds one "input" node, one "output" node and "dense" nodes between them. A node reads the sources of
all edges that lead to it, side by side: an edge past a layer is a skip connection. The ids and the order in
which nodes and edges are listed mean nothing.
"""

import copy
import io
import json
import math
import random
from collections.abc import Callable
from graphlib import TopologicalSorter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Graph = dict[str, list[dict[str, Any]]]
Floats = NDArray[np.float32]
Split = tuple[Floats, NDArray[np.int64]]

BATCH_SIZE, LEARNING_RATE = 64, 0.008
UNITS, MAX_LAYERS = (8, 16, 32, 64), 6
HIDDEN_ACTIVATIONS = ("relu", "tanh", "square")

# Each activation, and its derivative from the sum z that came in and the value y that went out. Squares of
# squares can overflow: like any real search, one over these networks may meet trainings that fail.
ACTIVATIONS: dict[str, tuple[Callable[[Floats], Floats], Callable[[Floats, Floats], Floats]]] = {
    "relu": (lambda z: np.maximum(z, 0), lambda z, _y: (z > 0).astype(np.float32)),
    "tanh": (np.tanh, lambda _z, y: 1 - y * y),
    "square": (np.square, lambda z, _y: 2 * z),
    "linear": (lambda z: z, lambda z, _y: np.ones_like(z)),
}


def load_data() -> dict[str, Split]:
    """Give the digits, 64 pixels and a constant 1 each, in three parts; nothing is chosen by the test part."""
    pixels, labels = load_digits(return_X_y=True)
    x = np.column_stack([pixels / 16 - 0.3, np.ones(len(pixels))]).astype(np.float32)
    rest_x, test_x, rest_y, test_y = train_test_split(x, labels, test_size=360, stratify=labels, random_state=0)
    train_x, val_x, train_y, val_y = train_test_split(rest_x, rest_y, test_size=360, stratify=rest_y, random_state=0)
    return {"train": (train_x, train_y), "validation": (val_x, val_y), "test": (test_x, test_y)}


def in_order(graph: Graph) -> list[tuple[dict[str, Any], list[int]]]:
    """List each node with the ids that it reads, and after those."""
    reads: dict[int, list[int]] = {node["id"]: [] for node in graph["nodes"]}
    for edge in graph["edges"]:
        reads[edge["target"]].append(edge["source"])
    nodes = {node["id"]: node for node in graph["nodes"]}
    return [(nodes[node_id], reads[node_id]) for node_id in TopologicalSorter(reads).static_order()]


def hidden(graph: Graph) -> list[dict[str, Any]]:
    """List the layers between input and output, each after those it reads."""
    return [node for node, _ in in_order(graph) if node["operation"] == "dense"]


class Network:
    """A perceptron whose layers write into columns of one table, and read those of any layers before them."""

    def __init__(self, graph: Graph, rng: np.random.Generator) -> None:
        (source, _), *layers = in_order(graph)
        columns, self.width = {source["id"]: np.arange(64)}, 65  # column 64 is the constant 1
        self.layers = []
        for node, reads in layers:
            units = node["params"].get("units", 10)
            columns[node["id"]] = np.arange(self.width, self.width + units)
            self.width += units
            read = np.concatenate([columns[i] for i in reads] + [[64]])
            self.layers.append((read, columns[node["id"]], ACTIVATIONS[node["params"].get("activation", "linear")]))
        shapes = [(len(read), len(write)) for read, write, _ in self.layers]
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        # All weights are views of one vector, and so are their gradients: Adam need not know the layers.
        self.theta = rng.normal(size=ends[-1]).astype(np.float32)
        self.gradient = np.zeros_like(self.theta)
        parts = [np.split(vector, ends[:-1]) for vector in (self.theta, self.gradient)]
        self.weights, self.slopes = ([v.reshape(s) for v, s in zip(part, shapes, strict=True)] for part in parts)
        for weight in self.weights:
            np.divide(weight, math.sqrt(len(weight)), out=weight)

    def forward(self, x: Floats) -> tuple[Floats, list[Floats]]:
        """Give the filled table, its last ten columns being the scores, and the sums before each activation."""
        table, sums = np.empty((len(x), self.width), np.float32), []
        table[:, :65] = x
        for (read, write, (activation, _)), weight in zip(self.layers, self.weights, strict=True):
            sums.append(table[:, read] @ weight)
            table[:, write] = activation(sums[-1])
        return table, sums

    def backward(self, x: Floats, labels: NDArray[np.int64]) -> None:
        """Put the gradient of the mean cross-entropy into ``gradient``."""
        table, sums = self.forward(x)
        errors = np.zeros_like(table)
        odds = np.exp(table[:, -10:] - table[:, -10:].max(axis=1, keepdims=True))
        errors[:, -10:] = (odds / odds.sum(axis=1, keepdims=True) - np.eye(10)[labels]) / len(x)
        for i in reversed(range(len(self.layers))):
            read, write, (_, derivative) = self.layers[i]
            error = errors[:, write] * derivative(sums[i], table[:, write])
            self.slopes[i][:] = table[:, read].T @ error
            errors[:, read] += error @ self.weights[i].T

    def accuracy(self, part: Split) -> float:
        """Give the share of digits read correctly; NaN when the network has overflowed."""
        scores = self.forward(part[0])[0][:, -10:]
        return float(np.mean(scores.argmax(axis=1) == part[1])) if np.isfinite(scores).all() else math.nan


def train(graph: Graph, part: Split, seed: int, epochs: int) -> Network:
    """Train a network with Adam (Kingma & Ba 2015) and a learning rate that falls to zero."""
    rng = np.random.default_rng(seed)
    network, (x, labels) = Network(graph, rng), part
    mean, square = np.zeros((2, len(network.theta)), np.float32)
    batches = len(x) // BATCH_SIZE
    for step in range(steps := epochs * batches):
        if step % batches == 0:
            order = rng.permutation(len(x))
        batch = order[step % batches :: batches]
        network.backward(x[batch], labels[batch])
        mean += 0.1 * (network.gradient - mean)
        square += 0.001 * (network.gradient**2 - square)
        rate = LEARNING_RATE * (1 - step / steps) * math.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        network.theta -= rate * mean / (np.sqrt(square) + 1e-8)
    return network


def pack(graph: Graph, network: Network) -> bytes:
    """Write a network as an .npz file: its weights, and the graph, whose order of nodes they go by."""
    file = io.BytesIO()
    np.savez(file, *network.weights, graph=np.array(json.dumps(graph)))
    return file.getvalue()


def unpack(data: bytes) -> Network:
    """Give the network that ``pack`` wrote."""
    with np.load(io.BytesIO(data)) as arrays:
        network = Network(json.loads(str(arrays["graph"])), np.random.default_rng())
        for number, weight in enumerate(network.weights):
            weight[:] = arrays[f"arr_{number}"]
    return network


# --- How networks are born, and how they change ---------------------------------------------------------


def add_layer(graph: Graph, rng: random.Random) -> None:
    """Put a narrow layer into the middle of an edge; now and then the edge stays, as a skip connection."""
    edge, layer = rng.choice(graph["edges"]), 1 + max(node["id"] for node in graph["nodes"])
    params = {"units": UNITS[0], "activation": rng.choice(HIDDEN_ACTIVATIONS)}
    graph["nodes"].append({"id": layer, "operation": "dense", "params": params})
    graph["edges"] += [
        {"source": edge["source"], "target": layer},
        {"source": layer, "target": edge["target"]},
    ]
    if rng.choice((True, True, False)):
        graph["edges"].remove(edge)


def remove_layer(graph: Graph, rng: random.Random) -> None:
    """Take a layer away and join what it read to those that read it."""
    gone = rng.choice(hidden(graph))
    edges, layer = graph["edges"], gone["id"]
    sources = [edge["source"] for edge in edges if edge["target"] == layer]
    targets = [edge["target"] for edge in edges if edge["source"] == layer]
    kept = [edge for edge in edges if layer not in (edge["source"], edge["target"])]
    joined = [{"source": source, "target": target} for source in sources for target in targets]
    graph["nodes"].remove(gone)
    graph["edges"] = kept + [edge for edge in joined if edge not in kept]


def change_layer(graph: Graph, rng: random.Random) -> None:
    """Make a layer one step wider or narrower, or draw its activation anew."""
    params = rng.choice(hidden(graph))["params"]
    if rng.choice((True, False)):
        params["activation"] = rng.choice(HIDDEN_ACTIVATIONS)
    else:
        step = UNITS.index(params["units"]) + rng.choice((-1, 1))
        params["units"] = UNITS[min(max(step, 0), len(UNITS) - 1)]


def add_skip(graph: Graph, rng: random.Random) -> None:
    """Let a node read one more of those before it, so that no cycle arises."""
    order = [node["id"] for node, _ in in_order(graph)]
    before, after = sorted(rng.sample(range(len(order)), 2))
    edge = {"source": order[before], "target": order[after]}
    if edge not in graph["edges"]:
        graph["edges"].append(edge)


def mutate(parent: Graph, rng: random.Random) -> Graph:
    """Copy a network with one random change."""
    child, layers = copy.deepcopy(parent), len(hidden(parent))
    moves = [add_layer] * (layers < MAX_LAYERS) + [remove_layer, change_layer, add_skip] * (layers > 0)
    while child == parent:  # a move may leave things as they were
        rng.choice(moves)(child, rng)
    return child


def random_graph(rng: random.Random) -> Graph:
    """Grow a network out of the plain linear classifier by one to three changes."""
    nodes = [{"id": 0, "operation": "input", "params": {}}, {"id": 1, "operation": "output", "params": {}}]
    graph: Graph = {"nodes": nodes, "edges": [{"source": 0, "target": 1}]}
    for _ in range(rng.randint(1, 3)):
        graph = mutate(graph, rng)
    return graph
