"""Ways to store and fetch artifacts on one S3 server: ours, boto3's and rclone's."""

import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import boto3
import ray
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

import morphml_ray as mr

BUCKET = "bench"
_MIB = 2**20
_THREADS = 8
# Which is the best depends on the machine, so all are measured and the fastest one counts.
_PART_MIB, _PART_THREADS = (8, 32), (4, 10)


@dataclass(frozen=True)
class Contender:
    """A line of the table.

    Attributes:
        label: of the line.
        put: stores.
        get: fetches what ``put`` stored.
    """

    label: str
    put: Callable[[], Any]
    get: Callable[[], Any]


@dataclass(frozen=True)
class Files:
    """What is stored and fetched.

    Attributes:
        large: one file.
        fetched: where it is fetched to.
        small: objects in memory.
    """

    large: Path
    fetched: Path
    small: list[bytes]

    def small_keys(self, owner: str) -> list[str]:
        """Give a key for each of the small objects."""
        return [f"{owner}/{number:06}" for number in range(len(self.small))]


def our_large(store: mr.ArtifactStore, files: Files) -> Iterator[Contender]:
    """Give our ways to move one file."""
    yield Contender(
        "morphml_ray: a file",
        lambda: store.upload_file(files.large, "ours/file"),
        lambda: store.download_file("ours/file", files.fetched),
    )
    data = files.large.read_bytes()
    yield Contender(
        "morphml_ray: bytes",
        lambda: store.upload_bytes(data, "ours/bytes"),
        lambda: store.download_bytes("ours/bytes"),
    )


def our_small(store: mr.ArtifactStore, files: Files) -> Iterator[Contender]:
    """Give our ways to move many small objects: a call each, one after the other or at once, and all in one call."""
    keys = files.small_keys("ours")
    objects = dict(zip(keys, files.small, strict=True))
    yield Contender(
        "morphml_ray: one after another",
        lambda: [store.upload_bytes(data, key) for key, data in objects.items()],
        lambda: [store.download_bytes(key) for key in keys],
    )
    yield Contender(
        f"morphml_ray: {_THREADS} threads",
        lambda: _in_threads(store.upload_bytes, files.small, keys),
        lambda: _in_threads(store.download_bytes, keys),
    )
    yield Contender(
        "morphml_ray: all in one call",
        lambda: store.upload_multiple(objects),
        lambda: store.download_multiple(keys),
    )
    yield Contender(
        "morphml_ray: .remote(), all at once",
        lambda: ray.get([store.upload_bytes.remote(data, key) for data, key in zip(files.small, keys, strict=True)]),
        lambda: ray.get([store.download_bytes.remote(key) for key in keys]),
    )


class Boto3:
    """boto3 without us.

    Args:
        endpoint_url: of the server.
        credentials: by the names of AWS's environment variables.
        region: of the bucket.
    """

    def __init__(self, endpoint_url: str, credentials: dict[str, str], region: str) -> None:
        # Its own checksums only cost time here, and a connection a thread is what it needs.
        config = Config(
            max_pool_connections=2 * max(_PART_THREADS),
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
            region_name=region,
            config=config,
        )

    def large(self, files: Files) -> Iterator[Contender]:
        """Give its ways to move one file, and its bytes."""
        data = files.large.read_bytes()
        for part_mib, threads in product(_PART_MIB, _PART_THREADS):
            yield self._large(files, part_mib, threads)
            yield self._bytes(data, part_mib, threads)
        yield Contender(
            "boto3: bytes, in one request",
            lambda: self._client.put_object(Bucket=BUCKET, Key="boto3/bytes", Body=data),
            lambda: self._get("boto3/bytes"),
        )

    def _bytes(self, data: bytes, part_mib: int, threads: int) -> Contender:
        part = part_mib * _MIB
        config = TransferConfig(multipart_threshold=part, multipart_chunksize=part, max_concurrency=threads)
        key = f"boto3/bytes-{part_mib}-{threads}"

        def get() -> bytes:
            fetched = io.BytesIO()
            self._client.download_fileobj(BUCKET, key, fetched, Config=config)
            return fetched.getvalue()

        return Contender(
            f"boto3: bytes, {part_mib} MiB a part, {threads} threads",
            lambda: self._client.upload_fileobj(io.BytesIO(data), BUCKET, key, Config=config),
            get,
        )

    def _large(self, files: Files, part_mib: int, threads: int) -> Contender:
        part = part_mib * _MIB
        config = TransferConfig(multipart_threshold=part, multipart_chunksize=part, max_concurrency=threads)
        key = f"boto3/{part_mib}-{threads}"
        return Contender(
            f"boto3: a file, {part_mib} MiB a part, {threads} threads",
            lambda: self._client.upload_file(str(files.large), BUCKET, key, Config=config),
            lambda: self._client.download_file(BUCKET, key, str(files.fetched), Config=config),
        )

    def small(self, files: Files) -> Iterator[Contender]:
        """Give its ways to move many small objects."""
        keys = files.small_keys("boto3")
        yield Contender(
            "boto3: one after another",
            lambda: list(map(self._put, keys, files.small)),
            lambda: list(map(self._get, keys)),
        )
        yield Contender(
            f"boto3: {_THREADS} threads",
            lambda: _in_threads(self._put, keys, files.small),
            lambda: _in_threads(self._get, keys),
        )

    def _put(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def _get(self, key: str) -> bytes:
        data: bytes = self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return data


def _in_threads(action: Callable[..., Any], *columns: list[Any]) -> None:
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(action, *columns))


def rclone_large(endpoint_url: str, credentials: dict[str, str], region: str, files: Files) -> Iterator[Contender]:
    """Give rclone's way to move one file; nothing where it is not installed."""
    program = shutil.which("rclone")
    if program is None:
        print("rclone: not installed", flush=True)
        return
    settings = {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_BENCH_TYPE": "s3",
        "RCLONE_CONFIG_BENCH_PROVIDER": "Other",
        "RCLONE_CONFIG_BENCH_ENV_AUTH": "true",
        "RCLONE_CONFIG_BENCH_ENDPOINT": endpoint_url,
        "RCLONE_CONFIG_BENCH_REGION": region,
    }
    environment = os.environ | credentials | settings
    environment.pop("AWS_CA_BUNDLE", None)  # rclone fails where one is set, and this server speaks plain HTTP

    def copy(source: str, target: str) -> None:
        command = [program, "copyto", "--ignore-times", "--s3-no-check-bucket", source, target]
        subprocess.run(command, check=True, env=environment, timeout=600)  # noqa: S603 - found on the user's own PATH

    remote = f"bench:{BUCKET}/rclone/file"
    yield Contender(
        "rclone copyto: a file",
        lambda: copy(str(files.large), remote),
        lambda: copy(remote, str(files.fetched)),
    )
