"""Models of the ONNX contract through ONNX Runtime: what they give."""

import dataclasses
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vps_ros.config import Config
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import Frame
from vps_ros.online import OnlinePanoptic
from vps_ros.segmenters import SEGMENTERS, Segmenter, shipped_models
from vps_ros.segmenters.model_card import InputSpec
from vps_ros.segmenters.preprocess import fit, prepare

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

from support.threshold_model import CARD, HEIGHT, TAXONOMY, WIDTH, Model, halves, load, refusal  # noqa: E402


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

    def factorised(self):
        """The same network with kernels and features instead of mask logits, and with sigmoid masks."""
        model = Model()
        model.card = dataclasses.replace(CARD, mask_activation="sigmoid").to_json()
        model.constants["kernels"] = np.array([[[-1], [1]]], np.float32)
        model.outputs |= {"mask_kernels": ("f", [1, 2, 1]), "mask_features": ("f", [1, 1, HEIGHT, WIDTH])}
        del model.outputs["mask_logits"]
        return model.replace(
            "mask_logits",
            helper.make_node("Identity", ["centred"], ["mask_features"]),
            helper.make_node("Identity", ["kernels"], ["mask_kernels"]),
        )

    def with_boxes(self, shape=(1, 2, 4)):
        model = self.factorised()
        model.constants["corners"] = np.array([[[0, 0, 8, 16], [0, 4, 32, 16]]], np.float32).reshape(shape)
        model.outputs["query_boxes"] = ("f", list(shape))
        model.nodes.append(helper.make_node("Identity", ["corners"], ["query_boxes"]))
        return model

    def test_kernels_features_and_boxes(self, tmp_path):
        result = load(self.factorised().save(tmp_path))(halves(32, 64))
        assert result.map.tolist() == [[1] * 32 + [2] * 32] * 32
        result = load(self.with_boxes().save(tmp_path))(halves(32, 64))
        assert result.map[:8].tolist() == [[1] * 16 + [0] * 48] * 8
        assert result.map[8:].tolist() == [[1] * 16 + [0] * 16 + [2] * 32] * 24

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda m: m.outputs.pop("mask_features"), "lacks the output 'mask_features'"),
            (lambda m: m.outputs.pop("mask_kernels"), "lacks the output 'mask_kernels'"),
            (lambda m: m.constants.update(kernels=np.ones((1, 2, 3), np.float32)), "output 'mask_kernels' has shape"),
            (lambda m: m.constants.update(kernels=np.ones((1, 3, 1), np.float32)), "output 'mask_kernels' has shape"),
        ],
    )
    def test_kernels_and_features_that_do_not_fit(self, tmp_path, change, message):
        model = self.factorised()
        model.outputs["mask_kernels"] = ("f", ["any", "number", "of each"])
        change(model)
        assert message in refusal(model.save(tmp_path))

    def test_masks_in_both_forms(self, tmp_path):
        model = self.factorised()
        model.outputs["mask_logits"] = ("f", [1, 2, HEIGHT, WIDTH])
        model.nodes.append(helper.make_node("Mul", ["centred", "sign"], ["mask_logits"]))
        assert "has the outputs 'mask_logits' and 'mask_kernels'" in refusal(model.save(tmp_path))

    def test_boxes_that_do_not_fit(self, tmp_path):
        model = self.with_boxes((1, 4, 2))
        model.outputs["query_boxes"] = ("f", ["any", "number", "of each"])
        assert "output 'query_boxes' has shape [1, 4, 2]" in refusal(model.save(tmp_path))
        model = self.with_boxes()
        model.card = CARD.to_json()
        assert "'query_boxes' needs mask_activation 'sigmoid'" in refusal(model.save(tmp_path))

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
