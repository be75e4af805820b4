"""`vps-ros track`: per-frame panoptic maps in, maps with identities out; bad folders in, one line out."""

import json
import signal
import subprocess
import sys
import time
from functools import partial

import cv2
import numpy as np
import pytest

from vps_ros.commands.main import main
from vps_ros.config import TRACKERS, Config
from vps_ros.datasets.kitti_step import list_maps, load_map, save_map
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.folders import evaluate_pairs, pair_frames
from vps_ros.frame import Frame, Segmentation
from vps_ros.taxonomy import CITYSCAPES
from vps_ros.trackers import make_tracker
from vps_ros.trackers.histogram import with_appearance

SIZE = (48, 160)
ROAD, SKY, PERSON, CAR, TRUCK, VOID = 0, 10, 11, 13, 14, 255


def street(frame):
    """(image, classes, instances): three cars drive at 4 px a frame over a textured road, a person stands."""
    rng = np.random.default_rng(3)
    semantic = np.zeros(SIZE, np.uint8)
    semantic[:10], semantic[40:] = SKY, VOID
    image = cv2.GaussianBlur(rng.integers(0, 255, (*SIZE, 3), np.uint8), (0, 0), 1.5)
    instance = np.zeros(SIZE, np.uint16)
    things = [(CAR, 5 + 50 * k + 4 * frame, 12 + 9 * k, 24, 8) for k in range(3)] + [(PERSON, 120, 11, 5, 14)]
    for number, (class_id, x, y, width, height) in enumerate(things, 1):
        inside = slice(y, y + height), slice(x, x + width)
        semantic[inside], instance[inside] = class_id, number
        skin = cv2.GaussianBlur(rng.integers(0, 255, (height, width, 3), np.uint8), (0, 0), 1)
        image[inside] = skin[:, : image[inside].shape[1]]
    return image, semantic, instance


def save_image(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image[..., ::-1])[1].tobytes())


def save_frame(root, sequence, frame, image, semantic, instance):
    save_image(root / f"images/{sequence}/{frame}.png", image)
    save_map(root / f"maps/{sequence}/{frame}.png", semantic, instance)


@pytest.fixture
def folders(tmp_path):
    """Two sequences of 5 frames of the small street, instances named at random in each frame."""
    rng = np.random.default_rng(0)
    for sequence in ("0002", "0006"):
        for i in range(5):
            image, semantic, instance = street(i)
            save_frame(tmp_path, sequence, f"{i:06d}", image, semantic, rename(instance, rng))
    return tmp_path


def rename(instance, rng, high=65535):
    """Other numbers for the same instances."""
    table = np.zeros(65536, np.uint16)
    numbers = np.unique(instance[instance > 0])
    table[numbers] = 1 + rng.choice(high, len(numbers), replace=False)
    return table[instance]


def arguments(root, *more, out="out"):
    return ["track", "--images", f"{root}/images", "--segmentation", f"{root}/maps", "-o", f"{root}/{out}",
            *map(str, more)]  # fmt: skip


def track(root, *more, out="out"):
    return main(arguments(root, *more, out=out))


