"""Atomic writes of output files and folders."""

import json
import os

import numpy as np
import pytest

from vps_ros.errors import InputError
from vps_ros.files import atomic_write, refuse_existing, refuse_folder, write_json


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    with atomic_write(tmp_path / "deep" / "a.txt") as draft:
        draft.write_text("new")
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert (tmp_path / "deep" / "a.txt").read_text() == "new"
    assert names(tmp_path / "deep") == ["a.txt"]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as draft:
        draft.write_text("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_replaces_a_folder(tmp_path):
    path = tmp_path / "bag"
    path.mkdir()
    (path / "metadata.yaml").write_text("old")
    (path / "stale").write_text("")
    with atomic_write(path, marker="metadata.yaml") as draft:
        draft.mkdir()
        (draft / "fresh").write_text("")
    assert names(path) == ["fresh"]
    assert names(tmp_path) == ["bag"]


def test_a_folder_stays_if_nothing_takes_its_place(tmp_path):
    path = tmp_path / "bag"
    path.mkdir()
    (path / "metadata.yaml").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_write(path, marker="metadata.yaml"):
        pass
    assert (path / "metadata.yaml").read_text() == "old"
    assert names(tmp_path) == ["bag"]


def test_the_current_folder_is_no_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="give the name of a file or folder in it"), atomic_write("."):
        pass


@pytest.mark.parametrize("marker", [None, "metadata.yaml"])
def test_a_folder_of_something_else_is_never_replaced(tmp_path, marker):
    (tmp_path / "letter.txt").write_text("precious")
    with pytest.raises(InputError, match="never replaced"), atomic_write(tmp_path, True, marker):
        pass
    assert names(tmp_path) == ["letter.txt"]


def test_what_exists_is_kept_unless_forced(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(InputError, match=r"a\.txt: exists; pass --force"), atomic_write(path, force=False):
        pass
    assert refuse_existing(path, force=True) == path
    (tmp_path / "empty").mkdir()
    assert refuse_existing(tmp_path / "empty", force=False)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="its folder cannot be written"), atomic_write(tmp_path / "file" / "a.txt"):
        pass


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "f.json", {"a": np.float64("nan"), 2: [np.int64(3), (1.5,)]})
    assert json.loads((tmp_path / "f.json").read_text()) == {"a": None, "2": [3, [1.5]]}


def test_a_file_takes_no_folders_place(tmp_path):
    with pytest.raises(InputError, match="a folder; give the name of a file"):
        refuse_folder(tmp_path, True)
    with pytest.raises(InputError, match="a folder; give the name of a file"):
        write_json(tmp_path, {})
    assert tmp_path.is_dir()
    assert refuse_folder(tmp_path / "f.json", False) == tmp_path / "f.json"


def test_a_device_is_never_replaced(tmp_path):
    # One of our own: a failure of this test must not take /dev/null away.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="a device, not a file"), atomic_write(pipe, force=True):
        pass
    assert pipe.is_fifo()
