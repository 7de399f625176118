"""Servers that a test may kill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from morphml_ray.devstack import SeaweedServer, ValkeyServer


@pytest.fixture
def valkey(server_directory: Path) -> Iterator[ValkeyServer]:
    """A cache server that the test may kill."""
    server = ValkeyServer(server_directory)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def seaweed(server_directory: Path) -> Iterator[SeaweedServer]:
    """An S3 server that the test may kill."""
    server = SeaweedServer(server_directory)
    server.start()
    yield server
    server.kill()  # its data go, too; a clean end takes more than a second


@pytest.fixture(autouse=True)
def _watched_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is told often enough to act in the middle of a file."""
    monkeypatch.setattr("morphml_ray.artifacts.file_transfers.POLL_S", 0.02)