def process(*args):
    command = [sys.executable, "-m", "vps_ros.commands.main", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def complaint(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vps-ros:")]
    assert len(lines) == 1
    return lines[0]


def refused(root, capsys, *more):
    """The one line of a run that must fail and leave nothing."""
    assert track(root, *more) == 2
    assert not list(root.glob("*out*"))
    assert not list(root.glob(".*"))
    return complaint(capsys)


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def ids(root, sequence="0002", out="out"):
    """For each frame of the output, {instance: (class, pixels)} of everything with an instance."""
    found = []
    for path in list_maps(root / out)[sequence].values():
        semantic, instance = load_map(path)
        numbers, first, counts = np.unique(instance, return_index=True, return_counts=True)
        classes = semantic.ravel()[first]
        rows = zip(numbers.tolist(), classes.tolist(), counts.tolist(), strict=True)
        found.append({number: (class_id, count) for number, class_id, count in rows if number})
    return found


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


def describe(root, where="vectors", shift=0, rng=None):
    """Embeddings of the things of the small street, which stands `shift` px further to the right in each frame.

    Rows are in the order of the street's own numbers, or in one drawn from `rng`.
    """
    directions = np.random.default_rng(7).normal(size=(5, 8))
    for sequence, paths in list_maps(root / "maps").items():
        for index, (name, path) in enumerate(paths.items()):
            semantic, instance = load_map(path)
            truth = np.roll(street(index)[2], shift * index, axis=1)
            rows = np.arange(1, 5) if rng is None else 1 + rng.permutation(4)
            codes = [int(semantic[truth == n][0]) * 65536 + int(instance[truth == n][0]) for n in rows]
            file = root / where / sequence / f"{name}.npz"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(file, ids=np.array(codes), embeddings=directions[rows])


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


def rewrite(path, **changes):
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays.update({name: change(arrays[name]) for name, change in changes.items()})
    np.savez(path, **arrays)


def test_bad_embeddings(folders, capsys):
    describe(folders)
    path = folders / "vectors/0006/000003.npz"
    good = path.read_bytes()

    def spoiled(**changes):
        rewrite(path, **changes)
        said = refused(folders, capsys, "--embeddings", folders / "vectors")
        path.write_bytes(good)
        assert "0006/000003.npz" in said
        return said

    assert "embeddings have length 6, those of 000000.npz have 8" in spoiled(embeddings=lambda e: e[:, :6])
    assert "holds NaN or infinity" in spoiled(embeddings=lambda e: np.where(e == e[1, 2], np.nan, e))
    assert "occurs twice" in spoiled(ids=lambda i: np.where(i == i[0], i[1], i))
    assert "no embedding for id" in spoiled(ids=lambda i: np.where(i == i[0], 5, i))
    assert "4 ids but 3 embeddings" in spoiled(embeddings=lambda e: e[:3])
    path.unlink()
    said = refused(folders, capsys, "--embeddings", folders / "vectors")
    assert "vectors: no embeddings for 1 map(s): 0006/000003" in said


# Bad input


def test_maps_and_images_that_do_not_pair_up(folders, capsys):
    (folders / "images/0006/000003.png").unlink()
    (folders / "images/0002/000000.png").unlink()
    said = refused(folders, capsys)
    assert "images: no image for 2 map(s): 0002/000000, 0006/000003; name images as their maps are" in said
    for sequence, frame in (("0006", "000003"), ("0002", "000000")):
        save_image(folders / f"images/{sequence}/{frame}.png", street(0)[0])
        (folders / f"maps/{sequence}/{frame}.png").unlink()
    said = refused(folders, capsys)
    assert "maps: no map for 2 image(s): 0002/000000, 0006/000003" in said
    for path in (folders / "maps/0006").iterdir():
        path.unlink()
    assert "maps/0006: a sequence without panoptic maps" in refused(folders, capsys)
    (folders / "maps/0006").rmdir()
    for path in (folders / "images/0002").iterdir():
        path.unlink()
    assert "images: no image for 4 map(s): all of 0002" in refused(folders, capsys)


def test_empty_folders(folders, capsys):
    (folders / "maps/0009").mkdir()
    assert "maps/0009: a sequence without panoptic maps" in refused(folders, capsys)
    for name in ("maps", "images"):
        (folders / name).rename(folders / "kept")
        assert f"{name}: no such folder" in refused(folders, capsys)
        (folders / name).mkdir()
        assert f"{name}: holds no" in refused(folders, capsys)
        (folders / name).rmdir()
        (folders / "kept").rename(folders / name)


def test_images_that_are_the_maps(folders, capsys):
    assert main(["track", "--images", f"{folders}/maps", "--segmentation", f"{folders}/maps", "-o", "out"]) == 2
    assert "maps/0002/000000.png: is both image and map" in complaint(capsys)


def test_sizes_that_differ(folders, capsys):
    image, semantic, instance = (a[:-2] for a in street(2))
    save_image(folders / "images/0006/000002.png", image)
    said = refused(folders, capsys)
    assert "maps/0006/000002.png: is 160x48, its image" in said
    assert "images/0006/000002.png is 160x46" in said
    save_map(folders / "maps/0006/000002.png", semantic, instance)
    assert "000002.png: is 160x46, but 000000 of its sequence is 160x48" in refused(folders, capsys)


def test_sequences_may_have_sizes_of_their_own(folders):
    for i in range(5):
        save_frame(folders, "0009", f"{i:06d}", *(a[:-2, :-6] for a in street(i)))
    assert track(folders) == 0
    assert [set(frame) for frame in ids(folders, "0009")] == [{1, 2, 3, 4}] * 5


def test_unknown_classes(folders, capsys):
    semantic = street(1)[1].copy()
    semantic[0, 0] = 19
    save_map(folders / "maps/0002/000001.png", semantic, street(1)[2])
    said = refused(folders, capsys)
    assert "maps/0002/000001.png: class 19 is not one of kitti-step" in said


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("maps/0002/000003.png", b"", "not a PNG file"),
        ("maps/0002/000003.png", "half", "PNG is cut off"),
        ("maps/0002/000003.png", "grey", "coded as 8-bit grey"),
        ("images/0002/000003.png", b"", "is not an image that can be decoded"),
        ("images/0002/000003.png", b"words", "is not an image that can be decoded"),
    ],
)
def test_files_that_cannot_be_read(folders, capsys, file, content, words):
    path = folders / file
    if content == "half":
        content = path.read_bytes()[:-30]
    elif content == "grey":
        content = cv2.imencode(".png", street(0)[1])[1].tobytes()
    path.write_bytes(content)
    said = refused(folders, capsys)
    assert f"{file}: " in said
    assert words in said


