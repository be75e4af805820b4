"""Edits of the labels of a project, and the state of the tracks that follows from them.

The masks of a frame come from a layer, a folder of label maps whose instances are track ids. Edits do not change maps.
They change which track a segment of a frame belongs to. The state is computed from the list of edits by pure functions,
so an edit is undone by computing the state without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

from vps_ros.errors import InputError
from vps_ros.reading import plain, read_as
from vps_ros.taxonomy import VOID_ID, Taxonomy

CODE = 65536
"""A pixel's code is class * 65536 + track id."""


class SegmentRow(NamedTuple):
    """One thing segment of a frame, as the index of a layer describes it.

    Attributes:
        id: its instance in the map of the layer, 1 and up.
        class_id: of the taxonomy of the project.
        area: pixels.
        box: x0 y0 x1 y1 in pixels, half-open.
        score: of the segmenter, 0..1.
        agreement: mask IoU of the sources of the segment, 0..1: two models in a sparse layer; propagation forward and
            backward and the segmenter in a dense one. None where there is one source only.
    """

    id: int
    class_id: int
    area: int
    box: tuple[float, float, float, float]
    score: float
    agreement: float | None = None


class LayerFrame(NamedTuple):
    """The index of one frame of a layer.

    Attributes:
        segments: the things of its map.
        uncertain: share of pixels in 0..1 whose label is uncertain.
    """

    segments: tuple[SegmentRow, ...]
    uncertain: float = 0.0


@dataclass(frozen=True)
class Layer:
    """The index of a layer.

    Attributes:
        name: of its folder.
        kind: `sparse`, `dense`, or `import`.
        frames: number of the frame -> its segments.
    """

    name: str
    kind: str
    frames: Mapping[int, LayerFrame]


class _Operation:
    """An edit; its entry `op` names the operation."""

    TAG: ClassVar[str] = "op"


@dataclass(frozen=True)
class UseLayer(_Operation):
    """The masks of the frames of a layer replace those that these frames had."""

    NAMES: ClassVar[tuple[str, ...]] = ("layer",)
    name: str
    op: str = "layer"


@dataclass(frozen=True)
class Merge(_Operation):
    """The segments of `track` become segments of `into`, which keeps its class."""

    NAMES: ClassVar[tuple[str, ...]] = ("merge",)
    into: int
    track: int
    op: str = "merge"


@dataclass(frozen=True)
class Split(_Operation):
    """The segments of `track` from `frame` on become a new track of its class."""

    NAMES: ClassVar[tuple[str, ...]] = ("split",)
    track: int
    frame: int
    op: str = "split"


@dataclass(frozen=True)
class Swap(_Operation):
    """Two tracks exchange their segments from `frame` on: the correction of an identity switch."""

    NAMES: ClassVar[tuple[str, ...]] = ("swap",)
    track: int
    other: int
    frame: int
    op: str = "swap"


@dataclass(frozen=True)
class Classify(_Operation):
    """The class of a track."""

    NAMES: ClassVar[tuple[str, ...]] = ("classify",)
    track: int
    class_id: int
    op: str = "classify"


@dataclass(frozen=True)
class ClassifyStuff(_Operation):
    """A region of stuff, or void, of a frame gets another class of stuff, or VOID_ID.

    The region has the pixel x, y and all pixels of its class that are connected with it, after the edits before this
    one.
    """

    NAMES: ClassVar[tuple[str, ...]] = ("classify-stuff",)
    frame: int
    x: int
    y: int
    class_id: int
    op: str = "classify-stuff"


@dataclass(frozen=True)
class Delete(_Operation):
    """The segments of a track in `first`..`last` (-1: to its end) become void."""

    NAMES: ClassVar[tuple[str, ...]] = ("delete",)
    track: int
    first: int = 0
    last: int = -1
    op: str = "delete"


@dataclass(frozen=True)
class Accept(_Operation):
    """The identity and the class of a track are right; or, with `accepted: false`, not known to be."""

    NAMES: ClassVar[tuple[str, ...]] = ("accept",)
    track: int
    accepted: bool = True
    op: str = "accept"


@dataclass(frozen=True)
class Confirm(_Operation):
    """The masks of a frame are right: they are kept, and propagated from; `confirmed: false` takes that back."""

    NAMES: ClassVar[tuple[str, ...]] = ("confirm",)
    frame: int
    confirmed: bool = True
    op: str = "confirm"


@dataclass(frozen=True)
class Undo(_Operation):
    """The last edit that has an effect has none."""

    NAMES: ClassVar[tuple[str, ...]] = ("undo",)
    op: str = "undo"


@dataclass(frozen=True)
class Redo(_Operation):
    """The edit that was undone last has an effect again."""

    NAMES: ClassVar[tuple[str, ...]] = ("redo",)
    op: str = "redo"


Change = UseLayer | Merge | Split | Swap | Classify | ClassifyStuff | Delete | Accept | Confirm
Edit = Change | Undo | Redo


