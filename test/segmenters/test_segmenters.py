"""Models of the ONNX contract through ONNX Runtime: what they give, and how faulty ones are refused."""

import dataclasses
import json
import logging
from fractions import Fraction

import cv2
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vps_ros.config import Config
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import Frame
from vps_ros.online import OnlinePanoptic
from vps_ros.segmenters import SEGMENTERS, Segmenter, load_segmenter, shipped_models
from vps_ros.segmenters.model_card import METADATA_KEY, InputSpec, ModelCard, Thresholds
from vps_ros.segmenters.preprocess import fit, prepare
from vps_ros.segmenters.runtime import available_providers
from vps_ros.taxonomy import ClassInfo, Taxonomy

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

TAXONOMY = Taxonomy("two", (ClassInfo(0, "dark", False, (0, 0, 0)), ClassInfo(1, "bright", True, (255, 255, 255))))
HEIGHT, WIDTH = 16, 32
CARD = ModelCard("threshold", TAXONOMY, InputSpec(HEIGHT, WIDTH), "softmax_queries", Thresholds(overlap=0.5))
TYPES = {"f": TensorProto.FLOAT, "u8": TensorProto.UINT8, "i32": TensorProto.INT32, "i64": TensorProto.INT64}


class Model:
    """A network of two queries: one claims what is darker than grey 128, the other what is brighter."""

    def __init__(self):
        self.card = CARD.to_json()
        self.inputs = {"image": ("u8", [1, HEIGHT, WIDTH, 3])}
        self.outputs = {
            "class_logits": ("f", [1, 2, 3]),
            "mask_logits": ("f", [1, 2, HEIGHT, WIDTH]),
            "query_embeddings": ("f", [1, 2, 4]),
        }
        self.constants = {
            "grey": np.float32(127.5),
            "sign": np.array([-1, 1], np.float32).reshape(1, 2, 1, 1),
            "classes": np.array([[[9, 0, 0], [0, 9, 0]]], np.float32),
            "appearance": np.eye(2, 4, dtype=np.float32)[None],
            "channels": np.array([3], np.int64),
            "middle": np.array([1], np.int64),
        }
        self.nodes = [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float"], ["mean"], axes=[3], keepdims=0),
            helper.make_node("Unsqueeze", ["mean", "middle"], ["one"]),
            helper.make_node("Sub", ["one", "grey"], ["centred"]),
            helper.make_node("Mul", ["centred", "sign"], ["mask_logits"]),
            helper.make_node("Identity", ["classes"], ["class_logits"]),
            helper.make_node("Identity", ["appearance"], ["query_embeddings"]),
        ]

    def replace(self, output, *nodes):
        """Other nodes in place of the one that makes an output."""
        self.nodes = [node for node in self.nodes if output not in node.output] + list(nodes)
        return self

    def save(self, folder):
        values = [
            [helper.make_tensor_value_info(name, TYPES[kind], shape) for name, (kind, shape) in which.items()]
            for which in (self.inputs, self.outputs)
        ]
        constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "graph", *values, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        if self.card is not None:
            helper.set_model_props(model, {METADATA_KEY: self.card})
        path = folder / "model.onnx"
        onnx.save(model, path)
        return path


def load(path, **parameters):
    return load_segmenter(Config(model=str(path), threads=1, **parameters))


def refusal(path, **parameters):
    with pytest.raises(InputError) as caught:
        load(path, **parameters)
    message = str(caught.value)
    assert "\n" not in message
    return message


