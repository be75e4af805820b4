"""The fleet on a Ray cluster of two nodes: workers and nodes that die, an S3 server, bad input."""

import json
import os
import sys
import time

import pytest

from support import ROOT
from support.bags import drive, write
from support.fleet_jobs import DyingStore, Logged
from support.labelled_bags import scene, tracked_bag, truth_bag
from support.worlds import colour_model
from vps_ros.commands.main import main
from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator
from vps_ros.taxonomy import CITYSCAPES

pytest.importorskip("pyarrow")
ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

from support.stores import rights_of_nobody, s3_server  # noqa: E402
from vps_ros.fleet.bags import find_bags  # noqa: E402
from vps_ros.fleet.cluster import Workers, cluster, process  # noqa: E402
from vps_ros.fleet.storage import Store  # noqa: E402
from vps_ros.fleet.work import Item, plan  # noqa: E402

pytestmark = pytest.mark.slow
_OBSERVED = (".observed.npz", ".tracked.zip", ".observe.json")
NODE = {"num_cpus": 2, "object_store_memory": 80_000_000, "include_dashboard": False}


def started(start):
    """What `start` gives. Ray allows a node 30 s, which a busy machine may exceed."""
    for _ in range(3):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes of two cores, whose processes find the S3 server and support/."""
    pytest.importorskip("moto")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "test"), *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch, s3_server("fleet"):
        patch.setenv("PYTHONPATH", paths)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
        made = started(lambda: Cluster(initialize_head=True, head_node_args=NODE))
        started(lambda: made.add_node(**NODE))
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return colour_model(tmp_path_factory.mktemp("model") / "colours.onnx")


@pytest.fixture
def drives(tmp_path):
    folder = tmp_path / "drives"
    folder.mkdir()
    for k, name in enumerate("abcd"):
        write(folder / name, drive(3 + k))
    return folder


def items(uri):
    return [Item(bag) for bag in find_bags([str(uri)]).values()]


def done(job, drives, output, nodes, count=0):
    with cluster(nodes.address):
        return {one.name: one for one in process(job, items(drives), output, Workers(count))}


def fleet(capsys, nodes, *arguments):
    code = main(["fleet", *map(str, arguments), "--address", nodes.address])
    return code, capsys.readouterr().err.strip().splitlines()


def test_every_bag_is_done_once_by_workers_of_both_nodes(drives, tmp_path, nodes):
    job, output = Logged(tmp_path / "log", seconds=1.0), Store.at(str(tmp_path / "out"))
    outcomes = done(job, drives, output, nodes)
    assert {name: one.figures for name, one in outcomes.items()} == dict.fromkeys("abcd", {"length": 1})
    assert sorted(job.processed()) == list("abcd")
    assert not plan(job, items(drives), output).missing


def test_workers_and_calls_are_named_for_the_dashboard(drives, tmp_path, nodes):
    """It shows named actors and task events. Events of a worker's last seconds may be lost with it."""
    job, output = Logged(tmp_path / "log", seconds=2.0), Store.at(str(tmp_path / "out"))
    with cluster(nodes.address):
        outcomes = process(job, items(drives), output, Workers(1))
        next(outcomes)
        (actor,) = ray.util.list_named_actors()
        assert actor.startswith("logged ")
        assert len(list(outcomes)) == 3
        expected, end = {"task::prepare logged", "task::logged a", "task::logged b"}, time.monotonic() + 60
        while not expected <= (found := {event["cat"] for event in ray.timeline()}):
            assert time.monotonic() < end, found
            time.sleep(0.5)


def test_the_death_of_a_worker_loses_no_bag(drives, tmp_path, nodes):
    job, output = Logged(tmp_path / "log", {"b": 1, "c": 2}), Store.at(str(tmp_path / "out"))
    outcomes = done(job, drives, output, nodes, 2)
    assert {name: one.error for name, one in outcomes.items()} == dict.fromkeys("abcd", "")
    assert sorted(job.processed()) == ["a", "b", "b", "c", "c", "c", "d"]
    assert [(tmp_path / "out" / f"{name}.txt").read_text() for name in "abcd"] == list("abcd")


def test_a_bag_that_ends_every_worker_is_listed(drives, tmp_path, nodes):
    job, output = Logged(tmp_path / "log", {"b": 9}), Store.at(str(tmp_path / "out"))
    outcomes = done(job, drives, output, nodes, 2)
    assert "its worker died 3 times (Worker exit type:" in outcomes.pop("b").error
    assert [one.error for one in outcomes.values()] == [""] * 3
    assert not list((tmp_path / "out").glob("b*"))


def test_a_result_whose_worker_dies_is_not_written_twice(drives, tmp_path, nodes):
    job, output = Logged(tmp_path / "log"), DyingStore.at(str(tmp_path / "out"))
    outcomes = done(job, drives, output, nodes, 1)
    assert [one.error for one in outcomes.values()] == [""] * 4
    assert sorted(job.processed()) == list("abcd"), "the second worker found the result of the first"


