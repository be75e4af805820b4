"""Parameters: declared once, checked wherever they come from."""

import argparse
import copy
import pickle
import runpy
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from support import ROOT
from support.trackers_scene import at, ids_of
from vps_ros.commands.main import main
from vps_ros.commands.options import add_parameter_flags, config_from
from vps_ros.config import (
    TRACKERS,
    Config,
    LiveConfig,
    NodeConfig,
    all_tracker_parameters,
    parameters,
    tracker_parameters,
)
from vps_ros.errors import InputError
from vps_ros.parameters import check, declared
from vps_ros.segmenters import SegmenterParameters
from vps_ros.trackers import make_tracker, tracker_class

SETS = [*(parameters(kind) for kind in (LiveConfig, NodeConfig)), *(parameters(Config, name) for name in TRACKERS)]


def trackers_with(name):
    return [t for t in TRACKERS if name in {p.name for p in tracker_parameters(t)}]


@pytest.mark.parametrize("of_set", SETS)
def test_every_default_is_within_its_own_range(of_set):
    for p in of_set:
        assert check(p, p.default) == p.default
        assert p.meaning and not p.meaning.endswith("."), p.name
    assert len({p.name for p in of_set}) == len(of_set)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_every_default_of_a_tracker_says_where_it_comes_from(tracker):
    assert [p.name for p in tracker_parameters(tracker) if not p.source] == []


def test_a_name_means_the_same_for_every_tracker():
    """But for the default, what it means in detail, and where that comes from: a file may then be used for any."""
    for name, first in all_tracker_parameters().items():
        for tracker in trackers_with(name):
            (p,) = (p for p in tracker_parameters(tracker) if p.name == name)
            assert (p.type, p.unit, p.low, p.high, p.choices, p.live) == (
                first.type, first.unit, first.low, first.high, first.choices, first.live
            ), (name, tracker)  # fmt: skip


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"trackr": "hierarchical"}, ["trackr", "did you mean tracker?"]),
        ({"tracker": "magic"}, ["tracker", "magic", "hierarchical"]),
        ({"thing_threshold": 1.5}, ["thing_threshold", "1.5", "-1..1"]),
        ({"thing_threshold": float("nan")}, ["thing_threshold", "nan"]),
        ({"association_threshold": -0.5}, ["association_threshold", "-0.5", "0..1"]),
        ({"pixel_threshold": -0.5}, ["pixel_threshold", "-0.5", "0..1"]),
        ({"confirm_hits": -1}, ["confirm_hits", "-1", "1..1000"]),
        ({"location_temperature": 0.0}, ["location_temperature", "1e-06"]),
        ({"thing_threshold": "0.5"}, ["thing_threshold", "float"]),
        ({"threads": 1.5}, ["threads", "int"]),
        ({"threads": True}, ["threads", "int"]),
        ({"providers": ["cpu", "quantum"]}, ["providers", "quantum"]),
        ({"providers": []}, ["providers"]),
    ],
)
def test_a_bad_value_is_named(values, words):
    with pytest.raises(InputError) as caught:
        Config.from_mapping(values, "drive.yaml")
    for word in ["drive.yaml", *words]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [["front", "front"], ["front left"], ["2nd"], ["front", "/rear"]])
def test_cameras_have_names_of_their_own_that_topics_may_have(names):
    with pytest.raises(InputError, match="cameras: .*a name of its own"):
        NodeConfig(cameras=names)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_config_has_the_parameters_of_its_tracker_with_their_own_defaults(tracker):
    config, kind = Config(tracker=tracker), tracker_class(tracker).Parameters
    assert config.tracker_parameters == kind() and type(config.tracker_parameters) is kind
    for p in tracker_parameters(tracker):
        assert getattr(config, p.name) == p.default
    assert Config(tracker=tracker, memory_tau=0.5).tracker_parameters == kind(memory_tau=0.5)
    assert Config(tracker=tracker, threads=3).segmenter_parameters == SegmenterParameters(threads=3)


