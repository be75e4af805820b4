"""Import of YOLO, RF-DETR and semantic networks, and the merge of two of them; outputs worked out by hand."""

import json

import numpy as np
import pytest
import yaml

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch", reason="torch is of the [train] extra")

from support.onnx_networks import network  # noqa: E402
from vps_ros.commands.main import main  # noqa: E402
from vps_ros.config import Config  # noqa: E402
from vps_ros.frame import Frame  # noqa: E402
from vps_ros.online import OnlinePanoptic  # noqa: E402
from vps_ros.segmenters import load_segmenter  # noqa: E402
from vps_ros.segmenters.segmenter import SegmenterParameters  # noqa: E402
from vps_ros.segmenters.session import Session  # noqa: E402

SIZE = 64
NAMES = {"names": "{0: 'person', 1: 'bicycle', 2: 'car'}", "license": "AGPL-3.0"}
MASKS = np.full((1, 2, 16, 16), 5.0)
"""Prototypes: with coefficients (1, 1), a mask covers its box."""
FIRST = ((8, 8, 40, 40), 0, 0.9)
"""Box, class and score; NEAR overlaps it with IoU 0.88, OTHER covers a part of it with another class."""
NEAR = ((10, 8, 42, 40), 0, 0.8)
OTHER = ((30, 20, 60, 56), 2, 0.7)
FAINT = ((0, 44, 12, 60), 1, 0.1)


def yolo(path, layout, objects=(FIRST, NEAR, OTHER, FAINT), shape=(1, 3, SIZE, SIZE), metadata=NAMES, **more):
    """A file of YOLO with these candidates among empty ones."""
    n = {"v8": 84, "v5": 252, "end-to-end": 300}[layout]
    rows = np.zeros((n, {"v8": 9, "v5": 10, "end-to-end": 8}[layout]))
    for row, ((x0, y0, x1, y1), kind, score) in zip(rows[5::7], objects, strict=False):
        row[-2:] = 1
        if layout == "end-to-end":
            row[:6] = x0, y0, x1, y1, score, kind
            continue
        row[:4] = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
        scores = row[-5:-2]
        scores[kind] = score
        if layout == "v5":
            row[4], scores[kind] = 0.95, score / 0.95
    predictions = rows.T[None] if layout == "v8" else rows[None]
    outputs = {"output0": predictions, "output1": MASKS}
    return network(path, shape, outputs, metadata=metadata, **more)


def export(*arguments):
    return main(["export", *map(str, arguments)])


def segments(path, image=None, **parameters):
    """Class name -> (box, mask) of each segment on an image of the input's size."""
    segmenter = load_segmenter(Config(model=str(path), **parameters).segmenter_parameters)
    image = np.full((SIZE, SIZE, 3), 90, np.uint8) if image is None else image
    found = segmenter(image)
    names = [segmenter.taxonomy.class_name(c) for c in found.class_ids.tolist()]
    return {name: (found.boxes[i].tolist(), found.map == i + 1, float(found.scores[i])) for i, name in enumerate(names)}


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def box_mask(x0, y0, x1, y1, size=SIZE):
    mask = np.zeros((size, size), bool)
    mask[y0:y1, x0:x1] = True
    return mask


