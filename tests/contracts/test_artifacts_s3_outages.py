"""Lost answers, broken connections, and a server that dies in the middle."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from s3_doubles import LossyProxy

from morphml_ray.artifacts.checks import MIN_CHUNK_BYTES
from morphml_ray.artifacts.s3 import S3ArtifactBackend
from morphml_ray.config import BackendUrl
from morphml_ray.devstack import SeaweedServer
from morphml_ray.errors import AlreadyExistsError, BackendUnavailable, ConflictError
from morphml_ray.testing.artifacts.files import LARGE_BYTES, some_bytes

pytestmark = pytest.mark.usefixtures("driver")


@pytest.fixture
def proxy(artifacts_url: str) -> Iterator[LossyProxy]:
    made = LossyProxy(artifacts_url)
    yield made
    made.close()


@pytest.fixture
def store(proxy: LossyProxy) -> Iterator[S3ArtifactBackend]:
    backend = S3ArtifactBackend(BackendUrl(proxy.url), attempts=3)
    with closing(backend):
        backend.open()
        yield backend


def test_lesson_31_a_lost_answer_to_a_create_is_no_conflict(store: S3ArtifactBackend, proxy: LossyProxy) -> None:
    lost = proxy.lose(b"PUT ")
    store.put("key", b"mine", if_absent=True)
    assert lost.happened.is_set()
    assert store.get("key") == b"mine"
    again = proxy.lose(b"PUT ")
    with pytest.raises(AlreadyExistsError, match="key"):
        store.put("key", b"other", if_absent=True)
    assert again.happened.is_set()
    assert store.get("key") == b"mine"


@pytest.mark.parametrize("part", [b"POST ", b"partNumber=2", b"uploadId=", b"<CompleteMultipartUpload"])
def test_lesson_31_a_lost_answer_inside_a_large_create_is_no_conflict(
    store: S3ArtifactBackend, proxy: LossyProxy, part: bytes
) -> None:
    data = some_bytes(LARGE_BYTES)
    lost = proxy.lose(part)
    store.put("large", data, if_absent=True)
    assert lost.happened.is_set()
    assert store.get("large") == data
    # The answer to the first request may hold the id of an upload that nobody knows then.
    store.purge_uploads(0)


@pytest.mark.parametrize("if_absent", [True, False])
def test_lesson_31_a_lost_answer_to_the_end_of_an_upload_is_no_conflict(
    store: S3ArtifactBackend, proxy: LossyProxy, if_absent: bool
) -> None:
    upload = store.begin_upload("key", if_absent=if_absent)
    store.upload_chunk(upload, 0, b"mine")
    lost = proxy.lose(b"<CompleteMultipartUpload")
    info = store.finish_upload(upload)
    assert lost.happened.is_set()
    assert info.size_bytes == 4
    assert store.get("key") == b"mine"
    assert store.purge_uploads(0) == 0


@pytest.mark.parametrize("after_bytes", [10_000, 5_000_000])
def test_a_download_that_breaks_goes_on(
    store: S3ArtifactBackend, proxy: LossyProxy, tmp_path: Path, after_bytes: int
) -> None:
    data = some_bytes(LARGE_BYTES)
    store.put("large", data)
    whole, part = proxy.lose(b"Range: bytes=0-", after_bytes), proxy.lose(b"Range: bytes=8388608-", after_bytes)
    told: list[int] = []
    store.get_file("large", tmp_path / "file", told.append)
    assert (tmp_path / "file").read_bytes() == data
    assert sum(told) == LARGE_BYTES
    assert whole.happened.is_set()
    assert part.happened.is_set()
    single = proxy.lose(b"GET ", after_bytes)
    assert store.get("large") == data
    assert single.happened.is_set()


def test_a_download_that_breaks_always_is_unavailable(
    store: S3ArtifactBackend, proxy: LossyProxy, tmp_path: Path
) -> None:
    store.put("key", some_bytes(100_000))
    for _ in range(9):
        proxy.lose(b"GET ", 5_000)
    with pytest.raises(BackendUnavailable, match="broke off"):
        store.get_file("key", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_is_replaced_while_it_is_read_is_a_conflict(store: S3ArtifactBackend, tmp_path: Path) -> None:
    store.put("large", some_bytes(LARGE_BYTES))
    is_replaced = False

    def replace(_: int) -> None:
        nonlocal is_replaced
        if not is_replaced:
            is_replaced = True
            store.put("large", some_bytes(LARGE_BYTES - 1))

    with pytest.raises(ConflictError, match="was replaced while it was read"):
        store.get_file("large", tmp_path / "file", replace)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_changes_while_it_is_sent_is_a_conflict(store: S3ArtifactBackend, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(some_bytes(LARGE_BYTES))

    def change(_: int) -> None:
        with source.open("r+b") as file:
            file.seek(LARGE_BYTES - 1)
            file.write(b"\0" if source.read_bytes()[-1] else b"\1")

    backend = S3ArtifactBackend(store._bucket._url, parts_at_once=1)
    with closing(backend):
        backend.open()
        with pytest.raises(ConflictError, match="not what was announced"):
            backend.put_file("large", source, progress=change)
        source.write_bytes(some_bytes(LARGE_BYTES))
        with pytest.raises(ConflictError, match="cut off"):
            backend.put_file("large", source, progress=lambda _: os.truncate(source, 0))
    assert not store.exists("large")
    assert store.purge_uploads(0) == 0


def test_lesson_29_copies_in_parts(artifacts_url: str) -> None:
    data = some_bytes(LARGE_BYTES)
    backend = S3ArtifactBackend(BackendUrl(artifacts_url))
    with closing(backend):
        backend.open()
        backend._copier._single_bytes = MIN_CHUNK_BYTES
        backend.put("large", data, {"ü": "1"}, content_type="a/b")
        backend.copy("large", "copy")
        found = backend.head("copy")
        assert found is not None
        assert found[3:5] == ("a/b", {"ü": "1"})
        assert backend.get("copy") == data


def test_a_server_that_dies_during_an_upload_leaves_nothing(server_directory: Path, tmp_path: Path) -> None:
    server = SeaweedServer(server_directory)
    server.start()
    try:
        source = tmp_path / "source"
        source.write_bytes(some_bytes(LARGE_BYTES))
        backend = S3ArtifactBackend(BackendUrl(server.bucket_url("morphml", with_credentials=True)), attempts=1)
        with closing(backend):
            backend.open()
            chunked = backend.begin_upload("chunked")
            backend.upload_chunk(chunked, 0, b"1")
            with pytest.raises(BackendUnavailable):
                backend.put_file("large", source, progress=lambda _: server.kill())
            with pytest.raises(BackendUnavailable):
                backend.finish_upload(chunked)
            server.start()
            assert not backend.exists("large")
            # The upload in chunks is still there and can be finished; the other one ends with the next upload.
            assert backend.finish_upload(chunked).size_bytes == 1
            backend.put_file("large", source)
            assert backend.purge_uploads(0) == 0
            assert backend.get("large") == source.read_bytes()
    finally:
        server.kill()  # its data go, too; a clean end takes more than a second
