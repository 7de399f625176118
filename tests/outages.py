"""How tests that kill something connect, act in the middle of a transfer, and look for what is left."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from servers import opened_store

import morphml_ray as mr
from morphml_ray.artifacts.actor.actor import ArtifactActor
from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.rpc.call import call


def connect(namespace: str, tmp_path: Path, deadline_s: float = 30, **settings: Any) -> mr.Storage:
    return mr.connect(mr.StorageConfig(root=tmp_path / "store", deadline_s=deadline_s, **settings), namespace=namespace)


def artifact_health(storage: mr.Storage) -> dict[str, Any]:
    (health,) = storage.status()["artifacts"].values()
    return dict(health)


class At:
    """A progress callback that does something once, when so many bytes have passed.

    Attributes:
        done_at: how many had, then.
    """

    def __init__(self, moved_bytes: int, act: Callable[[], object]) -> None:
        self.moved_bytes = moved_bytes
        self.act = act
        self.done_at: int | None = None

    def __call__(self, moved_bytes: int) -> None:
        if moved_bytes >= self.moved_bytes and self.done_at is None:
            self.done_at = moved_bytes
            self.act()

    def check_middle(self, size_bytes: int) -> None:
        assert self.done_at is not None
        assert self.moved_bytes <= self.done_at < size_bytes


def purge(store: mr.ArtifactStore) -> int:
    """Free what nobody goes on with, whatever its age, and give how many there were."""
    return store.channel.wait(call(ArtifactActor.look_up, ArtifactBackend.purge_uploads, 0.0))


def unfinished_uploads(url: str) -> list[Any]:
    with opened_store(url) as store, store._bucket.working("looking") as client:
        return list(client.list_multipart_uploads(Bucket=store._bucket.name).get("Uploads", []))


def check_nothing_is_left(url: str, keys: list[str]) -> None:
    """Exactly these objects are there, and no upload is unfinished."""
    with opened_store(url) as store:
        assert sorted(info.key for info in store.list()) == keys
    assert unfinished_uploads(url) == []
