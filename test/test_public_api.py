"""`import vps_ros`: what a program finds there, and what it costs."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

import vps_ros as vps
from support import ROOT
from support.films import film


def python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, **options)


def test_every_public_name_is_listed_documented_and_typed():
    assert dir(vps) == sorted([*vps.__all__, "__version__"])
    for name in vps.__all__:
        assert inspect.getdoc(getattr(vps, name)), f"{name} has no docstring"
    # What type checkers see is what there is.
    (typed,) = [
        node
        for node in ast.parse(Path(vps.__file__).read_text()).body
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    assert sorted(alias.name for node in typed.body for alias in node.names) == sorted(vps.__all__)
    for node in typed.body:
        for alias in node.names:
            assert getattr(sys.modules[node.module], alias.name) is getattr(vps, alias.name)
    assert (Path(vps.__file__).parent / "py.typed").is_file()


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="open_film"):
        vps.open_film  # noqa: B018


HEAVY = {"cv2", "onnxruntime", "av", "rosbags", "scipy", "torch"}


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import vps_ros", set()),
        ("import vps_ros.commands.main as m; m._parser([]).format_help()", set()),
        ("import vps_ros.config", {"numpy", "yaml"}),
    ],
)
def test_importing_loads_none_of_the_heavy_libraries(code, allowed):
    heavy = HEAVY | {"numpy", "yaml"} - allowed
    run = python(f"import sys; {code}; print(sorted({heavy!r} & set(sys.modules)))")
    assert run.stdout.strip() == "[]", run.stderr


def readme_program():
    """The first Python block of README: the program that opens a film."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if "open_frames" in block)


def test_the_program_of_the_readme_runs_as_it_stands(tmp_path):
    film(tmp_path / "drive.mp4", 4, rate=25)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{readme_program()}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    with av.open(str(tmp_path / "tracked.mp4")) as video:
        frames = list(video.decode(video=0))
    assert [round(float(f.pts * f.time_base), 3) for f in frames] == [0, 0.04, 0.08, 0.12], "at the film's own speed"
    assert (frames[0].width, frames[0].height) == (96, 64)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drive.mp4", "tracked.mp4"]


def test_bgr_images_become_rgb():
    blue = np.zeros((2, 3, 3), np.uint8)
    blue[..., 0] = 200
    frame = vps.Frame.from_bgr(blue, 5, "front")
    assert (frame.image == [0, 0, 200]).all()
    assert frame.image.flags.c_contiguous
    assert (frame.stamp, frame.frame_id) == (5, "front")
    for wrong in (np.zeros((2, 3), np.uint8), np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 3))):
        with pytest.raises(vps.InputError, match="from_bgr"):
            vps.Frame.from_bgr(wrong, 0)
