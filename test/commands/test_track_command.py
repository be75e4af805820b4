"""`vps-ros track`: per-frame panoptic maps in, maps with identities out."""

import json

import cv2
import numpy as np
import pytest

from support.track_folders import (
    PERSON,
    ROAD,
    TRUCK,
    VOID,
    content,
    describe,
    ids,
    make_folders,
    process,
    rename,
    save_frame,
    street,
    track,
)
from vps_ros.commands.main import main
from vps_ros.config import TRACKERS, Config
from vps_ros.datasets.kitti_step import list_maps, load_map, save_map
from vps_ros.datasets.rle import from_json
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.pairs import evaluate_pairs, pair_frames
from vps_ros.frame import Frame, Segmentation
from vps_ros.taxonomies import YOUTUBE_VIS_2021
from vps_ros.taxonomy import CITYSCAPES
from vps_ros.trackers import make_tracker
from vps_ros.trackers.colour_histogram import with_appearance


@pytest.fixture
def folders(tmp_path):
    return make_folders(tmp_path)


def test_identities_last_and_begin_at_one_in_each_sequence(folders, capsys):
    assert track(folders, "--json", folders / "f.json") == 0
    for sequence in ("0002", "0006"):
        found = ids(folders, sequence)
        assert [set(frame) for frame in found] == [{1, 2, 3, 4}] * 5
        assert len({tuple(sorted((n, c) for n, (c, _) in frame.items())) for frame in found}) == 1
        for name, path in list_maps(folders / "maps")[sequence].items():
            given, written = load_map(path), load_map(folders / f"out/{sequence}/{name}.png")
            assert (given[0] == written[0]).all()
            # What was one object in a frame still is, and only that.
            pairs = np.unique(np.stack([given[1].ravel(), written[1].ravel()]), axis=1)
            assert pairs.shape[1] == 5
    figures = json.loads((folders / "f.json").read_text())
    assert list(figures) == ["frames", "tracks", "fps", "latency_ms", "dropped"]
    assert list(figures["latency_ms"]) == ["p50", "p99", "segment", "flow", "track", "other"]
    assert (figures["frames"], figures["tracks"], figures["dropped"]) == (10, 8, 0)
    assert "hierarchical" in capsys.readouterr().out


def test_the_objects_of_each_sequence_are_a_video_of_youtube_vis(folders):
    assert track(folders, "--youtube-vis", folders / "r.json", "--video-id", 5) == 0
    rows = json.loads((folders / "r.json").read_text())
    assert sorted({row["video_id"] for row in rows}) == [5, 6]
    for video, sequence in ((5, "0002"), (6, "0006")):
        maps = [load_map(path) for path in list_maps(folders / "out")[sequence].values()]
        objects = [row for row in rows if row["video_id"] == video]
        assert len(objects) == 4
        for number, row in enumerate(objects, 1):
            name = YOUTUBE_VIS_2021.class_name(row["category_id"])
            for mask, (semantic, instance) in zip(row["segmentations"], maps, strict=True):
                np.testing.assert_array_equal(from_json(mask, "r.json").mask(), instance == number)
                assert {CITYSCAPES.class_name(int(c)) for c in semantic[instance == number]} == {name}


@pytest.mark.parametrize("tracker", TRACKERS)
def test_what_instances_are_called_does_not_matter(folders, tracker):
    flags = "--tracker", tracker, "--taxonomy", "cityscapes"
    assert track(folders, *flags) == 0
    rng = np.random.default_rng(1)
    for paths in list_maps(folders / "maps").values():
        for path in paths.values():
            semantic, instance = load_map(path)
            save_map(path, semantic, rename(instance, rng, 4))
    assert track(folders, *flags, out="again") == 0
    assert content(folders / "out") == content(folders / "again")


def naive(image, semantic, instance, rng):
    """Segmentation with things in random order, mask by mask."""
    names = [(c, n) for c in CITYSCAPES.thing_ids for n in np.unique(instance[semantic == c]) if n]
    names = [names[i] for i in rng.permutation(len(names))]
    stuff = [(c, None) for c in np.unique(semantic) if c not in (*CITYSCAPES.thing_ids, VOID)]
    labels = np.zeros(semantic.shape, np.uint16)
    boxes = []
    for k, (class_id, number) in enumerate([*names, *stuff], 1):
        mask = (semantic == class_id) & ((instance == number) if number else True)
        labels[mask] = k
        y, x = np.nonzero(mask)
        boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
    count = len(boxes)
    return Segmentation(
        labels,
        np.array([c for c, _ in [*names, *stuff]], np.int32),
        np.arange(count) < len(names),
        np.ones(count, np.float32),
        np.bincount(labels.ravel(), minlength=count + 1)[1:],
        np.array(boxes, np.float32),
    )


def quality(truth, prediction):
    evaluator = Evaluator(CITYSCAPES)
    for _ in evaluate_pairs(pair_frames(truth, prediction), evaluator):
        pass
    return evaluator.result()


