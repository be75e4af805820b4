"""Definitions of the messages, and panoptic frames to messages and back."""

import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from support import ROOT
from vps_ros.errors import DroppedFrame
from vps_ros.frame import THING_BASE, AssociatedBy, PanopticFrame, Segment, Track, TrackState
from vps_ros.messages import panoptic
from vps_ros.messages.typestore import full_name, typestore
from vps_ros.taxonomies import ALL
from vps_ros.taxonomy import CITYSCAPES

STAMP = 1_700_000_000_123_456_789


def round_trip(message):
    kind = message.__msgtype__
    return typestore().deserialize_cdr(typestore().serialize_cdr(message, kind), kind)


def fields(name):
    """Names and types, as text, of a type's fields."""
    text, _ = typestore().generate_msgdef(name, ros_version=2)
    lines = [line.split() for line in text.partition("=" * 80)[0].splitlines() if "=" not in line]
    return [(name, kind) for kind, name in lines]


def test_fields_are_those_of_the_contract():
    assert fields("vps_ros/msg/TrackedObject") == [
        ("track_id", "uint32"),
        ("segment_id", "uint16"),
        ("class_id", "uint16"),
        ("class_name", "string"),
        ("score", "float32"),
        ("state", "uint8"),
        ("associated_by", "uint8"),
        ("association_score", "float32"),
        ("roi", "sensor_msgs/RegionOfInterest"),
        ("velocity_x", "float32"),
        ("velocity_y", "float32"),
        ("area", "uint32"),
        ("first_seen", "builtin_interfaces/Time"),
        ("last_seen", "builtin_interfaces/Time"),
        ("hits", "uint32"),
    ]
    assert fields("vps_ros/msg/TrackedObjects") == [
        ("header", "std_msgs/Header"),
        ("sequence_id", "uint32"),
        ("objects", "vps_ros/TrackedObject[]"),
    ]
    assert fields("vps_ros/msg/PanopticSegment") == [
        ("segment_id", "uint16"),
        ("class_id", "uint16"),
        ("class_name", "string"),
        ("is_thing", "bool"),
        ("score", "float32"),
        ("area", "uint32"),
        ("track_id", "uint32"),
    ]
    assert fields("vps_ros/msg/PanopticSegments") == [
        ("header", "std_msgs/Header"),
        ("taxonomy", "string"),
        ("segments", "vps_ros/PanopticSegment[]"),
    ]


def test_constants_are_those_of_the_core():
    kind = typestore().types["vps_ros/msg/TrackedObject"]
    for enumeration in (TrackState, AssociatedBy):
        assert {e.name: getattr(kind, e.name) for e in enumeration} == {e.name: e.value for e in enumeration}


def test_vision_msgs_are_those_of_release_4():
    assert fields("vision_msgs/msg/Detection2DArray") == [
        ("header", "std_msgs/Header"),
        ("detections", "vision_msgs/Detection2D[]"),
    ]
    assert fields("vision_msgs/msg/Detection2D") == [
        ("header", "std_msgs/Header"),
        ("results", "vision_msgs/ObjectHypothesisWithPose[]"),
        ("bbox", "vision_msgs/BoundingBox2D"),
        ("id", "string"),
    ]
    assert fields("vision_msgs/msg/LabelInfo") == [
        ("header", "std_msgs/Header"),
        ("class_map", "vision_msgs/VisionClass[]"),
        ("threshold", "float32"),
    ]


def test_types_of_other_outputs_are_known():
    for name in ("diagnostic_msgs/msg/DiagnosticArray", "sensor_msgs/msg/CameraInfo", "std_msgs/msg/Header"):
        assert name in typestore().types


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("sensor_msgs/Image", "sensor_msgs/msg/Image"),
        ("sensor_msgs/msg/Image", "sensor_msgs/msg/Image"),
        ("Image", "Image"),
    ],
)
def test_type_names_without_their_middle(name, full):
    assert full_name(name) == full


