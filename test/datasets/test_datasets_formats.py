"""What every format promises: predictions written through it are read back, as the same type, whatever lies on disk."""

import json
import re
import runpy

import numpy as np
import pytest

from support import ROOT
from vps_ros.commands.main import main
from vps_ros.datasets.formats import FORMATS
from vps_ros.datasets.labels import LabelMap
from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator
from vps_ros.taxonomies import ALL

VOID = 255


def scene(taxonomy, shift):
    """Bands of every class, void at an end; a thing is two objects, which move."""
    height, width = 4, 12 * (len(taxonomy) + 1)
    semantic = np.repeat(np.append(taxonomy.ids, VOID), 12).astype(np.uint8)
    semantic = np.tile(semantic, (height, 1))
    instance = np.tile(1 + (np.arange(width) % 12 >= 5 + shift), (height, 1)).astype(np.uint16)
    instance[~np.isin(semantic, taxonomy.thing_ids)] = 0
    return LabelMap(semantic, instance)


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_what_is_written_is_read_back_and_scores_one(form, tmp_path):
    """STQ and PQ of what was read against what was written are 1: no pixel and no identity is lost."""
    assert ALL[form.taxonomy.name] is form.taxonomy
    given = {f"0001_{i:05d}": scene(form.taxonomy, i) for i in range(3)}
    with form.writer(tmp_path / "out", False) as writer:
        for frame, labels in given.items():
            writer.add("0001", frame, labels)
    (frames,) = form.prediction(tmp_path / "out", None).values()
    assert list(frames) == list(given)
    evaluator = Evaluator(form.taxonomy)
    for frame in frames.values():
        labels = frame.read()
        assert labels.semantic.dtype == np.uint8
        assert labels.instance.dtype.kind == "u"
        evaluator.update("0001", *given[frame.frame], *labels)
    report = evaluator.result()
    assert report.miou == report.pq.all == 1
    assert report.aq == (1 if form.taxonomy.thing_ids else 0)


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_a_folder_that_is_absent_empty_or_interrupted(form, tmp_path):
    for read in (form.truth, form.prediction):
        with pytest.raises(InputError, match="absent: no such folder"):
            read(tmp_path / "absent", None)
        with pytest.raises(InputError) as error:
            read(tmp_path, None)
        assert str(tmp_path) in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(KeyboardInterrupt), form.writer(tmp_path / "out", False) as writer:
        writer.add("0001", "0001_00000", scene(form.taxonomy, 0))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_data_set_is_one_file_and_one_entry_of_the_registry(tmp_path, monkeypatch):
    """The example of docs/datasets.md, registered; one of four pixels is wrong: IoU 2/3 and 1/2 of its two classes."""
    (example,) = re.findall(r"```python\n([^`]*DATA_SET = [^`]*)```", (ROOT / "docs" / "datasets.md").read_text())
    (tmp_path / "two_classes.py").write_text(example)
    data_set = runpy.run_path(str(tmp_path / "two_classes.py"))["DATA_SET"]
    monkeypatch.setitem(FORMATS, data_set.name, data_set)
    for folder, classes in (("gt", [[1, 1, 2, 2, VOID]]), ("pred", [[1, 1, 1, 2, 2]])):
        with data_set.writer(tmp_path / folder, False) as writer:
            writer.add("drive", "0", LabelMap.without_instances(np.array(classes, np.uint8)))
    folders = ["--gt", str(tmp_path / "gt"), "--pred", str(tmp_path / "pred"), "--json", str(tmp_path / "out.json")]
    assert main(["evaluate", "--format", data_set.name, *folders]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["mIoU"] == pytest.approx((2 / 3 + 1 / 2) / 2)
