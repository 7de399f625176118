"""Lesson 29: what is moved is never in memory as a whole, and never twice where it was asked for as a whole."""

import subprocess
import sys
from pathlib import Path

import pytest

MIB = 1024 * 1024
SIZE_MIB = 256
# The parts that are on their way at once, and what the driver needs for them.
BOUND_MIB = 90

MOVE = """
import os, resource, sys, threading, time
from morphml_ray.artifacts.actor.backend_access import create_artifact_backend
from morphml_ray.config import BackendUrl

url, source, target = sys.argv[1:]
store = create_artifact_backend(BackendUrl(url))
store.open()
store.put("warm", bytes(1000))
store.get("warm")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before = peak()
size_bytes = os.path.getsize(source)
store.put_file("large", source)
store.get_file("large", target)
upload = store.begin_upload("chunked")
chunk = bytes(8 * 1024 * 1024)
for number in range(size_bytes // len(chunk)):
    store.upload_chunk(upload, number, chunk)
store.finish_upload(upload)
print(peak() - before)
data = bytearray(size_bytes)
store.get_into("large", data)
store.put("large", data)
print(peak() - before)
del data
data = store.get("large")
print(peak() - before)
store.close()
"""


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_lesson_29_memory_is_bounded(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"file://{tmp_path}/store" if kind == "local" else request.getfixturevalue("artifacts_url")
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(SIZE_MIB * MIB)
    command = [sys.executable, "-c", MOVE, url, str(source), str(target)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    in_files, from_buffers, as_bytes = map(int, said.split())
    assert in_files < BOUND_MIB
    assert from_buffers < SIZE_MIB + BOUND_MIB
    assert as_bytes < SIZE_MIB + BOUND_MIB
    assert target.stat().st_size == SIZE_MIB * MIB
