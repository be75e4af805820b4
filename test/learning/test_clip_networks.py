"""Networks on clips: copies of one frame give copies of its result; files for clips agree with torch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from support import kmax_small  # noqa: E402
from vps_ros.clips import ClipSpec  # noqa: E402
from vps_ros.commands.main import main  # noqa: E402
from vps_ros.config import Config  # noqa: E402
from vps_ros.files import model_path  # noqa: E402
from vps_ros.learning.export import onnx_file  # noqa: E402
from vps_ros.learning.kmeans.architecture import Architecture  # noqa: E402
from vps_ros.learning.kmeans.kind import Deployed, compare  # noqa: E402
from vps_ros.learning.kmeans.model import KMeansMaskTransformer  # noqa: E402
from vps_ros.learning.network_io import join_frames, split_frames  # noqa: E402
from vps_ros.learning.video_knet.architecture import Architecture as KNetArchitecture  # noqa: E402
from vps_ros.learning.video_knet.model import VideoKNet  # noqa: E402
from vps_ros.segmenters import load_segmenter  # noqa: E402
from vps_ros.segmenters.model_card import InputSpec, ModelCard, Thresholds  # noqa: E402
from vps_ros.taxonomy import CITYSCAPES  # noqa: E402

SMALL = Architecture(
    queries=12, channels=(16, 24, 32, 48), depths=(1, 1, 1, 1), layers=(1, 1, 1), query_dim=32, mask_dim=16
)


def images(count, height, width, seed=0):
    """float64 [count, 3, height, width] in -1..1, smooth noise."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 3, 6, 10, generator=rng, dtype=torch.float64) * 2 - 1
    return torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(-1, 1)


def kmeans(**more):
    torch.manual_seed(0)
    network = KMeansMaskTransformer(SMALL if not more else Architecture(**{**vars(SMALL), **more}))
    return network.double().eval(), images(3, 64, 96)


def kmax(kind, stages):
    network = kmax_small.network(kmax_small.architecture(kind, stages, dim=32))
    return kmax_small.calibrate(network, images(4, 65, 97, 1)), images(3, 65, 97)


def video_knet():
    torch.manual_seed(0)
    small = {"queries": 12, "channels": (16, 24, 32, 48), "depths": (1, 1, 1, 1), "dim": 32, "embedding_dim": 16}
    return VideoKNet(KNetArchitecture(**small), CITYSCAPES.isthing).double().eval(), images(3, 64, 96)


def predictions(output):
    """Classes and masks of all layers, those of the final one first."""
    return output.stages[::-1] if hasattr(output, "stages") else [output.final, *output.layers]


NETWORKS = {
    "video k-net": video_knet,
    "kmeans": kmeans,
    "kmeans with detail": lambda: kmeans(detail=8),
    "kmax": lambda: kmax("resnet", 4),
    "kmax at stride 2": lambda: kmax("axial_resnet", 5),
    "kmax, convnext": lambda: kmax("convnext", 4),
}


