import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from morphml_ray.artifacts.checks import check_key
from morphml_ray.checkpoints.names import MAX_NUMBER, ChunkName, Codec, experiment_of, place_of
from morphml_ray.errors import ValidationError

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1, max_size=40)
NUMBERS = st.integers(1, MAX_NUMBER)
CHUNKS = st.builds(
    ChunkName, st.integers(0, MAX_NUMBER), st.binary(min_size=32, max_size=32), st.sampled_from(list(Codec))
)


@given(TEXTS, NUMBERS, CHUNKS)
@example(".", 1, ChunkName(0, bytes(32), Codec.RAW))
@example("..", 1, ChunkName(0, bytes(32), Codec.RAW))
def test_keys_say_what_they_name(text: str, number: int, name: ChunkName) -> None:
    place = place_of(text)
    for key in (place.entry_key(number), place.chunk_key(name)):
        assert check_key(key) == key
        assert key.startswith(place.prefix)
        assert experiment_of(key) == text
    assert place.sequence_of(place.entry_key(number)) == number
    assert place.chunk_of(place.chunk_key(name)) == name
    assert place.chunk_of(place.entry_key(number)) is None
    assert place.sequence_of(place.chunk_key(name)) is None


@given(TEXTS, TEXTS)
def test_two_experiments_share_no_prefix(one: str, other: str) -> None:
    assume(one != other)
    assert not place_of(one).prefix.startswith(place_of(other).prefix)


def test_lesson_38_an_id_sees_nobody_elses_objects() -> None:
    place = place_of("a")
    number, chunk = 7, ChunkName(0, bytes(32), Codec.ZSTD)
    for foreign in ("ab", "A", "a%2Fb", "a "):
        assert place.sequence_of(place_of(foreign).entry_key(number)) is None
        assert place.chunk_of(place_of(foreign).chunk_key(chunk)) is None
    own = place.entry_key(number)
    for stray in (
        *(f"{own}.tmp", own[:-1], own.replace("log/", "log/b/"), own.replace("a/log", "a/b/log"), own[:-1] + "x"),
        *("checkpoints/a/log/" + "0" * 20, f"checkpoints/a/log/{'9' * 20}", own[:-1] + "\u0661", f"x/{own}"),
        *("checkpoints/a/notes.txt", "checkpoints/a/log/", "checkpoints/a", ""),
    ):
        assert place.sequence_of(stray) is None
    key = place.chunk_key(chunk)
    for stray in (f"{key}x", key.removesuffix(".zst") + ".gz", key.replace("chunks/0", "chunks/00"), key.upper()):
        assert place.chunk_of(stray) is None


def test_lesson_39_an_int_is_an_id() -> None:
    assert place_of(7) == place_of("7")
    assert place_of(-7).experiment == "-7"


@pytest.mark.parametrize("refused", ["", "a/b", "/", True, None, 1.5, b"a", "\ud800", "é" * 200])
def test_what_is_no_id_is_refused(refused: object) -> None:
    with pytest.raises(ValidationError):
        place_of(refused)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "key", ["checkpoints/a", "checkpoints//log/1", "other/a/log", "checkpoints/%2F/x", "checkpoints/%61/x"]
)
def test_a_key_of_nobody_belongs_to_nobody(key: str) -> None:
    assert experiment_of(key) is None


@given(st.lists(st.integers(1, 10**7), unique=True))
@example([1_000_000, 999_999])
def test_lessons_32_and_36_keys_of_the_log_sort_as_their_numbers_do(numbers: list[int]) -> None:
    place = place_of("a")
    assert [place.sequence_of(key) for key in sorted(map(place.entry_key, numbers))] == sorted(numbers)
