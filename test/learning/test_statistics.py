"""Batch normalisation with the statistics of unlabelled images."""

import numpy as np
import pytest

from vps_ros.segmenters.model_card import InputSpec

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from vps_ros.learning.kinds import normalised  # noqa: E402
from vps_ros.learning.training.statistics import BATCH, adapt_statistics  # noqa: E402

SPEC = InputSpec(8, 16, mean=(100.0, 110.0, 120.0), std=(50.0, 60.0, 70.0))


class Network(torch.nn.Module):
    """One batch normalisation in the backbone, one outside of it."""

    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Sequential(torch.nn.BatchNorm2d(3, momentum=0.3))
        self.decoder = torch.nn.BatchNorm2d(3)


class Kind:
    def predict(self, network, images):
        return network.decoder(network.backbone(images))


def test_the_backbone_gets_the_statistics_of_the_images():
    """By hand, from all pixels; batches of one size have images of the same two grey values."""
    images = [np.full((8, 16, 3), value, np.uint8) for value in (50, 200) * BATCH]
    network = Network().eval()
    assert adapt_statistics(network, Kind(), images, SPEC) == 1
    values = normalised(torch.from_numpy(np.stack(images)), SPEC)
    layer = network.backbone[0]
    assert torch.allclose(layer.running_mean, values.mean((0, 2, 3)), atol=1e-5)
    # torch keeps the unbiased variance.
    assert torch.allclose(layer.running_var, values.var((0, 2, 3)), rtol=0.01)
    assert (layer.momentum, layer.training, network.decoder.training) == (0.3, False, False)
    assert network.decoder.running_mean.tolist() == [0, 0, 0]


def test_a_network_without_batch_normalisation_stays_as_it_is():
    network = Network().eval()
    network.backbone = torch.nn.Identity()
    assert adapt_statistics(network, Kind(), [np.zeros((8, 16, 3), np.uint8)], SPEC) == 0
