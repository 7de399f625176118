"""How every artifact backend takes objects in chunks."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from morphml_ray.artifacts.checks import CHUNK_BYTES, MAX_CHUNKS, MIN_CHUNK_BYTES
from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.artifacts.crc32 import checksum_text, crc32
from morphml_ray.errors import AlreadyExistsError, CorruptDataError, NotFoundError, ValidationError
from morphml_ray.testing.artifacts.files import some_bytes
from morphml_ray.testing.artifacts.raw_hooks import Leftovers, Stored

DATA = some_bytes(2 * MIN_CHUNK_BYTES + 77)
CHECKSUM = checksum_text(crc32(DATA))


def chunk(index: int) -> memoryview:
    """Give a chunk of the data."""
    return memoryview(DATA)[index * MIN_CHUNK_BYTES : (index + 1) * MIN_CHUNK_BYTES]


class ChunkedUploadContract:
    """Chunks in any order; finishing once; what is left after aborting."""

    def test_chunks_in_any_order_become_an_object(
        self, artifacts: ArtifactBackend, stored: Stored, leftovers: Leftovers
    ) -> None:
        upload = artifacts.begin_upload("key", {"ü": "1"}, chunk_bytes=MIN_CHUNK_BYTES, checksum=CHECKSUM)
        artifacts.upload_chunk(upload, 1, b"replaced")
        with ThreadPoolExecutor(3) as workers:
            list(workers.map(lambda index: artifacts.upload_chunk(upload, index, chunk(index)), (2, 1, 0)))
        assert not artifacts.exists("key")
        assert stored("key") is None
        info = artifacts.finish_upload(upload)
        assert stored("key") == DATA
        assert artifacts.get("key") == DATA
        assert (info.key, info.size_bytes, info.checksum) == ("key", len(DATA), CHECKSUM)
        found = artifacts.head("key")
        assert found is not None
        assert (found.metadata, found.checksum) == ({"ü": "1"}, CHECKSUM)
        assert artifacts.finish_upload(upload) == info
        assert leftovers() == []

    @pytest.mark.parametrize("data", [b"", b"small"])
    def test_few_chunks_do(self, artifacts: ArtifactBackend, stored: Stored, data: bytes) -> None:
        upload = artifacts.begin_upload("key")
        if data:
            artifacts.upload_chunk(upload, 0, data)
        assert artifacts.finish_upload(upload).size_bytes == len(data)
        assert stored("key") == artifacts.get("key") == data

    def test_a_wrong_checksum_ends_the_upload(
        self, artifacts: ArtifactBackend, stored: Stored, leftovers: Leftovers
    ) -> None:
        upload = artifacts.begin_upload("key", checksum=CHECKSUM)
        artifacts.upload_chunk(upload, 0, b"something else")
        with pytest.raises(CorruptDataError, match="checksum"):
            artifacts.finish_upload(upload)
        with pytest.raises(NotFoundError, match="no upload"):
            artifacts.finish_upload(upload)
        assert not artifacts.exists("key")
        assert stored("key") is None
        assert leftovers() == []
        for checksum in ("sha256:00", "crc32:xyz", "crc32:"):
            with pytest.raises(ValidationError, match="checksum"):
                artifacts.begin_upload("key", checksum=checksum)

    def test_a_missing_or_short_chunk_can_be_sent_again(self, artifacts: ArtifactBackend, stored: Stored) -> None:
        upload = artifacts.begin_upload("key", chunk_bytes=MIN_CHUNK_BYTES)
        artifacts.upload_chunk(upload, 2, chunk(2))
        artifacts.upload_chunk(upload, 0, b"short")
        with pytest.raises(ValidationError, match="chunk 1 of the upload is missing"):
            artifacts.finish_upload(upload)
        artifacts.upload_chunk(upload, 1, chunk(1))
        with pytest.raises(ValidationError, match=f"all chunks but the last have {MIN_CHUNK_BYTES}"):
            artifacts.finish_upload(upload)
        artifacts.upload_chunk(upload, 0, chunk(0))
        artifacts.finish_upload(upload)
        assert stored("key") == DATA
        assert artifacts.get("key") == DATA

    def test_a_chunk_that_is_too_long_damages_no_other(self, artifacts: ArtifactBackend, stored: Stored) -> None:
        upload = artifacts.begin_upload("key", chunk_bytes=MIN_CHUNK_BYTES)
        for index in (1, 2):
            artifacts.upload_chunk(upload, index, chunk(index))
        for index in (0, 2):
            with pytest.raises(ValidationError, match=f"chunk {index} has {MIN_CHUNK_BYTES + 1} bytes"):
                artifacts.upload_chunk(upload, index, bytes(MIN_CHUNK_BYTES + 1))
        artifacts.upload_chunk(upload, 0, chunk(0))
        artifacts.finish_upload(upload)
        assert stored("key") == DATA
        assert artifacts.get("key") == DATA

    def test_an_aborted_upload_leaves_nothing(
        self, artifacts: ArtifactBackend, stored: Stored, leftovers: Leftovers
    ) -> None:
        artifacts.put("key", b"old")
        upload = artifacts.begin_upload("key")
        artifacts.upload_chunk(upload, 0, b"new")
        artifacts.abort_upload(upload)
        artifacts.abort_upload(upload)
        artifacts.abort_upload("unknown")
        for call in (lambda: artifacts.upload_chunk(upload, 0, b"1"), lambda: artifacts.finish_upload(upload)):
            with pytest.raises(NotFoundError, match="no upload"):
                call()
        assert stored("key") == artifacts.get("key") == b"old"
        assert leftovers() == []

    def test_an_upload_ends_with_its_backend(self, artifacts: ArtifactBackend, leftovers: Leftovers) -> None:
        upload = artifacts.begin_upload("key")
        artifacts.upload_chunk(upload, 0, b"1")
        artifacts.close()
        artifacts.open()
        with pytest.raises(NotFoundError, match="no upload"):
            artifacts.finish_upload(upload)
        assert leftovers() == []

    def test_unused_uploads_are_purged(self, artifacts: ArtifactBackend) -> None:
        upload = artifacts.begin_upload("key")
        artifacts.upload_chunk(upload, 0, b"1")
        assert artifacts.purge_uploads(3600) == 0
        assert artifacts.purge_uploads(0) == 1
        with pytest.raises(NotFoundError, match="no upload"):
            artifacts.finish_upload(upload)
        assert artifacts.purge_uploads(0) == 0

    def test_an_upload_can_create(self, artifacts: ArtifactBackend, stored: Stored, leftovers: Leftovers) -> None:
        first, second = (artifacts.begin_upload("key", if_absent=True) for _ in range(2))
        artifacts.upload_chunk(first, 0, b"first")
        artifacts.upload_chunk(second, 0, b"second")
        artifacts.finish_upload(first)
        with pytest.raises(AlreadyExistsError, match="key"):
            artifacts.finish_upload(second)
        assert stored("key") == artifacts.get("key") == b"first"
        assert leftovers() == []

    def test_chunks_have_limits(self, artifacts: ArtifactBackend) -> None:
        with pytest.raises(ValidationError, match="chunk_bytes"):
            artifacts.begin_upload("key", chunk_bytes=MIN_CHUNK_BYTES - 1)
        upload = artifacts.begin_upload("key", chunk_bytes=CHUNK_BYTES)
        for index in (-1, MAX_CHUNKS):
            with pytest.raises(ValidationError, match="make chunks larger"):
                artifacts.upload_chunk(upload, index, b"1")
        artifacts.abort_upload(upload)
