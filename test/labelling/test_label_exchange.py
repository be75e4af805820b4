"""Masks to CVAT and COCO and back."""

import json
import zipfile
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from support.track_folders import CAR, PERSON, SIZE, save_frame, street
from vps_ros.commands.main import main
from vps_ros.datasets.labels import LabelMap
from vps_ros.errors import InputError
from vps_ros.labelling.edits import Accept, Classify, Delete
from vps_ros.labelling.exchange import read_shapes, write_coco, write_cvat_images, write_cvat_video
from vps_ros.labelling.project import Project
from vps_ros.taxonomy import CITYSCAPES

FRAMES = 3
FORMATS = {"cvat": "annotations.xml", "cvat-video": "annotations.xml", "coco": "instances.json"}


@pytest.fixture
def project(tmp_path):
    """Every frame of a small street has given masks."""
    for i in range(FRAMES):
        save_frame(tmp_path, "0000", f"{i:06d}", *street(i))
    words = ["--image-hz", "8", "--hz", "8", "--masks", f"{tmp_path}/maps/0000", "--taxonomy", "cityscapes"]
    assert main(["label", "new", f"{tmp_path}/images/0000", "-o", f"{tmp_path}/p", *words]) == 0
    return Project(tmp_path / "p")


def exported(project, name):
    out = project.root.parent / name
    assert main(["label", "export", str(project.root), "-o", str(out), "--format", name, "--force"]) == 0
    return out / FORMATS[name]


def imported(project, path):
    return main(["label", "import", str(project.root), str(path)])


def content(project):
    project = Project(project.root)
    state = project.state()
    return [[m.tolist() for m in project.labels(state, f)] for f in range(FRAMES)], state


@pytest.mark.parametrize("name", FORMATS)
def test_a_round_trip_changes_nothing(project, name):
    before = content(project)
    log = (project.root / "edits.jsonl").read_bytes()
    path = exported(project, name)
    assert (path.parent / "images/000001.jpg").read_bytes() == project.image_path(1).read_bytes()
    assert imported(project, path) == 0
    assert content(project) == before
    assert (project.root / "edits.jsonl").read_bytes() == log


@pytest.mark.parametrize("name", FORMATS)
def test_masks_come_back_with_their_identities(project, name):
    """What was deleted after the export is there again, in the same tracks."""
    project.append([Accept(n) for n in project.state().tracks])
    path = exported(project, name)
    before = content(project)
    project.append([Delete(2, 1, 1), Delete(3)])
    if name != "coco":
        # As the tools give it.
        packed = path.with_suffix(".zip")
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(path, "annotations.xml")
        path = packed
    assert imported(project, path) == 0
    after = content(project)
    assert after[0] == before[0]
    assert {n: dict(t.segments) for n, t in after[1].tracks.items()} == {
        n: dict(t.segments) for n, t in before[1].tracks.items()
    }


def test_masks_that_were_drawn_and_changed(project):
    path = exported(project, "cvat")
    tree = ElementTree.parse(path)
    image = tree.getroot().findall("image")[1]
    masks = {m.find("attribute").text: m for m in image.findall("mask")}
    image.remove(masks["2"])
    number = masks["3"].get("label")
    assert number == "car"
    new = ElementTree.SubElement(image, "mask", label="bus", rle="0, 6", left="2", top="41", width="3", height="2",
                                 z_order="5")  # fmt: skip
    ElementTree.SubElement(new, "attribute", name="track_id").text = "0"
    ElementTree.SubElement(image, "polygon", label="person", points="10.0,42.0;14.0,42.0;14.0,45.0;10.0,45.0",
                           z_order="6")  # fmt: skip
    tree.write(path)
    assert imported(project, path) == 0
    _, state = content(project)
    project = Project(project.root)
    labels = project.labels(state, 1)
    assert sorted(state.tracks[2].segments) == [0, 2]
    assert set(state.tracks) == {1, 2, 3, 4, 5, 6}
    assert state.tracks[5].class_id == 15
    assert state.tracks[6].class_id == PERSON
    assert (labels.instance == 5).sum() == 6
    assert (labels.instance[41:43, 2:5] == 5).all()
    assert (labels.instance[42:46, 10:15] == 6).all()
    assert state.layers[0] == state.layers[2] == "0000-sparse"
    assert state.layers[1] == "0001-import"


