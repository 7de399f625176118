"""What one server keeps on the disk between two starts: password, port, log, lock, and its home."""

import contextlib
import fcntl
import os
import secrets
import socket
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from morphml_ray.config.private_files import put_private_file
from morphml_ray.devstack.account import Account
from morphml_ray.errors import ConfigurationError, ConflictError
from morphml_ray.rpc.patience import Patience

LOOPBACK = "127.0.0.1"
# Below the range that systems give to outgoing connections: a client that keeps trying a stopped server would
# otherwise take the port away, or connect to itself.
_PORTS = range(20_000, 32_000)
_PORT_TRIES = 100
# A supervisor whose owner was killed may still be stopping its server.
_LOCK_WAIT_S = 5.0
# The home of last resort outlives a restart of the machine there, as in /tmp it would not.
_LASTING_TEMPORARY = Path("/var/tmp")  # noqa: S108 - only ever used through mkdtemp
_ELSEWHERE = "choose another --directory"


class ServerFolder:
    """The folder of one server below the directory of the devstack.

    Args:
        directory: of the devstack.
        name: of the server.

    Raises:
        ConfigurationError: the folder cannot be made or written.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory.absolute() / name
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be made ({error}): {_ELSEWHERE}") from error
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigurationError(f"{self.path} cannot be written by this user: {_ELSEWHERE}")

    @property
    def log(self) -> Path:
        """Where the server writes its log."""
        return self.path / "log"

    @property
    def data(self) -> Path:
        """Where the server keeps its data; it need not exist yet."""
        return self.path / "home" / "data"

    def password(self) -> str:
        """Give the password of this server, made at the first start, readable for its owner only.

        Raises:
            ConfigurationError: there are data, but no password.
        """
        password = self._read("password")
        if password is None and self.data.exists():
            raise ConfigurationError(
                f"{self.path / 'password'} is gone: bring it back, or remove {self.path} to begin anew"
            )
        return password or self._write("password", secrets.token_urlsafe(24))

    def port(self) -> int:
        """Give the port of the last start where it is free, else another free one."""
        return self.ports(1)[0]

    def ports(self, count: int) -> list[int]:
        """Give the ports of the last start, another free one for each that is taken."""
        known = [int(port) for port in (self._read("port") or "").split()]
        ports: list[int] = []
        for number in range(count):
            is_kept = number < len(known) and known[number] not in ports and is_free(known[number])
            ports.append(known[number] if is_kept else _free_port({*ports, *known}))
        if ports != known:
            self._write("port", " ".join(map(str, ports)))
        return ports

    def home(self, account: Account) -> Path:
        """Give a folder that ``account`` can reach, the same at every start.

        It lies in the folder, or in the system's temporary directory where ``account`` cannot reach the
        folder (as below ``/root``); a symbolic link then shows where.

        Raises:
            ConfigurationError: the link points to what is gone.
        """
        home = self.path / "home"
        if home.is_symlink() and not home.exists():
            raise ConfigurationError(
                f"{home.readlink()}, which held the data of {self.path}, is gone: remove {self.path} to begin anew"
            )
        if not home.exists():
            home.mkdir()
            home.chmod(0o755)  # whatever the umask is
            if not account.can_use(home):
                home.rmdir()
                elsewhere = Path(tempfile.mkdtemp(prefix="morphml-devstack-", dir=_LASTING_TEMPORARY))
                elsewhere.chmod(0o755)
                home.symlink_to(elsewhere)
        return home.resolve()

    @contextlib.contextmanager
    def lock(self) -> Iterator[int]:
        """Be the only one to run this server.

        Yields:
            A descriptor; a child that inherits it keeps the lock when the block is left.

        Raises:
            ConflictError: another process runs it.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._wait_for_lock(descriptor)
            yield descriptor
        finally:
            os.close(descriptor)

    def _wait_for_lock(self, descriptor: int) -> None:
        patience = Patience(_LOCK_WAIT_S, longest_pause_s=0.1)
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if not patience.pause():
                    raise ConflictError(
                        f"another process runs the server in {self.path}: use that one, or {_ELSEWHERE}"
                    ) from error

    def _read(self, name: str) -> str | None:
        try:
            return (self.path / name).read_text().strip() or None
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise ConfigurationError(
                f"{self.path / name} belongs to another user: be that user, or {_ELSEWHERE}"
            ) from error

    def _write(self, name: str, text: str) -> str:
        # Root helps out in the folder of an ordinary user, who shall be able to go on.
        status = self.path.stat()
        owner = None if os.geteuid() else (status.st_uid, status.st_gid)
        put_private_file(self.path / name, text + "\n", owner=owner)
        return text


def is_free(port: int) -> bool:
    """Tell whether a server could listen on a port of the loopback device."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _free_port(taken: Collection[int]) -> int:
    for _ in range(_PORT_TRIES):
        port = secrets.choice(_PORTS)
        if port not in taken and is_free(port):
            return port
    raise ConfigurationError(f"no free port between {_PORTS.start} and {_PORTS.stop} on {LOOPBACK}")
