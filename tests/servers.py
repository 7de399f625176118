"""Fixtures that run real servers, and how to look at them.

A server that cannot start is an error of every test that asks for it, never a skip.
"""

import contextlib
import functools
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg2
import pytest
import redis
from botocore.loaders import JSONFileLoader

from morphml_ray.artifacts.s3 import S3ArtifactBackend
from morphml_ray.config import BackendUrl
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.devstack import DevStack, PostgresServer, SeaweedServer, ValkeyServer

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import ObjectIdentifierTypeDef


@contextlib.contextmanager
def reachable_directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mr-"))
    # As it is, and as pytest's tmp_path is, only root could enter it when root runs the tests; servers are somebody
    # else then.
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="session", autouse=True)
def _models_are_read_once() -> Iterator[None]:
    """Boto3 would read the description of S3, a megabyte of JSON, anew for each of hundreds of clients."""
    read = functools.cache(functools.partial(JSONFileLoader.load_file, JSONFileLoader()))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(JSONFileLoader, "load_file", lambda _, path: read(path))
        yield


@pytest.fixture
def server_directory() -> Iterator[Path]:
    """A directory for a devstack of the test's own, where it may stop and kill servers."""
    with reachable_directory() as path:
        yield path


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[Path]:
    """What a PostgreSQL keeps that was started and stopped: a copy of it starts in a part of the time."""
    with reachable_directory() as directory:
        server = PostgresServer(directory)
        server.start()
        server.stop()
        folder = directory / "postgres"
        (folder / "port").unlink()  # each test has another one, where no client of an earlier test can come
        yield folder


@pytest.fixture
def devstack(server_directory: Path, postgres_folder: Path) -> Iterator[DevStack]:
    """A devstack of the test's own."""
    directory = server_directory / "stack"
    directory.mkdir()
    if not (postgres_folder / "home").is_symlink():  # with the data elsewhere
        subprocess.run(["cp", "-a", str(postgres_folder), str(directory)], check=True)
    with DevStack(directory) as stack:
        yield stack
        stack.seaweed.kill()  # its data go, too; a clean end takes more than a second


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server that all tests share: leave it running."""
    with reachable_directory() as directory:
        server = PostgresServer(directory)
        server.start()
        yield server
        server.stop()


@contextlib.contextmanager
def running_postgres(directory: Path) -> Iterator[PostgresServer]:
    """Run a database server alone, in a third of the time of a devstack."""
    server = PostgresServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def postgres(server_directory: Path) -> Iterator[PostgresServer]:
    """A database server of the test's own, which it may stop and kill."""
    with running_postgres(server_directory) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    name = f"test_{secrets.token_hex(6)}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    """The name of a database with our tables and no rows: migrating takes a second, copying a tenth."""
    name = "migrated"
    with contextlib.closing(SqlDatabase(BackendUrl(postgres_server.create_database(name)))) as database:
        database.open()
    return name


@pytest.fixture
def migrated_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """The URL of a database of the test's own that has our tables already."""
    name = f"test_{secrets.token_hex(6)}"
    yield postgres_server.create_database(name, template=migrated_template)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """The server that all tests share: leave it running."""
    with reachable_directory() as directory:
        server = ValkeyServer(directory)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def cache_url(valkey_server: ValkeyServer) -> Iterator[str]:
    """The URL of an empty cache; the test's prefixes begin with "morph", and it leaves no other keys."""
    with redis.Redis.from_url(valkey_server.url, protocol=2) as client:
        yield valkey_server.url
        foreign = [key for key in client.scan_iter() if not key.startswith(b"morph")]
        client.flushdb()
    assert not foreign, f"the test left keys behind that belong to nobody: {foreign}"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[SeaweedServer]:
    """The server that all tests share: leave it running."""
    with reachable_directory() as directory:
        server = SeaweedServer(directory)
        server.start()
        yield server
        server.kill()  # its data go, too; a clean end takes more than a second


@pytest.fixture(scope="session")
def s3_client(s3_server: SeaweedServer) -> "Iterator[S3Client]":
    """A client of the bucket that all tests share: making one takes longer than what a test does with it."""
    url = s3_server.bucket_url("morphml", with_credentials=True)
    with opened_store(url) as store, store._bucket.working("tidying up") as client:
        yield client


@pytest.fixture
def artifacts_url(s3_server: SeaweedServer, s3_client: "S3Client") -> Iterator[str]:
    """The URL, with credentials, of a prefix of the test's own, empty; no unfinished upload may be left there."""
    prefix = f"test-{secrets.token_hex(6)}"
    yield s3_server.bucket_url("morphml", prefix, with_credentials=True)
    left = s3_client.list_multipart_uploads(Bucket="morphml", Prefix=f"{prefix}/").get("Uploads", [])
    for upload in left:
        s3_client.abort_multipart_upload(Bucket="morphml", Key=upload["Key"], UploadId=upload["UploadId"])
    delete_objects(s3_client, f"{prefix}/")
    assert not left, "the test left unfinished uploads behind"


def delete_objects(client: "S3Client", prefix: str) -> None:
    """Empty a prefix of the bucket that tests share."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="morphml", Prefix=prefix):
        keys: list[ObjectIdentifierTypeDef] = [{"Key": found["Key"]} for found in page.get("Contents", [])]
        if keys:
            client.delete_objects(Bucket="morphml", Delete={"Objects": keys, "Quiet": True})


@contextlib.contextmanager
def opened_store(url: str) -> Iterator[S3ArtifactBackend]:
    """Open a bucket or a prefix."""
    store = S3ArtifactBackend(BackendUrl(url), attempts=2)
    with contextlib.closing(store):
        store.open()
        yield store


def seaweed_sockets(ports: Iterable[object]) -> list[str]:
    """Name the sockets of a SeaweedFS with these ports that lie where the server itself puts them."""
    ends = tuple(f"-{port}.sock" for port in ports)
    return [path.name for path in Path("/tmp").glob("seaweedfs-*") if path.name.endswith(ends)]  # noqa: S108 - see above


def ask(url: str, statement: str) -> list[tuple[object, ...]]:
    """Run one statement on a connection of its own."""
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


@dataclass(frozen=True)
class Seen:
    """What a process looked like; some backends live for milliseconds only."""

    process: psutil.Process
    name: str
    told: str
    ids: frozenset[int]


def family_of(stack: DevStack | PostgresServer | ValkeyServer | SeaweedServer | int) -> list[Seen]:
    """Look at the supervisor and the processes of a server, or at the descendants of a process number."""
    if isinstance(stack, DevStack):
        stack = stack.postgres
    if isinstance(stack, (PostgresServer, ValkeyServer, SeaweedServer)):
        assert stack._process is not None
        supervisor = psutil.Process(stack._process._supervisor.pid)
        members = [supervisor, *supervisor.children(recursive=True)]
    else:
        members = psutil.Process(stack).children(recursive=True)
    found = []
    for process in members:
        # Gone, or about to go: the environment of such a one is closed to everybody but root.
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            told = " ".join(process.cmdline()) + repr(process.environ())
            found.append(Seen(process, process.name(), told, frozenset((*process.uids(), *process.gids()))))
    return found


def survivors(family: list[Seen], timeout_s: float = 0) -> list[psutil.Process]:
    """Give those who are still there."""
    return list(psutil.wait_procs([seen.process for seen in family], timeout=timeout_s)[1])
