"""How every artifact backend moves files."""

import os
import random
from pathlib import Path

import pytest

from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.artifacts.crc32 import checksum_text, crc32
from morphml_ray.errors import AlreadyExistsError, CorruptDataError, NotFoundError, ValidationError
from morphml_ray.testing.artifacts.raw_hooks import Damage, Leftovers, Stored

# More than what goes in one request, and not a multiple of anything.
LARGE_BYTES = 20 * 1024 * 1024 + 12_345


def some_bytes(count: int) -> bytes:
    """Make bytes without a pattern, the same every time."""
    return random.Random(count).randbytes(count)  # noqa: S311 - no secret


class _Stopped(Exception):  # noqa: N818 - no error: the user wants it so
    """The user wants no more of it."""


class FileContract:
    """Files up and down, small and large, and what is left when that fails."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Give a directory for the files of callers."""
        folder = tmp_path / "files"
        folder.mkdir()
        return folder

    @pytest.mark.parametrize("count", [0, 1, 100_000, LARGE_BYTES])
    def test_a_file_comes_back_as_it_went(
        self, artifacts: ArtifactBackend, folder: Path, count: int, stored: Stored, leftovers: Leftovers
    ) -> None:
        data = some_bytes(count)
        source, target = folder / "source", folder / "new" / "folder" / "target"
        source.write_bytes(data)
        up: list[int] = []
        down: list[int] = []
        info = artifacts.put_file("exp/file", source, {"ä": "ö"}, up.append, content_type="a/b")
        assert stored("exp/file") == data
        assert artifacts.get_file("exp/file", str(target), down.append)[:2] == ("exp/file", count)
        assert target.read_bytes() == data
        assert (info.size_bytes, info.checksum) == (count, checksum_text(crc32(data)))
        assert sum(up) == sum(down) == count
        found = artifacts.head("exp/file")
        assert found is not None
        assert found[3:6] == ("a/b", {"ä": "ö"}, info.checksum)
        assert info.version in (None, found.version)
        assert [path.name for path in target.parent.iterdir()] == ["target"]
        assert leftovers() == []

    def test_large_data_come_back_in_every_way(self, artifacts: ArtifactBackend, stored: Stored) -> None:
        data = some_bytes(LARGE_BYTES)
        artifacts.put("large", memoryview(data))
        assert stored("large") == data
        buffer = bytearray(LARGE_BYTES)
        artifacts.get_into("large", buffer)
        assert buffer == data
        assert b"".join(artifacts.get_parts("large", LARGE_BYTES)) == data
        assert artifacts.get("large") == data
        assert artifacts.get("large", LARGE_BYTES - 1000) == data[-1000:]
        assert artifacts.get("large", 8 * 1024 * 1024 - 5, 10) == data[8 * 1024 * 1024 - 5 :][:10]
        artifacts.copy("large", "copy")
        assert stored("copy") == artifacts.get("copy") == data

    def test_a_large_file_is_created_once(
        self, artifacts: ArtifactBackend, folder: Path, stored: Stored, leftovers: Leftovers
    ) -> None:
        source = folder / "source"
        source.write_bytes(some_bytes(LARGE_BYTES))
        artifacts.put_file("large", source, if_absent=True, write_id="first")
        artifacts.put_file("large", source, if_absent=True, write_id="first")
        with pytest.raises(AlreadyExistsError, match="large"):
            artifacts.put_file("large", source, if_absent=True)
        assert stored("large") == some_bytes(LARGE_BYTES)
        assert leftovers() == []

    def test_a_failed_download_leaves_what_was_there(
        self, artifacts: ArtifactBackend, folder: Path, damage: Damage
    ) -> None:
        target, new = folder / "target", folder / "new"
        target.write_text("mine")
        artifacts.put("small", b"precious data")
        artifacts.put("large", some_bytes(LARGE_BYTES))
        for key in ("small", "large"):
            damage(key)
            for path in (target, new):
                with pytest.raises(CorruptDataError, match=key):
                    artifacts.get_file(key, path)
        with pytest.raises(NotFoundError, match="missing"):
            artifacts.get_file("missing", folder / "sub" / "new")
        assert {path.name: path.read_text() for path in folder.iterdir()} == {"target": "mine"}
        artifacts.put("small", b"good")
        artifacts.get_file("small", target)
        assert target.read_text() == "good"

    @pytest.mark.parametrize("count", [1000, LARGE_BYTES])
    def test_progress_can_stop_a_transfer(
        self, artifacts: ArtifactBackend, folder: Path, count: int, stored: Stored, leftovers: Leftovers
    ) -> None:
        def stop(_: int) -> None:
            raise _Stopped

        source, target = folder / "source", folder / "target"
        source.write_bytes(some_bytes(count))
        artifacts.put("there", some_bytes(count))
        with pytest.raises(_Stopped):
            artifacts.get_file("there", target, stop)
        if count == LARGE_BYTES:
            with pytest.raises(_Stopped):
                artifacts.put_file("key", source, progress=stop)
            assert not artifacts.exists("key")
            assert stored("key") is None
        assert [path.name for path in folder.iterdir()] == ["source"]
        assert leftovers() == []

    def test_files_that_cannot_be_read_or_written_are_python_errors(
        self, artifacts: ArtifactBackend, folder: Path
    ) -> None:
        artifacts.put("key", b"1")
        os.mkfifo(folder / "pipe")
        (folder / "file").touch()
        with pytest.raises(FileNotFoundError):
            artifacts.put_file("new", folder / "missing")
        for path in (folder, folder / "pipe"):
            with pytest.raises(ValidationError, match="no regular file"):
                artifacts.put_file("new", path)
            with pytest.raises(ValidationError, match="no regular file"):
                artifacts.get_file("key", path)
        with pytest.raises(OSError, match=r"(?i)not a directory|file exists"):
            artifacts.get_file("key", folder / "file" / "below")
        assert not artifacts.exists("new")
        assert sorted(path.name for path in folder.iterdir()) == ["file", "pipe"]
