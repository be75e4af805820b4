"""Replay with look-ahead: identities are decided after the last frame, from the complete recording."""

from __future__ import annotations

import pickle
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from tempfile import TemporaryFile
from time import perf_counter
from typing import IO

from vps_ros.frame import Frame, PanopticFrame
from vps_ros.lookahead import Lookahead
from vps_ros.online import OnlinePanoptic
from vps_ros.recording.replay import Sink, Summary, replay


def replay_with_lookahead(
    read: Callable[[], Iterable[Frame]],
    pipeline: OnlinePanoptic,
    sinks: Iterable[Sink],
    jobs: int = 1,
    summary: Summary | None = None,
) -> Summary:
    """As `replay`, with identities that are optimised over the complete recording.

    The first pass runs the online pipeline; its results wait in a temporary file. Then the tracklets are linked (see
    `vps_ros.lookahead`). The second pass reads the frames again and passes them to the sinks with the results.
    Memory grows with the number of tracklets; disk space, in the folder of temporary files, with the number of frames.

    Args:
        read: returns the frames, the same ones each time; called twice.
        summary: as in `replay`.
    """
    lookahead, pending, used = Lookahead(pipeline.config), deque[tuple[int, Frame]](), set[int]()

    def numbered() -> Iterator[Frame]:
        for numbered_frame in enumerate(read()):
            pending.append(numbered_frame)
            yield numbered_frame[1]

    with TemporaryFile() as file:

        def store(frame: Frame, result: PanopticFrame) -> None:
            # Frames come in order; those in between were dropped.
            number, oldest = pending.popleft()
            while oldest is not frame:
                number, oldest = pending.popleft()
            used.add(number)
            lookahead.add(frame, result)
            _write(file, result)

        summary = replay(numbered(), pipeline, [store], jobs, summary=summary)
        began = perf_counter()
        summary.tracks = set(range(1, lookahead.link() + 1))
        file.seek(0)
        all_sinks = tuple(sinks)
        for number, frame in enumerate(read()):
            if number in used:
                result = lookahead.rewrite(_read(file))
                for sink in all_sinks:
                    sink(frame, result)
        summary.seconds += perf_counter() - began
    return summary


def _write(file: IO[bytes], result: PanopticFrame) -> None:
    pickle.dump(zlib.compress(pickle.dumps(result), 1), file)


def _read(file: IO[bytes]) -> PanopticFrame:
    return pickle.loads(zlib.decompress(pickle.load(file)))