def test_round_trip_of_generated_drives(tmp_path):
    """synth, identities taken away, track, evaluate, as a user runs them; ids are those of the library's tracker."""
    drives, stripped = tmp_path / "streets", tmp_path / "stripped"
    assert process("synth", "-o", drives, "--sequences", 2, "--frames", 20, "--size", "416x128").returncode == 0
    rng = np.random.default_rng(5)
    for sequence, paths in list_maps(drives).items():
        for path in paths.values():
            semantic, instance = load_map(path)
            save_map(stripped / sequence / path.name, semantic, rename(instance, rng))
    flags = ["--taxonomy", "cityscapes", "--hz", 10, "--json", tmp_path / "f.json"]
    run = process("track", "--images", drives, "--segmentation", stripped, "-o", tmp_path / "out", *flags)
    assert run.returncode == 0, run.stderr
    judged = process("evaluate", "--format", "kitti-step", "--taxonomy", "cityscapes", "--gt", drives,
                     "--pred", tmp_path / "out", "--json", tmp_path / "judged.json")  # fmt: skip
    assert judged.returncode == 0, judged.stderr
    judged = json.loads((tmp_path / "judged.json").read_text())
    assert judged["SQ"] == judged["PQ"]["all"] == 1
    assert judged["AQ"] > 0.6
    assert judged["AQ"] > 2 * quality(drives, stripped).aq
    tracks = 0
    for sequence, paths in list_maps(stripped).items():
        tracker = make_tracker(Config())
        for index, (name, path) in enumerate(paths.items()):
            semantic, instance = load_map(path)
            image = cv2.imread(str(drives / f"images/{sequence}/{name}.png"))[..., ::-1]
            frame = Frame(np.ascontiguousarray(image), 10**9 + index * 10**8)
            segmentation = with_appearance(frame, naive(image, semantic, instance, rng))
            expected = np.zeros(instance.shape, np.uint16)
            known = tracker.step(frame, segmentation)
            for one in known:
                if one.index >= 0:
                    expected[segmentation.map == one.index + 1] = one.track_id
            assert (load_map(tmp_path / f"out/{sequence}/{name}.png")[1] == expected).all()
        tracks += max(one.track_id for one in known)
    assert json.loads((tmp_path / "f.json").read_text())["tracks"] >= tracks


def test_crowd_stays_crowd_and_stuff_has_no_instances(folders, capsys):
    for path in list_maps(folders / "maps")["0002"].values():
        semantic, instance = load_map(path)
        instance[semantic == PERSON] = 0
        semantic[20:24, 150:155], instance[20:24, 150:155] = TRUCK, 9
        save_map(path, semantic, instance)
    assert track(folders) == 0
    assert [set(frame) for frame in ids(folders)] == [{1, 2, 3}] * 5
    semantic, instance = load_map(folders / "out/0002/000000.png")
    assert (semantic == PERSON).sum() == 5 * 14
    assert not instance[np.isin(semantic, (PERSON, TRUCK, VOID, ROAD))].any()
    said = capsys.readouterr().err
    assert "things with instance 0 are crowd and were not tracked (person in 5 frame(s))" in said
    assert "stuff had instances, which were dropped (truck in 5 frame(s))" in said
    assert track(folders, "--taxonomy", "cityscapes", out="all") == 0
    assert [set(frame) for frame in ids(folders, out="all")] == [{1, 2, 3, 4}] * 5


def test_an_object_in_pieces_is_one_object(folders):
    for path in list_maps(folders / "maps")["0002"].values():
        semantic, instance = load_map(path)
        semantic[:, 60:63] = 5  # a pole in front
        save_map(path, semantic, np.where(semantic == 5, 0, instance))
    assert track(folders) == 0
    assert [set(frame) for frame in ids(folders)] == [{1, 2, 3, 4}] * 5


def test_jobs_and_repetition_change_nothing(folders):
    for out, jobs in (("one", 1), ("three", 3), ("again", 3)):
        assert track(folders, "--jobs", jobs, out=out) == 0
    assert content(folders / "one") == content(folders / "three") == content(folders / "again")


def test_parameters_reach_the_tracker(folders):
    assert track(folders, "--memory-tau", 0, "--tracker", "location") == 0
    assert [set(frame) for frame in ids(folders)] == [set(range(4 * i + 1, 4 * i + 5)) for i in range(5)]
    assert json.loads((folders / "out/track.json").read_text())["tracker"] == "location"
    (folders / "p.yaml").write_text("tracker: iou\n")
    assert track(folders, "--config", folders / "p.yaml", out="yaml") == 0
    assert json.loads((folders / "yaml/track.json").read_text())["tracker"] == "iou"


def test_frames_come_in_natural_order(tmp_path):
    for i in range(12):
        save_frame(tmp_path, "a", f"frame{i}", *street(i))
    assert track(tmp_path) == 0
    assert [set(frame) for frame in ids(tmp_path, "a")] == [{1, 2, 3, 4}] * 12


