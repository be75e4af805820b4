"""`vps-ros evaluate --format bag`: recorded predictions against recorded truth, frame by frame by stamp."""

import json
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from support.bags import drive, write
from support.labelled_bags import CAR, GT, ROAD, SKY, panoptic_frame, scene, tracked_bag, truth_bag, writing
from support.worlds import CAR_ID, ROAD_ID, SKY_ID, colour_model, picture
from vps_ros.bag_pairs import open_bags
from vps_ros.commands.main import main
from vps_ros.evaluation import Evaluator
from vps_ros.messages import panoptic
from vps_ros.taxonomy import CITYSCAPES, KITTI_STEP, ClassInfo, Taxonomy

STREET = Taxonomy(
    "my-street",
    (
        ClassInfo(4, "Sky", False, (0, 0, 255)),
        ClassInfo(300, "car", True, (255, 0, 0)),
        ClassInfo(7, "road", False, (9, 9, 9)),
    ),
)
"""Three of the street classes, under ids of their own."""
INTO_STREET = {SKY: 4, CAR: 300, ROAD: 7}


def evaluate(gt, pred, *more):
    return main(["evaluate", "--format", "bag", "--gt", str(gt), "--pred", str(pred), *map(str, more)])


def figures(tmp_path, gt, pred, *more):
    out = tmp_path / "figures.json"
    assert evaluate(gt, pred, "--json", out, "--force", *more) == 0
    return json.loads(out.read_text())


def complaint(capsys):
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vps-ros:")]
    return line


