"""The steps of `vps-ros adapt` before the training: frames are observed, selected, and labelled by the teacher.

Results are kept in a working folder, so that an interrupted run continues:

    WORK/plan.json                    arguments
    WORK/teacher.onnx                 where no teacher is given
    WORK/observed/DRIVE.npz           features, disagreement and flicker of each frame to learn from
    WORK/tracked/DRIVE/FRAME.png      labels of the teacher, with identities of the complete recording; of drives that
                                      are held back some frames, without identities
    WORK/data/                        a data set in the layout of Cityscapes-VPS, train and val
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.adaptation.select import Observed, feature, select
from vps_ros.adaptation.teacher import confirmed, views
from vps_ros.config import Config
from vps_ros.datasets.images import load_image
from vps_ros.datasets.kitti_step import load_map, save_map
from vps_ros.datasets.labels import LabelMap
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, fingerprint, model_path, write_json
from vps_ros.frame import Frame, PanopticFrame
from vps_ros.labelling.export import Exported, write_panoptic
from vps_ros.labelling.project import Progress, read_json
from vps_ros.labelling.segments import class_map, thing_map
from vps_ros.messages.panoptic import class_and_track_maps
from vps_ros.online import OnlinePanoptic
from vps_ros.reading import plain
from vps_ros.recording.frames import FrameSource, open_frames
from vps_ros.recording.lookahead import replay_with_lookahead
from vps_ros.segmenters import Segmenter, load_segmenter
from vps_ros.segmenters.onnx_segmenter import OnnxSegmenter
from vps_ros.taxonomy import CITYSCAPES

PLAN, TEACHER, CLIP = "plan.json", "teacher.onnx", 3
"""Consecutive frames of a labelled clip: training compares the frames of a pair."""
DATA_SET = "cityscapes-vps"
TRACKED, DATA = "tracked", "data"
_QUALITY = 95


@dataclass(frozen=True)
class Plan:
    """Arguments that the results in a working folder depend on.

    Attributes:
        drives: recordings to learn from. held_back: recordings to report on.
        topic: image topic of the bags, or empty.
        student, teacher: fingerprints of the model files.
        clips: to label.
        held_back_frames: of all recordings that are held back, which the teacher labels for thresholds and validation.
        versions: of the recordings in a store, which change when a file is replaced; empty for local recordings.
    """

    drives: tuple[str, ...]
    held_back: tuple[str, ...]
    topic: str
    student: str
    teacher: str
    clips: int
    held_back_frames: int = 40
    versions: tuple[str, ...] = ()

    @property
    def recordings(self) -> tuple[str, ...]:
        """All recordings; those that are held back are the last ones."""
        return *self.drives, *self.held_back

    @property
    def names(self) -> list[str]:
        """Names of all recordings in the working folder."""
        return [f"{number:03d}-{Path(drive).resolve().stem}" for number, drive in enumerate(self.recordings)]


def start(work: Path, plan: Plan) -> None:
    """Raises InputError when the folder holds the results of other arguments."""
    if (work / PLAN).is_file():
        before: Plan = read_json(Plan, work / PLAN)
        if before != plan:
            changed = next(name for name in vars(plan) if getattr(before, name) != getattr(plan, name))
            raise InputError(
                f"{work}: was made with other {changed}; repeat its arguments to continue, or choose --work"
            )
    elif work.is_dir() and any(path.name != TEACHER for path in work.iterdir()):
        raise InputError(f"{work}: is a folder with other content; choose another --work")
    else:
        write_json(work / PLAN, plain(plan))


def check_classes(models: Iterable[str]) -> list[Segmenter]:
    """The segmenters of the models; raises InputError when one has other classes than Cityscapes."""
    found = []
    for name in models:
        segmenter = load_segmenter(Config(model=name).segmenter_parameters)
        mine = [(c.id, c.name, c.isthing) for c in segmenter.taxonomy.classes]
        if mine != [(c.id, c.name, c.isthing) for c in CITYSCAPES.classes]:
            raise InputError(
                f"model {name}: has the classes of {segmenter.taxonomy.name}; adapt works with those of Cityscapes, "
                "which the generated streets have"
            )
        found.append(segmenter)
    return found


def input_size(model: str) -> tuple[int, int]:
    """Width and height of a model's input."""
    spec = OnnxSegmenter(model_path(model), Config(model=model).segmenter_parameters).card.input
    return spec.width, spec.height