class TestYolo:
    @pytest.mark.parametrize(
        "layout, more",
        [
            ("v8", {}),
            ("v8", {"dtype": np.float16}),
            ("v8", {"shape": (1, 3, "height", "width"), "size": True}),
            ("v8", {"opset": 12}),
            ("v5", {}),
            ("end-to-end", {"objects": (FIRST, OTHER, FAINT)}),
        ],
        ids=lambda v: v if isinstance(v, str) else "-".join(v) or "plain",
    )
    def test_objects_of_each_layout(self, tmp_path, layout, more):
        more = dict(more)
        size = ["--size", f"{SIZE}x{SIZE}"] if more.pop("size", False) else []
        source = yolo(tmp_path / "best.onnx", layout, **more)
        assert export("--from", "yolo", source, "-o", tmp_path / "things.onnx", *size) == 0
        found = segments(tmp_path / "things.onnx")
        assert set(found) == {"person", "car"}
        box, mask, score = found["person"]
        assert np.abs(np.subtract(box, FIRST[0])).max() <= 1 and iou(mask, box_mask(*FIRST[0])) > 0.98
        assert score == pytest.approx(0.9, abs=2e-3)
        # The lower score is under the higher one.
        assert iou(found["car"][1], box_mask(*OTHER[0]) & ~box_mask(*FIRST[0])) > 0.98

    def test_nodes_in_any_order(self, tmp_path):
        """As Ultralytics writes files in half precision."""
        source = yolo(tmp_path / "best.onnx", "v8", dtype=np.float16)
        model = onnx.load(str(source))
        nodes = list(model.graph.node)[::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        onnx.save(model, str(source))
        assert export("--from", "yolo", source, "-o", tmp_path / "things.onnx") == 0
        assert set(segments(tmp_path / "things.onnx")) == {"person", "car"}

    def test_a_wide_camera_image_is_padded_below(self, tmp_path):
        source = yolo(tmp_path / "best.onnx", "v8", [((8, 4, 40, 28), 2, 0.9)])
        assert export("--from", "yolo", source, "-o", tmp_path / "things.onnx") == 0
        box, *_ = segments(tmp_path / "things.onnx", np.full((2 * SIZE, 4 * SIZE, 3), 90, np.uint8))["car"]
        assert np.abs(np.subtract(box, (32, 16, 160, 112))).max() <= 4

    def test_the_threshold_of_one_class_is_not_that_of_void(self, tmp_path):
        """With one class, a score of 0.3 is less than void's."""
        rows = np.zeros((84, 7))
        rows[3] = 24, 24, 32, 32, 0.3, 1, 1
        metadata = {"names": "['cone']"}
        outputs = {"output0": rows.T[None], "output1": MASKS}
        source = network(tmp_path / "one.onnx", (1, 3, SIZE, SIZE), outputs, metadata=metadata)
        assert export("--from", "yolo", source, "-o", tmp_path / "things.onnx") == 0
        assert set(segments(tmp_path / "things.onnx")) == {"cone"}
        assert segments(tmp_path / "things.onnx", thing_threshold=0.31) == {}

    def test_terms_travel_with_the_model(self, tmp_path, capsys):
        source = yolo(tmp_path / "best.onnx", "v8")
        assert export("--from", "yolo", source, "-o", tmp_path / "things.onnx") == 0
        assert main(["inspect", str(tmp_path / "things.onnx")]) == 0
        assert "AGPL-3.0" in capsys.readouterr().out

    @pytest.mark.parametrize("channels_last", [False, True])
    def test_embeddings_are_features_averaged_over_each_object(self, tmp_path, channels_last):
        """Features are column, row and 1 of a cell. The mask has probability 0.5 where x < 16, otherwise 1.

        The box covers half of column 1, columns 2 and 3, half of column 4, and rows 1 to 4.
        """
        prototypes = np.full((1, 2, 8, 8), 20.0)
        prototypes[..., :2] = 0
        features = np.stack([*np.mgrid[:8, :8][::-1].astype(float), np.ones((8, 8))])[None]
        features = features.transpose(0, 2, 3, 1) if channels_last else features
        rows = np.zeros((84, 9))
        rows[5] = 24, 24, 24, 32, 0.9, 0, 0, 1, 1
        outputs = {"output0": rows.T[None], "output1": prototypes, "neck": features}
        source = network(tmp_path / "best.onnx", (1, 3, SIZE, SIZE), outputs, metadata=NAMES)
        path = tmp_path / "things.onnx"
        assert export("--from", "yolo", source, "--embedding", "neck", "-o", path) == 0
        found = load_segmenter(Config(model=str(path)).segmenter_parameters)(np.full((SIZE, SIZE, 3), 90, np.uint8))
        column = (0.25 * 1 + 2 + 3 + 0.5 * 4) / (0.25 + 1 + 1 + 0.5)
        np.testing.assert_allclose(found.embeddings, [[column, 2.5, 1]], rtol=1e-3)
        assert export(*semantic(tmp_path, "map"), "-o", tmp_path / "stuff.onnx") == 0
        city = tmp_path / "city.onnx"
        assert export("--merge", path, tmp_path / "stuff.onnx", "-o", city, "--size", f"{SIZE}x{SIZE}") == 0
        merged = load_segmenter(Config(model=str(city)).segmenter_parameters)(np.full((SIZE, SIZE, 3), 90, np.uint8))
        np.testing.assert_allclose(merged.embeddings[merged.is_thing], found.embeddings, rtol=1e-3)
        assert not merged.embeddings[~merged.is_thing].any()

    @pytest.mark.parametrize(
        "name, message",
        [
            ("output", "has no node or tensor of this name; similar names are output"),
            ("output0", "has shape [1, 9, 84]"),
            ("zero", "has no node or tensor of this name"),
        ],
    )
    def test_features_that_do_not_exist(self, tmp_path, capsys, name, message):
        source = yolo(tmp_path / "best.onnx", "v8")
        assert export("--from", "yolo", source, "--embedding", name, "-o", tmp_path / "m.onnx") == 2
        error = capsys.readouterr().err
        assert f"--embedding {name}" in error and message in error and len(error.strip().splitlines()) == 1

    @pytest.mark.parametrize(
        "outputs, metadata, options, message",
        [
            ({"output0": np.zeros((1, 7, 84))}, NAMES, [], "detects boxes only"),
            ({"output0": np.zeros((1, 8, 84)), "output1": MASKS}, NAMES, [], "has 2 classes, and there are 3"),
            ({"output0": np.zeros((1, 11, 13)), "output1": MASKS}, NAMES, [], "of no known layout"),
            ({"output0": np.zeros((1, 300, 8)), "output1": MASKS}, NAMES, ["--classes", "coco"], "has 3 classes, and"),
            ({"output0": np.zeros((1, 9, 84)), "output1": MASKS}, {}, [], "its metadata has no class names"),
            (
                {"output0": np.zeros((1, 9, 84)), "output1": MASKS},
                {"names": "{0: 'person', 'car': 2}"},
                [],
                "its metadata has no class names",
            ),
            ({"output0": np.zeros((1, 9, 84)), "output1": MASKS}, {}, ["--classes", "no"], "--classes no: no such"),
            ({"logits": np.zeros((1, 84))}, NAMES, [], "are not those of YOLO"),
            ({"output0": np.zeros((1, 9, 84)), "output1": MASKS}, NAMES, ["--size", "32x32"], "is fixed to 64x64"),
        ],
    )
    def test_what_is_refused(self, tmp_path, capsys, outputs, metadata, options, message):
        source = network(tmp_path / "best.onnx", (1, 3, SIZE, SIZE), outputs, metadata=metadata)
        assert export("--from", "yolo", source, "-o", tmp_path / "m.onnx", *options) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1
        assert not (tmp_path / "m.onnx").exists()

    def test_files_that_are_no_network(self, tmp_path, capsys):
        (tmp_path / "text.onnx").write_text("no")
        (tmp_path / "best.pt").write_text("no")
        for name, message in (("none.onnx", "no such file"), ("text.onnx", "not readable"), ("best.pt", "is not ONNX")):
            source = tmp_path / name
            assert export("--from", "yolo", source, "-o", tmp_path / "m.onnx") == 2
            assert message in capsys.readouterr().err


def test_rfdetr_with_the_ids_of_coco(tmp_path):
    labels = np.full((1, 5, 91), -9.0)
    masks = np.full((1, 5, 16, 16), -6.0)
    # COCO's id of a car is 3, of a toothbrush 90.
    labels[0, 1, 3], labels[0, 4, 90] = 2.0, 1.0
    masks[0, 1, 4:8, 4:12], masks[0, 4, 10:14, 2:6] = 6, 6
    outputs = {"dets": np.full((1, 5, 4), 0.5), "labels": labels, "masks": masks}
    source = network(tmp_path / "rf.onnx", (1, 3, SIZE, SIZE), outputs, name="input")
    assert export("--from", "rfdetr", source, "-o", tmp_path / "things.onnx") == 0
    found = segments(tmp_path / "things.onnx")
    assert {n: s for n, (_, _, s) in found.items()} == pytest.approx(
        {"car": 1 / (1 + np.exp(-2)), "toothbrush": 1 / (1 + np.exp(-1))}, abs=1e-3
    )
    assert iou(found["car"][1], box_mask(16, 16, 48, 32)) > 0.98


CLASSES = ["road", "sky", "car"]
SCENE = np.zeros((SIZE, SIZE), np.int64)
SCENE[:32] = 1
SCENE[40:50, 6:20] = SCENE[40:50, 30:50] = 2
SCENE[62:, :] = 9
"""Road, sky, two cars, and rows of no class."""


def semantic(tmp_path, layout, file="semantic.onnx", scene=SCENE, name="input", **more):
    """A semantic network that sees the scene, and the arguments that import it."""
    h, w = scene.shape
    logits = np.stack([np.where(scene == i, 4.0, -4.0) for i in range(3)])
    outputs = {
        "nchw": {"logits": logits[None, :, ::4, ::4]},
        "nhwc": {"logits": logits.transpose(1, 2, 0)[None]},
        "map": {"classes": scene[None]},
        "map4": {"classes": scene[None, None].astype(np.int32)},
    }[layout]
    shape, dtype = ((1, h, w, 3), np.uint8) if layout == "map" else ((1, 3, h, w), np.float32)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    source = network(tmp_path / file, shape, outputs, dtype=dtype, name=name, **more)
    return ["--from", "semantic", source, "--classes", tmp_path / "classes.txt"]


class TestSemantic:
    @pytest.mark.parametrize("layout", ["nchw", "nhwc", "map", "map4"])
    def test_stuff_of_each_layout(self, tmp_path, layout, capsys):
        assert export(*semantic(tmp_path, layout), "-o", tmp_path / "stuff.onnx") == 0
        assert "pixels of things become void" in capsys.readouterr().err
        found = segments(tmp_path / "stuff.onnx")
        # Cars are things: without --components, their pixels are void.
        assert set(found) == {"road", "sky"}
        limit = 0.9 if layout == "nchw" else 0.999
        assert iou(found["sky"][1], SCENE == 1) > limit
        assert iou(found["road"][1], (SCENE == 0) | ((SCENE == 9) & (layout in ("nchw", "nhwc")))) > limit

    @pytest.mark.parametrize("layout", ["nhwc", "map"])
    def test_components_are_objects_from_their_least_area_on(self, tmp_path, layout, capsys):
        arguments = semantic(tmp_path, layout)
        for least, count in ((100, 2), (150, 1), (300, 0)):
            path = tmp_path / f"{least}.onnx"
            assert export(*arguments, "--components", least, "-o", path) == 0
            segmenter = load_segmenter(Config(model=str(path)).segmenter_parameters)
            found = segmenter(np.full((SIZE, SIZE, 3), 90, np.uint8))
            boxes = sorted(found.boxes[found.is_thing].tolist())
            assert boxes == [[6, 40, 20, 50], [30, 40, 50, 50]][2 - count :], least
            assert "void" not in capsys.readouterr().err
            for i in np.flatnonzero(found.is_thing):
                assert (found.map == i + 1).sum() == found.areas[i] >= least

    def test_what_is_refused(self, tmp_path, capsys):
        arguments = semantic(tmp_path, "nhwc")
        (tmp_path / "two.txt").write_text("road\nsky")
        for changed, message in (
            ([*arguments[:-1], tmp_path / "two.txt"], "so 3 classes, and --classes names 2"),
            ([*arguments[:-2]], "needs --classes"),
            ([*arguments, "--mean", "1,2"], "give three numbers"),
            ([*arguments, "--components", "0"], "at least 1 pixel"),
            ([*arguments, "--layout", "map"], "--layout map: output 'logits'"),
            ([*semantic(tmp_path, "map", file="map.onnx"), "--std", "1,1,1"], "takes uint8 images"),
        ):
            assert export(*changed, "-o", tmp_path / "m.onnx") == 2
            error = capsys.readouterr().err
            assert message in error and len(error.strip().splitlines()) == 1
            assert not (tmp_path / "m.onnx").exists()


class TestMerge:
    @pytest.fixture
    def parts(self, tmp_path):
        assert export("--from", "yolo", yolo(tmp_path / "best.onnx", "v8"), "-o", tmp_path / "things.onnx") == 0
        wide = SCENE.repeat(2, axis=0)[:, :48].copy()
        assert export(*semantic(tmp_path, "map", scene=wide), "-o", tmp_path / "stuff.onnx") == 0
        return tmp_path / "things.onnx", tmp_path / "stuff.onnx"

    @pytest.mark.parametrize("layout", ["map", "nhwc"])
    def test_things_over_stuff_and_void(self, tmp_path, parts, layout, capsys):
        stuff = tmp_path / f"{layout}.onnx"
        assert export(*semantic(tmp_path, layout, file=f"semantic-{layout}.onnx"), "-o", stuff) == 0
        path = tmp_path / "city.onnx"
        assert export("--merge", parts[0], stuff, "-o", path, "--size", f"{SIZE}x{SIZE}") == 0
        table = yaml.safe_load(capsys.readouterr().out)
        assert table["things"] == {"person": "person", "bicycle": "bicycle", "car": "car"}
        assert table["stuff"] == {"road": "road", "sky": "sky"}
        found = segments(path)
        assert set(found) == {"person", "car", "road", "sky"}
        first, other = box_mask(*FIRST[0]), box_mask(*OTHER[0])
        assert iou(found["person"][1], first) > 0.98 and iou(found["car"][1], other & ~first) > 0.98
        assert iou(found["sky"][1], (SCENE == 1) & ~first & ~other) > 0.96
        nothing = ~np.logical_or.reduce([mask for _, mask, _ in found.values()])
        # Cars that only the network for stuff sees are void.
        seen = box_mask(6, 40, 20, 50) & ~first & ~other
        assert nothing[seen].mean() > 0.8

    def test_parts_of_different_sizes_and_stretched(self, tmp_path, parts):
        path = tmp_path / "city.onnx"
        assert export("--merge", *parts, "-o", path, "--size", "96x64") == 0
        found = segments(path, np.full((64, 96, 3), 90, np.uint8))
        # YOLO sees 64 x 43 pixels, resized to whole cells of its masks: 64 x 44.
        assert np.abs(np.subtract(found["person"][0], np.multiply(FIRST[0], [1.5, 64 / 44] * 2))).max() <= 1.5
        # 128 x 48 pixels of stuff cover the image: the sky is its upper half.
        assert found["sky"][1][:28, 80:].all() and not found["sky"][1][34:].any()

    def test_an_edited_table(self, tmp_path, parts, capsys):
        (tmp_path / "map.yaml").write_text("things: {person: rider, car: null}\nstuff: {sky: null}\n")
        path = tmp_path / "city.onnx"
        assert export("--merge", *parts, "-o", path, "--size", "64x64", "--map", tmp_path / "map.yaml") == 0
        assert set(segments(path)) == {"rider", "road"}

    @pytest.mark.parametrize(
        "table, message",
        [
            ("things: {dog: dog}", "things has no class 'dog'"),
            ("things: {car: road}", "class 'road' is both thing and stuff"),
            ("stuff: {road: null, sky: null}", "the table leaves out every class of stuff"),
            ("[1]", "needs the entries things and stuff"),
        ],
    )
    def test_tables_that_are_refused(self, tmp_path, parts, capsys, table, message):
        (tmp_path / "map.yaml").write_text(table)
        path = tmp_path / "m.onnx"
        assert export("--merge", *parts, "-o", path, "--map", tmp_path / "map.yaml") == 2
        assert message in capsys.readouterr().err and not path.exists()

    def test_parts_that_are_refused(self, tmp_path, parts, capsys):
        panoptic, model = tmp_path / "panoptic.onnx", onnx.load(str(parts[0]))
        card = json.loads(model.metadata_props[0].value)
        card["taxonomy"][2]["isthing"] = False
        model.metadata_props[0].value = json.dumps(card)
        onnx.save(model, str(panoptic))
        for arguments, message in (
            ([parts[1], parts[0]], "cannot be the model for things"),
            ([panoptic, parts[1]], "cannot be the model for things"),
            ([tmp_path / "best.onnx", parts[1]], "is not a model of vps-ros"),
            ([tmp_path / "none.onnx", parts[1]], "no such file"),
        ):
            assert export("--merge", *arguments, "-o", tmp_path / "m.onnx") == 2
            assert message in capsys.readouterr().err
        assert export("-o", tmp_path / "m.onnx") == 2 and "either CHECKPOINT or --merge" in capsys.readouterr().err


def test_classes_that_are_stuff_in_one_model_are_no_things(tmp_path):
    """Traffic lights: things of COCO, stuff of Cityscapes."""
    from vps_ros.learning.onnx_import.merge import default_table, merged_taxonomy
    from vps_ros.taxonomies import ALL
    from vps_ros.taxonomy import CITYSCAPES, Taxonomy

    coco = Taxonomy("coco", tuple(c for c in ALL["coco-panoptic"].classes if c.isthing))
    table = default_table(coco, CITYSCAPES)
    joined = {n: t for n, t in table["things"].items() if t != n}
    assert joined == {"traffic light": None, "stop sign": None}
    merged = merged_taxonomy(coco, CITYSCAPES, table)
    for name in ("car", "person", "road", "traffic-light"):
        info = next(c for c in CITYSCAPES.classes if c.name == name)
        assert merged.by_id[info.id] == info
    assert len(merged) == 11 + 78 and len(set(merged.ids.tolist())) == len(merged)


def test_a_tracker_of_appearance_uses_colours(tmp_path):
    """Two objects change places between frames; only their colours tell them apart."""
    objects = [((8, 8, 24, 56), 2, 0.9), ((40, 8, 56, 56), 2, 0.8)]
    assert export("--from", "yolo", yolo(tmp_path / "b.onnx", "v8", objects), "-o", tmp_path / "things.onnx") == 0
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    image[8:56, 8:24], image[8:56, 40:56] = (220, 30, 30), (30, 30, 220)
    pipeline = OnlinePanoptic(Config(model=str(tmp_path / "things.onnx"), tracker="appearance"))
    ids = []
    for number, picture in enumerate((image, image[:, ::-1])):
        result = pipeline.step(Frame(np.ascontiguousarray(picture), number * 100_000_000))
        left, right = sorted(result.visible, key=lambda t: t.box[0])
        ids.append((left.track_id, right.track_id))
    assert ids[0] == ids[1][::-1]


class TestBatch:
    """Boxes, scores and masks of the network are proportional to the brightness of each image."""

    IMAGES = tuple(np.full((SIZE, SIZE, 3), value, np.uint8) for value in (255, 128, 192))

    def test_each_image_gets_its_own_objects(self, tmp_path):
        source, path = yolo(tmp_path / "best.onnx", "v8", scaled=True), tmp_path / "things.onnx"
        assert export("--from", "yolo", source, "-o", path, "--batch") == 0
        segmenter = load_segmenter(Config(model=str(path)).segmenter_parameters)
        assert segmenter.batched
        segmenter.run_ahead(self.IMAGES)
        for image in self.IMAGES:
            found, factor = segmenter(image), image[0, 0, 0] / 255
            assert [segmenter.taxonomy.class_name(c) for c in found.class_ids] == ["person", "car"]
            assert found.scores == pytest.approx([0.9 * factor, 0.7 * factor], abs=2e-3)
            assert np.abs(found.boxes[0] - np.multiply(FIRST[0], factor)).max() <= 1

    @pytest.mark.parametrize("layout", ["v8", "v5", "end-to-end", "rfdetr", "merged"])
    def test_a_batch_equals_single_images(self, tmp_path, layout):
        source, path = tmp_path / "best.onnx", tmp_path / "things.onnx"
        if layout == "rfdetr":
            rng = np.random.default_rng(0)
            shapes = {"dets": (1, 5, 4), "labels": (1, 5, 91), "masks": (1, 5, 16, 16)}
            outputs = {name: rng.normal(0, 6, shape) for name, shape in shapes.items()}
            network(source, (1, 3, SIZE, SIZE), outputs, scaled=True)
        else:
            # The kind of an end-to-end object is a column, which becomes smaller with the brightness: 2, 1, 1.
            yolo(source, "v8" if layout == "merged" else layout, scaled=True)
        origin = ["--from", "rfdetr" if layout == "rfdetr" else "yolo", source]
        if layout == "merged":
            assert export(*origin, "-o", path) == 0
            assert export(*semantic(tmp_path, "nhwc", scaled=True), "-o", tmp_path / "stuff.onnx") == 0
            origin, path = ["--merge", path, tmp_path / "stuff.onnx", "--size", f"{SIZE}x{SIZE}"], tmp_path / "m.onnx"
        assert export(*origin, "-o", path, "--force") == 0
        assert export(*origin, "-o", tmp_path / "batch.onnx", "--batch") == 0
        single, both = (Session(p, SegmenterParameters(providers=("cpu",))) for p in (path, tmp_path / "batch.onnx"))
        images = np.stack(self.IMAGES)
        alone = [{k: v.copy() for k, v in single.run(image[None]).items()} for image in images]
        together = both.run(images)
        assert set(together) == set(alone[0])
        for name, values in together.items():
            np.testing.assert_allclose(values, np.concatenate([one[name] for one in alone]), atol=1e-4, err_msg=name)
        assert np.abs(alone[0]["class_logits"] - alone[1]["class_logits"]).max() > 0.1