@pytest.fixture
def in_float64(monkeypatch):
    """The k-means network computes in float64 throughout, so that no near tie of two queries depends on rounding."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_frames_of_a_clip_are_stacked_into_one_tall_map():
    maps = torch.arange(2 * 3 * 4 * 5 * 6).reshape(6, 4, 5, 6)
    tall = join_frames(maps, 3)
    assert tall.shape == (2, 4, 15, 6)
    for clip in range(2):
        for frame in range(3):
            assert torch.equal(tall[clip, :, 5 * frame : 5 * frame + 5], maps[3 * clip + frame])
    assert torch.equal(split_frames(tall, 3), maps)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("frames", [2, 3])
@torch.no_grad()
def test_copies_of_a_frame_give_copies_of_its_result(name, frames):
    """Classes, embeddings and the logits of every mask are those of the image, up to the rounding of sums."""
    network, pictures = NETWORKS[name]()
    alone = network(pictures)
    network.frames = frames
    clips = network(pictures.repeat_interleave(frames, 0))
    close = {"rtol": 1e-7, "atol": 1e-7}
    torch.testing.assert_close(predictions(clips)[0].classes, predictions(alone)[0].classes, **close)
    torch.testing.assert_close(clips.embeddings, alone.embeddings, **close)
    for ours, theirs in zip(predictions(clips), predictions(alone), strict=True):
        tall = theirs.masks.repeat(1, 1, frames, 1)
        torch.testing.assert_close(ours.masks, tall, **close)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_clips_of_a_batch_do_not_influence_each_other_and_frames_of_a_clip_do(name):
    network, pictures = NETWORKS[name]()
    network.frames = 2
    a, b, c = pictures
    both = predictions(network(torch.stack([a, b, c, c])))[0]
    one, other = (predictions(network(torch.stack(pair)))[0] for pair in ((a, b), (c, c)))
    torch.testing.assert_close(both.classes, torch.cat([one.classes, other.classes]), rtol=1e-6, atol=1e-6)
    network.frames = 1
    assert (predictions(network(a[None]))[0].classes - one.classes).abs().max() > 1e-4


def test_an_exported_clip_of_copies_segments_as_the_image(tmp_path):
    """Real files of one network with random weights, with and without clips."""
    network, _ = kmeans()
    network = network.float()
    with torch.no_grad():
        network.predictor.class_head.weight.mul_(8)
    spec = InputSpec(64, 96)
    limits = Thresholds(thing=0.0, stuff=0.0, mask=0.0, overlap=0.0, mode="pixel_wise")
    paths = []
    for clip in (None, ClipSpec(3, 1)):
        card = ModelCard("small", CITYSCAPES, spec, "softmax_queries", limits, clip=clip)
        paths.append(tmp_path / f"{0 if clip is None else clip.length}.onnx")
        onnx_file.export(network, card, paths[-1], deployed=Deployed(network, spec), compare=compare)
    one, several = (load_segmenter(Config(model=str(path), threads=1)) for path in paths)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    expected, found = one(image), several.segment_clip([image] * 3)
    assert len(expected) > 1
    assert several.clip == ClipSpec(3, 1)
    for frame in found:
        # Two queries may be equal at a pixel but for rounding.
        assert (frame.map == expected.map).mean() > 0.99
        assert frame.tubes.tolist() == found[0].tubes.tolist()


def clip_model(path):
    network, _ = kmeans()
    spec = InputSpec(64, 96)
    limits = Thresholds(thing=0.0, stuff=0.0, mask=0.0, overlap=0.0, mode="pixel_wise")
    card = ModelCard("small", CITYSCAPES, spec, "softmax_queries", limits, clip=ClipSpec(2, 1))
    onnx_file.export(network.float(), card, path, deployed=Deployed(network, spec), compare=compare)
    return str(path)


class TestCommand:
    def test_integer_convolutions_of_a_model_for_clips(self, tmp_path):
        path = tmp_path / "int8.onnx"
        assert main(["export", "--from", "onnx", clip_model(tmp_path / "clips.onnx"), "-o", str(path), "--int8"]) == 0
        segmenter = load_segmenter(Config(model=str(path), threads=1))
        assert (segmenter.clip, segmenter.card.name) == (ClipSpec(2, 1), "small-int8")
        image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
        one, other = segmenter.segment_clip([image, image])
        assert one.tubes.tolist() == other.tubes.tolist() and len(one)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--batch"], "takes the frames of a clip of one camera in a run already; leave --batch out"),
            (["--postprocess", "graph"], "takes clips, whose masks become segments on the host, frame by frame"),
        ],
    )
    def test_options_for_single_images_are_refused(self, tmp_path, capsys, options, message):
        path = tmp_path / "m.onnx"
        arguments = ["export", "--from", "onnx", clip_model(tmp_path / "clips.onnx"), "-o", str(path), *options]
        assert main(arguments) == 2
        error = capsys.readouterr().err.strip()
        assert message in error and "\n" not in error and not path.exists()

    def test_a_published_checkpoint_becomes_a_model_for_clips(self, tmp_path):
        network = kmax_small.network(kmax_small.architecture("resnet", 4, dim=32, classes=19))
        kmax_small.calibrate(network, images(4, 65, 97, 1))
        torch.save({"model": kmax_small.published(network)}, tmp_path / "kmax.pth")
        path = tmp_path / "clips.onnx"
        arguments = ["export", "--from", "kmax", str(tmp_path / "kmax.pth"), "-o", str(path), "--size", "97x65"]
        assert main([*arguments, "--clip", "3", "--overlap", "2"]) == 0
        segmenter = load_segmenter(Config(model=str(path), threads=1))
        assert segmenter.clip == ClipSpec(3, 2)
        assert len(segmenter.segment_clip([np.zeros((65, 97, 3), np.uint8)] * 3)) == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--clip", "2", "--overlap", "2"], "--overlap 2: clips of 2 frames share 0 to 1 frames"),
            (["--clip", "0"], "--clip 0: give 1 to 64 frames"),
            (["--overlap", "1"], "--overlap is of clips"),
            (
                ["--clip", "2", "--batch"],
                "--clip: --batch and --postprocess graph are for models that take single images",
            ),
            (["--clip", "2", "--postprocess", "graph"], "for models that take single images; leave them out"),
            (["--clip", "2", "--from", "hf"], "--from hf: --clip goes with --from vps and --from kmax only"),
        ],
    )
    def test_impossible_options_are_one_line(self, tmp_path, capsys, arguments, message):
        assert main(["export", "run", "-o", str(tmp_path / "m.onnx"), *arguments]) == 2
        told = capsys.readouterr().err.strip()
        assert message in told
        assert "\n" not in told

    def test_a_model_with_heat_maps_is_refused(self, tmp_path, capsys):
        model = str(model_path("streets-s-float"))
        assert main(["export", model, "-o", str(tmp_path / "m.onnx"), "--clip", "2"]) == 2
        error = capsys.readouterr().err
        assert "kind streets with heat maps (dense_things) cannot take clips" in error
        assert "export it with --kernels instead, and run it with --clip-length T" in error
