"""Where a new sequence begins."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vps_ros.config import Config
from vps_ros.frame import Frame
from vps_ros.sequence import FrameIntervals, SequenceMonitor

SMALL = np.zeros((4, 6, 3), np.uint8)
LARGE = np.zeros((8, 6, 3), np.uint8)


def starts(stamps, config=None, images=None):
    watch, memory = SequenceMonitor(), (config or Config()).tracker_parameters
    rule = memory.memory_tau, memory.memory_unit == "seconds"
    images = images or [SMALL] * len(stamps)
    found = [watch.starts(Frame(image, int(s * 1e9)), *rule) for s, image in zip(stamps, images, strict=True)]
    return found, watch.id


def test_a_steady_drive_is_one_sequence():
    assert starts([0, 0.1, 0.2, 0.3]) == ([False] * 4, 0)


def test_time_that_jumps_back_starts_one():
    assert starts([5, 5.1, 1.0, 1.1]) == ([False, False, True, False], 1)


@pytest.mark.parametrize("kind", [np.uint64, np.uint32, np.int32])
def test_integers_of_numpy_do_not_overflow(kind):
    watch = SequenceMonitor()
    stamps = kind([2_000_000_000, 100_000_000, 200_000_000])
    assert [watch.starts(Frame(SMALL, stamp), 3.0, False) for stamp in stamps] == [False, True, False]


def test_a_repeated_stamp_does_not():
    assert starts([5, 5.0, 5.1]) == ([False] * 3, 0)


def test_a_new_size_starts_one():
    assert starts([0, 0.1, 0.2], images=[SMALL, LARGE, LARGE]) == ([False, True, False], 1)


def test_a_gap_longer_than_the_memory_in_seconds():
    config = Config(memory_tau=2.0, memory_unit="seconds")
    assert starts([0, 0.1, 2.05, 4.2], config) == ([False, False, False, True], 1)


def test_a_gap_longer_than_the_memory_in_frames():
    config = Config(memory_tau=3.0, memory_unit="frames")
    # At 10 Hz a memory of 3 frames is outlived by more than four intervals without a frame.
    assert starts([0, 0.1, 0.2, 0.6], config) == ([False] * 4, 0)
    assert starts([0, 0.1, 0.2, 0.7], config) == ([False, False, False, True], 1)


@given(st.lists(st.floats(0.01, 0.19), min_size=2, max_size=40))
def test_uneven_intervals_never_break_a_sequence(intervals):
    stamps = np.cumsum(intervals)
    assert not any(starts(stamps, Config(memory_tau=20.0, memory_unit="frames"))[0])


@given(st.lists(st.floats(-0.0499, 0.0499), min_size=2, max_size=40))
@example([0.0499, -0.0499] * 10)
@example([-0.0499, 0.0499] * 10)
def test_jitter_below_half_an_interval_never_breaks_a_sequence(jitter):
    """Of a camera at 10 Hz, whose images may come in pairs."""
    stamps = 0.1 * np.arange(len(jitter)) + jitter
    assert not any(starts(stamps, Config(memory_tau=3.0))[0])


def test_a_gap_as_long_as_the_memory_does_not_depend_on_milliseconds():
    config = Config(memory_tau=3.0)
    for late in (-0.002, 0.0, 0.002):
        assert starts([0, 0.1, 0.2, 0.6 + late], config)[1] == 0
        assert starts([0, 0.1, 0.2, 0.7 + late], config)[1] == 1


@pytest.mark.parametrize(
    ("intervals", "usual"),
    [
        ([], 0),
        ([100], 100),
        ([2, 98], 98),
        ([98, 2, 98], 98),
        ([100, 100, 100, 3000], 100),
        ([2, 98, 2, 98, 2], 98),
        ([100, 100, 100, 100, 50, 50, 50, 50, 50], 50),
        ([100, 0, 0, 100], 100),
    ],
)
def test_the_usual_interval(intervals, usual):
    known = FrameIntervals()
    for milliseconds in np.cumsum([5, *intervals]):
        known.add(int(milliseconds) * 1_000_000)
    assert known.usual == usual * 1_000_000
