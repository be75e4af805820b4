"""HybridTracker's trackers on scenes whose answers are known, and what they have learned as a file."""

import json
from dataclasses import replace

import numpy as np
import pytest

from support.trackers_scene import HEIGHT, RATE, WIDTH, Thing, identities, render
from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.files import fingerprint, model_path, shipped_models
from vps_ros.flow.dis import DisFlow
from vps_ros.flow.history import FlowHistory, warp_labels
from vps_ros.frame import AssociatedBy
from vps_ros.trackers import make_tracker
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.hybrid import EmbeddingHistory, Hybrid, HybridParameters
from vps_ros.trackers.learned import (
    FORMAT,
    Fusion,
    Head,
    Learned,
    LearnedParameters,
    load_learned,
    read,
    weights_path,
    write,
)

UP, RIGHT = (1.0, 0.0), (0.0, 1.0)


def tracker(name, **parameters):
    untrained = {} if name == "pixel" else {"tracker_weights": "none"}
    return make_tracker(Config(tracker=name, **untrained | parameters))


def drive(track, frames):
    """[{name: track id}] of frames, each a list of things."""
    out = []
    for f, things in enumerate(frames):
        frame, segmentation, names = render(things, 0, f)
        out.append(identities(track.step(replace(frame, stamp=f * RATE), segmentation), names))
    return out


def at(x, name, embedding=UP, **facts):
    return Thing((x, 20, x + 16, 44), embedding=embedding, name=name, **facts)


# Which evidence decides


def test_pixels_go_by_place_instances_by_appearance():
    """Two objects that do not move but exchange their looks."""
    before, after = [at(20, 1, UP), at(80, 2, RIGHT)], [at(20, 1, RIGHT), at(80, 2, UP)]
    assert drive(tracker("pixel"), [before, after])[1] == {1: 1, 2: 2}
    assert drive(tracker("instance"), [before, after])[1] == {1: 2, 2: 1}


@pytest.mark.parametrize(("name", "by"), [("pixel", "PIXELS"), ("instance", "INSTANCE"), ("hybrid", "INSTANCE")])
def test_tracks_say_by_what_they_were_found(name, by):
    track = tracker(name)
    drive(track, [[at(20, 1)]])
    frame, segmentation, _ = render([at(20, 1)])
    (only,) = track.step(replace(frame, stamp=RATE), segmentation)
    assert only.associated_by == AssociatedBy[by] and 0.9 < only.association_score <= 1


def test_both_are_needed_where_one_is_blind():
    """Two of one look stay where they are, two of different looks jump beyond their masks: only the hybrid is right."""
    before = [at(0, 1), at(30, 2), at(60, 3, (-1.0, 0.0)), at(80, 4, RIGHT)]
    after = [at(0, 1), at(30, 2), at(110, 3, (-1.0, 0.0)), at(4, 4, RIGHT)]
    after[3] = replace(after[3], box=(4, 46, 20, 70))
    same = {1: 1, 2: 2, 3: 3, 4: 4}
    assert drive(tracker("hybrid"), [before, after])[1] == same
    pixel, instance = (drive(tracker(name), [before, after])[1] for name in ("pixel", "instance"))
    assert pixel[1] == 1 and pixel[2] == 2 and pixel[3] > 4
    assert instance[3] == 3 and instance[4] == 4


def test_classes_may_change():
    for name in ("pixel", "instance", "hybrid"):
        ids = drive(tracker(name), [[at(20, 1), at(80, 2, RIGHT)], [at(20, 1, class_id=11), at(80, 2, RIGHT)]])
        assert ids[0] == ids[1]


# Mutual check, thresholds


def test_a_new_object_does_not_take_the_identity_of_a_visible_one():
    """The newcomer looks like 1, and so does 1 itself: each other's best are 1 and 1."""
    ids = drive(tracker("instance"), [[at(20, 1)], [at(20, 1), at(80, 2, (0.9, 0.4))]])
    assert ids[1] == {1: 1, 2: 2}


def test_thresholds_are_kept():
    """Moved by 8 of 16 columns without any flow, Dice is 1/2; alone, a probability is 1."""
    half = [[at(20, 1)], [replace(at(20, 1), box=(28, 20, 44, 44), name=1)]]
    for threshold, known in ((0.4, True), (0.6, False)):
        track = tracker("pixel", pixel_threshold=threshold, flow_height=16, temporal_threshold=threshold)
        ids = drive(track, half)
        assert (ids[0] == ids[1]) == known
    alike = [[at(20, 1), at(60, 2)], [at(20, 1), at(60, 2)]]
    for threshold, known in ((0.4, True), (0.6, False)):
        parameters = {"instance_threshold": threshold, "temporal_consistency": False}
        ids = drive(tracker("instance", **parameters), alike)
        assert (ids[0][1] == ids[1][1]) == known, "each is one half, of equals the first are paired"


# Temporal consistency


