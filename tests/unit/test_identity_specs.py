"""The bytes of an architecture, and codecs of callers' own classes."""

import base64
import json
import pickle
import tracemalloc
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from morphml_ray.errors import CorruptDataError, ValidationError
from morphml_ray.identity import codecs, decode_architecture, encode_architecture, register_codec, spec

OLD_SPECS = json.loads((Path(__file__).parent / "golden" / "identity_specs_v1.json").read_text())
LARGE = {"layers": [{"width": width, "act": "relu"} for width in range(100)], "t": (1, 2)}
GRAPH = {"nodes": [{"id": 0, "operation": "conv"}, {"id": 1, "operation": "pool"}], "edges": [(0, 1)]}


class Net:
    def __init__(self, widths: list[int]) -> None:
        self.widths = widths


class WideNet(Net):
    pass


class Cell:
    def __init__(self, operations: list[str]) -> None:
        self.operations = operations

    def to_arch_spec(self) -> str:
        pytest.fail("a registered codec comes first")


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "_by_type", {})
    monkeypatch.setattr(codecs, "_by_name", {})


def described(field: str, net: Net) -> dict[str, Any]:
    return {field: net.widths}


def chain(cell: Cell) -> dict[str, Any]:
    nodes = [{"id": f"op{index}", "operation": operation} for index, operation in enumerate(cell.operations)]
    edges = [(f"op{index}", f"op{index + 1}") for index in range(len(nodes) - 1)]
    return {"nodes": nodes, "edges": edges}


def from_chain(graph: dict[str, Any]) -> Cell:
    return Cell([node["operation"] for node in graph["nodes"]])


def test_a_small_spec_is_readable_and_a_large_one_is_compressed() -> None:
    small, large = encode_architecture({"a": (1,)}).spec, encode_architecture(LARGE).spec
    assert small[0] == 0x21
    assert small[5:] == b'{"a":{"$tuple":[1]}}'
    assert large[0] == 0x23
    assert int.from_bytes(large[5:9], "big") == len(zlib.decompress(large[9:]))
    assert len(large) < len(json.dumps(LARGE)) / 4
    assert decode_architecture(large, "") == LARGE
    assert encode_architecture(GRAPH).spec[0] == 0x29


def test_a_graph_of_parameters_that_look_like_tags_survives() -> None:
    params = {"$tuple": [1, 2]}
    encoded = encode_architecture({"nodes": [{"id": 0, "operation": "x", "params": params}], "edges": []})
    assert decode_architecture(encoded.spec, encoded.codec)["nodes"][0]["params"] == params
    config = encode_architecture(params)
    assert decode_architecture(config.spec, config.codec) == params


@pytest.mark.parametrize("architecture", [{"a": 1}, LARGE, GRAPH], ids=["small", "large", "graph"])
@given(data=st.data())
def test_flipped_bits_are_found(architecture: Any, data: st.DataObject) -> None:
    stored = bytearray(encode_architecture(architecture).spec)
    for bit in data.draw(st.sets(st.integers(0, len(stored) * 8 - 1), min_size=1, max_size=4)):
        stored[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptDataError):
        decode_architecture(bytes(stored), "")


@pytest.mark.parametrize("architecture", [{"a": 1}, LARGE, GRAPH], ids=["small", "large", "graph"])
def test_cut_and_extended_specs_are_found(architecture: Any) -> None:
    stored = encode_architecture(architecture).spec
    for length in range(0, len(stored), 7):
        with pytest.raises(CorruptDataError):
            decode_architecture(stored[:length], "")
    with pytest.raises(CorruptDataError):
        decode_architecture(stored + b"\0", "")
    assert decode_architecture(memoryview(stored), "") == decode_architecture(stored, "")  # type: ignore[arg-type]  # what a driver may give


@given(st.binary(max_size=60))
def test_foreign_bytes_are_refused(stored: bytes) -> None:
    with pytest.raises(CorruptDataError):
        decode_architecture(stored, "")