def test_defaults_are_those_of_the_papers():
    found = {name: Config(tracker=name) for name in TRACKERS}
    assert [found[n].memory_tau for n in ("hierarchical", "location", "appearance", "hila_mb")] == [30, 10, 1, 10]
    assert [found[n].memory_tau for n in ("iou", "sort", "mask_propagation", "quasi_dense")] == [10, 10, 10, 5]
    assert [found[n].memory_tau for n in ("pixel", "instance", "hybrid")] == [2, 2, 2]
    assert (found["appearance"].memory_threshold, found["hila_mb"].memory_threshold) == (0.8, 0.7)
    assert [found[n].temporal_threshold for n in ("pixel", "instance", "hybrid")] == [0.01, 0.005, 0.01]
    assert [found[n].instance_temperature for n in ("quasi_dense", "instance", "hybrid")] == [0.02, 0.1, 0.1]
    assert [found[n].appearance_weight for n in ("hierarchical", "hila_mb", "quasi_dense")] == [0.3, 0.8, 0.8]
    assert {found[n].tentative_tau for n in TRACKERS if n != "hierarchical"} == {1e6}


def test_what_a_tracker_does_not_have_is_ignored_with_a_warning_but_checked():
    with pytest.warns(DeprecationWarning, match="pixel_threshold, iou_threshold: ignored, tracker location") as said:
        config = Config(tracker="location", pixel_threshold=0.5, iou_threshold=-1, location_threshold=0.6)
    assert len(said) == 1 and said[0].filename == __file__
    assert config == Config(tracker="location", location_threshold=0.6)
    with pytest.raises(AttributeError, match="location.*pixel_threshold"):
        _ = config.pixel_threshold
    with pytest.raises(InputError, match="pixel_threshold: 2 is outside|pixel_threshold: 2.0 is outside"):
        Config(tracker="location", pixel_threshold=2)
    with pytest.raises(TypeError, match="'memry_tau'"):
        Config(memry_tau=3)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_minus_one_still_means_the_default(tracker):
    with pytest.warns(DeprecationWarning, match="memory_tau, tentative_tau: -1 is no longer needed"):
        assert Config(tracker=tracker, memory_tau=-1, tentative_tau=-1.0) == Config(tracker=tracker)
    with pytest.warns(DeprecationWarning, match="memory_tau: -1 is no longer needed"):
        assert replace(Config(tracker=tracker, memory_tau=3.0), memory_tau=-1) == Config(tracker=tracker)