def frame():
    pixels = np.zeros((4, 6), np.uint16)
    pixels[2:] = 1
    pixels[1:3, 1:4] = 1002
    pixels[0, 5] = 11
    road, car = Segment(1, 0, False, 0.5, 9, 0), Segment(1002, 13, True, 0.75, 6, 41)
    sky = Segment(11, 10, False, 0.25, 1, 0)
    seen = Track(
        track_id=41,
        slot=2,
        index=1,
        class_id=13,
        score=0.75,
        state=TrackState.CONFIRMED,
        associated_by=AssociatedBy.PIXELS,
        association_score=0.5,
        box=(0.6, 1.0, 4.0, 3.2),
        velocity=(8.0, -2.0),
        area=6,
        first_seen=STAMP - 10**9,
        last_seen=STAMP,
        hits=11,
    )
    gone = seen._replace(
        track_id=7, slot=0, index=-1, class_id=11, state=TrackState.LOST, box=(5.0, -3.0, 9.0, 2.0), area=0
    )
    return PanopticFrame(STAMP, "front camera", 3, pixels, (road, car, sky), (seen, gone))


def test_the_panoptic_image_holds_segment_ids():
    message = round_trip(panoptic.panoptic(frame()))
    assert (message.encoding, message.height, message.width, message.step) == ("mono16", 4, 6, 12)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1_700_000_000, 123_456_789)
    assert message.header.frame_id == "front camera"
    np.testing.assert_array_equal(message.data.view(np.uint16).reshape(4, 6), frame().map)


def test_segments():
    message = round_trip(panoptic.segments(frame(), CITYSCAPES))
    assert message.taxonomy == "cityscapes"
    rows = [(s.segment_id, s.class_id, s.class_name, s.is_thing, s.score, s.area, s.track_id) for s in message.segments]
    assert rows == [
        (1, 0, "road", False, 0.5, 9, 0),
        (1002, 13, "car", True, 0.75, 6, 41),
        (11, 10, "sky", False, 0.25, 1, 0),
    ]


def test_tracks():
    message = round_trip(panoptic.tracks(frame(), CITYSCAPES))
    assert message.sequence_id == 3
    car, person = message.objects
    assert (car.track_id, car.segment_id, car.class_name, car.state, car.associated_by) == (41, 1002, "car", 1, 1)
    # The box is rounded to whole pixels: 0.6..4 by 1..3.2.
    assert (car.roi.x_offset, car.roi.y_offset, car.roi.width, car.roi.height) == (1, 1, 3, 2)
    assert (car.velocity_x, car.velocity_y, car.area, car.hits) == (8.0, -2.0, 6, 11)
    assert (car.first_seen.sec, car.first_seen.nanosec) == (1_699_999_999, 123_456_789)
    assert (person.state, person.segment_id, person.area) == (2, 0, 0)
    # Predicted boxes leave the image; what is left of 5..9 by -3..2 in 6x4 pixels is 5..6 by 0..2.
    assert (person.roi.x_offset, person.roi.y_offset, person.roi.width, person.roi.height) == (5, 0, 1, 2)


@pytest.mark.parametrize(
    ("box", "roi"),
    [
        # x_offset, y_offset, width, height in an image of 6x4 pixels.
        ((-9.0, -5.0, -2.0, -1.0), (0, 0, 1, 1)),
        ((8.0, 1.0, 11.0, 3.0), (5, 1, 1, 2)),
        ((1.0, 7.0, 3.0, 9.0), (1, 3, 2, 1)),
        ((2.2, 1.2, 2.4, 1.4), (2, 1, 1, 1)),
        ((-3.0, -3.0, 9.0, 9.0), (0, 0, 6, 4)),
    ],
    ids=["above and left", "right", "below", "smaller than a pixel", "around the image"],
)
def test_a_box_outside_the_image_is_its_nearest_pixel_and_never_the_whole_image(box, roi):
    one = frame()
    lost = replace(one, tracks=(one.tracks[1]._replace(box=box),))
    (found,) = round_trip(panoptic.tracks(lost, CITYSCAPES)).objects
    assert (found.roi.x_offset, found.roi.y_offset, found.roi.width, found.roi.height) == roi


