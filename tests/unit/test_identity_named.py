"""Objects with fields: their class counts."""

import collections
import copy
import dataclasses
import enum
import hashlib
import json
import pickle
import types
from typing import Any, NamedTuple

import numpy as np
import pydantic
import pytest

from morphml_ray.errors import ValidationError
from morphml_ray.identity import decode_architecture, encode_architecture
from morphml_ray.identity.named_values import NamedFields, NamedItems


@dataclasses.dataclass
class Conv:
    width: int


@dataclasses.dataclass
class Pool:
    width: int


class ConvTuple(NamedTuple):
    width: int
    kernel: int = 3


class PoolTuple(NamedTuple):
    width: int
    kernel: int = 3


class Layer(pydantic.BaseModel):
    pass


class ConvModel(Layer):
    width: int


class PoolModel(Layer):
    width: int


class NetModel(pydantic.BaseModel):
    """A field that is declared as the class above: model_dump() would leave out what those below add."""

    layers: list[Layer]
    device: Any = pydantic.Field(default=None, exclude=True)


class Outer:
    @dataclasses.dataclass
    class Config:
        width: int

    def own(self) -> None:
        """Belongs to another class, whoever borrows it."""


class OtherOuter:
    @dataclasses.dataclass
    class Config:
        width: int


def key_of(architecture: Any) -> str:
    return encode_architecture(architecture).key


def back(architecture: Any) -> Any:
    encoded = encode_architecture(architecture)
    decoded = decode_architecture(encoded.spec, encoded.codec)
    assert encode_architecture(decoded) == encoded
    return decoded


PAIRS = [
    (Conv(16), Pool(16), {"width": 16}),
    (ConvTuple(16), PoolTuple(16), (16, 3)),
    (ConvModel(width=16), PoolModel(width=16), {"width": 16}),
    (Outer.Config(16), OtherOuter.Config(16), {"width": 16}),
]


@pytest.mark.parametrize(("one", "other", "plain"), PAIRS)
def test_case_33_objects_of_two_classes_are_two(one: Any, other: Any, plain: Any) -> None:
    for wrap in (
        lambda value: value,
        lambda value: [value],
        lambda value: {"layers": (value, {"deep": value})},
        lambda value: {"nodes": [{"id": "a", "operation": value}], "edges": []},
        lambda value: {"nodes": [{"id": "a", "operation": "x", "params": {"c": value}}], "edges": []},
        lambda value: {"nodes": [{"id": "a", "operation": "x", "params": value}], "edges": []},
        lambda value: {"nodes": [{"id": "a", "operation": "x", "cell": value}], "edges": []},
        lambda value: {"nodes": [{"id": "a", "operation": "x"}], "edges": [("a", "a", value)]},
        lambda value: {"nodes": [{"id": "a", "operation": "x"}], "edges": [], "cell": value},
        lambda value: {"cells": Outer.Config([value])},  # type: ignore[arg-type]  # any field
    ):
        if wrap(1) == 1 or not (isinstance(plain, tuple) and "params" in str(wrap(1))):
            keys = {key_of(wrap(each)) for each in (one, other, plain)}
            assert len(keys) == 3
        exact = {encode_architecture(wrap(each), "exact").key for each in (one, other)}
        assert len(exact) == 2
        back(wrap(one))
    assert back([one]) == [plain]


def test_case_33_models_in_models_are_told_apart_by_class_and_by_what_the_class_below_adds() -> None:
    nets = [
        NetModel(layers=[ConvModel(width=16)]),
        NetModel(layers=[PoolModel(width=16)]),
        NetModel(layers=[ConvModel(width=8)]),
    ]
    assert len({key_of(net) for net in nets}) == 3
    assert [back(net) for net in nets] == [{"layers": [{"width": width}]} for width in (16, 16, 8)]
    assert key_of(NetModel(layers=[], device=object())) == key_of(NetModel(layers=[]))


def test_case_33_arrays_of_objects_are_looked_into() -> None:
    arrays = []
    for value in (Conv(1), Pool(1)):
        array = np.empty(1, dtype=object)
        array[0] = value
        arrays.append(array)
    assert key_of({"a": arrays[0]}) != key_of({"a": arrays[1]})
    assert key_of({"a": arrays[0]}) == key_of({"a": [Conv(1)]})