@dataclass(frozen=True)
class TrackLabels:
    """One object.

    Attributes:
        class_id: of the object in all frames.
        accepted: a person reviewed its identity and class.
        segments: frame -> ids of its segments in the map of the frame's layer.
    """

    class_id: int
    accepted: bool
    segments: Mapping[int, tuple[int, ...]]


class Region(NamedTuple):
    """A region of stuff with another class than that of its layer; see ClassifyStuff.

    Attributes:
        deleted: segments of the frame that belonged to no track when the class was changed; they are void.
    """

    x: int
    y: int
    class_id: int
    deleted: tuple[int, ...]


@dataclass(frozen=True)
class State:
    """The labels after all edits.

    Attributes:
        layers: frame -> name of the layer with its masks.
        tracks: track id -> the object.
        stuff: frame -> regions with another class, in the order of their edits.
        sources: frames whose masks are propagated: those of sparse and imported layers, and confirmed ones.
        confirmed: frames that a person confirmed.
        next_id: the id of the next new track.
    """

    layers: Mapping[int, str] = field(default_factory=dict)
    tracks: Mapping[int, TrackLabels] = field(default_factory=dict)
    stuff: Mapping[int, tuple[Region, ...]] = field(default_factory=dict)
    sources: frozenset[int] = frozenset()
    confirmed: frozenset[int] = frozenset()
    next_id: int = 1


def read_edit(value: Any, where: str = "edit") -> Edit:
    """The edit of a JSON object; raises InputError for an unknown operation, and unknown, missing or wrong entries."""
    if not isinstance(value, dict) or "op" not in value:
        raise InputError(f"{where}: write an object with `op` and its entries")
    return read_as(Edit, value, where)


def to_json(edit: Edit) -> dict[str, Any]:
    """The JSON object of an edit; the inverse of `read_edit`."""
    return plain(edit)


def history(edits: Iterable[Edit]) -> tuple[list[Change], list[Change]]:
    """The edits that are left after undo and redo, and those that can be redone. A new edit ends redo.

    Raises InputError for an undo or redo without an edit. A layer is not undone: its masks would be lost.
    """
    done: list[Change] = []
    undone: list[Change] = []
    for edit in edits:
        if isinstance(edit, Undo):
            if not done or isinstance(done[-1], UseLayer):
                raise InputError("undo: there is no edit to undo")
            undone.append(done.pop())
        elif isinstance(edit, Redo):
            if not undone:
                raise InputError("redo: no edit was undone")
            done.append(undone.pop())
        else:
            done.append(edit)
            undone.clear()
    return done, undone


def state_of(edits: Iterable[Edit], layers: Mapping[str, Layer], taxonomy: Taxonomy) -> State:
    """The state after a list of edits; raises InputError as `history` and `apply`."""
    state = State()
    for edit in history(edits)[0]:
        state = apply(state, edit, layers, taxonomy)
    return state


def apply(state: State, edit: Change, layers: Mapping[str, Layer], taxonomy: Taxonomy) -> State:
    """The state after one more edit; `state` is not changed.

    Args:
        layers: name -> index of the layers of the project.
        taxonomy: of the project.

    Raises:
        InputError: a track, frame, class or layer does not exist, or the edit would change nothing.
    """
    if isinstance(edit, UseLayer):
        return _use_layer(state, edit, layers)
    if isinstance(edit, Confirm):
        return _confirm(state, edit, layers)
    if isinstance(edit, ClassifyStuff):
        return _classify_stuff(state, edit, layers, taxonomy)
    track = _track(state, edit.into if isinstance(edit, Merge) else edit.track)
    if isinstance(edit, Merge):
        return _merge(state, edit, track)
    if isinstance(edit, Split):
        return _split(state, edit, track)
    if isinstance(edit, Swap):
        return _swap(state, edit, track)
    if isinstance(edit, Classify):
        _check_class(edit, taxonomy, True)
        return _with(state, {edit.track: replace(track, class_id=edit.class_id, accepted=False)})
    if isinstance(edit, Delete):
        last = max(track.segments) if edit.last < 0 else edit.last
        kept = {f: ids for f, ids in track.segments.items() if not edit.first <= f <= last}
        if len(kept) == len(track.segments):
            raise InputError(f"delete: track {edit.track} is not seen in frames {edit.first}..{last}")
        return _with(state, {edit.track: replace(track, segments=kept, accepted=False)})
    return _with(state, {edit.track: replace(track, accepted=edit.accepted)})