def test_detections_are_the_objects_in_sight():
    message = round_trip(panoptic.detections(frame()))
    (car,) = message.detections
    assert car.id == "41"
    assert (car.bbox.center.position.x, car.bbox.center.position.y) == pytest.approx((2.3, 2.1))
    assert (car.bbox.size_x, car.bbox.size_y) == pytest.approx((3.4, 2.2))
    (result,) = car.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("13", 0.75)
    assert result.pose.pose.orientation.w == 1.0
    assert car.header == message.header


def test_label_info_names_every_class():
    message = round_trip(panoptic.label_info(STAMP, "eye", CITYSCAPES))
    assert [(c.class_id, c.class_name) for c in message.class_map] == [(c.id, c.name) for c in CITYSCAPES.classes]


def test_panoptic_ids_tell_class_0_from_void():
    message = round_trip(panoptic.panoptic_ids(frame()))
    assert message.encoding == "32SC1"
    np.testing.assert_array_equal(
        message.data.view(np.int32).reshape(4, 6),
        [
            [-1, -1, -1, -1, -1, 10_000_000],
            [-1, 13_000_041, 13_000_041, 13_000_041, -1, -1],
            [0, 13_000_041, 13_000_041, 13_000_041, 0, 0],
            [0, 0, 0, 0, 0, 0],
        ],
    )


def test_maps_for_evaluation():
    classes, identities = panoptic.class_and_track_maps(frame())
    np.testing.assert_array_equal(classes[0], [255, 255, 255, 255, 255, 10])
    np.testing.assert_array_equal(classes[2], [0, 13, 13, 13, 0, 0])
    np.testing.assert_array_equal(identities[2], [0, 41, 41, 41, 0, 0])
    classes, _ = panoptic.class_and_track_maps(frame(), void=65535)
    assert classes[0, 0] == 65535


def test_the_overlay_is_rgb():
    picture = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    message = round_trip(panoptic.overlay(frame(), picture))
    assert (message.encoding, message.step) == ("rgb8", 18)
    np.testing.assert_array_equal(message.data.reshape(4, 6, 3), picture)


def test_an_empty_frame():
    empty = PanopticFrame(STAMP, "", 0, np.zeros((2, 2), np.uint16), (), ())
    image = round_trip(panoptic.panoptic(empty))
    rows = round_trip(panoptic.segments(empty, CITYSCAPES))
    objects = round_trip(panoptic.tracks(empty, CITYSCAPES))
    assert round_trip(panoptic.detections(empty)).detections == []
    back = panoptic.read_panoptic(image, rows, objects)
    assert (back.segments, back.tracks, back.map.tolist()) == ((), (), [[0, 0], [0, 0]])
    assert panoptic.class_and_track_maps(empty)[0].tolist() == [[255, 255], [255, 255]]


@st.composite
def frames(draw):
    count = draw(st.integers(0, 4))
    classes = draw(st.lists(st.integers(11, 18), min_size=count, max_size=count))
    stuff = draw(st.lists(st.integers(0, 10), unique=True, max_size=3))
    whole = st.floats(0, 1, width=32)
    segments = [Segment(1 + c, c, False, draw(whole), draw(st.integers(0, 2**32 - 1)), 0) for c in stuff]
    tracks = []
    for k, class_id in enumerate(classes):
        seen = draw(st.booleans())
        if seen:
            area = draw(st.integers(0, 2**32 - 1))
            segments.append(Segment(THING_BASE + k, class_id, True, draw(whole), area, 100 + k))
        x, y = draw(st.integers(0, 4)), draw(st.integers(0, 3))
        box = tuple(map(float, (x, y, draw(st.integers(x + 1, 5)), draw(st.integers(y + 1, 4)))))
        times = sorted(draw(st.tuples(st.integers(0, 2**31 * 10**9 - 1), st.integers(0, 2**31 * 10**9 - 1))))
        tracks.append(
            Track(
                100 + k,
                k if seen else -1,
                len(segments) - 1 if seen else -1,
                class_id,
                draw(whole),
                draw(st.sampled_from(TrackState)),
                draw(st.sampled_from(AssociatedBy)),
                draw(whole),
                box,
                (draw(st.floats(-1e6, 1e6, width=32)), draw(st.floats(-1e6, 1e6, width=32))),
                draw(st.integers(0, 2**32 - 1)),
                *times,
                draw(st.integers(0, 2**32 - 1)),
            )
        )
    ids = [0, *(s.segment_id for s in segments)]
    pixels = draw(hnp.arrays(np.uint16, (4, 5), elements=st.sampled_from(ids)))
    stamp = draw(st.integers(0, 2**31 * 10**9 - 1))
    name = draw(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8))
    return PanopticFrame(stamp, name, draw(st.integers(0, 2**32 - 1)), pixels, tuple(segments), tuple(tracks))


