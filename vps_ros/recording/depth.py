"""Depth images of recorded frames: a topic of the bag, or a folder of registered depth images."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame, InputError
from vps_ros.files import list_files
from vps_ros.frame import Frame
from vps_ros.frame_3d import DepthImage, Intrinsics
from vps_ros.messages.objects_3d import COMPRESSED_TYPE, IMAGE_TYPE, depth_image, intrinsics_of, to_depth
from vps_ros.messages.panoptic import CAMERA_INFO_TYPE, camera_info_topic
from vps_ros.messages.typestore import nanoseconds, read_message, readable
from vps_ros.reading import read_yaml
from vps_ros.recording.bag import Bag

DEFAULT_SLOP = 0.02
"""Seconds between the stamps of a frame and its depth image at most."""
MILLIMETRES = 1000.0
_TYPES = (IMAGE_TYPE, COMPRESSED_TYPE)
_AHEAD = 32
"""Depth images that are read to find a later one, or a jump back in time, behind one with an older stamp."""
DEPTH_SUFFIXES = (".png", ".tif", ".tiff", ".npy")
_INFO_FILES = ("camera_info.yaml", "camera_info.json")
_SECONDS = re.compile(r"\d{1,10}\.\d+")
_NANOSECONDS = re.compile(r"\d{12,19}")


class DepthSource(Protocol):
    """The depth images of a recording."""

    def of(self, frame: Frame) -> DepthImage:
        """The depth image of a frame; frames come in order. Raises DroppedFrame when there is none."""
        ...

    def close(self) -> None: ...


class BagDepth:
    """A depth topic of a bag; a frame gets the depth image with the nearest stamp.

    The intrinsics are those of the first CameraInfo beside the depth topic, or else beside the image topic.

    Args:
        image: topic of the frames.
        slop: largest distance of the stamps, seconds; 0: they must be equal.
        intrinsics: replaces those of the bag.

    Raises InputError if the bag has no such topic of images.
    """

    def __init__(
        self, path: str | Path, topic: str, image: str, slop: float = DEFAULT_SLOP, intrinsics: Intrinsics | None = None
    ) -> None:
        self._bag, self._topic, self._slop = Bag(path), topic, round(slop * 1e9)
        images = {t.name for t in self._bag.topics if t.type in _TYPES}
        if topic not in images:
            self.close()
            others = ", ".join(sorted(images - {image})) or "none"
            raise InputError(f"{path}: no topic {topic} of depth images; other image topics are {others}")
        self._problem = ""
        self._intrinsics = intrinsics
        if intrinsics is None:
            self._find_intrinsics(list(dict.fromkeys(map(camera_info_topic, (topic, image)))))
        self._messages = readable(self._bag.messages([topic], _TYPES))
        self._queue: deque[tuple[int, Any]] = deque(maxlen=2 * _AHEAD)
        """Stamps and messages in the order of recording, up to the first one behind the frame."""
        self._newest = self._stamp = -(2**63)
        self._older = 0
        """Messages since that of stamp `_newest`, all of which are older."""

    def _find_intrinsics(self, topics: list[str]) -> None:
        self._problem = f"no camera_info that can be read on {' or '.join(topics)}; give the file --camera-info"
        for topic in topics:
            for _, content in readable(self._bag.messages([topic], [CAMERA_INFO_TYPE])):
                try:
                    self._intrinsics = intrinsics_of(content)
                    return
                except DroppedFrame as error:
                    self._problem = f"{topic}: {error}; give the file --camera-info"
                    break

    def of(self, frame: Frame) -> DepthImage:
        if self._intrinsics is None:
            raise DroppedFrame(self._problem)
        if frame.stamp < self._stamp:
            self._follow_jump()
        self._stamp, queue = frame.stamp, self._queue
        while self._newest < frame.stamp + self._slop and self._older < _AHEAD and self._read():
            while len(queue) > 1 and queue[0][0] < frame.stamp - self._slop and queue[0][0] <= queue[1][0]:
                queue.popleft()
        found = min(self._queue, key=lambda one: abs(one[0] - frame.stamp), default=None)
        if found is None or abs(found[0] - frame.stamp) > self._slop:
            raise DroppedFrame(f"no depth image on {self._topic} within {self._slop / 1e9:g} s of the frame")
        return depth_image(found[1], self._intrinsics)

    def _read(self) -> bool:
        """Puts the next message that can be read into the queue; false at the end."""
        for message, content in self._messages:
            stamp = nanoseconds(content.header.stamp) or message.time
            self._queue.append((stamp, content))
            self._older = 0 if stamp >= self._newest else self._older + 1
            self._newest = max(self._newest, stamp)
            return True
        return False

    def _follow_jump(self) -> None:
        """Drops the depth images from before a jump back in time; if they have none, the frame alone comes late."""
        for _ in range(_AHEAD):
            steps = [before[0] - after[0] for before, after in pairwise(self._queue)]
            if max(steps, default=0) > 0:
                for _ in range(steps.index(max(steps)) + 1):
                    self._queue.popleft()
                self._newest, self._older = max(stamp for stamp, _ in self._queue), 0
                return
            if not self._read():
                return

    def close(self) -> None:
        self._bag.close()


def depth_topics(path: str | Path) -> list[str]:
    """Topics of a bag with "depth" in their names whose first image can be read as depth."""
    with Bag(path) as bag:
        found = []
        for topic in bag.topics:
            if "depth" not in topic.name.lower() or topic.type not in _TYPES:
                continue
            for message in islice(bag.messages([topic.name], [topic.type]), 1):
                with suppress(DroppedFrame):
                    depth_image(read_message(message.data, message.type), Intrinsics(1, 1, 0, 0, 1, 1))
                    found.append(topic.name)
        return found


class FolderDepth:
    """A folder of depth images: PNG or TIFF of 16 bits, TIFF of 32-bit floats or .npy in metres.

    A depth image belongs to the frame with the same file name without suffix, for a folder of images; else to the frame
    nearest in time, its name being a stamp in nanoseconds (1700000000100000000.png) or seconds (1305031102.175304.png).

    Args:
        names: stamp of each frame -> its file name without suffix, filled before the frame is asked for; None if frames
            have no files.
        scale: units of a pixel of 16 bits in one metre.
        slop: as in BagDepth.
        intrinsics: None: those of camera_info.yaml or camera_info.json in the folder.

    Raises InputError if there are no depth images, their names are not stamps, or camera_info cannot be read.
    """

    def __init__(
        self,
        folder: str | Path,
        names: Mapping[int, str] | None = None,
        scale: float = MILLIMETRES,
        slop: float = DEFAULT_SLOP,
        intrinsics: Intrinsics | None = None,
    ) -> None:
        self._folder, self._names, self._scale, self._slop = Path(folder), names, scale, round(slop * 1e9)
        files = list_files(self._folder, DEPTH_SUFFIXES) if self._folder.is_dir() else []
        if not files:
            raise InputError(f"{folder}: holds no depth images ({', '.join(DEPTH_SUFFIXES)})")
        self._by_name = {file.stem: file for file in files}
        self._stamps = np.zeros(0, np.int64)
        if names is None:
            stamps = {_stamp(file): file for file in files}
            self._stamps = np.array(sorted(stamps), np.int64)
            self._by_stamp = stamps
        described = next((self._folder / name for name in _INFO_FILES if (self._folder / name).is_file()), None)
        self._intrinsics = intrinsics or (read_intrinsics(described) if described else None)

    def of(self, frame: Frame) -> DepthImage:
        if self._intrinsics is None:
            raise DroppedFrame(f"no intrinsics: {self._folder} has no {_INFO_FILES[0]}; give the file --camera-info")
        file = self._file(frame.stamp)
        return to_depth(*read_depth(file, self._scale), frame.stamp, self._intrinsics)

    def _file(self, stamp: int) -> Path:
        if self._names is not None:
            name = self._names.get(stamp, "")
            if name not in self._by_name:
                raise DroppedFrame(f"{self._folder} has no depth image of the name of its frame")
            return self._by_name[name]
        nearest = int(self._stamps[np.abs(self._stamps - stamp).argmin()])
        if abs(nearest - stamp) > self._slop:
            raise DroppedFrame(f"no depth image in {self._folder} within {self._slop / 1e9:g} s of the frame")
        return self._by_stamp[nearest]

    def close(self) -> None:
        """Nothing is open."""


def read_depth(file: Path, scale: float = MILLIMETRES) -> tuple[NDArray[Any], float]:
    """Pixels [H, W] of a depth file and metres of their unit; raises DroppedFrame when it is not one."""
    try:
        pixels = np.load(file) if file.suffix == ".npy" else cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    except (OSError, ValueError, cv2.error):
        pixels = None
    if pixels is None:
        raise DroppedFrame(f"{file}: cannot be decoded")
    if pixels.ndim != 2 or pixels.dtype not in (np.uint16, np.float32, np.float64):
        raise DroppedFrame(f"{file}: is {pixels.dtype} {list(pixels.shape)}, not depth of 16 bits or float [H, W]")
    return pixels, 1 / scale if pixels.dtype == np.uint16 else 1.0


def read_intrinsics(file: str | Path) -> Intrinsics:
    """Intrinsics of a calibration file; raises InputError.

    YAML of camera_calibration (camera_matrix: data: [9]; image_width, image_height), or JSON with camera_matrix of
    3x3 numbers, width and height, as `vps-ros synth` writes.
    """
    where = Path(file)
    try:
        content = json.loads(where.read_text("utf-8")) if where.suffix == ".json" else read_yaml(where)
        matrix = content["camera_matrix"]
        k = np.array(matrix["data"] if isinstance(matrix, dict) else matrix, np.float64).reshape(3, 3)
        width, height = (int(content.get(f"image_{side}", content.get(side))) for side in ("width", "height"))
        return Intrinsics(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), width, height)
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, ValueError, AttributeError, DroppedFrame) as error:
        raise InputError(
            f"{where}: is not a camera calibration ({error}); it needs camera_matrix, image_width and image_height"
        ) from None


def _stamp(file: Path) -> int:
    if _NANOSECONDS.fullmatch(file.stem):
        return int(file.stem)
    if _SECONDS.fullmatch(file.stem):
        seconds, _, fraction = file.stem.partition(".")
        return int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))
    raise InputError(
        f"{file}: the name is no stamp; frames of a bag or video need depth images named by nanoseconds or seconds"
    )
