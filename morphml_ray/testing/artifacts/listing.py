"""How every artifact backend lists objects and deletes many."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.errors import ValidationError
from morphml_ray.testing.artifacts.raw_hooks import Stored

MANY = 1003


def put_all(artifacts: ArtifactBackend, *keys: str) -> None:
    """Put small objects, several at a time."""
    with ThreadPoolExecutor(8) as workers:
        list(workers.map(lambda key: artifacts.put(key, key.encode()), keys))


def keys_of(artifacts: ArtifactBackend, prefix: str = "") -> list[str]:
    """List keys."""
    return [info.key for info in artifacts.list(prefix)]


class ListingContract:
    """Listings, pages, sums, and deleting below a prefix."""

    def test_lesson_24_a_listing_has_all_pages(self, artifacts: ArtifactBackend, stored: Stored) -> None:
        keys = [f"many/{number:04}" for number in range(MANY)]
        put_all(artifacts, *keys, "manyother")
        assert keys_of(artifacts, "many/") == keys
        assert artifacts.total_size("many/") == 9 * MANY
        assert [info.key for info in artifacts.list("many/", limit=MANY - 1)] == keys[:-1]
        assert artifacts.delete_prefix("many") == MANY
        assert keys_of(artifacts) == ["manyother"]
        assert [stored(key) for key in (keys[0], keys[-1], "manyother")] == [None, None, b"manyother"]

    def test_lesson_28_deleting_stops_at_the_border(self, artifacts: ArtifactBackend, stored: Stored) -> None:
        below, others = ["exp1/a", "exp1/b/c"], ["exp1.bak", "exp10/a", "other/exp1/a"]
        put_all(artifacts, *below, "exp1", *others)
        assert artifacts.delete_prefix("exp1/") == 2
        assert keys_of(artifacts) == ["exp1", *others]
        assert [stored(key) for key in [*below, "exp1", *others]] == [None, None, b"exp1", *map(str.encode, others)]
        put_all(artifacts, "exp1/a")
        assert artifacts.delete_prefix("exp1") == 2
        assert artifacts.delete_prefix("exp1") == 0
        assert artifacts.delete_prefix("none/at/all/") == 0
        assert keys_of(artifacts) == others
        assert [stored(key) for key in [*below, "exp1", *others]] == [None, None, None, *map(str.encode, others)]

    @pytest.mark.parametrize("prefix", ["", "/", "//", "..", "../", "/exp1", "exp1//", "a\0", None, 7], ids=ascii)
    def test_lesson_28_a_prefix_that_is_everything_is_refused(self, artifacts: ArtifactBackend, prefix: Any) -> None:
        artifacts.put("exp1/a", b"1")
        with pytest.raises(ValidationError):
            artifacts.delete_prefix(prefix)
        assert keys_of(artifacts) == ["exp1/a"]

    def test_lesson_32_a_listing_ascends_by_bytes(self, artifacts: ArtifactBackend) -> None:
        keys = ["a", "a!", "a-b", "a.b", "a/", "a/b", "a0", "A", "é", "z", "\U0001f600", "\uffee", "a/b/c", "a/b-c"]
        keys.remove("a/")
        put_all(artifacts, *keys)
        assert keys_of(artifacts) == sorted(keys, key=str.encode)

    def test_lesson_38_a_prefix_is_plain_text(self, artifacts: ArtifactBackend) -> None:
        put_all(artifacts, "exp1/a", "exp10/a", "exp1", "exp", "e[xp]", "exp1/ab/c")
        assert keys_of(artifacts, "exp1") == ["exp1", "exp1/a", "exp1/ab/c", "exp10/a"]
        assert keys_of(artifacts, "exp1/a") == ["exp1/a", "exp1/ab/c"]
        assert keys_of(artifacts, "exp1/") == ["exp1/a", "exp1/ab/c"]
        assert keys_of(artifacts, "e[") == ["e[xp]"]
        assert keys_of(artifacts, "none") == keys_of(artifacts, "none/at") == keys_of(artifacts, "exp1/a/b/") == []
        for prefix in ("/", "a//", "../", "a/../b", "\0"):
            with pytest.raises(ValidationError):
                list(artifacts.list(prefix))
        for limit in (0, -1):
            with pytest.raises(ValidationError, match="limit"):
                artifacts.list(limit=limit)

    def test_a_listing_tells_size_and_time(self, artifacts: ArtifactBackend) -> None:
        artifacts.put("key", b"12345", {"a": "b"})
        (info,) = artifacts.list()
        assert (info.key, info.size_bytes) == ("key", 5)
        assert info.last_modified.utcoffset() == timedelta(0)
        assert abs(info.last_modified - datetime.now(timezone.utc)) < timedelta(seconds=60)

    def test_pages_meet(self, artifacts: ArtifactBackend) -> None:
        keys = [f"{folder}/{number}" for folder in ("a", "a+", "b/c") for number in range(7)] + ["a", "b"]
        put_all(artifacts, *keys)
        for limit in (1, 4, 1000):
            found, token, sizes = [], None, []
            while True:
                page = artifacts.list_page(token=token, limit=limit)
                found += [info.key for info in page.objects]
                sizes.append(len(page.objects))
                token = page.next_token
                if token is None:
                    break
            assert sorted(found) == sorted(keys)
            assert max(sizes) <= limit
            assert len(sizes) >= len(keys) // limit
        assert artifacts.list_page("none").objects == []
        assert artifacts.list_page("none").next_token is None

    def test_a_folder_holds_what_is_directly_in_it(self, artifacts: ArtifactBackend) -> None:
        put_all(artifacts, "a", "a!", "a/b", "a/b/c", "a/d/e", "a/d/f", "é/x", "z")

        def listed(prefix: str) -> tuple[list[str], list[str]]:
            found = artifacts.list_folder(prefix)
            return [info.key for info in found.objects], found.folders

        assert listed("") == (["a", "a!", "z"], ["a", "é"])
        assert listed("a/") == (["a/b"], ["a/b", "a/d"])
        assert listed("a/d/") == (["a/d/e", "a/d/f"], [])
        assert listed("none/") == ([], [])
        assert [info.size_bytes for info in artifacts.list_folder("a/").objects] == [3]
        for prefix in ("a", "/", "a//", "../"):
            with pytest.raises(ValidationError):
                artifacts.list_folder(prefix)

    def test_case_23_a_folder_has_all_pages(self, artifacts: ArtifactBackend) -> None:
        keys, folders = [f"many/{number:04}" for number in range(600)], [f"many/{number:04}-" for number in range(600)]
        put_all(artifacts, *keys, *(f"{folder}/x" for folder in folders))
        found = artifacts.list_folder("many/")
        assert [info.key for info in found.objects] == keys
        assert found.folders == folders

    def test_sizes_are_summed(self, artifacts: ArtifactBackend) -> None:
        artifacts.put("a/1", b"x" * 1000)
        artifacts.put("a/2", b"")
        artifacts.put("ab", b"y" * 24)
        assert [artifacts.total_size(prefix) for prefix in ("", "a/", "a", "none")] == [1024, 1000, 1024, 0]

    def test_an_unfinished_listing_keeps_nothing_from_closing(self, artifacts: ArtifactBackend) -> None:
        put_all(artifacts, *(f"key/{number}" for number in range(20)))
        listing = artifacts.list()
        assert next(listing).key == "key/0"
        artifacts.delete_prefix("key")
        artifacts.close()
        artifacts.open()
        assert keys_of(artifacts) == []

    @pytest.mark.parametrize(
        ("expires_s", "method"),
        [(0, "get_object"), (604_801, "get_object"), (60, "delete_object"), (60, "list_buckets"), (60, "close")],
    )
    def test_lesson_29_only_reading_and_writing_can_be_presigned(
        self, artifacts: ArtifactBackend, expires_s: int, method: Any
    ) -> None:
        with pytest.raises(ValidationError, match=r"expires_s|only get_object and put_object"):
            artifacts.presign("key", expires_s, method)
