"""What the viewer shows: panoptic frames as entities of Rerun, and the arrangement of its panels.

The only module that uses the data model of Rerun (package rerun-sdk, extra `view`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from numpy.typing import NDArray

from vps_ros.drawing.colors import identity_color
from vps_ros.drawing.labels import is_free
from vps_ros.drawing.trails import Trails
from vps_ros.drawing.views import MISTAKES, Truth, View
from vps_ros.frame import STAGES, THING_BASE, PanopticFrame, Track, TrackState
from vps_ros.label_maps import nearest
from vps_ros.taxonomy import Taxonomy

APPLICATION = "vps_ros"
TIME, FRAME = "time", "frame"
"""Timelines: stamps of the frames, and their number from 0."""
_JPEG_QUALITY = 85
_MOST_POINTS = 40_000
_SCREEN, _TITLE = 2.0, 0.035
"""Width / height of what the panels share on a usual screen, and the height of a title, as a share of it."""
_LEFT, _HIGHEST, _LEAST = 0.62, 0.66, 0.15
"""Width of the left column and height of an image at most, height of a plot at least, as shares of the screen."""
_PANEL, _LETTER = 900, (7, 24)
"""Usual width of the image of the camera on a screen, and width of a letter and height of a label there, pixels."""
_DATE = 10**17
"""Nanoseconds. A smaller stamp counts from the start of a recording or a machine, and is no date."""
_STATES = {TrackState.TENTATIVE: "tentative", TrackState.CONFIRMED: "confirmed", TrackState.LOST: "lost"}
_FORGOTTEN = "forgotten"
"""Ends the row of a track; null would do so too, but Rerun's own check of recordings refuses it."""
_BEHIND = rrb.EyeControls3D(position=(0.0, -6.0, -9.0), look_target=(0.0, 0.0, 15.0), eye_up=(0.0, -1.0, 0.0))
"""View in 3D: from above and behind the camera, in its frame."""
_ERRORS = "Errors (orange: class, red: missed, violet: false, blue: other track)"
_STAGE_COLORS = ((76, 154, 255), (255, 170, 60), (90, 200, 120), (160, 160, 160))
_LATENCY = {"p50": (76, 154, 255), "p99": (255, 170, 60)}
_DROPS = {"replaced": (255, 170, 60), "unusable": (220, 60, 60)}
_COUNTS = {"visible": (90, 200, 120), "lost": (160, 160, 160)}