def _use_layer(state: State, edit: UseLayer, layers: Mapping[str, Layer]) -> State:
    layer = layers.get(edit.name)
    if layer is None:
        raise InputError(f"layer {edit.name}: there is no such folder in the project")
    tracks = {
        number: replace(track, segments={f: ids for f, ids in track.segments.items() if f not in layer.frames})
        for number, track in state.tracks.items()
    }
    for frame, content in layer.frames.items():
        for row in content.segments:
            track = tracks.get(row.id) or TrackLabels(row.class_id, False, {})
            tracks[row.id] = replace(track, segments={**track.segments, frame: (row.id,)})
    frames = frozenset(layer.frames)
    return replace(
        state,
        layers={**state.layers, **dict.fromkeys(layer.frames, layer.name)},
        tracks={number: track for number, track in tracks.items() if track.segments},
        stuff={frame: regions for frame, regions in state.stuff.items() if frame not in frames},
        sources=state.sources - frames if layer.kind == "dense" else state.sources | frames,
        confirmed=state.confirmed - frames if layer.kind == "dense" else state.confirmed,
        next_id=max([state.next_id, *(1 + number for number in tracks)]),
    )


def _confirm(state: State, edit: Confirm, layers: Mapping[str, Layer]) -> State:
    _check_layer(state, edit)
    alone = frozenset([edit.frame])
    if edit.confirmed:
        return replace(state, sources=state.sources | alone, confirmed=state.confirmed | alone)
    dense = layers[state.layers[edit.frame]].kind == "dense"
    return replace(state, sources=state.sources - alone if dense else state.sources, confirmed=state.confirmed - alone)


def _classify_stuff(state: State, edit: ClassifyStuff, layers: Mapping[str, Layer], taxonomy: Taxonomy) -> State:
    _check_layer(state, edit)
    if edit.class_id != VOID_ID:
        _check_class(edit, taxonomy, False)
    of_tracks = {i for track in state.tracks.values() for i in track.segments.get(edit.frame, ())}
    rows = layers[state.layers[edit.frame]].frames[edit.frame].segments
    deleted = tuple(row.id for row in rows if row.id not in of_tracks)
    region = Region(edit.x, edit.y, edit.class_id, deleted)
    return replace(state, stuff={**state.stuff, edit.frame: (*state.stuff.get(edit.frame, ()), region)})


def _check_layer(state: State, edit: Confirm | ClassifyStuff) -> None:
    if edit.frame not in state.layers:
        raise InputError(f"{edit.op}: frame {edit.frame} has no masks")


def _check_class(edit: Classify | ClassifyStuff, taxonomy: Taxonomy, thing: bool) -> None:
    known = {c.id: c.name for c in taxonomy.classes if c.isthing == thing}
    if edit.class_id not in known:
        kind, names = "thing" if thing else "stuff", ", ".join(f"{i} {name}" for i, name in known.items())
        raise InputError(f"{edit.op}: class {edit.class_id} is no {kind} of {taxonomy.name} ({names})")


def _merge(state: State, edit: Merge, into: TrackLabels) -> State:
    if edit.into == edit.track:
        raise InputError(f"merge: track {edit.track} with itself")
    other = _track(state, edit.track)
    return _with(state, {edit.into: replace(into, segments=_joined(into, other), accepted=False), edit.track: None})


def _split(state: State, edit: Split, track: TrackLabels) -> State:
    before, after = _cut(track, edit.frame)
    if not before or not after:
        raise InputError(f"split: track {edit.track} has no segment on one side of frame {edit.frame}")
    new = {
        edit.track: replace(track, segments=before, accepted=False),
        state.next_id: TrackLabels(track.class_id, False, after),
    }
    return replace(_with(state, new), next_id=state.next_id + 1)


def _swap(state: State, edit: Swap, track: TrackLabels) -> State:
    other = _track(state, edit.other)
    (before, after), (other_before, other_after) = _cut(track, edit.frame), _cut(other, edit.frame)
    if edit.track == edit.other or not (after or other_after):
        raise InputError(f"swap: tracks {edit.track} and {edit.other} have nothing to exchange from {edit.frame} on")
    new = {
        edit.track: replace(track, segments={**before, **other_after}, accepted=False),
        edit.other: replace(other, segments={**other_before, **after}, accepted=False),
    }
    return _with(state, new)


def _cut(track: TrackLabels, frame: int) -> tuple[dict[int, tuple[int, ...]], dict[int, tuple[int, ...]]]:
    """The segments before a frame, and those from it on."""
    rows: Sequence[tuple[int, tuple[int, ...]]] = sorted(track.segments.items())
    return {f: ids for f, ids in rows if f < frame}, {f: ids for f, ids in rows if f >= frame}


def _joined(track: TrackLabels, other: TrackLabels) -> dict[int, tuple[int, ...]]:
    frames = sorted({*track.segments, *other.segments})
    return {f: (*track.segments.get(f, ()), *other.segments.get(f, ())) for f in frames}


def _track(state: State, number: int) -> TrackLabels:
    if number not in state.tracks:
        raise InputError(f"there is no track {number}")
    return state.tracks[number]


def _with(state: State, changed: Mapping[int, TrackLabels | None]) -> State:
    """The state with these tracks; those that are None or have no segment are removed."""
    merged: dict[int, TrackLabels | None] = {**state.tracks, **changed}
    return replace(state, tracks={number: t for number, t in merged.items() if t is not None and t.segments})
