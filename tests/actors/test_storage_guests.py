"""Nobody ends an actor that others use, and who fails leaves nothing of its own behind."""

import os
import secrets
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import ray
from ray.util import list_named_actors
from waiting import wait_until

import morphml_ray as mr
from morphml_ray.cache.actor import CacheActor, CacheSettings
from morphml_ray.config import DEFAULT_NAMESPACE, BackendUrl
from morphml_ray.devstack import SeaweedServer
from morphml_ray.rpc.deploy import ActorAddress, find_actor, id_of
from morphml_ray.rpc.visit import Visit

HEAD = "SELECT version_num FROM alembic_version"


def running(namespace: str) -> list[str]:
    return [actor["name"] for actor in list_named_actors(all_namespaces=True) if actor["namespace"] == namespace]


def test_case_31_of_many_with_other_roots_one_wins_and_the_others_are_told(namespace: str, tmp_path: Path) -> None:
    @ray.remote(num_cpus=0.25)
    def race(root: str) -> tuple[str, str]:
        try:
            return "", str(mr.connect(root=root, namespace=namespace).database)
        except mr.MorphMLRayError as error:
            return type(error).__name__, str(error)

    told = ray.get([race.remote(str(tmp_path / str(number))) for number in range(8)])
    assert sorted(name for name, _ in told) == ["", *["ConflictError"] * 7]
    (place,) = [text for name, text in told if not name]
    storage = mr.connect(namespace=namespace)
    assert str(storage.database) == place
    assert storage.experiment("one").record({"a": 1}, 1.0)
    assert len(running(namespace)) == 3
    storage.shutdown()


def test_case_31_a_facade_that_is_refused_leaves_nothing(sqlite_storage: mr.Storage, tmp_path: Path) -> None:
    with pytest.raises(mr.ConflictError, match="in use by another process"):
        mr.DatabaseManager(f"sqlite:///{tmp_path}/store/morphml.db")
    assert running(DEFAULT_NAMESPACE) == []
    assert sqlite_storage.database.list_experiments() == []


def test_case_56_an_actor_that_cannot_open_again_stays(
    sqlite_storage: mr.Storage, namespace: str, tmp_path: Path
) -> None:
    experiment = sqlite_storage.experiment("one")
    experiment.record({"a": 1}, 0.1)
    (address,) = [sqlite_storage.database.channel.address]
    actor = find_actor(address)
    assert actor is not None
    with closing(sqlite3.connect(tmp_path / "store" / "morphml.db")) as file, file:
        (known,) = file.execute(HEAD).fetchone()
        file.execute("UPDATE alembic_version SET version_num = 'later'")
    os.kill(sqlite_storage.status()["database"]["pid"], signal.SIGKILL)
    with pytest.raises(mr.ConfigurationError):
        mr.connect(namespace=namespace)
    with pytest.raises(mr.ConfigurationError):
        mr.connect(root=str(tmp_path / "store"), namespace=namespace)
    with closing(sqlite3.connect(tmp_path / "store" / "morphml.db")) as file, file:
        file.execute("UPDATE alembic_version SET version_num = ?", (known,))
    assert [record.fitness for record in experiment.best()] == [0.1]
    same = find_actor(address)
    assert same is not None
    assert id_of(same) == id_of(actor)


def test_lesson_74_who_fails_leaves_what_others_came_to(namespace: str) -> None:
    address = ActorAddress("cache:shared", namespace)
    settings = CacheSettings(BackendUrl("memory://"), "morphml", 1.0, 5.0)

    def meet(visit: Visit) -> bool:
        return visit.meet(CacheActor, address, lambda: settings, is_stated=True).is_new

    def fail(visit: Visit) -> None:
        with visit:
            raise mr.BackendUnavailable("something else is unavailable")

    first, second, third = Visit(), Visit(), Visit()
    assert [meet(first), meet(second)] == [True, False]
    with pytest.raises(mr.BackendUnavailable):
        fail(first)
    assert find_actor(address) is not None
    with pytest.raises(mr.BackendUnavailable):
        fail(second)
    wait_until(lambda: find_actor(address) is None, 10)
    assert meet(third)
    with pytest.raises(mr.BackendUnavailable):
        fail(third)
    wait_until(lambda: find_actor(address) is None, 10)


def secrets_of_home() -> list[Path]:
    return list((Path.home() / ".morphml_ray" / "secrets").glob("*"))


def test_case_66_the_password_of_a_connection_that_failed_is_removed(
    postgres_storage: mr.Storage, migrated_url: str, namespace: str
) -> None:
    before = secrets_of_home()
    user, _, host = migrated_url.removeprefix("postgresql://").partition("@")
    wrong = f"postgresql://{user.partition(':')[0]}:wrong{secrets.token_hex(4)}@{host}"
    with pytest.raises(mr.ConfigurationError):
        mr.connect(database=wrong, namespace=namespace)
    with pytest.raises(mr.ConfigurationError):
        mr.connect(database=wrong, namespace=namespace, name="second")
    assert secrets_of_home() == before
    assert postgres_storage.database.list_experiments() == []


@pytest.mark.usefixtures("namespace")
def test_case_37_credentials_of_the_drivers_environment(
    s3_server: SeaweedServer, artifacts_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = artifacts_url.partition("&aws_access_key_id")[0]
    assert "aws_" not in url
    for _ in range(2):
        with pytest.raises(mr.ConfigurationError, match="AWS_ACCESS_KEY_ID") as caught:
            mr.ArtifactStore.from_url(url)
        assert os.uname().nodename in str(caught.value)
    assert running(DEFAULT_NAMESPACE) == []
    for name, value in s3_server.exports().items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    store = mr.ArtifactStore.from_url(url)
    store.upload_bytes(b"1", "key")
    for name in s3_server.exports():
        monkeypatch.delenv(name, raising=False)
    assert mr.ArtifactStore.from_url(url).download_bytes("key") == b"1"
    assert store.delete("key")
    store.shutdown()


def test_case_18_what_is_waited_for_is_told_at_once(
    namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = "postgresql://user@127.0.0.1:9/database"
    config = mr.StorageConfig(database=url, root=str(tmp_path), deadline_s=3)
    with pytest.raises(mr.BackendUnavailable):
        mr.connect(config, namespace=namespace)
    (told,) = [record.message for record in caplog.records if "Waiting for" in record.message]
    assert "127.0.0.1:9" in told
    assert "refused" in told
    assert running(namespace) == []


def test_case_43_who_is_ended_is_logged(namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    storage = mr.connect(root=str(tmp_path), namespace=namespace)
    storage.shutdown()
    ended = [record.message for record in caplog.records if "for everybody" in record.message]
    assert [name.split(":")[0] for name in ended] == [
        f"Ending the actor {namespace}/{kind}" for kind in ("artifacts", "cache", "database")
    ]
    storage.shutdown()
    assert len([record for record in caplog.records if "for everybody" in record.message]) == 3