class CameraLog:
    """Logs the frames of one camera, in order, to a recording.

    Args:
        recording: of Rerun.
        camera: its name, the first part of all entity paths; "" for a single camera.
    """

    def __init__(self, recording: rr.RecordingStream, camera: str = "") -> None:
        self._recording = recording
        self._prefix = [camera] if camera else []
        self._trails = Trails()
        self._states: dict[int, tuple[list[str], str]] = {}
        """Track id -> entity path and the state that was logged last."""
        self._contexts: dict[str, list[Any]] = {}
        self._styled: set[str] = set()
        self._frames = 0

    def log(self, view: View) -> None:
        """Logs everything of a frame. Raises what Rerun raises for data that it does not accept."""
        self._recording.set_time(FRAME, sequence=self._frames)
        if view.stamp >= _DATE:
            self._recording.set_time(TIME, timestamp=np.datetime64(view.stamp, "ns"))
        else:
            self._recording.set_time(TIME, duration=np.timedelta64(view.stamp, "ns"))
        self._frames += 1
        if view.image is not None:
            # Raw images would fill the memory of the viewer within a minute.
            quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
            encoded = cv2.imencode(".jpg", cv2.cvtColor(view.image, cv2.COLOR_RGB2BGR), quality)[1]
            self._send(["camera", "image"], rr.EncodedImage(contents=encoded.tobytes(), media_type="image/jpeg"))
        if view.result is not None:
            self._log_result(view.result)
            self._log_objects_3d(view.result, view.image)
        if view.truth is not None:
            self._log_truth(view.truth)
        for name, total in view.drops.items():
            self._plot(["drops", name], total, _DROPS.get(name, (220, 60, 60)), name)
        for name, milliseconds in view.latency.items():
            self._plot(["latency", name], milliseconds, _LATENCY.get(name, (160, 160, 160)), f"{name} (ms)")

    def _log_result(self, result: PanopticFrame) -> None:
        first = _first_thing(result.taxonomy)
        values = np.zeros(max((s.segment_id for s in result.segments), default=0) + 1, np.uint16)
        for segment in result.segments:
            slot = segment.segment_id - THING_BASE
            values[segment.segment_id] = 1 + segment.class_id if slot < 0 else first + slot
        things = {
            first + s.segment_id - THING_BASE: (_title(result.taxonomy, s.class_id, s.track_id), s.track_id)
            for s in result.segments
            if s.segment_id >= THING_BASE
        }
        self._log_map("camera", np.take(values, result.map, mode="clip"), result.taxonomy, things)
        self._log_boxes(result, first)
        self._log_states(result)
        for stage, color in zip(STAGES, _STAGE_COLORS, strict=True):
            if stage in result.milliseconds:
                self._plot(["latency", stage], result.milliseconds[stage], color, f"{stage} (ms)")
        visible = len(result.visible)
        for name, number in (("visible", visible), ("lost", len(result.tracks) - visible)):
            self._plot(["objects", name], number, _COUNTS[name], f"{name} objects")

    def _log_boxes(self, result: PanopticFrame, first: int) -> None:
        labels = [_label(result.taxonomy, track) for track in result.visible]
        classes = [first + track.slot for track in result.visible]
        boxes = rr.Boxes2D(
            array=result.boxes(),
            array_format=rr.Box2DFormat.XYXY,
            labels=labels,
            show_labels=False,
            class_ids=classes,
            draw_order=20.0,
        )
        self._send(["camera", "boxes"], boxes)
        # Rerun writes the label of a box below it, outside of the image for many objects; that of a point is free.
        places, named = place_labels(result.boxes(), labels, result.map.shape)
        which = np.flatnonzero(named).tolist()
        names = rr.Points2D(
            places[named],
            radii=0.0,
            labels=[labels[i] for i in which],
            show_labels=True,
            class_ids=[classes[i] for i in which],
            draw_order=20.0,
        )
        self._send(["camera", "names"], names)
        trails = self._trails.add(result)
        colors = [identity_color(track) for track in trails]
        self._send(["camera", "trails"], rr.LineStrips2D(list(trails.values()), colors=colors, draw_order=10.0))

    def _log_states(self, result: PanopticFrame) -> None:
        """A life line for each object that was confirmed once; logged only where its state changes."""
        known = {track.track_id: track for track in result.tracks}
        for track in result.tracks:
            state = _STATES[track.state]
            if track.track_id not in self._states:
                if track.state != TrackState.CONFIRMED:
                    continue
                path = ["tracks", f"{track.track_id:04d}_{result.taxonomy.class_name(track.class_id)}"]
                color = identity_color(track.track_id)
                pale = tuple((255 + 2 * value) // 3 for value in color)
                style = rr.StateConfiguration(
                    values=[*_STATES.values(), _FORGOTTEN],
                    colors=[pale, color, (120, 120, 120), (0, 0, 0)],
                    visible=[True, True, True, False],
                )
                self._send(path, style, static=True)
                self._states[track.track_id] = path, ""
            path, before = self._states[track.track_id]
            if state != before:
                self._send(path, rr.StateChange(state=state))
                self._states[track.track_id] = path, state
        for forgotten in self._states.keys() - known.keys():
            path, _ = self._states.pop(forgotten)
            self._send(path, rr.StateChange(state=_FORGOTTEN))

    def _log_objects_3d(self, result: PanopticFrame, image: NDArray[np.uint8] | None) -> None:
        """Boxes with velocities, and points in the colours of the image."""
        found = result.objects_3d
        if found is None:
            if "space" in self._styled:
                self._send(["space"], rr.Clear(recursive=True))
            return
        if "space" not in self._styled:
            self._styled.add("space")
            self._send(["space"], rr.ViewCoordinates.RDF, static=True)
        if found.depth is not None:
            # The panel looks from the camera, which may move far away from where `frame_id` begins.
            found = found.seen_by_camera()
        objects = found.objects
        colors = [identity_color(one.track_id) for one in objects]
        centers = np.array([one.position for one in objects]).reshape(-1, 3)
        boxes = rr.Boxes3D(
            centers=centers,
            half_sizes=np.array([one.size for one in objects]).reshape(-1, 3) / 2,
            quaternions=[rr.Quaternion(xyzw=found.transform.quaternion)] * len(objects),
            labels=[_title(result.taxonomy, one.class_id, one.track_id) for one in objects],
            colors=colors,
        )
        self._send(["space", "boxes"], boxes)
        # A recording without velocities has NaN.
        velocities = np.nan_to_num([one.velocity for one in objects]).reshape(-1, 3)
        self._send(["space", "velocities"], rr.Arrows3D(origins=centers, vectors=velocities, colors=colors))
        if image is not None and found.depth is not None:
            metres = found.depth.metres
            v, u = np.nonzero(np.isfinite(metres))
            step = 1 + len(v) // _MOST_POINTS
            v, u = v[::step], u[::step]
            points = found.depth.intrinsics.points(u, v, metres[v, u])
            rows, columns = (
                nearest(at, size, other) for at, size, other in zip((v, u), metres.shape, image.shape, strict=False)
            )
            self._send(["space", "points"], rr.Points3D(points.astype(np.float32), colors=image[rows, columns]))

    def _log_truth(self, truth: Truth) -> None:
        first = _first_thing(truth.taxonomy)
        is_thing = np.isin(truth.semantic, [c.id for c in truth.taxonomy.classes if c.isthing]) & (truth.instance > 0)
        known = np.isin(truth.semantic, list(truth.taxonomy.by_id))
        values = np.where(known, truth.semantic.astype(np.uint16) + 1, 0)
        codes = truth.semantic.astype(np.int64) << 32 | truth.instance
        present, index = np.unique(codes[is_thing], return_inverse=True)
        values[is_thing] = first + index
        things = {
            first + i: (_title(truth.taxonomy, code >> 32, code & 0xFFFFFFFF), int(code & 0xFFFFFFFF))
            for i, code in enumerate(present.tolist())
        }
        self._log_map("truth", values, truth.taxonomy, things)
        if truth.errors is not None:
            if "errors" not in self._styled:
                self._styled.add("errors")
                marks = [(0, "right", (0, 0, 0, 0)), *((i, name, color) for i, (name, color) in MISTAKES.items())]
                self._send(["errors"], rr.AnnotationContext(marks), static=True)
            self._send(["errors", "map"], rr.SegmentationImage(truth.errors))

    def _log_map(
        self, entity: str, values: NDArray[np.integer], taxonomy: Taxonomy, things: Mapping[int, tuple[str, int]]
    ) -> None:
        """A panoptic map, with names and colours of its values; `things`: value -> its label and identity."""
        context = [(0, "void", (0, 0, 0, 0)), *((1 + c.id, c.name, c.color) for c in taxonomy.classes)]
        context += [(value, label, identity_color(identity)) for value, (label, identity) in sorted(things.items())]
        if self._contexts.get(entity) != context:
            self._contexts[entity] = context
            self._send([entity], rr.AnnotationContext(context))
        small = values.max(initial=0) < 256
        picture = np.ascontiguousarray(values, np.uint8 if small else np.uint16)
        self._send([entity, "panoptic"], rr.SegmentationImage(picture, opacity=0.5, draw_order=5.0))

    def _plot(self, path: list[str], value: float, color: tuple[int, int, int], name: str) -> None:
        path = ["plots", *path]
        if (key := "/".join(path)) not in self._styled:
            self._styled.add(key)
            self._send(path, rr.SeriesLines(colors=color, names=name), static=True)
        self._send(path, rr.Scalars(float(value)))

    def _send(self, path: list[str], content: Any, static: bool = False) -> None:
        self._recording.log([*self._prefix, *path], content, static=static, strict=True)


def place_labels(
    boxes: NDArray[np.float32], labels: Sequence[str], shape: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where labels are written: below the boxes, and within the image, at the size of the panel.

    Args:
        boxes: float32 [N, 4], x0 y0 x1 y1 in pixels of the image.
        shape: height and width of the image.

    Returns:
        Middle of the upper edge of each label, float32 [N, 2], and bool [N]: labels that cover none of a larger box.
    """
    height, width = shape
    scale = width / _PANEL
    half = scale * (_LETTER[0] * np.array([len(label) for label in labels]) / 2 + _LETTER[0])
    x = np.clip(boxes[:, ::2].mean(1), half, np.maximum(width - half, half))
    y = np.minimum(boxes[:, 3], height - scale * _LETTER[1])
    areas = np.stack([x - half, y, x + half, y + scale * _LETTER[1]], 1)
    named = np.zeros(len(boxes), bool)
    for i in np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable"):
        named[i] = is_free(areas[i], areas[named])
    return np.stack([x, y], 1).astype(np.float32), named


def blueprint(
    shapes: Mapping[str, Sequence[int]], truth: bool = False, timing: bool = True, depth: bool = False
) -> rrb.Blueprint:
    """The arrangement of the panels: for each camera image, map, tracks and plots.

    Args:
        shapes: name of each camera -> height and width of its images, for panels of the same form.
        truth: also ground truth and errors.
        timing: also latency and dropped frames, which a recorded result does not have.
        depth: also objects and points in 3D.
    """
    parts = [
        _panels(f"/{camera}" if camera else "", camera, shape, truth, timing, depth) for camera, shape in shapes.items()
    ]
    root = parts[0] if len(parts) == 1 else rrb.Tabs(*parts)
    return rrb.Blueprint(root, rrb.TimePanel(timeline=TIME, state="collapsed"), collapse_panels=True)


def _panels(prefix: str, camera: str, shape: Sequence[int], truth: bool, timing: bool, depth: bool) -> Any:
    """Two columns: camera and tracks on the left; maps, 3D and plots on the right. Images fill their panels."""
    aspect = shape[1] / shape[0]
    left = min(_LEFT, _HIGHEST * aspect / _SCREEN)

    def height(width: float) -> float:
        """Share of the height of the screen that a panel needs for an image as wide as this share of its width."""
        return min(_SCREEN * width / aspect, _HIGHEST) + _TITLE

    # Trails and names must not make the image smaller.
    bounds = rrb.VisualBounds2D(x_range=(0, shape[1]), y_range=(0, shape[0]))
    camera_view = rrb.Spatial2DView(origin=f"{prefix}/camera", name="Camera and tracks", visual_bounds=bounds)
    lives = rrb.StateTimelineView(origin=f"{prefix}/tracks", name="Tracks")
    column, heights = _side(prefix, truth, depth, 1 - left, height)
    plots = [
        rrb.TimeSeriesView(origin=f"{prefix}/plots/{name}", name=title)
        for name, title in (("objects", "Objects"), ("latency", "Latency (ms)"), ("drops", "Dropped frames"))
        if timing or name == "objects"
    ]
    rest = max(1 - sum(heights), _LEAST)
    # Plots are below each other where there is space, and beside each other where there is not.
    column.append((rrb.Vertical if rest > _LEAST * len(plots) else rrb.Horizontal)(*plots))
    heights.append(rest)
    return rrb.Horizontal(
        rrb.Vertical(camera_view, lives, row_shares=[height(left), 1 - height(left)]),
        rrb.Vertical(*column, row_shares=heights),
        column_shares=[left, 1 - left],
        name=camera or None,
    )


def _side(
    prefix: str, truth: bool, depth: bool, width: float, height: Callable[[float], float]
) -> tuple[list[Any], list[float]]:
    """The panels of 3D and of the maps, and the share of the height of the screen that each needs.

    Args:
        width: of the column, as a share of that of the screen.
        height: of a panel, for the width of its image.
    """
    panoptic = rrb.Spatial2DView(
        origin=f"{prefix}/camera",
        contents=["+ $origin/panoptic"],
        name="Panoptic map",
        overrides={f"{prefix}/camera/panoptic": rr.SegmentationImage.from_fields(opacity=1.0)},
    )
    maps = [panoptic]
    if truth:
        known = rrb.Spatial2DView(
            origin=f"{prefix}/truth",
            name="Ground truth",
            overrides={f"{prefix}/truth/panoptic": rr.SegmentationImage.from_fields(opacity=1.0)},
        )
        errors = rrb.Spatial2DView(
            origin=f"{prefix}/errors", contents=["+ $origin/**", f"+ {prefix}/camera/image"], name=_ERRORS
        )
        maps += [known, errors]
    if depth:
        space = rrb.Spatial3DView(origin=f"{prefix}/space", name="Objects in 3D", eye_controls=_BEHIND)
        # Beside 3D, maps below each other would be too small to see anything.
        return [space, rrb.Tabs(*maps) if truth else panoptic], [0.5, height(width)]
    if len(maps) * height(width) + _LEAST <= 1:
        return maps, [height(width)] * len(maps)
    return [rrb.Horizontal(panoptic, known), errors], [height(width / 2), height(width)]


def _first_thing(taxonomy: Taxonomy) -> int:
    """Value of the thing in slot 0; stuff has 1 + class. Small values let the map be stored with 8 bits per pixel."""
    return max(taxonomy.by_id, default=0) + 2


def _title(taxonomy: Taxonomy, class_id: int, identity: int) -> str:
    return f"{taxonomy.class_name(class_id)} {identity}"


def _label(taxonomy: Taxonomy, track: Track) -> str:
    tentative = " ?" if track.state == TrackState.TENTATIVE else ""
    return f"{_title(taxonomy, track.class_id, track.track_id)}{tentative}"
