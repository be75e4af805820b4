"""Where a new sequence begins."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vps_ros.config import Config
from vps_ros.frame import Frame
from vps_ros.online import SequenceMonitor

SMALL = np.zeros((4, 6, 3), np.uint8)
LARGE = np.zeros((8, 6, 3), np.uint8)


def starts(stamps, config=None, images=None):
    watch = SequenceMonitor(config or Config())
    images = images or [SMALL] * len(stamps)
    return [watch.starts(Frame(image, int(s * 1e9))) for s, image in zip(stamps, images, strict=True)], watch.id


def test_a_steady_drive_is_one_sequence():
    assert starts([0, 0.1, 0.2, 0.3]) == ([False] * 4, 0)


def test_time_that_jumps_back_starts_one():
    assert starts([5, 5.1, 1.0, 1.1]) == ([False, False, True, False], 1)


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
def test_jitter_never_breaks_a_sequence(intervals):
    stamps = np.cumsum(intervals)
    assert not any(starts(stamps, Config(memory_tau=20.0, memory_unit="frames"))[0])
