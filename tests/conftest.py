"""Fixtures for all tests: real servers, one Ray for the session, a namespace a test."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports Ray: sockets below it have a short limit, and workers inherit the rest.
RAY_TMPDIR = Path(tempfile.mkdtemp(prefix="mr", dir="/tmp"))
os.environ["RAY_TMPDIR"] = str(RAY_TMPDIR)
os.environ["RAY_AUTH_MODE"] = "disabled"

import ray  # noqa: E402 - see above
from ray.util import list_named_actors  # noqa: E402 - the same

import morphml_ray as mr  # noqa: E402 - the same

pytest_plugins = ["servers"]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings and secrets of whoever runs the tests stay out."""
    for name in list(os.environ):
        if name.startswith("MORPHML_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """One Ray for the session."""
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=2**28)
    yield
    ray.shutdown()
    shutil.rmtree(RAY_TMPDIR, ignore_errors=True)


@pytest.fixture
def namespace(cluster: None) -> Iterator[str]:
    """A Ray namespace of the test's own; no actor may be left when the test ends."""
    del cluster
    name = f"test_{secrets.token_hex(4)}"
    yield name
    left = [actor for actor in list_named_actors(all_namespaces=True) if not _end(actor)]
    assert not left, f"the test left actors behind: {left}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once on each technology."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/morphml.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def storage(namespace: str, database_url: str, tmp_path: Path) -> Iterator[mr.Storage]:
    """A storage of the test's own, on each technology."""
    found = mr.connect(database=database_url, root=str(tmp_path / "store"), namespace=namespace)
    yield found
    found.shutdown()


@pytest.fixture
def sqlite_storage(namespace: str, tmp_path: Path) -> Iterator[mr.Storage]:
    """A storage of the test's own on SQLite."""
    found = mr.connect(root=str(tmp_path / "store"), namespace=namespace)
    yield found
    found.shutdown()


@pytest.fixture
def postgres_storage(namespace: str, postgres_url: str, tmp_path: Path) -> Iterator[mr.Storage]:
    """A storage of the test's own on PostgreSQL."""
    found = mr.connect(database=postgres_url, root=str(tmp_path / "store"), namespace=namespace)
    yield found
    found.shutdown()


def _end(actor: dict[str, str]) -> bool:
    """End an actor that a test left; False: it had been left."""
    try:
        ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))
    except ValueError:
        return True
    return False