@pytest.mark.parametrize("name", ["pixel", "instance", "hybrid"])
def test_an_object_missed_for_one_frame_comes_back_and_after_two_it_does_not(name):
    other = at(90, 2, RIGHT)

    def run(gap, **parameters):
        hidden = [[other]] * gap
        return drive(tracker(name, **parameters), [[at(20, 1), other], *hidden, [at(20, 1), other]])

    for gap, consistency, known in ((1, True, True), (1, False, False), (2, True, False)):
        ids = run(gap, temporal_consistency=consistency)
        assert ids[-1][2] == ids[0][2]
        assert (ids[-1][1] == ids[0][1]) == known


def test_a_match_over_two_frames_must_hold_both_ways(monkeypatch):
    """The same scene, once as it is, and once seen by a flow that finds nothing on the way back."""

    def run():
        return drive(tracker("pixel"), [[at(20, 1)], [at(20, 1)], [], [at(20, 1)]])

    ids = run()
    assert ids[0] == ids[1] == ids[3]
    monkeypatch.setattr(FlowHistory, "forward", lambda self, steps: np.full((HEIGHT, WIDTH, 2), 1e6, np.float32))
    ids = run()
    assert ids[0] == ids[1] and ids[3][1] != ids[0][1]


def test_flow_forward_is_the_way_back_reversed():
    """A texture that moves 6 px a frame to the right: forward +6 and +12, backward -6 and -12."""
    rng = np.random.default_rng(0)
    import cv2

    wide = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH + 40, 3), np.uint8), (0, 0), 2)
    history = FlowHistory(DisFlow("medium", HEIGHT))
    assert history.forward(1) is None
    for f in range(3):
        history.push(np.ascontiguousarray(wide[:, 20 - 6 * f : 20 - 6 * f + WIDTH]), f * RATE)
    inner = np.s_[12:-12, 30:-30]
    for steps in (1, 2):
        ahead, behind = history.forward(steps)[inner], history.backward(steps)[inner]
        assert np.median(ahead[..., 0]) == pytest.approx(6 * steps, abs=0.2)
        assert np.median(behind[..., 0]) == pytest.approx(-6 * steps, abs=0.2)
        assert np.abs(np.median(ahead[..., 1])) < 0.2
    labels = np.zeros((HEIGHT, WIDTH), np.uint16)
    labels[20:40, 60:80] = 1
    moved = warp_labels(labels, history.forward(2))
    assert np.nonzero(moved)[1].mean() == pytest.approx(69.5 - 12, abs=1), "labels of now, seen from the older image"


# The matrices


def embedded(frames):
    history = EmbeddingHistory(Learned(Head.identity(1.0)))
    for things in frames:
        history.push(Detections.of(render(things)[1]))
        history.set_ids(np.arange(1, len(things) + 1))
    return history


def test_instance_matrix_by_hand():
    """Cosines 1 and 0 at temperature 1: rows softmax (e, 1) / (e + 1), columns alone 1."""
    history = embedded([[at(20, 1, UP)], [at(20, 1, UP), at(80, 2, (0.0, 5.0))]])
    p = np.e / (np.e + 1)
    assert history.similarity(1) == pytest.approx(np.array([[(1 + p) / 2, (1 + 1 - p) / 2]]))


def test_what_has_no_appearance_matches_nothing():
    history = embedded([[at(20, 1, UP), at(80, 2, RIGHT)], [at(20, 1, (0.0, 0.0)), at(80, 2, UP)]])
    p = np.e / (np.e + 1)
    assert history.similarity(1) == pytest.approx(np.array([[0, (1 + p) / 2], [0, (1 + 1 - p) / 2]]))


def test_the_fusion_is_a_sigmoid_of_a_weighted_sum(tmp_path):
    """An object that stands still: Dice and probability are 1."""
    write(tmp_path / "w.npz", Learned(head(), Fusion(2.0, 3.0, -1.0), about()))
    track = Hybrid(HybridParameters(tracker_weights=str(tmp_path / "w.npz")), "streets-s")
    drive(track, [[at(20, 1)]])
    frame, segmentation, _ = render([at(20, 1)])
    (seen,) = track.step(replace(frame, stamp=RATE), segmentation)
    assert seen.association_score == pytest.approx(1 / (1 + np.exp(-(2.0 + 3.0 - 1.0))))


# What was learned


def head(width=2, hidden=3, scale=1.0):
    rng = np.random.default_rng(0)
    shapes = ((hidden, width), (hidden,), (width, hidden), (width,))
    return Head(scale, *(rng.normal(size=s).astype(np.float32) for s in shapes))


def about(**changes):
    model = model_path("streets-s")
    facts = {"format": FORMAT, "model": "streets-s", "sha256": fingerprint(model), "embedding": 2}
    return facts | {"step": 5, "recipe": {"seed": 0}} | changes


def saved(path, **changes):
    write(path, Learned(head(), Fusion(1.0, 2.0, -0.5), about(**changes)))
    return str(path)


