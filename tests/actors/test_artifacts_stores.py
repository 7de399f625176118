"""Stores of artifacts that stand alone, without the rest of a storage."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from stores import end

import morphml_ray as mr
from morphml_ray.artifacts.store import artifact_settings
from morphml_ray.config import DEFAULT_NAMESPACE
from morphml_ray.devstack import SeaweedServer
from morphml_ray.rpc.deploy import find_actors, stop_actor


@pytest.fixture
def alone(namespace: str) -> Iterator[None]:
    """Ends the artifact actors of stores that stand alone, refused ones too."""
    del namespace
    yield
    for handle in find_actors("artifacts:", DEFAULT_NAMESPACE).values():
        stop_actor(handle, 10)


@pytest.mark.usefixtures("alone")
def test_a_store_alone(s3_server: SeaweedServer, artifacts_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = artifacts_url.removeprefix("s3://morphml/").partition("?")[0]
    access, secret = s3_server.exports()["AWS_ACCESS_KEY_ID"], s3_server.exports()["AWS_SECRET_ACCESS_KEY"]
    endpoint = s3_server.endpoint_url
    with pytest.raises(mr.ConfigurationError) as caught:
        mr.ArtifactStore("morphml", endpoint, access, "wrong+secret/", prefix=prefix)
    assert "wrong" not in str(caught.value)
    store = mr.ArtifactStore("morphml", endpoint, access, secret, "us-east-1", prefix=prefix)
    store.upload_bytes(b"1", "a")
    assert secret not in repr(store) + repr(vars(store)) + repr(pickle.dumps(store.actors.settings))
    same = mr.ArtifactStore.from_url(artifacts_url)
    assert same.list_keys() == ["a"]
    assert same.channel.handle == store.channel.handle

    @ray.remote(num_cpus=0)
    def make(arguments: list[str], prefix: str) -> list[str]:
        return mr.ArtifactStore(*arguments, prefix=prefix).list_keys()

    assert ray.get(make.remote(["morphml", endpoint, access, secret, "us-east-1"], prefix)) == ["a"]
    end(store)
    monkeypatch.setenv("MY_SECRET", secret)
    with pytest.raises(mr.ConfigurationError, match="MY_SECRET"):  # which the actor does not have
        mr.ArtifactStore("morphml", endpoint, access, "env:MY_SECRET", prefix=prefix)


@pytest.mark.usefixtures("alone")
def test_a_task_makes_a_store_of_its_own(store_url: str) -> None:
    @ray.remote(num_cpus=0)
    def work(url: str) -> Any:
        store = mr.ArtifactStore.from_url(url)
        store.upload_bytes(b"1", "a")
        return ray.get(store.download_bytes.remote("a"))

    assert ray.get(work.remote(store_url)) == b"1"
    assert mr.ArtifactStore.from_url(store_url).list_keys() == ["a"]


@pytest.mark.usefixtures("alone")
def test_a_store_that_cannot_be_is_refused(s3_server: SeaweedServer) -> None:
    exports = s3_server.exports()
    keys = exports["AWS_ACCESS_KEY_ID"], exports["AWS_SECRET_ACCESS_KEY"]
    with pytest.raises(mr.ConfigurationError, match="no bucket missing-bucket"):
        mr.ArtifactStore("missing-bucket", s3_server.endpoint_url, *keys, create_bucket=False)
    for wrong in ("UPPER", "a", "a@b"):
        with pytest.raises(mr.ConfigurationError, match="bucket"):
            mr.ArtifactStore(wrong)
    with pytest.raises(mr.ConfigurationError, match="endpoint_url"):
        mr.ArtifactStore("abc", "host:80")
    with pytest.raises(mr.ConfigurationError, match="prefix"):
        mr.ArtifactStore("abc", prefix="a//b")
    with pytest.raises(mr.ConfigurationError, match="together"):
        mr.ArtifactStore("abc", aws_access_key=keys[0])


@pytest.mark.usefixtures("namespace")
def test_a_directory_may_be_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_ARTIFACTS", f"file://{tmp_path}/one")
    settings = artifact_settings(mr.StorageConfig(artifacts="env:MY_ARTIFACTS"))
    assert settings.home_node == ray.get_runtime_context().get_node_id()
    settings = artifact_settings(mr.StorageConfig(artifacts="env:UNKNOWN_ARTIFACTS"))
    assert settings.home_node is None