def test_the_death_of_a_node_loses_no_bag(drives, tmp_path, nodes):
    job, output = Logged(tmp_path / "log", seconds=2.0), Store.at(str(tmp_path / "out"))
    third = started(lambda: nodes.add_node(**NODE))
    with cluster(nodes.address):
        outcomes = process(job, items(drives), output, Workers(6))
        names = [next(outcomes).name]
        nodes.remove_node(third, allow_graceful=False)
        names += [one.name for one in outcomes]
    assert sorted(names) == list("abcd") and not plan(job, items(drives), output).missing


def test_a_job_that_no_worker_can_prepare(drives, tmp_path, nodes):
    job, output = Logged(tmp_path / "log", refuses="model cannot be loaded"), Store.at(str(tmp_path / "out"))
    with pytest.raises(InputError, match=r"^worker on \S+: model cannot be loaded$"):
        done(job, drives, output, nodes)
    assert not (tmp_path / "out").exists()
    with cluster(nodes.address), pytest.raises(InputError, match="no room for a worker of 1 CPU, 1 GPU"):
        list(process(job, items(drives), output, Workers(0, 1, 1)))


def test_replay_from_s3_to_s3(drives, tmp_path, model, nodes, capsys):
    """Streamed MCAP files and copied folders give the bytes of a local replay."""
    store = Store.at("s3://fleet/day")
    for name in "ab":
        store.put(drives / name / f"{name}.mcap", f"june/{name}.mcap")
    for part in (drives / "c").iterdir():
        store.put(part, f"c/{part.name}")
    flags = ("-o", "s3://fleet/tracked", "--model", model, "--json", tmp_path / "f.json")
    assert fleet(capsys, nodes, "replay", "s3://fleet/day", *flags)[0] == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert {name: one["frames"] for name, one in figures["bags"].items()} == {"c": 5, "june/a": 3, "june/b": 4}
    result = Store.at("s3://fleet/tracked")
    for name, source in (("june/a", "a"), ("c", "c")):
        local = tmp_path / f"{source}.mcap"
        assert main(["replay", str(drives / source), "-o", str(local), "--model", str(model)]) == 0
        assert result.read(f"{name}.mcap") == local.read_bytes()
    # Half a bag does not stop the others, and what is done stays.
    before = {file.path: file.version for file in result.files()}
    half = tmp_path / "half.mcap"
    half.write_bytes((drives / "d" / "d.mcap").read_bytes()[:20_000])
    store.put(half, "half.mcap")
    store.put(drives / "d" / "d.mcap", "d.mcap")
    flags = (*flags[:-1], tmp_path / "second.json")
    code, lines = fleet(capsys, nodes, "replay", "s3://fleet/day", *flags)
    assert code == 2 and lines[-1] == "vps-ros: 1 of 5 bags failed, see above; a second run tries them again"
    assert "warning: half: cut off or damaged at byte" in " ".join(lines)
    after = {file.path: file.version for file in result.files()}
    made = {"d.mcap", "d.objects.parquet", "d.frames.parquet", "d.replay.json"}
    assert after.keys() - before.keys() == made
    assert {path: after[path] for path in before} == before
    assert list(json.loads((tmp_path / "second.json").read_text())["failed"]) == ["half"]


def test_other_parameters_need_force(drives, tmp_path, model, nodes, capsys):
    arguments = ("replay", drives / "a", "-o", tmp_path / "out", "--model", model)
    assert fleet(capsys, nodes, *arguments)[0] == 0
    code, lines = fleet(capsys, nodes, *arguments, "--memory-tau", 3)
    assert code == 2 and "1 result(s) are of other parameters" in lines[-1] and "--force" in lines[-1]
    assert fleet(capsys, nodes, *arguments, "--memory-tau", 3, "--force")[0] == 0


def test_bad_stores_and_models(drives, tmp_path, model, nodes, capsys, monkeypatch):
    def refused(words, *arguments):
        code, lines = fleet(capsys, nodes, "replay", *arguments)
        assert code == 2 and lines[-1].startswith("vps-ros: "), lines
        assert words in lines[-1], lines

    out = ("-o", tmp_path / "out", "--model")
    refused("s3://nowhere/day: cannot be listed (NO_SUCH_BUCKET", "s3://nowhere/day", *out, model)
    refused("s3://nowhere: cannot be listed (NO_SUCH_BUCKET", drives, "-o", "s3://nowhere", "--model", model)
    (tmp_path / "text.onnx").write_text("I am no model")
    refused("text.onnx: ", drives, *out, tmp_path / "text.onnx")
    with rights_of_nobody():
        refused("s3://fleet/day: cannot be listed (ACCESS_DENIED", "s3://fleet/day", *out, model)
        refused("s3://fleet/out: cannot be listed (ACCESS_DENIED", drives, "-o", "s3://fleet/out", "--model", model)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    refused("s3://fleet/day: cannot be listed (NETWORK_CONNECTION", "s3://fleet/day", *out, model)
    assert not (tmp_path / "out").exists()


