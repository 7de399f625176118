"""The examples run as a user runs them: as programs, whose results are read back without morphml_ray."""

import argparse
import importlib
import math
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from matplotlib import pyplot as plt
from waiting import wait_until

from morphml_ray.devstack import DevStack

EXAMPLES = Path(__file__).parents[2] / "examples"
RUN_S = 120


def example_environment() -> dict[str, str]:
    """Ray of its own, and no setting of whoever runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MORPHML_")}
    return inherited | {"RAY_ADDRESS": "local", "RAY_AUTH_MODE": "disabled"}


def digits_command(folder: Path, *options: str) -> list[str]:
    script = str(EXAMPLES / "digits_evolution.py")
    where = ["--root", str(folder / "storage"), "--plot", str(folder / "digits.png")]
    return [sys.executable, script, *where, "--population", "6", "--sample", "3", *options]


def run_digits(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run_example(digits_command(folder, *options), folder)


def run_example(
    command: list[str], folder: Path, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        command,
        env=example_environment() | dict(settings or {}),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran


def stored(folder: Path, query: str) -> list[tuple[Any, ...]]:
    """What the SQLite file holds, asked for past the code under test."""
    connection = sqlite3.connect(folder / "storage" / "morphml.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def count(folder: Path, what: str) -> int:
    ((number,),) = stored(folder, f"SELECT count({what}) FROM evaluations")  # noqa: S608 - no foreign text
    return int(number)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("digits_network")


@pytest.fixture
def evolution(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("digits_evolution")


@pytest.mark.timeout(3 * RUN_S)
def test_digits_evolution_goes_on_from_its_database(tmp_path: Path, network: ModuleType) -> None:
    first = run_digits(tmp_path, "--evaluations", "12")

    assert "12/12" in first.stderr
    assert re.search(r"unique 12, duplicates avoided \d+, best \d+\.\d+%", first.stderr)
    assert "12 evaluations, 0 failed, are kept in" in first.stdout
    assert len(re.findall(r"^ +\d+ +\d+\.\d+% +\d+\.\d+% +[\d,]+ ", first.stdout, re.MULTILINE)) == 10
    ((best, keys),) = stored(tmp_path, "SELECT max(fitness), count(DISTINCT architecture_id) FROM evaluations")
    assert keys == 12
    assert f" 1 {best:>11.2%}" in first.stdout

    second = run_digits(tmp_path, "--evaluations", "8")

    assert "8/8" in second.stderr
    assert "unique 20," in second.stderr
    assert "20 evaluations, 0 failed, are kept in" in second.stdout
    assert stored(tmp_path, "SELECT name FROM experiments") == [("digits",)]
    assert count(tmp_path, "*") == count(tmp_path, "DISTINCT architecture_id") == 20
    ((generation,),) = stored(
        tmp_path, "SELECT min(generation) FROM (SELECT generation FROM evaluations ORDER BY id DESC LIMIT 8)"
    )
    assert generation >= 1, "the second run bred from the population of the first"
    assert_is_drawn(tmp_path / "digits.png")
    assert_weights_are_those_of_the_best(tmp_path, second.stdout, network)


def assert_weights_are_those_of_the_best(folder: Path, output: str, network: ModuleType) -> None:
    """The artifact that the run names holds a network, whole, as accurate as the database says."""
    query = (
        "SELECT a.key, e.fitness, json_extract(e.metrics, '$.params') FROM evaluations e"
        " JOIN architectures a ON a.id = e.architecture_id ORDER BY e.fitness DESC, e.id LIMIT 1"
    )
    ((key, fitness, params),) = stored(folder, query)
    name = f"{key[:16]}-0.npz"
    assert f'download_bytes("digits/{name}")' in output
    (file,) = (folder / "storage" / "artifacts").rglob(name)
    with np.load(file) as arrays:
        assert sum(arrays[each].size for each in arrays.files if each != "graph") == params
    best = network.unpack(file.read_bytes())
    assert best.theta.size == params
    assert best.accuracy(network.load_data()["validation"]) == pytest.approx(fitness)


@pytest.mark.timeout(3 * RUN_S)
def test_digits_evolution_keeps_what_was_recorded_when_it_is_interrupted(tmp_path: Path) -> None:
    log = tmp_path / "progress.txt"
    with log.open("w") as progress:
        search = subprocess.Popen(
            digits_command(tmp_path, "--evaluations", "100000"),
            env=example_environment(),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=progress,
            text=True,
            start_new_session=True,
        )
    try:
        wait_until(lambda: evaluated(log) >= 5 or search.poll() is not None, RUN_S)
        os.killpg(search.pid, signal.SIGINT)  # as a terminal does: to all processes of the run
        output, _ = search.communicate(timeout=RUN_S)
    finally:
        search.kill()
        search.wait()

    assert search.returncode == 0, log.read_text()
    assert "Stopped; what was recorded is kept." in output
    assert "Traceback" not in log.read_text()
    assert 5 <= evaluated(log) <= count(tmp_path, "DISTINCT architecture_id") == count(tmp_path, "*")
    assert_is_drawn(tmp_path / "digits.png")


def evaluated(log: Path) -> int:
    return max((int(number) for number in re.findall(r"(\d+)/100000", log.read_text())), default=0)


def assert_is_drawn(path: Path) -> None:
    """A PNG that decodes, and shows more than one colour."""
    pixels = plt.imread(path)
    height, width, _ = pixels.shape
    assert (width, height) >= (1000, 600)
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 50


@pytest.mark.timeout(3 * RUN_S)
def test_shared_storage_runs_twice(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "shared_storage.py")]
    for _ in range(2):
        ran = run_example(command, tmp_path)
        assert "database: 3 evaluations, best 96.88%" in ran.stdout
        assert "cache: {'accuracy': 0.96875}" in ran.stdout
        assert re.search(r"^artifacts: shared_storage/\S+, 16,384 bytes$", ran.stdout, re.MULTILINE)
    root = f"{tmp_path}/morphml_storage"
    assert f"database: at sqlite:///{root}/morphml.db" in ran.stdout
    assert "cache: at memory://" in ran.stdout
    assert re.search(rf"^artifacts, node \w+: at file://{re.escape(root)}/artifacts", ran.stdout, re.MULTILINE)


@pytest.mark.timeout(3 * RUN_S)
def test_shared_storage_takes_all_servers_from_the_environment(tmp_path: Path, devstack: DevStack) -> None:
    exports = devstack.exports()
    for _ in range(2):
        ran = run_example([sys.executable, str(EXAMPLES / "shared_storage.py")], tmp_path, exports)
        assert "database: 3 evaluations, best 96.88%" in ran.stdout
        assert "cache: {'accuracy': 0.96875}" in ran.stdout
        assert re.search(r"^artifacts: shared_storage/\S+, 16,384 bytes$", ran.stdout, re.MULTILINE)
    for scheme in ("postgresql", "redis", "s3"):
        assert f": at {scheme}" in ran.stdout
    for secret in secrets_of(exports):
        assert secret not in ran.stdout + ran.stderr
    assert not (tmp_path / "morphml_storage").exists(), "the servers have everything"


def secrets_of(exports: Mapping[str, str]) -> list[str]:
    """The passwords and the key that lead to the servers."""
    passwords = [urlsplit(exports[name]).password for name in ("MORPHML_DATABASE_URL", "MORPHML_CACHE_URL")]
    return [*filter(None, passwords), exports["AWS_SECRET_ACCESS_KEY"]]


def test_digits_search_that_meets_only_duplicates_stops(evolution: ModuleType) -> None:
    """Lesson 46: a loop that is served only known answers must not spin."""
    args = argparse.Namespace(population=4, sample=2, seed=0)
    search = evolution.AgingEvolution(lambda _graph: "always the same key", args, [])

    assert search.ask() is not None
    assert search.ask() is None
    assert search.duplicates == evolution.MAX_DUPLICATES_IN_A_ROW


def test_digits_networks_stay_trainable_whatever_mutates(network: ModuleType) -> None:
    rng = random.Random(7)  # noqa: S311 - chance, not secrecy
    graph = network.random_graph(rng)
    for _ in range(200):
        graph = network.mutate(graph, rng)
        order = [node["id"] for node, _ in network.in_order(graph)]
        read, written = ({edge[end] for edge in graph["edges"]} for end in ("source", "target"))
        assert read == set(order[:-1]), "each node but the output is read"
        assert written == set(order[1:]), "each node but the input reads"
        assert len(network.hidden(graph)) <= network.MAX_LAYERS
        assert len({tuple(edge.values()) for edge in graph["edges"]}) == len(graph["edges"])


def test_digits_gradient_is_that_of_the_loss(network: ModuleType) -> None:
    rng = np.random.default_rng(0)
    graph = skip_graph(("tanh", "square"))
    net = network.Network(graph, rng)
    x, labels = (values[:64] for values in network.load_data()["train"])
    net.backward(x, labels)
    gradient = net.gradient.copy()
    for i in rng.choice(len(net.theta), 40, replace=False):
        assert slope(net, i, x, labels) == pytest.approx(gradient[i], rel=0.05, abs=1e-3)


def slope(net: Any, i: int, x: Any, labels: Any, step: float = 1e-2) -> float:
    """The derivative of the mean cross-entropy by one weight, from two values of it."""
    losses = []
    start = net.theta[i]
    for end in (start + step, start - step):
        net.theta[i] = end
        scores = net.forward(x)[0][:, -10:].astype(float)
        right = scores[np.arange(len(x)), labels]
        losses.append(float(np.mean(np.log(np.exp(scores).sum(axis=1)) - right)))
    net.theta[i] = start
    return (losses[0] - losses[1]) / (2 * step)


def test_digits_network_does_not_depend_on_numbering(network: ModuleType) -> None:
    data = network.load_data()
    graph = skip_graph(("relu", "tanh"))
    numbers = {0: 3, 1: 0, 2: 2, 3: 1}
    nodes = [node | {"id": numbers[node["id"]]} for node in graph["nodes"]]
    edges = [{end: numbers[node] for end, node in edge.items()} for edge in graph["edges"]]
    other = {"nodes": sorted(nodes, key=lambda node: node["id"]), "edges": edges[::-1]}

    accuracies = [network.train(g, data["train"], 0, epochs=6).accuracy(data["test"]) for g in (graph, other)]

    assert min(accuracies) > 0.85
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.05)


def test_digits_network_that_overflows_has_no_accuracy(network: ModuleType) -> None:
    data = network.load_data()
    net = network.Network(skip_graph(("square", "square")), np.random.default_rng(0))
    net.theta *= 1e15
    with np.errstate(all="ignore"):
        assert math.isnan(net.accuracy(data["validation"]))


def skip_graph(activations: tuple[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Input 0, two layers 1 and 2, output 3, and an edge past each layer."""
    layers = [
        {"id": number, "operation": "dense", "params": {"units": 16, "activation": activation}}
        for number, activation in enumerate(activations, 1)
    ]
    ends = [{"id": 0, "operation": "input", "params": {}}, {"id": 3, "operation": "output", "params": {}}]
    edges = [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)]
    return {"nodes": ends + layers, "edges": [{"source": source, "target": target} for source, target in edges]}
