"""A server process that ends with the process that owns it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from morphml_ray.devstack.account import Account
from morphml_ray.errors import BackendUnavailable
from morphml_ray.rpc.patience import Patience

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_STOP_S = 70.0
_TAIL_LINES = 15


class SupervisedProcess:
    """One start of one server, run by ``supervisor.py`` in a session of its own.

    The terminal's Ctrl-C does not reach the server; the end of this process does, however it comes. A
    supervisor rather than a parent-death signal on the server itself: that one fires when the *thread* that
    started the server ends.

    Args:
        command: the server and its arguments; no secrets, everybody can read them.
        account: whom the server runs as.
        environment: all that the server sees of the environment.
        folder: where the server runs.
        log: where its output goes, appended.
        lock_fd: an open file whose lock the supervisor keeps for as long as any process of the server lives.
        stop_signals: what ends the server, the friendliest first; SIGKILL follows them by itself.
        leftovers: files that the server may leave outside of its folder; removed before it starts, and when it has
            ended, however that was.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        account: Account,
        environment: dict[str, str],
        folder: Path,
        log: Path,
        lock_fd: int,
        stop_signals: Sequence[str],
        leftovers: Sequence[str] = (),
    ) -> None:
        self._log = log
        log.touch(mode=0o600)
        self._log_start_bytes = log.stat().st_size
        settings = [",".join(stop_signals), str(account.uid), str(account.gid), os.pathsep.join(leftovers)]
        with log.open("ab") as output:
            self._supervisor = subprocess.Popen(  # noqa: S603 - our own script
                [sys.executable, "-I", "-S", str(_SUPERVISOR), *settings, *command],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=folder,
                env=environment,
                pass_fds=[lock_fd],
                start_new_session=True,
            )
        self._server_pid = self._read_server_pid()

    @property
    def pid(self) -> int:
        """The number of the server's process."""
        return self._server_pid

    def is_running(self) -> bool:
        """Tell whether any process of the server is there."""
        return self._supervisor.poll() is None

    def fileno(self) -> int:
        """Give a descriptor that becomes readable when the server has ended."""
        assert self._supervisor.stdout is not None  # noqa: S101 - made with a pipe
        return self._supervisor.stdout.fileno()

    def stop(self) -> None:
        """End the server cleanly, and wait until none of its processes is left.

        Raises:
            BackendUnavailable: it is still there after a minute.
        """
        assert self._supervisor.stdin is not None  # noqa: S101 - made with a pipe
        assert self._supervisor.stdout is not None  # noqa: S101 - made with a pipe
        # Closing alone would not do: a forked child of this process may hold the other end open.
        if self.is_running():
            with contextlib.suppress(BrokenPipeError):  # it goes by itself at this moment
                self._supervisor.stdin.write(b"stop\n")
        patience = Patience(_STOP_S, first_pause_s=0.001, longest_pause_s=0.01)
        while self.is_running():
            if not patience.pause():
                raise BackendUnavailable(f"the server did not stop within {_STOP_S:.0f} s{self.tail()}")
        self._supervisor.stdin.close()
        self._supervisor.stdout.close()

    def kill(self) -> None:
        """End every process of the server with SIGKILL, as an outage would."""
        if self.is_running():
            for process in self._processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        # The supervisor goes after the last of them.
        self.stop()

    def tail(self) -> str:
        """Give the last lines that the server wrote since this start, introduced, or nothing."""
        with self._log.open("rb") as log:
            log.seek(self._log_start_bytes)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(["; the end of its log:", *lines[-_TAIL_LINES:]]) if lines else ""

    def _processes(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._server_pid)
            # Halted first, so that it starts no further children while they are listed.
            server.suspend()
            return [server, *server.children(recursive=True)]
        return []

    def _read_server_pid(self) -> int:
        assert self._supervisor.stdout is not None  # noqa: S101 - made with a pipe
        line = self._supervisor.stdout.readline()
        if not line:
            self.stop()
            raise BackendUnavailable(f"the server could not be started{self.tail()}")
        return int(line)
