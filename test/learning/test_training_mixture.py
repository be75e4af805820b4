"""Several data sets in one run: shares, times, pasted objects, styles, pseudo-labels, terms of use."""

import dataclasses
import json

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from support import training_folders
from support.training_folders import SIZE, build
from vps_ros.commands.main import main
from vps_ros.datasets.class_mapping import LabelCodes
from vps_ros.errors import InputError
from vps_ros.taxonomy import CITYSCAPES, VOID_ID

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from vps_ros.learning.data.augmentation import Scale, colour_statistics, random_view, stylise  # noqa: E402
from vps_ros.learning.data.batches import BatchSpec, training_batch  # noqa: E402
from vps_ros.learning.data.clips import Picture  # noqa: E402
from vps_ros.learning.data.entries import labels_of  # noqa: E402
from vps_ros.learning.data.mixture import Mixture, Portion  # noqa: E402
from vps_ros.learning.data.paste import jitter_view, placeable_objects, placing_view  # noqa: E402
from vps_ros.learning.data.pseudo_labels import Teacher  # noqa: E402
from vps_ros.learning.data.sources import source_of  # noqa: E402
from vps_ros.learning.export.onnx_file import model_card  # noqa: E402
from vps_ros.learning.kinds import kind_for  # noqa: E402
from vps_ros.learning.recipe import Augmentation, Recipe  # noqa: E402
from vps_ros.learning.training.loop import Run  # noqa: E402

ROAD, BUILDING, SKY, PERSON, CAR, TRUCK = 0, 2, 10, 11, 13, 14
SMALL = {"queries": 8, "channels": [16] * 4, "depths": [0] * 4, "query_dim": 16, "mask_dim": 16, "heads": 2}
PLAIN = Augmentation(0, 0, (1.0, 1.0), 0, 0, 0, 0, 0, 0)


class Flat:
    """A clip of frames of one colour, with one thing."""

    name = "flat"

    def __init__(self, value, code=ROAD, frames=2):
        self._value, self._code, self._frames = value, code, frames

    def __len__(self):
        return self._frames

    def read(self, i):
        semantic = np.full((32, 64), self._code, np.uint8)
        return Picture(np.full((32, 64, 3), self._value, np.uint8), semantic, np.zeros((32, 64), np.int32))


def test_shares_of_a_batch_and_times_of_the_run():
    mixture = Mixture(
        (
            Portion([Flat(10)], name="a", weight=3.0),
            Portion([Flat(20)], name="b", weight=1.0, since=0.5),
            Portion([Flat(30)], name="c", weight=4.0, until=0.5),
        )
    )

    def seen(share):
        batch = training_batch(mixture, (64, 32), 400, BatchSpec(CITYSCAPES, 4), PLAIN, (1,), share)
        values = batch.images[::2, 0, 0, 0].tolist()
        return {v: round(values.count(v) / 400, 3) for v in set(values)}

    early, late = seen(0.0), seen(0.5)
    assert set(early) == {10, 30} and early[10] == pytest.approx(3 / 7, abs=0.08)
    assert set(late) == {10, 20} and late[20] == pytest.approx(1 / 4, abs=0.08)
    assert seen(1.0).keys() == {10, 20}, "a run by the clock may be over at its last batch"
    assert seen(0.7) == seen(0.7)


def test_one_entry_alone_gives_the_batches_of_earlier_releases(tmp_path):
    """The list and the single mapping draw alike, so that runs are repeated."""
    root = build("kitti-step", tmp_path)
    data = {"format": "kitti-step", "root": str(root), "size": list(SIZE)}
    one, several = (Recipe.from_mapping(content(d), "x") for d in (data, [data]))
    batches = []
    for recipe in (one, several):
        wanted = BatchSpec(recipe.data.taxonomy, 8, scale=Scale(SIZE), codes=labels_of(recipe.data).codes)
        batches.append(
            training_batch(source_of(recipe.data).training(), SIZE, 3, wanted, Augmentation(paste=0.5), (4,))
        )
    assert torch.equal(batches[0].images, batches[1].images)
    assert all(torch.equal(a, b) for a, b in zip(batches[0].targets, batches[1].targets, strict=True))


