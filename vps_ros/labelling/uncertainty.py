"""Which tracks and frames a person should look at first: low scores, switches, gaps, flicker, disagreement."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vps_ros.labelling.edits import SegmentRow, State, TrackLabels

LOW_SCORE = 0.6
LEAST_AGREEMENT = 0.6
LARGEST_CHANGE = 2.5
"""Ratio of the areas of a mask in consecutive labelled frames from which on it flickers."""
NEAR = 1.0
"""Distance of two boxes, in lengths of their longer side, up to which one track may continue another."""
MOST_MISSED = 3
"""Labelled frames that an object may be hidden, for a track that may continue another."""


class Reason(NamedTuple):
    """Why a track is uncertain.

    Attributes:
        kind: `score`, `switch`, `gap`, `flicker`, `class`, `disagreement` or `short`.
        frame: at which to look.
        weight: 0..1, roughly the probability of an error. Chosen.
        text: one line for a person.
        other: a track that may be the same object, or 0.
    """

    kind: str
    frame: int
    weight: float
    text: str
    other: int = 0


@dataclass(frozen=True)
class Uncertainty:
    """The reasons of one track, the strongest first; `value` is 1 - prod(1 - weight), 0 without a reason."""

    value: float
    reasons: tuple[Reason, ...]


Rows = Mapping[int, Mapping[int, SegmentRow]]
"""Frame -> segment id -> segment."""


def uncertainties(state: State, rows: Rows) -> dict[int, Uncertainty]:
    """The uncertainty of each track.

    Args:
        rows: of every frame of `state.layers`.
    """
    frames = sorted(state.layers)
    continued = _continuations(state, rows, frames)
    found = {}
    for number, track in state.tracks.items():
        reasons = [*_of_segments(track, rows), *_of_times(track, rows, frames), *continued.get(number, ())]
        reasons.sort(key=lambda reason: (-reason.weight, reason.frame))
        left = 1.0
        for reason in reasons:
            left *= 1 - reason.weight
        found[number] = Uncertainty(round(1 - left, 4), tuple(reasons))
    return found


def segments_of(track: TrackLabels, rows: Rows) -> dict[int, SegmentRow]:
    """Frame -> the largest segment of a track, in the order of time."""
    return {
        frame: max((rows[frame][i] for i in ids), key=lambda row: row.area)
        for frame, ids in sorted(track.segments.items())
    }


def _of_segments(track: TrackLabels, rows: Rows) -> Iterable[Reason]:
    seen = segments_of(track, rows)
    frame, low = min(seen.items(), key=lambda one: one[1].score)
    if low.score < LOW_SCORE and low.agreement is None:
        yield Reason("score", frame, round(0.8 * (1 - low.score), 4), f"score {low.score:.2f}")
    agreed = {f: row.agreement for f, row in seen.items() if row.agreement is not None}
    if agreed:
        frame, least = min(agreed.items(), key=lambda one: one[1])
        if least < LEAST_AGREEMENT:
            yield Reason("disagreement", frame, round(0.7 * (1 - least), 4), f"masks agree to {least:.2f}")
    votes = Counter(row.class_id for row in seen.values())
    others = sum(votes.values()) - votes[track.class_id]
    if others and votes.most_common(1)[0][0] != track.class_id or others > 0.3 * len(seen):
        frame = next(f for f, row in seen.items() if row.class_id != track.class_id)
        yield Reason("class", frame, 0.5, f"another class in {others} of {len(seen)} frames")


def _of_times(track: TrackLabels, rows: Rows, frames: Sequence[int]) -> Iterable[Reason]:
    seen = segments_of(track, rows)
    known = list(seen)
    if len(seen) == 1 and known[0] not in (frames[0], frames[-1]):
        yield Reason("short", known[0], 0.3, "seen in one frame")
    for before, after in zip(known, known[1:], strict=False):
        missed = bisect_left(frames, after) - bisect_left(frames, before) - 1
        if missed:
            yield Reason("gap", before, 0.3, f"not seen in {missed} frames")
        ratio = seen[after].area / max(seen[before].area, 1)
        # An object that moves into or out of the image changes its area without an error.
        if max(ratio, 1 / max(ratio, 1e-9)) > LARGEST_CHANGE and not missed:
            yield Reason("flicker", after, 0.4, f"area {seen[before].area} to {seen[after].area} px")


def _continuations(state: State, rows: Rows, frames: Sequence[int]) -> dict[int, list[Reason]]:
    """Tracks that begin where another one ends."""
    place = {frame: i for i, frame in enumerate(frames)}
    spans = {}
    for number, track in state.tracks.items():
        seen = segments_of(track, rows)
        first, last = next(iter(seen)), next(reversed(seen))
        spans[number] = (first, seen[first], last, seen[last])
    starts: dict[int, list[int]] = {}
    for number, (first, *_) in spans.items():
        starts.setdefault(place[first], []).append(number)
    found: dict[int, list[Reason]] = {}
    for number, (_, _, last, end) in spans.items():
        for step in range(1, 2 + MOST_MISSED):
            for other in starts.get(place[last] + step, ()):
                distance = _distance(end.box, spans[other][1].box)
                if distance > NEAR:
                    continue
                same = state.tracks[number].class_id == state.tracks[other].class_id
                weight = round((0.8 if same else 0.6) * (1 - distance / (2 * NEAR)), 4)
                frame = spans[other][0]
                found.setdefault(other, []).append(Reason("switch", frame, weight, f"may continue {number}", number))
                found.setdefault(number, []).append(Reason("switch", last, weight, f"may go on as {other}", other))
    return found


def _distance(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Of the centres of two boxes, in lengths of the longest side."""
    dx, dy = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    side = max(a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1], 1.0)
    return (dx**2 + dy**2) ** 0.5 / side
