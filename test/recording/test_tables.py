"""Tables of a result: what is in them, and the queries of docs/tables.md on streets with known answers."""

import re
from dataclasses import replace

import numpy as np
import pytest

from support import ROOT
from support.bags import START, TENTH, drive, write
from support.worlds import colour_model
from vps_ros.commands.main import main
from vps_ros.frame import AssociatedBy, Frame, PanopticFrame, Segment, Track, TrackState
from vps_ros.frame_3d import Object3D, Objects3D
from vps_ros.recording.tables import TableWriter
from vps_ros.taxonomy import CITYSCAPES

parquet = pytest.importorskip("pyarrow.parquet")
PERSON, CAR, BUS = 11, 13, 15
SPACE = [f"{name}_{axis}" for name in ("position", "size", "velocity_3d") for axis in "xyz"]


def track(number, class_id, box, velocity=(0.0, 0.0), state=TrackState.CONFIRMED, score=0.9):
    index = -1 if state is TrackState.LOST else 0
    area = int((box[2] - box[0]) * (box[3] - box[1]))
    by = AssociatedBy.PIXELS
    return Track(number, number, index, class_id, score, state, by, 0.5, box, velocity, area, START, START, 3)


def result(index, *tracks, segments=()):
    stamp = START + index * TENTH
    return PanopticFrame(stamp, "camera", 0, np.zeros((100, 400), np.uint16), segments, tracks, CITYSCAPES)


def tables(folder, name, *results):
    with TableWriter(folder, name, name) as writer:
        for one in results:
            writer.write(Frame(np.zeros((100, 400, 3), np.uint8), one.stamp), one)


def test_a_row_for_each_object_and_for_each_frame(tmp_path):
    segments = (Segment(1, 0, False, 0.8, 20_000, 0), Segment(1001, CAR, True, 0.9, 400, 1))
    lost = track(2, PERSON, (5, 6, 7, 8), state=TrackState.LOST)
    first = result(0, track(1, CAR, (10, 20, 30, 40), (12.5, -1.5)), lost, segments=segments)
    in_3d = Object3D(1, CAR, 0.9, (1.0, -2.0, 12.5), (4.0, 1.5, 2.0), (0.5, 0.0, -8.0), (0.1, 0.1, 0.2), 12.0, 90)
    first = replace(first, objects_3d=Objects3D((in_3d,), "camera"))
    tables(tmp_path, "drive", replace(first, milliseconds={"segment": 3.0, "flow": 1.0}), result(1))
    car, person = parquet.read_table(tmp_path / "drive.objects.parquet").to_pylist()
    assert car == {
        "recording": "drive",
        "frame": 0,
        "sequence_id": 0,
        "stamp": START,
        "track_id": 1,
        "class_id": CAR,
        "class_name": "car",
        "x0": 10,
        "y0": 20,
        "x1": 30,
        "y1": 40,
        "velocity_x": 12.5,
        "velocity_y": -1.5,
        "area": 400,
        "score": pytest.approx(0.9),
        "state": "confirmed",
        "associated_by": "pixels",
        "association_score": 0.5,
        "segment_id": 1001,
        "hits": 3,
        "first_seen": START,
        "last_seen": START,
        **dict(zip(SPACE, (1.0, -2.0, 12.5, 4.0, 1.5, 2.0, 0.5, 0.0, -8.0), strict=True)),
    }
    assert [person[column] for column in SPACE] == [None] * 9
    assert (person["state"], person["segment_id"], person["class_name"]) == ("lost", 0, "person")
    full, empty = parquet.read_table(tmp_path / "drive.frames.parquet").to_pylist()
    assert dict(full["areas"]) == {"road": 20_000, "car": 400}
    assert (full["void_area"], full["objects"], full["width"], full["height"]) == (40_000 - 20_400, 1, 400, 100)
    assert (full["latency_ms"], full["segment_ms"], full["track_ms"]) == (4.0, 3.0, 0.0)
    assert (empty["frame"], empty["stamp"], empty["areas"], empty["void_area"]) == (1, START + TENTH, [], 40_000)


