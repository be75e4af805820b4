"""Bags at URIs and the stores that hold them, without Ray."""

import io
import os
import shutil
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from support.bags import drive, write
from support.labelled_bags import scene, tracked_bag, truth_bag
from support.stores import AZURITE_KEY, az_server, gs_server
from support.worlds import colour_model
from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.recording.mcap import NotIndexed

pytest.importorskip("pyarrow")
pytest.importorskip("ray")
from support.fleet_bags import items, refusal  # noqa: E402
from vps_ros.fleet.bags import find_bags  # noqa: E402
from vps_ros.fleet.evaluate import Evaluate, Rules, merge, store_report  # noqa: E402
from vps_ros.fleet.label import Label  # noqa: E402
from vps_ros.fleet.replay import Replay  # noqa: E402
from vps_ros.fleet.storage import Store  # noqa: E402
from vps_ros.fleet.work import Item, plan, run  # noqa: E402
from vps_ros.recording.frames import BagReader  # noqa: E402


def test_bags_are_named_by_their_path_below_the_uri(drives, tmp_path):
    found = find_bags([str(drives)])
    assert list(found) == ["b", "june/a", "june/c"]
    assert [len(bag.files) for bag in found.values()] == [2, 2, 1]
    assert list(find_bags([f"file://{drives}/june", str(drives / "b")])) == ["a", "b", "c"]
    assert list(find_bags([str(drives / "june" / "c.mcap")])) == ["c"]
    for uri, words in ((tmp_path / "nowhere", "no such file or folder"), (drives / "notes.txt", "holds no bag")):
        assert words in refusal(find_bags, [str(uri)])
    assert "hologram://x: no library opens such URIs" in refusal(find_bags, ["hologram://x"])


def test_two_bags_of_one_name(drives, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    write(other / "b", drive(2))
    line = refusal(find_bags, [str(drives), str(other)])
    assert "two bags of the name b" in line and f"{drives}/b" in line and f"{other}/b" in line


def test_a_replaced_file_is_another_version(drives):
    (before,) = find_bags([str(drives / "b")]).values()
    (part,) = (drives / "b").glob("*.mcap")
    os.utime(part, (1, 1))
    (after,) = find_bags([str(drives / "b")]).values()
    assert before.version != after.version
    assert after.version == next(iter(find_bags([str(drives / "b")]).values())).version


def test_stores_of_fsspec_tell_replaced_files_and_folders(drives, tmp_path):
    """In them, the time of a change has a name that pyarrow does not know; the bags here have the same size."""
    pytest.importorskip("fsspec")
    store = Store.at(f"memory://{tmp_path.name}")
    assert store.files() is None
    part = drives / "june" / "c.mcap"
    store.put(part, "june/c.mcap")
    (before,) = find_bags([store.uri]).values()
    assert before.version == next(iter(find_bags([store.uri]).values())).version
    store.put(part, "june/c.mcap")
    (after,) = find_bags([store.uri]).values()
    assert before.name == after.name == "june/c" and before.size == after.size
    assert before.version != after.version
    assert list(find_bags([f"{store.uri}/june/c.mcap"])) == ["c"]
    with before.reader(None) as reader:
        assert len(list(reader.frames())) == 2
    unknown = replace(before, files=(replace(before.files[0], version=None),))
    with pytest.raises(InputError, match="june/c.mcap: the store does not say when a file was changed"):
        _ = unknown.version


def test_options_and_passwords_of_a_uri():
    """Options follow the path; messages have neither them nor a password."""
    store = Store("abfs://account:secret@127.0.0.1:1/drives/june?enable_tls=false")
    assert store.where("a.mcap") == "abfs://127.0.0.1:1/drives/june/a.mcap"
    assert store.below("out").uri == "abfs://account:secret@127.0.0.1:1/drives/june/out?enable_tls=false"
    assert Store.at("file:///a/b%20c").local == Path("/a/b c")
    line = refusal(Store.at, "abfs://account:a/b+c==@127.0.0.1:1/drives")
    assert "abfs://127.0.0.1:1/drives: the key before the @" in line and "%2F" in line and "a/b" not in line
    inside, outside = Store.at("file:///drives/june/out"), Store.at("/drives/july")
    assert Store.at("/drives/june").holds(inside) and not Store.at("/drives/june").holds(outside)
    assert not Store.at("/drives/june").holds(Store.at("memory:///drives/june"))


def test_a_file_appears_complete_or_not_at_all(tmp_path):
    store = Store.at(str(tmp_path / "out"))
    assert store.files() is None
    (tmp_path / "one").write_text("one")
    store.put(tmp_path / "one", "deep/a.txt")
    assert [f.path for f in store.files()] == ["deep/a.txt"]
    assert store.read("deep/a.txt") == b"one" and store.size("deep/a.txt") == 3 and store.size("deep") is None
    with pytest.raises(FileNotFoundError):
        store.put(tmp_path / "absent", "deep/a.txt")
    assert store.read("deep/a.txt") == b"one" and len(list((tmp_path / "out" / "deep").iterdir())) == 1
    assert "absent.txt: cannot be read (" in refusal(store.read, "absent.txt")


def test_an_mcap_is_read_from_a_file_object(drives):
    path = drives / "june" / "c.mcap"
    with path.open("rb") as file, BagReader("c.mcap", None, file) as streamed, BagReader(path) as reader:
        for a, b in zip(streamed.frames(), reader.frames(), strict=True):
            assert a.stamp == b.stamp and np.array_equal(a.image, b.image)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 100)
    with path.open("rb") as file, pytest.raises(NotIndexed):
        BagReader("c.mcap", None, file)