def halves(height, width):
    """Left half black, right half white."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :] = 255
    return image


class TestWhatAModelGives:
    def test_segments_at_camera_resolution(self, tmp_path):
        segmenter = load(Model().save(tmp_path))
        result = segmenter(halves(64, 128))
        assert result.map.shape == (64, 128)
        assert (result.map[:, :64] == 1).all()
        assert (result.map[:, 64:] == 2).all()
        assert result.class_ids.tolist() == [0, 1]
        assert result.areas.tolist() == [64 * 64] * 2
        assert result.boxes.tolist() == [[0, 0, 64, 64], [64, 0, 128, 64]]
        assert result.embeddings.tolist() == np.eye(2, 4).tolist()
        assert segmenter.providers == ("cpu",)
        assert segmenter.taxonomy == TAXONOMY
        assert segmenter.card.name == "threshold"
        assert set(segmenter.milliseconds) == {"preprocess", "network", "postprocess"}

    def test_the_same_image_twice_gives_the_same(self, tmp_path):
        segmenter = load(Model().save(tmp_path))
        image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
        first, second = segmenter(image), segmenter(image)
        np.testing.assert_array_equal(first.map, second.map)

    def test_config_replaces_the_thresholds_of_the_model(self, tmp_path):
        path = Model().save(tmp_path)
        image = halves(16, 32)
        assert load(path, thing_threshold=1.0)(image).class_ids.tolist() == [0]
        assert load(path, stuff_threshold=1.0)(image).class_ids.tolist() == [1]
        assert load(path, thing_area=300)(image).class_ids.tolist() == [0]
        assert load(path, stuff_area=256, thing_area=256)(image).class_ids.tolist() == [0, 1]
        segmenter = load(path)
        assert segmenter.thresholds == CARD.thresholds
        segmenter.configure(Config(mask_threshold=0.7, overlap_threshold=0.0, postprocess="pixel_wise"))
        expected = dataclasses.replace(CARD.thresholds, mask=0.7, overlap=0.0, mode="pixel_wise")
        assert segmenter.thresholds == expected

    @pytest.mark.parametrize(("fill", "grey"), [(None, 128), ((255, 255, 255), 255), ((0, 0, 0), 0)])
    def test_the_padding_has_the_colour_that_the_card_says(self, tmp_path, fill, grey):
        """A dark camera image of 16 x 16 fills the left half of the input; the mean of all columns is an output."""
        model = Model()
        spec = dataclasses.replace(CARD.input, keep_aspect=True, fill=fill, mean=(128.0, 128.0, 128.0))
        model.card = dataclasses.replace(CARD, input=spec).to_json()
        model.replace("query_embeddings", helper.make_node("ReduceMean", ["mean"], ["level"], axes=[1], keepdims=0))
        model.nodes.append(helper.make_node("Concat", ["level", "level"], ["rows"], axis=0))
        model.constants["first"] = np.array([0], np.int64)
        model.nodes.append(helper.make_node("Unsqueeze", ["rows", "first"], ["query_embeddings"]))
        model.outputs["query_embeddings"] = ("f", [1, 2, WIDTH])
        result = load(model.save(tmp_path))(np.full((16, 16, 3), 10, np.uint8))
        assert result.embeddings[0].tolist() == [10] * 16 + [grey] * 16

    def in_graph(self, folder):
        """A model whose own graph says which of two segments is where the image is bright."""
        model = Model()
        model.constants |= {
            "scores": np.array([[0.9, 0.6]], np.float32),
            "which": np.array([[1, 0]], np.int32),
        }
        model.outputs = {
            "segment_map": ("u8", [1, HEIGHT, WIDTH]),
            "slot_class": ("i32", [1, 2]),
            "slot_score": ("f", [1, 2]),
            "query_embeddings": ("f", [1, 2, 4]),
        }
        model.replace("mask_logits", helper.make_node("Greater", ["mean", "grey"], ["bright"]))
        model.replace(
            "class_logits",
            helper.make_node("Cast", ["bright"], ["segment_map"], to=TensorProto.UINT8),
            helper.make_node("Identity", ["which"], ["slot_class"]),
            helper.make_node("Identity", ["scores"], ["slot_score"]),
        )
        return model.save(folder)

    def test_post_processing_inside_the_graph(self, tmp_path):
        result = load(self.in_graph(tmp_path))(halves(32, 64))
        assert result.class_ids.tolist() == [1, 0]
        assert result.map[0].tolist() == [1] * 32 + [2] * 32
        np.testing.assert_allclose(result.scores, [0.9, 0.6])

    def test_what_is_fixed_inside_the_graph_cannot_be_changed(self, tmp_path):
        path = self.in_graph(tmp_path)
        message = refusal(path, thing_threshold=0.6, postprocess="pixel_wise")
        assert message.startswith("thing_threshold, postprocess: fixed inside the graph of")
        assert "--postprocess host" in message
        segmenter = load(path, thing_threshold=CARD.thresholds.thing)
        with pytest.raises(InputError, match="stuff_area"):
            segmenter.configure(Config(stuff_area=3))
        assert segmenter.thresholds == CARD.thresholds

    def test_a_shipped_name(self):
        for name in shipped_models():
            segmenter = load(name)
            assert segmenter(np.zeros((120, 400, 3), np.uint8)).map.shape == (120, 400)


class TestRecurrentState:
    def recurrent(self):
        """Mask logits are those of this image plus those of all before it."""
        model = Model()
        model.inputs["state_sum"] = ("f", [1, 2, HEIGHT, WIDTH])
        model.outputs["next_state_sum"] = ("f", [1, 2, HEIGHT, WIDTH])
        return model.replace(
            "mask_logits",
            helper.make_node("Mul", ["centred", "sign"], ["now"]),
            helper.make_node("Add", ["now", "state_sum"], ["mask_logits"]),
            helper.make_node("Identity", ["mask_logits"], ["next_state_sum"]),
        )

    def test_state_is_fed_back_until_a_reset(self, tmp_path):
        segmenter = load(self.recurrent().save(tmp_path))
        dark, bright = np.full((16, 32, 3), 27, np.uint8), np.full((16, 32, 3), 178, np.uint8)
        assert segmenter(dark).class_ids.tolist() == [0]
        # -100 then +50: the sum is still dark.
        assert segmenter(bright).class_ids.tolist() == [0]
        segmenter.reset()
        assert segmenter(bright).class_ids.tolist() == [1]

    def test_the_warm_up_leaves_no_trace(self, tmp_path):
        segmenter = load(self.recurrent().save(tmp_path))
        # Brighter than grey by half a step, which the warm-up's grey of 127 would balance.
        assert segmenter(np.full((16, 32, 3), 128, np.uint8)).class_ids.tolist() == [1]

    def test_state_without_its_next(self, tmp_path):
        model = self.recurrent()
        del model.outputs["next_state_sum"]
        assert "'state_sum' has no output 'next_state_sum'" in refusal(model.save(tmp_path))

    def test_next_without_its_state(self, tmp_path):
        model = Model()
        model.outputs["next_state_sum"] = ("f", [1, 2, HEIGHT, WIDTH])
        model.nodes.append(helper.make_node("Identity", ["mask_logits"], ["next_state_sum"]))
        assert "'next_state_sum' has no input 'state_sum'" in refusal(model.save(tmp_path))

    def test_state_of_open_size(self, tmp_path):
        model = self.recurrent()
        model.inputs["state_sum"] = ("f", [1, 2, "rows", WIDTH])
        assert "fix every dimension" in refusal(model.save(tmp_path))

    def test_state_that_changes_its_type(self, tmp_path):
        model = self.recurrent()
        model.outputs["next_state_sum"] = ("i32", [1, 2, HEIGHT, WIDTH])
        model.replace(
            "next_state_sum", helper.make_node("Cast", ["mask_logits"], ["next_state_sum"], to=TensorProto.INT32)
        )
        assert "tensor(int32)" in refusal(model.save(tmp_path))

    def test_state_that_changes_its_shape(self, tmp_path):
        model = self.recurrent()
        model.inputs["state_sum"] = ("f", [1, 1, HEIGHT, WIDTH])
        model.outputs["next_state_sum"] = ("f", ["any", 2, HEIGHT, WIDTH])
        assert "next_state_sum" in refusal(model.save(tmp_path))


class TestFramesThatMustBeDropped:
    def test_not_a_number(self, tmp_path):
        """An all-black image makes the network divide zero by zero; the next frame is fine."""
        model = Model()
        model.nodes += [
            helper.make_node("ReduceMax", ["float"], ["top"], keepdims=0),
            helper.make_node("Div", ["top", "top"], ["unity"]),
        ]
        model.replace("class_logits", helper.make_node("Mul", ["classes", "unity"], ["class_logits"]))
        segmenter = load(model.save(tmp_path))
        with pytest.raises(DroppedFrame) as caught:
            segmenter(np.zeros((16, 32, 3), np.uint8))
        assert str(caught.value) == "model.onnx: the network gave NaN or infinity in class_logits; the frame is dropped"
        assert len(segmenter(np.full((16, 32, 3), 255, np.uint8))) == 1

    def test_state_is_not_poisoned_by_a_dropped_frame(self, tmp_path):
        model = TestRecurrentState().recurrent()
        model.constants["one"] = np.float32(1)
        model.nodes.append(helper.make_node("ReduceMax", ["float"], ["top"], keepdims=0))
        model.nodes.append(helper.make_node("Div", ["top", "top"], ["unity"]))
        model.nodes = [n for n in model.nodes if "now" not in n.output] + [
            helper.make_node("Mul", ["centred", "sign"], ["raw"]),
            helper.make_node("Mul", ["raw", "unity"], ["now"]),
        ]
        order = ["float", "mean", "one", "centred", "top", "unity", "raw", "now"]
        model.nodes.sort(key=lambda n: order.index(n.output[0]) if n.output[0] in order else len(order))
        del model.constants["one"]
        segmenter = load(model.save(tmp_path))
        with pytest.raises(DroppedFrame):
            segmenter(np.zeros((16, 32, 3), np.uint8))
        assert segmenter(np.full((16, 32, 3), 200, np.uint8)).class_ids.tolist() == [1]


class TestWhatIsRefused:
    def test_no_such_file(self, tmp_path):
        message = refusal(tmp_path / "none.onnx")
        assert "no such file" in message
        for name in shipped_models():
            assert name in message

    def test_a_folder(self, tmp_path):
        assert "a folder" in refusal(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08" + bytes(200)])
    def test_not_onnx(self, tmp_path, content):
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        message = refusal(path)
        assert str(path) in message
        assert "vps-ros export" in message

    def test_cut_off(self, tmp_path):
        path = Model().save(tmp_path)
        path.write_bytes(path.read_bytes()[:-100])
        assert "cannot load it" in refusal(path)

    def test_no_metadata(self, tmp_path):
        model = Model()
        model.card = None
        message = refusal(model.save(tmp_path))
        assert "no metadata 'vps_ros'" in message
        assert "vps-ros export" in message

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (lambda card: card.pop("taxonomy"), "lacks 'taxonomy'"),
            (lambda card: card.pop("input"), "lacks 'input'"),
            (lambda card: card.pop("thresholds"), "lacks 'thresholds'"),
            (lambda card: card.update(contract=2), "contract 2, this release reads 1"),
            (lambda card: card.update(mask_activation="relu"), "'relu' is not one of softmax_queries, sigmoid"),
            (lambda card: card.update(taxonomy=[]), "not a list of classes"),
            (lambda card: card["taxonomy"][0].pop("color"), "each class needs"),
            (lambda card: card["taxonomy"][0].update(id=1), "class ids repeat"),
            (lambda card: card["input"].pop("height"), "input: lacks 'height'"),
            (lambda card: card["input"].update(width="32"), "input.width: '32' is not of type int"),
            (lambda card: card["input"].update(height=0), "input.height: 0 is outside 1..inf"),
            (lambda card: card["input"].update(mean=[1, 2]), "input.mean: [1, 2] has 2 entries, not 3"),
            (lambda card: card["input"].update(keep_aspect="yes"), "input.keep_aspect: 'yes' is not of type bool"),
            (lambda card: card["thresholds"].update(thing=1.5), "thresholds.thing: 1.5 is outside 0..1"),
            (lambda card: card["thresholds"].update(mask=float("nan")), "thresholds.mask: nan is not a finite number"),
            (lambda card: card["thresholds"].update(mode="both"), "thresholds.mode: 'both' is not one of mask_wise"),
            (lambda card: card["thresholds"].update(mode="argmax"), "argmax needs sigmoid masks"),
            (lambda card: card["thresholds"].update(mask_grid=-1), "thresholds.mask_grid: -1 is outside 0..inf"),
            (lambda card: card["input"].update(fill=[0, 0]), "input.fill: [0, 0] has 2 entries, not 3"),
            (lambda card: card["thresholds"].update(thing_area=-1), "thresholds.thing_area: -1 is outside 0..inf"),
            (
                lambda card: card["thresholds"].update(things=1),
                "unknown entry 'things'; did you mean thing?",
            ),
            (lambda card: card.update(input=3), "input: not a mapping"),
        ],
    )
    def test_metadata_with_a_fault(self, tmp_path, change, expected):
        model = Model()
        card = json.loads(model.card)
        change(card)
        model.card = json.dumps(card)
        message = refusal(model.save(tmp_path))
        assert expected in message
        assert "model.onnx" in message

    @pytest.mark.parametrize("text", ["", "{", "[]", "3"])
    def test_metadata_that_is_no_object(self, tmp_path, text):
        model = Model()
        model.card = text
        assert "vps_ros" in refusal(model.save(tmp_path))

    def test_input_of_another_name(self, tmp_path):
        model = Model()
        model.inputs = {"pixels": model.inputs["image"]}
        model.nodes[0].input[0] = "pixels"
        assert "lacks the input 'image' (it has pixels)" in refusal(model.save(tmp_path))

    def test_an_input_too_many(self, tmp_path):
        model = Model()
        model.inputs["prompt"] = ("f", [1])
        model.outputs["echo"] = ("f", [1])
        model.nodes.append(helper.make_node("Identity", ["prompt"], ["echo"]))
        assert "input 'prompt' is none of image, state_" in refusal(model.save(tmp_path))

    def test_input_of_floats(self, tmp_path):
        model = Model()
        model.inputs["image"] = ("f", [1, HEIGHT, WIDTH, 3])
        assert "'image' is tensor(float), not tensor(uint8)" in refusal(model.save(tmp_path))

    def test_input_of_another_size_than_the_card_says(self, tmp_path):
        model = Model()
        model.card = dataclasses.replace(CARD, input=InputSpec(HEIGHT, 48)).to_json()
        assert "shape [1, 16, 32, 3], not [1, 16, 48, 3]" in refusal(model.save(tmp_path))

    def test_input_of_another_rank(self, tmp_path):
        model = Model()
        model.inputs["image"] = ("u8", [HEIGHT, WIDTH, 3])
        model.nodes = []
        for name, (_, shape) in model.outputs.items():
            model.constants[f"c_{name}"] = np.zeros(shape, np.float32)
            model.nodes.append(helper.make_node("Identity", [f"c_{name}"], [name]))
        assert "input 'image' has shape [16, 32, 3], not [1, 16, 32, 3]" in refusal(model.save(tmp_path))

    @pytest.mark.parametrize("name", ["class_logits", "mask_logits"])
    def test_output_that_is_missing(self, tmp_path, name):
        model = Model()
        del model.outputs[name]
        assert f"lacks the output '{name}'" in refusal(model.save(tmp_path))

    def test_embeddings_are_optional(self, tmp_path):
        image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
        model = Model()
        before = load(model.save(tmp_path))(image)
        del model.outputs["query_embeddings"]
        after = load(model.save(tmp_path))(image)
        assert before.embeddings is not None and after.embeddings is None
        assert np.array_equal(before.map, after.map) and len(after.class_ids)

    def test_output_of_integers(self, tmp_path):
        model = Model()
        model.outputs["class_logits"] = ("i64", [1, 2, 3])
        model.replace("class_logits", helper.make_node("Cast", ["classes"], ["class_logits"], to=TensorProto.INT64))
        assert "'class_logits' is tensor(int64)" in refusal(model.save(tmp_path))

    def test_classes_that_do_not_fit_the_taxonomy(self, tmp_path):
        model = Model()
        model.constants["classes"] = np.zeros((1, 2, 4), np.float32)
        model.outputs["class_logits"] = ("f", [1, 2, 4])
        assert "'class_logits' has shape [1, 2, 4], not [1, any, 3]" in refusal(model.save(tmp_path))

    def test_classes_that_do_not_fit_the_taxonomy_where_the_file_does_not_say(self, tmp_path):
        model = Model()
        model.constants["classes"] = np.zeros((1, 2, 4), np.float32)
        model.outputs["class_logits"] = ("f", [1, 2, "classes"])
        assert "'class_logits' has shape [1, 2, 4]" in refusal(model.save(tmp_path))

    def test_another_number_of_queries(self, tmp_path):
        model = Model()
        model.constants["appearance"] = np.zeros((1, 5, 4), np.float32)
        model.outputs["query_embeddings"] = ("f", [1, 5, 4])
        assert "not [1, 2, any]" in refusal(model.save(tmp_path))

    def test_a_network_that_fails(self, tmp_path):
        model = Model()
        model.constants["odd"] = np.zeros((1, 2, 7, 1), np.float32)
        model.nodes.append(helper.make_node("Cast", ["float"], ["as_int"], to=TensorProto.INT64))
        model.constants["far"] = np.array([10**6], np.int64)
        model.nodes.append(helper.make_node("Gather", ["mean", "index"], ["picked"], axis=0))
        model.nodes.insert(-1, helper.make_node("ReduceMax", ["as_int"], ["index"], keepdims=0))
        model.outputs["picked"] = ("f", ["a", "b"])
        assert "fails on its input size" in refusal(model.save(tmp_path))


class TestWhatTheMachineLacks:
    def test_an_operator(self, tmp_path):
        model = Model().replace("class_logits", helper.make_node("Gelu", ["classes"], ["class_logits"]))
        message = refusal(model.save(tmp_path))
        assert "model.onnx: ONNX Runtime" in message and "has no operator Gelu of opset 17 on cpu" in message

    def test_memory(self, tmp_path):
        model = Model()
        model.constants["huge"] = np.array([2**29, 2**29], np.int64)
        model.nodes += [
            helper.make_node("ReduceMax", ["centred"], ["top"], keepdims=0),
            helper.make_node("Expand", ["top", "huge"], ["wide"]),
            helper.make_node("ReduceMax", ["wide"], ["topmost"], keepdims=0),
            helper.make_node("Add", ["classes", "topmost"], ["class_logits"]),
        ]
        model.nodes = [n for n in model.nodes if n.output[0] != "class_logits" or n.op_type == "Add"]
        assert "model.onnx: not enough memory on cpu, 1,099,511,627,776 MiB more were requested" in refusal(
            model.save(tmp_path)
        )


class TestProviders:
    def test_what_is_there_is_used_in_order(self):
        assert available_providers(("cpu",), False) == ("cpu",)

    @pytest.mark.parametrize("name", ["cuda", "tensorrt"])
    def test_one_that_is_not_there_is_an_error_that_says_what_is(self, tmp_path, name, monkeypatch):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
        path = Model().save(tmp_path)
        for wanted in ((name,), (name, "cpu"), ("cpu", name)):
            message = refusal(path, providers=wanted)
            assert f"provider {name} is not available here (there is: cpu)" in message
            assert "onnxruntime-gpu" in message
            assert "allow_fallback" in message

    def test_falling_back_when_asked_to_is_said(self, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
        with caplog.at_level(logging.WARNING):
            segmenter = load(Model().save(tmp_path), providers=("cuda",), allow_fallback=True)
        assert segmenter.providers == ("cpu",)
        assert "provider cuda is not available here" in caplog.text
        assert "using cpu instead" in caplog.text
        assert len(segmenter(halves(16, 32))) == 2

    @pytest.mark.skipif(
        "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="needs a machine without CUDA"
    )
    def test_a_provider_that_is_installed_but_does_not_start(self, tmp_path, monkeypatch, caplog):
        """ONNX Runtime itself goes on with the CPU then, and says nothing to the caller."""
        both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
        path = Model().save(tmp_path)
        message = refusal(path, providers=("cuda", "cpu"))
        assert "provider cuda is installed but did not start (in use: cpu)" in message
        with caplog.at_level(logging.WARNING):
            segmenter = load(path, providers=("cuda", "cpu"), allow_fallback=True)
        assert segmenter.providers == ("cpu",)
        assert "did not start" in caplog.text


class TestPreprocessing:
    def test_an_image_of_the_right_size_is_not_copied(self):
        image = np.random.default_rng(0).integers(0, 256, (16, 32, 3), np.uint8)
        for keep_aspect in (False, True):
            ready = prepare(image, fit(InputSpec(16, 32, keep_aspect=keep_aspect), 16, 32), (0, 0, 0))
            assert ready.shape == (1, 16, 32, 3)
            assert np.shares_memory(ready, image)

    @pytest.mark.parametrize(
        ("camera", "resized"),
        [((32, 64), (16, 32)), ((100, 100), (16, 16)), ((10, 400), (1, 32)), ((375, 1242), (10, 32))],
    )
    def test_keep_aspect_fits_the_image_into_the_input(self, camera, resized):
        assert fit(InputSpec(16, 32, keep_aspect=True), *camera).resized == resized
        assert fit(InputSpec(16, 32), *camera).resized == (16, 32)

    def test_padding_lies_right_and_below(self):
        image = np.full((64, 64, 3), 200, np.uint8)
        ready = prepare(image, fit(InputSpec(16, 32, keep_aspect=True), 64, 64), (1, 2, 3))[0]
        assert (ready[:, :16] == 200).all()
        assert (ready[:, 16:] == (1, 2, 3)).all()
        ready = prepare(image[:16], fit(InputSpec(16, 32, keep_aspect=True), 16, 64), (1, 2, 3))[0]
        assert (ready[:8] == 200).all()
        assert (ready[8:] == (1, 2, 3)).all()

    def test_shrinking_averages_instead_of_skipping(self):
        """A one-pixel checkerboard is grey when it shrinks; sampling would leave black and white."""
        board = np.indices((256, 512)).sum(0) % 2 * 255
        image = np.repeat(board[..., None], 3, 2).astype(np.uint8)
        for camera in (image, image[:250, :505]):
            ready = prepare(camera, fit(InputSpec(16, 32), *camera.shape[:2]), (0, 0, 0))
            assert np.abs(ready.astype(int) - 128).max() <= 8

    def test_shrinking_is_that_of_opencv(self):
        image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (300, 700, 3), np.uint8), (0, 0), 2)
        ready = prepare(image, fit(InputSpec(40, 100), 300, 700), (0, 0, 0))[0]
        expected = cv2.resize(image, (100, 40), interpolation=cv2.INTER_AREA)
        assert np.abs(ready.astype(int) - expected).mean() < 1.5

    def test_a_view_with_gaps_is_made_contiguous(self):
        image = np.zeros((16, 64, 3), np.uint8)[:, ::2]
        assert prepare(image, fit(InputSpec(16, 32), 16, 32), (0, 0, 0)).flags.c_contiguous

    @settings(max_examples=200, deadline=None)
    @given(
        st.tuples(*[st.integers(1, 600)] * 2),
        st.tuples(*[st.integers(1, 300)] * 2),
        st.integers(1, 80),
        st.booleans(),
        st.booleans(),
    )
    def test_a_pixel_that_lies_on_a_node_lies_exactly_there(self, camera, size, nodes, keep_aspect, align_corners):
        spec = InputSpec(*size, keep_aspect=keep_aspect, align_corners=align_corners)
        where = fit(spec, *camera)
        for i, place in enumerate(where.positions(0, nodes)):
            if align_corners:
                exact = Fraction(i * (where.resized[0] - 1), max(camera[0] - 1, 1))
                exact *= Fraction(nodes - 1, max(size[0] - 1, 1))
            else:
                exact = Fraction((2 * i + 1) * where.resized[0] * nodes, 2 * camera[0] * size[0]) - Fraction(1, 2)
            assert abs(Fraction(float(place)) - exact) <= (0 if exact.denominator == 1 else Fraction(1, 10**9))


BRIGHTNESS = """
import numpy as np
from vps_ros.segmenters import segmentation_from_map
from vps_ros.taxonomy import Taxonomy

