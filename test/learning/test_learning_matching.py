"""The differentiable matching layer, the fusion, and what a short training of both comes to."""

import json
import math

import numpy as np
import pytest
import yaml

from support import ROOT
from vps_ros.commands.main import main
from vps_ros.errors import InputError
from vps_ros.frame import Segmentation

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from vps_ros.learning.data.streets import Drive  # noqa: E402
from vps_ros.learning.tracking.hybrid import TrackerRecipe  # noqa: E402
from vps_ros.learning.tracking.matching import (  # noqa: E402
    Matcher,
    MatchingSchedule,
    batch_of,
    evaluate,
    match_probability,
    matching_loss,
    pairs_of,
    train_matcher,
)
from vps_ros.learning.tracking.observations import Observation, observe  # noqa: E402
from vps_ros.reading import read_file  # noqa: E402
from vps_ros.trackers.hybrid import EmbeddingHistory  # noqa: E402
from vps_ros.trackers.learned import Learned, read  # noqa: E402

CAR, PERSON, ROAD = 13, 11, 0


def tensors(*arrays):
    return [torch.tensor(a, dtype=torch.float64)[None] for a in arrays]


# The layer


def test_matching_layer_by_hand():
    """Products 2, 0 and 0, 1: rows softmax over (2, 0) and (0, 1), columns over (2, 0) and (0, 1)."""
    older, newer = tensors([[2, 0], [0, 1]], [[1, 0], [0, 1]])
    ahead, behind = match_probability(older, newer, torch.ones(1, 2, 2, dtype=torch.bool))
    a, b = math.exp(2) / (math.exp(2) + 1), math.e / (math.e + 1)
    assert ahead[0].numpy() == pytest.approx(np.array([[a, 1 - a], [1 - b, b]]))
    assert behind[0].numpy() == pytest.approx(np.array([[a, 1 - b], [1 - a, b]]))


def test_padding_takes_no_part():
    older, newer = tensors([[2, 0], [9, 9]], [[1, 0], [0, 1]])
    there = torch.tensor([[[True, True], [False, False]]])
    ahead, behind = match_probability(older, newer, there)
    a = math.exp(2) / (math.exp(2) + 1)
    assert ahead[0].numpy() == pytest.approx(np.array([[a, 1 - a], [0, 0]]))
    assert behind[0].numpy() == pytest.approx(np.array([[1, 1], [0, 0]]))


def test_matching_loss_by_hand():
    """Row 1: -(log .8 + log(1 - .2)), row 2 has a counted pair of no match: -log(1 - .5), row 3 none."""
    p, truth = tensors([[0.8, 0.2], [0.5, 0.5], [0.9, 0.1]], [[1, 0], [0, 0], [0, 0]])
    counted = torch.tensor([[[True, True], [True, False], [False, False]]])
    expected = (-2 * math.log(0.8) - math.log(0.5)) / 2
    assert float(matching_loss(p, truth, counted)) == pytest.approx(expected)


def test_gradients_are_those_of_the_loss():
    torch.manual_seed(0)
    matcher = Matcher(3, 4, 0.5).double()
    older, newer, dice = (torch.rand(1, *s, dtype=torch.float64, requires_grad=True) for s in ((2, 3), (3, 3), (2, 3)))
    there = torch.ones(1, 2, 3, dtype=torch.bool)
    truth = torch.eye(2, 3, dtype=torch.float64)[None]

    def loss(older, newer, dice, *weights):
        return sum(matcher.loss(matcher(older, newer, there, dice), truth, there))

    torch.nn.init.normal_(matcher.out.weight)
    assert torch.autograd.gradcheck(loss, (older, newer, dice, *matcher.parameters()))


def test_the_tracker_computes_what_was_trained():
    """One pair of frames through the layer and the fusion, and through the tracker's own parts."""
    torch.manual_seed(3)
    matcher = Matcher(6, 5, 0.2)
    torch.nn.init.normal_(matcher.out.weight, std=0.3)
    rng = np.random.default_rng(0)
    older, newer = rng.normal(size=(4, 6)).astype(np.float32), rng.normal(size=(3, 6)).astype(np.float32)
    dice = rng.random((4, 3)).astype(np.float32)
    with torch.no_grad():
        there = torch.ones(1, 4, 3, dtype=torch.bool)
        found = matcher(torch.tensor(older)[None], torch.tensor(newer)[None], there, torch.tensor(dice)[None])
    head, fusion = matcher.parts()
    history = EmbeddingHistory(Learned(head))
    for vectors in (older, newer):
        history.push(things_of(vectors))
        history.set_ids(np.arange(1, len(vectors) + 1))
    instance = history.similarity(1)
    assert instance == pytest.approx((found.ahead + found.behind)[0].numpy() / 2, abs=1e-5)
    assert fusion(dice, instance) == pytest.approx(found.fused.sigmoid()[0].numpy(), abs=1e-5)