TRUTH = {i: scene(i) for i in range(4)}
FOUND = {i: scene(i, 7 + i // 3) for i in range(4)}
"""The car has another identity in the last frame."""


@pytest.fixture
def bags(tmp_path):
    return truth_bag(tmp_path / "drive.mcap", TRUTH), tracked_bag(tmp_path / "tracked.mcap", FOUND)


def test_figures_are_those_of_the_maps(bags, tmp_path):
    pytest.importorskip("trackeval")
    found = figures(tmp_path, *bags, "--html", tmp_path / "r.html")
    evaluator = Evaluator(CITYSCAPES)
    for i in range(4):
        evaluator.update("drive", *TRUTH[i], *FOUND[i])
    assert found == json.loads(json.dumps(evaluator.result().to_json()))
    # Of the car's 4 frames of 40 pixels, one track has 3 and another 1: (3 * 3/4 + 1 * 1/4) / 4.
    assert found["AQ"] == pytest.approx((3 * 3 / 4 + 1 / 4) / 4, abs=1e-12)
    assert (found["SQ"], found["IDSW"], found["per_sequence"]["drive"]["frames"]) == (1, 1, 4)
    assert "drive/1700000000.000000000" in (tmp_path / "r.html").read_text()


def test_one_bag_may_hold_both(bags, tmp_path):
    with writing(tmp_path / "both.mcap") as labels:
        labels.names()
        for i in range(4):
            labels.panoptic(i, *FOUND[i], ids=True)
            labels.ids(i, *TRUTH[i])
    both = figures(tmp_path, tmp_path / "both.mcap", tmp_path / "both.mcap")
    assert both.pop("per_sequence")["both"]["frames"] == 4
    apart = figures(tmp_path, *bags)
    del apart["per_sequence"]
    assert both == apart


def test_predictions_may_be_numbers_alone(bags, tmp_path):
    pred = tracked_bag(tmp_path / "ids", FOUND, ids=True)
    chosen = "--pred-topic", "/vps/panoptic_ids", "--taxonomy", "cityscapes"
    assert figures(tmp_path, bags[0], pred, *chosen) == figures(tmp_path, *bags)


def test_a_replayed_drive(tmp_path):
    """From the camera to the figures, with a model that knows the colours of its world."""
    pytest.importorskip("trackeval")
    recorded = write(tmp_path / "drive", drive(4))
    model = colour_model(tmp_path / "m.onnx")
    assert main(["replay", str(recorded), "-o", str(tmp_path / "out.mcap"), "--model", str(model)]) == 0
    with writing(tmp_path / "truth.mcap") as labels:
        for i in range(4):
            image = picture({0: (4 + 4 * i, 40), 1: (76, 36)}).astype(int)
            sky, road = (image == (0, 0, 255)).all(-1), (image == (128, 128, 128)).all(-1)
            semantic = np.select([sky, road], [SKY_ID, ROAD_ID], CAR_ID)
            labels.ids(i, semantic, np.where(semantic == CAR_ID, 1 + image[..., 1] // 255, 0))
    found = figures(tmp_path, tmp_path / "truth.mcap", tmp_path / "out.mcap")
    assert found["per_class"]["car"]["TP"] == 8
    assert (found["IDSW"], found["per_class"]["car"]["AQ"] > 0.7) == (0, True)


def test_classes_are_matched_by_their_names(bags, tmp_path, capsys):
    """The truth in the topics of a node, with a taxonomy of its own."""
    with writing(tmp_path / "gt.mcap") as labels:
        for i, (semantic, instance) in TRUTH.items():
            other = np.full(semantic.shape, 255, np.uint16)
            for ours, theirs in INTO_STREET.items():
                other[semantic == ours] = theirs
            labels.panoptic(i, other, instance, "/truth", STREET)
    found = figures(tmp_path, tmp_path / "gt.mcap", bags[1])
    assert list(found["per_class"]) == ["Sky", "road", "car"]
    assert "taxonomy my-street" in capsys.readouterr().out
    assert found["AQ"] == figures(tmp_path, *bags)["AQ"]
    # The other way round, the data set's own classes are those that are compared.
    assert list(figures(tmp_path, bags[1], tmp_path / "gt.mcap")["per_class"]) == [c.name for c in CITYSCAPES.classes]


def test_a_class_that_the_truth_does_not_know(bags, tmp_path, capsys):
    strange = {i: (np.where(s == SKY, 8, s).astype(np.uint8), n) for i, (s, n) in TRUTH.items()}
    with writing(tmp_path / "gt.mcap") as labels:
        labels.names("/truth", STREET)
        for i, (semantic, instance) in TRUTH.items():
            other = np.full(semantic.shape, 255, np.uint16)
            for ours, theirs in INTO_STREET.items():
                other[semantic == ours] = theirs
            labels.panoptic(i, other, instance, "/truth", STREET)
    assert evaluate(tmp_path / "gt.mcap", tracked_bag(tmp_path / "p.mcap", strange)) == 2
    assert "class 'vegetation' (id 8) is not in taxonomy my-street" in complaint(capsys)


def test_truth_without_names_has_the_ids_of_the_prediction(bags, tmp_path, capsys):
    with writing(tmp_path / "gt.mcap") as labels:
        for i, maps in TRUTH.items():
            labels.ids(i, *maps, topic="/annotations")
    assert figures(tmp_path, tmp_path / "gt.mcap", bags[1])["AQ"] == figures(tmp_path, *bags)["AQ"]
    assert "/annotations: names no classes; its ids are read as those of cityscapes" in capsys.readouterr().err
    assert evaluate(tmp_path / "gt.mcap", tmp_path / "gt.mcap", "--pred-topic", "/annotations") == 2
    assert "names its classes; choose theirs with --taxonomy" in complaint(capsys)
    same = "--pred-topic", "/annotations", "--taxonomy", "kitti-step"
    assert figures(tmp_path, tmp_path / "gt.mcap", tmp_path / "gt.mcap", *same)["STQ"] == 1


def test_names_alone_do_not_say_what_is_a_thing(bags, tmp_path, capsys):
    with writing(tmp_path / "p.mcap") as labels:
        for i, maps in FOUND.items():
            labels.ids(i, *maps, topic="/vps/panoptic_ids")
    assert evaluate(bags[0], tmp_path / "p.mcap") == 2
    assert "does not say which classes are things; choose a taxonomy with --taxonomy (kitti-step, cityscapes)" in (
        complaint(capsys)
    )
    assert figures(tmp_path, bags[0], tmp_path / "p.mcap", "--taxonomy", "cityscapes")["IDSW"] == 1


def test_segments_may_leave_their_taxonomy_without_a_name(bags, tmp_path, capsys):
    """Another publisher names the classes and says which are things, but not whose list they are from."""
    nameless = Taxonomy("", CITYSCAPES.classes)
    pred = tracked_bag(tmp_path / "nameless.mcap", FOUND, taxonomy=nameless)
    gt = tracked_bag(tmp_path / "truth.mcap", TRUTH, taxonomy=nameless, namespace=GT)
    found = figures(tmp_path, gt, pred)
    assert (found["SQ"], found["IDSW"]) == (1, 1)
    assert "taxonomy own" in capsys.readouterr().out


def test_the_taxonomy_is_chosen(bags, tmp_path):
    truck = {i: (np.where(s == CAR, 14, s).astype(np.uint8), n) for i, (s, n) in TRUTH.items()}
    gt, pred = truth_bag(tmp_path / "a.mcap", truck), tracked_bag(tmp_path / "b.mcap", truck)
    assert figures(tmp_path, gt, pred)["tubes"] == 1
    assert figures(tmp_path, gt, pred, "--taxonomy", "kitti-step")["tubes"] == 0
    own = tracked_bag(tmp_path / "c.mcap", {i: scene(i) for i in range(4)}, taxonomy=KITTI_STEP, namespace="/truth")
    assert figures(tmp_path, own, bags[1])["per_class"]["truck"]["thing"] is False, "the truth says what is a thing"


def test_cameras_are_sequences_of_their_own(tmp_path, capsys):
    with writing(tmp_path / "both") as labels:
        for i in range(3):
            for camera, track in (("front", 5), ("rear", 6)):
                labels.ids(i, *scene(i, 1), topic=f"{GT}/{camera}/panoptic_ids")
                labels.panoptic(i, *scene(i, track), namespace=f"/vps/{camera}")
            labels.panoptic(i, *scene(i), namespace="/vps/roof")
    found = figures(tmp_path, tmp_path / "both", tmp_path / "both")
    assert list(found["per_sequence"]) == ["front", "rear"]
    assert (found["tubes"], found["STQ"], found["frames"]) == (2, 1, 6)
    assert "/vps/roof/panoptic belongs to a camera without ground truth and is left out" in capsys.readouterr().err
    one = figures(tmp_path, tmp_path / "both", tmp_path / "both", "--gt-topic", f"{GT}/rear/panoptic_ids")
    assert list(one["per_sequence"]) == ["rear"]
    assert evaluate(tmp_path / "both", tmp_path / "both", "--pred-topic", "/vps/roof/panoptic") == 2
    assert "no prediction for /ground_truth/front/panoptic_ids" in complaint(capsys)


def test_stamps_without_partner(bags, tmp_path, capsys):
    gt = bags[0]
    pred = tracked_bag(tmp_path / "p.mcap", {i: scene(i, 7) for i in (0, 1, 2, 9)})
    assert evaluate(gt, pred, "--json", tmp_path / "f.json", "--html", tmp_path / "r.html") == 2
    line = complaint(capsys)
    assert f"{pred}: /vps/panoptic: no prediction for 1 frame(s): 1700000000.300000000; predict them, or pass" in line
    assert not (tmp_path / "f.json").exists() and not (tmp_path / "r.html").exists()
    found = figures(tmp_path, gt, pred, "--allow-missing")
    # 3 of 4 frames of a tube, and as many pixels again without truth: 120 * 120 / (160 + 160 - 120) / 160.
    assert found["AQ"] == pytest.approx(120 * 120 / 200 / 160, abs=1e-12)
    assert found["frames"] == 5
    said = capsys.readouterr().err
    assert "no ground truth for 1 frame(s): 1700000000.900000000; counted as void" in said
    assert "2 frame(s) that are missing on one side were counted as void" in said
    assert evaluate(gt, tracked_bag(tmp_path / "q.mcap", {50: scene(0)})) == 2
    assert "no stamp in common" in complaint(capsys)


def test_predictions_side_by_side(bags, tmp_path, capsys):
    gt, pred = bags
    good = tracked_bag(tmp_path / "good.mcap", TRUTH)
    both = figures(tmp_path, gt, pred, "--pred", good, "--html", tmp_path / "r.html")["predictions"]
    assert list(both) == ["tracked.mcap", "good.mcap"]
    assert both["tracked.mcap"] == figures(tmp_path, gt, pred)
    assert both["good.mcap"]["STQ"] == 1


def test_messages_may_be_recorded_a_little_out_of_order(tmp_path, capsys):
    def recorded(path, order):
        with writing(path) as labels:
            labels.names()
            for at, i in enumerate(order):
                labels.ids(i, *scene(i % 4), at=at)
        return path

    pred = tracked_bag(tmp_path / "p.mcap", {i: scene(i % 4) for i in range(70)})
    mixed = recorded(tmp_path / "a.mcap", [2, 0, 1, *range(3, 70)])
    assert figures(tmp_path, mixed, pred)["STQ"] == 1
    late = recorded(tmp_path / "b.mcap", [*range(1, 70), 0])
    assert evaluate(late, pred) == 2
    assert "/ground_truth/panoptic_ids is recorded out of order" in complaint(capsys)


def test_frames_come_in_order_and_few_are_in_memory(tmp_path):
    big = {i: scene(i % 20, size=(64, 256)) for i in range(200)}
    gt, pred = truth_bag(tmp_path / "gt.mcap", big), tracked_bag(tmp_path / "p.mcap", big)
    with open_bags(gt, pred) as pairs:
        assert len(pairs) == 200
        tracemalloc.start()
        names = []
        for pair in pairs:
            names.append(pair.frame)
            pair.gt.read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [p.frame for p in pairs] == names, "they can be gone through again"
    assert all(a < b for a, b in pairwise(names))
    # The labels are 20 MB; a chunk of each file and a frame are in memory at once.
    assert peak < 10_000_000, peak


def test_damaged_and_foreign_bags(bags, tmp_path, capsys):
    gt, pred = bags

    def refused(words, gt=gt, pred=pred, *more):
        assert evaluate(gt, pred, "--json", tmp_path / "f.json", *more) == 2
        line = complaint(capsys)
        assert words in line and "\n" not in line
        assert not (tmp_path / "f.json").exists()

    def spoiled(name, spoil):
        with writing(tmp_path / name) as labels:
            for i, maps in FOUND.items():
                labels.panoptic(i, *maps)
            spoil(labels)
        return tmp_path / name

    refused("nowhere.mcap: no such file", pred=tmp_path / "nowhere.mcap")
    (tmp_path / "text.mcap").write_text("hello")
    refused("text.mcap: is not a bag", gt=tmp_path / "text.mcap")
    camera = write(tmp_path / "camera", drive(2))
    refused("camera: no topic with labels; expected panoptic (mono16)", pred=camera)
    refused("/camera/image_raw is rgb8; labels are mono16 or 32SC1", camera, pred, "--gt-topic", "/camera/image_raw")
    refused("no topic /vps/x; topics with labels are /vps/panoptic", gt, pred, "--pred-topic", "/vps/x")
    refused("/vps/segments is vps_ros/msg/PanopticSegments, not an", gt, pred, "--pred-topic", "/vps/segments")
    refused("holds labels on /vps/panoptic only", pred, pred)
    refused("--split: does not apply to --format bag", gt, pred, "--split", "val")
    refused(
        "p2.mcap: several topics with labels; choose with --pred-topic: /other/panoptic, /vps/panoptic",
        pred=spoiled("p2.mcap", lambda out: out.panoptic(0, *scene(0), namespace="/other")),
    )
    refused(
        "/vps/panoptic has 1 stamp(s) more than once: 1700000000.000000000",
        pred=spoiled("p3.mcap", lambda out: out.panoptic(0, *scene(0))),
    )
    larger = tracked_bag(tmp_path / "p4.mcap", {i: scene(i, size=(12, 40)) for i in range(4)})
    refused("/vps/panoptic at 1700000000.000000000: its size 40x12 is not that of", pred=larger)
    unknown = truth_bag(tmp_path / "g.mcap", TRUTH | {3: (np.full((12, 32), 44, np.uint8), TRUTH[3][1])})
    refused("/ground_truth/panoptic_ids at 1700000000.300000000: class id 44 is not one of", gt=unknown)


def test_a_recording_that_was_cut_off(bags, tmp_path, capsys):
    """What is left of it is compared where that is asked for, and what is lost is said."""
    path = tmp_path / "cut.mcap"
    with writing(path, compress=False) as labels:
        for i, maps in FOUND.items():
            labels.panoptic(i, *maps)
    data = path.read_bytes()
    stamp = (1_700_000_000_300_000_000).to_bytes(8, "little")
    # The chunk tells its last stamp before its messages do.
    path.write_bytes(data[: data.index(stamp, data.index(stamp) + 1)])
    assert evaluate(bags[0], path, "--json", tmp_path / "f.json") == 2
    line = complaint(capsys)
    assert "no prediction for 1 frame(s): 1700000000.300000000" in line
    assert f"--allow-missing to count them as void; {path}: " in line, "why they are missing"
    assert figures(tmp_path, bags[0], path, "--allow-missing")["frames"] == 4
    assert f"warning: {path}: " in capsys.readouterr().err


def test_images_that_do_not_hold_what_they_say(bags, tmp_path, capsys):
    def refused(words, spoil):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.mcap"
        with writing(path) as labels:
            for i in range(3):
                labels.panoptic(i, *FOUND[i])
            spoil(labels, panoptic_frame(3, *FOUND[3]))
        assert evaluate(bags[0], path, "--json", tmp_path / "f.json") == 2
        assert words in complaint(capsys)
        assert not (tmp_path / "f.json").exists()
        return path

    def write_spoiled(change, topics=("panoptic", "segments")):
        def spoil(labels, frame):
            made = {
                "panoptic": panoptic.panoptic(frame),
                "segments": panoptic.segments(frame, CITYSCAPES),
            }
            change(made)
            for topic in topics:
                labels.bag.write(f"/vps/{topic}", made[topic], frame.stamp)

        return spoil

    def cut(made):
        made["panoptic"].data = made["panoptic"].data[:100]

    def recoded(made):
        made["panoptic"].encoding = "16UC1"

    def undescribed(made):
        made["segments"].segments = made["segments"].segments[:1]

    at = "/vps/panoptic at 1700000000.300000000"
    refused(f"{at}: image of 32x12 mono16 needs rows of at least 64 bytes", write_spoiled(cut))
    refused(f"{at}: image is 32x12 '16UC1', not 'mono16'", write_spoiled(recoded))
    refused(f"{at}: image shows segment 11", write_spoiled(undescribed))
    words = "/vps/panoptic: no segments beside 1 frame(s): 1700000000.300000000; record both topics"
    alone = refused(words, write_spoiled(lambda made: None, ("panoptic",)))
    assert figures(tmp_path, bags[0], alone, "--allow-missing")["frames"] == 4