@settings(max_examples=60, deadline=None)
@given(frames())
def test_a_frame_survives_a_round_trip(one):
    image = round_trip(panoptic.panoptic(one))
    rows = round_trip(panoptic.segments(one, CITYSCAPES))
    objects = round_trip(panoptic.tracks(one, CITYSCAPES))
    back = panoptic.read_panoptic(image, rows, objects)
    np.testing.assert_array_equal(back.map, one.map)
    assert (back.stamp, back.frame_id, back.sequence_id) == (one.stamp, one.frame_id, one.sequence_id)
    assert back.segments == one.segments
    assert back.tracks == one.tracks


def test_messages_of_different_frames_are_not_joined():
    one = frame()
    other = PanopticFrame(STAMP + 1, "front camera", 3, one.map, one.segments, one.tracks)
    image = panoptic.panoptic(one)
    with pytest.raises(DroppedFrame, match="stamp"):
        panoptic.read_panoptic(image, panoptic.segments(other, CITYSCAPES))
    bare = PanopticFrame(STAMP, "front camera", 3, one.map, one.segments[:1], ())
    with pytest.raises(DroppedFrame, match="segment 11 "):
        panoptic.read_panoptic(image, panoptic.segments(bare, CITYSCAPES))


def test_stamps_before_the_epoch_keep_their_nanoseconds():
    time = panoptic.make_time(-1)
    assert (time.sec, time.nanosec) == (-1, 999_999_999)
    assert panoptic.nanoseconds(time) == -1


@pytest.mark.slow
def test_an_installed_wheel_knows_messages_and_classes(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "MANIFEST.in", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in ("vps_ros", "msg"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    build = [sys.executable, "-c", "import setuptools.build_meta as b; b.build_wheel('.')"]
    run = subprocess.run(build, cwd=source, capture_output=True, text=True)
    if "No module named" in run.stderr:
        pytest.skip("building a wheel needs setuptools")
    assert run.returncode == 0, run.stderr
    (wheel,) = source.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    assert not (tmp_path / "installed" / "vps_ros" / "msg").exists()
    assert (tmp_path / "installed" / "vps_ros" / "py.typed").is_file(), "type checkers look for it"
    script = (
        "from vps_ros.messages.typestore import own_definitions, typestore\n"
        "from vps_ros.taxonomies import ALL\n"
        "print(own_definitions())\n"
        "print(typestore().hash_rihs01('vps_ros/msg/TrackedObjects'), len(ALL))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "installed", capture_output=True, text=True, check=True
    ).stdout.split()
    assert Path(told[0]) == tmp_path / "installed" / "vps_ros" / "messages" / "definitions" / "vps_ros"
    assert told[1:] == [typestore().hash_rihs01("vps_ros/msg/TrackedObjects"), str(len(ALL))]


def test_definitions_of_a_ros_installation_are_found(tmp_path):
    modules = tmp_path / "lib" / "python3" / "site-packages" / "vps_ros"
    shutil.copytree(ROOT / "vps_ros", modules, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    shutil.copytree(ROOT / "msg", tmp_path / "share" / "vps_ros" / "msg")
    script = "from vps_ros.messages.typestore import own_definitions; print(own_definitions())"
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=modules.parent, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert Path(told) == tmp_path / "share" / "vps_ros" / "msg"
