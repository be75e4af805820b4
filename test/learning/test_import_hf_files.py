"""What is read from a checkpoint's own files before its weights are, and how faulty checkpoints are refused."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")
pytest.importorskip("transformers", reason="transformers is of the [train] extra")
onnx = pytest.importorskip("onnx", reason="onnx is of the [train] extra")

import huggingface_hub  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from support.hf_checkpoints import change, one_thread, save  # noqa: E402
from vps_ros.commands.main import main  # noqa: E402
from vps_ros.errors import InputError  # noqa: E402
from vps_ros.learning.export import graphs, verify  # noqa: E402
from vps_ros.learning.hf import import_checkpoint  # noqa: E402
from vps_ros.learning.hf.checkpoint import open_checkpoint  # noqa: E402
from vps_ros.learning.hf.classes import classes_of  # noqa: E402
from vps_ros.learning.hf.families import FAMILIES, family_of, input_spec, task_of  # noqa: E402
from vps_ros.taxonomies import ALL  # noqa: E402

NAMES = {name: [c.name for c in t.classes] for name, t in ALL.items()}
COCO_IDS = [f"LABEL_{i}" for i in range(250)]
for one in ALL["coco-panoptic"].classes:
    if one.isthing:
        COCO_IDS[one.id] = one.name


def write(folder, names=None, processor=None, kind="mask2former", **config):
    """A checkpoint's configuration files, without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    if names is not None:
        config["id2label"] = {str(i): n for i, n in enumerate(names)}
    (folder / "config.json").write_text(json.dumps({"model_type": kind, **config}))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def checkpoint(tmp_path, names=None, processor=None, kind="mask2former", **config):
    return open_checkpoint(str(write(tmp_path / "mine", names, processor, kind, **config)))


class TestClasses:
    @pytest.mark.parametrize("name", ["cityscapes", "coco-panoptic", "ade20k", "mapillary-vistas", "vipseg", "viper"])
    def test_a_data_set_is_known_by_its_names_in_its_order(self, tmp_path, name):
        found = classes_of(checkpoint(tmp_path, NAMES[name]))
        assert found.taxonomy == ALL[name]
        assert found.columns == tuple(range(len(ALL[name])))

    def test_other_spellings_and_synonyms_are_few_enough(self, tmp_path):
        names = [n.upper().replace(" ", "_") for n in NAMES["ade20k"]]
        names[8], names[43], names[6] = "windowpane, window", "streetlight", "road, route"
        assert classes_of(checkpoint(tmp_path, names)).taxonomy == ALL["ade20k"]

    def test_classes_at_the_ids_of_their_data_set(self, tmp_path):
        """As in DETR: 250 columns, of which 80 are named and 53 are stuff without a name."""
        found = classes_of(checkpoint(tmp_path, COCO_IDS))
        assert found.taxonomy == ALL["coco-panoptic"]
        assert found.columns == tuple(ALL["coco-panoptic"].ids)
        assert found.labels == 250

    def test_some_classes_of_a_data_set_in_another_order(self, tmp_path):
        found = classes_of(checkpoint(tmp_path, ["car", "road", "person"]))
        assert [(c.name, c.isthing) for c in found.taxonomy.classes] == [
            ("car", True),
            ("road", False),
            ("person", True),
        ]
        assert found.columns == (0, 1, 2)

    def test_things_that_the_processor_names(self, tmp_path):
        """OneFormer's metadata, here of KITTI-STEP: the names are Cityscapes', whose colours they get."""
        given = {"metadata": {"thing_ids": [11, 13], "class_names": NAMES["cityscapes"]}}
        taxonomy = classes_of(checkpoint(tmp_path, NAMES["cityscapes"], given)).taxonomy
        assert taxonomy.thing_ids == (11, 13) and taxonomy.name == "mine"
        assert [c.color for c in taxonomy.classes] == [c.color for c in ALL["cityscapes"].classes]

    @pytest.mark.parametrize("key", ["label_ids_to_fuse", "stuff_classes"])
    def test_stuff_that_the_processor_lists(self, tmp_path, key):
        taxonomy = classes_of(checkpoint(tmp_path, ["field", "cow", "sheep"], {key: [0]})).taxonomy
        assert [(c.id, c.name, c.isthing) for c in taxonomy.classes] == [
            (0, "field", False),
            (1, "cow", True),
            (2, "sheep", True),
        ]
        assert len({c.color for c in taxonomy.classes}) == 3

    def test_classes_named_on_the_command_line(self, tmp_path):
        nameless = checkpoint(tmp_path, num_labels=133)
        assert classes_of(nameless, "coco-panoptic").taxonomy == ALL["coco-panoptic"]
        at_ids = checkpoint(tmp_path, num_labels=250)
        assert classes_of(at_ids, "coco-panoptic").columns == tuple(ALL["coco-panoptic"].ids)
        (tmp_path / "farm.json").write_text(
            json.dumps([{"id": i, "name": n, "isthing": i == 1, "color": [i, 0, 0]} for i, n in enumerate("ab")])
        )
        farm = classes_of(checkpoint(tmp_path, num_labels=2), str(tmp_path / "farm.json")).taxonomy
        assert (farm.name, farm.thing_ids) == ("farm", (1,))

    @pytest.mark.parametrize(
        ("names", "processor", "choice", "message"),
        [
            (["field", "cow"], None, None, "nothing says which of its 2 classes (field, cow, ...) are things"),
            ([f"LABEL_{i}" for i in range(133)], None, None, "(as many has coco-panoptic)"),
            (["a", "b"], {"metadata": {"thing_ids": []}}, None, "add --task semantic"),
            (["a", "b"], {"label_ids_to_fuse": [2]}, None, "label_ids_to_fuse of its processor names classes other"),
            (["a", "b"], {"label_ids_to_fuse": ["x"]}, None, "label_ids_to_fuse of its processor names classes other"),
            (["a", "b"], None, "coco", "no such data set; choose one of kitti-step, cityscapes"),
            (["a", "b"], None, "cityscapes", "has 19 classes, and"),
            (["a", "b"], None, "none.json", "not readable as JSON"),
            ([], None, None, "does not number the classes from 0 on"),
        ],
    )
    def test_classes_that_nobody_knows(self, tmp_path, names, processor, choice, message):
        with pytest.raises(InputError) as caught:
            classes_of(checkpoint(tmp_path, names, processor), choice)
        assert message in str(caught.value) and "\n" not in str(caught.value)

    def test_labels_that_are_no_numbers(self, tmp_path):
        with pytest.raises(InputError, match="id2label"):
            classes_of(checkpoint(tmp_path, id2label={"one": "car"}))
        with pytest.raises(InputError, match="neither id2label nor num_labels"):
            classes_of(checkpoint(tmp_path))


