"""The counts of an evaluation as bytes."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.evaluator import dump_counts, load_counts
from vps_ros.taxonomy import CITYSCAPES


def evaluator(frames, finished):
    """A car that moves over road."""
    found = Evaluator(CITYSCAPES)
    for k in range(frames):
        semantic, instance = np.zeros((20, 60), np.uint8), np.zeros((20, 60), np.uint16)
        semantic[5:15, k % 40 : k % 40 + 10], instance[5:15, k % 40 : k % 40 + 10] = 13, 1
        found.update("drive", semantic, instance, semantic, instance)
    if finished:
        found.finish("drive", timelines=False)
    return found


def test_finished_counts_do_not_grow_with_the_frames():
    short, long = (len(dump_counts(evaluator(n, True))) for n in (30, 300))
    # The integers in them have a few more digits.
    assert long < short + 200 < len(dump_counts(evaluator(300, False))) / 3


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("call", [(os.mkdir, "made"), (Path, "made"), (eval, "1"), (Evaluator, "unknown")])
def test_bytes_of_others_run_no_code(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="^store/a: not the counts of an evaluation by this version"):
        load_counts(pickle.dumps(Call(*call)), "store/a")
    for data in (b"", b"text", pickle.dumps(3), dump_counts(evaluator(2, True))[:-20]):
        with pytest.raises(InputError, match="^store/a: not the counts of an evaluation"):
            load_counts(data, "store/a")
    assert not list(tmp_path.iterdir())
