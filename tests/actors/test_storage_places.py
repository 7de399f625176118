"""Where a storage may be made, and from where it may be reached."""

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
from ray.util import list_named_actors

import morphml_ray as mr
from morphml_ray.integrations.fsspec.filesystem import MorphmlFileSystem

IN_A_JOB = """
import sys, ray, morphml_ray as mr
address, namespace, root = sys.argv[1:]
ray.init(address, runtime_env={"working_dir": "."}, log_to_driver=False)

@ray.remote(num_cpus=0)
def work(**settings):
    try:
        return mr.connect(namespace=namespace, **settings).experiment("one").record({"a": 1}, 0.5)
    except mr.ConfigurationError as error:
        return str(error)

for settings in ({}, {"root": "below"}, {"database": "sqlite:///morphml.db"}):
    told = ray.get(work.remote(**settings))
    assert "session" in told and "root=" in told and "MORPHML_ROOT" in told, told
assert ray.get(work.remote(root=root)) == 1
assert ray.get(work.remote()) == 1
"""


def run(program: str, *arguments: str, folder: Path) -> None:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def gcs_address() -> str:
    found: str = ray.get_runtime_context().gcs_address
    return found


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.timeout(300)
def test_case_7_nothing_is_made_below_rays_session_directory(namespace: str, tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    run(IN_A_JOB, gcs_address(), namespace, str(tmp_path / "root"), folder=tmp_path / "job")
    storage = mr.connect(namespace=namespace)
    assert storage.experiment("one").statistics()["num_evaluations"] == 1
    storage.shutdown()


@pytest.mark.usefixtures("namespace")
def test_case_20_ray_client_is_refused_before_anything_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list_named_actors(all_namespaces=True)
    # What tells Ray Client; a server of it needs grpc, which ray[client] brings.
    monkeypatch.setattr(ray.util.client.ray, "is_connected", lambda: True)
    starts: list[Callable[[], object]] = [
        mr.connect,
        lambda: mr.DatabaseManager("sqlite:////nowhere/morphml.db"),
        lambda: mr.DistributedCache("memory://"),
        lambda: mr.ArtifactStore.from_url("file:///nowhere"),
        lambda: MorphmlFileSystem("other", skip_instance_cache=True).ls(""),
    ]
    for start in starts:
        with pytest.raises(mr.ConfigurationError, match=r"ray://.*job submit"):
            start()
    monkeypatch.undo()
    assert list_named_actors(all_namespaces=True) == before


def test_case_44_a_dead_address_is_an_error_within_seconds(sqlite_storage: mr.Storage, namespace: str) -> None:
    assert sqlite_storage.status()
    command = [sys.executable, "-m", "morphml_ray.cli", "status", "--namespace", namespace, "--address"]
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        addresses = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{silent.getsockname()[1]}", "ray://127.0.0.1:10001"]
        for address in addresses:
            done = subprocess.run([*command, address], capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 1
            assert address in done.stderr
    lost = subprocess.run(
        [*command, gcs_address(), "--name", "nowhere"], capture_output=True, text=True, timeout=60, check=False
    )
    assert gcs_address() in lost.stderr
    assert "'nowhere'" in lost.stderr
    assert namespace in lost.stderr


def test_case_36_a_root_states_the_cache_too(namespace: str, tmp_path: Path, cache_url: str) -> None:
    storage = mr.connect(root=str(tmp_path / "one"), cache=cache_url, namespace=namespace)
    with pytest.raises(mr.ConflictError, match="redis"):
        mr.connect(root=str(tmp_path / "one"), namespace=namespace)
    storage.shutdown()