class TestInput:
    @pytest.mark.parametrize(
        ("size", "expected", "keep_aspect"),
        [
            ({"height": 384, "width": 640}, (640, 384), False),
            ({"shortest_edge": 800, "longest_edge": 1333}, (1344, 800), True),
            ({"shortest_edge": 1024, "longest_edge": 2048}, (2048, 1024), True),
            ({"shortest_edge": 512, "longest_edge": None}, (512, 512), True),
            (512, (1333 // 32 * 32 + 32, 512), True),
        ],
    )
    def test_size_is_that_of_the_processor(self, tmp_path, size, expected, keep_aspect):
        c = checkpoint(tmp_path, processor={"size": size} | ({"max_size": 1333} if size == 512 else {}))
        spec = input_spec(c, FAMILIES["mask2former"], None)
        assert ((spec.width, spec.height), spec.keep_aspect) == (expected, keep_aspect)
        other = input_spec(c, FAMILIES["mask2former"], (1280, 384))
        assert (other.width, other.height, other.keep_aspect) == (1280, 384, keep_aspect)

    def test_without_a_processor_it_is_what_transformers_takes(self, tmp_path):
        spec = input_spec(checkpoint(tmp_path), FAMILIES["detr"], None)
        assert (spec.width, spec.height, spec.keep_aspect, spec.fill) == (1344, 800, True, None)
        np.testing.assert_allclose(spec.mean, [123.675, 116.28, 103.53])
        np.testing.assert_allclose(spec.std, [58.395, 57.12, 57.375])

    def test_normalisation_in_eight_bits(self, tmp_path):
        given = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5]}
        spec = input_spec(checkpoint(tmp_path, processor=given), FAMILIES["mask2former"], None)
        np.testing.assert_allclose([spec.mean, spec.std], [[127.5, 102, 76.5], [51, 63.75, 127.5]])
        spec = input_spec(checkpoint(tmp_path, processor={**given, "do_rescale": False}), FAMILIES["detr"], None)
        np.testing.assert_allclose([spec.mean, spec.std], [[0.5, 0.4, 0.3], [0.2, 0.25, 0.5]])
        spec = input_spec(checkpoint(tmp_path, processor={"do_normalize": False}), FAMILIES["detr"], None)
        np.testing.assert_allclose([spec.mean, spec.std], [[0, 0, 0], [255, 255, 255]])

    def test_the_processor_inside_another_file(self, tmp_path):
        folder = write(tmp_path / "mine")
        (folder / "processor_config.json").write_text(
            json.dumps({"image_processor": {"size": {"height": 64, "width": 96}}})
        )
        spec = input_spec(open_checkpoint(str(folder)), FAMILIES["oneformer"], None)
        assert (spec.width, spec.height) == (96, 64)

    def test_eomt_pads_with_black_and_has_one_size(self, tmp_path):
        c = checkpoint(tmp_path, processor={"do_pad": True}, kind="eomt", image_size=640)
        spec = input_spec(c, FAMILIES["eomt"], None)
        assert (spec.width, spec.height, spec.keep_aspect, spec.fill) == (640, 640, True, (0, 0, 0))
        with pytest.raises(InputError, match="position embeddings for 640x640 only"):
            input_spec(c, FAMILIES["eomt"], (1280, 640))

    @pytest.mark.parametrize("size", [(640, 200), (100, 96), (0, 96), (-32, 32)])
    def test_a_size_that_cannot_be_divided(self, tmp_path, size):
        with pytest.raises(InputError, match=f"--size {size[0]}x{size[1]}: Mask2Former takes multiples of 32"):
            input_spec(checkpoint(tmp_path), FAMILIES["mask2former"], size)

    @pytest.mark.parametrize("size", [{"height": 96}, {}, "large", {"height": 0, "width": 5}])
    def test_a_processor_without_a_size(self, tmp_path, size):
        c = checkpoint(tmp_path, processor={"size": size})
        with pytest.raises(InputError, match="give one with --size"):
            input_spec(c, FAMILIES["mask2former"], None)
        assert input_spec(c, FAMILIES["mask2former"], (64, 32)).width == 64

    @pytest.mark.parametrize("values", [[0.5], ["x"] * 3, 7])
    def test_a_processor_that_cannot_normalise(self, tmp_path, values):
        with pytest.raises(InputError, match="three numbers each are needed"):
            input_spec(checkpoint(tmp_path, processor={"image_mean": values}), FAMILIES["mask2former"], None)


