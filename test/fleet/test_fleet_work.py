"""The fleet without Ray: results that are complete or absent, runs that continue."""

import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer

from support.fleet_jobs import Logged
from support.labelled_bags import scene, tracked_bag, truth_bag, writing
from support.worlds import colour_model
from vps_ros.adaptation.steps import Plan, observe
from vps_ros.commands.fleet import cores_of_each
from vps_ros.commands.main import main
from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator
from vps_ros.labelling.project import Project, without_progress
from vps_ros.taxonomy import CITYSCAPES, KITTI_STEP

pytest.importorskip("pyarrow")
pytest.importorskip("ray")
from support.fleet_bags import items  # noqa: E402
from vps_ros.fleet.bags import find_bags  # noqa: E402
from vps_ros.fleet.evaluate import Evaluate, Rules, merge, store_report  # noqa: E402
from vps_ros.fleet.label import Label  # noqa: E402
from vps_ros.fleet.observe import Observe, fetch_frames, observed_in  # noqa: E402
from vps_ros.fleet.portable import PortableConfig  # noqa: E402
from vps_ros.fleet.replay import Replay  # noqa: E402
from vps_ros.fleet.storage import Store  # noqa: E402
from vps_ros.fleet.work import Item, plan, run  # noqa: E402


def test_a_second_run_does_what_is_missing(drives, tmp_path):
    job, output = Logged(tmp_path / "log"), Store.at(str(tmp_path / "out"))
    todo = plan(job, items(drives), output)
    assert [one.name for one in todo.missing] == ["b", "june/a", "june/c"] and not todo.done
    assert run(job, todo.missing[0], output).figures == {"length": 1}
    again = plan(job, items(drives), output)
    assert [one.name for one in again.missing] == ["june/a", "june/c"] and again.done == {"b": {"length": 1}}
    run(job, again.missing[0], output)
    # A result that is gone, another one of another size, and a bag that changed.
    (tmp_path / "out" / "b.txt").unlink()
    assert [one.name for one in plan(job, items(drives), output).missing] == ["b", "june/c"]
    (tmp_path / "out" / "june" / "a.txt").write_text("cut")
    assert [one.name for one in plan(job, items(drives), output).missing] == ["b", "june/a", "june/c"]
    for one in items(drives):
        run(job, one, output)
    assert not plan(job, items(drives), output).missing
    os.utime(drives / "june" / "c.mcap", (1, 1))
    assert [one.name for one in plan(job, items(drives), output).missing] == ["june/c"]
    (tmp_path / "out" / "b.logged.json").write_text("[]")
    assert [one.name for one in plan(job, items(drives), output).missing] == ["b", "june/c"]
    assert not plan(job, items(drives), output).outdated[1:], "only markers of other parameters are outdated"


def test_results_are_those_of_replay(drives, tmp_path):
    model = colour_model(tmp_path / "colours.onnx")
    job, output = Replay(Config(model=str(model), threads=1)), Store.at(str(tmp_path / "out"))
    job.prepare(1)
    for item in items(drives):
        assert not run(job, item, output).error
    flags = ("--model", str(model), "--tables")
    for name, source in (("a", drives / "june" / "a"), ("c", drives / "june" / "c.mcap")):
        assert main(["replay", str(source), "-o", str(tmp_path / f"{name}.mcap"), *flags]) == 0
        assert (tmp_path / "out" / "june" / f"{name}.mcap").read_bytes() == (tmp_path / f"{name}.mcap").read_bytes()
    assert {"b.mcap", "b.objects.parquet", "b.frames.parquet", "b.replay.json"} == {
        path.name for path in (tmp_path / "out").iterdir() if path.is_file()
    }


def test_other_parameters_and_models_are_other_results(tmp_path):
    jobs = [
        Replay(Config(model=str(colour_model(tmp_path / name, poison=poison)), **parameters), topic)
        for name, poison, parameters, topic in (
            ("a.onnx", None, {}, None),
            ("a.onnx", None, {"threads": 7}, None),
            ("a.onnx", None, {"memory_tau": 3.0}, None),
            ("a.onnx", None, {}, "/front"),
            ("a.onnx", 0.5, {}, None),
        )
    ]
    marks = [job.fingerprint for job in jobs]
    assert marks[0] == marks[1] and len(set(marks)) == 4


def test_a_labelling_project_is_that_of_label_new(drives, tmp_path):
    model = colour_model(tmp_path / "colours.onnx")
    job, output = Label(Config(model=str(model)), hz=5.0), Store.at(str(tmp_path / "out"))
    job.prepare(1)
    (item,) = items(drives / "b")
    outcome = run(job, item, output)
    assert outcome.figures == {"frames": 4, "labelled": 3, "tracks": 2}, outcome.error
    with zipfile.ZipFile(tmp_path / "out" / "b.project.zip") as archive:
        archive.extractall(tmp_path / "far")
    flags = ("-o", str(tmp_path / "near"), "--model", str(model), "--hz", "5")
    assert main(["label", "new", str(drives / "b"), *flags]) == 0
    near, far = Project(tmp_path / "near"), Project(tmp_path / "far")
    assert far.settings == near.settings and far.frames == near.frames
    for frame in near.state().layers:
        for a, b in zip(near.labels(near.state(), frame), far.labels(far.state(), frame), strict=True):
            assert np.array_equal(a, b)


