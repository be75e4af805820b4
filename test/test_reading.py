"""The strict reader: values that are converted, and the message for each kind of wrong entry."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vps_ros.errors import InputError
from vps_ros.reading import plain, read_as, read_file, read_size


@dataclass(frozen=True)
class Circle:
    TAG: ClassVar[str] = "shape"
    NAMES: ClassVar[tuple[str, ...]] = ("circle", "ring")

    radius: float = field(metadata={"low": 0, "high": 10})
    shape: str = "circle"


@dataclass(frozen=True)
class Square:
    TAG: ClassVar[str] = "shape"
    NAMES: ClassVar[tuple[str, ...]] = ("square",)

    side: int
    shape: str = "square"


@dataclass(frozen=True)
class Picture:
    size: tuple[int, int]
    shapes: tuple[Circle | Square, ...] = ()
    colour: str = field(default="red", metadata={"choices": ("red", "green")})
    mode: Literal["fast", "slow"] = "fast"
    since: float = field(default=0.0, metadata={"name": "from"})
    title: str | None = None


def test_a_mapping_becomes_dataclasses():
    content = {
        "size": [4, 3],
        "shapes": [{"radius": 2}, {"shape": "ring", "radius": 0.5}, {"shape": "square", "side": 7}],
        "from": 5,
        "title": None,
    }
    expected = Picture((4, 3), (Circle(2.0), Circle(0.5, "ring"), Square(7)), since=5.0)
    assert read_as(Picture, content) == expected
    assert isinstance(read_as(Picture, content).since, float)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "content: lacks 'size'"),
        ([], "content: not a mapping of names to values"),
        ({"size": [1, 2], "colours": "red"}, "content: unknown entry 'colours'; did you mean colour?"),
        ({"size": [1, 2], "xyz": 1}, "content: unknown entry 'xyz'; drop it"),
        ({"size": 3}, "size: 3 is not a list"),
        ({"size": [1, 2, 3]}, "size: [1, 2, 3] has 3 entries, not 2"),
        ({"size": [1, 2.5]}, "size[1]: 2.5 is not of type int"),
        ({"size": [1, True]}, "size[1]: True is not of type int"),
        ({"size": [1, 2], "from": "1e-3"}, "from: '1e-3' is not of type float; YAML reads 1e-3 as text, write 1.0e-3"),
        ({"size": [1, 2], "from": float("nan")}, "from: nan is not a finite number"),
        ({"size": [1, 2], "colour": "gren"}, "colour: 'gren' is not one of red, green; did you mean green?"),
        ({"size": [1, 2], "mode": "off"}, "mode: 'off' is not one of fast, slow"),
        ({"size": [1, 2], "shapes": [{"radius": 11}]}, "shapes[0].radius: 11.0 is outside 0..10"),
        ({"size": [1, 2], "shapes": [{"shape": "squar"}]}, "shapes[0]: unknown shape 'squar'; did you mean square?"),
    ],
)
def test_a_wrong_entry_is_named_with_what_is_expected(content, message):
    with pytest.raises(InputError) as error:
        read_as(Picture, content)
    assert str(error.value) == message


def test_a_file_is_named(tmp_path):
    path = tmp_path / "picture.yaml"
    with pytest.raises(InputError, match=r"picture\.yaml: no such file; give the path of a YAML file such as mine"):
        read_file(Picture, path, "mine.yaml")
    path.write_text("size: [1, x]\n")
    with pytest.raises(InputError, match=r"picture\.yaml: size\[1\]: 'x' is not of type int"):
        read_file(Picture, path)
    path.write_text("size: [1, 2\n")
    with pytest.raises(InputError, match=r"picture\.yaml: not readable as YAML"):
        read_file(Picture, path)
    path.write_text("size: [1, 2]\n")
    assert read_file(Picture, path) == Picture((1, 2))


finite = st.floats(0, 10, width=32)
shapes = st.builds(Circle, finite, st.sampled_from(Circle.NAMES)) | st.builds(Square, st.integers())


@given(
    st.builds(
        Picture,
        st.tuples(st.integers(), st.integers()),
        st.lists(shapes, max_size=3).map(tuple),
        st.sampled_from(["red", "green"]),
        st.sampled_from(["fast", "slow"]),
        finite,
        st.none() | st.text(),
    )
)
def test_plain_values_are_read_back_equal(picture):
    assert read_as(Picture, plain(picture)) == picture


@pytest.mark.parametrize("text", ["640", "640x", "0x9", "-4x3", "4x3x2", "axb", "4.0x3"])
def test_a_size_that_is_none(text):
    with pytest.raises(InputError, match="--size .*: write it as WIDTHxHEIGHT"):
        read_size(text, "--size")


def test_a_size():
    assert read_size(" 640X192 ", "--size") == (640, 192)