class TestTask:
    @pytest.mark.parametrize(
        ("name", "config", "processor", "message"),
        [
            (
                "x",
                {"kind": "bert", "architectures": ["BertModel"]},
                None,
                "a 'bert' model; --from hf reads",
            ),
            ("x", {"kind": "mobilevit"}, None, "export it to ONNX, then use --from semantic"),
            ("x", {"kind": "bert"}, None, "Mask2Former, MaskFormer, DETR, EoMT, OneFormer, SegFormer, UPerNet"),
            ("x", {"kind": None}, None, "without model_type"),
            (
                "x",
                {"kind": "detr", "architectures": ["DetrForObjectDetection"]},
                None,
                "holds a DetrForObjectDetection, which does not segment images",
            ),
            ("x", {"architectures": ["Mask2FormerModel"]}, None, "must be a Mask2FormerForUniversalSegmentation"),
            ("oneformer-semantic", {"kind": "oneformer"}, None, "for semantic segmentation, by its name"),
            ("detr-coco-instance", {"kind": "detr"}, None, "for instance segmentation, by its name"),
        ],
    )
    def test_a_checkpoint_of_another_task(self, tmp_path, name, config, processor, message):
        given = open_checkpoint(str(write(tmp_path / name, processor=processor, **config)))
        with pytest.raises(InputError) as caught:
            task_of(given, family_of(given))
        assert message in str(caught.value) and "\n" not in str(caught.value)

    def test_a_name_that_says_panoptic_too(self, tmp_path):
        given = open_checkpoint(str(write(tmp_path / "panoptic-from-semantic", NAMES["cityscapes"])))
        assert family_of(given).name == "Mask2Former"


@pytest.fixture
def export(tmp_path, capsys):
    """Runs the command; gives its exit code and the last line of what it told. No file may be left after a failure."""
    path = tmp_path / "out" / "m.onnx"

    def run(name, *more):
        code = main(["export", "--from", "hf", str(name), "-o", str(path), *more])
        told = capsys.readouterr().err.strip().splitlines()
        assert (code == 0) == path.exists()
        assert code == 0 or not path.parent.exists() or not any(path.parent.iterdir())
        return code, told[-1]

    return run