def test_another_class_in_the_tool_is_another_track(project):
    path = exported(project, "coco")
    document = json.loads(path.read_text())
    classes = {c["name"]: c["id"] for c in document["categories"]}
    for annotation in document["annotations"]:
        if annotation["track_id"] == 2:
            annotation["category_id"] = classes["truck"]
    path.write_text(json.dumps(document))
    assert imported(project, path) == 0
    _, state = content(project)
    assert 2 not in state.tracks
    assert (state.tracks[5].class_id, sorted(state.tracks[5].segments)) == (14, [0, 1, 2])


def test_edits_are_in_the_export(project):
    project.append([Classify(2, 15), Delete(3)])
    root = ElementTree.parse(exported(project, "cvat-video")).getroot()
    found = Counter((t.get("label"), t.find("mask/attribute").text) for t in root.findall("track"))
    assert found[("bus", "2")] == FRAMES
    assert ("car", "3") not in found
    assert ("road", "0") in found
    labels = json.loads((project.root.parent / "cvat-video/cvat-labels.json").read_text())
    assert [one["name"] for one in labels] == [c.name for c in CITYSCAPES.classes]


def test_run_lengths_of_cvat(tmp_path):
    """By hand: a box of 3 x 2 at (1, 1), rows 0 1 1 and 1 1 0."""
    semantic, instance = np.full((4, 5), 255, np.uint8), np.zeros((4, 5), np.uint16)
    for y, x in ((1, 2), (1, 3), (2, 1), (2, 2)):
        semantic[y, x], instance[y, x] = CAR, 7
    write_cvat_images(tmp_path, CITYSCAPES, [(3, LabelMap(semantic, instance))])
    (mask,) = ElementTree.parse(tmp_path / "annotations.xml").getroot().iter("mask")
    wanted = {"rle": "1, 4, 1", "left": "1", "top": "1", "width": "3", "height": "2", "z_order": "1", "label": "car"}
    assert {name: mask.get(name) for name in wanted} == wanted
    assert mask.find("attribute").text == "7"


CLASSES = st.sampled_from([0, 10, PERSON, CAR, 255])
NUMBERS = st.integers(1, 3)
WRITERS = {"images": write_cvat_images, "video": write_cvat_video, "coco": write_coco}


@pytest.mark.parametrize("name", WRITERS)
@given(semantic=arrays(np.uint8, (5, 7), elements=CLASSES), instance=arrays(np.uint16, (5, 7), elements=NUMBERS))
def test_any_labels_survive(tmp_path_factory, name, semantic, instance):
    """In this package, and what CVAT keeps of its own formats."""
    semantic[0, 0] = 0
    labels = LabelMap(semantic, np.where(CITYSCAPES.thing_table[semantic], instance, 0).astype(np.uint16))
    later = LabelMap(semantic[::-1], labels.instance[::-1])
    folder = tmp_path_factory.mktemp("any")
    WRITERS[name](folder, CITYSCAPES, [(4, labels), (5, later)])
    file = folder / ("instances.json" if name == "coco" else "annotations.xml")
    read = read_shapes(file, (7, 5))
    back = {f: [(shape.label, shape.track, shape.mask) for shape in shapes] for f, shapes in read.items()}
    for frames in [back] if name == "coco" else [back, kept_by_cvat(file, (7, 5))]:
        assert sorted(frames) == [4, 5]
        for frame, wanted in ((4, labels), (5, later)):
            found, numbers = np.full((5, 7), 255, np.uint8), np.zeros((5, 7), np.uint16)
            for label, track, mask in frames[frame]:
                found[mask], numbers[mask] = next(c.id for c in CITYSCAPES.classes if c.name == label), track
            assert np.array_equal(found, wanted.semantic)
            assert np.array_equal(numbers, wanted.instance)


