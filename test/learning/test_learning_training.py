"""Recipes, rendered drives, augmentation, validation, and real training runs that stop and go on."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import yaml

from support import ROOT
from vps_ros.commands.main import main
from vps_ros.errors import InputError
from vps_ros.taxonomy import CITYSCAPES

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from vps_ros.learning import Reporter  # noqa: E402
from vps_ros.learning.data.augmentation import plain_view, random_view, view_image, view_labels  # noqa: E402
from vps_ros.learning.data.batches import BatchSpec, training_batch  # noqa: E402
from vps_ros.learning.data.entries import StreetsData  # noqa: E402
from vps_ros.learning.data.streets import Drive, render, training_drives, validation_drives  # noqa: E402
from vps_ros.learning.recipe import Augmentation, Recipe  # noqa: E402
from vps_ros.learning.training import checkpoint, loop  # noqa: E402
from vps_ros.learning.training.loop import Run, learning_rate, phase_of  # noqa: E402
from vps_ros.learning.training.validation import LIMITS, Prediction, evaluate, summary, tune  # noqa: E402
from vps_ros.segmenters.preprocess import Fit  # noqa: E402

ROAD, SKY, PERSON, CAR = 0, 10, 11, 13
SIZE = (128, 64)


def recipe_of(folder, **schedule):
    """A recipe of a very small model on one scenario, as YAML would hold it."""
    return {
        "name": "small",
        "data": {"scenarios": ["cruise"], "drives": 1, "frames": 3, "size": list(SIZE), "folder": str(folder)}
        | {"validation_frames": 2, "processes": 1},
        "schedule": {"steps": 6, "phases": [{"until": 1.0, "size": list(SIZE), "pairs": 2}], "workers": 1}
        | {"log_every": 2, "validate_every": 3}
        | schedule,
        "model": {"queries": 16, "channels": [16, 16, 16, 16], "depths": [0, 1, 1, 1], "query_dim": 16, "mask_dim": 16}
        | {"heads": 2},
    }


def painted(name, offset):
    """A drive of five frames: sky over road, and a bright and a dark box that move."""
    w, h = SIZE
    image = np.empty((5, h, w, 3), np.uint8)
    semantic, instance = np.empty((5, h, w), np.uint8), np.zeros((5, h, w), np.uint16)
    for i in range(5):
        image[i, : h // 2], image[i, h // 2 :] = (120, 170, 230), (90, 80, 90)
        semantic[i, : h // 2], semantic[i, h // 2 :] = SKY, ROAD
        for number, (x, width, class_id, colour) in enumerate([(8, 40, CAR, 220), (80, 16, PERSON, 20)], 1):
            box = np.s_[i, 20:52, x + offset + 2 * i : x + offset + 2 * i + width]
            image[box], semantic[box], instance[box] = colour, class_id, number
    return Drive(name, image, semantic, instance)


@pytest.fixture
def drives():
    return [painted(str(i), 4 * i) for i in range(4)]


def test_the_shipped_recipe_is_read_back_as_it_was_written():
    recipe = Recipe.from_yaml(ROOT / "config" / "train" / "streets-s.yaml")
    assert recipe.name == "streets-s" and recipe.model.queries == 64
    assert Recipe.from_mapping(json.loads(json.dumps(recipe.to_mapping())), "again") == recipe


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": 3}, "name: 3 is not of type str"),
        ({"nam": "x"}, "unknown entry 'nam'; did you mean name?"),
        ({"data": {}}, "data: lacks 'scenarios'"),
        ({"data": {"scenarios": ["cruise"], "seed": 899_999, "drives": 2}}, "held out for evaluation"),
        ({"data": {"scenarios": ["cruise"], "seed": 799_990}}, "training and validation have seeds in common"),
        ({"data": {"scenarios": ["cruise"], "balanced": 899_999, "seed": 9}}, "held out for evaluation"),
        ({"data": {"scenarios": ["cruise"], "balanced": -1}}, "balanced is -1; it cannot be negative"),
        ({"data": {"scenarios": ["cruise"], "size": [640]}}, "data.size: [640] has 1 entries, not 2"),
        ({"schedule": {"steps": 5, "phases": []}}, "the last phase must have `until: 1.0`"),
        ({"schedule": {"phases": []}}, "give steps or minutes, one of them"),
        ({"schedule": {"steps": 5, "minutes": 1, "phases": []}}, "give steps or minutes, one of them"),
        ({"start": "nowhere.onnx"}, "nowhere.onnx: no such file; the recipe's `start` names weights to begin with"),
        (
            {"schedule": {"steps": 5, "phases": [{"until": 1.0, "size": [100, 64], "pairs": 2}]}},
            "size 100x64 with 2 pairs; sides must be multiples of 32",
        ),
        (
            {"schedule": {"steps": 5, "phases": [{"until": 1.0, "size": [64, 64], "pairs": 3}]}},
            "2 workers of 1 threads share 3 pairs",
        ),
        ({"losses": {"void": "1e-5"}}, "losses.void: '1e-5' is not of type float; YAML reads 1e-3 as text"),
        ({"losses": [1]}, "losses: not a mapping of names to values"),
    ],
)
def test_a_bad_recipe_is_one_line(tmp_path, capsys, change, message):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe_of(tmp_path) | change))
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert str(path) in error or "start" in change
    assert not (tmp_path / "run").exists()


def test_an_unknown_scenario_names_those_there_are(tmp_path, capsys):
    path = tmp_path / "r.yaml"
    recipe = recipe_of(tmp_path / "drives")
    recipe["data"]["scenarios"] = ["moon"]
    path.write_text(yaml.safe_dump(recipe))
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "'moon'" in error and "cruise" in error
    assert main(["train", "--config", str(tmp_path / "none.yaml"), "-o", str(tmp_path / "run")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_balanced_drives_are_learned_from_and_not_validated_on(tmp_path):
    data = StreetsData(("cruise",), drives=1, balanced=2, frames=2, size=(64, 32), folder=str(tmp_path), processes=1)
    names = [drive.name.rsplit("-", 3)[0] for drive in training_drives(data)]
    assert names == ["cruise-0", "balanced-0", "balanced-1"]
    assert [drive.name.rsplit("-", 3)[0] for drive in validation_drives(data)] == ["cruise-800000"]


def test_drives_may_be_rendered_larger_than_the_network_sees(tmp_path):
    data = StreetsData(
        ("cruise",), drives=1, frames=2, size=(64, 32), rendered=(128, 64), folder=str(tmp_path), processes=1
    )
    (drive,) = training_drives(data)
    assert drive.image.shape == (2, 64, 128, 3)
    with pytest.raises(InputError, match="rendered"):
        replace(data, rendered=(128, 0)).check()


def test_schedule_by_hand():
    phases = [{"until": 0.5, "size": [64, 32], "pairs": 2}, {"until": 1.0, "size": [128, 64], "pairs": 2}]
    s = Recipe.from_mapping(recipe_of("x", steps=100, phases=phases, warmup=0.1, learning_rate=1.0), "test").schedule
    assert [learning_rate(s, i) for i in (0, 0.05, 0.1)] == pytest.approx([0.01, 0.5, 1.0])
    assert learning_rate(s, 0.55) == pytest.approx(0.01 + 0.99 * 0.5)
    assert learning_rate(s, 1) == pytest.approx(0.01)
    assert [phase_of(s, i).size for i in (0, 0.49, 0.5, 1)] == [(64, 32), (64, 32), (128, 64), (128, 64)]


def test_labels_stay_on_their_pixels_in_every_view(drives):
    """Colours and labels of a drive painted by class agree after any change of view, away from edges."""
    one = drives[0]
    flat = np.stack([one.semantic[0]] * 3, 2)
    rng = np.random.default_rng(0)
    for _ in range(30):
        view = random_view(SIZE, (96, 64), Augmentation(rotate=1.0), rng)
        image = view_image(flat, view)
        labels, numbers = view_labels(one.semantic[0], one.instance[0], view)
        centre = image[2::4, 2::4, 0].astype(int)
        inside = labels != 255
        # Interpolation mixes at edges: most cells are not there.
        assert (np.abs(centre - labels)[inside] <= 1).mean() > 0.85
        assert ((numbers > 0) == np.isin(labels, (CAR, PERSON))).all()
        far = cv2.erode((~inside).astype(np.uint8), np.ones((3, 3))) > 0
        assert (centre[far] == 127).all()


def test_a_chosen_quarter_of_each_cell_is_what_stands_there(drives):
    one, choice = drives[0], np.random.default_rng(0).integers(4, size=(16, 32))
    labels, numbers = view_labels(one.semantic[0], one.instance[0], plain_view(SIZE, SIZE), choice)
    for y, x in np.ndindex(16, 32):
        # The boxes and the horizon lie on even rows and columns: a quarter, two pixels wide, has one label.
        place = 4 * y + 2 * (choice[y, x] // 2), 4 * x + 2 * (choice[y, x] % 2)
        assert labels[y, x] == one.semantic[0][place] and numbers[y, x] == one.instance[0][place]


def test_a_plain_view_of_the_same_size_changes_nothing(drives):
    one = drives[0]
    assert (view_image(one.image[0], plain_view(SIZE, SIZE)) == one.image[0]).all()


def test_the_batch_of_a_step_is_always_the_same(drives):
    def batch(seed):
        return training_batch(drives, (96, 64), 2, BatchSpec(CITYSCAPES, 8), Augmentation(), seed)

    a, b, other = batch((0, 5, 0)), batch((0, 5, 0)), batch((0, 5, 1))
    assert torch.equal(a.images, b.images) and torch.equal(a.targets.segments, b.targets.segments)
    assert not torch.equal(a.images, other.images)
    assert a.images.shape == (4, 64, 96, 3) and a.targets.segments.shape == (4, 16, 24)


def test_a_drive_is_rendered_once(tmp_path):
    place = render(tmp_path, "cruise", 3, 2, SIZE)
    before = (place / "image.npy").stat().st_mtime_ns
    assert render(tmp_path, "cruise", 3, 2, SIZE) == place
    assert (place / "image.npy").stat().st_mtime_ns == before
    assert np.load(place / "semantic.npy").shape == (2, 64, 128)
    (place / "image.npy").write_bytes(b"cut off")
    with pytest.raises(InputError, match="delete this folder"):
        from vps_ros.learning.data.streets import load

        load(place)


def certain(one, frame, wrong=()):
    """The outputs of a network that knows the truth of a frame, at full resolution, but for the classes of `wrong`."""
    semantic, instance = one.semantic[frame], one.instance[frame]
    masks, classes = np.full((1, 4, *semantic.shape), -20.0, np.float32), np.zeros((1, 4, 20), np.float32)
    for q, (class_id, number) in enumerate([(SKY, 0), (ROAD, 0), (CAR, 1), (PERSON, 2)]):
        masks[0, q][(semantic == class_id) & (instance == number)] = 20
        classes[0, q, dict(wrong).get(class_id, class_id)] = 20
    return {"class_logits": classes, "mask_logits": masks, "query_embeddings": np.zeros((1, 4, 8), np.float32)}


def predictions_of(drives, wrong=()):
    size = (SIZE[1], SIZE[0])
    return [Prediction(certain(d, 1, wrong), Fit(size, size, size), d.semantic[1], d.instance[1]) for d in drives]


def test_a_network_that_knows_everything_is_perfect_and_one_wrong_class_is_seen(drives):
    assert summary(evaluate(predictions_of(drives), LIMITS)) == {"pq": 1, "pq_things": 1, "pq_stuff": 1, "miou": 1}
    report = evaluate(predictions_of(drives, [(PERSON, CAR)]), LIMITS)
    # Four classes; person is missed everywhere, and half of the cars are invented: 1 / (1 + 1 / 2).
    assert report.pq.all == pytest.approx((1 + 1 + 2 / 3 + 0) / 4)


def test_thresholds_are_tuned_to_what_is_best(drives):
    predictions = predictions_of(drives)
    for p in predictions:  # unsure of everything: each class scores about .45
        p.outputs["class_logits"][:] = np.where(p.outputs["class_logits"] > 0, np.log(15.5), 0)
    assert evaluate(predictions, LIMITS).pq.things == 0
    limits, report = tune(predictions)
    assert limits.thing < 0.45 and report.pq.all == 1


def small_run(folder, resume=False, **schedule):
    return Run(Recipe.from_mapping(recipe_of("x", **schedule), "test"), folder, resume)


def test_training_learns(tmp_path, drives):
    run = small_run(tmp_path / "run", steps=60, log_every=10, learning_rate=5e-3)
    torch.set_num_threads(1)
    run.train(drives, [])
    totals = [e["total"] for e in run.log]
    assert totals[-1] < 0.75 * totals[0]
    assert [json.loads(line) for line in (tmp_path / "run" / loop.LOG).read_text().splitlines()] == run.log


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path, drives):
    whole = small_run(tmp_path / "a")
    whole.train(drives, [(drives[0], 2)])
    part = small_run(tmp_path / "b")
    learn = part.learn

    def learn_and_stop(batch):
        if part.step == 3:
            part.interrupt()
        return learn(batch)

    part.learn = learn_and_stop
    notes = []
    part.train(drives, [(drives[0], 2)], Reporter(note=notes.append))
    assert part.step == 4 and part.interrupted
    # The command says how it is continued.
    assert notes[-1] == "stopped at step 4"
    again = small_run(tmp_path / "b", resume=True)
    again.train(drives, [(drives[0], 2)])
    for name, value in whole.average.module.state_dict().items():
        assert torch.equal(value, again.average.module.state_dict()[name]), name
    assert [e["step"] for e in again.log] == [2, 3, 4, 6, 6]
    model, recipe, step = checkpoint.restore(tmp_path / "b")
    assert step == 6 and recipe == again.recipe


def test_a_run_by_the_clock_ends_with_its_time_and_counts_what_it_spent_before(tmp_path, drives):
    run = small_run(tmp_path / "a", steps=0, minutes=0.05)
    run.train(drives, [(drives[0], 2)])
    assert run.share == 1 and run.minutes >= 0.05 and run.step > 2
    assert run.log[-1]["step"] == run.step and "validation" in run.log[-1]
    assert run.log[-2]["lr"] == pytest.approx(0.01 * run.recipe.schedule.learning_rate)
    again = small_run(tmp_path / "a", resume=True, steps=0, minutes=0.05)
    assert again.share == 1 and again.minutes >= 0.05


def test_a_run_begins_with_the_weights_of_another(tmp_path, drives):
    first = small_run(tmp_path / "a", steps=3)
    first.train(drives, [])
    recipe = recipe_of("x", steps=1) | {"start": str(tmp_path / "a")}
    recipe["model"]["detail"] = 8
    second = Run(Recipe.from_mapping(recipe, "test"), tmp_path / "b", False)
    second.load_initial_weights(drives)
    mine, theirs = second.model.state_dict(), first.average.module.state_dict()
    assert all(torch.equal(mine[n], v) for n, v in theirs.items())
    assert all(n.startswith("detail.") for n in mine.keys() - theirs.keys())
    second.train(drives, [(drives[0], 2)])
    assert np.isfinite(second.log[0]["total"])


def test_a_run_is_not_overwritten_nor_mixed_up(tmp_path, drives):
    small_run(tmp_path / "run", steps=1).train(drives, [])
    with pytest.raises(InputError, match="already holds a run; pass --resume"):
        small_run(tmp_path / "run")
    other = recipe_of("x")
    other["model"]["queries"] = 24
    with pytest.raises(InputError, match="was trained with another model"):
        Run(Recipe.from_mapping(other, "test"), tmp_path / "run", True)
    with pytest.raises(InputError, match="no such checkpoint"):
        small_run(tmp_path / "none", resume=True)


def start(config, run, *more):
    command = [sys.executable, "-m", "vps_ros.commands.main", "train", "--config", str(config), "-o", str(run), *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_workers_stop_on_a_signal_and_go_on(tmp_path):
    config, run = tmp_path / "r.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(recipe_of(tmp_path / "drives", steps=100_000, workers=2)))
    process = start(config, run)
    deadline = time.monotonic() + 240
    while not (run / loop.LOG).exists() or len((run / loop.LOG).read_text().splitlines()) < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 130 and "continue with --resume" in process.stderr.read()
    stopped = checkpoint.load(run)["step"]
    assert stopped >= 2
    config.write_text(yaml.safe_dump(recipe_of(tmp_path / "drives", steps=stopped + 2, workers=2)))
    process = start(config, run, "--resume")
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert checkpoint.load(run)["step"] == stopped + 2
    last = json.loads((run / loop.LOG).read_text().splitlines()[-1])
    assert last["step"] == stopped + 2 and set(last["validation"]) == {"pq", "pq_things", "pq_stuff", "miou"}
