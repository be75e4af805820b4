"""Models whose masks are kernels and features: the same masks, and clips of the exported file (Clip-PanoFCN)."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from support.fcn_small import SMALL, TOY  # noqa: E402
from vps_ros import Config, OnlinePanoptic  # noqa: E402
from vps_ros.learning.network_io import with_masks  # noqa: E402
from vps_ros.learning.panoptic_fcn.architecture import default_thresholds  # noqa: E402
from vps_ros.learning.panoptic_fcn.export import export  # noqa: E402
from vps_ros.learning.panoptic_fcn.inference import model_outputs  # noqa: E402
from vps_ros.learning.panoptic_fcn.model import PanopticFCN, apply_kernels  # noqa: E402
from vps_ros.segmenters.model_card import InputSpec, ModelCard  # noqa: E402


def network(**change):
    torch.manual_seed(0)
    return PanopticFCN(replace(SMALL, classes=len(TOY), **change), TOY.isthing).eval()


def test_products_and_masks_of_their_own():
    kernels, features, masks = torch.randn(2, 3, 4), torch.randn(2, 4, 5, 6), torch.randn(2, 2, 5, 6)
    found = apply_kernels(*with_masks(kernels, features, masks))
    torch.testing.assert_close(found, torch.cat([apply_kernels(kernels, features), masks], 1))


@pytest.mark.parametrize("change", [{}, {"gate": 0.0}, {"stuff": "kernels", "gate": 0.0}])
def test_kernels_give_the_masks(change):
    model = network(**change)
    with torch.no_grad():
        output = model(torch.randn(1, 3, 64, 96))
        masks, kernels = model_outputs(model, output), model_outputs(model, output, as_kernels=True)
    torch.testing.assert_close(
        apply_kernels(kernels.mask_kernels, kernels.mask_features), masks.mask_logits, atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(kernels.class_logits, masks.class_logits)
    torch.testing.assert_close(kernels.query_embeddings, masks.query_embeddings)


def test_an_exported_file_segments_clips_of_any_length(tmp_path):
    """A clip of copies of one image has its segments in each frame."""
    model, path = network(), tmp_path / "kernels.onnx"
    limits = replace(default_thresholds(model.architecture, 96, 64), stuff_area=8, thing=0.01)
    card = ModelCard("small", TOY, InputSpec(64, 96), "sigmoid", limits, "made by a test")
    assert export(model, card, path, as_kernels=True) < 1e-3
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    one, three = (OnlinePanoptic(Config(model=str(path), clip_length=n)).segmenter for n in (0, 3))
    single, clip = one(image), three.segment_clip([image.copy() for _ in range(3)])
    for found in clip:
        assert found.tubes.tolist() == clip[0].tubes.tolist()
        assert sorted(found.class_ids.tolist()) == sorted(single.class_ids.tolist())
        np.testing.assert_array_equal(
            np.append(-1, found.class_ids)[found.map], np.append(-1, single.class_ids)[single.map]
        )
