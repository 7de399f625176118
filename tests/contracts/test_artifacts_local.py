"""A directory keeps the contract."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from morphml_ray.artifacts.local import LocalArtifactBackend
from morphml_ray.config import BackendUrl
from morphml_ray.testing import ArtifactContract


def file_of(root: Path, key: str) -> Path:
    *folders, name = key.split("/")
    return root.joinpath(*(f"{folder}+" for folder in folders), name)


class TestLocal(ArtifactContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tmp_path / "art ifacts"

    @pytest.fixture
    def artifacts(self, root: Path) -> Iterator[LocalArtifactBackend]:
        backend = LocalArtifactBackend(BackendUrl(f"file://{root}"))
        backend.open()
        yield backend
        backend.close()

    @pytest.fixture
    def damage(self, root: Path) -> Callable[[str], None]:
        def flip(key: str) -> None:
            with file_of(root, key).open("r+b") as file:
                byte = file.read(1)
                file.seek(0)
                file.write(bytes([byte[0] ^ 1]))

        return flip

    @pytest.fixture
    def leftovers(self, root: Path) -> Callable[[], list[str]]:
        return lambda: [path.name for path in (root / "%staging").iterdir()]