def test_layouts_people_have(folders):
    """KITTI's own folders: images of all sequences together, maps in splits; grey and JPEG images are read too."""
    (folders / "kitti/training").mkdir(parents=True)
    (folders / "images").rename(folders / "kitti/training/image_02")
    for path in sorted((folders / "kitti").rglob("*.png")):
        image = cv2.imread(str(path))
        if "0006" in str(path):
            path.unlink()
            cv2.imwrite(str(path.with_suffix(".jpg")), image)
        else:
            cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.uint16) * 257)
    for split, sequence in (("train", "0002"), ("val", "0006")):
        (folders / f"step/panoptic_maps/{split}").mkdir(parents=True)
        (folders / f"maps/{sequence}").rename(folders / f"step/panoptic_maps/{split}/{sequence}")
    run = process("track", "--images", folders / "kitti/training", "--segmentation", folders / "step", "--split", "val",
                  "-o", folders / "out")  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "1 sequence(s) without maps left out: 0002" in run.stderr
    assert list(list_maps(folders / "out")) == ["0006"]
    every = ["--images", folders / "kitti/training", "--segmentation", folders / "step", "-o", folders / "all"]
    assert main(["track", *map(str, every)]) == 0
    assert [set(frame) for frame in ids(folders, "0002", "all")] == [{1, 2, 3, 4}] * 5


# Embeddings


def test_embeddings_decide_and_their_order_does_not(folders):
    """The whole street jumps by 47 px a frame, about as far as one car is from the next: only appearance can tell."""
    rng = np.random.default_rng(2)
    for sequence in ("0002", "0006"):
        for i in range(5):
            image, semantic, instance = (np.roll(a, 47 * i, axis=1) for a in street(i))
            save_frame(folders, sequence, f"{i:06d}", image, semantic, rename(instance, rng))
    describe(folders, "vectors", 47)
    describe(folders, "shuffled", 47, rng)
    assert track(folders, "--tracker", "appearance", "--embeddings", folders / "vectors") == 0
    for paths in list_maps(folders / "out").values():
        instances = [load_map(path)[1] for path in paths.values()]
        truths = [np.roll(street(i)[2], 47 * i, axis=1) for i in range(5)]
        pairs = [np.unique(np.stack([truths[i].ravel(), instances[i].ravel()]), axis=1) for i in range(5)]
        assert pairs[0].shape == (2, 5)
        assert all((p == pairs[0]).all() for p in pairs)
    assert track(folders, "--tracker", "appearance", "--embeddings", folders / "shuffled", out="again") == 0
    assert content(folders / "out") == content(folders / "again")


def test_embeddings_beside_the_maps(folders):
    describe(folders, "maps")
    describe(folders, "vectors")
    assert track(folders, "--embeddings", folders / "vectors") == 0
    assert track(folders, "--embeddings", folders / "maps", out="beside") == 0
    assert content(folders / "out") == content(folders / "beside")
    assert json.loads((folders / "out/track.json").read_text())["embeddings"] is True


def test_lookahead_keeps_objects_and_writes_the_same_bytes_for_any_jobs(folders):
    assert track(folders, "--lookahead", "--jobs", 1) == 0
    assert [set(frame) for frame in ids(folders)] == [{1, 2, 3, 4}] * 5
    assert track(folders, "--lookahead", "--jobs", 3, out="three") == 0
    assert content(folders / "out") == content(folders / "three")


class TestClips:
    """Two persons change places from frame to frame; each has the same instance in both frames of a clip."""

    @pytest.fixture
    def swapping(self, tmp_path):
        image = np.full((40, 80, 3), 90, np.uint8)
        for frame, (left, right) in enumerate([(5, 9), (9, 5), (7, 3), (3, 7)]):
            semantic, instance = np.full((40, 80), ROAD, np.uint8), np.zeros((40, 80), np.uint16)
            for x, number in ((10, left), (60, right)):
                semantic[10:30, x : x + 10], instance[10:30, x : x + 10] = PERSON, number
            save_frame(tmp_path, "0002", f"{frame:06d}", image, semantic, instance)
        return tmp_path

    def left_person(self, folder):
        return [int(load_map(path)[1][20, 15]) for path in list_maps(folder)["0002"].values()]

    def test_instances_are_kept_within_a_clip(self, swapping):
        for tracker in ("iou", "location", "hierarchical"):
            assert track(swapping, "--tracker", tracker, "--clip-length", "2", "--force") == 0
            first, second, third, fourth = self.left_person(swapping / "out")
            assert first != second and third != fourth, tracker
            # From clip to clip the tracker decides; `iou` predicts no motion, and nobody moves there.
            assert tracker != "iou" or second == third
            assert track(swapping, "--tracker", tracker, "--force") == 0
            assert len(set(self.left_person(swapping / "out"))) == 1, tracker

    def test_clips_that_are_not_possible_are_one_line(self, swapping, capsys):
        for flags, message in (
            (["--clip-length", "5"], "clip_length 5: sequence 0002 has only 4 frame(s); use shorter clips"),
            (["--clip-length", "2", "--clip-overlap", "1"], "clip_overlap 1: there is one panoptic map for each frame"),
        ):
            assert track(swapping, *flags) == 2
            assert message in capsys.readouterr().err
            assert not (swapping / "out").exists()
