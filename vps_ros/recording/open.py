"""One call for every source of frames."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vps_ros.errors import InputError
from vps_ros.recording.locate import is_bag
from vps_ros.recording.pictures import DEFAULT_HZ
from vps_ros.recording.reader import BagReader
from vps_ros.recording.sources import ArraySource, CameraSource, FrameSource, PictureSource


def open_frames(
    source: str | Path | int | Iterable[Any], *, topic: str | None = None, hz: float | None = None
) -> FrameSource:
    """Frames with stamps out of a film, a folder, a bag, a camera or arrays. Images become uint8 RGB [H, W, 3].

    | source | frames | stamps |
    |---|---|---|
    | path of a film | all that can be decoded | the film's times from 1 s on, or `hz` |
    | path of a folder of images, or of one image | in natural order of the names (2 before 10) | `hz`, from 1 s on |
    | path of a bag: .mcap, .db3, rosbag2 folder | of `topic`, in the order of recording | those of the messages |
    | int, a camera's number | as they come, without end | the system's clock |
    | iterable of arrays, of paths or of Frames | one for each item | `hz`, from 1 s on; Frames keep theirs |

    Grey images become RGB, 16 bits become 8 (65535 becomes 255), alpha is dropped from files. Arrays must be RGB: for
    arrays from OpenCV, which are BGR, give Frames made by Frame.from_bgr. Images may have several sizes: tracks start
    afresh where the size changes.

    Args:
        topic: image topic of a bag; needed when it has several.
        hz: frames per second; default 10, of a film its own times.

    Raises:
        InputError: there is nothing at the path, it holds no images, or `topic` or `hz` is not for this kind of source;
            while iterating, when an image cannot be decoded (it is named), or none could. A film or bag that is cut
            off gives what is left of it; the loss is a UserWarning at the end and in `losses`.
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; give a film, a folder of images or a bag")
        if not is_bag(path):
            _refuse_topic(topic, path)
            return PictureSource(path, hz)
        if hz is not None:
            raise InputError(f"hz {hz:g}: {path} is a bag, which has stamps of its own; leave it out")
        return BagReader(path, topic)
    _refuse_topic(topic, source)
    if isinstance(source, int) and not isinstance(source, bool):
        if hz is not None:
            raise InputError(f"hz {hz:g}: a camera has its own rate; leave it out")
        return CameraSource(source)
    if isinstance(source, Iterable):
        return ArraySource(source, DEFAULT_HZ if hz is None else hz)
    raise InputError(f"{_shown(source)}: give a path, a camera's number, or an iterable of images")


def _refuse_topic(topic: str | None, source: Any) -> None:
    if topic is not None:
        raise InputError(f"topic {topic}: only bags have topics, and {_shown(source)} is none; leave it out")


def _shown(source: Any) -> str:
    return str(source) if isinstance(source, (str, Path, int)) else f"a {type(source).__name__}"
