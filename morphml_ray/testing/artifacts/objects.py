"""How every artifact backend stores and reads objects in memory."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.artifacts.crc32 import checksum_text, crc32
from morphml_ray.errors import (
    AlreadyExistsError,
    BackendUnavailable,
    ConflictError,
    CorruptDataError,
    NotFoundError,
    ValidationError,
)
from morphml_ray.testing.artifacts.raw_hooks import Damage, Leftovers, Stored


class ObjectContract:
    """Objects, their metadata, conditional writes, deleting, copying."""

    def test_what_was_put_is_there(self, artifacts: ArtifactBackend, stored: Stored) -> None:
        before = datetime.now(timezone.utc) - timedelta(seconds=5)
        written = artifacts.put("exp/model", b"weights", {"kind": "elite"}, content_type="application/x-npz")
        assert stored("exp/model") == artifacts.get("exp/model") == b"weights"
        found = artifacts.head("exp/model")
        assert found is not None
        assert found[:2] == written[:2] == ("exp/model", 7)
        assert found[3:] == written[3:]
        assert (found.content_type, found.metadata) == ("application/x-npz", {"kind": "elite"})
        assert found.checksum == checksum_text(crc32(b"weights"))
        for info in (found, written):
            assert before < info.last_modified < datetime.now(timezone.utc) + timedelta(seconds=5)
            assert info.last_modified.utcoffset() == timedelta(0)

    def test_a_put_replaces_the_whole(self, artifacts: ArtifactBackend, stored: Stored) -> None:
        artifacts.put("key", b"a long first value", {"a": "1", "b": "2"}, content_type="text/plain")
        artifacts.put("key", b"short", {"c": "3"})
        assert stored("key") == artifacts.get("key") == b"short"
        found = artifacts.head("key")
        assert found is not None
        assert (found.size_bytes, found.metadata) == (5, {"c": "3"})
        assert found.content_type == "application/octet-stream"

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            bytearray(b"mutable"),
            memoryview(b"0123456789")[2:5],
            memoryview(bytearray(b"writable"))[1:],
            np.arange(6, dtype=np.float32).reshape(2, 3),
            np.zeros((0, 3)),
        ],
        ids=["empty", "bytearray", "view", "part", "array", "empty-array"],
    )
    def test_anything_with_a_buffer_can_be_put(self, artifacts: ArtifactBackend, stored: Stored, data: Any) -> None:
        expected = memoryview(data).tobytes()
        assert artifacts.put("key", data).size_bytes == len(expected)
        assert stored("key") == artifacts.get("key") == expected

    @pytest.mark.parametrize("data", ["text", None, 3, np.arange(9).reshape(3, 3).T])
    def test_anything_else_is_refused(self, artifacts: ArtifactBackend, stored: Stored, data: Any) -> None:
        with pytest.raises(ValidationError, match="data must be bytes"):
            artifacts.put("key", data)
        assert not artifacts.exists("key")
        assert stored("key") is None

    def test_a_missing_object_is_an_answer_or_an_error(self, artifacts: ArtifactBackend) -> None:
        artifacts.put("there/below", b"1")
        for key in ("missing", "there", "there/below/deeper", "there/belo"):
            assert artifacts.head(key) is None
            assert artifacts.exists(key) is False
            assert artifacts.delete(key) is False
            for read in (artifacts.get, lambda key: artifacts.get(key, 3, 0), lambda key: artifacts.copy(key, "x")):
                with pytest.raises(NotFoundError, match=key):
                    read(key)
        assert artifacts.exists("there/below") is True

    def test_delete_is_idempotent(self, artifacts: ArtifactBackend, stored: Stored) -> None:
        artifacts.put("a/b/c", b"1")
        assert artifacts.delete("a/b/c") is True
        assert stored("a/b/c") is None
        assert artifacts.delete("a/b/c") is False
        assert artifacts.head("a/b/c") is None
        artifacts.put("a/b/c", b"2")
        assert stored("a/b/c") == artifacts.get("a/b/c") == b"2"

    def test_ranges_end_where_the_object_ends(self, artifacts: ArtifactBackend) -> None:
        data = bytes(range(100))
        artifacts.put("key", data)
        artifacts.put("empty", b"")
        for offset, length in (
            (0, 10),
            (10, 5),
            (95, 10),
            (99, 1),
            (100, 1),
            (500, 3),
            (0, 0),
            (7, 0),
            (0, 100),
            (0, 999),
        ):
            assert artifacts.get("key", offset, length) == data[offset : offset + length]
            assert artifacts.get("empty", offset, length) == b""
        assert (artifacts.get("key", 90), artifacts.get("key", 200)) == (data[90:], b"")
        for offset, length in ((-1, 3), (0, -1)):
            with pytest.raises(ValidationError, match="from 0 on"):
                artifacts.get("key", offset, length)

    def test_answers_are_noted(self, artifacts: ArtifactBackend) -> None:
        """What takes many requests, as a long listing does, is known to go on."""
        for ask in (lambda: artifacts.put("key", b"1"), lambda: list(artifacts.list()), lambda: artifacts.get("key")):
            before = time.monotonic()
            ask()
            assert artifacts.answered_at >= before

    def test_a_version_is_of_one_write(self, artifacts: ArtifactBackend) -> None:
        written = artifacts.put("key", b"first 16 bytes 1")
        first = artifacts.head("key")
        assert first is not None
        assert first.version is not None
        assert written.version in (None, first.version)
        assert artifacts.get_into("key", bytearray(16)).version == first.version
        whole = b"first 16 bytes 1"
        for offset, length in ((0, None), (0, 16), (6, 4), (15, 5), (16, 3), (99, None), (3, 0)):
            end = None if length is None else offset + length
            assert artifacts.get("key", offset, length, first.version) == whole[offset:end]
        for other in (b"other 16 bytes 2", b"short", b""):
            artifacts.put("key", other)
            for offset, length in ((0, None), (0, 16), (6, 4), (16, 3), (99, None), (3, 0)):
                with pytest.raises(ConflictError, match="key was replaced"):
                    artifacts.get("key", offset, length, first.version)
            found = artifacts.head("key")
            assert found is not None
            assert artifacts.get("key", 0, None, found.version) == other
        artifacts.delete("key")
        for length in (None, 4, 0):
            with pytest.raises(NotFoundError, match="key"):
                artifacts.get("key", 0, length, first.version)

    # Conditional writes

    def test_only_the_first_creates(self, artifacts: ArtifactBackend, stored: Stored, leftovers: Leftovers) -> None:
        artifacts.put("key", b"first", {"by": "one"}, if_absent=True)
        with pytest.raises(AlreadyExistsError, match="key"):
            artifacts.put("key", b"second", if_absent=True)
        assert stored("key") == b"first"
        found = artifacts.head("key")
        assert found is not None
        assert (artifacts.get("key"), found.metadata) == (b"first", {"by": "one"})
        artifacts.delete("key")
        artifacts.put("key", b"third", if_absent=True)
        assert artifacts.get("key") == b"third"
        assert leftovers() == []

    def test_of_racing_creators_one_wins(self, artifacts: ArtifactBackend, stored: Stored) -> None:
        def create(number: int) -> bytes | None:
            try:
                artifacts.put("race", str(number).encode(), if_absent=True)
            except AlreadyExistsError:
                return None
            return str(number).encode()

        with ThreadPoolExecutor(8) as racers:
            outcomes = list(racers.map(create, range(16)))
        winners = [outcome for outcome in outcomes if outcome is not None]
        assert winners == [artifacts.get("race")] == [stored("race")]

    def test_lesson_31_a_repeated_create_is_the_same_create(self, artifacts: ArtifactBackend) -> None:
        first = artifacts.put("key", b"mine", if_absent=True, write_id="write-1")
        again = artifacts.put("key", b"mine", if_absent=True, write_id="write-1")
        assert (again.key, again.checksum) == (first.key, first.checksum)
        with pytest.raises(AlreadyExistsError):
            artifacts.put("key", b"mine", if_absent=True, write_id="write-2")
        for write_id in ("", "a b", "x" * 65):
            with pytest.raises(ValidationError, match="write id"):
                artifacts.put("other", b"1", write_id=write_id)

    def test_readers_see_one_write_in_whole(self, artifacts: ArtifactBackend) -> None:
        values = [bytes([letter]) * 200_000 for letter in b"ab"]
        artifacts.put("key", values[0], {"is": "a"})

        def write(turn: int) -> None:
            artifacts.put("key", values[turn % 2], {"is": "ab"[turn % 2]})

        def read(_: int) -> bool:
            info = artifacts.head("key")
            return info is not None and info.metadata["is"] in "ab" and artifacts.get("key") in values

        with ThreadPoolExecutor(4) as workers:
            writes = [workers.submit(write, turn) for turn in range(12)]
            assert all(workers.map(read, range(24)))
        assert all(one.exception() is None for one in writes)

    # Copies

    def test_a_copy_is_an_object_of_its_own(self, artifacts: ArtifactBackend, stored: Stored) -> None:
        artifacts.put("source", b"data", {"a": "ü"}, content_type="text/plain")
        artifacts.put("deep/dest", b"old")
        copied = artifacts.copy("source", "deep/dest")
        assert stored("deep/dest") == stored("source") == b"data"
        artifacts.delete("source")
        assert (stored("deep/dest"), stored("source")) == (b"data", None)
        found = artifacts.head("deep/dest")
        assert found is not None
        assert artifacts.get("deep/dest") == b"data"
        assert (found.metadata, found.content_type) == ({"a": "ü"}, "text/plain")
        assert (copied.key, copied.checksum) == ("deep/dest", found.checksum)
        assert artifacts.copy("deep/dest", "deep/dest").size_bytes == 4
        assert artifacts.get("deep/dest") == b"data"

    # Damage

    def test_a_damaged_object_is_never_given_out(self, artifacts: ArtifactBackend, damage: Damage) -> None:
        artifacts.put("key", b"precious data")
        damage("key")
        with pytest.raises(CorruptDataError, match="key"):
            artifacts.get("key")
        with pytest.raises(CorruptDataError, match="key"):
            artifacts.get("key", 0, 1000)
        with pytest.raises(CorruptDataError, match="key"):
            artifacts.get_into("key", bytearray(13))
        with pytest.raises(CorruptDataError, match="key"):
            artifacts.get_parts("key", 13)
        assert artifacts.exists("key")
        artifacts.put("key", b"good again")
        assert artifacts.get("key") == b"good again"

    def test_a_buffer_has_the_size_of_the_object(self, artifacts: ArtifactBackend) -> None:
        artifacts.put("key", b"12345")
        buffer = bytearray(5)
        told: list[int] = []
        assert artifacts.get_into("key", buffer, told.append).size_bytes == 5
        assert (bytes(buffer), sum(told)) == (b"12345", 5)
        with pytest.raises(ConflictError, match="has 5 bytes"):
            artifacts.get_into("key", bytearray(6))
        with pytest.raises(NotFoundError, match="none"):
            artifacts.get_into("none", bytearray(0))
        artifacts.put("empty", b"")
        assert artifacts.get_into("empty", bytearray(0)).size_bytes == 0

    def test_parts_have_the_size_of_the_object(self, artifacts: ArtifactBackend) -> None:
        artifacts.put("key", b"12345")
        told: list[int] = []
        assert b"".join(artifacts.get_parts("key", 5, told.append)) == b"12345"
        assert sum(told) == 5
        with pytest.raises(ConflictError, match="has 5 bytes"):
            artifacts.get_parts("key", 6)
        with pytest.raises(NotFoundError, match="none"):
            artifacts.get_parts("none", 0)
        artifacts.put("empty", b"")
        assert b"".join(artifacts.get_parts("empty", 0)) == b""

    # Life

    def test_what_is_closed_says_so_and_opens_again(self, artifacts: ArtifactBackend) -> None:
        artifacts.put("key", b"1")
        artifacts.open()
        artifacts.close()
        artifacts.close()
        for call in (lambda: artifacts.get("key"), lambda: artifacts.put("key", b"2"), lambda: list(artifacts.list())):
            with pytest.raises(BackendUnavailable, match="not open"):
                call()
        artifacts.open()
        assert artifacts.get("key") == b"1"

    def test_many_threads_share_it(self, artifacts: ArtifactBackend) -> None:
        def work(number: int) -> bool:
            key, data = f"t/{number}", str(number).encode() * 1000
            artifacts.put(key, data)
            return artifacts.get(key) == data

        started_at = time.monotonic()
        with ThreadPoolExecutor(8) as workers:
            assert all(workers.map(work, range(40)))
        assert sum(1 for _ in artifacts.list("t/")) == 40
        assert time.monotonic() - started_at < 60
