"""Things too small to be labelled: `--least-area` and `--least-height`, with answers worked out by hand."""

import json

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from support.data_sets import DATA_SETS
from support.labelled_bags import scene, tracked_bag, truth_bag
from vps_ros.commands.main import main
from vps_ros.datasets.kitti_step import list_maps, load_map
from vps_ros.datasets.labels import ANY_SIZE, MinimumSize
from vps_ros.datasets.streets import drive
from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator
from vps_ros.taxonomy import CITYSCAPES

ROAD, PERSON, CAR, VOID = 0, 11, 13, 255
SIZE = 10, 20


def maps(*things, size=SIZE):
    """A road with rectangles (class, instance, rows, columns) on it."""
    semantic, instance = np.full(size, ROAD, np.uint8), np.zeros(size, np.uint16)
    for kind, number, rows, columns in things:
        semantic[slice(*rows), slice(*columns)] = kind
        instance[slice(*rows), slice(*columns)] = number
    return semantic, instance


LARGE = (CAR, 1, (2, 6), (2, 7))  # 20 pixels
SMALL = (CAR, 2, (7, 9), (12, 14))  # 4 pixels


def quality(truth, *frames, smallest=ANY_SIZE):
    evaluator = Evaluator(CITYSCAPES, smallest=smallest)
    for prediction in frames:
        evaluator.update("one", *truth, *prediction)
    return evaluator.result()


def test_the_limit_itself_still_counts_and_a_thing_is_a_class_and_an_instance():
    semantic, instance = maps(LARGE, SMALL, (PERSON, 2, (0, 1), (0, 2)))
    for smallest, gone in (
        (MinimumSize(4), [PERSON]),
        (MinimumSize(5), [CAR, PERSON]),
        (MinimumSize(height=2), [PERSON]),
    ):
        kept, numbers = smallest.void_small(semantic, instance, CITYSCAPES)
        void = kept == VOID
        assert sorted(np.unique(semantic[void])) == sorted(gone)
        assert void.sum() == 2 + 4 * (CAR in gone)
        assert not numbers[void].any()
        assert np.array_equal(numbers[~void], instance[~void])
    assert (semantic == VOID).sum() == 0


def test_parts_of_one_thing_count_together_and_crowds_and_stuff_stay():
    """Two pieces of 4 pixels each, rows 0 to 8; a crowd and a patch of sidewalk of one pixel."""
    semantic, instance = maps((CAR, 3, (0, 2), (0, 2)), (CAR, 3, (7, 9), (0, 2)), (CAR, 0, (4, 5), (9, 10)))
    semantic[9, 19] = 1
    assert np.array_equal(MinimumSize(8, 9).void_small(semantic, instance, CITYSCAPES)[0], semantic)
    kept, _ = MinimumSize(9).void_small(semantic, instance, CITYSCAPES)
    assert (kept == VOID).sum() == 8 and kept[4, 9] == CAR and kept[9, 19] == 1
    assert (MinimumSize(height=10).void_small(semantic, instance, CITYSCAPES)[0] == VOID).sum() == 8


def test_a_thing_that_covers_the_end_of_one_row_and_the_start_of_the_next_is_two_rows_high():
    semantic, instance = maps((CAR, 1, (3, 4), (15, 20)), (CAR, 1, (4, 5), (0, 5)))
    assert (MinimumSize(height=3).void_small(semantic, instance, CITYSCAPES)[0] == VOID).sum() == 10
    assert (MinimumSize(height=2).void_small(semantic, instance, CITYSCAPES)[0] == VOID).sum() == 0


def test_figures_with_and_without_a_small_car_that_was_missed():
    """Cars of 20 and 4 pixels, of which the small one is predicted as road; 176 pixels of road."""
    truth, found = maps(LARGE, SMALL), maps(LARGE)
    strict, lenient = quality(truth, found), quality(truth, found, smallest=MinimumSize(5))
    assert strict.classes["car"].pq == pytest.approx(1 / 1.5)
    assert strict.classes["car"].iou == pytest.approx(20 / 24)
    assert (strict.tubes, strict.aq) == (2, 0.5)
    car, road = lenient.classes["car"], lenient.classes["road"]
    assert (car.pq, car.iou, road.pq, road.iou) == (1, 1, 1, 1)
    assert (lenient.tubes, lenient.aq, lenient.vpq.all, lenient.miou, lenient.sq) == (1, 1, 1, 1, 1)
    if strict.identity and lenient.identity:
        assert strict.identity.idf1 == pytest.approx(2 / 3)
        assert (lenient.identity.idf1, lenient.identity.mota, lenient.identity.hota) == (1, 1, 1)


@pytest.mark.parametrize("width, forgiven", [(3, True), (4, False)])
def test_a_prediction_there_is_forgiven_when_more_than_half_of_it_is_void(width, forgiven):
    """A predicted car of 2 x 3 pixels has 4 of 6 on void; one of 2 x 4 has 4 of 8."""
    truth, found = maps(LARGE, SMALL), maps(LARGE, (CAR, 2, (7, 9), (12, 12 + width)))
    report = quality(truth, found, smallest=MinimumSize(5))
    car = report.classes["car"]
    assert (car.tp, car.fp, car.fn) == (1, 0 if forgiven else 1, 0)
    # What lies beside the void is a wrong class all the same.
    beside = 2 * (width - 2)
    assert car.iou == pytest.approx(20 / (20 + beside))
    if report.identity:
        assert report.identity.idf1 == pytest.approx(1 if forgiven else 2 / 3)


