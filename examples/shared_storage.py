"""Set up all storage of a cluster, and use it from inside Ray tasks.

As it stands, everything stays on this machine: a SQLite file and a directory of artifacts below ./morphml_storage,
and a cache in the memory of its actor. Three variables move the same code to servers; set those you have:

    export MORPHML_DATABASE_URL='postgresql://user:password@host/name'
    export MORPHML_CACHE_URL='redis://:password@host:6379/0'
    export MORPHML_ARTIFACTS_URL='s3://bucket/prefix?endpoint_url=http://host:9000'  # with AWS_ACCESS_KEY_ID and so on
    python examples/shared_storage.py

Run it again: what was recorded is still there, and recording it once more changes nothing.
"""

import logging

import numpy as np
import ray

import morphml_ray as mr


@ray.remote
def work(storage: mr.Storage, experiment: mr.Experiment, units: int) -> str:
    """Do what a worker does; it holds neither a connection nor a password, only handles of Ray actors."""
    network = {"layers": [{"dense": units}]}
    key = storage.database.hash_architecture(network)  # the same network has the same key on every machine
    weights = np.random.default_rng(0).normal(size=(64, units))  # in place of a training
    accuracy = 1 - 1 / units
    # Results go to the database: when record() returns, this one is committed.
    experiment.record(network, accuracy, metrics={"params": weights.size}, seed=0)
    # What can be computed again goes to the cache, which may lose it at any time.
    storage.cache.cache_architecture_result(key, {"accuracy": accuracy}, experiment_id=experiment.id, seed=0)
    # What is large goes to the artifacts: bytes, or files by upload_file(). The same key again replaces the object.
    return storage.artifacts.upload_bytes(weights.tobytes(), f"shared_storage/{key}", {"dtype": "float64"})


def main() -> None:
    """Let tasks store something of each kind, and show where it is."""
    ray.init(log_to_driver=False, logging_level=logging.ERROR)  # or the address of a cluster that runs
    storage = mr.connect()  # finds the actors of this cluster, or starts them
    experiment = storage.experiment("shared storage", objectives={"accuracy": "max", "params": "min"})
    artifacts = ray.get([work.remote(storage, experiment, units) for units in (8, 16, 32)])

    (best,) = experiment.best(1)
    cached = storage.cache.get_architecture_result(best.architecture_hash, experiment_id=experiment.id, seed=0)
    print(f"database: {experiment.statistics()['num_evaluations']} evaluations, best {best.fitness:.2%}")
    print(f"cache: {cached} for the best")  # None where the cache is unavailable: nothing fails for that
    print(f"artifacts: {artifacts[-1]}, {len(storage.artifacts.download_bytes(artifacts[-1])):,} bytes")
    status = storage.status()
    of_nodes = {f"artifacts, node {node}": actor for node, actor in status["artifacts"].items()}
    for name, actor in {"database": status["database"], "cache": status["cache"], **of_nodes}.items():
        print(f"{name}: at {actor['place']}, served by process {actor['pid']}, restarted {actor['restarts']} times")


if __name__ == "__main__":
    main()
