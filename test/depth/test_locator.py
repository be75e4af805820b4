"""Objects in 3D over time: filtered positions and velocities, several sizes of depth, other coordinate frames."""

import numpy as np
import pytest

from support.depth import BACKGROUND, FIRST, STANDING, VELOCITY, metres_of
from vps_ros.depth.locator import ObjectLocator
from vps_ros.depth.velocity import PointFilter
from vps_ros.errors import DroppedFrame
from vps_ros.frame import AssociatedBy, PanopticFrame, Segment, Track, TrackState
from vps_ros.frame_3d import DepthImage, Intrinsics, Transform

CAMERA = Intrinsics(100.0, 100.0, 47.5, 31.5, 96, 64)
CAR = 13


def panoptic(i, sequence_id=0, boxes=None):
    """Frame i of `bags.drive` with its two squares as tracks 1 and 2."""
    boxes = boxes or {1: (4 + 4 * i, 40, 20 + 4 * i, 56), 2: (76, 36, 92, 52)}
    labels, segments, tracks = np.ones((64, 96), np.uint16), [Segment(1, 0, False, 1.0, 1, 0)], []
    for track_id, (x0, y0, x1, y1) in boxes.items():
        labels[y0:y1, x0:x1] = 999 + track_id
        segments.append(Segment(999 + track_id, CAR, True, 0.9, 256, track_id))
        state, how = TrackState.CONFIRMED, AssociatedBy.PIXELS
        box = tuple(float(v) for v in (x0, y0, x1, y1))
        tracks.append(
            Track(track_id, track_id - 1, len(segments) - 1, CAR, 0.9, state, how, 1, box, (0, 0), 256, 0, 0, 2)
        )
    return PanopticFrame(i * 10**8, "camera", sequence_id, labels, tuple(segments), tuple(tracks))


def depth_of(i, size=1, metres=None):
    metres = metres_of(i, size) if metres is None else metres
    return DepthImage(metres, i * 10**8, CAMERA.scaled(*metres.shape[::-1]))


def test_positions_sizes_and_velocities():
    locate = ObjectLocator()
    for i in range(12):
        found = locate(panoptic(i), depth_of(i)).objects_3d
    first, second = found.objects
    assert (first.track_id, first.class_id, first.score) == (1, CAR, 0.9)
    moved = 11 * VELOCITY / 10
    assert first.position == pytest.approx((FIRST[0] + moved, *FIRST[1:]), abs=0.02)
    assert first.velocity == pytest.approx((VELOCITY, 0, 0), abs=0.05)
    assert second.position == pytest.approx(STANDING, abs=0.01)
    assert second.velocity == pytest.approx((0, 0, 0), abs=0.01)
    assert first.size == pytest.approx((0.64, 0.64, 0))
    assert (found.frame_id, found.without_depth) == ("camera", 0)


@pytest.mark.parametrize("size", [2, 3])
def test_depth_with_more_pixels_gives_the_same(size):
    (one, _) = ObjectLocator()(panoptic(0), depth_of(0)).objects_3d.objects
    (other, _) = ObjectLocator()(panoptic(0), depth_of(0, size)).objects_3d.objects
    assert other.position == pytest.approx(one.position)
    assert other.size == pytest.approx(one.size)


def test_depth_with_fewer_pixels_is_as_exact_as_its_pixels():
    (one, _) = ObjectLocator()(panoptic(0), depth_of(0, metres=metres_of(0)[::2, ::2])).objects_3d.objects
    # A pixel of half the size covers 0.08 m at 4 m.
    assert one.position == pytest.approx(FIRST, abs=0.08)


def test_depth_of_another_view_is_refused():
    with pytest.raises(DroppedFrame, match=r"depth image of 96x60 .* camera image of 96x64"):
        ObjectLocator()(panoptic(0), depth_of(0, metres=metres_of(0)[:60]))


def test_a_depth_image_of_holes_is_refused_and_one_object_without_depth_is_counted():
    metres = metres_of(0)
    metres[:, :30] = np.nan
    found = ObjectLocator()(panoptic(0), depth_of(0, metres=metres)).objects_3d
    assert [one.track_id for one in found.objects] == [2]
    assert found.without_depth == 1
    with pytest.raises(DroppedFrame, match="no pixel with a depth"):
        ObjectLocator()(panoptic(0), depth_of(0, metres=np.full_like(metres, np.nan)))


def test_another_frame_in_which_the_camera_moves():
    """The camera looks along x of a world whose z is up, and drives 1 m/s: the standing square stands."""

    def transform(frame_id, stamp):
        assert frame_id == "camera"
        # Camera x, y, z are world -y, -z, x.
        return Transform((stamp / 1e9, 0.0, 1.5), (-0.5, 0.5, -0.5, 0.5))

    locate = ObjectLocator("map", transform)
    for i in range(12):
        metres = metres_of(i)
        metres[metres == 8] -= i / 10
        found = locate(panoptic(i), depth_of(i, metres=metres)).objects_3d
    _, standing = found.objects
    x, y, z = STANDING
    # The square keeps its place in the image while it comes closer, so that it moves towards the axis.
    assert standing.position[0] == pytest.approx(z, abs=0.02)
    assert standing.velocity[0] == pytest.approx(0, abs=0.03)
    closer = (z - 1.1) / z
    assert standing.position[1:] == pytest.approx((-x * closer, 1.5 - y * closer), abs=0.05)
    assert (found.frame_id, found.transform.quaternion) == ("map", (-0.5, 0.5, -0.5, 0.5))


def test_a_new_sequence_and_a_removed_track_forget():
    locate = ObjectLocator()
    for i in range(5):
        locate(panoptic(i), depth_of(i))
    fresh = locate(panoptic(5, sequence_id=1), depth_of(5)).objects_3d
    assert fresh.objects[0].velocity == (0, 0, 0)
    locate(panoptic(6, 1, {2: (76, 36, 92, 52)}), depth_of(6))
    again = locate(panoptic(7, 1), depth_of(7)).objects_3d
    assert again.objects[0].velocity == (0, 0, 0)


def test_a_filter_learns_a_velocity_and_is_sure_of_it():
    covariance = 0.01 * np.eye(3)
    state = PointFilter(np.zeros(3), covariance, 0.0)
    before = state.deviation
    for i in range(1, 40):
        state.update(np.array([2.0, 0, -1]) * i / 10, covariance, i / 10)
    assert state.velocity == pytest.approx((2, 0, -1), abs=1e-3)
    assert state.position == pytest.approx((7.8, 0, -3.9), abs=1e-3)
    assert (state.deviation < before).all()


def test_one_outlier_is_ignored_and_the_second_starts_again():
    covariance = 0.01 * np.eye(3)
    state = PointFilter(np.zeros(3), covariance, 0.0)
    for i in range(1, 20):
        state.update(np.zeros(3), covariance, i / 10)
    state.update(np.full(3, BACKGROUND), covariance, 2.0)
    assert state.position == pytest.approx((0, 0, 0), abs=1e-6)
    state.update(np.full(3, BACKGROUND), covariance, 2.1)
    assert state.position == pytest.approx((BACKGROUND,) * 3)
    assert state.velocity == pytest.approx((0, 0, 0))
