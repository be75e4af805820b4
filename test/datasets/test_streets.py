"""The generated streets: same seed same bytes, all scenarios and classes, truth and picture agree."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from vps_ros.datasets.streets import SCENARIOS, drive, render
from vps_ros.errors import InputError
from vps_ros.taxonomy import CITYSCAPES

SMALL = (160, 64)


def digest(scenario: str, seed: int, frames: int = 3) -> str:
    total = hashlib.sha256()
    for f in drive(scenario, seed, frames, SMALL):
        for array in (f.frame.image, f.semantic, f.instance):
            total.update(array.tobytes())
        total.update(str(f.frame.stamp).encode())
    return total.hexdigest()


def test_same_seed_gives_the_same_bytes_in_another_process_and_after_other_drives():
    first = digest("cruise", 5)
    digest("crowd", 1)
    assert digest("cruise", 5) == first
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_streets; print(test_streets.digest('cruise', 5))"
    )
    folder = __file__.rsplit("/", 1)[0]
    other = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == first


def test_another_seed_or_scenario_is_another_street():
    assert len({digest("cruise", 5), digest("cruise", 6), digest("crowd", 5)}) == 3


def test_two_drives_may_be_read_in_turn():
    alone = [f.semantic for f in drive("cruise", 2, 3, SMALL)]
    one, two = drive("cruise", 2, 3, SMALL), drive("night", 2, 3, SMALL)
    for expected, f, _ in zip(alone, one, two, strict=True):
        assert np.array_equal(f.semantic, expected)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_renders_what_it_promises(name):
    frames = list(drive(name, 3, 4, SMALL))
    assert len(frames) == 4
    stamps = np.array([f.frame.stamp for f in frames])
    rate = 1e9 / np.diff(stamps)
    low, high = SCENARIOS[name].rate
    assert np.all((rate > low - 0.01) & (rate < high + 0.01))
    for f in frames:
        assert f.frame.image.shape == (64, 160, 3) and f.frame.image.dtype == np.uint8
        assert f.frame.frame_id == "camera"
        assert f.semantic.shape == f.instance.shape == (64, 160)
        assert f.semantic.dtype == np.uint8 and f.instance.dtype == np.uint16
        assert f.semantic.max() <= 18
        things = np.isin(f.semantic, CITYSCAPES.thing_ids)
        assert np.array_equal(f.instance > 0, things)
        assert f.frame.image.std() > 5


def test_night_is_dark_and_turning_turns():
    def brightness(name: str) -> float:
        return float(np.median([next(drive(name, s, 1, SMALL)).frame.image.mean() for s in range(7)]))

    # Of ordinary drives some are dark, too.
    assert brightness("night") < 0.7 * brightness("cruise")

    swept = 0.0
    for seed in range(2):
        axes = np.stack([f.pose[:3, 2] for f in drive("turning", seed, 45, (32, 32))])
        swept += float(np.degrees(np.arccos(np.clip((axes[1:] * axes[:-1]).sum(1), -1, 1))).sum())
    assert swept / 2 > 60


def test_an_instance_keeps_its_class_and_some_leave_and_return():
    returned = 0
    for seed in (0, 1):
        classes: dict[int, int] = {}
        seen: dict[int, list[int]] = {}
        for i, f in enumerate(drive("occlusion", seed, 30, (256, 80))):
            pairs = np.unique(np.stack([f.instance[f.instance > 0], f.semantic[f.instance > 0]]), axis=1).T
            for number, kind in pairs.tolist():
                assert classes.setdefault(number, kind) == kind
                seen.setdefault(number, []).append(i)
        returned += sum(np.any(np.diff(frames) > 1) for frames in seen.values())
    assert returned >= 3


def test_every_class_occurs_often_enough_to_be_learnt():
    drives = np.zeros(19, int)
    n = 0
    for name in ("cruise", "crowd", "occlusion", "turning"):
        for seed in range(10, 14):
            n += 1
            found = np.zeros(19, bool)
            for f in drive(name, seed, 1, (320, 96)):
                found[np.unique(f.semantic)] = True
            drives += found
    shares = {c.name: round(float(drives[c.id] / n), 2) for c in CITYSCAPES.classes}
    assert min(shares.values()) >= 0.04, shares
    for name in ("road", "building", "vegetation", "sky", "car", "person", "pole", "sidewalk"):
        assert shares[name] >= 0.75, shares


def test_picture_and_truth_are_aligned():
    """Where the class changes, the picture has more contrast than two pixels away from there."""
    ratio = []
    for seed in range(3):
        f = next(drive("cruise", seed, 1, (640, 192)))
        grey = f.frame.image.astype(float).mean(-1)
        step = np.abs(grey[:, 1:] - grey[:, :-1])
        border = f.instance[:, 1:].astype(int) != f.instance[:, :-1]
        border[:, :4] = border[:, -4:] = False
        y, x = np.nonzero(border)
        ratio.append([step[y, np.clip(x + k, 0, step.shape[1] - 1)].mean() for k in (-3, 0, 3)])
    left, here, right = np.mean(ratio, axis=0)
    assert here > 1.5 * left and here > 1.5 * right


@pytest.mark.parametrize(
    "arguments, part",
    [
        (("motorway", 0, 1, SMALL), "choose one of cruise"),
        (("cruise", 0, -1, SMALL), "negative"),
        (("cruise", -1, 1, SMALL), "negative"),
        (("cruise", 0, 1, (16, 64)), "16x64"),
        (("cruise", 0, 1, (160, 9000)), "160x9000"),
    ],
)
def test_odd_arguments_are_refused_at_once(arguments, part):
    with pytest.raises(InputError, match=part):
        drive(*arguments)


def test_no_frames_is_an_empty_drive():
    assert list(drive("cruise", 0, 0, SMALL)) == []


def test_odd_sizes_and_a_single_frame_work():
    (f,) = drive("turning", 0, 1, (161, 67))
    assert f.frame.image.shape == (67, 161, 3) and f.semantic.shape == (67, 161)
    assert np.isnan(f.flow).all()


def test_without_panda3d_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "panda3d", None)
    monkeypatch.setattr(render, "_shared", {})
    with pytest.raises(InputError, match=r"need panda3d; pip install \"vps_ros\[demo\]\""):
        next(drive("cruise", 0, 1, SMALL))
