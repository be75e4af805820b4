"""AP and AR of tracks by hand."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pycocotools", reason="pycocotools is of the [evaluate] extra")

from vps_ros.datasets.rle import from_mask  # noqa: E402
from vps_ros.datasets.youtube_vis import ObjectTrack, ObjectVideo  # noqa: E402
from vps_ros.errors import InputError  # noqa: E402
from vps_ros.evaluation.average_precision import AveragePrecision  # noqa: E402
from vps_ros.taxonomies import YOUTUBE_VIS_2019, YOUTUBE_VIS_2021  # noqa: E402

PERSON, DOG = 1, 8
WIDTH = 12


def row(span, width=WIDTH):
    """A mask of one row, with the pixels from the one number to before the other; None for no mask."""
    if span is None:
        return None
    mask = np.zeros((1, width), bool)
    mask[0, slice(*span)] = True
    return from_mask(mask)


def track(*spans, score=None, kind=PERSON, crowd=False):
    return ObjectTrack(1, kind, tuple(row(s) for s in spans), score, crowd)


def video(*tracks, number=1):
    frames = tuple(f"{i:05d}" for i in range(len(tracks[0].masks))) if tracks else ("00000",)
    return ObjectVideo(number, f"v{number}", frames, 1, WIDTH, tracks)


def precision(*pairs, taxonomy=YOUTUBE_VIS_2019):
    """Of (true tracks, predicted tracks) of some videos."""
    counts = AveragePrecision(taxonomy)
    for number, (gt, pred) in enumerate(pairs, 1):
        counts.update(video(*gt, number=number), video(*pred, number=number))
    return counts.result()


def test_a_prediction_equal_to_the_truth():
    gt = [track((0, 3), None), track((4, 8), (5, 9), kind=DOG)]
    found = precision((gt, [track((0, 3), None, score=0.2), track((4, 8), (5, 9), score=0.9, kind=DOG)]))
    assert found.total == pytest.approx((1, 1, 1, 1, 1), abs=1e-12)
    assert list(found.classes) == ["person", "dog"]
    assert (found.videos, found.tracks, found.predictions) == (1, 2, 2)


def test_pixels_are_summed_over_the_frames_before_they_are_divided():
    # 9 pixels agree in the first frame; in the second one pixel each, apart: 9 / 11, above 7 of the 10 thresholds.
    # The mean of the frames' own IoU would be 1/2.
    found = precision(([track((0, 9), (0, 1))], [track((0, 9), (4, 5), score=1.0)]))
    assert found.total == pytest.approx((0.7, 1, 1, 0.7, 0.7), abs=1e-12)


def test_a_frame_without_mask_counts_for_the_union():
    # Half of the track is found: an IoU of exactly 0.5, which the first threshold takes.
    found = precision(([track((0, 4), (0, 4))], [track((0, 4), None, score=1.0)]))
    assert found.total == pytest.approx((0.1, 1, 0, 0.1, 0.1), abs=1e-12)
    found = precision(([track((0, 4), None)], [track((0, 4), (0, 4), score=1.0)]))
    assert found.total.ap50 == pytest.approx(1)


def test_scores_order_the_predictions():
    right, wrong = track((0, 4), score=0.5), track((8, 10), score=0.9)
    # The wrong one comes first: at every recall the precision is 1/2, and the only one looked at for AR1 is wrong.
    first = precision(([track((0, 4))], [right, wrong]))
    assert first.total == pytest.approx((0.5, 0.5, 0.5, 0, 1), abs=1e-12)
    # The wrong one comes last: full recall is reached before it.
    wrong = track((8, 10), score=0.1)
    assert precision(([track((0, 4))], [wrong, right])).total == pytest.approx((1, 1, 1, 1, 1), abs=1e-12)


def test_a_track_is_found_once():
    twice = [track((0, 4), score=0.9), track((0, 4), score=0.8)]
    one = precision(([track((0, 4)), track((6, 9))], twice))
    # One of two: precision 1 up to recall 1/2, which 51 of the 101 points are.
    assert one.total == pytest.approx((51 / 101, 51 / 101, 51 / 101, 0.5, 0.5), abs=1e-12)


def test_predictions_of_all_videos_are_one_list():
    # Scores 0.9 (wrong), 0.8 (right) and 0.7 (right), of two true tracks: precision 2/3 at every recall.
    pairs = [
        ([track((0, 4))], [track((6, 8), score=0.9), track((0, 4), score=0.7)]),
        ([track((0, 4))], [track((0, 4), score=0.8)]),
    ]
    assert precision(*pairs).total.ap == pytest.approx(2 / 3, abs=1e-12)
    # By the number of predictions of each video: the first one's best is wrong.
    assert precision(*pairs).total.ar1 == 0.5


def test_what_lies_on_a_crowd_is_ignored():
    gt = [track((0, 4)), track((6, 12), crowd=True)]
    on_crowd = [track((6, 12), score=0.9), track((6, 11), score=0.8), track((0, 4), score=0.5)]
    found = precision((gt, on_crowd))
    assert found.total.ap50 == pytest.approx(1)
    assert found.tracks == 1
    # A piece of a crowd is not enough: the IoU is that with any track.
    found = precision((gt, [track((6, 8), score=0.9), track((0, 4), score=0.5)]))
    assert found.total.ap == pytest.approx(0.5)


def test_classes_are_compared_apart_and_those_without_truth_left_out():
    gt = [track((0, 4)), track((6, 9), kind=DOG)]
    found = precision((gt, [track((0, 4), score=0.9), track((6, 9), score=0.9), track((6, 9), score=0.9, kind=40)]))
    assert found.classes["person"].ap == pytest.approx(1)
    assert found.classes["dog"] == (0, 0, 0, 0, 0)
    assert list(found.classes) == ["person", "dog"]
    assert found.total.ap == pytest.approx(0.5)


def test_a_hundred_predictions_are_looked_at():
    wrong = [track((8, 10), score=0.9)] * 99
    right = track((0, 4), score=0.5)
    assert precision(([track((0, 4))], [*wrong, right])).total.ap == pytest.approx(1 / 100)
    assert precision(([track((0, 4))], [*wrong, *wrong[:1], right])).total.ap == 0


def test_sizes_are_of_the_mean_over_the_frames_where_the_track_is_seen():
    def big(side, *more):
        mask = np.zeros((300, 300), bool)
        mask[:side, :side] = True
        return ObjectTrack(1, PERSON, (from_mask(mask), *more), 1.0)

    for side, size in ((127, "small"), (129, "medium"), (257, "large")):
        one = ObjectVideo(1, "v", ("0", "1"), 300, 300, (big(side, None),))
        counts = AveragePrecision(YOUTUBE_VIS_2019)
        counts.update(one, one)
        sizes = counts.result().sizes
        assert sizes.pop(size) == pytest.approx(1)
        assert all(math.isnan(v) for v in sizes.values())


def test_nothing_predicted_and_nothing_there():
    assert precision(([track((0, 4))], [])).total == (0, 0, 0, 0, 0)
    assert precision(([track(None)], [track(None, score=1.0)])).total == (0, 0, 0, 0, 0)
    nothing = precision(([], [track((0, 4), score=1.0)]))
    assert all(math.isnan(v) for v in nothing.total)
    assert nothing.classes == {}


def test_json_holds_the_contract():
    figures = precision(([track((0, 4))], [track((0, 4), score=1.0)])).to_json()
    assert figures.pop("per_class") == {"person": {k: figures[k] for k in ("AP", "AP50", "AP75", "AR1", "AR10")}}
    assert list(figures)[:6] == ["protocol", "AP", "AP50", "AP75", "AR1", "AR10"]
    assert (figures["protocol"], figures["tracks"]) == ("youtube-vis", 1)
    assert "AP_small" in json.dumps(figures)


spans = st.none() | st.tuples(st.integers(0, 5), st.integers(6, WIDTH))
tracks = st.builds(track, spans, spans, kind=st.sampled_from([PERSON, DOG]))
scored = st.builds(track, spans, spans, kind=st.sampled_from([PERSON, DOG]), score=st.sampled_from([0.2, 0.5, 0.9]))
pairs = st.lists(st.tuples(st.lists(tracks, max_size=3), st.lists(scored, max_size=4)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=25)
@given(pairs, st.data())
def test_merging_in_any_split_is_one_pass(some, data):
    parts = [AveragePrecision(YOUTUBE_VIS_2019) for _ in range(3)]
    for number, (gt, pred) in enumerate(some, 1):
        part = parts[data.draw(st.integers(0, 2))]
        part.update(video(*gt, number=number), video(*pred, number=number))
    first = parts[2]
    first.merge(parts[0])
    first.merge(parts[1])
    assert repr(first.result()) == repr(precision(*some))


def test_what_cannot_be_merged():
    counts, same = AveragePrecision(YOUTUBE_VIS_2019), AveragePrecision(YOUTUBE_VIS_2019)
    with pytest.raises(InputError, match="no video was given"):
        counts.result()
    for one in (counts, same):
        one.update(video(track((0, 4))), video())
    with pytest.raises(InputError, match=r"video v1 \(id 1\) is there twice"):
        counts.update(video(track((0, 4))), video())
    with pytest.raises(InputError, match="video 1 is in both"):
        counts.merge(same)
    with pytest.raises(InputError, match="different taxonomies"):
        counts.merge(AveragePrecision(YOUTUBE_VIS_2021))


def test_nothing_is_printed(capsys):
    precision(([track((0, 4))], [track((0, 4), score=1.0)]))
    assert capsys.readouterr().out == ""


def test_without_pycocotools_one_line_says_what_to_install():
    code = (
        "import sys; sys.modules['pycocotools'] = None\n"
        "from vps_ros.errors import InputError\n"
        "from vps_ros.evaluation.average_precision import AveragePrecision\n"
        "from vps_ros.taxonomies import YOUTUBE_VIS_2019\n"
        "try: AveragePrecision(YOUTUBE_VIS_2019)\n"
        "except InputError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "AP and AR need pycocotools" in said and "pip install 'vps_ros[evaluate]'" in said
    assert said.count("\n") == 1
