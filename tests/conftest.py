"""Fixtures for all tests: real servers, one Ray for the session, a namespace a test."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Before anything imports Ray: sockets below it have a short limit, and workers inherit the rest.
RAY_TMPDIR = Path(tempfile.mkdtemp(prefix="mr", dir="/tmp"))
os.environ["RAY_TMPDIR"] = str(RAY_TMPDIR)
os.environ["RAY_AUTH_MODE"] = "disabled"
# Settings and secrets of whoever runs the tests stay out, of the workers too; all of them have one signing key.
HOME = RAY_TMPDIR / "home"
HOME.mkdir()
os.environ["HOME"] = str(HOME)
for setting in [name for name in os.environ if name.startswith("MORPHML_")]:
    del os.environ[setting]

import ray  # noqa: E402 - see above
from ray.util import list_named_actors  # noqa: E402 - the same

import morphml_ray as mr  # noqa: E402 - the same

pytest_plugins = ["servers", "pgbouncer", "s3_doubles"]


# One process of the two has the actors that tests share, whoever asks for them.
SHARED = {"files_storage", "servers_storage", "local_store", "store", "cache", "shared_storage"}
# Long tests that share nothing with the others of their file.
APART = ("tests/acceptance", "tests/chaos")
# With the short ones at the end two processes end together.
ORDER = ("tests/actors", "tests/chaos", "tests/acceptance", "tests", "tests/contracts", "tests/unit")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what stays together when tests run in two processes, and begin with what takes long."""
    for item in items:
        name = item.path.name
        if not SHARED.isdisjoint(getattr(item, "fixturenames", ())):
            name = "shared"
        elif folder_of(item) in APART:
            name = item.name
        item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: ORDER.index(folder_of(item)))


def folder_of(item: pytest.Item) -> str:
    return item.path.parent.relative_to(ROOT).as_posix()


def pytest_unconfigure() -> None:
    """Take the session's directory away."""
    shutil.rmtree(RAY_TMPDIR, ignore_errors=True)


@pytest.fixture(autouse=True)
def _alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Secrets of other tests stay out, except where Ray's workers have to find them."""
    if "cluster" not in request.fixturenames:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """One Ray for the session."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HOME", str(HOME))  # whichever test is the first
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=2**28)
    yield
    left = _end_actors(set())
    ray.shutdown()
    assert not left, f"tests without a namespace left actors behind: {left}"


@pytest.fixture
def namespace(cluster: None) -> Iterator[str]:
    """A Ray namespace of the test's own; it may leave no actor, in no namespace, that was not there before."""
    del cluster
    shared = _named_actors()
    yield f"test_{secrets.token_hex(4)}"
    left = _end_actors(shared)
    assert not left, f"the test left actors behind: {left}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once on each technology."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/morphml.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, namespace: str, tmp_path: Path) -> Iterator[mr.Storage]:
    """A storage of the test's own, on each technology."""
    url = None if request.param == "sqlite" else request.getfixturevalue("migrated_url")
    found = mr.connect(database=url, root=str(tmp_path / "store"), namespace=namespace)
    yield found
    found.shutdown()


@pytest.fixture
def sqlite_storage(namespace: str, tmp_path: Path) -> Iterator[mr.Storage]:
    """A storage of the test's own on SQLite."""
    found = mr.connect(root=str(tmp_path / "store"), namespace=namespace)
    yield found
    found.shutdown()


@pytest.fixture
def postgres_storage(namespace: str, migrated_url: str, tmp_path: Path) -> Iterator[mr.Storage]:
    """A storage of the test's own on PostgreSQL."""
    found = mr.connect(database=migrated_url, root=str(tmp_path / "store"), namespace=namespace)
    yield found
    found.shutdown()


def _named_actors() -> set[tuple[str, str]]:
    return {(actor["namespace"], actor["name"]) for actor in list_named_actors(all_namespaces=True)}


def _end_actors(shared: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """End all named actors but shared ones; gives those that had been left."""
    return [(namespace, name) for namespace, name in sorted(_named_actors() - shared) if _end_actor(namespace, name)]


def _end_actor(namespace: str, name: str) -> bool:
    """End an actor; False where it was gone."""
    try:
        ray.kill(ray.get_actor(name, namespace=namespace))
    except ValueError:
        return False
    return True