def test_the_key_of_an_object_can_be_computed_by_hand() -> None:
    text = f'[<"{__name__}:Conv">{{"width":16}},<"{__name__}:ConvTuple">{{"kernel":3,"width":8}}]'
    assert key_of([Conv(16), ConvTuple(8)]) == f"j1:{hashlib.sha256(text.encode()).hexdigest()}"
    graph = {"nodes": [GraphNode("a", "x", Conv(16))], "edges": [GraphEdge("a", "a")]}
    text = (
        f'{{"edges":[{{<"{__name__}:GraphEdge">,"source":0,"target":0}}],"nodes":[{{"id":0,<"{__name__}:GraphNode">'
        f'"cell":<"{__name__}:Conv">{{"width":16}},"operation":"x","params":{{}}}}]}}'
    )
    assert key_of(graph) == f"g1:{hashlib.sha256(text.encode()).hexdigest()}"


@dataclasses.dataclass
class GraphNode:
    id: str
    operation: str
    cell: Any = None


@dataclasses.dataclass
class OtherNode:
    id: str
    operation: str
    cell: Any = None


class GraphEdge(NamedTuple):
    source: str
    target: str


class OtherEdge(NamedTuple):
    tail: str
    head: str


@dataclasses.dataclass
class EdgeClass:
    source: str
    target: str


@dataclasses.dataclass
class OtherEdgeClass:
    source: str
    target: str


class PairOfLists(NamedTuple):
    nodes: list[Any]
    edges: list[Any]


@dataclasses.dataclass
class Whole:
    nodes: list[Any]
    edges: list[Any]


def test_graphs_of_objects_are_graphs() -> None:
    one = Whole([GraphNode("a", "x"), GraphNode("b", "y")], [GraphEdge("a", "b")])
    renamed = Whole([GraphNode("q", "y"), GraphNode("p", "x")], [GraphEdge("p", "q")])
    assert key_of(one) == key_of(renamed)
    assert key_of(one).startswith("g1:")
    assert back(one)["nodes"][0] == {"id": "a", "operation": "x", "cell": None}
    others = [
        Whole([OtherNode("a", "x"), GraphNode("b", "y")], [GraphEdge("a", "b")]),
        Whole([GraphNode("a", "x"), GraphNode("b", "y")], [OtherEdge("a", "b")]),
        Whole([GraphNode("a", "x"), GraphNode("b", "y")], [("a", "b")]),
        {"nodes": one.nodes, "edges": one.edges},
    ]
    assert len({key_of(other) for other in (one, *others)}) == 5
    for other in others:
        assert back(other) == {"nodes": back(one)["nodes"], "edges": [("a", "b")]}
    pair = PairOfLists(one.nodes, one.edges)
    assert key_of(pair) not in {key_of(one), key_of({"nodes": one.nodes, "edges": one.edges})}
    assert key_of(pair) == key_of(PairOfLists(renamed.nodes, renamed.edges))
    assert back(pair) == back(one)
    classes = [Whole(one.nodes, [kind("a", "b")]) for kind in (EdgeClass, OtherEdgeClass, dict_edge)]
    assert len({key_of(each) for each in classes}) == 3
    for each in classes:
        assert back(each) == {"nodes": back(one)["nodes"], "edges": [{"source": "a", "target": "b"}]}


def dict_edge(source: str, target: str) -> Any:
    return types.MappingProxyType({"source": source, "target": target})


def test_ids_of_objects_that_cannot_be_stored_are_numbered() -> None:
    marks = [object(), object()]
    nodes = [{"id": mark, "operation": "x"} for mark in marks]
    kinds = [GraphEdge(*marks), OtherEdge(*marks)]  # type: ignore[arg-type]  # any id
    decoded = back({"nodes": nodes, "edges": kinds})
    assert key_of(decoded) == key_of({"nodes": nodes, "edges": kinds})
    assert decoded["edges"] == [{"source": 0, "target": 1}, (0, 1)]


