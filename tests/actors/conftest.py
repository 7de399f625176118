"""Fixtures for what users call."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import end, open_store

import morphml_ray as mr


@pytest.fixture(params=["local", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, once on each technology."""
    if request.param == "local":
        return f"file://{tmp_path}/artifacts"
    found: str = request.getfixturevalue("artifacts_url")
    return found


@pytest.fixture
def store(store_url: str, namespace: str) -> Iterator[mr.ArtifactStore]:
    """A store of the test's own."""
    found = open_store(store_url, namespace)
    yield found
    end(found)


@pytest.fixture
def local_store(tmp_path: Path, namespace: str) -> Iterator[mr.ArtifactStore]:
    """A store of the test's own in a directory."""
    found = open_store(f"file://{tmp_path}/artifacts", namespace)
    yield found
    end(found)