def content(data, **more):
    schedule = {"steps": 4, "phases": [{"until": 1.0, "size": list(SIZE), "pairs": 2}], "workers": 1}
    return {"name": "mixed", "data": data, "schedule": schedule, "model": SMALL} | more


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Kitti-step with everything, CamVid with classes, COCO with things."""
    root = tmp_path_factory.mktemp("mixed")
    build("kitti-step", root / "kitti")
    for sequence in ("0001TP", "Seq05VD"):
        for i in range(2):
            put(root / f"camvid/labels/{sequence}/{i}.png", np.repeat([0, 3, 8, 11], 24)[:, None].repeat(128, 1))
            put(root / f"camvid/images/{sequence}/{i}.jpg", np.full((96, 128, 3), 60 + 20 * i))
    corners = [40, 20, 70, 20, 70, 70, 40, 70]
    note = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [40, 20, 30, 50], "segmentation": [corners]}
    image = {"id": 1, "file_name": "a.jpg", "width": 120, "height": 100}
    document = {"images": [image], "categories": [{"id": 1, "name": "person"}], "annotations": [note]}
    (root / "coco").mkdir()
    (root / "coco/instances.json").write_text(json.dumps(document))
    picture = np.full((100, 120, 3), 200)
    picture[20:70, 40:70] = (0, 0, 250)
    put(root / "coco/images/a.jpg", picture)
    return root


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(pixels, np.uint8))


def three(root, **more):
    return [
        {"format": "kitti-step", "root": f"{root}/kitti", "size": list(SIZE), "validation_frames": 2}
        | {"taxonomy": "cityscapes"},
        {"format": "camvid", "root": f"{root}/camvid", "size": [64, 48], "split": "0001TP", "weight": 0.5}
        | {"validation_split": "Seq05VD"}
        | more,
        {"format": "coco", "root": f"{root}/coco", "size": [64, 48], "split": "", "weight": 0.5, "from": 0.5},
    ]


def test_a_recipe_with_a_list_is_read_back_as_it_was_written(folders):
    recipe = Recipe.from_mapping(content(three(folders), augmentation={"paste": 1.0, "donors": ["coco"]}), "x")
    assert Recipe.from_mapping(json.loads(json.dumps(recipe.to_mapping())), "again") == recipe
    assert recipe.to_mapping()["data"][2]["from"] == 0.5 and recipe.data.taxonomy == CITYSCAPES
    assert recipe.model.classes == 19 and recipe.data.entries[2].validation_split == ""


@pytest.mark.parametrize(
    "change, message",
    [
        ({"weight": -1.0}, r"data \(camvid\): weight -1.0 is negative"),
        ({"from": 0.7, "until": 0.6}, r"data \(camvid\): from 0.7 until 0.6"),
        ({"since": 0.7}, r"data\[1\]: unknown entry 'since'"),
        ({"weigth": 1.0}, r"data\[1\]: unknown entry 'weigth'; did you mean weight"),
        ({"name": "coco"}, r"two entries are called 'coco'"),
        ({"style_of": "kitti"}, r"style_of names 'kitti'; there are kitti-step, camvid, coco"),
        ({"taxonomy": "cityscapes"}, r"`taxonomy` is for the first entry only"),
        ({"style": 2.0}, r"style 2.0 is not a probability"),
        ({"teacher": "nowhere.onnx"}, r"teacher nowhere.onnx: no such file"),
        ({"split": "0016E5"}, r"has no 0016E5 \(there: 0001TP, Seq05VD\)"),
    ],
)
def test_a_bad_list_is_one_line(folders, change, message):
    with pytest.raises(InputError, match=message) as told:
        source_of(Recipe.from_mapping(content(three(folders, **change)), "x").data).training()
    assert "\n" not in str(told.value)


def test_times_without_an_entry_and_unknown_donors_are_errors(folders):
    entries = three(folders)
    entries[0]["until"] = 0.2
    entries[1]["from"] = 0.3
    with pytest.raises(InputError, match="no entry is used after 0.2 of the run"):
        Recipe.from_mapping(content(entries), "x")
    with pytest.raises(InputError, match=r"augmentation.donors: no entry 'lvis'"):
        Recipe.from_mapping(content(three(folders), augmentation={"donors": ["lvis"]}), "x")
    with pytest.raises(InputError, match="data: an empty list"):
        Recipe.from_mapping(content([]), "x")
    lost = [e | {"taxonomy": "mars"} if not i else e for i, e in enumerate(three(folders))]
    with pytest.raises(InputError, match="no taxonomy 'mars'"):
        Recipe.from_mapping(content(lost), "x")


def test_a_mixed_run_is_resumed_exactly_and_says_what_it_learned_from(folders, tmp_path):
    recipe = Recipe.from_mapping(content(three(folders), augmentation={"paste": 0.7, "donors": ["coco"]}), "x")
    source = source_of(recipe.data)
    clips, frames, others = source.training(), source.validation(), source.other_validation()
    whole = Run(recipe, tmp_path / "whole", False)
    whole.train(clips, frames, others=others)
    part = Run(recipe, tmp_path / "part", False)
    learn = part.learn
    part.learn = lambda batch: (part.interrupt() if part.step == 1 else None, learn(batch))[1]
    part.train(clips, frames, others=others)
    again = Run(recipe, tmp_path / "part", True)
    again.train(clips, frames, others=others)
    assert part.step == 2 and again.step == 4
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    told = [e for e in whole.log if e.get("data") == "camvid"]
    assert list(others) == ["camvid"] and set(told[0]["validation"]) == {"miou"}
    card = model_card(kind_for(recipe), recipe, 4)
    assert json.loads(card.source)["terms"] == (
        "KITTI-STEP: CC BY-NC-SA 3.0, non-commercial; CamVid: for research only; "
        "COCO: annotations CC BY 4.0; each image has a licence of its own"
    )


def test_labels_of_every_entry_come_to_the_classes_of_the_model(folders):
    recipe = Recipe.from_mapping(content(three(folders)), "x")
    codes, mixture = labels_of(recipe.data).codes, source_of(recipe.data).training()
    wanted = BatchSpec(CITYSCAPES, 8, codes=codes)
    found = {}
    for portion in mixture.portions:
        alone = Mixture((dataclasses.replace(portion, since=0.0),))
        found[portion.name] = training_batch(alone, SIZE, 4, wanted, PLAIN, (2,)).targets
    camvid, coco = found["camvid"], found["coco"]
    assert (camvid.classes == -1).all() and (camvid.segments == -1).all(), "CamVid has no segments"
    assert set(camvid.semantic.unique().tolist()) <= {-1, SKY, ROAD}
    assert (camvid.group >= 0).any() and camvid.unlabelled.any()
    assert set(coco.classes.unique().tolist()) == {-1, PERSON} and (coco.tracks > 0).any()
    assert ((coco.segments >= 0) <= (coco.semantic == PERSON)).all()
    full = found["kitti-step"]
    assert {SKY, ROAD, PERSON, CAR} <= set(full.classes.unique().tolist())


def test_images_of_later_entries_are_never_stretched():
    rng = np.random.default_rng(0)
    options = Augmentation(flip=0, zoom=1.0, zoom_range=(1.0, 1.0), rotate=0)
    for source, factor in (((480, 360), 1.0), ((240, 360), 2.0), ((960, 360), 1.0)):
        matrices = [
            random_view(source, (640, 192), options, rng, Scale((480, 360), covers=True)).matrix for _ in range(60)
        ]
        assert np.median([m[0, 0] for m in matrices]) == pytest.approx(factor, rel=0.06)
        assert np.median([m[0, 0] / m[1, 1] for m in matrices]) == pytest.approx(1, abs=0.06)


def test_things_of_other_data_sets_stand_on_the_ground(folders):
    recipe = Recipe.from_mapping(content(three(folders)), "x")
    mixture = source_of(recipe.data).training()
    picture = mixture.portions[2].clips[0].read(0)
    (thing,) = placeable_objects(picture, CITYSCAPES)
    assert thing[0] == PERSON
    rng = np.random.default_rng(0)
    for _ in range(20):
        view = placing_view(picture, thing, (640, 192), rng)
        head, foot = (view.matrix @ (55, y, 1) for y in (20, 69))
        height = foot[1] - head[1]
        assert 0.05 * 192 < height <= 0.6 * 192 and abs(view.matrix[0, 0]) == view.matrix[1, 1] <= 1.5
        assert 0.4 * 192 + 0.7 * height < foot[1] < 0.55 * 192 + 1.3 * height
        assert 0 <= head[0] <= 640
        other = jitter_view(view, rng).matrix @ (55, 69, 1)
        assert np.abs(other - foot).max() < 0.2 * 640
    cut = picture._replace(semantic=picture.semantic[:60], instance=picture.instance[:60], image=picture.image[:60])
    assert placeable_objects(cut, CITYSCAPES) == [], "cut off by the border"


def test_donors_reach_frames_of_any_entry(folders):
    recipe = Recipe.from_mapping(content(three(folders), augmentation={"paste": 1.0, "donors": ["coco"]}), "x")
    mixture, codes = source_of(recipe.data).training(), labels_of(recipe.data).codes
    camvid = Mixture(tuple(dataclasses.replace(p, weight=float(p.name == "camvid")) for p in mixture.portions))
    batch = training_batch(camvid, (128, 64), 6, BatchSpec(CITYSCAPES, 8, codes=codes), recipe.augmentation, (0,), 0.9)
    assert set(batch.targets.classes.unique().tolist()) == {-1, PERSON}
    both = [
        set(a[a > 0].tolist()) & set(b[b > 0].tolist()) for a, b in zip(*[iter(batch.targets.tracks)] * 2, strict=True)
    ]
    assert any(both), "one identity in both frames"
    early = training_batch(camvid, (128, 64), 6, BatchSpec(CITYSCAPES, 8, codes=codes), recipe.augmentation, (0,), 0.1)
    assert (early.targets.classes == -1).all(), "donors come when their entry does"


def test_a_style_changes_colours_and_is_repeated():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
    same = [stylise(image, np.random.default_rng(5)) for _ in range(2)]
    assert (same[0] == same[1]).all()
    different = [np.abs(stylise(image, np.random.default_rng(s)).astype(int) - image).mean() for s in range(12)]
    assert np.median(different) > 4
    bright = np.clip(rng.normal((200, 180, 120), 20, (48, 64, 3)), 0, 255).astype(np.uint8)
    statistics = colour_statistics(bright)
    moves = [
        np.abs(stylise(image, np.random.default_rng(s), statistics).mean((0, 1)) - bright.mean((0, 1))).mean()
        for s in range(12)
    ]
    assert np.median(moves) < np.abs(image.mean((0, 1)) - bright.mean((0, 1))).mean()


def test_a_style_of_another_entry_is_drawn_for_its_pairs_only(folders):
    entries = three(folders)
    entries[0] |= {"style": 1.0, "style_of": "camvid"}
    styled, plain = (source_of(Recipe.from_mapping(content(e), "x").data).training() for e in (entries, three(folders)))
    first = [
        Mixture((m.portions[0], *(dataclasses.replace(p, weight=0.0) for p in m.portions[1:]))) for m in (styled, plain)
    ]
    a, b = (training_batch(m, SIZE, 2, BatchSpec(CITYSCAPES, 8), PLAIN, (3,)).images for m in first)
    assert (a.float() - b.float()).abs().mean() > 2
    assert torch.equal(a, training_batch(first[0], SIZE, 2, BatchSpec(CITYSCAPES, 8), PLAIN, (3,)).images)


def test_unsure_pixels_are_void_in_validation_and_unlabelled_in_training(folders):
    """A validation frame has no other value than classes and void."""
    entry = three(folders)[0] | {"partial": True}
    data = Recipe.from_mapping(content([entry, *three(folders)[1:]]), "x").data
    codes, (table, *_) = labels_of(data)
    assert codes.unlabelled[table[VOID_ID]] and table[VOID_ID] != VOID_ID
    (clip, index), *_ = source_of(data).validation()
    clip = dataclasses.replace(clip, clip=WithVoid(clip.clip))
    semantic = clip.read(index).semantic
    assert (semantic[:4] == VOID_ID).all()
    assert set(np.unique(semantic).tolist()) <= {*CITYSCAPES.ids.tolist(), VOID_ID}


@dataclasses.dataclass
class WithVoid:
    """A clip whose uppermost rows have no label."""

    clip: object

    def read(self, index):
        picture = self.clip.read(index)
        semantic = picture.semantic.copy()
        semantic[:4] = VOID_ID
        return picture._replace(semantic=semantic)


def save_teacher(path, output):
    """A network that gives a constant: int64 [1, h, w] or float [1, C, h, w]."""
    value = helper.make_tensor(
        "value", TensorProto.INT64 if output.dtype == np.int64 else TensorProto.FLOAT, output.shape, output.ravel()
    )
    nodes = [helper.make_node("Constant", [], ["out"], value=value), helper.make_node("Shape", ["image"], ["unused"])]
    given = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 8, 8, 3])
    out = helper.make_tensor_value_info("out", value.data_type, list(output.shape))
    graph = helper.make_graph(nodes, "teacher", [given], [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.mark.parametrize("kind", ["classes", "logits"])
def test_a_teacher_gives_classes_or_logits_and_must_agree_with_its_mirror_image(tmp_path, kind):
    classes = np.full((1, 4, 4), ROAD)
    classes[0, :2] = SKY
    classes[0, 0, 0] = CAR
    output = classes.astype(np.int64)
    if kind == "logits":
        output = (np.arange(19)[None, :, None, None] == classes[:, None]).astype(np.float32)
    teacher = Teacher(save_teacher(tmp_path / "t.onnx", output), 19)
    found = teacher.predict(np.zeros((4, 4, 3), np.uint8))
    assert found[1:].tolist() == [[SKY] * 4, [ROAD] * 4, [ROAD] * 4]
    assert found[0].tolist() == [VOID_ID, SKY, SKY, VOID_ID], "the mirror image says sky where this says car"
    with pytest.raises(InputError, match="logits of the model's 7 classes"):
        Teacher(tmp_path / "t.onnx", 7).predict(np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "no.onnx").write_bytes(b"nothing")
    with pytest.raises(InputError, match="is no ONNX model"):
        Teacher(tmp_path / "no.onnx", 19)


def test_pseudo_labels_are_computed_once_and_used(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save_teacher(tmp_path / "t.onnx", np.full((1, 2, 2), BUILDING, np.int64))
    recipe = Recipe.from_mapping(content(three(folders, teacher=str(path))), "x")
    mixture, codes = source_of(recipe.data).training(), labels_of(recipe.data).codes
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png")}
    assert len(files) == 2
    picture = mixture.portions[1].clips[0].read(0)
    assert (codes.index[picture.semantic[80:]] == BUILDING).all(), "void of CamVid"
    assert (codes.index[picture.semantic[:20]] == SKY).all()
    source_of(recipe.data).training()
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png")} == files


def test_inspect_prints_the_terms(folders, tmp_path, capsys):
    recipe = content(three(folders, terms="mine: ask me"), schedule={**content([])["schedule"], "steps": 1})
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path / "m.onnx")]) == 0
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "m.onnx")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "terms" in said and "mine: ask me" in said


def test_terms_of_the_start_are_kept(folders, tmp_path):
    first = Recipe.from_mapping(content(three(folders)), "x")
    run = Run(first, tmp_path / "first", False)
    run.train(source_of(first.data).training(), [])
    data = {"format": "kitti-step", "root": f"{folders}/kitti", "size": list(SIZE), "taxonomy": "cityscapes"}
    later = Recipe.from_mapping(content(data, start=str(tmp_path / "first")), "x")
    assert not any("CamVid" in line for line in later.terms)
    again = Run(later, tmp_path / "second", False)
    assert "CamVid: for research only" in again.recipe.terms
    again.save()
    (tmp_path / "first/checkpoint.pt").unlink()
    assert Run(later, tmp_path / "second", True).recipe.terms == again.recipe.terms
    card = model_card(again.kind, again.recipe, 0)
    assert "CamVid: for research only" in json.loads(card.source)["terms"]


def test_codes_of_a_taxonomy_are_its_ids():
    codes = LabelCodes.of(training_folders.taxonomy_of("vipseg"))
    assert (codes.index[:124] == np.arange(124)).all() and (codes.index[124:] == -1).all()
    assert not codes.unlabelled.any() and codes.members.shape == (0, 125)
