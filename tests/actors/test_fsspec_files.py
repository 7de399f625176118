"""Files of ``morphml://`` on each technology: half-written and replaced ones, and what libraries do with them."""

import errno
import gc
import gzip
import io
import os
import pickle
import secrets
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]  # fsspec carries no type information
import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow carries no type information
import pytest
import ray
from fsspec.callbacks import Callback  # type: ignore[import-untyped]  # as above
from pyarrow import dataset, parquet
from pyarrow import fs as arrow_fs
from s3_doubles import Answer, FakeS3, refusal
from servers import opened_store
from stores import end, open_store

import morphml_ray as mr
from morphml_ray.config import DEFAULT_NAME, DEFAULT_NAMESPACE
from morphml_ray.devstack import SeaweedServer
from morphml_ray.integrations.fsspec.filesystem import MorphmlFileSystem
from morphml_ray.integrations.fsspec.open_file import ArtifactFile


@pytest.fixture(scope="module", params=["local", "s3"])
def place(request: pytest.FixtureRequest, cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The Ray namespace of a storage, once on each technology; its actor alone knows the URL."""
    del cluster
    folder = tmp_path_factory.mktemp("files")
    url = f"file://{folder}/artifacts"
    if request.param == "s3":
        server: SeaweedServer = request.getfixturevalue("s3_server")
        url = server.bucket_url("morphml", f"files-{secrets.token_hex(6)}", with_credentials=True)
    secret = folder / "url"
    secret.touch(0o600)
    secret.write_text(url)
    namespace = f"files_{secrets.token_hex(4)}"
    store = open_store(f"file:{secret}", namespace)
    yield namespace
    MorphmlFileSystem.clear_instance_cache()
    end(store)
    if request.param == "s3":
        with opened_store(url) as bucket:
            assert not bucket.purge_uploads(0)


@pytest.fixture
def files(place: str) -> Iterator[MorphmlFileSystem]:
    """The file system; a test leaves no files."""
    found = MorphmlFileSystem("test", place)
    yield found
    for name in found.find(""):
        found.rm_file(name)


def open_url(files: MorphmlFileSystem, mode: str, compression: str | None = None) -> Any:
    options = {"name": files.name, "namespace": files.namespace}
    return fsspec.open("morphml://x", mode, compression=compression, **options)


WAYS: dict[str, Callable[[MorphmlFileSystem], Any]] = {
    "bytes": lambda files: files.open("x", "wb"),
    "text": lambda files: files.open("x", "w"),
    "gzip": lambda files: files.open("x", "wb", compression="gzip"),
    "text-gzip": lambda files: files.open("x", "w", compression="gzip"),
    "buffered": lambda files: io.BufferedWriter(files.open("x", "wb")),
    "fsspec": lambda files: open_url(files, "wb"),
    "fsspec-text-gzip": lambda files: open_url(files, "w", "gzip"),
}
each_way = pytest.mark.parametrize("way", WAYS)


def go_wrong() -> None:
    raise ZeroDivisionError


def data_of(way: str, text: str) -> Any:
    return text if "text" in way else text.encode()


def read_back(files: MorphmlFileSystem, way: str) -> str:
    stored = files.cat("x")
    return (gzip.decompress(stored) if "gzip" in way else stored).decode()


# Writing


@each_way
def test_what_is_half_written_replaces_nothing(
    files: MorphmlFileSystem, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    files.pipe_file("x", b"before")
    with pytest.raises(ZeroDivisionError), WAYS[way](files) as file:
        file.write(data_of(way, "half"))
        raise ZeroDivisionError
    assert files.cat("x") == b"before"

    def leave_open() -> None:
        file = WAYS[way](files).__enter__()
        file.write(data_of(way, "half"))

    caplog.clear()
    leave_open()
    gc.collect()
    assert files.cat("x") == b"before"
    assert "x: what was written is dropped: it was never closed" in caplog.text


@each_way
def test_what_is_closed_in_order_is_stored(files: MorphmlFileSystem, way: str) -> None:
    with WAYS[way](files) as file:
        file.write(data_of(way, "whole"))
    assert read_back(files, way) == "whole"
    try:
        go_wrong()
    except ZeroDivisionError:
        with WAYS[way](files) as file:
            file.write(data_of(way, "opened and closed while an error is being handled"))
    assert read_back(files, way) == "opened and closed while an error is being handled"


def test_closing_in_the_block_of_a_later_error_is_no_end(
    files: MorphmlFileSystem, caplog: pytest.LogCaptureFixture
) -> None:
    file = files.open("x", "wb")
    file.write(b"half")
    try:
        go_wrong()
    except ZeroDivisionError:
        file.close()
    assert file.closed
    assert not files.exists("x")
    assert "x: what was written is dropped: it was closed while ZeroDivisionError was being handled" in caplog.text


def test_a_file_left_open_in_a_transaction_is_dropped(
    files: MorphmlFileSystem, caplog: pytest.LogCaptureFixture
) -> None:
    with files.transaction:
        left = files.open("x", "wb", block_size=4)
        left.write(b"more than a block")
        with files.open("y", "wb") as file:
            file.write(b"whole")
    assert files.find("") == ["y"]
    assert "its transaction ended before it was closed" in caplog.text


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_after_a_failed_write_nothing_is_stored(
    files: MorphmlFileSystem, monkeypatch: pytest.MonkeyPatch, compression: str | None
) -> None:
    def fail(_: ArtifactFile) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = files.open("x", "wb", block_size=1000, compression=compression)
    with monkeypatch.context() as patched:
        patched.setattr(ArtifactFile, "_spill", fail)
        with pytest.raises(OSError, match="No space left"):
            for _ in range(1000):
                file.write(secrets.token_bytes(1000))
    with pytest.raises(OSError, match="a write failed before: nothing is stored"):
        file.close()
    assert not files.exists("x")


# Reading


def replace_by(new: bytes) -> Callable[[MorphmlFileSystem], None]:
    return lambda files: files.pipe_file("x", new)


@pytest.mark.parametrize(
    "change",
    [replace_by(bytes(200_000)), replace_by(b"short"), lambda files: files.rm_file("x")],
    ids=["same-size", "short", "deleted"],
)
@pytest.mark.parametrize("mode", ["rb", "r"])
def test_a_file_that_is_replaced_while_it_is_read_is_no_mixture(
    files: MorphmlFileSystem, change: Callable[[MorphmlFileSystem], None], mode: str
) -> None:
    files.pipe_file("x", b"a" * 200_000)
    with files.open("x", mode, block_size=1000) as file:
        assert len(file.read(500)) == 500
        copy = pickle.dumps(file) if mode == "rb" else None
        if copy is not None:
            with pickle.loads(copy) as second:  # noqa: S301 - our own, from above
                assert (second.tell(), second.read()) == (500, b"a" * 199_500)
        change(files)
        with pytest.raises(OSError, match="replaced or deleted while it was open") as caught:
            file.read()
        assert caught.value.errno == errno.ESTALE
    if copy is not None:
        with pytest.raises(OSError, match=r"replaced or deleted|No such file"):
            pickle.loads(copy)  # noqa: S301 - our own, from above


def test_a_range_from_the_end_is_of_the_file_that_was_measured(
    files: MorphmlFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.pipe_file("x", b"0123456789")
    assert files.cat_file("x", -3) == b"789"
    measure = MorphmlFileSystem.info_of_file

    def replace_then(self: MorphmlFileSystem, path: str) -> dict[str, Any]:
        entry = measure(self, path)
        self.pipe_file(path, b"another, longer one")
        return entry

    monkeypatch.setattr(MorphmlFileSystem, "info_of_file", replace_then)
    with pytest.raises(OSError, match="replaced"):
        files.cat_file("x", -3)


def test_no_server_mixes_two_objects_even_where_it_minds_no_condition() -> None:
    fake = FakeS3()  # the tag of all that it has is "1"
    fake.say = lambda asked: (
        Answer(206, b"data", {"Content-Range": "bytes 0-3/8"}) if "prefix/x" in asked.path else None
    )
    try:
        with opened_store(fake.url()) as store:
            assert store.get("x", 0, 4, '"1"') == b"data"
            assert fake.asked[-1].headers["if-match"] == '"1"'
            with pytest.raises(mr.ConflictError, match="x was replaced"):
                store.get("x", 0, 4, '"2"')
    finally:
        fake.close()


# Looking


@pytest.mark.parametrize("name", ["a//b", "a/../b", "a/.", "é" * 513, "a\\b", "a\nb"])
def test_what_can_be_no_file_is_not_there(files: MorphmlFileSystem, name: str) -> None:
    for ask in (files.info, files.ls, files.open, files.modified):
        with pytest.raises(FileNotFoundError):
            ask(name)
    assert (files.exists(name), files.isfile(name), files.isdir(name), files.find(name)) == (False, False, False, [])
    (found,) = arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(files)).get_file_info([name])
    assert found.type is arrow_fs.FileType.NotFound


def test_a_name_may_be_as_long_as_a_key(near_store: mr.ArtifactStore) -> None:
    files = MorphmlFileSystem("near", skip_instance_cache=True)
    files._found = near_store.channel.node_id, near_store
    longest = "/".join(["x" * 200] * 5) + "/" + "x" * 19
    assert not files.exists(longest)
    files.pipe_file(longest, b"1")
    assert files.isfile(longest)


def test_a_refusal_of_the_server_is_no_missing_file(namespace: str) -> None:
    fake = FakeS3()
    fake.say = lambda asked: refusal(400) if "/prefix/x" in asked.path else None
    store = open_store(fake.url(), namespace)
    files = MorphmlFileSystem("test", namespace, skip_instance_cache=True)
    try:
        for ask in (files.exists, files.isfile, files.isdir):
            with pytest.raises(ValueError, match="400"):  # both kinds of error that this may be
                ask("x")
    finally:
        end(store)
        fake.close()


def test_a_callback_learns_the_size(files: MorphmlFileSystem, tmp_path: Path) -> None:
    files.pipe_file("folder/x", bytes(5000))
    callback = Callback()
    files.get_file("folder/x", str(tmp_path / "x"), callback=callback)
    assert (callback.size, callback.value) == (5000, 5000)
    files.get_file("folder", str(tmp_path / "folder"), callback=callback)
    assert (tmp_path / "folder").is_dir()


# Libraries


def test_pyarrow_reads_and_writes_by_file_system(files: MorphmlFileSystem) -> None:
    table = pa.table({"generation": [0, 0, 1], "accuracy": [0.5, 0.75, None], "name": ["ä", "b", ""]})
    parquet.write_table(table, "one/elites.parquet", filesystem=files)
    assert parquet.read_table("one/elites.parquet", filesystem=files) == table
    dataset.write_dataset(table, "many", format="parquet", partitioning=["generation"], filesystem=files)
    assert [name.split("/")[1] for name in files.find("many")] == ["0", "1"]
    found = dataset.dataset("many", filesystem=files, partitioning=["generation"])
    rows = found.to_table(filter=dataset.field("generation") == 0, columns=["name"])
    assert sorted(rows["name"].to_pylist()) == ["b", "ä"]


def test_what_pyarrow_could_not_finish_is_no_file(files: MorphmlFileSystem) -> None:
    schema = pa.schema([("a", pa.int64())])

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([list(range(100))], schema=schema)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), parquet.ParquetWriter("x.parquet", schema, filesystem=files) as writer:
        for batch in batches():
            writer.write_batch(batch)
    with pytest.raises(ZeroDivisionError):
        dataset.write_dataset(batches(), "many", schema=schema, format="parquet", filesystem=files)
    gc.collect()
    assert files.find("") == []


def test_pyarrow_reads_urls_that_say_fsspec(cluster: None, tmp_path: Path) -> None:
    del cluster
    store = open_store(f"file://{tmp_path}/artifacts", DEFAULT_NAMESPACE, DEFAULT_NAME)
    try:
        table = pa.table({"a": [1, 2]})
        parquet.write_table(table, "fsspec+morphml://folder/x.parquet")
        assert parquet.read_table("fsspec+morphml://folder/x.parquet") == table
        assert store.list_keys() == ["folder/x.parquet"]
        with pytest.raises(pa.ArrowInvalid, match="morphml"):
            parquet.read_table("morphml://folder/x.parquet")
    finally:
        MorphmlFileSystem.clear_instance_cache()
        end(store)


def test_pandas_writes_every_kind_of_table(files: MorphmlFileSystem) -> None:
    table = pd.DataFrame({"accuracy": [0.5, 0.75], "name": ["ä", "b"]})
    options: Any = {"name": files.name, "namespace": files.namespace}
    table.to_parquet("morphml://t/a.parquet", storage_options=options)
    pd.testing.assert_frame_equal(pd.read_parquet("morphml://t/a.parquet", storage_options=options), table)
    table.to_json("morphml://t/a.json.xz", storage_options=options)
    pd.testing.assert_frame_equal(pd.read_json("morphml://t/a.json.xz", storage_options=options), table)
    table.to_pickle("morphml://t/a.pkl.bz2", storage_options=options)
    found = pd.read_pickle("morphml://t/a.pkl.bz2", storage_options=options)  # noqa: S301 - our own, from above
    pd.testing.assert_frame_equal(found, table)


def test_files_do_what_saving_a_model_needs(files: MorphmlFileSystem) -> None:
    """As ``torch.save`` does: a zip archive written to a file that only goes forward; reading seeks in it."""
    weights: dict[str, Any] = {"layer": np.arange(300_000, dtype=np.float32), "bias": np.zeros(3)}
    with files.open("model.npz", "wb") as file:
        assert not file.seekable()
        np.savez(file, **weights)
    with files.open("model.npz", "rb", block_size=10_000) as file:
        assert file.seekable()
        with zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None
        file.seek(0)
        found = np.load(file)
        assert all(np.array_equal(found[name], value) for name, value in weights.items())
    with files.open("state.pkl", "wb") as file:
        pickle.dump(weights, file, pickle.HIGHEST_PROTOCOL)
    with files.open("state.pkl", "rb", block_size=10_000) as file:
        again = pickle.load(file)  # noqa: S301 - our own, from above
        assert np.array_equal(again["layer"], weights["layer"])
        file.seek(-4, io.SEEK_END)
        buffer = bytearray(10)
        assert file.readinto(buffer) == 4
        assert file.tell() == files.info("state.pkl")["size"]


def test_a_worker_needs_no_credentials(files: MorphmlFileSystem, tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": [1, 2]}), "in.parquet", filesystem=files)
    assert b"secret" not in pickle.dumps(files)

    # With an environment of its own, so that no other test's process runs it.
    @ray.remote(num_cpus=0, runtime_env={"env_vars": {"HOME": str(tmp_path)}})
    def work(files: MorphmlFileSystem) -> tuple[list[str], list[str]]:
        options: Any = {"name": files.name, "namespace": files.namespace}
        table = pd.read_parquet("morphml://in.parquet", storage_options=options)
        table.to_csv("morphml://out.csv", index=False, storage_options=options)
        with files.open("model.npz", "wb") as file:
            np.savez(file, a=table["a"])
        marks = ("AWS_ACCESS", "AWS_SECRET", "AWS_SESSION", "AWS_PROFILE", "MORPHML_")
        secrets_there = [name for name in os.environ if name.startswith(marks)]
        return secrets_there, [name for name in sys.modules if name in ("boto3", "morphml_ray.artifacts.s3")]

    assert ray.get(work.remote(files)) == ([], [])
    assert files.cat("out.csv") == b"a\n1\n2\n"
    assert mr.ArtifactStore.over(files.store.actors).exists("model.npz")