def things_of(vectors):
    from vps_ros.trackers.detections import Detections, norms

    count = len(vectors)
    zeros = np.zeros(count, np.int64)
    return Detections(zeros, zeros, zeros + 1.0, zeros + 9, np.zeros((count, 4)), vectors, norms(vectors), (8, 8))


# Who is who


def painted():
    """Three frames of 40 x 20: a car 1 that moves by 4, a person 2 that stands; and segments of them, in odd order."""
    semantic, instance = np.zeros((3, 20, 40), np.uint8), np.zeros((3, 20, 40), np.uint16)
    segmentations = []
    for i in range(3):
        car, person = np.s_[5:15, 4 + 4 * i : 16 + 4 * i], np.s_[2:18, 34:38]
        semantic[i][car], instance[i][car] = CAR, 1
        semantic[i][person], instance[i][person] = PERSON, 2
        labels = np.ones((20, 40), np.uint8)
        labels[person] = 2
        labels[6:15, 4 + 4 * i : 16 + 4 * i] = 3
        labels[0:2, 0:8] = 4
        boxes = np.array([[0, 0, 40, 20], [34, 2, 38, 18], [4 + 4 * i, 6, 16 + 4 * i, 15], [0, 0, 8, 2]], np.float32)
        areas = np.bincount(labels.ravel())[1:]
        classes, thing = np.array([ROAD, PERSON, CAR, CAR], np.int32), np.array([False, True, True, True])
        embeddings = np.array([[9, 9], [0, 1], [1, 0], [1, 1]], np.float32)
        segmentations.append(Segmentation(labels, classes, thing, np.ones(4, np.float32), areas, boxes, embeddings))
    image = np.stack([np.random.default_rng(0).integers(0, 255, (20, 40, 3), np.uint8)] * 3)
    return Drive("painted", image, semantic, instance), segmentations


def test_segments_bear_the_name_of_the_object_they_cover():
    """In the tracker's order, from the left: the stranger in the corner, the car (9 of its 10 rows), the person."""
    seen = observe(*painted(), 0.3)
    assert [one.objects.tolist() for one in seen] == [[0, 1, 2]] * 3
    assert seen[0].embeddings.tolist() == [[1, 1], [1, 0], [0, 1]]
    assert sorted(seen[2].dice) == [1, 2] and not seen[0].dice
    assert seen[2].dice[1].shape == (3, 3) and seen[2].dice[1][2, 2] > 0.9
    strict = observe(*painted(), 0.95)
    assert strict[0].objects.tolist() == [0, 0, 2]


def test_pairs_say_what_is_true_and_what_is_unknown():
    """Two drives with the same numbers: nobody of one is anybody of the other, and strangers may be the same."""
    one = Observation(np.eye(2, dtype=np.float32), np.array([0, 1]), {})
    two = Observation(np.eye(2, dtype=np.float32)[:1], np.array([1]), {1: np.array([[0.1], [0.7]])})
    pairs = pairs_of([[one, two], [one, two]])
    assert len(pairs) == 2 and len(set(pairs.objects[pairs.objects > 0].tolist())) == 2
    batch = batch_of(pairs, torch.tensor([0]))
    assert batch.truth[0].tolist() == [[0], [1]] and batch.counted[0].tolist() == [[True], [True]]
    assert batch.dice[0, :, 0].tolist() == pytest.approx([0.1, 0.7])
    strangers = pairs_of([[one, Observation(two.embeddings, np.array([0]), two.dice)]])
    assert batch_of(strangers, torch.tensor([0])).counted[0].tolist() == [[False], [True]]


# Learning


def test_an_object_whose_masks_do_not_overlap_is_not_found_by_pixels():
    """The first of two objects moved too far, the second overlaps with itself."""
    embeddings = np.eye(2, dtype=np.float32)
    older = Observation(embeddings, np.array([1, 2]), {})
    newer = Observation(embeddings, np.array([1, 2]), {1: np.array([[0, 0], [0, 0.6]])})
    found = evaluate(Matcher(2, 4, 0.1).eval(), pairs_of([[older, newer]]))
    assert (found["pixel"], found["instance"]) == (0.5, 1)


def misled(count, seed):
    """Drives of which appearance hides who is who behind a large number that is drawn anew in each frame.

    Dice is of no use: it is drawn too.
    """
    rng = np.random.default_rng(seed)
    drives = []
    for _ in range(count):
        looks = rng.normal(size=(6, 4))
        drive = []
        for i in range(4):
            noise = rng.normal(size=(6, 4)) * 3
            embeddings = np.concatenate([looks, noise], axis=1).astype(np.float32)
            dice = {steps: rng.random((6, 6)) for steps in (1, 2) if i >= steps}
            drive.append(Observation(embeddings, np.arange(1, 7), dice))
        drives.append(drive)
    return pairs_of(drives)


