"""Classes of a script keep their keys when cloudpickle ships them."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from morphml_ray.identity.named_values import type_name


class Outer:
    """Has a class of its own."""

    @dataclasses.dataclass
    class Config:
        width: int

    def own(self) -> None:
        """Belongs to another class, whoever borrows it."""


SCRIPT = """
import dataclasses, sys, cloudpickle, pydantic
from collections import namedtuple
from morphml_ray.identity import encode_architecture

@dataclasses.dataclass
class Conv:
    width: int
    @dataclasses.dataclass
    class Inner:
        width: int

class Pool:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Inner:
        width: int

def make():
    @dataclasses.dataclass
    class Local:
        width: int
    return Local(16)

class Model(pydantic.BaseModel):
    class Inner(pydantic.BaseModel):
        width: int

Pair = namedtuple("Pair", "width")
values = [Conv(16), Conv.Inner(16), Pool.Inner(16), make(), Pair(16), Model(), Model.Inner(width=16)]
assert len({encode_architecture(value).key for value in values}) == 7
sys.stderr.write(encode_architecture(values).key)
sys.stdout.buffer.write(cloudpickle.dumps(values))
"""
WORKER = """
import pickle, sys
from morphml_ray.identity import encode_architecture
sys.stdout.write(encode_architecture(pickle.loads(sys.stdin.buffer.read())).key)
"""


def test_case_33_a_class_of_a_script_keeps_its_key_when_it_is_shipped(tmp_path: Path) -> None:
    script = tmp_path / "search.py"
    script.write_text(SCRIPT)
    driver = subprocess.run([sys.executable, script], capture_output=True, check=True)
    worker = subprocess.run([sys.executable, "-c", WORKER], input=driver.stdout, capture_output=True, check=True)
    assert worker.stdout == driver.stderr
    assert worker.stdout.startswith(b"j1:")


def test_classes_go_by_what_is_left_of_their_names_when_they_are_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local:
        pass

    @dataclasses.dataclass
    class Methods:
        own = Outer.own

    function = "test_classes_go_by_what_is_left_of_their_names_when_they_are_shipped.<locals>"
    assert type_name(Outer.Config) == f"{__name__}:Outer.Config"
    assert type_name(Local) == f"{__name__}:Local"
    assert type_name(Methods) == f"{__name__}:{function}.Methods"
    for kind in (Local, Methods, Outer):
        monkeypatch.setattr(kind, "__module__", "__mp_main__")
    assert type_name(Local) == "__main__:Local"
    assert type_name(Methods) == f"__main__:{function}.Methods"
    assert type_name(Outer) == "__main__:Outer"
