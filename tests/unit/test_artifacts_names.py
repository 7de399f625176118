from pathlib import PurePosixPath

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from morphml_ray.artifacts.checks import check_folder, check_key, check_prefix
from morphml_ray.artifacts.local.names import decode_segment, encode_folder, encode_key, read_name
from morphml_ray.artifacts.s3.metadata import decode_metadata, encode_metadata
from morphml_ray.errors import ValidationError

SEGMENTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\\ufffe\uffff"), min_size=1)
KEYS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)


def is_key(text: str) -> bool:
    try:
        check_key(text)
    except ValidationError:
        return False
    return True


def read_key(folders: list[str], name: str, *, is_folding: bool) -> str:
    segments, text = [], ""
    for folder in folders:
        found = read_name(folder, is_directory=True)
        assert found is not None
        text += found.text
        if found.kind == "folder":
            segments.append(decode_segment(text, is_folding=is_folding))
            text = ""
    segments.append(decode_segment(text + name, is_folding=is_folding))
    return "/".join(segment or "?" for segment in segments)


@given(key=KEYS, is_folding=st.booleans())
@example(key="%41/%/+/a+/%-", is_folding=False)
@example(key="é" * 500, is_folding=True)
@example(key="A/a", is_folding=True)
def test_a_key_comes_back_from_its_names(key: str, is_folding: bool) -> None:
    assume(is_key(key))
    folders, name = encode_key(key, is_folding=is_folding)
    assert read_key(folders, name, is_folding=is_folding) == key
    for one in (*folders, name):
        assert PurePosixPath(one).name == one
        assert 0 < len(one.encode()) <= 255
    assert not name.endswith("+")
    assert all(folder.endswith(("+", "%-")) for folder in folders)
    above = key.rpartition("/")[0]
    assert folders[: len(encode_folder(above, is_folding=is_folding))] == encode_folder(above, is_folding=is_folding)


@given(KEYS, KEYS)
def test_two_keys_have_two_files(one: str, other: str) -> None:
    assume(is_key(one) and is_key(other) and one != other)
    for is_folding in (False, True):
        assert encode_key(one, is_folding=is_folding) != encode_key(other, is_folding=is_folding)


@given(st.text())
def test_keys_are_relative_paths(text: str) -> None:
    assume(is_key(text))
    assert not text.startswith("/")
    assert ".." not in text.split("/")
    assert "\0" not in text
    assert len(text.encode()) <= 1024
    assert check_prefix(text) == check_folder(text) == check_folder(text + "/") == text


@pytest.mark.parametrize("name", ["a%", "%2f", "%2F", "%C3", "%61", "a%2B", "", ".", "..", "%5C", "%00"])
def test_names_of_others_are_no_segments(name: str) -> None:
    assert decode_segment(name, is_folding=False) is None or name == "a%2B"


METADATA = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    max_size=4,
)


@given(METADATA, st.none() | st.integers(0, 2**32 - 1))
def test_metadata_survive_headers(metadata: dict[str, str], crc: int | None) -> None:
    headers = encode_metadata(metadata, crc, "id-1")
    for name, value in headers.items():
        assert name == name.lower()
        assert (name + value).isascii()
        assert value.isprintable()
        assert value == " ".join(value.split())
        assert value
    assert decode_metadata({name.title(): value for name, value in headers.items()}) == (metadata, crc, "id-1")


def test_metadata_of_others_are_read() -> None:
    found = decode_metadata({"Plain": "x", "morphml-json": "[1]", "morphml-crc32": "?", "word": "=?nothing?q?=41?="})
    assert found == ({"plain": "x", "word": "=?nothing?q?=41?="}, None, None)


def test_metadata_are_no_more_than_s3_takes() -> None:
    encode_metadata({"a": "x" * 1900}, 1, "id")
    with pytest.raises(ValidationError, match="of the 2048"):
        encode_metadata({"a": "ü" * 400}, 1, "id")
