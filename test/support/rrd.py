"""Recordings of the viewer, read with Rerun's own reader."""

import numpy as np
import rerun.chunk as rc


def read(path):
    """Entity path -> component -> values in the order of logging; static ones and those of each frame."""
    found = {}
    for chunk in rc.RrdReader(str(path)).stream().to_chunks():
        batch = chunk.to_record_batch()
        for field, column in zip(batch.schema, batch.columns, strict=True):
            name = (field.metadata or {}).get(b"rerun:component", b"").decode()
            if name:
                values = [value.as_py() for value in column]
                found.setdefault(chunk.entity_path, {}).setdefault(name, []).extend(v for v in values if v is not None)
    return found


def maps(entity):
    """The label maps of an entity, [H, W] each."""
    pictures = []
    for data, form in zip(entity["SegmentationImage:buffer"], entity["SegmentationImage:format"], strict=True):
        values = np.array(data[0], np.uint8)
        shape = form[0]["height"], form[0]["width"]
        pictures.append(values.view(np.uint16 if values.size == 2 * shape[0] * shape[1] else np.uint8).reshape(shape))
    return pictures
