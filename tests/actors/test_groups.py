"""Calls of one group do not wait behind those of another, however many there are."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

import morphml_ray as mr
from morphml_ray.artifacts.local.backend import LocalArtifactBackend
from morphml_ray.cache.memory import MemoryCache


@pytest.fixture
def flag(tmp_path: Path) -> Iterator[Path]:
    """A file for which what is held up waits; it appears at the end in any case."""
    path = tmp_path / "go-on"
    yield path
    path.touch()


def hold_up(handle: Any, kind: type, method: str, flag: Path) -> None:
    """Let a method of a backend, in the process of an actor, wait for a file."""

    def patch(_: Any) -> None:
        original = getattr(kind, method)

        def wait(*arguments: Any, **named: Any) -> Any:
            while not flag.exists():
                time.sleep(0.05)
            return original(*arguments, **named)

        setattr(kind, method, wait)

    ray.get(handle.__ray_call__.remote(patch), timeout=30)


def test_case_58_a_look_up_of_an_artifact_does_not_wait_behind_a_thousand_uploads(
    sqlite_storage: mr.Storage, flag: Path
) -> None:
    store = sqlite_storage.artifacts
    store.upload_bytes(b"1", "there")
    hold_up(store.channel.handle, LocalArtifactBackend, "put", flag)
    uploads = [store.upload_bytes.remote(b"x", f"many/{number}") for number in range(1_100)]
    assert ray.get(store.exists.remote("there"), timeout=30)
    assert ray.get(store.list_keys.remote("there"), timeout=30) == ["there"]
    assert ray.get(store.delete.remote("there"), timeout=30)
    flag.touch()
    assert len(set(ray.get(uploads, timeout=100))) == 1_100


def test_case_58_a_look_up_of_the_cache_does_not_wait_behind_walks(sqlite_storage: mr.Storage, flag: Path) -> None:
    cache = sqlite_storage.cache
    cache.set("a", 1)
    hold_up(cache.channel.handle, MemoryCache, "statistics", flag)
    asked = [cache.get_statistics.remote() for _ in range(12)]
    assert ray.get(cache.get.remote("a"), timeout=30) == 1
    flag.touch()
    assert [answer["num_keys"] for answer in ray.get(asked, timeout=60)] == [1] * 12
