"""Runs one server for exactly as long as its owner lives.

A script, not a module to import: ``python -I -S supervisor.py STOP_SIGNALS UID GID LEFTOVERS COMMAND...``. It
prints the process number of the server, then waits until the server ends, its standard input says anything or
closes (the owner stops or died, even by SIGKILL), or it is sent a signal. It is the last to go, and removes what
servers of this kind leave outside of their folder: before, for a start that was killed, and after.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

_STEP_S = 20.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STOP_REQUESTS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: Sequence[str]) -> int:
    """Start the server, wait for a reason to end it, end it.

    Returns:
        What the server exited with.
    """
    stop_signals, uid, gid, leftovers, *command = arguments
    signals = [signal.Signals[name] for name in stop_signals.split(",")]
    wake = _wake_on_signals()
    # Orphans of a killed server come to this process, so that the end of this one is the end of them all.
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _remove(leftovers)
    server = _start(command, int(uid), int(gid), signals[0])
    os.write(sys.stdout.fileno(), f"{server.pid}\n".encode())
    _wait_for_reason(server, wake)
    _end(server, signals, wake)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    _remove(leftovers)
    return server.returncode or 0


def _wake_on_signals() -> int:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_STOP_REQUESTS):
        signal.signal(number, lambda *_: None)
    return read


def _start(command: Sequence[str], uid: int, gid: int, on_death: signal.Signals) -> "subprocess.Popen[bytes]":
    is_other_user = uid != os.geteuid()
    return subprocess.Popen(  # noqa: S603 - the owner passes its own command
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        user=uid if is_other_user else None,
        group=gid if is_other_user else None,
        extra_groups=[] if is_other_user else None,
        # Safe here: this process has one thread, and it never ends before the process does.
        preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, on_death),  # noqa: PLW1509 - see above
    )


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _wait_for_reason(server: "subprocess.Popen[bytes]", wake: int) -> None:
    owner = sys.stdin.fileno()
    while server.poll() is None:
        ready, _, _ = select.select([owner, wake], [], [])
        if owner in ready:
            return
        if any(number in _STOP_REQUESTS for number in os.read(wake, 64)):
            return


def _end(server: "subprocess.Popen[bytes]", signals: Sequence[signal.Signals], wake: int) -> None:
    for number in (*signals, signal.SIGKILL):
        if server.poll() is not None:
            return
        server.send_signal(number)
        _wait_for_end(server, wake)


def _wait_for_end(server: "subprocess.Popen[bytes]", wake: int) -> None:
    """Wait a step at most. ``server.wait`` would do, but looks twenty times a second only."""
    give_up = time.monotonic() + _STEP_S
    while server.poll() is None and (left_s := give_up - time.monotonic()) > 0:
        if select.select([wake], [], [], left_s)[0]:
            os.read(wake, 64)


def _remove(leftovers: str) -> None:
    for path in filter(None, leftovers.split(os.pathsep)):
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - every start waits for this script: it imports as little as it can


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
