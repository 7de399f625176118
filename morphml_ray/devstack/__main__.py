"""``python -m morphml_ray.devstack up``: run the servers until Ctrl-C."""

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from morphml_ray.devstack.stack import DEFAULT_DIRECTORY, DevStack
from morphml_ray.errors import MorphMLRayError

_STOP_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _StopRequest(BaseException):
    """The user or the system asks for the end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 after a stop that was asked for, 1 when a server could not run.
    """
    options = _parser().parse_args(arguments)
    _raise_on_stop_requests()
    try:
        with DevStack(options.directory) as stack:
            try:
                _announce(stack)
                stack.wait()
            finally:
                _ignore_stop_requests()
    except _StopRequest:
        return 0
    except MorphMLRayError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command line prints
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m morphml_ray.devstack", description="Real servers for development and tests."
    )
    commands = parser.add_subparsers(required=True)
    up = commands.add_parser(
        "up",
        help="start the servers, print their URLs as shell exports, stop them on Ctrl-C",
        description="Start real servers on the loopback device; print their URLs; stop on Ctrl-C.",
    )
    up.add_argument(
        "--directory",
        default=DEFAULT_DIRECTORY,
        help="where data and passwords stay from one start to the next (default: ./%(default)s)",
    )
    return parser


def _announce(stack: DevStack) -> None:
    for name, value in stack.exports().items():
        print(f"export {name}={_quoted(value)}")  # noqa: T201 - a command line prints
    sys.stdout.flush()
    names = ", ".join(server.name for server in stack.servers)
    print(f"# {names} in {stack.directory}; Ctrl-C stops.", file=sys.stderr, flush=True)  # noqa: T201 - the same


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _raise_on_stop_requests() -> None:
    for number in _STOP_REQUESTS:
        # Under nohup the end of the terminal is no reason to stop.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _request_stop)


def _request_stop(_number: int, _frame: FrameType | None) -> NoReturn:
    _ignore_stop_requests()
    raise _StopRequest


def _ignore_stop_requests() -> None:
    """Let nothing interrupt the clean stop."""
    for number in _STOP_REQUESTS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
