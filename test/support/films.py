"""Short films of the world of coloured squares."""

from __future__ import annotations

from pathlib import Path

import av

from support.worlds import picture


def scene(index: int):
    """uint8 RGB [64, 96, 3]: two squares, of which the red one moves 6 pixels for each index."""
    return picture({0: (4 + 6 * index, 40), 1: (76, 36)})


def film(path: Path, count: int = 4, rate: int = 25, codec: str = "libx264") -> Path:
    """`count` scenes as a video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(index), format="rgb24")))
        container.mux(stream.encode(None))
    return path
