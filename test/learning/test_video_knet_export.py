"""Video K-Net as a model file: what it hands on from frame to frame, and that a reset forgets it."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from vps_ros.clips import ClipSpec
from vps_ros.commands.main import main
from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.frame import Frame
from vps_ros.online import OnlinePanoptic
from vps_ros.segmenters import load_segmenter
from vps_ros.segmenters.model_card import METADATA_KEY, ModelCard, describe_model
from vps_ros.taxonomy import CITYSCAPES

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")
pytest.importorskip("onnx", reason="onnx is of the [train] extra")

from support.knet_pairs import (  # noqa: E402
    AFTER_BRIGHT,
    AFTER_DARK,
    BRIGHT,
    CAR,
    DARK,
    PERSON,
    SMALL,
    H,
    W,
    card,
    trained,
)
from vps_ros.learning.export.verify import open_session  # noqa: E402
from vps_ros.learning.video_knet.architecture import default_thresholds  # noqa: E402
from vps_ros.learning.video_knet.export import Recurrent, export  # noqa: E402
from vps_ros.learning.video_knet.model import STATE_INPUTS, VideoKNet  # noqa: E402

CARD = card(default_thresholds(W, H))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The trained network of knet_pairs as a model file."""
    path = tmp_path_factory.mktemp("knet") / "knet.onnx"
    assert export(trained()[0], CARD, path) < 1e-4
    return path


@pytest.fixture(scope="module", params=["host", "graph"])
def either(request, path, tmp_path_factory):
    """That file, and the same with its post-processing inside."""
    if request.param == "host":
        return path
    graph = tmp_path_factory.mktemp("graph") / "knet.onnx"
    arguments = ["export", "--from", "onnx", str(path), "-o", str(graph), "--postprocess", "graph"]
    assert main(arguments) == 0
    return graph


@pytest.fixture
def segmenter(either):
    return load_segmenter(Config(model=str(either), threads=1))


def same(a, b):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("map", "class_ids", "scores", "embeddings")
    )


def centre_class(segmentation):
    """Class id of the pixel in the middle of the box."""
    return int(np.append(255, segmentation.class_ids)[segmentation.map[18, 32]])


