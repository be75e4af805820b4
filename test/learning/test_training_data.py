"""Data sets on disk as clips and batches: what is drawn is what the network is taught."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from support.training_folders import FRAMES, SIZE, SPLITS, WRITERS, build, scene
from vps_ros.commands.main import main
from vps_ros.datasets.cityscapes import decode, read_truth
from vps_ros.datasets.kitti_step import DATA_SET as KITTI
from vps_ros.errors import InputError
from vps_ros.taxonomy import CITYSCAPES, VOID_ID

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from vps_ros.learning.data.augmentation import Scale, plain_view, random_view, view_labels  # noqa: E402
from vps_ros.learning.data.batches import BatchSpec, training_batch  # noqa: E402
from vps_ros.learning.data.clips import Picture  # noqa: E402
from vps_ros.learning.data.entries import FolderData  # noqa: E402
from vps_ros.learning.data.paste import FIRST_PASTED, choose_objects, paste  # noqa: E402
from vps_ros.learning.data.sources import Folders  # noqa: E402
from vps_ros.learning.network_io import InputSizes, LabelGrid  # noqa: E402
from vps_ros.learning.recipe import Augmentation, Recipe  # noqa: E402

ROAD, SKY, PERSON, CAR = 0, 10, 11, 13
PLAIN = Augmentation(0, 0, (1.0, 1.0), 0, 0, 0, 0, 0, 0)
"""Nothing is changed."""


def data_of(form, root):
    train, val = SPLITS.get(form, {"train": (), "val": ()})
    return FolderData(form, str(root), SIZE, train, val)


def same_objects(a, b):
    """Whether two maps of instances tell the same objects apart, whatever their numbers."""
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    return len(pairs) == len({p[0] for p in pairs}) == len({p[1] for p in pairs})


@pytest.mark.parametrize("form", WRITERS)
def test_every_data_set_is_learned_from_as_it_lies_on_disk(form, tmp_path):
    source = Folders(data_of(form, build(form, tmp_path)))
    clips, validation = source.training(), source.validation()
    still = form == "cityscapes"
    assert [len(c) for c in clips] == ([1] * FRAMES if still else [FRAMES] * 2)
    assert len(validation) == FRAMES
    for i in range(FRAMES):
        got, drawn = (clips[i].read(0) if still else clips[0].read(i)), scene(form, 0, i)
        assert np.abs(got.image.astype(int) - drawn.image).mean() < 4, "JPEG changes little"
        assert (got.semantic == drawn.semantic).all()
        assert same_objects(got.instance, drawn.instance)
    things = np.isin(drawn.semantic, source.taxonomy.thing_ids)
    assert ((got.instance > 0) == (things & (drawn.instance > 0))).all(), "crowds and stuff have no number"
    batch = training_batch(clips, (96, 64), 2, BatchSpec(source.taxonomy, 8), Augmentation(paste=1.0), (0,))
    assert batch.images.shape == (4, 64, 96, 3) and batch.targets.segments.shape == (4, 16, 24)


def test_numbers_of_objects_last_through_a_clip_beyond_16_bits(tmp_path):
    clip = Folders(data_of("cityscapes-vps", build("cityscapes-vps", tmp_path))).training()[0]
    first, last = clip.read(0).instance, clip.read(FRAMES - 1).instance
    assert first.max() > 65535
    assert set(np.unique(first)) == set(np.unique(last))
    batch = training_batch([clip], SIZE, 1, BatchSpec(CITYSCAPES, 8), PLAIN, (0,))
    tracks = [set(t[t > 0].tolist()) for t in batch.targets.tracks]
    assert tracks[0] == tracks[1] == set(np.unique(first).tolist()) - {0}


def test_instance_ids_of_cityscapes_by_hand(tmp_path):
    codes = np.array([[7, 26, 26000, 26001], [24003, 0, 29, 33]], np.uint16)
    semantic, instance = decode(codes)
    assert semantic.tolist() == [[ROAD, CAR, CAR, CAR], [PERSON, VOID_ID, VOID_ID, 18]]
    assert instance.tolist() == [[0, 0, 1, 2], [4, 0, 0, 0]], "26 alone is a group"
    with pytest.raises(InputError, match="value 34 stands for no class"):
        decode(np.array([[34]], np.uint16))
    build("cityscapes", tmp_path)
    with pytest.raises(InputError, match=r"has no split 'test' \(splits there: train, val\)"):
        read_truth(tmp_path, "test")
    with pytest.raises(InputError, match="holds no labels of Cityscapes"):
        read_truth(tmp_path / "leftImg8bit")


def test_images_of_kitti_tracking_lie_elsewhere(tmp_path):
    build("kitti-step", tmp_path / "step")
    (tmp_path / "tracking").mkdir()
    (tmp_path / "step/images/train").rename(tmp_path / "tracking/image_02")
    data = FolderData("kitti-step", str(tmp_path / "step"), SIZE, "train", "")
    with pytest.raises(InputError, match="has no image of 8 labelled frame.*write their folder in `data.images`"):
        Folders(data).training()
    clips = Folders(dataclasses.replace(data, images=str(tmp_path / "tracking"))).training()
    assert (clips[1].read(2).image == scene("kitti-step", 1, 2).image).all()
    assert Folders(data).validation() == []


def test_images_stand_beside_the_truth_of_kitti_step_only_where_there_are_any(tmp_path):
    build("kitti-step", tmp_path)
    frame = KITTI.truth(tmp_path, "val")["0002"]["000001"]
    assert frame.image == tmp_path / "images/val/0002/000001.png"
    assert KITTI.truth(tmp_path / "panoptic_maps", "val")["0002"]["000001"].image is None


def test_a_pair_of_a_still_image_is_two_views_of_it(tmp_path):
    clips = Folders(data_of("cityscapes", build("cityscapes", tmp_path))).training()
    options = Augmentation(apart=0.0, zoom=1.0, zoom_range=(1.5, 1.6))
    batch = training_batch(clips, (96, 64), 4, BatchSpec(CITYSCAPES, 8), options, (3,))
    assert not any(torch.equal(batch.images[i], batch.images[i + 1]) for i in range(0, 8, 2))
    shared = [set(a.tolist()) & set(b.tolist()) - {0} for a, b in zip(*[iter(batch.targets.tracks)] * 2, strict=True)]
    assert any(shared)


def test_void_and_crowds_are_in_no_segment(tmp_path):
    clips = Folders(data_of("kitti-step", build("kitti-step", tmp_path))).training()
    targets = training_batch(clips[:1], SIZE, 1, BatchSpec(CITYSCAPES, 8), PLAIN, (0,)).targets
    assert (targets.segments[:, :, -2:] == -1).all()
    assert (targets.semantic[:, :-3, -2:] == -1).all(), "void has no class"
    assert (targets.semantic[:, -3:, -2:] == PERSON).all(), "a crowd has one"


def test_frames_of_a_pair_lie_no_further_apart_than_the_recipe_says():
    class Numbered:
        """Every pixel of frame i is i."""

        name = "numbered"

        def __len__(self):
            return 20

        def read(self, i):
            empty = np.zeros((32, 32), np.uint8)
            return Picture(np.full((32, 32, 3), i, np.uint8), empty, empty.astype(np.int32))

    for gap in (1, 5):
        batch = training_batch([Numbered()], (32, 32), 200, BatchSpec(CITYSCAPES, 4, gap=gap), PLAIN, (gap,))
        numbers = batch.images[:, 0, 0, 0].int()
        assert set((numbers[::2] - numbers[1::2]).abs().tolist()) == set(range(1, gap + 1))


def test_zoom_is_from_the_size_of_the_data():
    rng = np.random.default_rng(0)
    options = Augmentation(flip=0, zoom=1.0, zoom_range=(1.0, 1.0), rotate=0)
    matrices = [random_view((400, 200), (96, 64), options, rng, Scale((200, 50))).matrix for _ in range(50)]
    assert np.median([m[0, 0] for m in matrices]) == pytest.approx(0.5, rel=0.05)
    assert np.median([m[1, 1] for m in matrices]) == pytest.approx(0.25, rel=0.05)
    kept = random_view((400, 200), (96, 64), options, rng, Scale((200, 50), True)).matrix
    assert kept[0, 0] / kept[1, 1] == pytest.approx(1, abs=0.2) and kept[1, 1] == pytest.approx(0.25, rel=0.1)
    whole = plain_view((400, 200), (96, 64), keep_aspect=True).matrix
    assert whole[0, 0] == whole[1, 1] == 96 / 400


def test_stretched_views_are_wider_by_up_to_the_ratio_of_a_small_camera():
    """Both factors vary by up to exp(0.08) of their own: from 1 / exp(0.16) to 2.4 exp(0.16)."""
    options = Augmentation(zoom=1.0, zoom_range=(1.0, 1.0), stretch=1.0, rotate=0.0, flip=0.0)
    rng = np.random.default_rng(0)
    matrices = [random_view((400, 200), (96, 64), options, rng).matrix for _ in range(200)]
    ratios = np.array([m[0, 0] / m[1, 1] for m in matrices])
    assert np.exp(-0.16) <= ratios.min() < 1.2 and 2.0 < ratios.max() <= 2.4 * np.exp(0.16)


def test_labels_on_an_aligned_grid_are_every_stride_th_pixel():
    values = np.arange(9 * 17, dtype=np.uint8).reshape(9, 17)
    numbers = values.astype(np.int32) + 2**20
    grid = LabelGrid(4, aligned=True)
    assert grid.of((17, 9)) == (5, 3) and InputSizes(8, 1).accepts((17, 9)) and not InputSizes(8, 1).accepts((16, 9))
    semantic, instance = view_labels(values, numbers, plain_view((17, 9), (17, 9)), grid=grid)
    assert semantic.tolist() == values[::4, ::4].tolist()
    assert instance.tolist() == numbers[::4, ::4].tolist(), "beyond 16 bits"


def test_pasted_things_cover_what_is_there_and_keep_one_number():
    onto, source = (scene("kitti-step", v, 0) for v in (0, 3))
    view = plain_view(SIZE, SIZE)
    ground = Picture(onto.image, *view_labels(*onto[1:], view))
    pasted = paste(ground, source, view, [(CAR, 1)])
    mask = (source.semantic == CAR) & (source.instance == 1)
    inner, outer = (f(mask.astype(np.uint8), np.ones((7, 7))) > 0 for f in (cv2.erode, cv2.dilate))
    assert (pasted.image[inner] == source.image[inner]).all()
    assert (pasted.image[~outer] == onto.image[~outer]).all()
    edge = mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3))).astype(bool)
    assert (pasted.image[edge] != source.image[edge]).any(), "the edge is mixed with what is there"
    cells = view_labels(mask.astype(np.uint8), source.instance, view)[0] == 1
    assert (pasted.semantic[cells] == CAR).all() and (pasted.instance[cells] == FIRST_PASTED + 1).all()
    assert (pasted.semantic[~cells] == ground.semantic[~cells]).all()
    assert (pasted.instance[~cells] == ground.instance[~cells]).all()


def test_things_are_chosen_from_both_frames_and_crowds_never():
    rng, taxonomy = np.random.default_rng(0), CITYSCAPES
    first = np.array([[CAR, PERSON, ROAD, CAR]] * 4, np.uint8), np.array([[1, 0, 0, 0]] * 4)
    second = np.array([[SKY, PERSON, ROAD, ROAD]] * 4, np.uint8), np.array([[0, 7, 3, 0]] * 4)
    seen = {tuple(choose_objects([first, second], taxonomy, 1, rng)) for _ in range(40)}
    assert seen == {((CAR, 1),), ((PERSON, 7),)}
    assert choose_objects([(np.full((4, 4), CAR, np.uint8), np.ones((4, 4)))], taxonomy, 3, rng) == [], "too large"


def test_a_pair_gets_the_same_things_in_both_frames(tmp_path):
    clips = Folders(data_of("kitti-step", build("kitti-step", tmp_path))).training()
    options = dataclasses.replace(PLAIN, paste=1.0, pasted=3)
    both = 0
    for seed in range(6):
        tracks = training_batch(clips, SIZE, 1, BatchSpec(CITYSCAPES, 12), options, (seed,)).targets.tracks
        first, second = ({t for t in row.tolist() if t > FIRST_PASTED} for row in tracks)
        assert first | second
        both += bool(first & second)
    assert both >= 5


@pytest.mark.parametrize(
    "change, message",
    [
        ({"format": "kitti"}, "data: unknown format 'kitti'; did you mean kitti-step?"),
        ({"format": "tapestry"}, "data: unknown format 'tapestry'; there are streets, kitti-step"),
        ({"split": "val"}, "split and validation_split are both 'val'"),
        ({"size": [100, 64]}, "data: size 100x64; sides must be multiples of 32"),
        ({"scenarios": ["cruise"]}, "data: unknown entry 'scenarios'"),
        ({"root": "nowhere"}, "nowhere: no such folder"),
        ({"split": "training"}, "has no split 'training' (splits there: train, val)"),
    ],
)
def test_bad_data_is_one_line(tmp_path, capsys, change, message):
    root = build("kitti-step", tmp_path / "data")
    data = {"format": "kitti-step", "root": str(root), "size": list(SIZE)} | change
    assert run(tmp_path, {"data": data}) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error
    assert not (tmp_path / "run").exists()


def test_classes_are_those_of_the_data(tmp_path, capsys):
    data = {"format": "vipseg", "root": "x", "size": list(SIZE)}
    schedule = {"steps": 1, "phases": [{"until": 1.0, "size": list(SIZE), "pairs": 2}]}
    content = {"name": "x", "data": data, "schedule": schedule}
    assert Recipe.from_mapping(content, "").model.classes == 124
    assert run(tmp_path, content | {"model": {"classes": 19}}) == 2
    assert "model: 19 classes, but vipseg has 124; remove `classes`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda data: data[:-30], "is cut off; copy it again"),
        (lambda data: b"no image", "is not an image that can be decoded"),
        (lambda data: cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes(), "is 2x2, but its labels"),
    ],
)
def test_a_damaged_image_ends_training_with_one_line(tmp_path, capfd, spoil, message):
    root = build("kitti-step", tmp_path / "data")
    for path in (root / "images/train").rglob("*.png"):
        path.write_bytes(spoil(path.read_bytes()))
    data = {"format": "kitti-step", "root": str(root), "size": list(SIZE)}
    assert run(tmp_path, {"data": data}) == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("vps-ros: ") and message in error
    assert not (tmp_path / "run/checkpoint.pt").exists()


def run(folder, change):
    """`vps-ros train` with a recipe of a small network, changed."""
    recipe = {
        "name": "small",
        "schedule": {"steps": 2, "phases": [{"until": 1.0, "size": list(SIZE), "pairs": 2}], "workers": 1},
        "model": {"queries": 8, "channels": [16, 16, 16, 16], "depths": [0, 0, 0, 0], "query_dim": 16, "mask_dim": 16}
        | {"heads": 2},
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe | change))
    return main(["train", "--config", str(path), "-o", str(folder / "run")])
