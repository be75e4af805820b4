"""Replay with look-ahead: the same frames and segments, other identities, the same bytes for any number of threads."""

import json

import numpy as np
import pytest

from support.bags import TOPIC, raw, write
from support.worlds import colour_model, picture
from vps_ros import Config, Frame, OnlinePanoptic
from vps_ros.commands.main import main
from vps_ros.recording.lookahead import replay_with_lookahead
from vps_ros.recording.replay import replay

TENTH = 100_000_000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(colour_model(tmp_path_factory.mktemp("model") / "colours.onnx"))


def frames():
    """An object that is hidden for 40 frames, one that stays, and frames that cannot be used."""
    for i in range(60):
        if i in (3, 30):
            yield Frame(np.zeros((64, 96), np.uint8), (100 + i) * TENTH)
        seen = {1: (70, 40)} | ({0: (4 + i, 40)} if not 10 <= i < 50 else {})
        yield Frame(picture(seen), (100 + i) * TENTH)


def results_of(model, run, jobs=1):
    found = []
    pipeline = OnlinePanoptic(Config(model=model))
    source = frames if run is replay_with_lookahead else frames()
    summary = run(source, pipeline, [lambda frame, result: found.append((frame, result))], jobs)
    return found, summary


def test_frames_and_segments_are_those_of_the_online_replay(model):
    (online, plain), (ahead, summary) = results_of(model, replay), results_of(model, replay_with_lookahead)
    assert len(ahead) == len(online) == 60
    assert summary.dropped == plain.dropped
    assert summary.dropped.total() == 2
    assert len(summary.milliseconds) == 60
    for (frame, one), (same, other) in zip(online, ahead, strict=True):
        assert frame.stamp == same.stamp == other.stamp == one.stamp
        assert np.array_equal(frame.image, same.image)
        assert [(s.class_id, s.area) for s in one.segments] == [(s.class_id, s.area) for s in other.segments]
        for before, after in zip(one.segments, other.segments, strict=True):
            assert np.array_equal(one.mask(before), other.mask(after))
        assert other.taxonomy == one.taxonomy


def test_the_hidden_object_keeps_its_identity_and_its_segment(model):
    (online, plain), (ahead, summary) = results_of(model, replay), results_of(model, replay_with_lookahead)
    assert len(plain.tracks) == 3
    assert summary.tracks == {1, 2}
    moving = [
        {(t.track_id, t.segment_id) for t in r.visible if t.box[1] < 60 and t.class_id == c}
        for _, r in ahead
        for c in [ahead[0][1].visible[0].class_id]
    ]
    assert moving[0] == moving[9] == moving[59]
    assert online[59][1].visible[0].track_id != online[0][1].visible[0].track_id


def test_bytes_do_not_depend_on_the_threads(model, tmp_path, capsys):
    images = [frame for frame in frames() if frame.image.ndim == 3]
    write(tmp_path / "drive", [(TOPIC, frame.stamp, raw(frame.image, frame.stamp)) for frame in images])
    written = []
    for name, jobs in (("a", "1"), ("b", "3"), ("c", "1")):
        output = tmp_path / f"{name}.mcap"
        figures = tmp_path / f"{name}.json"
        command = ["replay", str(tmp_path / "drive"), "-o", str(output), "--model", model, "--lookahead"]
        assert main([*command, "--jobs", jobs, "--json", str(figures)]) == 0, capsys.readouterr().err
        written.append(output.read_bytes())
        assert json.loads(figures.read_text())["tracks"] == 2
    assert written[0] == written[1] == written[2]
