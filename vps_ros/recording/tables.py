"""Tables of a result for queries: Parquet files of its objects and of its frames."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vps_ros.errors import InputError
from vps_ros.files import atomic_write, refuse_folder
from vps_ros.frame import STAGES, Frame, PanopticFrame

ENDINGS = (".objects.parquet", ".frames.parquet")
"""Of the two files: one row for each object and frame, and one for each frame."""
_KEYS = {"recording": "string", "frame": "int32", "sequence_id": "int32", "stamp": "int64"}
_OBJECTS = {
    **_KEYS,
    "track_id": "int64",
    "class_id": "int32",
    "class_name": "string",
    **dict.fromkeys(("x0", "y0", "x1", "y1", "velocity_x", "velocity_y"), "float"),
    "area": "int64",
    "score": "float",
    "state": "string",
    "associated_by": "string",
    "association_score": "float",
    "segment_id": "int32",
    "hits": "int32",
    "first_seen": "int64",
    "last_seen": "int64",
    **dict.fromkeys((f"{name}_{axis}" for name in ("position", "size", "velocity_3d") for axis in "xyz"), "float"),
}
_FRAMES = {
    **_KEYS,
    "width": "int32",
    "height": "int32",
    "objects": "int32",
    "latency_ms": "double",
    **{f"{stage}_ms": "double" for stage in STAGES},
    "void_area": "int64",
}
_NOT_LOCATED = (None,) * 9
_ROWS = 1 << 16
"""Rows that are in memory before they are written as a row group."""


class TableWriter:
    """Writes `NAME.objects.parquet` and `NAME.frames.parquet` atomically; docs/tables.md lists their columns.

    The same results give the same bytes of the table of objects. The table of frames contains times of computation.

    Args:
        folder: of the files.
        name: their name without ENDINGS.
        recording: value of the column `recording`.
        force: replace existing files.

    Use as a context manager: the files appear when the block ends without an error.
    Raises InputError if a file exists (without `force`), or pyarrow is not installed.
    """

    def __init__(self, folder: str | Path, name: str, recording: str, force: bool = False) -> None:
        try:
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise InputError(f"tables need pyarrow ({error}); pip install 'vps_ros[fleet]'") from None
        self._parquet, self._force, self._recording = parquet, force, recording
        self.paths = tuple(refuse_folder(Path(folder) / f"{name}{ending}", force) for ending in ENDINGS)
        self._frames = 0

    def __enter__(self) -> TableWriter:
        import pyarrow as pa

        schemas = [
            pa.schema([(name, pa.type_for_alias(kind)) for name, kind in table.items()])
            for table in (_OBJECTS, _FRAMES)
        ]
        schemas[1] = schemas[1].append(pa.field("areas", pa.map_(pa.string(), pa.int64())))
        with ExitStack() as stack:
            drafts = [stack.enter_context(atomic_write(path, self._force)) for path in self.paths]
            self._objects_table, self._frames_table = (
                stack.enter_context(_Table(self._parquet.ParquetWriter(draft, schema, compression="zstd"), schema))
                for draft, schema in zip(drafts, schemas, strict=True)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write(self, frame: Frame, result: PanopticFrame) -> None:
        """Adds the rows of a frame; a sink of `vps_ros.recording.replay.replay`."""
        keys = (self._recording, self._frames, result.sequence_id, result.stamp)
        name = result.taxonomy.class_name
        located = {one.track_id: one for one in result.objects_3d.objects} if result.objects_3d else {}
        for t in result.tracks:
            kind = t.class_id, name(t.class_id)
            state, by = t.state.name.lower(), t.associated_by.name.lower()
            numbers = t.segment_id, t.hits, t.first_seen, t.last_seen
            row = (*keys, t.track_id, *kind, *t.box, *t.velocity, t.area, t.score, state, by, t.association_score)
            in_3d = located.get(t.track_id)
            space = (*in_3d.position, *in_3d.size, *in_3d.velocity) if in_3d else _NOT_LOCATED
            self._objects_table.add((*row, *numbers, *space))
        areas: Counter[str] = Counter()
        for segment in result.segments:
            areas[name(segment.class_id)] += segment.area
        height, width = result.map.shape
        times = [result.milliseconds.get(stage, 0.0) for stage in STAGES]
        figures = (width, height, len(result.visible), sum(times), *times, result.map.size - areas.total())
        self._frames_table.add((*keys, *figures, sorted(areas.items())))
        self._frames += 1


class _Table:
    """Rows of one file, written in row groups of constant size."""

    def __init__(self, writer: Any, schema: Any) -> None:
        self._writer, self._schema = writer, schema
        self._rows: list[tuple] = []

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def add(self, row: tuple) -> None:
        self._rows.append(row)
        if len(self._rows) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        columns = zip(*self._rows, strict=True) if self._rows else [[]] * len(self._schema)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows.clear()