def test_training_finds_what_tells_objects_apart():
    schedule = MatchingSchedule(steps=300, dropout=0.0, learning_rate=1e-2)
    unseen = misled(20, 1)
    before = evaluate(Matcher(8, schedule.hidden, schedule.temperature).eval(), unseen)
    after = evaluate(train_matcher(misled(60, 0), schedule), unseen)
    assert before["instance"] < 0.4 and after["instance"] > 0.6
    assert after["hybrid"] > before["hybrid"] + 0.2
    assert after["matching"] < 0.7 * before["matching"] and after["fusion"] < 0.7 * before["fusion"]
    assert before["pixel"] == after["pixel"] < 0.3


def test_the_same_seed_teaches_the_same():
    pairs = misled(4, 0)
    one, same, other = (train_matcher(pairs, MatchingSchedule(steps=5), seed).parts()[0].hidden for seed in (0, 0, 1))
    assert (one == same).all() and (one != other).any()


def test_nothing_to_learn_from_is_said():
    nobody = Observation(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), {})
    with pytest.raises(InputError, match="detects no thing"):
        pairs_of([[nobody, nobody]])
    alone = Observation(np.ones((1, 4), np.float32), np.ones(1, np.int64), {})
    with pytest.raises(InputError, match="no two consecutive frames"):
        train_matcher(pairs_of([[alone]]), MatchingSchedule(steps=1))


# The command


def recipe_of(folder, **changes):
    data = {"scenarios": ["crowd"], "drives": 1, "frames": 3, "size": [320, 96], "folder": str(folder), "processes": 1}
    recipe = {
        "kind": "tracker",
        "model": "streets-s",
        "data": {"seed": 5} | data,
        "validation": {"seed": 800501} | data,
    }
    return recipe | {"processes": 1, "schedule": {"steps": 3, "pairs": 2}} | changes


def test_the_shipped_recipe_can_be_read():
    recipe = read_file(TrackerRecipe, ROOT / "config" / "train" / "streets-s-tracker.yaml")
    assert recipe.model == "streets-s" and recipe.data.seed + recipe.data.drives <= recipe.validation.seed


def test_the_former_name_of_an_entry_is_read_with_a_warning(tmp_path):
    path, recipe = tmp_path / "r.yaml", recipe_of(tmp_path)
    path.write_text(yaml.safe_dump({k: v for k, v in recipe.items() if k != "schedule"} | {"lessons": {"steps": 7}}))
    with pytest.warns(DeprecationWarning, match="'lessons' is now called 'schedule'"):
        assert read_file(TrackerRecipe, path).schedule.steps == 7
    path.write_text(yaml.safe_dump(recipe | {"lessons": {"steps": 7}}))
    with pytest.raises(InputError, match="unknown entry 'lessons'"):
        read_file(TrackerRecipe, path)


@pytest.mark.slow
def test_train_writes_what_a_tracker_can_use(tmp_path, capsys):
    path, run = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(recipe_of(tmp_path / "drives")))
    assert main(["train", "--config", str(path), "-o", str(run)]) == 0
    assert sorted(p.name for p in run.iterdir()) == ["log.jsonl", "streets-s.tracker.npz"]
    learned = read(run / "streets-s.tracker.npz")
    assert learned.about["model"] == "streets-s" and learned.about["step"] == 3
    assert learned.about["recipe"]["data"]["seed"] == 5
    before, after, _ = (json.loads(line) for line in (run / "log.jsonl").read_text().splitlines())
    assert before["AQ"]["pixel"] == after["AQ"]["pixel"] and set(after["AQ"]) == {"pixel", "instance", "hybrid"}
    assert "before" in capsys.readouterr().err
    assert main(["train", "--config", str(path), "-o", str(run)]) == 2
    assert str(run) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modle": "x"}, "unknown entry 'modle'; did you mean model?"),
        ({"model": "nobody"}, "model 'nobody': no such file"),
        ({"schedule": {"steps": 0}}, "schedule: make hidden, steps and pairs at least 1"),
        ({"validation": {"scenarios": ["crowd"], "seed": 5}}, "training and validation have seeds in common"),
        ({"validation": {"scenarios": ["crowd"], "seed": 899_999, "drives": 2}}, "held out for evaluation"),
        ({"data": {"seed": 5}}, "data: lacks 'scenarios'"),
    ],
)
def test_a_bad_recipe_is_one_line(tmp_path, capsys, change, message):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe_of(tmp_path) | change))
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


def test_a_short_training_is_not_resumed(tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe_of(tmp_path)))
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "run"), "--resume"]) == 2
    assert "drop --resume" in capsys.readouterr().err