def test_what_comes_back_knows_its_class() -> None:
    fields, items = back([Conv(16), ConvTuple(8)])
    assert (type(fields), type(items)) == (NamedFields, NamedItems)
    assert fields.type_name == f"{__name__}:Conv"
    assert (items.width, items.kernel, items.type_name) == (8, 3, f"{__name__}:ConvTuple")
    assert not hasattr(items, "depth")
    for copied in (pickle.loads(pickle.dumps(fields)), copy.deepcopy(fields), copy.copy(fields), fields.copy()):  # noqa: S301 - written on this line
        assert copied == fields
        assert key_of(copied) == key_of(Conv(16))
    for copied in (pickle.loads(pickle.dumps(items)), copy.deepcopy(items), copy.copy(items)):  # noqa: S301 - written on this line
        assert (copied, copied.width) == (items, 8)
        assert key_of(copied) == key_of(ConvTuple(8))
    changed = copy.deepcopy([fields])
    changed[0]["width"] = 32
    assert key_of(changed) == key_of([Conv(32)])
    assert key_of([{**fields}]) == key_of([{"width": 16}])
    assert json.dumps([fields, items]) == '[{"width": 16}, [8, 3]]'
    assert eval(repr(fields)) == fields  # noqa: S307 - the text of this line's own object
    assert eval(repr(items)) == items  # noqa: S307 - the same


def test_enum_members_and_numbers_of_numpy_have_no_class() -> None:
    class Kind(enum.Enum):
        CONV = "conv"
        PAIR = ConvTuple(3)

    assert key_of([Kind.CONV, np.float64(0.5)]) == key_of(["conv", 0.5])
    assert key_of(Kind.PAIR) == key_of(ConvTuple(3))
    assert key_of([collections.OrderedDict(a=1)]) == key_of([{"a": 1}])


class Serialized(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    kind: type = int

    @pydantic.field_serializer("kind")
    def _kind(self, kind: type) -> str:
        return kind.__name__


class Own(pydantic.BaseModel):
    width: int

    @pydantic.model_serializer
    def _own(self) -> dict[str, int]:
        return {"w": self.width}


class OwnText(pydantic.BaseModel):
    width: int

    @pydantic.model_serializer
    def _own(self) -> str:
        return f"width {self.width}"


class Plain(pydantic.BaseModel):
    kind: type = int


class Forgets(Plain):
    def model_dump(self, **_: Any) -> dict[str, Any]:
        return {}


class Dumps:
    """A class that has what pydantic's have."""

    def model_dump(self) -> dict[str, int]:
        return {"width": 16}


class Fails:
    def model_dump(self) -> None:
        raise ValueError("not today")


def test_serializers_of_models_are_used_where_they_say_more() -> None:
    assert back(Serialized(kind=float)) == {"kind": "float"}
    assert back(Serialized(depth=3)) == {"kind": "int", "depth": 3}
    assert back(Own(width=3)) == {"w": 3}
    assert key_of(Own(width=3)) != key_of({"w": 3})
    assert key_of(OwnText(width=3)) == key_of("width 3")
    assert back(Dumps()) == {"width": 16}
    assert key_of(Dumps()) != key_of({"width": 16})
    assert back(pydantic.RootModel[list[int]]([1, 2])) == {"root": [1, 2]}
    for unstorable in (Plain(), Forgets(), Fails()):
        with pytest.raises(TypeError, match="to_arch_spec"):
            encode_architecture(unstorable)


@dataclasses.dataclass
class Mixed(dict):  # type: ignore[type-arg]  # as a user writes it
    width: int = 3


@dataclasses.dataclass
class MixedList(list):  # type: ignore[type-arg]  # as a user writes it
    width: int = 3


def test_a_dataclass_that_is_a_container_too_loses_nothing() -> None:
    mixed = Mixed()
    mixed["depth"] = 4
    assert back(mixed) == {"width": 3, "depth": 4}
    with pytest.raises(TypeError, match="a dataclass that is a list as well"):
        encode_architecture([MixedList()])


class Text(str):
    __slots__ = ()

    def __hash__(self) -> int:
        return 3


def test_two_keys_that_become_one_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"architecture\['x'\]: two keys of the dict are one text"):
        encode_architecture({"x": {Text("a"): Conv(1), "a": 2}})
