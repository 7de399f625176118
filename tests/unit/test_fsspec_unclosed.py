"""Case 27: a file that was never closed stores nothing, and is named, also where Python ends first."""

import subprocess
import sys

import pytest

BEGIN = """
import json, sys, threading, time
import fsspec
fs = fsspec.filesystem("morphml")  # nothing is asked of Ray before a file is closed
"""
LEFT = {
    "text-without-a-name": "json.dump({'a': 1}, fs.open('left.json', 'w'))",
    "bytes": "left = fs.open('left.json', 'wb'); left.write(b'1')",
    "compressed": "left = fs.open('left.json.gz', 'wt', compression='infer'); left.write('1')",
    "text-never-collected": "sys.left = fs.open('left.json', 'w'); sys.left.write('1')",
    "thread": """
is_written = threading.Event()
def work():
    left = fs.open('left.json', 'w')
    left.write('1')
    is_written.set()
    time.sleep(600)
    left.close()
threading.Thread(target=work, daemon=True).start()
is_written.wait()
""",
    "exit": "left = fs.open('left.json', 'w'); left.write('1'); sys.exit(3)",
}


def end_of(program: str) -> tuple[int, str]:
    """How a program ends, and what it says."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program], capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("program", LEFT.values(), ids=LEFT)
def test_case_27_a_file_that_was_never_closed_is_named(program: str) -> None:
    status, said = end_of(program)
    assert status == (3 if "exit" in program else 0)
    (line,) = said.splitlines()
    assert line.startswith("left.json")
    assert "what was written is dropped: " in line
    assert "never closed" in line or "Python ends" in line


def test_case_27_a_file_that_was_given_up_is_not_named() -> None:
    assert end_of("file = fs.open('left.json', 'wb'); file.write(b'1'); file.discard(); sys.left = file") == (0, "")