def dots(frame, count, width):
    """Objects of one pixel each, side by side; the class changes from frame to frame."""
    semantic = np.full((count // width, width), (CAR, PERSON)[frame % 2], np.uint8)
    instance = np.arange(1, count + 1, dtype=np.uint16).reshape(semantic.shape)
    return np.zeros((*semantic.shape, 3), np.uint8), semantic, instance


def test_a_thousand_objects_in_a_frame(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        instance = np.kron(np.arange(1, 1001).reshape(20, 50), np.ones((8, 12), int)).astype(np.uint16)
        image = np.random.default_rng(1).integers(0, 256, (1001, 3)).astype(np.uint8)[instance]
        save_frame(tmp_path, "0000", f"{i:06d}", image, np.full(instance.shape, CAR, np.uint8), rename(instance, rng))
    assert track(tmp_path) == 0
    assert [set(frame) for frame in ids(tmp_path, "0000")] == [set(range(1, 1001))] * 4


def test_ids_beyond_the_coding_name_the_frame(tmp_path, capsys):
    for i in range(8):
        save_frame(tmp_path, "0000", f"{i:06d}", *dots(i, 9000, 300))
    flags = "--memory-tau", 0, "--tracker", "location"
    said = refused(tmp_path, capsys, *flags)
    # Seven frames make 63,000 objects; in the eighth the number 65,536 is passed.
    assert "maps/0000/000007.png: object 72000 of its sequence cannot be written, KITTI-STEP holds 65535" in said
    for folder in ("maps", "images"):
        (tmp_path / folder / "0001").mkdir()
        (tmp_path / folder / "0000/000007.png").rename(tmp_path / folder / "0001/000007.png")
    assert track(tmp_path, *flags) == 0
    assert set(ids(tmp_path, "0000")[6]) == set(range(54_001, 63_001))
    assert set(ids(tmp_path, "0001")[0]) == set(range(1, 9001))


def test_outputs_that_exist(folders, capsys):
    assert track(folders) == 0
    before = content(folders / "out")
    assert track(folders) == 2
    assert "out: exists; pass --force to replace it" in complaint(capsys)
    (folders / "out/0002/stale.png").write_bytes(b"")
    assert track(folders, "--force") == 0
    assert content(folders / "out") == before
    for inside in ("images", "maps", "."):
        (folders / inside / "track.json").write_text("{}")
        assert track(folders, "--force", out=inside) == 2
        assert "holds the input" in complaint(capsys)
    (folders / "letters").mkdir()
    (folders / "letters/precious.txt").write_text("precious")
    assert track(folders, "--force", out="letters") == 2
    assert "a folder of something else" in complaint(capsys)
    (folders / "f.json").write_text("old")
    assert track(folders, "--json", folders / "f.json", out="new") == 2
    assert "f.json: exists" in complaint(capsys)
    assert not (folders / "new").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--hz", "0"], "--hz 0: give frames per second"),
        (["--hz", "nan"], "--hz nan: give frames per second"),
        (["--jobs", "-1"], "--jobs -1: cannot be negative"),
        (["--tracker", "magic"], "tracker: 'magic' is not one of"),
        (["--split", "vall"], "has no split 'vall'"),
    ],
)
def test_bad_flags(folders, capsys, flags, words):
    assert words in refused(folders, capsys, *flags)


def test_an_error_half_way_and_an_interruption_leave_nothing(folders):
    (folders / "maps/0006/000004.png").write_bytes(b"")
    run = process(*arguments(folders))
    assert run.returncode == 2
    assert [line for line in run.stderr.splitlines() if line.startswith("vps-ros:")] == [
        f"vps-ros: {folders}/maps/0006/000004.png: not a PNG file; a KITTI-STEP map is 8-bit RGB "
        "(R class, G and B instance)"
    ]
    assert not (folders / "out").exists()
    frame = street(0)
    save_frame(folders, "0006", "000004", *frame)
    for i in range(5, 900):
        save_frame(folders, "0002", f"{i:06d}", *frame)
    command = [sys.executable, "-m", "vps_ros.commands.main", *arguments(folders)]
    # Whoever starts the tests in the background has them, and all that they start, ignore SIGINT.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as running:
        deadline = time.monotonic() + 120
        while not list(folders.glob(".out.*/out/0002/*.png")) and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=120)[1]
    assert running.returncode == 130
    assert said.splitlines()[-1] == "vps-ros: interrupted"
    assert sorted(p.name for p in folders.iterdir()) == ["images", "maps"]