def test_only_chunks_with_the_topic_are_read(tmp_path):
    """Two topics in turn in one chunk each would be read completely; a second topic after the first is not."""
    late = [("/late", stamp + 10**10, message) for _, stamp, message in drive(200)]
    (path,) = write(tmp_path / "bag", drive(3) + late).glob("*.mcap")
    read = []

    class Counting:
        def __init__(self, file):
            self.seek, self._file = file.seek, file

        def read(self, size):
            read.append(size)
            return self._file.read(size)

    with path.open("rb") as file, BagReader("bag.mcap", "/camera/image_raw", Counting(file)) as reader:
        assert len(list(reader.frames())) == 3
    assert sum(read) < path.stat().st_size / 2


def replayed_in_a_store(drives, tmp_path, store, nowhere):
    """A streamed and a copied bag, and the results, are those of local folders; so is a second run."""
    model = colour_model(tmp_path / "colours.onnx")
    assert store.files() is None
    store.put(drives / "june" / "c.mcap", "in/june/c.mcap")
    for part in (drives / "b").iterdir():
        store.put(part, f"in/b/{part.name}")
    job, output, local = Replay(Config(model=str(model))), store.below("out"), Store.at(str(tmp_path / "out"))
    job.prepare(1)
    output.check_writable()
    # An empty folder may be left, which some stores have.
    assert not output.files()
    for item in items(store.below("in").uri):
        assert not run(job, item, output).error
    for item in items(drives / "june" / "c.mcap", drives / "b"):
        run(job, Item(replace(item.bag, name={"c": "june/c", "b": "b"}[item.name])), local)
    assert [file.path for file in output.files()] == [file.path for file in local.files()]
    for name in ("b.mcap", "june/c.mcap", "june/c.objects.parquet"):
        assert output.read(name) == local.read(name)
    assert not plan(job, items(store.below("in").uri), output).missing
    (part,) = (drives / "b").glob("*.mcap")
    if store.uri.startswith("abfs"):
        # By pyarrow, its files have no ETag, and their times are whole seconds.
        time.sleep(1.1)
    store.put(part, f"in/b/{part.name}")
    assert [one.name for one in plan(job, items(store.below("in").uri), output).missing] == ["b"]
    assert "cannot be written (" in refusal(nowhere.check_writable)
    assert "no such file or folder" in refusal(find_bags, [nowhere.uri])


def labelled_and_evaluated_in_a_store(drives, tmp_path, store):
    """Projects, counts and the report are those of local folders."""
    model = colour_model(tmp_path / "colours.onnx")
    frames = {i: scene(i) for i in range(3)}
    truth_bag(tmp_path / "gt/a.mcap", frames)
    tracked_bag(tmp_path / "pred/a.mcap", frames)
    local = Store.at(str(tmp_path / "near"))
    for folder in (store.below("near"), local):
        folder.put(drives / "june" / "c.mcap", "in/c.mcap")
        for side in ("gt", "pred"):
            folder.put(tmp_path / side / "a.mcap", f"{side}/a.mcap")
        label, evaluate = Label(Config(model=str(model)), hz=5.0), Evaluate(Rules())
        label.prepare(1)
        for item in items(folder.below("in").uri):
            assert run(label, item, folder).figures == {"frames": 2, "labelled": 2, "tracks": 2}
        (pred,), (gt,) = (find_bags([folder.below(side).uri]).values() for side in ("pred", "gt"))
        assert not run(evaluate, Item(pred, gt), folder).error
        store_report(merge(evaluate, ["a"], folder), {"a": "a"}, {}, folder)
        assert not plan(label, items(folder.below("in").uri), folder).missing
        assert not plan(evaluate, [Item(pred, gt)], folder).missing
    far = store.below("near")
    assert {file.path for file in far.files()} == {file.path for file in local.files()}
    assert far.read("metrics.json") == local.read("metrics.json")
    projects = [zipfile.ZipFile(io.BytesIO(one.read("c.project.zip"))) for one in (far, local)]
    layers = [{n: z.read(n) for n in z.namelist() if n.startswith("layers/")} for z in projects]
    assert layers[0] == layers[1] and layers[0]


def in_a_store(drives, tmp_path, store, nowhere):
    replayed_in_a_store(drives, tmp_path, store, nowhere)
    labelled_and_evaluated_in_a_store(drives, tmp_path, store)


def test_google_cloud(drives, tmp_path):
    pytest.importorskip("gcp_storage_emulator", reason="needs gcp-storage-emulator")
    with gs_server("fleet") as options:
        stores = (Store.at(f"gs://anonymous@{bucket}/day{options}") for bucket in ("fleet", "nowhere"))
        in_a_store(drives, tmp_path, *stores)


def test_azure(drives, tmp_path):
    pytest.importorskip("adlfs", reason="needs adlfs")
    if shutil.which("azurite-blob") is None:
        pytest.skip("needs Azurite: npm install -g azurite")
    with az_server("fleet", tmp_path / "azurite") as address:
        in_a_store(drives, tmp_path, Store.at("az://fleet/day"), Store.at("az://nowhere/day"))
        # By pyarrow, with the account key in the URI.
        key = quote(AZURITE_KEY, safe="")
        uri = f"abfs://devstoreaccount1:{key}@{address}/{{}}/night?enable_tls=false"
        (tmp_path / "abfs").mkdir()
        in_a_store(drives, tmp_path / "abfs", *(Store.at(uri.format(name)) for name in ("fleet", "nowhere")))
