"""Cases 29 and 55: what one call moves as bytes has a bound, which holds before memory is taken."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morphml_ray as mr
from morphml_ray.artifacts.actor.admission import MAX_HELD_BYTES, Admission
from morphml_ray.artifacts.actor.batches import BATCH, FIRST_READ_BYTES
from morphml_ray.artifacts.checks import MAX_BATCH_BYTES, MAX_CALL_BYTES
from morphml_ray.artifacts.local import LocalArtifactBackend
from morphml_ray.config import BackendUrl
from morphml_ray.integrations.fsspec import open_file
from morphml_ray.integrations.fsspec.filesystem import MorphmlFileSystem

MB = 1024 * 1024


def plant_sparse(folder: Path, key: str, size_bytes: int) -> None:
    """An object of zeros that takes no room on the disk; its checksum is wrong, so reading it whole fails."""
    with_trailer = folder / "template"
    store = LocalArtifactBackend(BackendUrl(f"file://{folder}"))
    store.open()
    store.put("template", b"")
    store.close()
    trailer = with_trailer.read_bytes()
    with (folder / key).open("wb") as file:
        file.truncate(size_bytes)
        file.seek(size_bytes)
        file.write(trailer)
    with_trailer.unlink()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What was booked by each transfer."""
    booked: list[int] = []
    admit = Admission._admit

    async def note(self: Admission, size_bytes: int, patience_s: float) -> None:
        booked.append(size_bytes)
        await admit(self, size_bytes, patience_s)

    monkeypatch.setattr(Admission, "_admit", note)
    yield booked
    assert max(booked, default=0) <= MAX_HELD_BYTES


def test_case_29_many_large_objects_are_read_one_by_one(near_store: mr.ArtifactStore, held: list[int]) -> None:
    large = {f"large/{number}": np.random.default_rng(number).bytes(20 * MB) for number in range(4)}
    small = {f"small/{number}": b"%d" % number for number in range(BATCH + 3)}
    for key, data in large.items():
        near_store.upload_bytes(data, key)
    near_store.upload_multiple(small)
    held.clear()
    wanted = ["missing", *small, *large]
    assert near_store.download_multiple(wanted) == small | large
    assert held[:2] == [BATCH * FIRST_READ_BYTES, (len(wanted) - BATCH) * FIRST_READ_BYTES]
    # Each large one for itself, with its size; not all of them with nothing.
    assert [size_bytes for size_bytes in held[2:] if size_bytes > FIRST_READ_BYTES] == [20 * MB] * len(large)


def test_case_29_a_batch_in_one_call_books_what_it_holds(near_store: mr.ArtifactStore, held: list[int]) -> None:
    objects = {"a": bytes(5 * MB), "b": b"small", "c": bytes(3 * MB)}
    for key, data in objects.items():
        near_store.upload_bytes(data, key)
    held.clear()
    found: Any = near_store.download_multiple.remote(["c", "none", "b", "a"])  # a near store answers at once
    assert (found, list(found)) == (objects, ["c", "b", "a"])
    assert held == [4 * FIRST_READ_BYTES, 8 * MB + 5]


def test_case_29_a_batch_in_one_call_that_is_too_large_is_refused_unread(
    near_store: mr.ArtifactStore, tmp_path: Path, held: list[int]
) -> None:
    near_store.upload_bytes(b"1", "small")
    for number in range(8):
        plant_sparse(tmp_path / "near", str(number), 80 * MB)
    keys = ["small", *map(str, range(8))]
    with pytest.raises(mr.ValidationError, match=r"more than 268435456 bytes together.*without .remote"):
        near_store.download_multiple.remote(keys)
    assert held[1:] == [len(keys) * FIRST_READ_BYTES]
    assert MAX_BATCH_BYTES == MAX_HELD_BYTES


def test_case_55_an_object_that_is_too_large_for_one_call_is_refused_before_it_is_read(
    near_store: mr.ArtifactStore, tmp_path: Path, held: list[int]
) -> None:
    near_store.upload_bytes(b"1", "small")
    plant_sparse(tmp_path / "near", "large", 6 * 1024 * MB)
    for read in (
        lambda: near_store.download_bytes("large"),
        lambda: near_store.download_bytes("large", 1000),
        lambda: near_store.download_bytes("large", 0, 5 * 1024 * MB),
        lambda: near_store.download_multiple(["small", "large"]),
    ):
        with pytest.raises(mr.ValidationError, match=r"large: \d+ bytes, and one call moves .*take download_file"):
            read()
    assert near_store.download_bytes("large", 6 * 1024 * MB - 10) == bytes(10)
    assert near_store.download_bytes("large", 6 * 1024 * MB - 10, 5 * 1024 * MB) == bytes(10)
    assert max(held) <= 3 * FIRST_READ_BYTES


def test_case_55_what_is_too_large_is_not_sent(near_store: mr.ArtifactStore) -> None:
    half = np.zeros(MAX_CALL_BYTES // 2 + 1, np.uint8).data
    with pytest.raises(mr.ValidationError, match="send them in several calls"):
        near_store.upload_multiple({"a": half, "b": half})
    whole = np.zeros(MAX_CALL_BYTES + 1, np.uint8).data
    for send in (near_store.upload_bytes, near_store.upload_bytes.remote):
        with pytest.raises(mr.ValidationError, match=r"key: \d+ bytes.*take upload_file"):
            send(whole, "key")
    assert near_store.list_keys() == []


def test_case_55_a_large_file_is_read_in_pieces_and_compared(
    near_store: mr.ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: list[int]
) -> None:
    monkeypatch.setattr(open_file, "PIECE_BYTES", 5 * MB)
    monkeypatch.setattr(MorphmlFileSystem, "store", near_store)
    fs = MorphmlFileSystem(skip_instance_cache=True)
    data = np.random.default_rng(0).bytes(12 * MB)
    near_store.upload_bytes(data, "key")
    held.clear()
    with fs.open("key") as file:
        assert file.read() == data
    assert max(held) == 5 * MB
    stored = tmp_path / "near/key"
    with stored.open("r+b") as damaged:
        damaged.write(b"?")
    with fs.open("key") as file, pytest.raises(OSError, match="damaged"):
        file.read()