class TestTheFile:
    def test_it_keeps_the_contract(self, path):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        kernels = {"state_kernels": [1, 15, 32], "state_inputs": [1, 15, 32], "state_kept": [1, 15], "state_seen": [1]}
        assert {i.name: i.shape for i in session.get_inputs()} == {"image": [1, H, W, 3]} | kernels
        assert {o.name: o.shape for o in session.get_outputs()} == {
            "class_logits": [1, 15, 20],
            "mask_logits": [1, 15, H // 4, W // 4],
            "query_embeddings": [1, 15, 16],
        } | {f"next_{name}": shape for name, shape in kernels.items()}
        assert ModelCard.from_json(session.get_modelmeta().custom_metadata_map[METADATA_KEY], "test") == CARD

    def test_inspect_tells_its_state(self, path):
        found = describe_model(str(path))
        assert not found.problem and [t.name for t in found.inputs] == ["image", *STATE_INPUTS]

    def test_five_frames_are_those_of_torch(self, path):
        deployed = Recurrent(trained()[0], CARD).eval()
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        noise = np.random.default_rng(0).integers(0, 256, (H, W, 3)).astype(np.uint8)
        state = tuple(trained()[0].empty_state())
        theirs = [t.numpy() for t in state]
        with torch.no_grad():
            for image in (BRIGHT[0], AFTER_BRIGHT[0], noise, DARK[0], AFTER_DARK[0]):
                ours = deployed(torch.from_numpy(image)[None], *state)
                got = session.run(None, {"image": image[None], **dict(zip(STATE_INPUTS, theirs, strict=True))})
                for a, b in zip(got, ours, strict=True):
                    np.testing.assert_allclose(a, b.numpy(), atol=1e-4, rtol=1e-4)
                state, theirs = ours[3:], got[3:]
        assert theirs[3].tolist() == [1.0] and theirs[2].sum() >= 1


def test_a_file_for_clips_gives_copies_of_a_frame_the_result_of_a_first_frame(path, tmp_path):
    """One kernel has the masks of all frames; the file has no state."""
    clips = tmp_path / "clips.onnx"
    export(deepcopy(trained()[0]), replace(CARD, clip=ClipSpec(3, 1)), clips)
    assert [t.name for t in describe_model(str(clips)).inputs] == ["image"]
    first = load_segmenter(Config(model=str(path), threads=1))(BRIGHT[0])
    several = load_segmenter(Config(model=str(clips), threads=1))
    found = several.segment_clip([BRIGHT[0]] * 3)
    assert len(found) == 3 and centre_class(first) == CAR
    for frame in found:
        assert frame.class_ids.tolist() == first.class_ids.tolist()
        assert frame.tubes.tolist() == found[0].tubes.tolist()
        # Two kernels may be equal at a pixel but for rounding.
        assert (frame.map == first.map).mean() > 0.99
        np.testing.assert_allclose(frame.scores, first.scores, atol=1e-4)
        np.testing.assert_allclose(frame.embeddings, first.embeddings, atol=1e-3)


def test_its_state_stays_outside_of_what_post_processing_replaces(path, either):
    """Inputs and outputs of the state are those of the file without post-processing."""
    sessions = [onnxruntime.InferenceSession(str(p), providers=["CPUExecutionProvider"]) for p in (path, either)]
    inputs = [{t.name: t.shape for t in one.get_inputs()} for one in sessions]
    outputs = [{t.name: t.shape for t in one.get_outputs() if t.name.startswith("next_")} for one in sessions]
    assert inputs[0] == inputs[1] and set(inputs[1]) == {"image", *STATE_INPUTS}
    assert outputs[0] == outputs[1] and len(outputs[1]) == len(STATE_INPUTS)


class TestTheSegmenter:
    def test_the_second_frame_knows_the_first(self, segmenter):
        """The second frames of both pairs are one picture: what the box is only the frame before can tell."""
        found = []
        for first in (BRIGHT, DARK):
            segmenter.reset()
            segmenter(first[0])
            found.append(segmenter(AFTER_BRIGHT[0]))
        assert [centre_class(s) for s in found] == [CAR, PERSON]
        segmenter.reset()
        alone = segmenter(AFTER_BRIGHT[0])
        assert not any(same(alone, s) for s in found)

    def test_after_a_reset_a_frame_is_a_first_one(self, either, segmenter):
        first = segmenter(BRIGHT[0])
        second = segmenter(AFTER_BRIGHT[0])
        segmenter.reset()
        assert same(segmenter(BRIGHT[0]), first)
        assert same(segmenter(AFTER_BRIGHT[0]), second)
        assert same(load_segmenter(Config(model=str(either), threads=1))(BRIGHT[0]), first)

    def test_what_is_inside_the_graph_gives_what_the_host_does(self, path, either):
        """Over a sequence, at the size of the network and at another camera's."""
        host, inside = (load_segmenter(Config(model=str(one), threads=1)) for one in (path, either))
        assert inside.recurrent and host.recurrent
        for image in (BRIGHT[0], AFTER_BRIGHT[0], DARK[0], AFTER_DARK[0], np.repeat(DARK[0], 2, axis=1)):
            a, b = host(image), inside(image)
            assert len(a) >= 2 and a.class_ids.tolist() == b.class_ids.tolist()
            np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
            np.testing.assert_allclose(a.embeddings, b.embeddings, atol=1e-4)
            if image.shape[:2] == (H, W):
                np.testing.assert_array_equal(a.map, b.map)


class TestThePipeline:
    @pytest.fixture
    def pipeline(self, either):
        return OnlinePanoptic(Config(model=str(either), tracker="quasi_dense", threads=1))

    def step(self, pipeline, image, stamp):
        return pipeline.step(Frame(np.ascontiguousarray(image), stamp))

    def described(self, panoptic):
        return [(s.class_id, s.score, s.area) for s in panoptic.segments]

    @pytest.mark.parametrize(
        ("reset", "stamp"),
        [(True, 400_000_000), (False, 0), (False, 60_000_000_000)],
        ids=["reset", "time that jumps back", "a long gap"],
    )
    def test_a_new_sequence_begins_without_a_state(self, either, pipeline, reset, stamp):
        alone = self.step(OnlinePanoptic(Config(model=str(either), threads=1)), AFTER_BRIGHT[0], 0)
        for i in (1, 2, 3):
            self.step(pipeline, BRIGHT[0], i * 100_000_000)
        if reset:
            pipeline.reset()
        first = self.step(pipeline, AFTER_BRIGHT[0], stamp)
        assert first.sequence_id == 1
        assert self.described(first) == self.described(alone)
        again = self.step(pipeline, DARK[0], stamp + 100_000_000)
        assert again.sequence_id == 1
        following = self.step(pipeline, AFTER_BRIGHT[0], stamp + 200_000_000)
        assert self.described(following) != self.described(alone)

    def test_its_embeddings_carry_identities(self, pipeline):
        frames = [BRIGHT, AFTER_BRIGHT, BRIGHT, AFTER_BRIGHT]
        ids = []
        for i, frame in enumerate(frames):
            found = self.step(pipeline, frame[0], i * 100_000_000)
            ids += [s.track_id for s in found.segments if s.is_thing]
        assert len(ids) == len(frames) and len(set(ids)) == 1


def test_what_is_handed_on_goes_by_the_thresholds_of_the_file(path, tmp_path):
    """Which are those that --tune has found, where it was given: no score reaches one."""
    strict = tmp_path / "strict.onnx"
    export(trained()[0], replace(CARD, thresholds=replace(CARD.thresholds, thing=1.0)), strict)
    first = {
        "image": BRIGHT[0][None],
        **{n: t.numpy() for n, t in zip(STATE_INPUTS, trained()[0].empty_state(), strict=True)},
    }
    kept = [open_session(p).run(["next_state_kept"], first)[0].sum() for p in (path, strict)]
    assert kept[0] >= 1 and kept[1] == 0


class TestWhatIsRefused:
    def test_a_card_that_does_not_fit(self, tmp_path):
        model = VideoKNet(SMALL, CITYSCAPES.isthing)
        for wrong, message in (
            (card(default_thresholds(W, H), size=(W, 33)), "64x33: both sides must be multiples of 32"),
            (replace(CARD, taxonomy=replace(CITYSCAPES, classes=CITYSCAPES.classes[:5])), "not the model's 19"),
            (
                replace(CARD, taxonomy=replace(CITYSCAPES, classes=CITYSCAPES.classes[::-1])),
                "things and stuff in order",
            ),
        ):
            with pytest.raises(InputError, match=message):
                export(model, wrong, tmp_path / "m.onnx")
        assert not any(tmp_path.iterdir())

    def test_a_network_that_computes_nothing_is_not_written(self, tmp_path):
        model = VideoKNet(SMALL, CITYSCAPES.isthing)
        torch.nn.init.constant_(model.linking.out.bias, float("nan"))
        torch.nn.init.constant_(model.embedding_head[-1].bias, float("nan"))
        with pytest.raises(RuntimeError, match="nothing was written"):
            export(model, CARD, tmp_path / "m.onnx")
        assert not any(tmp_path.iterdir())