def sealed(form: int, payload: bytes) -> bytes:
    """Bytes with a right checksum, as an attacker would make them."""
    return spec._header(form, payload) + payload


def sized(form: int, text: bytes, size: int) -> bytes:
    return sealed(form, size.to_bytes(4, "big") + zlib.compress(text, 9))


@pytest.mark.parametrize(
    "stored",
    [
        sealed(0x12, b"no zlib stream"),
        sealed(0x12, zlib.compress(b'{"a":1}' * 100)[:-6]),
        sealed(0x10, b"{"),
        sealed(0x11, b"{"),
        sealed(0x11, b'{"$tuple":5}'),
        sealed(0x10, b"[" * 1_000_000),
        sealed(0x10, b'"\xff"'),
        sealed(0x10, b"9" * 100_000),
        sealed(0x20, b"{}"),
        sealed(0x14, b"{}"),
        sealed(0x10, b""),
        pickle.dumps({"a": 1}),
        sealed(0x31, b"{}"),
        sealed(0x2D, b"{}"),
        sealed(0x23, b"no size"),
        sealed(0x23, b"abc"),
        sized(0x23, b'{"a":1}', 6),
        sized(0x23, b'{"a":1}', 8),
        sized(0x23, b"", 0),
        sealed(0x25, b"{}"),
        sealed(0x25, b'[[[["a"],"m:C",null]],{"b":{}}]'),
        sealed(0x25, b'[[[["a"],"m:C",null]],{"a":1}]'),
        sealed(0x25, b'[[[["a"],"m:C",["x","y"]]],{"a":{"$tuple":[1]}}]'),
        sealed(0x25, b'[[[["a",0],"m:C",null]],{"a":{}}]'),
        sealed(0x25, b'[[[[1],"m:C",null]],[{}]]'),
        sealed(0x25, b'[[[[true],"m:C",null]],[{}]]'),
        sealed(0x29, b"[]"),
        sealed(0x29, b'{"nodes":[]}'),
        sealed(0x29, b'{"nodes":[],"edges":[5]}'),
    ],
    ids=range(29),
)
def test_hostile_bytes_are_refused(stored: bytes) -> None:
    with pytest.raises(CorruptDataError):
        decode_architecture(stored, "")


@pytest.mark.parametrize("form", [0x12, 0x23])
def test_case_62_a_spec_that_would_take_much_memory_is_refused(form: int) -> None:
    """Some 60 KB, 64 MB of JSON, 1.4 GB of lists."""
    text = b"[" + b"[]," * 20_000_000 + b"[]]"
    stored = sized(form, text, len(text)) if form & 0x20 else sealed(form, zlib.compress(text, 9))
    assert len(stored) < 61_000
    tracemalloc.start()
    with pytest.raises(CorruptDataError, match="g1:abc"):
        decode_architecture(stored, "", "g1:abc")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # What states its size is refused before anything is decompressed, the old version before anything is decoded.
    assert peak < (1_000_000 if form & 0x20 else 3 * len(text))


def test_case_62_a_wrong_size_is_found_within_the_stated_one() -> None:
    stored = sized(0x23, b" " * 60_000_000, 1000)
    tracemalloc.start()
    with pytest.raises(CorruptDataError, match="more than 1000 bytes"):
        decode_architecture(stored, "")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_case_62_damage_names_the_key() -> None:
    encoded = encode_architecture(LARGE)
    for stored in (encoded.spec[:-1], encoded.spec[:20] + b"?" + encoded.spec[21:], b""):
        with pytest.raises(CorruptDataError, match=encoded.key):
            decode_architecture(stored, encoded.codec, encoded.key)


@pytest.mark.parametrize("old", OLD_SPECS, ids=lambda old: old["name"])
def test_specs_of_version_1_are_read(old: dict[str, str]) -> None:
    decoded = decode_architecture(base64.b64decode(old["spec"]), old["codec"])
    assert encode_architecture(decoded, old["identity"]).key == old["key"]  # type: ignore[arg-type]  # a text of JSON