def test_the_head_by_hand():
    """u = (0.6, 0.8); one hidden unit u0 + u1 - 1 = 0.4; out (1, -1) and bias (0, 0.5); times 2."""
    layers = ([[1, 1]], [-1], [[1], [-1]], [0, 0.5])
    one = Head(2.0, *(np.array(a, np.float32) for a in layers))
    found = one(np.array([[3.0, 4.0]], np.float32), np.array([5.0], np.float32))
    assert found == pytest.approx(np.array([[2 * (0.6 + 0.4), 2 * (0.8 - 0.4 + 0.5)]]))
    assert Head.identity(0.25)(np.array([[3.0, 4.0]], np.float32), np.array([5.0])) == pytest.approx(
        np.array([[1.2, 1.6]])
    )


def test_what_was_learned_comes_back_as_it_was(tmp_path):
    learned = Learned(head(), Fusion(1.0, 2.0, -0.5), about())
    write(tmp_path / "a.npz", learned)
    found = read(tmp_path / "a.npz")
    assert found.about == learned.about and found.fusion == learned.fusion and found.where == str(tmp_path / "a.npz")
    vectors, length = np.array([[1.0, 2.0]], np.float32), np.array([np.sqrt(5)], np.float32)
    assert found.describe(vectors, length) == pytest.approx(learned.describe(vectors, length))


def test_a_head_decides_which_objects_match(tmp_path):
    """Here one that takes the sign off the first number: what was opposite is the same."""
    turn = Head(
        3.0, np.array([[1, 0], [-1, 0]], np.float32), np.zeros(2, np.float32), np.zeros((2, 2), np.float32), None
    )
    turn = replace(turn, out=np.array([[-2, 0], [0, 0]], np.float32), out_bias=np.zeros(2, np.float32))
    write(tmp_path / "t.npz", Learned(turn, Fusion(), about()))
    before, after = [at(20, 1, (1.0, 0.1)), at(80, 2, RIGHT)], [at(20, 1, (-1.0, 0.1)), at(80, 2, RIGHT)]
    config = {"instance_threshold": 0.6, "temporal_consistency": False}
    assert drive(tracker("instance", **config), [before, after])[1][1] != 1
    assert drive(tracker("instance", tracker_weights=str(tmp_path / "t.npz"), **config), [before, after])[1][1] == 1


@pytest.mark.parametrize("name", ["instance", "hybrid"])
def test_embeddings_of_another_length_are_refused_with_both_lengths(tmp_path, name):
    track = tracker(name, tracker_weights=saved(tmp_path / "w.npz"))
    frame, segmentation, _ = render([at(20, 1, (1.0, 2.0, 3.0))])
    with pytest.raises(InputError, match=r"w\.npz: learned for the 2 numbers .*'streets-s'.* have 3; .*none"):
        track.step(frame, segmentation)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.unlink(), "no such file"),
        (lambda p: p.write_bytes(b"something else"), "not weights of a tracker"),
        (lambda p: p.write_bytes(p.read_bytes()[:300]), "not weights of a tracker"),
        (
            lambda p: saved(p, sha256="0" * 64),
            r"learned for model 'streets-s' with the SHA-256 000000000000.* but model is",
        ),
        (lambda p: saved(p, format=99), "format 1"),
        (lambda p: saved(p, embedding=3), "'hidden' is"),
        (lambda p: write(p, Learned(replace(head(), scale=np.nan), Fusion(), about())), "'scale' is"),
        (lambda p: np.savez(p.open("wb"), about=np.array(json.dumps(about()))), "not weights of a tracker"),
    ],
)
def test_bad_weights_are_one_line(tmp_path, change, message):
    path = tmp_path / "w.npz"
    saved(path)
    tracker("hybrid", tracker_weights=str(path))
    change(path)
    with pytest.raises(InputError, match=message) as error:
        tracker("hybrid", tracker_weights=str(path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_weights_beside_the_model_are_taken_and_none_is_none(tmp_path):
    """A model of its own folder, first without and then with such a file."""
    model = tmp_path / "mine.onnx"
    model.write_bytes(b"any bytes: no tracker opens the model")
    beside = LearnedParameters()
    assert load_learned(beside, str(model)).about == {}
    write(weights_path(model), Learned(head(), Fusion(), about(model="mine", sha256=fingerprint(model))))
    assert load_learned(beside, str(model)).about["model"] == "mine"
    assert load_learned(LearnedParameters(tracker_weights="none"), str(model)).about == {}
    assert load_learned(beside, None).about == {}, "no model: no weights of one"
    model.write_bytes(b"another model")
    with pytest.raises(InputError, match="give what `vps-ros train` writes"):
        load_learned(beside, str(model))


@pytest.mark.parametrize("name", [n for n in shipped_models() if weights_path(model_path(n)).is_file()])
def test_what_was_learned_for_a_shipped_model_fits_it(name):
    learned = load_learned(LearnedParameters(), name)
    assert learned.about["model"] == name and learned.fusion.pixel > 0 and learned.fusion.instance > 0
