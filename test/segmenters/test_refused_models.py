"""Faulty models, and models that this machine cannot run: what the refusal says."""

import dataclasses
import json
import logging

import numpy as np
import onnxruntime
import pytest

from vps_ros.segmenters import shipped_models
from vps_ros.segmenters.model_card import InputSpec
from vps_ros.segmenters.runtime import available_providers

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

from support.threshold_model import CARD, HEIGHT, WIDTH, Model, halves, load, refusal  # noqa: E402


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
        assert "no metadata 'vps_ros'" in message and "of a model of this package" in message
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
