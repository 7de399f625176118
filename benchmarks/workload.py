"""What the benchmarks record: small graphs, all different, made beforehand."""

import hashlib
import random
from collections.abc import Iterable
from typing import Any

from morphml_ray.database.contract import EncodedEvaluation
from morphml_ray.database.encoding import encode_evaluation, new_write_id

NODES = 8
SKIPS = 3
POOL = 1_000
"""Graphs that one worker holds; bulk calls take all of them."""

_OPERATIONS = ("conv3x3", "conv1x1", "maxpool", "dense", "norm")
_SERIALS_A_WORKER = 10**9
_SERIALS_A_MEASUREMENT = 10**11
OBJECTIVES = {"accuracy": "max", "params": "min"}

Graph = dict[str, list[dict[str, Any]]]


class Workload:
    """An endless supply of evaluations of different graphs.

    The graphs are made at the start. A serial number in the first node makes each use of one a new architecture, at
    the cost of an assignment; so what is measured is recording, not making graphs.

    Args:
        measurement: number of the measurement; no two share a serial number.
        worker: number of the worker.
    """

    def __init__(self, measurement: int = 0, worker: int = 0) -> None:
        chance = random.Random(f"{measurement} {worker}")  # noqa: S311 - chance, not secrecy
        self._graphs = [make_graph(chance) for _ in range(POOL)]
        self._fitness = [chance.random() for _ in range(POOL)]
        self._serial = measurement * _SERIALS_A_MEASUREMENT + worker * _SERIALS_A_WORKER
        self._worker_id = f"worker-{worker}"

    def next(self) -> dict[str, Any]:
        """Give the arguments of ``save_architecture`` for an evaluation that nobody had before."""
        self._serial += 1
        turn = self._serial % POOL
        graph = self._graphs[turn]
        graph["nodes"][0]["params"]["serial"] = self._serial
        return {
            "architecture": graph,
            "fitness": self._fitness[turn],
            "metrics": {"params": 1000 + turn, "loss": 0.25},
            "generation": turn % 50,
            "worker_id": self._worker_id,
            "duration": 0.03,
        }

    def bulk(self) -> list[dict[str, Any]]:
        """Give the arguments of ``POOL`` evaluations, each with a graph object of its own."""
        return [self.next() for _ in range(POOL)]

    def encoded(self) -> list[EncodedEvaluation]:
        """Give ``POOL`` evaluations as our callers encode them."""
        return [encode_evaluation(**arguments) for arguments in self.bulk()]

    def renamed(self, templates: Iterable[EncodedEvaluation]) -> list[EncodedEvaluation]:
        """Make further evaluations of the same sizes, as if of other architectures, without encoding a graph."""
        return [self._renamed(template) for template in templates]

    def _renamed(self, template: EncodedEvaluation) -> EncodedEvaluation:
        self._serial += 1
        digest = hashlib.sha256(b"%d" % self._serial)
        fitness = int.from_bytes(digest.digest()[:6], "big") / 2**48
        return template._replace(write_id=new_write_id(), key=f"g1:{digest.hexdigest()}", fitness=fitness)


def make_graph(chance: random.Random) -> Graph:
    """Make a chain of ``NODES`` nodes with a few skip connections."""
    nodes = [
        {"id": f"n{i}", "operation": chance.choice(_OPERATIONS), "params": {"units": chance.randrange(1, 512)}}
        for i in range(NODES)
    ]
    edges = [{"source": f"n{i}", "target": f"n{i + 1}"} for i in range(NODES - 1)]
    for _ in range(SKIPS):
        start = chance.randrange(NODES - 2)
        edges.append({"source": f"n{start}", "target": f"n{chance.randrange(start + 2, NODES)}"})
    return {"nodes": nodes, "edges": edges}


def repeated(evaluation: EncodedEvaluation) -> EncodedEvaluation:
    """Make another write of the same evaluation: a duplicate."""
    return evaluation._replace(write_id=new_write_id())
