"""What all servers of the devstack have in common: a further one is a small class beside them."""

import abc
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from morphml_ray.devstack.account import Account, choose_account
from morphml_ray.devstack.folder import ServerFolder, is_free
from morphml_ray.devstack.supervised import SupervisedProcess
from morphml_ray.errors import BackendUnavailable, ConflictError
from morphml_ray.rpc.patience import Patience

_READY_S = 60.0
_FIRST_PROBE_S = 0.01
_LONGEST_PROBE_S = 0.05


@dataclass(frozen=True)
class Place:
    """Where a server starts.

    Attributes:
        folder: what it keeps, and what is known of it.
        home: a folder that ``account`` can reach.
        account: whom it runs as.
        lock_fd: an open file; a program that inherits it keeps others from running this server.
    """

    folder: ServerFolder
    home: Path
    account: Account
    lock_fd: int


class SupervisedServer(abc.ABC):
    """One server on the loopback device that ends with this process.

    It can be stopped, killed and started again: the password and the port of its URL stay the same.

    A kind of server states the names below, its ``url`` and ``exports``, where its program is, the command that starts
    it, and how it is asked whether it is ready.

    Args:
        directory: the directory of the devstack.

    Attributes:
        name: what people call it.
    """

    name: ClassVar[str]
    _folder_name: ClassVar[str]
    _stop_signals: ClassVar[Sequence[str]] = ("SIGTERM",)
    """What ends it, the friendliest first."""
    _port_count: ClassVar[int] = 1
    """How many ports it listens on; the first is in its URL."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._password = ""
        self._ports: list[int] = []
        self._process: SupervisedProcess | None = None

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Where clients find it; known once it was started."""

    @abc.abstractmethod
    def exports(self) -> Mapping[str, str]:
        """Give the environment variables that lead to it."""

    @abc.abstractmethod
    def _find_program(self, account: Account, home: Path) -> Path:
        """Find the program where ``account`` can run it; ``home`` has room for a copy."""

    @abc.abstractmethod
    def _command(self, program: Path, place: Place) -> contextlib.AbstractContextManager[Sequence[str]]:
        """Make what the server needs, and lend the command that starts it for as long as it starts.

        No secrets stand in the command: everybody can read it.
        """

    @abc.abstractmethod
    def _probe(self) -> None:
        """Return if it is ready; raise ``BackendUnavailable`` while it is not."""

    def _choose_account(self, folder: ServerFolder) -> Account:
        return choose_account(folder.data)

    def _environment(self, home: Path) -> dict[str, str]:  # noqa: ARG002 - for those that override it
        """Give all that the server sees of the environment: the user's secrets and locale are not its own."""
        return {"LC_ALL": "C", "TZ": "UTC"}

    def _leftovers(self) -> Sequence[str]:
        """Name the files that it may leave outside of its folder."""
        return ()

    @property
    def pid(self) -> int:
        """The number of the server's process."""
        return self._started().pid

    def fileno(self) -> int:
        """Give a descriptor that becomes readable when the server ends, asked for or not."""
        return self._started().fileno()

    def start(self) -> None:
        """Start the server and wait until it is ready; nothing happens when it runs.

        Raises:
            ConfigurationError: the wheel is missing, or the directory cannot be used.
            ConflictError: another process runs the server of this directory, or has taken its port meanwhile.
            BackendUnavailable: the server does not come up; the message ends with the last lines of its log.
        """
        if self._process is not None and self._process.is_running():
            return
        self.stop()
        folder = ServerFolder(self._directory, self._folder_name)
        with folder.lock() as lock_fd:
            account = self._choose_account(folder)
            place = Place(folder, folder.home(account), account, lock_fd)
            program = self._find_program(account, place.home)
            self._password = folder.password()
            self._ports = self._choose_ports(folder)
            with self._command(program, place) as command:
                self._launch(command, place)

    def stop(self) -> None:
        """End the server cleanly, wait until no process of it is left; do nothing when it does not run."""
        if self._process is not None:
            process, self._process = self._process, None
            process.stop()

    def kill(self) -> None:
        """End all processes of the server with SIGKILL, as a crash would."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()

    @property
    def _port(self) -> int:
        if not self._ports:
            raise BackendUnavailable(f"{self.name} was not started")
        return self._ports[0]

    def _started(self) -> SupervisedProcess:
        if self._process is None:
            raise BackendUnavailable(f"{self.name} was not started")
        return self._process

    def _choose_ports(self, folder: ServerFolder) -> list[int]:
        kept = self._ports[:1]
        if kept and not is_free(kept[0]):
            raise ConflictError(
                f"another program has taken port {kept[0]}, which the URL of {self.name} names: end it, then start"
            )
        return kept + folder.ports(self._port_count)[len(kept) :]

    def _launch(self, command: Sequence[str], place: Place) -> None:
        try:
            self._process = SupervisedProcess(
                command,
                account=place.account,
                environment=self._environment(place.home),
                folder=place.home,
                log=place.folder.log,
                lock_fd=place.lock_fd,
                stop_signals=self._stop_signals,
                leftovers=self._leftovers(),
            )
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self, process: SupervisedProcess) -> None:
        patience = Patience(_READY_S, first_pause_s=_FIRST_PROBE_S, longest_pause_s=_LONGEST_PROBE_S)
        while True:
            if not process.is_running():
                raise BackendUnavailable(f"{self.name} did not start{process.tail()}")
            try:
                return self._probe()
            except BackendUnavailable as error:
                if not patience.pause():
                    raise BackendUnavailable(
                        f"{self.name} was not ready within {_READY_S:.0f} s{process.tail()}"
                    ) from error
