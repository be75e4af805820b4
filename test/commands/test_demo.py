"""`vps-ros demo`: the whole line, as a user runs it."""

import json

import av
import pytest
from test_cli import vps_ros

from vps_ros.commands.demo import FILES
from vps_ros.recording.frames import BagReader


@pytest.mark.slow
def test_a_demo_leaves_a_whole_result(tmp_path):
    run = vps_ros("demo", "-o", tmp_path / "demo", "--frames", 12)
    assert run.returncode == 0, run.stderr
    assert f"vps-ros view {tmp_path / 'demo'}" in run.stderr.replace("\n", "")
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == sorted(FILES)

    metrics = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    assert metrics["fps"] > 0
    assert metrics["protocol"] == "deeplab2"
    # A model that was never trained scores 0: the shipped one must know its own world.
    assert metrics["PQ"]["all"] > 0.25
    assert metrics["STQ"] > 0.25

    with av.open(str(tmp_path / "demo" / "overlay.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 12
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert f"{100 * metrics['PQ']['all']:.1f}" in page
    with BagReader(tmp_path / "demo" / "drive.mcap", "/camera/image_raw") as bag:
        assert bag.count == 12

    bags = "--gt", tmp_path / "demo" / "drive.mcap", "--pred", tmp_path / "demo" / "tracked.mcap"
    judged = vps_ros("evaluate", "--format", "bag", *bags, "--json", tmp_path / "figures.json")
    assert judged.returncode == 0, judged.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    for name in ("STQ", "AQ", "SQ", "VPQ", "PQ", "HOTA", "per_class"):
        assert figures[name] == metrics[name], "the recordings say what was measured on the way"

    again = vps_ros("demo", "-o", tmp_path / "demo", "--frames", 12)
    assert again.returncode == 2
    assert "--force" in again.stderr


def test_a_drive_of_one_frame_is_refused(tmp_path):
    run = vps_ros("demo", "-o", tmp_path / "demo", "--frames", 1)
    assert run.returncode == 2
    assert "--frames 1" in run.stderr
    assert not (tmp_path / "demo").exists()
