"""Transforms from the messages of TF in a bag: worked-out numbers, and the same answers as tf2."""

import math
from contextlib import suppress

import numpy as np
import pytest

from support.bags import START, TENTH, string, write
from support.tf import OPTICAL, transform, transforms
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.recording.transforms import BagTransforms

SECOND = 10 * TENTH
QUARTER = (0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5))
"""A quarter turn to the left around z."""


def bag(tmp_path, *messages):
    return write(tmp_path / "bag", list(messages))


def moving(*rows):
    """One message of /tf for each (seconds, parent, child, translation, quaternion)."""
    return [
        ("/tf", START + round(t * SECOND), transforms(transform(START + round(t * SECOND), *row))) for t, *row in rows
    ]


def still(*rows):
    return "/tf_static", START, transforms(*(transform(START, *row) for row in rows))


def test_a_point_in_a_camera_on_a_vehicle_that_drives_and_turns(tmp_path):
    """From (0, 0) heading along x to (2, 0) heading along y; the camera is 1 m ahead and 1.5 m above."""
    path = bag(
        tmp_path,
        still(("base", "camera", (1, 0, 1.5), OPTICAL)),
        *moving((0, "odom", "base", (0, 0, 0), (0, 0, 0, 1)), (1, "odom", "base", (2, 0, 0), QUARTER)),
    )
    with BagTransforms(path, "odom") as found:
        # 3 m ahead of the camera and 0.5 m to the right.
        assert found("camera", START).apply([0.5, 0, 3]) == pytest.approx((4, -0.5, 1.5))
        assert found("camera", START + SECOND).apply([0.5, 0, 3]) == pytest.approx((2.5, 4, 1.5))
        half = math.sqrt(0.5)
        # Half way, at (1, 0) after an eighth of a turn.
        assert found("camera", START + SECOND // 2).apply([0, 0, 0]) == pytest.approx((1 + half, half, 1.5))
    with BagTransforms(path, "camera") as found:
        assert found("odom", START + SECOND).apply([2.5, 4, 1.5]) == pytest.approx((0.5, 0, 3))
        assert found("camera", START).apply([1, 2, 3]) == pytest.approx((1, 2, 3))


def test_a_common_frame_above_both_and_what_is_above_it_may_be_unknown(tmp_path):
    path = bag(
        tmp_path,
        still(("base", "left", (0, 1, 0), (0, 0, 0, 1)), ("base", "right", (0, -1, 0), (0, 0, 0, 1))),
        *moving((5, "odom", "base", (0, 0, 0), (0, 0, 0, 1))),
    )
    with BagTransforms(path, "right") as found:
        assert found("left", START).apply([0, 0, 0]) == pytest.approx((0, 2, 0))


def test_the_shortest_arc_although_the_quaternions_have_other_signs(tmp_path):
    negative = tuple(-v for v in QUARTER)
    path = bag(
        tmp_path, *moving((0, "odom", "base", (0, 0, 0), (0, 0, 0, 1)), (1, "odom", "base", (0, 0, 0), negative))
    )
    with BagTransforms(path, "odom") as found:
        third = math.radians(30)
        assert found("base", START + SECOND // 3).apply([1, 0, 0]) == pytest.approx(
            (math.cos(third), math.sin(third), 0), abs=1e-6
        )


def test_messages_out_of_order_and_frames_with_a_slash(tmp_path):
    first, second, third = moving(*((t, "/odom", "/base", (t, 0, 0), (0, 0, 0, 1)) for t in (0, 1, 2)))
    # Recorded in another order than that of the stamps.
    path = bag(tmp_path, first, ("/tf", START + 1, third[2]), ("/tf", START + 2, second[2]))
    with BagTransforms(path, "odom") as found:
        assert found("/base", START + 2 * SECOND).translation == (2, 0, 0)
        assert found("base", START + 3 * SECOND // 2).translation == pytest.approx((1.5, 0, 0))


@pytest.mark.parametrize(("seconds", "known"), [(-0.1, False), (0, True), (1, True), (1.1, False)])
def test_nothing_is_extrapolated(tmp_path, seconds, known):
    path = bag(tmp_path, *moving(*((t, "odom", "base", (t, 0, 0), (0, 0, 0, 1)) for t in (0, 1))))
    with BagTransforms(path, "odom") as found:
        stamp = START + round(seconds * SECOND)
        if known:
            assert found("base", stamp).translation == (seconds, 0, 0)
        else:
            with pytest.raises(DroppedFrame, match=r"'base' to 'odom': 'base' is in TF from 1700000000.000 s to .*001"):
                found("base", stamp)


def test_what_is_not_connected_is_not_found(tmp_path):
    path = bag(tmp_path, still(("map", "odom", (0, 0, 0), (0, 0, 0, 1)), ("arm", "camera", (0, 0, 0), (0, 0, 0, 1))))
    with BagTransforms(path, "map") as found, pytest.raises(DroppedFrame, match="'camera' to 'map': TF does not conn"):
        found("camera", START)
    with BagTransforms(path, "mpa") as found, pytest.raises(InputError, match="no frame 'mpa'; .* arm, camera, map, o"):
        found("camera", START)
    with pytest.raises(InputError, match="has no topic of TF"):
        BagTransforms(write(tmp_path / "other", [("/chatter", START, string("x"))]), "map")


def test_a_loop_ends_and_transforms_that_cannot_be_are_ignored(tmp_path):
    path = bag(
        tmp_path,
        still(
            ("a", "b", (0, 0, 0), (0, 0, 0, 1)),
            ("b", "a", (0, 0, 0), (0, 0, 0, 1)),
            ("map", "c", (0, 0, 0), (0, 0, 0, 0)),
            ("map", "c", (math.nan, 0, 0), (0, 0, 0, 1)),
            ("map", "d", (0, 0, 0), (0, 0, 0, 2)),
        ),
    )
    with BagTransforms(path, "map") as found:
        for name in "bc":
            with pytest.raises(DroppedFrame):
                found(name, START)
        assert found("d", START).quaternion == (0, 0, 0, 1)


def test_the_same_answers_as_tf2(tmp_path):
    """A tree of frames that move at different rates, asked from every frame to every other one."""
    tf2 = pytest.importorskip("tf2_ros", reason="no ROS 2 is sourced: tf2_ros is missing")
    from geometry_msgs.msg import TransformStamped
    from rclpy.duration import Duration
    from rclpy.time import Time

    rng = np.random.default_rng(5)

    def pose():
        turn = rng.normal(size=4)
        return tuple(rng.normal(0, 3, 3)), tuple(turn / np.linalg.norm(turn))

    rows = [(t, "odom", "base", *pose()) for t in np.arange(0, 3, 0.1)]
    rows += [(t, "base", "arm", *pose()) for t in np.arange(0.5, 2.5, 0.37)]
    rows += [(t, "map", "odom", *pose()) for t in np.arange(-1, 4, 1.0)]
    fixed = [("base", "camera", *pose()), ("arm", "hand", *pose())]
    path = bag(tmp_path, still(*fixed), *sorted(moving(*rows), key=lambda m: m[1]))
    buffer = tf2.Buffer(cache_time=Duration(seconds=100))
    stamped = [(START + round(t * SECOND), row, False) for t, *row in rows] + [(START, row, True) for row in fixed]
    for stamp, (parent, child, move, turn), static in stamped:
        one = TransformStamped()
        one.header.stamp.sec, one.header.stamp.nanosec = divmod(stamp, 10**9)
        one.header.frame_id, one.child_frame_id = parent, child
        for where, values in ((one.transform.translation, move), (one.transform.rotation, turn)):
            for name, value in zip("xyzw", values, strict=False):
                setattr(where, name, float(value))
        (buffer.set_transform_static if static else buffer.set_transform)(one, "test")
    names, compared = ("map", "odom", "base", "camera", "arm", "hand"), 0
    for target in names:
        with BagTransforms(path, target) as found:
            for source in names:
                for seconds in (-0.5, 0.0, 0.61, 1.234567891, 2.3, 2.9, 5.0):
                    stamp = START + round(seconds * SECOND)
                    mine = theirs = None
                    with suppress(tf2.TransformException):
                        theirs = buffer.lookup_transform(target, source, Time(nanoseconds=stamp)).transform
                    with suppress(DroppedFrame):
                        mine = found(source, stamp)
                    assert (mine is None) == (theirs is None), (target, source, seconds)
                    if theirs is None:
                        continue
                    move, turn = theirs.translation, theirs.rotation
                    assert mine.translation == pytest.approx((move.x, move.y, move.z), abs=1e-9)
                    assert abs(np.dot(mine.quaternion, (turn.x, turn.y, turn.z, turn.w))) == pytest.approx(1)
                    compared += 1
    assert compared > 100
