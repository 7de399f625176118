"""What a connection that fails leaves: nothing that stands in the way of the next one."""

import os
import secrets
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from ray.util import list_named_actors
from waiting import wait_until

import morphml_ray as mr
from morphml_ray.devstack import SeaweedServer
from morphml_ray.rpc.deploy import find_actors, stop_actor

STATED_DEADLINE_S = 2.0


def running(namespace: str) -> list[str]:
    return [actor["name"] for actor in list_named_actors(all_namespaces=True) if actor["namespace"] == namespace]


@pytest.fixture
def right(kind: str, request: pytest.FixtureRequest) -> str:
    """The URL of a place of this kind."""
    found: str = request.getfixturevalue({"database": "migrated_url"}.get(kind, f"{kind}_url"))
    return found


@pytest.fixture
def wrong(kind: str, right: str) -> str:
    """The same URL with another password."""
    if kind == "artifacts":
        return f"{right.rpartition('=')[0]}=wrong"
    scheme, _, rest = right.partition("://")
    user, _, host = rest.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}:wrong@{host}"


@pytest.mark.parametrize("kind", ["database", "cache", "artifacts"])
def test_the_next_connection_has_other_settings(kind: str, wrong: str, namespace: str, tmp_path: Path) -> None:
    with pytest.raises(mr.ConfigurationError):
        mr.connect(root=str(tmp_path / "first"), namespace=namespace, **{kind: wrong})  # type: ignore[arg-type]
    assert running(namespace) == []
    storage = mr.connect(root=str(tmp_path / "second"), namespace=namespace)
    assert storage.status()["database"]["is_open"]
    storage.shutdown()


def test_an_outage_of_the_artifacts_leaves_nothing(namespace: str, tmp_path: Path) -> None:
    url = "s3://bucket?endpoint_url=http://127.0.0.1:9&aws_access_key_id=a&aws_secret_access_key=b"
    config = mr.StorageConfig(artifacts=url, root=str(tmp_path), deadline_s=STATED_DEADLINE_S)
    with pytest.raises(mr.BackendUnavailable):
        mr.connect(config, namespace=namespace)
    assert running(namespace) == []


@pytest.mark.parametrize("kind", ["database", "cache", "artifacts"])
def test_a_wrong_password_is_refused_though_an_actor_runs(
    kind: str, right: str, wrong: str, namespace: str, tmp_path: Path
) -> None:
    storage = mr.connect(root=str(tmp_path), namespace=namespace, **{kind: right})  # type: ignore[arg-type]
    with pytest.raises(mr.ConfigurationError) as caught:
        mr.connect(namespace=namespace, **{kind: wrong})  # type: ignore[arg-type]
    assert "wrong" not in str(caught.value)
    # What the actor reads when it starts again is still the right one.
    status = storage.status()[kind]
    pid = status["pid"] if "pid" in status else next(iter(status.values()))["pid"]
    os.kill(pid, signal.SIGKILL)
    ready: dict[str, Callable[[], object]] = {
        "database": storage.database.list_experiments,
        "cache": storage.cache.get_statistics,
        "artifacts": lambda: storage.artifacts.exists("none"),
    }
    ready[kind]()
    if kind == "cache":
        wait_until(lambda: storage.cache.get_statistics()["is_available"], 10)
    storage.shutdown()


@pytest.mark.usefixtures("namespace")
def test_a_bucket_that_may_not_be_made_can_be_made_next(s3_server: SeaweedServer) -> None:
    exports = s3_server.exports()
    bucket = f"later-{secrets.token_hex(6)}"
    account = (bucket, s3_server.endpoint_url, exports["AWS_ACCESS_KEY_ID"], exports["AWS_SECRET_ACCESS_KEY"])
    with pytest.raises(mr.ConfigurationError, match="create_bucket"):
        mr.ArtifactStore(*account, create_bucket=False)
    store = mr.ArtifactStore(*account)
    store.upload_bytes(b"1", "key")
    assert store.delete("key")
    store.shutdown()


def test_artifacts_whose_actors_are_gone_do_not_move_to_a_new_place(
    sqlite_storage: mr.Storage, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_storage.artifacts.upload_bytes(b"1", "key")
    for handle in find_actors("artifacts:", namespace).values():
        stop_actor(handle, 10)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mr.ConfigurationError, match="state artifacts="):
        mr.connect(namespace=namespace)
    assert not (tmp_path / "morphml_storage").exists()
    again = mr.connect(root=str(tmp_path / "store"), namespace=namespace)
    assert again.artifacts.download_bytes("key") == b"1"
