"""Search for small neural networks that read handwritten digits, with every result kept by ``morphml_ray``.

Aging evolution (Real et al. 2019, "Regularized evolution for image classifier architecture search",
https://arxiv.org/abs/1802.01548) proposes networks; Ray tasks train them on the digits that come with
scikit-learn and record what they found; the weights of each new best one become an artifact. Stop it whenever you
like and run it again: it goes on from the database.

    python examples/digits_evolution.py --evaluations 400
"""

import argparse
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import digits_network
import numpy as np
import ray
from digits_network import Graph, Split, hidden, load_data, mutate, pack, random_graph, train
from matplotlib import pyplot as plt
from matplotlib import ticker
from tqdm import tqdm

import morphml_ray as mr

FIDELITY = {"epochs": 12}
OBJECTIVES = {"accuracy": "max", "params": "min"}
# Around a small population there may be nothing new left to propose: without a limit the loop would spin.
MAX_DUPLICATES_IN_A_ROW = 500


# --- The search -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A proposed network; its key is the same however its nodes are numbered."""

    graph: Graph
    key: str
    generation: int = 0
    parents: tuple[str, ...] = ()


class AgingEvolution:
    """The best of a random sample becomes a parent; its child takes the place of the oldest member."""

    def __init__(
        self, key_of: Callable[[Graph], str], args: argparse.Namespace, past: list[mr.ArchitectureRecord]
    ) -> None:
        self.key_of, self.args = key_of, args
        self.rng = random.Random(f"{args.seed} {len(past)}")  # noqa: S311 - chance, not secrecy
        self.population: deque[tuple[float, Candidate]] = deque(maxlen=args.population)
        self.known, self.duplicates, self.best = {r.architecture_hash for r in past}, 0, 0.0
        for r in past:
            self.tell(Candidate(r.architecture, r.architecture_hash, r.generation), r.fitness)

    def tell(self, candidate: Candidate, fitness: float | None) -> None:
        """Take in a result; a failed training leaves no member."""
        if fitness is not None and math.isfinite(fitness):
            self.population.append((fitness, candidate))
            self.best = max(self.best, fitness)

    def ask(self) -> Candidate | None:
        """Propose a network that was never trained; None when nothing new turns up around the population."""
        for _ in range(MAX_DUPLICATES_IN_A_ROW):
            graph, generation, parents = self._breed()
            if (key := self.key_of(graph)) not in self.known:
                self.known.add(key)
                return Candidate(graph, key, generation, parents)
            self.duplicates += 1
        return None

    def _breed(self) -> tuple[Graph, int, tuple[str, ...]]:
        if len(self.population) < self.args.population:
            return random_graph(self.rng), 0, ()
        sample = self.rng.sample(list(self.population), min(self.args.sample, self.args.population))
        _, parent = max(sample, key=lambda member: member[0])
        return mutate(parent.graph, self.rng), parent.generation + 1, (parent.key,)


def weights_key(key: str, seed: int) -> str:
    """Name the artifact that holds a network's weights."""
    return f"digits/{key[:16]}-{seed}.npz"


def train_and_measure(graph: Graph, data: dict[str, Split], seed: int) -> tuple[dict[str, Any], bytes]:
    """Train a network; gives what ``Experiment.record`` wants to know, and the network as a file."""
    started = time.perf_counter()
    with np.errstate(all="ignore"):
        network = train(graph, data["train"], seed, **FIDELITY)
        fitness, test = network.accuracy(data["validation"]), network.accuracy(data["test"])
    metrics = {"params": network.theta.size} | ({"test_accuracy": test} if math.isfinite(test) else {})
    duration = time.perf_counter() - started
    return {"fitness": fitness, "metrics": metrics, "duration": duration}, pack(graph, network)