def test_stq_counts_what_a_track_covers_on_void_in_its_size_by_deeplab2():
    """A car shows 20 pixels, then 4: void. Its track, right in both frames, has 24, and IoU 20/24 with the tube."""
    evaluator = Evaluator(CITYSCAPES, smallest=MinimumSize(5))
    for thing in (LARGE, (CAR, 1, (7, 9), (12, 14))):
        evaluator.update("one", *maps(thing), *maps(thing))
    report = evaluator.result()
    assert report.aq == pytest.approx(20 / 24)
    assert report.pq.all == report.vpq.all == 1


def test_off_is_strict_to_the_last_byte_and_on_is_named_everywhere(tmp_path, capsys):
    truth = {0: scene(0), 1: scene(1)}
    gt, pred = truth_bag(tmp_path / "gt.mcap", truth), tracked_bag(tmp_path / "pred.mcap", truth)
    common = ["evaluate", "--format", "bag", "--gt", str(gt), "--pred", str(pred), "--json", str(tmp_path / "f.json")]

    def run(*more):
        assert main([*common, "--force", "--html", str(tmp_path / "r.html"), *more]) == 0
        return (tmp_path / "f.json").read_bytes(), (tmp_path / "r.html").read_text(), capsys.readouterr().out

    plain = run()
    assert run("--least-area", "0", "--least-height", "1") == plain
    assert json.loads(plain[0])["protocol"] == "deeplab2"
    figures, page, out = run("--least-area", "1000")
    named = "things under 1000 px of area are void"
    assert json.loads(figures)["protocol"] == f"deeplab2, {named}"
    assert json.loads(figures)["tubes"] == 0
    assert named in page and named in out
    _, page, out = run("--least-area", "9", "--least-height", "4")
    assert "things under 9 px of area or 4 px of height are void" in page
    assert "things under 9 px of area or 4 px of height are void" in out


@pytest.mark.parametrize("name", [name for name in DATA_SETS if name != "vspw"])
def test_every_format_takes_it(name, tmp_path):
    """Of its two things the one of 2 pixels loses its number: without it everything is perfect."""
    data = DATA_SETS[name]
    root = data.build(tmp_path)
    common = ["evaluate", "--format", data.form, "--split", data.split, "--least-area", "3"]
    files = ["--gt", str(root / "gt"), "--pred", str(root / "pred"), "--json", str(root / "f.json")]
    assert main([*common, *files]) == 0
    figures = json.loads((root / "f.json").read_text())
    assert (figures["tubes"], figures["AQ"], figures["VPQ"]["4"]["things"]) == (1, 1, 1)
    assert (figures["IDSW"], figures["IDF1"]) in ((0, 1), (None, None))


def test_synth_leaves_them_out_of_folders_and_bags(tmp_path):
    size, least = (160, 64), MinimumSize(20)
    common = ["synth", "--frames", "2", "--size", "160x64", "--scenario", "crowd", "--seed", "2", "--least-area", "20"]
    assert main([*common, "-o", str(tmp_path / "folder")]) == 0
    assert main([*common, "-o", str(tmp_path / "drive.mcap"), "--format", "bag"]) == 0
    void = 0
    for f, path in zip(drive("crowd", 2, 2, size), list_maps(tmp_path / "folder")["0000"].values(), strict=True):
        semantic, instance = load_map(path)
        expected = least.void_small(f.semantic, f.instance, CITYSCAPES)
        assert np.array_equal(semantic, expected[0]) and np.array_equal(instance, expected[1])
        areas = np.unique(instance[instance > 0].astype(int) * 256 + semantic[instance > 0], return_counts=True)[1]
        assert areas.min() >= 20
        void += int((semantic == VOID).sum())
    assert void > 0
    calibration = json.loads((tmp_path / "folder/calib/0000.json").read_text())
    assert calibration["void"] == "things under 20 px of area are void"
    with AnyReader([tmp_path / "drive.mcap"]) as bag:
        topic = [c for c in bag.connections if c.topic == "/ground_truth/panoptic_ids"]
        ids = [bag.deserialize(data, c.msgtype).data.view(np.int32) for c, _, data in bag.messages(topic)]
    assert np.array_equal(ids[-1].reshape(64, 160) == -1, semantic == VOID)
    assert sum(int((one == -1).sum()) for one in ids) == void


def test_odd_limits_are_refused(tmp_path, capsys):
    with pytest.raises(InputError, match="least height -1: cannot be negative"):
        MinimumSize(height=-1)
    assert main(["synth", "-o", str(tmp_path / "x"), "--least-area", "-2"]) == 2
    assert "least area -2" in capsys.readouterr().err
    files = ["--gt", str(tmp_path), "--pred", str(tmp_path)]
    assert main(["evaluate", "--format", "youtube-vis", *files, "--least-area", "3"]) == 2
    assert "--least-area: does not apply to --format youtube-vis" in capsys.readouterr().err
