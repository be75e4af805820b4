"""Parameters: declared once, checked wherever they come from."""

import runpy
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from vps_ros.presets import PRESETS

from vps_ros.config import TRACKERS, Config, LiveConfig, NodeConfig, check, parameters
from vps_ros.errors import InputError

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("kind", [Config, LiveConfig, NodeConfig])
def test_every_default_is_within_its_own_range(kind):
    for p in parameters(kind):
        assert check(p, p.default) == p.default
        assert p.meaning and not p.meaning.endswith("."), p.name


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"trackr": "hierarchical"}, ["trackr", "did you mean tracker?"]),
        ({"tracker": "magic"}, ["tracker", "magic", "hierarchical"]),
        ({"thing_threshold": 1.5}, ["thing_threshold", "1.5", "-1..1"]),
        ({"thing_threshold": float("nan")}, ["thing_threshold", "nan"]),
        ({"pixel_threshold": -0.5}, ["pixel_threshold", "-0.5", "0..1", "-1, the tracker's own"]),
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
def test_a_trackers_own_values_are_allowed_and_fill_in_what_was_not_given(tracker):
    declared = {p.name: p for p in parameters()}
    for name, preset in PRESETS[tracker].items():
        assert declared[name].least is not None, f"{name} is not a parameter whose value is the tracker's own"
        check(declared[name], preset.value)
    settled = Config(tracker=tracker).settled()
    assert {n: getattr(settled, n) for n in PRESETS[tracker]} == {n: p.value for n, p in PRESETS[tracker].items()}
    assert Config(tracker=tracker, memory_tau=0.5).settled().memory_tau == 0.5
    assert settled.settled() == settled


def test_whole_numbers_are_taken_for_real_ones():
    assert Config.from_mapping({"thing_threshold": 1}).thing_threshold == 1.0


def test_plain_and_ros_parameter_files_read_alike(tmp_path):
    plain, ros = tmp_path / "plain.yaml", tmp_path / "ros.yaml"
    plain.write_text("thing_threshold: 0.25\nproviders: [cuda, cpu]\n")
    ros.write_text("vps:\n  ros__parameters:\n    thing_threshold: 0.25\n    providers: [cuda, cpu]\n")
    assert Config.from_yaml(plain) == Config.from_yaml(ros)
    assert Config.from_yaml(plain).providers == ("cuda", "cpu")
    assert Config.from_yaml(plain, {"thing_threshold": 0.75}).thing_threshold == 0.75


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
    values = {}
    for p in parameters():
        if p.choices and p.type is tuple:
            values[p.name] = data.draw(st.lists(st.sampled_from(p.choices), min_size=1, unique=True))
        elif p.choices:
            values[p.name] = data.draw(st.sampled_from(p.choices))
        elif p.type is float:
            number = st.floats(p.low if p.least is None else p.least, p.high)
            values[p.name] = data.draw(number if p.least is None else number | st.just(-1.0))
        elif p.type is int:
            values[p.name] = data.draw(st.integers(int(p.low), int(p.high)))
        elif p.type is bool:
            values[p.name] = data.draw(st.booleans())
    assert Config.from_mapping(yaml.safe_load(yaml.safe_dump(values))) == Config.from_mapping(values)


def test_the_shipped_file_and_table_are_made_from_the_declaration():
    made = runpy.run_path(str(ROOT / "docs" / "make_parameters.py"))
    assert (ROOT / "config" / "vps.yaml").read_text() == made["parameter_file"](), "run docs/make_parameters.py"
    assert (ROOT / "docs" / "parameters.md").read_text() == made["table"](), "run docs/make_parameters.py"
    assert Config.from_yaml(ROOT / "config" / "vps.yaml") == Config()
    assert LiveConfig.from_yaml(ROOT / "config" / "vps.yaml") == LiveConfig()
    assert NodeConfig.from_yaml(ROOT / "config" / "vps.yaml") == NodeConfig()
