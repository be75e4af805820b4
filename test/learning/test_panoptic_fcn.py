"""PanopticFCN: which cells learn what, its losses, and how peaks and kernels become segments."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vps_ros.errors import InputError
from vps_ros.segmenters.model_card import InputSpec
from vps_ros.segmenters.postprocess import from_logits
from vps_ros.segmenters.preprocess import fit

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")
pytest.importorskip("onnx", reason="onnx is of the [train] extra")

from support.fcn_small import SMALL, TOY  # noqa: E402
from vps_ros.learning.data.targets import make_targets, stack  # noqa: E402
from vps_ros.learning.panoptic_fcn.architecture import Architecture, LossWeights, default_thresholds  # noqa: E402
from vps_ros.learning.panoptic_fcn.assignment import heat_maps, levels_of, positives, radius, truth_of  # noqa: E402
from vps_ros.learning.panoptic_fcn.inference import (  # noqa: E402
    averaged,
    class_logits,
    fuse,
    margins,
    mean_inside,
    model_outputs,
    peaks,
    smoothed,
)
from vps_ros.learning.panoptic_fcn.layers import DeformableConv  # noqa: E402
from vps_ros.learning.panoptic_fcn.losses import dice, focal, total_loss  # noqa: E402
from vps_ros.learning.panoptic_fcn.model import PanopticFCN  # noqa: E402
from vps_ros.learning.training.optimizer import Optimizers  # noqa: E402

ISTHING = torch.from_numpy(TOY.isthing)
LN2 = float(np.log(2))


def labels(height=8, width=16, things=()):
    """Targets of one image: class 0, void in the last column, and things as (class, instance, rows, columns)."""
    semantic, instance = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint16)
    semantic[:, -1] = 255
    for kind, number, rows, columns in things:
        semantic[rows, columns], instance[rows, columns] = kind, number
    return make_targets(semantic, instance, TOY, 6)


BOX = (3, 1, slice(2, 6), slice(4, 8))
"""A thing of 4x4 cells."""


def truth(*things):
    return truth_of(stack([labels(things=things)]), ISTHING)


def row_of(one, kind):
    return one.targets.classes[0].tolist().index(kind)


class TestAssignment:
    def test_centre_and_box(self):
        one = truth(BOX)
        row = row_of(one, 3)
        assert one.centres[0, row].tolist() == [3.5, 5.5] and one.boxes[0, row].tolist() == [16, 16]
        assert one.things[0].tolist().count(True) == 1 and one.valid.sum() == 8 * 15

    def test_the_centre_of_mass_is_not_that_of_the_box(self):
        one = truth((3, 1, slice(2, 3), slice(4, 8)), (3, 1, slice(3, 6), slice(4, 5)))
        # Four cells in the first row, and one in each of three rows below: 4 * 2 + 3 + 4 + 5 over 7.
        row = row_of(one, 3)
        assert one.centres[0, row].tolist() == pytest.approx([20 / 7, (4 + 5 + 6 + 7 + 3 * 4) / 7])
        assert one.boxes[0, row].tolist() == [16, 16]

    def test_levels_by_size_overlap(self):
        small, large = (3, 1, slice(0, 2), slice(0, 2)), (4, 2, slice(0, 8), slice(4, 12))
        one = truth(small, large)
        fine, coarse = levels_of(one, ((1, 16), (8, 64)))
        rows = [row_of(one, 3), row_of(one, 4)]
        # InputSizes of 8 and 32 pixels; stuff belongs to none.
        assert fine[0, rows].tolist() == [True, False] and coarse[0, rows].tolist() == [True, True]
        assert not fine[0, row_of(one, 0)] and not coarse[0, row_of(one, 0)]

    def test_radius_of_a_square(self):
        # (sqrt(4 * 0.49 * 400 + 16 * 0.7 * 0.3 * 100) - 2 * 0.7 * 20) / 2 = 2.73
        assert radius(torch.tensor([10.0]), torch.tensor([10.0])).tolist() == [2]

    @settings(deadline=None, max_examples=50)
    @given(st.floats(1, 500), st.floats(1, 500))
    def test_radius_is_the_smallest_of_the_three_solutions(self, height, width):
        found = []
        for a, b, c in (
            (1, height + width, height * width * 0.3 / 1.7),
            (4, 2 * (height + width), 0.3 * height * width),
            (2.8, -1.4 * (height + width), -0.3 * height * width),
        ):
            found.append((b + np.sqrt(b * b - 4 * a * c)) / 2)
        got = radius(torch.tensor([height], dtype=torch.float64), torch.tensor([width], dtype=torch.float64))
        assert found[2] == min(found) and abs(float(got) + 0.5 - found[2]) <= 0.5 + 1e-6

    def test_a_gaussian_around_the_centre(self):
        one = truth(BOX)
        classes = torch.where(one.targets.classes == 3, 0, 1)
        maps = heat_maps(one, one.things, classes, 2, (8, 16))
        # Radius 1, so a deviation of 3 / 3.
        expected = np.zeros((8, 16))
        expected[2:5, 4:7] = np.exp(-0.5 * np.array([[2, 1, 2], [1, 0, 1], [2, 1, 2]]))
        np.testing.assert_allclose(maps[0, 0], expected, rtol=1e-6)
        assert not maps[0, 1].any()
        # On a level of half the size the box has 2x2 cells and the radius is 0.
        coarse = heat_maps(one, one.things, classes, 2, (4, 8))
        assert torch.nonzero(coarse).tolist() == [[0, 0, 1, 2]] and coarse.max() == 1

    def test_gaussians_of_one_class_do_not_add_up(self):
        near = (3, 2, slice(2, 6), slice(8, 12))
        one = truth(BOX, near)
        maps = heat_maps(one, one.things, torch.zeros_like(one.targets.classes), 1, (8, 16))
        assert maps.max() == 1 and maps[0, 0, 3, [5, 9]].tolist() == [1, 1] and maps[0, 0, 3, 7] == 0

    def test_positives_are_the_highest_scores_inside(self):
        one = truth(BOX)
        row = row_of(one, 3)
        scores = torch.zeros(1, 2, 8, 16)
        scores[0, 0, 3, 5], scores[0, 0, 4, 6], scores[0, 0, 0, 0], scores[0, 1, 3, 4] = 0.6, 0.2, 0.9, 0.8
        found = positives(scores, one, torch.where(one.targets.classes == 3, 0, 1), 2)
        assert found.cells[0, row].tolist() == [3 * 16 + 5, 4 * 16 + 6]
        assert found.weights[0, row].tolist() == pytest.approx([0.75, 0.25])

    def test_a_level_with_fewer_cells(self):
        one = truth(BOX)
        found = positives(torch.full((1, 2, 1, 2), 0.5), one, torch.zeros_like(one.targets.classes), 7)
        # The box covers a quarter of the first cell, and none of the other.
        row = row_of(one, 3)
        assert found.cells.shape[2] == 7 and found.weights[0, row].tolist() == pytest.approx([1] + [0] * 6)


class TestLosses:
    def test_focal_loss(self):
        found = focal(torch.zeros(3), torch.tensor([1.0, 0.0, 0.5]))
        # alpha (1 - p)^2 ln 2, (1 - alpha) p^2 ln 2, and halfway between them.
        assert found.tolist() == pytest.approx([0.25 * 0.25 * LN2, 0.75 * 0.25 * LN2, 0.5 * 0.25 * LN2])

    def test_focal_loss_of_a_soft_target(self):
        # p = 0.75, target 0.2: p_t = 0.75 * 0.2 + 0.25 * 0.8 = 0.35; alpha_t = 0.25 * 0.2 + 0.75 * 0.8 = 0.65.
        found = focal(torch.tensor([np.log(3)]), torch.tensor([0.2]))
        entropy = -0.2 * np.log(0.75) - 0.8 * np.log(0.25)
        assert float(found) == pytest.approx(0.65 * 0.65**2 * entropy)

    def test_dice_with_squares(self):
        probability = torch.tensor([[[0.5, 0.5, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]]])
        found = dice(probability, torch.tensor([[1.0, 0.0, 1.0, 0.0]]))
        assert found[0].tolist() == pytest.approx([1 - 2 * 1.5 / 3.5, 0], abs=1e-6)

    @pytest.mark.parametrize("stuff, gate", [("semantic", 4.0), ("semantic", 0.0), ("kernels", 0.0)])
    def test_training_lowers_the_loss(self, stuff, gate):
        torch.manual_seed(0)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        model = PanopticFCN(replace(SMALL, classes=len(TOY), stuff=stuff, gate=gate), TOY.isthing).train()
        targets = stack([labels(16, 16, [(3, 1, slice(4, 12), slice(2, 10))])] * 2)
        image = torch.full((2, 3, 64, 64), -0.5)
        image[:, :, 16:48, 8:40] = 0.8
        optimizer, losses = Optimizers.muon(model, 5e-3, 0.0), []
        for _ in range(25):
            total, parts = total_loss(model, model(image), targets, LossWeights())
            total.backward()
            optimizer.step(5e-3)
            optimizer.zero_grad()
            losses.append(total.item())
            assert all(not value.requires_grad and torch.isfinite(value) for value in parts.values())
        torch.set_num_threads(threads)
        assert losses[-1] < 0.5 * losses[0]
        assert ("region" in parts, "semantic" in parts) == (stuff == "kernels", stuff == "semantic")

    def test_without_a_thing_every_weight_still_gets_a_gradient(self):
        torch.manual_seed(0)
        model = PanopticFCN(replace(SMALL, classes=len(TOY)), TOY.isthing).train()
        total, _ = total_loss(model, model(torch.zeros(2, 3, 32, 64)), stack([labels()] * 2), LossWeights())
        total.backward()
        learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learning.values())


def logit(p):
    return float(np.log(p / (1 - p)))


class TestPeaks:
    def test_peaks_of_all_levels_by_score(self):
        fine, coarse = torch.full((1, 2, 4, 4), -9.0), torch.full((1, 2, 2, 2), -9.0)
        fine[0, 0, 1, 1], fine[0, 0, 1, 2], fine[0, 1, 3, 3] = logit(0.8), logit(0.7), logit(0.3)
        coarse[0, 1, 1, 0] = logit(0.6)
        found = peaks([fine, coarse], 3, smooth=False)
        assert found.scores[0].tolist() == pytest.approx([0.8, 0.6, 0.3], rel=1e-5)
        # The second of two neighbours is no peak. Cells of the coarse level are numbered after those of the fine one.
        assert found.classes[0].tolist() == [0, 1, 1] and found.cells[0].tolist() == [5, 16 + 2, 15]

    def test_smoothing_takes_the_mean_with_the_neighbourhood(self):
        p = torch.zeros(1, 1, 5, 5)
        p[0, 0, 2, 2] = 0.9
        found = smoothed(p, 3)
        assert float(found[0, 0, 2, 2]) == pytest.approx((0.9 + 0.1) / 2)
        assert float(found[0, 0, 1, 2]) == pytest.approx(0.05) and found[0, 0, 0, 0] == 0


def fused_one_by_one(kernels, classes, usable, similar):
    """For each candidate the first that it is similar to, found in order."""
    first = []
    for j in range(len(kernels)):
        mine = [
            i
            for i in range(j)
            if usable[i]
            and usable[j]
            and classes[i] == classes[j]
            and kernels[i] @ kernels[j] / np.linalg.norm(kernels[i]) / np.linalg.norm(kernels[j]) >= similar
        ]
        first.append(mine[0] if mine else j)
    return first


class TestFusion:
    @settings(deadline=None, max_examples=50)
    @given(st.integers(0, 10_000))
    def test_as_one_by_one(self, seed):
        rng = np.random.default_rng(seed)
        kernels = rng.normal(size=(7, 3))
        classes, usable = rng.integers(0, 2, 7), rng.random(7) < 0.8
        found = fuse(*(torch.from_numpy(a)[None] for a in (kernels, classes, usable)), similar=0.5)
        assert found[0].tolist() == fused_one_by_one(kernels, classes, usable, 0.5)

    def test_means_and_what_is_lost(self):
        # The second belongs to the first, the third only to the second: it is kept nowhere, as in the released code.
        vectors, kept = averaged(torch.tensor([[[1.0], [3.0], [5.0], [7.0]]]), torch.tensor([[0, 0, 1, 3]]))
        assert kept[0].tolist() == [True, False, False, True]
        assert vectors[0, kept[0], 0].tolist() == [2, 7]


class TestScores:
    def test_softmax_of_the_logits_is_the_score(self):
        found = class_logits(
            torch.tensor([[0.7, 0.3, 0.9]]), torch.tensor([[1, 4, 0]]), torch.tensor([[1, 1, 0]]) > 0, 5
        )
        p = found[0].softmax(1)
        assert p[0, 1].item() == pytest.approx(0.7) and p[1, 4].item() == pytest.approx(0.3)
        assert p[0, 0].item() == pytest.approx(0.06) and p[2, 5].item() == pytest.approx(1, abs=1e-6)

    @settings(deadline=None, max_examples=50)
    @given(st.integers(0, 10_000))
    def test_a_margin_is_positive_exactly_for_the_largest(self, seed):
        logits = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 4, 2, 3)))
        found = margins(logits)
        assert torch.equal(found > 0, logits == logits.amax(1, keepdim=True))
        ordered = logits.sort(1).values
        torch.testing.assert_close(found.amax(1), ordered[:, -1] - ordered[:, -2])

    def test_mean_probability_inside(self):
        p = torch.tensor([[[[0.9, 0.5], [0.3, 0.0]], [[0.1, 0.2], [0.3, 0.0]]]])
        assert mean_inside(p, 0.4)[0].tolist() == pytest.approx([0.7, 0])

    def test_things_are_pasted_over_stuff(self):
        """A network whose heads are replaced by their answers: one thing in the middle, all else the first class."""
        a = replace(SMALL, classes=len(TOY), gate=0.0, things=4)
        model = PanopticFCN(a, TOY.isthing).eval()
        centre = torch.full((1, 2, 4, 8), -9.0)
        centre[0, 1, 2, 3] = logit(0.6)
        kernels, feature = torch.zeros(1, 32, 4, 8), torch.full((1, 16, 8, 16), -4.0)
        kernels[0, 0, 2, 3] = 1
        feature[0, 0, 2:6, 4:8] = 4
        semantic = torch.zeros(1, 5, 8, 16)
        semantic[:, 0] = 3
        with torch.no_grad():
            model.thing_kernels.weight.zero_()
            model.thing_kernels.weight[0, 0] = 1
            output = model(torch.zeros(1, 3, 32, 64))._replace(
                centres=[centre, torch.full((1, 2, 2, 4), -9.0)],
                kernels=[kernels, torch.zeros(1, 32, 2, 4)],
                feature=feature,
                semantic=semantic,
            )
            found = model_outputs(model, output)
        outputs = {name: value.numpy() for name, value in found._asdict().items()}
        rule = replace(default_thresholds(a, 64, 32), stuff_area=8)
        seen = from_logits(outputs, fit(InputSpec(32, 64), 32, 64), TOY, rule, "sigmoid")
        assert seen.class_ids.tolist() == [4, 0]
        # The score of the peak times the mean probability in its mask; stuff has less than any thing that is kept.
        assert seen.scores[0] == pytest.approx(0.6 / (1 + np.exp(-4)), rel=1e-5) and seen.scores[1] < rule.thing
        assert (seen.map[10:22, 18:30] == 1).all() and seen.map[0, 0] == 2 and (seen.map > 0).all()


class TestDeformable:
    def test_without_offsets_it_is_a_convolution(self):
        torch.manual_seed(0)
        layer, x = DeformableConv(3, 4, True), torch.randn(2, 3, 5, 7)
        with torch.no_grad():
            plain = torch.nn.functional.conv2d(x, layer.weight / 2, layer.bias, padding=1)
        torch.testing.assert_close(layer(x), plain, atol=1e-5, rtol=1e-5)

    def test_samples_are_moved_and_weighted(self):
        layer, x = DeformableConv(1, 1, False), torch.arange(20.0).reshape(1, 1, 4, 5)
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[0, 0, 1, 1] = 1
            # The middle tap, one row down and half a column to the right, at a weight of 0.75.
            layer.offsets.bias[8], layer.offsets.bias[9], layer.offsets.bias[18 + 4] = 1.0, 0.5, float(np.log(3))
            found = layer(x)[0, 0]
        assert found[0, 0].item() == pytest.approx(0.75 * 5.5) and found[1, 2].item() == pytest.approx(0.75 * 12.5)
        # Half of the sample lies beyond the right border, all of it below the last row.
        assert found[0, 4].item() == pytest.approx(0.75 * 4.5) and found[3].abs().max().item() == 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"backbone": "resnet51"}, "model.backbone: 'resnet51'"),
        ({"strides": (8, 32)}, "model.strides: [8, 32]"),
        ({"sizes": ((1, 64),)}, "model.sizes: 1 ranges for 5 strides"),
        ({"stuff": "none"}, "model.stuff: 'none'; there are kernels, semantic"),
        ({"position_convs": 0}, "position_convs"),
    ],
)
def test_an_impossible_architecture_is_refused(change, message):
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        Architecture(**change)
