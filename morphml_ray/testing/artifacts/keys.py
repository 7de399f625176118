"""Which keys and metadata every artifact backend stores, and which it refuses."""

from collections.abc import Callable
from typing import Any

import pytest

from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.errors import ValidationError

# Short pieces of several segments, of lengths and letters that file systems, URLs and XML have trouble with.
HOSTILE_KEYS = (
    "a",
    "a/b",
    "a!",
    "A",
    "a+",
    "a+/b+",
    "%41",
    "%",
    "%staging/x",
    ".hidden/..data",
    "with space/ end /~",
    "é/e\u0301/日本語/\U0001f600",
    "?query=1&x=2#frag",
    "'\"<>&|*:;[]{}",
    "x" * 250,
    "deep/" * 60 + "end",
)
REFUSED_KEYS: tuple[Any, ...] = (
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    "a/..",
    "a\0b",
    "a\nb",
    "a\\b",
    "\x85",
    "\udcff",
    "a" * 1025,
    "é" * 513,
    None,
    7,
    b"a",
)


class KeyContract:
    """Keys, metadata and media types that other software has trouble with."""

    def test_keys_of_every_kind_are_kept_apart(self, artifacts: ArtifactBackend) -> None:
        for number, key in enumerate(HOSTILE_KEYS):
            artifacts.put(key, f"value {number}".encode())
        for number, key in enumerate(HOSTILE_KEYS):
            assert artifacts.get(key) == f"value {number}".encode(), key
        assert [info.key for info in artifacts.list()] == sorted(HOSTILE_KEYS, key=str.encode)
        assert all(artifacts.delete(key) for key in HOSTILE_KEYS)
        assert list(artifacts.list()) == []

    @pytest.mark.parametrize("key", REFUSED_KEYS, ids=ascii)
    def test_a_key_that_cannot_be_is_refused_everywhere(self, artifacts: ArtifactBackend, key: Any) -> None:
        artifacts.put("key", b"1")
        calls: list[Callable[[], object]] = [
            lambda: artifacts.put(key, b"1"),
            lambda: artifacts.put_file(key, "/dev/null"),
            lambda: artifacts.get(key),
            lambda: artifacts.get_into(key, bytearray(1)),
            lambda: artifacts.get_file(key, "/nonexistent/file"),
            lambda: artifacts.begin_upload(key),
            lambda: artifacts.head(key),
            lambda: artifacts.exists(key),
            lambda: artifacts.delete(key),
            lambda: artifacts.copy(key, "x"),
            lambda: artifacts.copy("key", key),
            lambda: artifacts.presign(key, 60),
        ]
        for call in calls:
            with pytest.raises(ValidationError):
                call()
        assert [info.key for info in artifacts.list()] == ["key"]

    # Metadata

    def test_lesson_29_metadata_survive(self, artifacts: ArtifactBackend) -> None:
        metadata = {
            "plain": "text with blanks",
            "Capital_Name": "Value",
            "capital_name": "another",
            "naïve": "Grüße, 世界 \U0001f600",
            "empty": "",
            "blanks": "  two  at each end  ",
            "lines": "a\r\nx-amz-meta-evil: 1\0\x7f",
            "json": '{"a": "\\u0041"}',
            "percent": "%41+%",
            "word": "=?utf-8?b?w6k=?=",
            "morphml-crc32": "crc32:00000000",
            "morphml-json": "{}",
        }
        artifacts.put("key", b"1", metadata)
        artifacts.copy("key", "copy")
        for key in ("key", "copy"):
            found = artifacts.head(key)
            assert found is not None
            assert found.metadata == metadata
            assert artifacts.get(key) == b"1"

    @pytest.mark.parametrize(
        "metadata", [{"a": 1}, {1: "a"}, {"": "a"}, {"a": "\ud800"}, {"a": None}, {"a": "x" * 100_000}], ids=repr
    )
    def test_metadata_that_cannot_be_are_refused(self, artifacts: ArtifactBackend, metadata: Any) -> None:
        with pytest.raises(ValidationError, match="metadata"):
            artifacts.put("key", b"1", metadata)
        assert not artifacts.exists("key")

    @pytest.mark.parametrize("content_type", ["", " ", "a\r\nb", "é/x", 7])
    def test_a_content_type_that_cannot_be_is_refused(self, artifacts: ArtifactBackend, content_type: Any) -> None:
        with pytest.raises(ValidationError, match="content type"):
            artifacts.put("key", b"1", content_type=content_type)