def test_nothing_is_left_of_a_failure(tmp_path):
    with pytest.raises(ZeroDivisionError), TableWriter(tmp_path, "a", "a") as writer:
        writer.write(Frame(np.zeros((1, 1, 3), np.uint8), 0), result(0, track(1, CAR, (0, 0, 1, 1))))
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_replay_writes_tables_of_the_same_bytes(tmp_path, capsys):
    model, bag = colour_model(tmp_path / "colours.onnx"), write(tmp_path / "bag", drive(5))

    def replay(output, *flags):
        return main(["replay", str(bag), "-o", str(tmp_path / output), "--model", str(model), *flags])

    assert replay("a.mcap", "--tables") == replay("b.mcap", "--tables", str(tmp_path / "more")) == 0
    objects = [tmp_path / "a.objects.parquet", tmp_path / "more" / "b.objects.parquet"]
    assert objects[0].read_bytes() == objects[1].read_bytes()
    rows = parquet.read_table(objects[0]).to_pylist()
    assert {row["recording"] for row in rows} == {"bag"}
    assert [row["stamp"] for row in rows if row["track_id"] == 1] == [START + i * TENTH for i in range(5)]
    frames = parquet.read_table(tmp_path / "a.frames.parquet").to_pylist()
    assert [row["objects"] for row in frames] == [2] * 5 and all(row["latency_ms"] > 0 for row in frames)
    assert dict(frames[0]["areas"]).keys() == {"road", "sky", "car"}
    (tmp_path / "a.mcap").unlink()
    capsys.readouterr()
    assert replay("a.mcap", "--tables") == 2
    assert "a.objects.parquet: exists; pass --force" in capsys.readouterr().err
    assert not (tmp_path / "a.mcap").exists()


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """A folder with three drives in tables/."""
    folder = tmp_path_factory.mktemp("street")
    close, still, late = [], [], []
    for i in range(30):
        # The gap of 30 px closes at 100 px/s; another car drives away from the person.
        x = 130.0 + 10 * i
        if i < 2:
            close.append(
                result(
                    i,
                    track(1, PERSON, (x - 30, 40, x - 10, 80), (100.0, 0.0)),
                    track(2, CAR, (150, 50, 200, 82)),
                    track(3, CAR, (10, 50, 60, 82), (-50.0, 0.0)),
                    track(4, CAR, (150, 10, 200, 20)),
                )
            )
        bus = track(1, BUS, (200, 10, 300, 90), (2.0 if i < 25 else 40.0, 0.0))
        people = [track(2, PERSON, (190, 50, 200, 85))] + [track(3, PERSON, (320, 50, 330, 85))] * (i == 10)
        far = track(4, PERSON, (20, 50, 30, 85))
        still.append(result(i, bus, *people, far))
    # A car is lost in frames 2 to 4 and found again as track 2, 40 px further, where its velocity of 100 px/s leads.
    for i in range(8):
        seen = track(1, CAR, (10 * i, 20, 10 * i + 40, 60), (100.0, 0.0), TrackState.TENTATIVE)
        gone = track(1, CAR, (10 * i, 20, 10 * i + 40, 60), (100.0, 0.0), TrackState.LOST)
        again = track(2, CAR, (10 * i, 20, 10 * i + 40, 60), (100.0, 0.0), score=0.5)
        late.append(result(i, seen if i < 2 else gone if i < 5 else again))
    segments = (Segment(1, 0, False, 1.0, 10_000, 0),)
    tables(folder / "tables", "close", *(replace(one, segments=segments) for one in close))
    tables(folder / "tables" / "more", "still", *still)
    tables(folder / "tables", "late", *late)
    return folder


@pytest.fixture
def query(street, monkeypatch):
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.chdir(street)
    page = (ROOT / "docs" / "tables.md").read_text()
    found = dict(re.findall(r"^### (.*?)\n.*?```sql\n(.*?)```", page, re.MULTILINE | re.DOTALL))
    assert len(found) == page.count("```sql")
    return lambda name: duckdb.sql(found[name].strip().removesuffix(";")).fetchall()


def test_near_misses(query):
    # The gap is 30 px in the first frame and 20 px in the second, so 0.2 s at the shortest.
    assert query("Near misses") == [("close", 1, 2, "car", pytest.approx(0.2), START + TENTH)]


def test_people_beside_stopped_buses(query):
    assert query("People beside stopped buses") == [("still", 1, START, START + 24 * TENTH, 2)]


def test_tracks_that_switch(query):
    rows = query("Tracks that switch")
    assert rows == [("late", "car", 1, 2, START + 5 * TENTH, pytest.approx(1.0))]


def test_drives_by_difficulty(query):
    rows = query("Drives by difficulty")
    # late: 2 of 5 visible boxes are tentative, 3 of 8 are lost; mean score (2 * 0.9 + 3 * 0.5) / 5.
    assert rows[0][:4] == ("late", 8, 5 / 8, 2)
    assert rows[0][4:7] == pytest.approx((0.4, 3 / 8, 0.66))
    assert [row[0] for row in rows[1:]] == ["close", "still"]


def test_area_of_each_class(query):
    # Two of 40 frames show 10,000 of 40,000 pixels of road.
    assert query("Area of each class") == [("road", pytest.approx(2 / 40 / 4))]
