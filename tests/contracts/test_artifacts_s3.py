"""SeaweedFS, over the protocol of S3, keeps the contract."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from morphml_ray.artifacts.s3 import S3ArtifactBackend
from morphml_ray.artifacts.s3.client import make_client, make_session
from morphml_ray.config import BackendUrl
from morphml_ray.config.s3 import S3Url, parse_s3
from morphml_ray.testing import ArtifactContract
from morphml_ray.testing.artifacts.raw_hooks import Damage, Leftovers, Plant, Stored

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


@pytest.mark.usefixtures("driver")
class TestS3(ArtifactContract):
    @pytest.fixture
    def artifacts(self, artifacts_url: str) -> Iterator[S3ArtifactBackend]:
        backend = S3ArtifactBackend(BackendUrl(artifacts_url), attempts=2)
        backend.open()
        yield backend
        backend.close()

    @pytest.fixture
    def place(self, artifacts_url: str) -> S3Url:
        return parse_s3(artifacts_url.removeprefix("s3://"), None)

    @pytest.fixture
    def client(self, place: S3Url) -> "Iterator[S3Client]":
        client = make_client(make_session(place), place, timeout_s=5, attempts=2, connections=2)
        yield client
        client.close()

    @pytest.fixture
    def stored(self, place: S3Url, client: "S3Client") -> Stored:
        def read(key: str) -> bytes | None:
            try:
                answer = client.get_object(Bucket=place.bucket, Key=f"{place.prefix}/{key}")
            except client.exceptions.NoSuchKey:
                return None
            return answer["Body"].read()

        return read

    @pytest.fixture
    def plant(self, place: S3Url, client: "S3Client") -> Plant:
        def write(key: str, data: bytes) -> None:
            client.put_object(Bucket=place.bucket, Key=f"{place.prefix}/{key}", Body=data)

        return write

    @pytest.fixture
    def damage(self, place: S3Url, client: "S3Client") -> Damage:
        def flip(key: str) -> None:
            full_key = f"{place.prefix}/{key}"
            answer = client.get_object(Bucket=place.bucket, Key=full_key)
            data = bytearray(answer["Body"].read())
            data[0] ^= 1
            client.put_object(Bucket=place.bucket, Key=full_key, Body=bytes(data), Metadata=answer["Metadata"])

        return flip

    @pytest.fixture
    def leftovers(self, place: S3Url, client: "S3Client") -> Leftovers:
        def unfinished() -> list[str]:
            answer = client.list_multipart_uploads(Bucket=place.bucket, Prefix=place.prefix)
            return [upload["Key"] for upload in answer.get("Uploads", [])]

        return unfinished