class TestWhatIsRefused:
    def test_no_folder_of_transformers(self, export, tmp_path):
        (tmp_path / "empty").mkdir()
        assert export(tmp_path / "empty") == (
            2,
            f"vps-ros: {tmp_path / 'empty'}: has no config.json, so it is no folder that transformers saved",
        )
        (tmp_path / "empty" / "checkpoint.pt").write_bytes(b"")
        assert "leave out --from hf" in export(tmp_path / "empty")[1]
        (tmp_path / "model.onnx").write_bytes(b"")
        assert "reads the folder that save_pretrained wrote" in export(tmp_path / "model.onnx")[1]
        assert export(tmp_path / "absent") == (2, f"vps-ros: {tmp_path / 'absent'}: no such folder")

    @pytest.mark.parametrize("content", ["{", "[]", "\xff"])
    def test_a_damaged_configuration(self, export, tmp_path, content):
        folder = write(tmp_path / "mine")
        (folder / "config.json").write_bytes(content.encode("latin-1"))
        code, told = export(folder)
        assert code == 2 and "config.json: " in told

    def test_no_weights(self, export, tmp_path):
        folder = write(tmp_path / "mine", NAMES["cityscapes"], kind="eomt", image_size=64, hidden_size=32)
        code, told = export(folder)
        assert code == 2 and "has no weights (model.safetensors or pytorch_model.bin)" in told

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--tune"], "--tune goes with --from vps only"),
            (["--size", "100x100"], "multiples of 32"),
            (["--size", "wide"], "640x192"),
            (["--taxonomy", "coco-panoptic"], "has 133 classes, and"),
        ],
    )
    def test_options_that_do_not_fit(self, export, tmp_path, options, message):
        code, told = export(write(tmp_path / "mine", NAMES["cityscapes"]), *options)
        assert code == 2 and message in told

    @pytest.mark.parametrize("option", [["--fp16"], ["--taxonomy", "cityscapes"]])
    def test_options_of_other_sources(self, tmp_path, capsys, option):
        assert main(["export", str(tmp_path), "-o", str(tmp_path / "m.onnx"), *option]) == 2
        assert f"--from vps: {option[0]} goes with --from hf" in capsys.readouterr().err

    def test_a_folder_of_transformers_without_saying_so(self, tmp_path, capsys):
        assert main(["export", str(write(tmp_path / "mine")), "-o", str(tmp_path / "m.onnx")]) == 2
        assert "a folder that transformers saved; add --from hf" in capsys.readouterr().err

    def test_a_hub_that_cannot_be_reached(self, export, tmp_path, monkeypatch):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        code, told = export("them/model")
        assert code == 2
        assert told == (
            "vps-ros: them/model: no such folder, and the hub cannot be reached; get it elsewhere with "
            "`hf download them/model --local-dir DIR` and give the folder"
        )

    def test_a_name_that_no_hub_has(self, export):
        code, told = export("a..b/--c")
        assert code == 2 and "no name that the hub could have" in told


@pytest.fixture(scope="module")
def whole_eomt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eomt") / "checkpoint"
    with one_thread():
        save("eomt", folder)
        yield folder


@pytest.fixture
def eomt(whole_eomt, tmp_path):
    """A copy of a whole checkpoint, to be damaged."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in whole_eomt.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


class TestWeights:
    def test_cut_off(self, export, eomt):
        path = eomt / "model.safetensors"
        path.write_bytes(path.read_bytes()[:5000])
        code, told = export(eomt)
        assert code == 2 and "its weights do not make a EomtForUniversalSegmentation" in told

    def test_incomplete(self, export, eomt):
        weights = load_file(eomt / "model.safetensors")
        save_file(
            {k: v for k, v in weights.items() if not k.startswith("mask_head")},
            eomt / "model.safetensors",
            {"format": "pt"},
        )
        code, told = export(eomt)
        assert code == 2 and "its weights lack 6 tensors" in told and "mask_head.fc1.bias" in told

    def test_of_another_shape(self, export, eomt):
        names = NAMES["cityscapes"]
        change(eomt / "config.json", id2label={str(i): n for i, n in enumerate(names)}, label2id=None)
        code, told = export(eomt)
        assert code == 2 and "its weights do not make a EomtForUniversalSegmentation" in told

    def test_oneformer_without_its_tokenizer(self, export, tmp_path):
        """transformers makes one up, which reads nothing."""
        code, told = export(write(tmp_path / "mine", NAMES["cityscapes"], kind="oneformer"))
        assert code == 2 and "its tokenizer cannot be used" in told

    @pytest.mark.skipif(find_spec("timm") is not None, reason="needs an environment without timm")
    def test_a_backbone_of_another_library(self, export, eomt):
        """DETR's public checkpoints have theirs from timm."""
        write(eomt, COCO_IDS, kind="detr", backbone="resnet50", use_timm_backbone=True)
        code, told = export(eomt)
        assert code == 2 and told.endswith(": its network needs timm; pip install timm")

    def test_more_than_a_file_can_hold(self):
        with pytest.raises(InputError, match="x: 4.0 GB of weights; an ONNX file holds 2 GB"):
            graphs.require_size(torch.nn.Linear(1_000_000, 1_000, bias=False, device="meta"), "x")