def test_a_large_spec_of_version_1_is_read_as_long_as_it_holds_few_items() -> None:
    text = b'{"a":"' + b"x" * 20_000_000 + b'"}'
    assert decode_architecture(sealed(0x12, zlib.compress(text)), "") == {"a": "x" * 20_000_000}


def test_what_could_not_be_read_back_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec, "MAX_SPEC_BYTES", 100)
    assert encode_architecture({"a": "x" * 90})
    with pytest.raises(ValidationError, match="at most 100 can be stored"):
        encode_architecture({"a": "x" * 100})


def test_a_registered_class_comes_back_as_itself() -> None:
    register_codec(Net, lambda net: {"widths": net.widths}, lambda config: Net(config["widths"]))
    encoded = encode_architecture(Net([8, 4]))
    assert encoded.codec == f"{Net.__module__}:Net"
    assert encoded.key == encode_architecture({"widths": [8, 4]}).key
    decoded = decode_architecture(encoded.spec, encoded.codec)
    assert isinstance(decoded, Net)
    assert decoded.widths == [8, 4]
    assert encode_architecture(decoded) == encoded


def test_a_registered_class_may_be_a_graph() -> None:
    register_codec(Cell, chain, from_chain)
    encoded = encode_architecture(Cell(["conv", "pool", "conv"]))
    assert encoded.key.startswith("g1:")
    assert (encoded.n_nodes, encoded.n_edges) == (3, 2)
    assert decode_architecture(encoded.spec, encoded.codec).operations == ["conv", "pool", "conv"]
    assert encode_architecture(decode_architecture(encoded.spec, encoded.codec)) == encoded
    exact = encode_architecture(Cell(["conv", "pool"]), "exact")
    assert decode_architecture(exact.spec, exact.codec).operations == ["conv", "pool"]


def test_a_subclass_uses_the_nearest_registered_class() -> None:
    register_codec(Net, lambda net: {"widths": net.widths}, lambda config: Net(config["widths"]))
    assert encode_architecture(WideNet([1])).codec.endswith(":Net")
    register_codec(WideNet, lambda net: {"wide": net.widths}, lambda config: WideNet(config["wide"]))
    encoded = encode_architecture(WideNet([1]))
    assert encoded.codec.endswith(":WideNet")
    assert type(decode_architecture(encoded.spec, encoded.codec)) is WideNet
    assert encode_architecture(Net([1])).codec.endswith(":Net")


def test_an_unregistered_codec_gives_the_description() -> None:
    assert decode_architecture(encode_architecture({"widths": [1]}).spec, "elsewhere:Net") == {"widths": [1]}


def test_case_62_a_codec_that_fails_is_named() -> None:
    register_codec(Net, lambda net: {"widths": net.widths}, lambda config: Net(config["depths"]))
    encoded = encode_architecture(Net([1]))
    with pytest.raises(CorruptDataError, match=f"{encoded.key}: decode of .*:Net failed: KeyError"):
        decode_architecture(encoded.spec, encoded.codec, encoded.key)


def test_registering_again_replaces() -> None:
    for field in ("a", "b", "b"):
        register_codec(Net, partial(described, field), lambda config: Net(*config.values()))
    assert encode_architecture(Net([1])).key == encode_architecture({"b": [1]}).key


@pytest.mark.parametrize("type_", [dict, list, str, object, None, "Net", Net([1])])
def test_only_classes_of_ones_own_are_registered(type_: Any) -> None:
    with pytest.raises(ValidationError, match="a class of your own is needed"):
        register_codec(type_, lambda value: value, lambda value: value)
    with pytest.raises(ValidationError, match="must be functions"):
        register_codec(Net, None, lambda value: value)  # type: ignore[arg-type]  # a mistake on purpose
