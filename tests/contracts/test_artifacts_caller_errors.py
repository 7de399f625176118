"""Whose error it is when a file cannot be sent."""

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from morphml_ray.artifacts.actor.backend_access import create_artifact_backend
from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.config import BackendUrl
from morphml_ray.testing.artifacts.files import LARGE_BYTES


def fail_reading(*_: object) -> int:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def fail_telling(_: int) -> None:
    raise TimeoutError("progress")


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactBackend]:
    is_local = request.param == "local"
    url = f"file://{tmp_path}/store" if is_local else request.getfixturevalue("artifacts_url")
    with closing(create_artifact_backend(BackendUrl(url))) as backend:
        backend.open()
        yield backend


@pytest.mark.parametrize("told", ["progress", "Input/output error"])
def test_errors_of_the_caller_come_out_as_they_are(
    store: ArtifactBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(LARGE_BYTES)
    if told != "progress":
        for name in ("pread", "preadv"):
            monkeypatch.setattr(os, name, fail_reading)
    with pytest.raises(OSError, match=told) as caught:
        store.put_file("key", source, progress=fail_telling)
    monkeypatch.undo()
    assert type(caught.value) in (OSError, TimeoutError)
    assert not store.exists("key")
    assert store.purge_uploads(0) == 0