def kept_by_cvat(path, size):
    """Frame -> (label, identity, mask), by the rules of CVAT's importer.

    An image is found by its name, a track needs `frame` and `keyframe` at each mask, and of a track of masks the first
    one is kept.
    """
    width, height = size
    root = ElementTree.parse(path).getroot()
    masks = [(int(image.get("name").split(".")[0]), m.get("label"), m) for image in root.iter("image") for m in image]
    for track in root.iter("track"):
        shown = [m for m in track if m.attrib["keyframe"] == "1"]
        masks.append((int(shown[0].attrib["frame"]), track.get("label"), shown[0]))
    frames = {}
    for frame, label, mask in masks:
        left, top, wide, high = (int(mask.attrib[name]) for name in ("left", "top", "width", "height"))
        inside, value = [], False
        for length in map(int, mask.attrib["rle"].split(",")):
            inside += [value] * length
            value = not value
        drawn = np.zeros((height, width), bool)
        drawn[top : top + high, left : left + wide] = np.reshape(inside, (high, wide))
        values = {a.attrib["name"]: a.text for a in mask.iter("attribute")}
        assert mask.get("outside", "0") == "0"
        frames.setdefault(frame, []).append((label, int(values["track_id"]), drawn))
    return frames


def test_cvat_keeps_identities_of_coco_in_attributes(tmp_path):
    labels = LabelMap(np.full((2, 2), CAR, np.uint8), np.full((2, 2), 7, np.uint16))
    write_coco(tmp_path, CITYSCAPES, [(0, labels)])
    (found,) = json.loads((tmp_path / "instances.json").read_text())["annotations"]
    assert found["track_id"] == 7 and found["attributes"] == {"track_id": 7}


MASK = '<mask label="car" rle="{rle}" left="0" top="0" width="2" height="2"/>'


def xml(inside, name="000001.jpg", size=(SIZE[1], SIZE[0])):
    return f'<annotations><image name="{name}" width="{size[0]}" height="{size[1]}">{inside}</image></annotations>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations>", "not complete XML"),
        ("<annotations/>", "no image and no track"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "document type"),
        (xml("", "left.jpg"), "not named by a frame number"),
        (xml("", size=(10, 10)), "is 10x10"),
        (xml("", "000009.jpg"), "frame 9 is not in the project"),
        (xml(MASK.format(rle="0, 5")), "does not fit its run lengths"),
        (xml(MASK.format(rle="0, -1, 5")), "does not fit its run lengths"),
        (xml(MASK.format(rle="many")), "as integers"),
        (xml(MASK.format(rle="0, 4").replace("car", "unicorn")), "class 'unicorn'"),
        (xml('<box label="car" xtl="0" ytl="0" xbr="3" ybr="3"/>'), "is a box; draw masks or polygons"),
    ],
)
def test_wrong_files_are_one_line_and_change_nothing(project, capsys, text, message):
    path = project.root.parent / "wrong.xml"
    path.write_text(text)
    log = (project.root / "edits.jsonl").read_bytes()
    assert imported(project, path) == 2
    assert message in capsys.readouterr().err
    assert (project.root / "edits.jsonl").read_bytes() == log


def test_no_number_is_left_for_a_new_track(project, capsys):
    path = exported(project, "coco")
    document = json.loads(path.read_text())
    things = {c["id"] for c in document["categories"] if c["isthing"]}
    shown = [a for a in document["annotations"] if a["category_id"] in things]
    for annotation, track in zip(shown, (65535, 0), strict=False):
        annotation["track_id"] = annotation["attributes"]["track_id"] = track
    path.write_text(json.dumps(document))
    log = (project.root / "edits.jsonl").read_bytes()
    assert imported(project, path) == 2
    error = capsys.readouterr().err
    assert "65535 is the largest number of a track" in error and "Traceback" not in error
    assert (project.root / "edits.jsonl").read_bytes() == log


def test_wrong_json(project, tmp_path):
    path = exported(project, "coco")
    document = json.loads(path.read_text())
    for change, message in (
        (lambda d: d["annotations"][0].update(category_id=99), "not listed"),
        (lambda d: d["annotations"][0].update(track_id=70000), "track_id 70000"),
        (lambda d: d["annotations"][0].update(segmentation=[[1, 2]]), "no polygon"),
        (lambda d: d["images"][0].update(width=3), "not of the size"),
    ):
        wrong = json.loads(json.dumps(document))
        change(wrong)
        path.write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=message):
            read_shapes(path, (SIZE[1], SIZE[0]))
    with pytest.raises(InputError, match="no such file"):
        read_shapes(tmp_path / "none.xml", (1, 1))