def test_evaluate_merges_to_the_last_digit(tmp_path, nodes, capsys):
    once = Evaluator(CITYSCAPES)
    for k, name in enumerate("abcd"):
        truth, found = {i: scene(i + k) for i in range(5)}, {i: scene(i + k, 7 + (i >= 5 - k)) for i in range(5)}
        truth_bag(tmp_path / "gt" / f"{name}.mcap", truth)
        tracked_bag(tmp_path / "pred" / f"{name}.mcap", found)
        for i in range(5):
            once.update(name, *truth[i], *found[i])
    tracked_bag(tmp_path / "pred" / "e.mcap", {0: scene(0)})
    arguments = ("evaluate", tmp_path / "pred", "--gt", tmp_path / "gt", "-o", tmp_path / "out")
    code, lines = fleet(capsys, nodes, *arguments)
    assert code == 2 and "1 of 5 bags failed" in lines[-1]
    assert "warning: e: no bag of this name among the ground truth" in " ".join(lines)
    expected = once.result().to_json()
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == json.loads(json.dumps(expected))
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('.report.html#pictures"') == 4 and "no bag of this name" in page
    # A second run with the missing ground truth measures that bag only, and makes the report anew.
    truth_bag(tmp_path / "gt" / "e.mcap", {0: scene(0)})
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.counts")}
    assert fleet(capsys, nodes, *arguments, "--json", tmp_path / "f.json")[0] == 0
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.counts")}
    assert len(after) == 5 and before.items() <= after.items()
    assert list(json.loads((tmp_path / "f.json").read_text())["metrics"]["per_sequence"]) == list("abcde")


def test_adapt_from_bags_to_a_model(tmp_path, nodes, capsys, monkeypatch):
    """On S3; half a bag is listed and left out."""
    pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("panda3d", reason="needs panda3d")
    # Generated drives are kept in the current folder.
    monkeypatch.chdir(tmp_path)
    size, store, work = "128x64", Store.at("s3://fleet"), tmp_path / "work"
    flags = ["--format", "bag", "--sequences", "2", "--frames", "4", "--size", size]
    assert main(["synth", "-o", str(tmp_path / "d"), *flags]) == 0
    for name in ("0000", "0001"):
        store.put(tmp_path / "d" / f"{name}.mcap", f"city/{name}.mcap")
    half = tmp_path / "half.mcap"
    half.write_bytes((tmp_path / "d/0001.mcap").read_bytes()[:9_000])
    store.put(half, "city/half.mcap")
    arguments = ["adapt", "s3://fleet/city", "-o", "s3://fleet/models/city.onnx", "--work", work]
    arguments += ["--clips", "1", "--steps", "2", "--streets-drives", "1", "--size", size, "--no-trackers"]
    code, lines = fleet(capsys, nodes, *arguments, "--json", tmp_path / "f.json")
    assert code == 2 and "1 of 3 bags failed, see above; the model was made without them" in lines[-1], lines
    made = {file.path: file.version for file in Store.at("s3://fleet/models").files()}
    observed = {f"city.observed/{name}{e}" for name in ("0000", "0001") for e in _OBSERVED}
    observed |= {f"city.observed/{name}.sample.{e}" for name in ("0000", "0001") for e in ("zip", "json")}
    (teacher,) = {path for path in made if path.endswith("-128x64.teacher.onnx")}
    assert made.keys() == {"city.onnx", "city.report.html", teacher} | observed
    assert store.read(f"models/{teacher}") == (work / "teacher.onnx").read_bytes()
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["compared_with"] == "ground truth" and {"before", "after"} <= figures.keys()
    assert list(figures["bags"]) == ["0000", "0001"] and list(figures["failed"]) == ["half"]
    assert len(json.loads((work / "data/panoptic_gt_train_city_vps.json").read_text())["annotations"]) == 3
    assert store.read("models/city.onnx") == (work / "city.onnx").read_bytes()
    # A second run is refused, and with --force observes nothing again but what failed.
    assert "exists; pass --force" in fleet(capsys, nodes, *arguments)[1][-1]
    trained = (work / "run/checkpoint.pt").stat().st_mtime_ns
    assert fleet(capsys, nodes, *arguments, "--force")[0] == 2
    again = {file.path: file.version for file in Store.at("s3://fleet/models").files()}
    assert {path for path in made if again[path] != made[path]} == {"city.onnx", "city.report.html"}
    assert (work / "run/checkpoint.pt").stat().st_mtime_ns == trained


def test_without_an_address_ray_runs_on_this_machine(drives, tmp_path, model, nodes, capsys, monkeypatch):
    """Also beside another cluster, which is left alone."""
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    arguments = ["fleet", "replay", str(drives), "-o", str(tmp_path / "out"), "--model", str(model)]
    assert main([*arguments, "--workers", "1"]) == 0
    assert f"4 bags, 0 of them done before; Ray with {os.cpu_count()} cores" in " ".join(
        capsys.readouterr().err.split()
    )
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mcap")) == [f"{name}.mcap" for name in "abcd"]
