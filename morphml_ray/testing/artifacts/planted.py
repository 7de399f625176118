"""How every artifact backend treats what another program stored."""

from pathlib import Path

import pytest

from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.artifacts.crc32 import checksum_text, crc32
from morphml_ray.errors import AlreadyExistsError, ConflictError
from morphml_ray.testing.artifacts.files import LARGE_BYTES, some_bytes
from morphml_ray.testing.artifacts.raw_hooks import Plant, Stored


class PlantedContract:
    """Objects that no write of the backend made."""

    @pytest.mark.parametrize("count", [0, 1, 100_000, LARGE_BYTES])
    def test_what_another_program_stored_is_read(
        self, artifacts: ArtifactBackend, plant: Plant, tmp_path: Path, count: int
    ) -> None:
        data = some_bytes(count)
        plant("theirs/object", data)
        found = artifacts.head("theirs/object")
        assert found is not None
        assert found[:2] == ("theirs/object", count)
        assert found.checksum in (None, checksum_text(crc32(data)))
        assert artifacts.exists("theirs/object")
        assert artifacts.get("theirs/object") == data
        assert artifacts.get("theirs/object", 1, 10, found.version) == data[1:11]
        buffer = bytearray(count)
        assert artifacts.get_into("theirs/object", buffer).version == found.version
        assert buffer == data
        artifacts.get_file("theirs/object", tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == data
        assert [info[:2] for info in artifacts.list("theirs/")] == [("theirs/object", count)]
        assert artifacts.total_size() == count

    def test_what_another_program_stored_is_copied_and_deleted(
        self, artifacts: ArtifactBackend, plant: Plant, stored: Stored
    ) -> None:
        for number in range(3):
            plant(f"theirs/{number}", b"%d" % number)
        assert artifacts.copy("theirs/1", "mine").size_bytes == 1
        assert artifacts.delete("theirs/1") is True
        assert (stored("mine"), stored("theirs/1")) == (b"1", None)
        assert artifacts.delete_prefix("theirs") == 2
        assert [stored(f"theirs/{number}") for number in range(3)] == [None] * 3

    def test_what_another_program_replaced_is_another_version(
        self, artifacts: ArtifactBackend, plant: Plant, stored: Stored
    ) -> None:
        artifacts.put("key", b"mine")
        before = artifacts.head("key")
        assert before is not None
        plant("key", b"hers")
        with pytest.raises(ConflictError, match="key was replaced"):
            artifacts.get("key", 0, None, before.version)
        assert artifacts.get("key") == b"hers"
        with pytest.raises(AlreadyExistsError, match="key"):
            artifacts.put("key", b"mine", if_absent=True)
        assert stored("key") == b"hers"
        artifacts.put("key", b"mine again")
        assert stored("key") == b"mine again"