class TestVerification:
    def test_what_runs_differently_is_not_written(self, eomt, tmp_path):
        """Attention masked at random, as in the middle of training: no two runs of it are alike."""
        weights = load_file(eomt / "model.safetensors")
        weights["attn_mask_probs"][:] = 0.5
        save_file(weights, eomt / "model.safetensors", {"format": "pt"})
        path = tmp_path / "m.onnx"
        path.write_bytes(b"before")
        with pytest.raises(RuntimeError, match="differs from torch in .* nothing was written"):
            import_checkpoint(str(eomt), path)
        assert path.read_bytes() == b"before"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "m.onnx"]

    def test_differences_are_those_of_each_output(self, tmp_path):
        """The file adds a tenth to the first output, whose largest magnitude is 255, and leaves the second."""
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 2, 2, 3])
        outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2, 2, 3]) for n in "ab"]
        nodes = [
            helper.make_node("Cast", ["image"], ["b"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["b", "tenth"], ["a"]),
        ]
        tenth = helper.make_tensor("tenth", TensorProto.FLOAT, [], [0.1])
        graph = helper.make_graph(nodes, "g", [image], outputs, [tenth])
        path = tmp_path / "m.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)

        class Twice(torch.nn.Module):
            def forward(self, x):
                return x.float(), x.float()

        image = np.array([0, 255] * 6, np.uint8).reshape(1, 2, 2, 3)
        first, second = verify.differences(Twice(), path, [image], ["a", "b"])
        assert (first.name, second.largest, second.typical) == ("a", 0, 0)
        assert first.largest == pytest.approx(0.1 / 255, rel=1e-3)
        assert first.typical == pytest.approx(0.1 / (255 / 2**0.5), rel=1e-3)
        verify.require_close([first, second], "x")
        (odd, _) = verify.differences(lambda x: (x / x, x.float()), path, [image], ["a", "b"])
        assert odd.largest == odd.typical == np.inf

        def one_pixel(x):
            wrong = x.float()
            wrong[0, 0, 0, 0] += 51
            return x.float(), wrong

        # One of twelve values differs by 51 of 255.
        for spared, expected in ((0.0, 0.2), (1 / 13, 0.2), (1 / 11, 0.0)):
            (_, two) = verify.differences(one_pixel, path, [image], ["a", "b"], spared=spared)
            assert two.largest == pytest.approx(expected)
        with pytest.raises(RuntimeError, match="x: ONNX Runtime differs from torch in a by 0.4 of the output's range"):
            verify.require_close([verify.Difference("a", 0.4, 0.001)], "x")
        verify.require_close([verify.Difference("a", 0.4, 0.001)], "x", half=True)
        with pytest.raises(RuntimeError, match="by inf"):
            verify.require_close([verify.Difference("a", np.inf, np.inf)], "x", half=True)

    def test_an_operator_that_the_provider_lacks(self, tmp_path):
        """GridSample in float64, as the tracer makes it of deformable attention where sizes are not plain numbers."""
        kinds = [TensorProto.DOUBLE] * 3
        shapes = [[1, 1, 4, 4], [1, 2, 2, 2], [1, 1, 2, 2]]
        x, grid, y = (
            helper.make_tensor_value_info(n, k, s) for n, k, s in zip(("x", "grid", "y"), kinds, shapes, strict=True)
        )
        graph = helper.make_graph([helper.make_node("GridSample", ["x", "grid"], ["y"])], "g", [x, grid], [y])
        path = tmp_path / "m.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        with pytest.raises(InputError, match="has no operator GridSample of opset 16 on cpu.*nothing was written"):
            verify.open_session(path)