@ray.remote(num_cpus=1)
def evaluate(
    storage: mr.Storage, experiment: mr.Experiment, candidate: Candidate, data: dict[str, Split], seed: int, best: float
) -> float:
    """Train a network in a Ray worker, record what came out, and give its validation accuracy."""
    terms: dict[str, Any] = {"experiment_id": experiment.id, "seed": seed, "fidelity": FIDELITY}
    result = storage.cache.get_architecture_result(candidate.key, **terms)
    if result is None:  # otherwise another search on the same storage has just trained it
        result, weights = train_and_measure(candidate.graph, data, seed)
        if result["fitness"] > best:  # stored before it is recorded: no best network is without its weights
            about = {"architecture": candidate.key, "accuracy": str(result["fitness"])}
            storage.artifacts.upload_bytes(weights, weights_key(candidate.key, seed), about)
    experiment.record(
        candidate.graph,
        **result,  # a fitness of NaN is stored as a failed evaluation
        generation=candidate.generation,
        seed=seed,
        fidelity=FIDELITY,
        worker_id=ray.get_runtime_context().get_worker_id()[:12],
        parents=candidate.parents,
    )
    storage.cache.cache_architecture_result(candidate.key, result, **terms)
    return float(result["fitness"])


def search(storage: mr.Storage, experiment: mr.Experiment, evolution: AgingEvolution, args: argparse.Namespace) -> None:
    """Keep every CPU busy until the budget is spent: when one training ends, the next starts."""
    cpus = ray.cluster_resources()["CPU"]  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    data, slots = ray.put(load_data()), 2 * int(cpus)
    running: dict[Any, Candidate] = {}
    with tqdm(total=args.evaluations, unit="net", dynamic_ncols=True, disable=not args.evaluations) as bar:
        while True:
            while len(running) < min(slots, args.evaluations - bar.n) and (candidate := evolution.ask()):
                task = evaluate.remote(storage, experiment, candidate, data, args.seed, evolution.best)
                running[task] = candidate
            if not running:
                break
            (done, *_), _ = ray.wait(list(running))
            evolution.tell(running.pop(done), ray.get(done))
            counts = f"unique {len(evolution.known) - len(running)}, duplicates avoided {evolution.duplicates}"
            bar.set_postfix_str(f"{counts}, best {evolution.best:.2%}", refresh=False)
            bar.update()
        if bar.n < args.evaluations:
            bar.write(f"The last {MAX_DUPLICATES_IN_A_ROW} proposals were all known: try a larger --population.")


# --- What came out --------------------------------------------------------------------------------------


def print_table(best: list[mr.ArchitectureRecord]) -> None:
    """Print the best networks, chosen by validation accuracy; the test accuracy is the honest one."""
    print(f"\n {'#':>2}  validation    test   params  generation  layers, skip connections")
    for rank, r in enumerate(best, 1):
        layers = [f"{node['params']['activation']} {node['params']['units']}" for node in hidden(r.architecture)]
        skips = len(r.architecture["edges"]) - len(layers) - 1
        row = f" {rank:>2} {r.fitness:>11.2%} {r.metrics['test_accuracy']:>7.2%} {r.metrics['params']:>8,}"
        print(f"{row} {r.generation:>11}  {' - '.join(layers) or 'none'}, {skips}")