def model_key(name: str) -> str:
    return fingerprint(model_path(name))[:16]


def labels_name(index: int) -> str:
    """File of the teacher's labels of a frame, in the folder of its drive."""
    return f"{index:06d}.png"


def image_name(index: int) -> str:
    """File of the image of a frame, in the folder of its drive."""
    return f"images/{index:06d}.jpg"


def seconds_per_frame(segmenters: Sequence[Segmenter], image: NDArray[np.uint8]) -> float:
    """Mean time of the segmenters for one image; the first run of each, which prepares buffers, is left out."""
    took = 0.0
    for segmenter in segmenters:
        segmenter(image)
        began = time.perf_counter()
        segmenter(image)
        took += time.perf_counter() - began
    return took / len(segmenters)


def spread(counts: Sequence[int], frames: int) -> list[list[int]]:
    """Indices of `frames` frames at most, evenly spaced over recordings of `counts` frames, for each recording."""
    places = np.unique(np.linspace(0, sum(counts) - 1, min(frames, sum(counts))).astype(int))
    ends = np.cumsum(counts)
    return [
        (places[(end - count <= places) & (places < end)] - (end - count)).tolist()
        for count, end in zip(counts, ends, strict=True)
    ]


def count_frames(source: FrameSource) -> int:
    """Number of frames; those of a source that does not know it are read."""
    return source.count or sum(1 for _ in source.frames())