def test_a_file_of_the_time_when_every_tracker_had_every_parameter_still_works(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text("tracker: hila_mb\nmemory_tau: -1.0\ninit_threshold: 0.35\nlocation_threshold: 0.6\n")
    with pytest.warns(DeprecationWarning, match="init_threshold: ignored.*; memory_tau: -1 is no longer needed"):
        assert Config.from_yaml(path) == Config(tracker="hila_mb", location_threshold=0.6)


def test_a_config_may_be_changed_pickled_and_compared():
    config = Config(tracker="sort", iou_threshold=0.2, threads=2)
    changed = replace(config, memory_tau=3.0, thing_threshold=0.5)
    assert changed == Config(tracker="sort", iou_threshold=0.2, threads=2, memory_tau=3.0, thing_threshold=0.5)
    assert changed != config and pickle.loads(pickle.dumps(changed)) == changed and copy.deepcopy(changed) == changed
    with pytest.raises(InputError, match="SortParameters given, tracker location has LocationParameters"):
        replace(config, tracker="location")


def test_a_new_tracker_is_one_file_and_one_line(tmp_path, monkeypatch):
    """A class with its parameters, and its name in the registry: Config, flags, help and files know it."""
    (tmp_path / "nearest_tracker.py").write_text(NEAREST)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(TRACKERS, "nearest", "nearest_tracker:Nearest")
    config = Config.from_mapping({"tracker": "nearest", "reach": 0.25})
    assert (config.reach, config.memory_tau) == (0.25, 7)
    parser = argparse.ArgumentParser()
    add_parameter_flags(parser)
    args = parser.parse_args(["--tracker", "nearest", "--reach", "0.25"])
    assert config_from(args) == config
    assert "largest distance of two boxes (default: 0.1)" in " ".join(parser.format_help().split())
    track = make_tracker(config)
    steps = [[at(10)], [at(20)], [at(90)]]
    assert ids_of(track, steps) == [{1: 1}, {1: 1}, {1: 2}]
    with pytest.raises(InputError, match="reach: 9.0 is outside 0..1"):
        Config(tracker="nearest", reach=9.0)
    with pytest.warns(DeprecationWarning, match="reach: ignored, tracker sort"):
        Config(tracker="sort", reach=0.25)


NEAREST = """
from dataclasses import dataclass
import numpy as np
from vps_ros.frame import AssociatedBy
from vps_ros.parameters import parameter
from vps_ros.trackers.assignment import mutual_best
from vps_ros.trackers.tracker import Tracker, TrackerParameters, matched, memory_tau

@dataclass(frozen=True)
class NearestParameters(TrackerParameters):
    reach: float = parameter(0.1, "largest distance of two boxes", low=0, high=1, live=True)
    memory_tau: float = memory_tau(7.0, "an example")

class Nearest(Tracker):
    Parameters = NearestParameters

    def associate(self, detections, stamp):
        past = self.memory.predict(stamp)
        distance = np.abs(past[:, None] - detections.boxes).max(axis=2)
        m, k = mutual_best(-distance, -self.parameters.reach)
        return matched(m, k, -distance[m, k], AssociatedBy.MEMORY)
"""


@pytest.mark.parametrize("command", ["replay", "track"])
def test_help_shows_the_parameters_of_the_chosen_tracker(command, capsys):
    for tracker in ("hierarchical", "sort"):
        with pytest.raises(SystemExit):
            main([command, "--tracker", tracker, "--help"])
        shown = capsys.readouterr().out
        for p in all_tracker_parameters().values():
            assert (f"{p.flag} " in shown) == (tracker in trackers_with(p.name)), p.name
        assert "--tracker NAME --help" in shown and all(name in shown for name in TRACKERS)


def test_track_has_no_parameters_of_a_segmenter_but_the_length_of_clips(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["track", "--help"])
    shown = capsys.readouterr().out
    assert [p.flag for p in declared(SegmenterParameters) if f"{p.flag} " in shown] == ["--clip-length"]
    folders = ["--images", str(tmp_path), "--segmentation", str(tmp_path), "-o", str(tmp_path / "out")]
    assert main(["track", *folders, "--model", "city-s", "--clip-length", "2", "--tiles", "3"]) == 2
    assert capsys.readouterr().err.startswith("warning: --model, --tiles: no effect")


def test_flags_of_another_tracker_are_told_in_one_line(capsys):
    parser = argparse.ArgumentParser()
    add_parameter_flags(parser)
    args = parser.parse_args(
        ["--iou-threshold", "0.5", "--memory-tau", "-1", "--pixel-threshold", "0.2", "--tracker", "sort"]
    )
    assert config_from(args) == Config(tracker="sort", iou_threshold=0.5)
    (line,) = capsys.readouterr().err.splitlines()
    assert "pixel_threshold: ignored, tracker sort" in line and "memory_tau: -1 is no longer needed" in line


def test_whole_numbers_are_taken_for_real_ones():
    assert Config.from_mapping({"thing_threshold": 1}).thing_threshold == 1.0


def test_plain_and_ros_parameter_files_read_alike(tmp_path):
    plain, ros = tmp_path / "plain.yaml", tmp_path / "ros.yaml"
    plain.write_text("thing_threshold: 0.25\nproviders: [cuda, cpu]\n")
    ros.write_text("vps:\n  ros__parameters:\n    thing_threshold: 0.25\n    providers: [cuda, cpu]\n")
    assert Config.from_yaml(plain) == Config.from_yaml(ros)
    assert Config.from_yaml(plain).providers == ("cuda", "cpu")
    assert Config.from_yaml(plain, {"thing_threshold": 0.75}).thing_threshold == 0.75


def test_a_ros_file_may_have_other_nodes_and_parameters_of_ros(tmp_path):
    path = tmp_path / "ros.yaml"
    path.write_text(
        "/camera:\n  ros__parameters:\n    exposure: 5\n"
        "/rig/vps:\n  ros__parameters:\n    threads: 2\n    use_sim_time: true\n    qos_overrides: {/image: {}}\n"
        "/**:\n  ros__parameters:\n    threads: 3\n    thing_threshold: 0.25\n"
    )
    assert Config.from_yaml(path) == Config(threads=2, thing_threshold=0.25)
    assert LiveConfig.from_yaml(path) == LiveConfig()
    assert NodeConfig.from_yaml(ROOT / "config" / "cameras.yaml") == NodeConfig(cameras=("front", "left"))
    assert Config.from_yaml(ROOT / "config" / "cameras.yaml").memory_unit == "seconds"
    path.write_text("/camera:\n  ros__parameters:\n    exposure: 5\n/lidar:\n  ros__parameters:\n    rate: 5\n")
    with pytest.raises(InputError, match="unknown parameter '/camera'"):
        Config.from_yaml(path)


def test_one_file_holds_the_parameters_of_the_pipeline_and_of_what_is_live(tmp_path):
    path = tmp_path / "drive.yaml"
    path.write_text("thing_threshold: 0.25\ndepth: 5\ncameras: [front, left]\n")
    assert Config.from_yaml(path) == Config(thing_threshold=0.25)
    assert LiveConfig.from_yaml(path) == LiveConfig(depth=5)
    assert NodeConfig.from_yaml(path) == NodeConfig(cameras=("front", "left"))
    names = [p.name for kind in (Config, LiveConfig, NodeConfig) for p in parameters(kind)]
    assert len(names) == len(set(names))
    path.write_text("reliablity: reliable\n")
    for kind in (Config, LiveConfig):
        with pytest.raises(InputError, match="'reliablity'; did you mean reliability"):
            kind.from_yaml(path)
    with pytest.raises(InputError, match="depth"):
        LiveConfig(depth=0)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1,", "just words"])
def test_a_file_that_holds_no_parameters_is_refused(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="odd.yaml"):
        Config.from_yaml(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.yaml: no such file"):
        Config.from_yaml(tmp_path / "absent.yaml")


def test_an_empty_file_means_the_defaults(tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    assert Config.from_yaml(tmp_path / "empty.yaml") == Config()


@settings(deadline=None)
@given(st.data())
def test_a_config_written_as_yaml_reads_back_equal(data):
    tracker = data.draw(st.sampled_from(list(TRACKERS)))
    values = {"tracker": tracker}
    for p in (*declared(SegmenterParameters), *tracker_parameters(tracker)):
        if p.choices and p.type is tuple:
            values[p.name] = data.draw(st.lists(st.sampled_from(list(p.choices)), min_size=1, unique=True))
        elif p.choices:
            values[p.name] = data.draw(st.sampled_from(list(p.choices)))
        elif p.type is float:
            values[p.name] = data.draw(st.floats(p.low, p.high))
        elif p.type is int:
            values[p.name] = data.draw(st.integers(int(p.low), int(p.high)))
        elif p.type is bool:
            values[p.name] = data.draw(st.booleans())
    if values.get("flow") == "raft":
        values["flow_model"] = "raft.onnx"
    read = Config.from_mapping(yaml.safe_load(yaml.safe_dump(values)))
    assert read == Config.from_mapping(values)
    for name, value in values.items():
        assert getattr(read, name) == (tuple(value) if isinstance(value, list) else value)


def test_the_shipped_file_and_table_are_made_from_the_declaration():
    made = runpy.run_path(str(ROOT / "docs" / "make_parameters.py"))
    assert (ROOT / "config" / "vps.yaml").read_text() == made["parameter_file"](), "run docs/make_parameters.py"
    assert (ROOT / "docs" / "parameters.md").read_text() == made["table"](), "run docs/make_parameters.py"
    for tracker in TRACKERS:
        read = Config.from_yaml(ROOT / "config" / "vps.yaml", {"tracker": tracker})
        assert read == Config(tracker=tracker), "the file changes no tracker's defaults"
    assert LiveConfig.from_yaml(ROOT / "config" / "vps.yaml") == LiveConfig()
    assert NodeConfig.from_yaml(ROOT / "config" / "vps.yaml") == NodeConfig()