class BrightnessSegmenter:
    providers, recurrent, milliseconds = (), False, {}
    taxonomy = Taxonomy.from_names(["lamp"])

    def __init__(self, path, parameters):
        self.name, self.limit = path.stem, float(path.read_text())
        self.configure(parameters)

    def configure(self, parameters):
        self.least_score = parameters.thing_threshold

    def __call__(self, image):
        bright = image.mean(axis=2) > self.limit
        score = bright.mean()
        return segmentation_from_map((bright & (score >= self.least_score)).astype(int), [0], [score], self.taxonomy)

    def reset(self): ...
    def interrupt(self): ...
"""


def test_a_new_segmenter_is_one_file_and_one_line(tmp_path, monkeypatch):
    """A class, and the suffix of its model files in the registry: the pipeline runs it by the name of a file."""
    (tmp_path / "brightness_segmenter.py").write_text(BRIGHTNESS)
    (tmp_path / "lamps.limit").write_text("100")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SEGMENTERS, ".limit", "brightness_segmenter:BrightnessSegmenter")
    image = np.zeros((4, 8, 3), np.uint8)
    image[1:3, 2:6] = 200
    pipeline = OnlinePanoptic(Config(model=str(tmp_path / "lamps.limit"), tracker="iou"))
    assert isinstance(pipeline.segmenter, Segmenter) and pipeline.segmenter.name == "lamps"
    first, second = (pipeline.step(Frame(image, stamp)) for stamp in (0, 10**8))
    (track,) = second.visible
    assert (track.track_id, track.box, track.score) == (first.visible[0].track_id, (2, 1, 6, 3), 0.25)
    pipeline.configure(Config(model=str(tmp_path / "lamps.limit"), tracker="iou", thing_threshold=0.5))
    assert not pipeline.step(Frame(image, 2 * 10**8)).visible