def frames_at(source: FrameSource, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
    """Index and frame; a damaged recording may have fewer."""
    wanted = set(indices)
    for index, frame in enumerate(islice(source.frames(), max(wanted, default=-1) + 1)):
        if index in wanted:
            yield index, frame


def label_held_back(work: Path, plan: Plan, counts: Sequence[int], teacher: str, progress: Progress) -> None:
    """Keeps images, and labels by the teacher, of frames spread over the recordings that are held back.

    Args:
        counts: frames of each of these recordings.
    """
    segment = load_segmenter(Config(model=teacher).segmenter_parameters)
    names = plan.names[len(plan.drives) :]
    for name, drive, indices in zip(names, plan.held_back, spread(counts, plan.held_back_frames), strict=True):
        folder = work / TRACKED / name
        if folder.is_dir() or not indices:
            continue
        with (
            open_frames(drive, topic=plan.topic or None) as source,
            atomic_write(folder, True, "images") as draft,
        ):
            (draft / "images").mkdir(parents=True)
            for index, frame in progress(frames_at(source, indices), f"{name}, teacher", len(indices)):
                found = segment(frame.image)
                _keep(draft, index, frame, LabelMap(class_map(found), thing_map(found)))


def _keep(folder: Path, index: int, frame: Frame, labels: LabelMap) -> None:
    save_map(folder / labels_name(index), labels.semantic, labels.instance)
    data = cv2.imencode(".jpg", frame.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    (folder / image_name(index)).write_bytes(data.tobytes())


def observe(work: Path, plan: Plan, student: str, teacher: str, progress: Progress) -> list[Observed]:
    """Runs teacher and student on every frame to learn from; keeps images, labels and measures of each frame."""
    found = []
    for name, drive in zip(plan.names, plan.drives, strict=False):
        path = work / "observed" / f"{name}.npz"
        if not path.is_file():
            segment = load_segmenter(Config(model=student).segmenter_parameters)
            with (
                open_frames(drive, topic=plan.topic or None) as source,
                atomic_write(work / TRACKED / name, True, "images") as draft,
            ):
                seen = observe_drive(name, source, draft, segment, Config(model=teacher), progress)
            path.parent.mkdir(exist_ok=True)
            with atomic_write(path) as npz:
                save_observed(npz, seen)
        found.append(load_observed(path))
    return found


def observe_drive(
    name: str, source: FrameSource, folder: Path, segment: Segmenter, teacher: Config, progress: Progress
) -> Observed:
    """Runs teacher and student on every frame of one recording, which is read twice.

    Args:
        folder: for the images and the teacher's labels, with identities of the complete recording; is created.
        segment: the student.
        teacher: of the pipeline with the teacher.
    """
    features: list[NDArray[np.float32]] = []
    disagreement: list[float] = []
    flicker: list[float] = []
    before: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None
    passes = iter((f"{name}, teacher", f"{name}, student"))
    (folder / "images").mkdir(parents=True)

    def keep(frame: Frame, result: PanopticFrame) -> None:
        nonlocal before
        index = len(features)
        semantic, instance = class_and_track_maps(result)
        mine = segment(frame.image)
        now = class_map(mine), semantic.astype(np.uint8)
        features.append(feature(mine, len(CITYSCAPES)))
        disagreement.append(float((now[0] != now[1]).mean()))
        unsteady = 0.0
        if before is not None and before[0].shape == now[0].shape:
            unsteady = float(((now[0] != before[0]) & (now[1] == before[1])).mean())
        flicker.append(unsteady)
        before = now
        _keep(folder, index, frame, LabelMap(now[1], instance))

    def read() -> Iterable[Frame]:
        return progress(source.frames(), next(passes), source.count)

    replay_with_lookahead(read, OnlinePanoptic(teacher), [keep])
    return Observed(*(np.array(values, np.float32) for values in (features, disagreement, flicker)))


def save_observed(path: Path, observed: Observed) -> None:
    np.savez(path, **vars(observed))


def load_observed(path: Path | BinaryIO) -> Observed:
    with np.load(path) as stored:
        return Observed(**{name: stored[name] for name in ("features", "disagreement", "flicker")})


def choose(plan: Plan, observed: list[Observed]) -> list[tuple[int, int]]:
    """(recording, frame) of the frames to learn from, clip by clip.

    Raises InputError when no drive is long enough for a clip.
    """
    chosen = select(observed[: len(plan.drives)], plan.clips, CLIP)
    if not chosen:
        raise InputError(f"no drive to learn from has {CLIP} frames; give longer recordings")
    return [(r, f + i) for r, f in chosen for i in range(CLIP)]


def label(work: Path, plan: Plan, teacher: str, observed: list[Observed], progress: Progress) -> Path:
    """Writes a data set and returns its folder: the chosen frames, with the labels that other views confirm, and the
    frames of held-back drives, with all labels of the teacher.

    The latter are for thresholds: were uncertain objects void there, a low threshold would cost nothing.
    """
    folder = work / DATA
    if folder.is_dir():
        return folder
    segment = load_segmenter(Config(model=teacher).segmenter_parameters)

    def labelled(chosen: list[tuple[int, int]], split: str, length: int) -> Iterator[tuple[str, Exported]]:
        for place, (r, f) in enumerate(progress(chosen, f"label {split}", len(chosen))):
            source = work / TRACKED / plan.names[r]
            image = source / image_name(f)
            labels = LabelMap(*load_map(source / labels_name(f)))
            if split == "train":
                labels = confirmed(labels, list(views(load_image(image), segment)), CITYSCAPES)
            # The part of a name before the first underscore is the video.
            yield f"{place // length:05d}_{plan.names[r].replace('_', '-')}-{f:06d}", Exported(f, image, labels)

    held = [
        (r, int(path.stem))
        for r in range(len(plan.drives), len(plan.names))
        for path in sorted((work / TRACKED / plan.names[r]).glob("*.png"))
    ]
    training = choose(plan, observed)
    with atomic_write(folder) as draft:
        for split, chosen, length in (("train", training, CLIP), ("val", held, 1)):
            write_panoptic(
                labelled(chosen, split, length),
                CITYSCAPES,
                draft / split / "img",
                draft / split / "panoptic_video",
                draft / f"panoptic_gt_{split}_city_vps.json",
            )
    return folder