def plot(history: list[mr.ArchitectureRecord], earlier: int, path: str) -> None:
    """Draw every evaluation, and the best so far, on a scale that spreads out what lies close to 100 %."""
    numbered = list(enumerate(history, 1))
    good = [(n, min(r.fitness, 0.999), r.metrics["params"]) for n, r in numbered if r.fitness is not None]
    failed = [n for n, r in numbered if r.fitness is None]
    number, fitness, params = np.array(good).T
    figure, axes = plt.subplots(figsize=(10, 5.6), layout="constrained")
    if earlier:
        axes.axvspan(0.5, earlier + 0.5, color="0.5", alpha=0.12, lw=0, label="earlier runs")
    dots = axes.scatter(number, fitness, c=params, s=22, norm="log", cmap="viridis_r", alpha=0.8, linewidths=0)
    axes.step(number, np.maximum.accumulate(fitness), where="post", color="crimson", lw=2, label="best so far")
    if failed:
        axes.plot(failed, [fitness.min()] * len(failed), "kx", ms=5, label="failed training")
    axes.set_yscale("logit")
    ticks = np.array([0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99])
    shown = ticks[ticks > fitness.min()]
    axes.set_yticks(shown, [f"{tick:.0%}" for tick in shown])
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.set(xlabel="evaluations", ylabel="validation accuracy", title="Aging evolution of digit readers")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", edgecolor="none")
    bar = figure.colorbar(
        dots, label="parameters", ticks=[300, 500, 1000, 2000, 5000, 10_000, 20_000], format="{x:,.0f}"
    )
    bar.minorticks_off()
    figure.savefig(path, dpi=150)


def print_weights(storage: mr.Storage, best: mr.ArchitectureRecord) -> None:
    """Say where the weights of the best network are, and how to get it back."""
    key = weights_key(best.architecture_hash, best.seed)
    if storage.artifacts.exists(key):  # not when they were kept in another place
        place = next(iter(storage.status()["artifacts"].values()))["place"]
        print(f"The weights of the best are the artifact {key} in {place}; to get the network back:")
        print(f'    digits_network.unpack(storage.artifacts.download_bytes("{key}"))')


def report(storage: mr.Storage, experiment: mr.Experiment, earlier: int, path: str) -> None:
    """Show what the database holds, and say how to go on."""
    if best := experiment.best(10):
        print_table(best)
        plot(experiment.history(), earlier, path)
        print(f"\nDrawn in {path}")
        print_weights(storage, best[0])
    counts = experiment.statistics()
    place = storage.status()["database"]["place"]
    print(f"{counts['num_evaluations']} evaluations, {counts['num_failed']} failed, are kept in {place}")
    print("Run it again to go on from there; --evaluations 0 only shows what is there.")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=400, help="networks to train in this run (default 400)")
    parser.add_argument("--population", type=int, default=50, help="members that evolve (default 50)")
    parser.add_argument("--sample", type=int, default=10, help="members of whom the best has a child (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of first weights and of chance (default 0)")
    parser.add_argument("--database", help="URL, such as postgresql://user@host/name (default: SQLite below --root)")
    parser.add_argument("--root", help="directory of the embedded storage (default ./morphml_storage)")
    parser.add_argument("--plot", default="digits_evolution.png", help="PNG to draw (default digits_evolution.png)")
    args = parser.parse_args()
    if args.evaluations < 0 or args.population < 1 or args.sample < 1:
        parser.error("--evaluations must not be negative, --population and --sample must be at least 1")
    return args


def main() -> None:
    """Run the search, then show what the database holds, that of earlier runs too."""
    args = arguments()
    plt.switch_backend("Agg")
    # One thread a training: on small matrices more of them only wait for each other.
    one_thread = {"env_vars": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}}
    ray.init(runtime_env=one_thread, log_to_driver=False, logging_level=logging.ERROR)
    # The module beside this one travels with the tasks, so that workers on other nodes need no copy of it.
    ray.cloudpickle.register_pickle_by_value(digits_network)  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    storage = mr.connect(database=args.database, root=args.root)
    experiment = storage.experiment("digits", objectives=OBJECTIVES, config={"optimizer": "aging evolution"})
    past = experiment.history()
    comparable = [r for r in past if r.seed == args.seed and r.fidelity == FIDELITY]
    evolution = AgingEvolution(storage.database.hash_architecture, args, comparable)
    try:
        search(storage, experiment, evolution, args)
    except KeyboardInterrupt:
        print("\nStopped; what was recorded is kept.")
    report(storage, experiment, len(past), args.plot)


if __name__ == "__main__":
    main()
