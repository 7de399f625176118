# ruff: noqa: INP001 - a script beside the one that calls it, not a package
"""Run a command with a time limit and end every process that it leaves behind.

    python reap.py SECONDS COMMAND [ARGUMENT ...]

Servers and daemons put themselves into sessions of their own, so a process group does not hold them. On Linux
this process becomes the reaper of its orphans instead (``PR_SET_CHILD_SUBREAPER``): each descendant stays
below it in the process tree, wherever it moved. Elsewhere the command's process group is ended. The exit code
is the command's own, 124 when the time was up.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

# From <sys/prctl.h>.
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

IS_LINUX = sys.platform == "linux"
GRACE_S = 5.0
TIME_IS_UP = 124
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants, and stop when our own parent ends (Linux only)."""
    if not IS_LINUX:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_CHILD_SUBREAPER, 1), (PR_SET_PDEATHSIG, int(signal.SIGTERM))):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option})")


def descendants(root: int) -> list[int]:
    """Every living process below ``root``; zombies do not count."""
    parent_of: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # The command name stands in parentheses and may hold blanks and parentheses itself.
            state, parent = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                parent_of[int(stat.parent.name)] = int(parent)
    found: list[int] = []
    level = {root}
    while level:
        level = {pid for pid, parent in parent_of.items() if parent in level}
        found.extend(level)
    return found


def send(number: signal.Signals, group: int) -> bool:
    """Signal all that is left; False when nothing was."""
    if not IS_LINUX:
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True
    left = descendants(os.getpid())
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return bool(left)


def end_leftovers(group: int) -> None:
    """Ask all that is left to stop, and kill what has not stopped after the grace period."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    deadline = time.monotonic() + GRACE_S
    while send(signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL, group):
        time.sleep(0.1)


def wait_for(command: int, limit_s: float) -> int | None:
    """Wait for the command, and bury the orphans that end meanwhile; None when the time is up."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == command:
            return os.waitstatus_to_exitcode(status)
        if not ended:
            time.sleep(0.05)
    return None


def stop(number: int, _frame: FrameType | None) -> None:
    """Turn a signal into an exit, so that the leftovers are ended on the way out."""
    sys.exit(128 + number)


def main() -> int:
    """Run the command that the arguments name."""
    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    adopt_orphans()
    limit_s, command = float(sys.argv[1]), sys.argv[2:]
    # On Linux the command stays in our group, so that whoever kills the group reaches it.
    child = subprocess.Popen(command, start_new_session=not IS_LINUX)  # noqa: S603 - our caller's own words
    try:
        code = wait_for(child.pid, limit_s)
        if code is None:
            sys.stdout.write(f"time is up: {' '.join(command)} ran for {limit_s:.0f} s\n")
        return TIME_IS_UP if code is None else code
    finally:
        end_leftovers(child.pid)


if __name__ == "__main__":
    sys.exit(main())
