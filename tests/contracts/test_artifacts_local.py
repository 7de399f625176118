"""A directory keeps the contract."""

import json
import struct
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from morphml_ray.artifacts.local import LocalArtifactBackend
from morphml_ray.config import BackendUrl
from morphml_ray.testing import ArtifactContract
from morphml_ray.testing.artifacts.raw_hooks import Damage, Leftovers, Plant, Stored

# What stands behind the data of an object and the JSON that describes it: the mark, and the JSON's size and CRC-32.
END = struct.Struct(">8sII")
MARK = b"mrayobj1"


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
    def stored(self, root: Path) -> Stored:
        def read(key: str) -> bytes | None:
            file = file_of(root, key)
            if not file.exists():
                return None
            content = file.read_bytes()
            mark, json_bytes, _ = END.unpack(content[-END.size :])
            assert mark == MARK
            return content[: -END.size - json_bytes]

        return read

    @pytest.fixture
    def plant(self, root: Path) -> Plant:
        def write(key: str, data: bytes) -> None:
            described = {"metadata": {}, "content_type": "a/b", "crc32": zlib.crc32(data), "write_id": uuid.uuid4().hex}
            text = json.dumps(described).encode()
            file = file_of(root, key)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data + text + END.pack(MARK, len(text), zlib.crc32(text)))

        return write

    @pytest.fixture
    def damage(self, root: Path) -> Damage:
        def flip(key: str) -> None:
            with file_of(root, key).open("r+b") as file:
                byte = file.read(1)
                file.seek(0)
                file.write(bytes([byte[0] ^ 1]))

        return flip

    @pytest.fixture
    def leftovers(self, root: Path) -> Leftovers:
        return lambda: [path.name for path in (root / "%staging").iterdir()]