def test_bags_are_observed_as_by_adapt(drives, tmp_path):
    """The measures of a local `vps-ros adapt`, and the images and labels of the frames that are asked for."""
    model = str(colour_model(tmp_path / "colours.onnx"))
    job, output = Observe(Config(model=model), Config(model=model)), Store.at(str(tmp_path / "out"))
    job.prepare(1)
    bags = items(drives)
    assert [run(job, item, output).figures for item in bags] == [{"frames": n} for n in (4, 3, 2)]
    local_plan = Plan(tuple(item.bag.where for item in bags), (), "", "", "", 1)
    near = observe(tmp_path / "near", local_plan, model, model, without_progress)
    for item, name, local in zip(bags, local_plan.names, near, strict=True):
        far = observed_in(output, item.name)
        for a, b in zip(vars(far).values(), vars(local).values(), strict=True):
            assert np.array_equal(a, b)
        fetch_frames(output, item.name, [1], tmp_path / "far")
        for part in ("000001.png", "images/000001.jpg"):
            assert (tmp_path / "far" / part).read_bytes() == (tmp_path / "near/tracked" / name / part).read_bytes()
    assert not list((tmp_path / "far").rglob("000000*"))


def test_other_models_are_other_observations(tmp_path):
    a, b = (Config(model=str(colour_model(tmp_path / f"{p}.onnx", poison=p))) for p in (0.0, 0.5))
    jobs = [Observe(a, a), Observe(a, b), Observe(b, a), Observe(a, a, "/front")]
    assert len({job.fingerprint for job in jobs}) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{0}/b", "-o", "m.onnx"], "1 drive(s) with 1 held back"),
        (["{0}", "-o", "m.onnx", "--hold-back", "3"], "3 drive(s) with 3 held back"),
        (["{0}", "-o", "model"], "model: give a folder and the name of a model, which ends in .onnx"),
        (["{0}", "-o", "s3://m.onnx"], "s3://m.onnx: give a folder"),
        (["{0}", "-o", "{0}/m.onnx"], "is within the input"),
        (["{0}", "-o", "m.onnx", "--work", "{0}/w"], "is within the input"),
        (["{0}", "-o", "there.onnx"], "there.onnx: exists; pass --force"),
        (["{0}", "-o", "m.onnx", "--minutes", "0"], "above 0"),
        (["{0}", "-o", "m.onnx", "--teacher", "none.onnx"], "none.onnx"),
    ],
)
def test_wrong_arguments_of_adapt_are_one_line(drives, tmp_path, monkeypatch, capsys, words, message):
    """Before Ray is started, and without anything written."""
    pytest.importorskip("torch", reason="needs torch")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("there.onnx").write_text("a model")
    assert main(["fleet", "adapt", *(word.format(drives) for word in words)]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["there.onnx"]


def test_half_a_bag_fails_and_leaves_nothing(drives, tmp_path):
    path = drives / "june" / "c.mcap"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    config, output = Config(model=str(colour_model(tmp_path / "colours.onnx"))), Store.at(str(tmp_path / "out"))
    job = Replay(config)
    job.prepare(1)
    outcome = run(job, items(path)[0], output)
    assert outcome.error.startswith("cut off or damaged at byte") and "--damaged" in outcome.error
    assert not outcome.defect and "\n" not in outcome.error and not (tmp_path / "out").exists()
    lenient = Replay(config, damaged=True)
    lenient.prepare(1)
    outcome = run(lenient, items(path)[0], output)
    assert outcome.figures["frames"] == 1 and len(outcome.figures["losses"]) == 1


def test_ros_1_bags_fail_with_their_reason(drives, tmp_path):
    """Before they are copied from a store; and not beside the bag that they were converted to."""
    pytest.importorskip("fsspec")
    for name in ("old.bag", "b.bag"):
        with Ros1Writer(drives / name):
            pass
    assert list(find_bags([str(drives)])) == ["b", "june/a", "june/c", "old"]
    far = Store.at(f"memory://{tmp_path.name}")
    far.put(drives / "old.bag", "far.bag")
    job = Replay(Config(model=str(colour_model(tmp_path / "colours.onnx"))))
    job.prepare(1)
    for uri, name in ((str(drives / "old.bag"), "old"), (far.uri, "far")):
        outcome = run(job, items(uri)[0], Store.at(str(tmp_path / "out")))
        words = f"/{name}.bag: is a ROS 1 bag; convert it with `rosbags-convert --src {name}.bag --dst {name}`"
        assert outcome.name == name and words in outcome.error and not outcome.defect, outcome


def test_a_defect_is_one_line(drives, tmp_path):
    class Broken(Logged):
        def process(self, item, folder):
            raise ZeroDivisionError("of this\ntest")

    outcome = run(Broken(tmp_path / "log"), items(drives)[0], Store.at(str(tmp_path / "out")))
    assert outcome.defect and outcome.error.startswith("ZeroDivisionError: of this test (test_fleet_work.py, line ")


def fleet(capsys, *arguments):
    code = main(["fleet", *map(str, arguments)])
    return code, capsys.readouterr().err.strip().splitlines()[-1]


def test_wrong_arguments_are_refused_before_ray_starts(drives, tmp_path, capsys):
    def refused(words, *arguments):
        code, line = fleet(capsys, "replay", *arguments)
        assert code == 2 and words in line, line

    out = ("-o", tmp_path / "out")
    refused("is within the input", drives, "-o", drives / "tracked")
    refused("no such file or folder", tmp_path / "nowhere", *out)
    refused("absent.onnx", drives, *out, "--model", "absent.onnx")
    refused("--cpus 0: must be at least 1", drives, *out, "--cpus", 0)
    refused("--address there: is not HOST:PORT", drives, *out, "--address", "there")
    refused("no Ray can be reached there (Connection refused)", drives, *out, "--address", "127.0.0.1:9")
    (tmp_path / "file").write_text("hello")
    refused("file", drives, "-o", tmp_path / "file" / "out")
    assert not (tmp_path / "out").exists()


def test_metrics_of_all_bags_are_those_of_one_process(tmp_path, capsys):
    """To the last digit; the first drive of the report is the worst, and leads to its pictures."""
    truths, found = {}, {}
    for k, name in enumerate(("june/a", "june/b", "c")):
        (tmp_path / "gt" / name).parent.mkdir(parents=True, exist_ok=True)
        truths[name] = {i: scene(i + k) for i in range(5)}
        # The car has another identity from frame 5 - k on.
        found[name] = {i: scene(i + k, 7 + (i >= 5 - k)) for i in range(5)}
        truth_bag(tmp_path / "gt" / f"{name}.mcap", truths[name])
        tracked_bag(tmp_path / "pred" / f"{name}.mcap", found[name])
    job, output = Evaluate(Rules()), Store.at(str(tmp_path / "out"))
    pred, gt = (find_bags([str(tmp_path / side)]) for side in ("pred", "gt"))
    outcomes = [run(job, Item(bag, gt[name]), output) for name, bag in reversed(pred.items())]
    assert [one.error for one in outcomes] == [""] * 3
    report = merge(job, sorted(pred), output)
    once = Evaluator(CITYSCAPES)
    for name in ("june/b", "c", "june/a"):
        for i in range(5):
            once.update(name, *truths[name][i], *found[name][i])
    expected = once.result().to_json()
    assert report.to_json() == expected and expected["tubes"] == 3
    store_report(report, {name: name for name in pred}, {"d": "cut off <here>"}, output)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == json.loads(json.dumps(expected))
    page = (tmp_path / "out" / "report.html").read_text()
    links = re.findall(r'<a href="([^"#]+)#pictures">([^<]+)</a>', page)
    scores = {name: one["STQ"] for name, one in expected["per_sequence"].items()}
    assert [name for _, name in links] == sorted(scores, key=scores.get) and len(set(scores.values())) == 3
    for link, name in links:
        shown = (tmp_path / "out" / link).read_text()
        assert f"Among the lowest PQ: {name}/" in shown and 'id="pictures"' in shown
    assert "cut off &lt;here&gt;" in page


def test_bags_of_other_classes_are_not_merged(tmp_path):
    output = Store.at(str(tmp_path / "out"))
    for name, taxonomy in (("a", CITYSCAPES), ("b", KITTI_STEP)):
        frames = {i: scene(i) for i in range(2)}
        with writing(tmp_path / f"{name}.mcap") as labels:
            for i, maps in frames.items():
                labels.panoptic(i, *maps, namespace="/ground_truth", taxonomy=taxonomy)
                labels.panoptic(i, *maps, taxonomy=taxonomy)
        assert not run(Evaluate(Rules()), items(tmp_path / f"{name}.mcap")[0], output).error
    with pytest.raises(InputError, match="b: has the classes of kitti-step, a those of cityscapes; choose one"):
        merge(Evaluate(Rules()), "ab", output)
    assert not run(Evaluate(Rules(taxonomy="cityscapes")), items(tmp_path / "b.mcap")[0], output).error
    assert merge(Evaluate(Rules()), "ab", output).frames == 4


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Config(), (3, 3)),
        (Config(threads=2, flow_threads=5), (2, 5)),
        (Config(tracker="sort"), (3, None)),
    ],
    ids=["open", "chosen", "no flow"],
)
def test_networks_have_the_threads_of_their_worker(config, expected):
    here = PortableConfig(config).here(3)
    assert (here.threads, getattr(here, "flow_threads", None)) == expected


@pytest.mark.parametrize(
    ("cores", "bags", "workers", "expected"), [(8, 1, 0, 8), (8, 3, 0, 2), (8, 9, 0, 1), (8, 9, 2, 4), (2, 9, 4, 1)]
)
def test_few_bags_share_the_cores(cores, bags, workers, expected):
    assert cores_of_each(cores, bags, workers) == expected
