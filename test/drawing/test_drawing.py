"""Overlays, sheets and videos: what people look at."""

import subprocess
import sys
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from vps_ros.drawing.colors import identity_color, paint_map, text_color
from vps_ros.drawing.overlay import Overlay, draw
from vps_ros.drawing.video import MAX_FRAME_SECONDS, VideoWriter, contact_sheet, letterbox
from vps_ros.errors import InputError
from vps_ros.frame import AssociatedBy, Frame, PanopticFrame, Segment, Track, TrackState
from vps_ros.taxonomy import CITYSCAPES

ROAD, SKY, CAR = 0, 10, 13
SECOND = 10**9


def track(track_id, box, index=0, slot=0, state=TrackState.CONFIRMED):
    area = int((box[2] - box[0]) * (box[3] - box[1]))
    times = (0, 0, 1)
    return Track(track_id, slot, index, CAR, 0.9, state, AssociatedBy.NEW, 0.0, box, (0.0, 0.0), area, *times)


def scene(height=120, width=200, track_id=7, slot=0, **changes):
    """Sky over road, a car in the middle, and an unlabelled strip on the left."""
    ids = np.full((height, width), 1 + ROAD, np.uint16)
    ids[: height // 3] = 1 + SKY
    ids[:, :10] = 0
    box = (width // 2, height // 2, width // 2 + 40, height // 2 + 30)
    ids[box[1] : box[3], box[0] : box[2]] = 1000 + slot
    segments = (
        Segment(1 + ROAD, ROAD, False, 1.0, 1, 0),
        Segment(1 + SKY, SKY, False, 1.0, 1, 0),
        Segment(1000 + slot, CAR, True, 0.9, 1200, track_id),
    )
    tracks = (track(track_id, tuple(map(float, box)), slot=slot),)
    values = {"map": ids, "segments": segments, "tracks": tracks, **changes}
    return PanopticFrame(0, "camera", 0, **values)


def grey(height=120, width=200):
    return np.full((height, width, 3), 100, np.uint8)


def near(pixel, color):
    return np.abs(np.asarray(pixel, int) - np.asarray(color)).max() <= 2


def test_stuff_takes_its_class_and_things_their_identity():
    image = grey()
    picture = Overlay(CITYSCAPES, opacity=0.5, labels=False)(image, scene())
    assert picture.shape == image.shape
    assert picture.dtype == np.uint8
    assert near(picture[100, 30], (np.array(CITYSCAPES.by_id[ROAD].color) + 100) / 2)
    assert near(picture[5, 30], (np.array(CITYSCAPES.by_id[SKY].color) + 100) / 2)
    assert near(picture[70, 120], (np.array(identity_color(7)) + 100) / 2)
    assert (picture[50, 3] == 100).all(), "void stays as the camera saw it"
    assert (image == 100).all(), "the camera's image is not drawn on"


def test_the_colour_stays_with_the_identity_not_with_the_slot():
    draw = Overlay(CITYSCAPES, labels=False)
    one, moved, other = (draw(grey(), scene(**k)) for k in ({"slot": 3}, {"slot": 40}, {"track_id": 8}))
    assert (one[70, 120] == moved[70, 120]).all()
    assert np.abs(one[70, 120].astype(int) - other[70, 120]).max() > 20


def test_neighbouring_identities_look_different():
    colors = np.array([identity_color(i) for i in range(1, 200)], int)
    for step in (1, 2, 3, 4):
        assert np.abs(colors[step:] - colors[:-step]).max(1).min() > 50
    assert identity_color(123) == identity_color(123)


def test_things_have_a_thin_outline_and_stuff_none():
    picture = Overlay(CITYSCAPES, labels=False)(grey(), scene())
    color = np.array(identity_color(7))
    inside, edge = picture[75, 130], picture[75, 139]
    assert near(inside, (color + 100) / 2)
    assert np.abs(edge.astype(int) - color).sum() < np.abs(inside.astype(int) - color).sum(), "right side of the car"
    assert near(picture[75, 142], (np.array(CITYSCAPES.by_id[ROAD].color) + 100) / 2)
    between = picture[30:50, 20:90].reshape(-1, 3)
    assert len(np.unique(between, axis=0)) == 2, "road and sky, and nothing between them"


def test_outlines_are_smooth_and_stay_where_the_object_is():
    ids = np.full((120, 200), 1 + ROAD, np.uint16)
    yy, xx = np.mgrid[:120, :200]
    ids[(xx - 100) ** 2 + (yy - 60) ** 2 <= 40**2] = 1000
    round_one = scene(tracks=(track(7, (60.0, 20.0, 141.0, 101.0)),))
    picture = Overlay(CITYSCAPES, opacity=0.0, labels=False)(grey(), replace(round_one, map=ids))
    drawn = np.argwhere((picture != 100).any(2))
    radius = np.hypot(drawn[:, 1] - 100, drawn[:, 0] - 60)
    assert 36 < radius.min() < radius.max() < 43
    assert len(np.unique(picture[drawn[:, 0], drawn[:, 1]], axis=0)) > 20, "steps of brightness, not of pixels"
    angles = np.arctan2(drawn[:, 0] - 60, drawn[:, 1] - 100)
    assert np.histogram(angles, 36)[0].min() > 0, "closed"


def test_each_object_has_a_label_in_its_colour():
    bare = Overlay(CITYSCAPES, labels=False)(grey(), scene())
    picture = Overlay(CITYSCAPES)(grey(), scene())
    changed = np.argwhere((bare != picture).any(2))
    top, left = changed.min(0)
    bottom, right = changed.max(0)
    assert 7 <= bottom - top <= 30
    assert right - left >= 15
    colors, counts = np.unique(picture[top : bottom + 1, left : right + 1].reshape(-1, 3), axis=0, return_counts=True)
    assert tuple(colors[counts.argmax()]) == identity_color(7)
    toward_text = np.sign(np.array(text_color(identity_color(7)), int) - identity_color(7))
    letters = ((colors.astype(int) - identity_color(7)) * toward_text > 50).any(1)
    assert counts[letters].sum() >= 10


@pytest.mark.parametrize("size", [(192, 640), (1080, 1920)])
def test_labels_grow_with_the_image_and_stay_inside_it(size):
    height, width = size
    boxes = [(0.0, 0.0, 30.0, 20.0), (width - 20.0, height - 10.0, float(width), float(height))]
    tracks = tuple(track(i + 1, box) for i, box in enumerate(boxes))
    frame = scene(height, width, tracks=tracks)
    changed = (Overlay(CITYSCAPES, labels=False)(grey(*size), frame) != Overlay(CITYSCAPES)(grey(*size), frame)).any(2)
    rows = np.flatnonzero(changed[:, : width // 2].any(1))
    assert (9 <= np.ptp(rows) <= 16) if height == 192 else (20 <= np.ptp(rows) <= 40)
    assert changed[:, width // 2 :].any(), "the one in the corner is moved inside"


def test_crowded_labels_do_not_cover_each_other():
    tracks = tuple(track(i, (60.0 + 2 * i, 50.0, 100.0 + 2 * i, 80.0)) for i in range(1, 4))
    picture = Overlay(CITYSCAPES)(grey(), scene(tracks=tracks))
    for i in (1, 2, 3):
        flat = (picture == identity_color(i)).all(2)
        assert flat.sum() >= 100, f"label {i} is seen"


def test_labels_leave_small_objects_uncovered():
    """A row of small cars below a large one: the label of none covers another car."""
    small = [(20.0 + 30 * i, 90.0, 28.0 + 30 * i, 96.0) for i in range(6)]
    boxes = [(30.0, 20.0, 170.0, 80.0), *small]
    frame = scene(tracks=tuple(track(i + 1, box) for i, box in enumerate(boxes)), map=np.zeros((120, 200), np.uint16))
    changed = (Overlay(CITYSCAPES)(grey(), frame) != grey()).any(2)
    assert changed[20:80, 30:170].any(), "the label of the large one is within it"
    for x0, y0, x1, y1 in np.array(small, int):
        assert not changed[y0:y1, x0:x1].any()


def test_lines_and_letters_grow_with_the_image():
    def label(width, height):
        frame = scene(height, width)
        bare = Overlay(CITYSCAPES, labels=False)(grey(height, width), frame)
        rows = np.flatnonzero((bare != Overlay(CITYSCAPES)(grey(height, width), frame)).any((1, 2)))
        return np.ptp(rows) + 1

    heights = [label(640, 360), label(1280, 720), label(1920, 1080)]
    assert heights == sorted(set(heights))
    assert heights[0] >= 10


def test_trails_follow_the_objects_until_a_new_sequence():
    def at(index, sequence=0):
        box = (20.0 + 20 * index, 60.0, 40.0 + 20 * index, 80.0)
        nothing = np.zeros((120, 200), np.uint16)
        return replace(scene(tracks=(track(7, box),)), stamp=index * SECOND // 10, map=nothing, sequence_id=sequence)

    drawn = Overlay(CITYSCAPES, labels=False, trails=True)
    pictures = [drawn(grey(), at(index)) for index in range(5)]
    assert (pictures[0] == grey()).all()
    rows, columns = np.nonzero((pictures[4] != 100).any(2))
    assert (rows.min(), rows.max()) in [(79, 80), (79, 81), (80, 80), (80, 81)]
    assert columns.min() == pytest.approx(30, abs=1)
    assert columns.max() == pytest.approx(110, abs=1)
    assert (drawn(grey(), at(5, sequence=1)) == grey()).all()


def test_the_legend_names_the_stuff_seen_so_far():
    drawn = Overlay(CITYSCAPES, labels=False, legend=True)
    road = (Segment(1 + ROAD, ROAD, False, 1.0, 20_000, 0),)
    sky = (Segment(1 + SKY, SKY, False, 1.0, 20_000, 0),)
    one, both, later = (
        drawn(grey(), PanopticFrame(0, "", 0, np.zeros((120, 200), np.uint16), segments, ()))
        for segments in (road, road + sky, road)
    )
    sample = lambda picture, class_id: (picture == CITYSCAPES.by_id[class_id].color).all(2).sum()  # noqa: E731
    assert sample(one, ROAD) >= 16
    assert sample(one, SKY) == 0
    assert sample(both, SKY) == sample(both, ROAD)
    assert (later == both).all(), "an entry does not come and go"
    assert (both[:90] == 100).all()


def test_a_remembered_object_is_a_faint_dashed_box_on_request():
    lost = track(9, (30.0, 60.0, 80.0, 100.0), index=-1, state=TrackState.LOST)
    frame = scene(tracks=(*scene().tracks, lost))
    plain = Overlay(CITYSCAPES, labels=False)(grey(), frame)
    assert (plain == Overlay(CITYSCAPES, labels=False)(grey(), scene())).all()
    drawn = Overlay(CITYSCAPES, labels=False, lost=True)(grey(), frame)
    changed = (plain != drawn).any(2)
    assert changed[60, 30:81].sum() in range(15, 40), "dashes along the top, with gaps"
    assert not changed[62:99, 32:79].any(), "nothing inside"


def test_a_remembered_box_out_of_the_picture_is_no_error():
    boxes = [(-500.0, -500.0, -400.0, -400.0), (150.0, 90.0, 1e9, 1e9), (float("nan"),) * 4, (1e12, 0.0, 2e12, 9.0)]
    tracks = tuple(track(i, box, -1, state=TrackState.LOST) for i, box in enumerate(boxes[:2], 1))
    tracks += tuple(tracks[0]._replace(box=box) for box in boxes[2:])
    assert Overlay(CITYSCAPES, lost=True)(grey(), scene(tracks=tracks)).shape == (120, 200, 3)


def test_small_images_are_enlarged_where_that_is_asked_for():
    picture = Overlay(CITYSCAPES, labels=False, min_height=300)(grey(), scene())
    assert picture.shape == (360, 600, 3)
    assert near(picture[210, 360], (np.array(identity_color(7)) + 100) / 2)
    assert Overlay(CITYSCAPES, min_height=120)(grey(), scene()).shape == (120, 200, 3)
    road = (Segment(1 + ROAD, ROAD, False, 1.0, 900, 0),)
    line = PanopticFrame(0, "", 0, np.full((1, 900), 1 + ROAD, np.uint16), road, ())
    assert Overlay(CITYSCAPES, min_height=300)(np.zeros((1, 900, 3), np.uint8), line).shape == (4, 3600, 3)


def test_a_frame_without_segments_is_the_image():
    frame = PanopticFrame(0, "", 0, np.zeros((120, 200), np.uint16), (), ())
    assert (Overlay(CITYSCAPES)(grey(), frame) == grey()).all()


def test_classes_outside_the_taxonomy_are_drawn_by_number():
    frame = scene()
    odd = frame.segments[2]._replace(class_id=77, track_id=0)
    strange = scene(segments=(*frame.segments[:2], odd), tracks=(frame.tracks[0]._replace(class_id=77),))
    assert Overlay(CITYSCAPES)(grey(), strange).shape == (120, 200, 3)


def test_maps_are_painted_as_the_overlay_paints():
    semantic = np.array([[ROAD, CAR, CAR, 255]], np.uint8)
    picture = paint_map(CITYSCAPES, semantic, np.array([[3, 7, 0, 0]]))
    expected = [CITYSCAPES.by_id[ROAD].color, identity_color(7), CITYSCAPES.by_id[CAR].color, (0, 0, 0)]
    assert [tuple(p) for p in picture[0]] == expected


def test_a_contact_sheet_holds_every_picture():
    tiles = [np.full((10, 20, 3), v, np.uint8) for v in (10, 20, 30)]
    sheet = contact_sheet(tiles, 2, gap=4)
    assert sheet.shape == (24, 44, 3)
    assert [sheet[5, 5, 0], sheet[5, 30, 0], sheet[20, 5, 0], sheet[20, 30, 0]] == [10, 20, 30, 255]
    assert contact_sheet([tiles[0], np.full((5, 5, 3), 99, np.uint8)], 5, gap=0)[5, 30, 0] == 99
    for images, columns in (([], 2), (tiles, 0)):
        with pytest.raises(InputError, match="contact sheet"):
            contact_sheet(images, columns)


def film(path, images, stamps=None, **options):
    with VideoWriter(path, **options) as video:
        for i, image in enumerate(images):
            video.write(image, None if stamps is None else stamps[i])


def watch(path):
    """(stream facts, times, frames) of a video, decoded again."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        facts = stream.codec_context.name, stream.pix_fmt, (stream.width, stream.height)
        frames = list(container.decode(stream))
        duration = float(stream.duration * stream.time_base)
    times = [float(f.pts * f.time_base) for f in frames]
    return facts, times, [f.to_ndarray(format="rgb24") for f in frames], duration


def shades(n, height=48, width=64):
    return [np.full((height, width, 3), 30 + 20 * i, np.uint8) for i in range(n)]


def test_a_video_that_browsers_play(tmp_path):
    path = tmp_path / "new" / "drive.mp4"
    colors = [np.full((48, 64, 3), c, np.uint8) for c in ((200, 30, 30), (30, 200, 30), (30, 30, 200))]
    film(path, colors, fps=5)
    facts, times, frames, duration = watch(path)
    assert facts == ("h264", "yuv420p", (64, 48))
    assert times == pytest.approx([0, 0.2, 0.4], abs=1e-3)
    assert duration == pytest.approx(0.6, abs=0.02)
    for wrote, read in zip(colors, frames, strict=True):
        assert np.abs(wrote.astype(int) - read).max() < 12
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat"), "playing starts before all is loaded"
    assert [p.name for p in path.parent.iterdir()] == ["drive.mp4"]


def test_frames_are_shown_at_their_stamps(tmp_path):
    stamps = [5 * SECOND, 5 * SECOND + SECOND // 10, 6 * SECOND, 6 * SECOND + SECOND // 4]
    film(tmp_path / "v.mp4", shades(4), stamps)
    assert watch(tmp_path / "v.mp4")[1] == pytest.approx([0, 0.1, 1.0, 1.25], abs=1e-3)


def test_stamps_come_with_what_was_drawn_or_with_its_frame(tmp_path):
    stamps = [SECOND, SECOND * 5 // 4, SECOND * 6 // 4, SECOND * 10 // 4]
    results = [replace(scene(48, 64), stamp=stamp) for stamp in stamps]
    image = grey(48, 64)
    with VideoWriter(tmp_path / "v.mp4") as video:
        video.write(draw(image, results[0]))
        video.write(draw(Frame(image, 0), results[1])[:, ::-1])
        video.write(image, results[2])
        video.write(image, Frame(image, stamps[3]))
    assert watch(tmp_path / "v.mp4")[1] == pytest.approx([0, 0.25, 0.5, 1.5], abs=1e-3)
    with VideoWriter(tmp_path / "v.mp4", fps=20, force=True) as video:
        for result in results:
            video.write(draw(image, result))
    assert watch(tmp_path / "v.mp4")[1] == pytest.approx([0, 0.05, 0.1, 0.15], abs=1e-3)


@pytest.mark.parametrize(
    "image",
    [np.zeros((48, 64), np.uint8), np.zeros((48, 64, 4), np.uint8), np.zeros((48, 64, 3)), "image"],
    ids=["grey", "alpha", "float", "text"],
)
def test_what_is_no_rgb_image_is_refused_and_leaves_no_video(tmp_path, image):
    with pytest.raises(InputError, match="give uint8"), VideoWriter(tmp_path / "v.mp4") as video:
        video.write(grey(48, 64))
        video.write(image)
    assert not list(tmp_path.iterdir())


def test_writing_needs_the_block(tmp_path):
    video = VideoWriter(tmp_path / "v.mp4")
    with pytest.raises(InputError, match="with VideoWriter"):
        video.write(grey())
    with video:
        video.write(grey())
    with pytest.raises(InputError, match="with VideoWriter"):
        video.write(grey())
    assert watch(tmp_path / "v.mp4")[1] == [0]


def test_stamps_that_jump_keep_the_video_going(tmp_path):
    stamps = [0, SECOND // 5, 0, 0, 3600 * SECOND]
    film(tmp_path / "v.mp4", shades(5), stamps)
    assert watch(tmp_path / "v.mp4")[1] == pytest.approx([0, 0.2, 0.4, 0.6, 0.6 + MAX_FRAME_SECONDS], abs=1e-3)


def test_odd_sides_are_made_even(tmp_path):
    film(tmp_path / "v.mp4", shades(2, 47, 63))
    facts, times, frames, _ = watch(tmp_path / "v.mp4")
    assert facts[2] == (64, 48)
    assert times == pytest.approx([0, 0.1], abs=1e-3)
    assert np.abs(frames[1][:, -1].astype(int) - 50).max() < 6, "the last column is repeated, not black"


def test_images_of_another_size_are_fitted_into_the_first(tmp_path):
    film(tmp_path / "v.mp4", [*shades(1), np.full((96, 64, 3), 200, np.uint8), np.full((24, 32, 3), 150, np.uint8)])
    facts, _, frames, _ = watch(tmp_path / "v.mp4")
    assert facts[2] == (64, 48)
    assert frames[1][24, 32, 0] > 190
    assert frames[1][24, 4, 0] < 20, "black bars beside"
    assert np.abs(frames[2].astype(int) - 150).max() < 12


def test_letterbox_keeps_the_shape_of_things():
    out = letterbox(np.full((10, 40, 3), 255, np.uint8), 40, 80)
    assert out.shape == (40, 80, 3)
    assert (out[10:30] == 255).all()
    assert not out[:10].any()
    assert not out[30:].any()


def test_a_video_is_whole_or_not_there(tmp_path):
    path = tmp_path / "v.mp4"
    with pytest.raises(RuntimeError, match="camera"), VideoWriter(path) as video:
        video.write(shades(1)[0])
        raise RuntimeError("camera")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="no frame"), VideoWriter(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_existing_video_is_kept_without_force_and_on_failure(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match="--force"):
        film(path, shades(1))
    with pytest.raises(RuntimeError), VideoWriter(path, force=True) as video:
        video.write(shades(1)[0])
        raise RuntimeError
    assert path.read_bytes() == b"old"
    film(path, shades(1), force=True)
    assert watch(path)[1] == [0]


@pytest.mark.parametrize(("name", "fps"), [("v.avi", None), ("v", 10), ("v.mp4", 0), ("v.mp4", -3), ("v.mp4", 1e9)])
def test_bad_names_and_rates_are_refused(tmp_path, name, fps):
    with pytest.raises(InputError):
        VideoWriter(tmp_path / name, fps)


def test_a_picture_that_no_encoder_takes_is_named(tmp_path):
    with pytest.raises(InputError, match=r"v\.mp4: images of 40000x2 cannot be encoded"):
        film(tmp_path / "v.mp4", [np.zeros((2, 40_000, 3), np.uint8)])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named(tmp_path):
    """In a process of its own, whose files may not grow beyond 20 kB: writing fails in the middle."""
    code = """
import errno, resource, signal, sys
import numpy as np
import av
from vps_ros.drawing.video import VideoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
rng = np.random.default_rng(0)
try:
    with VideoWriter(sys.argv[1]) as video:
        for _ in range(80):
            video.write(rng.integers(0, 255, (120, 160, 3), np.uint8))
except OSError as error:
    print(error.errno == errno.EFBIG, error.filename == sys.argv[1])
"""
    path = tmp_path / "v.mp4"
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert run.stdout.split() == ["True", "True"], run.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_real_drive_is_drawn_legibly(realdata):
    files = sorted((realdata / "kitti_tracking_0002" / "image_02").glob("*.jpg"))
    image = cv2.imread(str(files[0]))[..., ::-1]
    picture = Overlay(CITYSCAPES)(np.ascontiguousarray(image), scene(*image.shape[:2]))
    assert picture.shape == image.shape
    assert picture.std() > 10
