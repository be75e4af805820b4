"""The losses of kMaX-DeepLab against what the published code computes, and against answers worked by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from support import SUPPORT  # noqa: E402
from vps_ros.learning.data.targets import Targets  # noqa: E402
from vps_ros.learning.kmax import losses  # noqa: E402
from vps_ros.learning.kmax.losses import CITYSCAPES_LOSSES, KMaxLosses, match_targets, total_loss  # noqa: E402
from vps_ros.learning.kmax.model import Output, Prediction  # noqa: E402

REFERENCE = json.loads((SUPPORT / "kmax_reference.json").read_text())["losses"]
IMAGES, QUERIES, CLASSES, FEATURES, SIZE = 2, 6, 4, 8, (17, 33)


def scene():
    """The predictions and targets that the reference was made from."""
    rng = np.random.RandomState(3)

    def prediction(size):
        features = rng.standard_normal((IMAGES, FEATURES, *size))
        features /= np.sqrt((features * features).sum(1, keepdims=True))
        classes = rng.standard_normal((IMAGES, QUERIES, CLASSES + 1)) * 2
        masks = rng.standard_normal((IMAGES, QUERIES, *size)) * 3
        return Prediction(*(torch.from_numpy(v).float().requires_grad_() for v in (classes, masks, features)))

    predictions = [prediction(size) for size in (SIZE, (3, 5), (5, 9))]
    blocks = [np.kron(rng.randint(-1, k, (5, 9)), np.ones((4, 4), int))[: SIZE[0], : SIZE[1]] for k in (4, 5)]
    segments = torch.from_numpy(np.stack(blocks))
    classes = torch.full((IMAGES, 5), -1)
    for i, count in enumerate((4, 5)):
        classes[i, :count] = torch.from_numpy(rng.randint(0, CLASSES, count))
    return predictions, targets_of(segments, classes)


def targets_of(segments, classes):
    semantic = classes.gather(1, segments.flatten(1).clamp(min=0)).reshape(segments.shape)
    return Targets(segments, classes, torch.zeros_like(classes), torch.where(segments >= 0, semantic, -1))


@pytest.mark.parametrize(
    ("which", "options", "shape"),
    [
        ("coco", replace(KMaxLosses(), sampled=64, semantic_sampled=32), (CLASSES + 1, *SIZE)),
        ("cityscapes", replace(CITYSCAPES_LOSSES, sampled=561), (CLASSES, 3, 5)),
    ],
)
def test_terms_are_those_of_the_published_code(which, options, shape, monkeypatch):
    (final, *layers), targets = scene()
    semantic = torch.from_numpy(np.random.RandomState(4).standard_normal((IMAGES, *shape))).float()
    # The drawing of pixels from a stream that does not change with torch.
    noise = np.random.RandomState(5)
    monkeypatch.setattr(
        losses.torch, "rand", lambda size, dtype, **_: torch.from_numpy(noise.random_sample(tuple(size))).to(dtype)
    )
    output = Output(final, torch.zeros(IMAGES, QUERIES, 1), layers, semantic)
    total, parts = total_loss(output, targets, options, torch.Generator())
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(REFERENCE[which], rel=1e-5)
    weights = {"classes": 3, "dice": 3, "mask_id": 0.3, "discrimination": 1, "semantic": 1}
    assert total.item() == pytest.approx(sum(w * REFERENCE[which][n] for n, w in weights.items()), rel=1e-5)
    total.backward()
    for prediction in (final, *layers):
        for tensor in prediction:
            assert torch.isfinite(tensor.grad).all()
            assert tensor.grad.abs().sum() > 0


def perfect(sure=30.0):
    """Two segments and a void column, predicted without a doubt by queries 2 and 0; query 1 has the void column."""
    segments = torch.tensor([[[0, 0, 0, 1, -1]] * 2])
    masks = torch.full((1, 3, 2, 5), -sure)
    masks[:, 2, :, :3] = masks[:, 0, :, 3] = masks[:, 1, :, 4] = sure
    classes = torch.full((1, 3, 3), -sure)
    classes[0, 2, 1] = classes[0, 0, 0] = classes[0, 1, 2] = sure
    pixels = torch.zeros(1, 3, 2, 5)
    pixels[:, 0, :, :3] = pixels[:, 1, :, 3] = pixels[:, 2, :, 4] = 1
    return Prediction(classes, masks, pixels), targets_of(segments, torch.tensor([[1, 0]]))


def test_what_is_right_costs_nothing():
    prediction, targets = perfect()
    matched = match_targets(prediction, targets, 1e-5)
    assert matched.matching.tolist() == [[2, 0]]
    assert matched.classes.tolist() == [[0, 2, 1]]
    torch.testing.assert_close(matched.class_weight, torch.ones(1, 3))
    torch.testing.assert_close(matched.mask_weight, torch.ones(1, 2))
    # Ten cells; six and two of them belong to the segments, and void counts as one.
    assert matched.rarity[0, 0].tolist() == pytest.approx([10 / 6] * 3 + [5, 10])
    assert losses.class_loss(prediction.classes, matched).item() == pytest.approx(0, abs=1e-6)
    dice, identity = losses.mask_losses(prediction.masks, matched)
    assert dice.item() == pytest.approx(0, abs=1e-6)
    assert identity.item() == pytest.approx(0, abs=1e-6)


def test_void_pixels_are_nobodys_mistake():
    """Whoever claims the void column, the mask terms are the same; but a void query there answers for its class."""
    prediction, targets = perfect()
    claimed = prediction._replace(masks=prediction.masks.clone())
    claimed.masks[:, :, :, 4] = torch.tensor([5.0, 1.0, -3.0])[:, None]
    matched = match_targets(claimed, targets, 1e-5)
    for one, other in zip(
        losses.mask_losses(claimed.masks, matched), losses.mask_losses(prediction.masks, matched), strict=True
    ):
        torch.testing.assert_close(one, other)
    # Query 1 has the void column still with the share that softmax leaves it, all of which is void.
    assert matched.class_weight[0, 1].item() == pytest.approx(1, abs=1e-3)


def test_class_term_by_hand():
    """Uniform logits over three: each costs log 3, times 0.75 where real and 0.25 where void, times its weight."""
    prediction, targets = perfect()
    matched = match_targets(prediction, targets, 1e-5)._replace(class_weight=torch.tensor([[0.5, 1.0, 0.25]]))
    expected = math.log(3) * (0.75 * 0.5 + 0.25 * 1 + 0.75 * 0.25) / 3
    assert losses.class_loss(torch.zeros(1, 3, 3), matched).item() == pytest.approx(expected)


def test_mask_terms_by_hand():
    """Uniform masks of three queries: a third of each cell. Void is left out of both."""
    prediction, targets = perfect()
    matched = match_targets(prediction, targets, 1e-5)._replace(mask_weight=torch.tensor([[1.0, 0.5]]))
    dice, identity = losses.mask_losses(torch.zeros(1, 3, 2, 5), matched)
    # Eight cells in sight, a third of each: 8/3; two of six and 2/3 of two overlap; one is added to both sides.
    first = 1 - (2 * 6 / 3 + 1) / (8 / 3 + 6 + 1)
    second = 1 - (2 * 2 / 3 + 1) / (8 / 3 + 2 + 1)
    assert dice.item() == pytest.approx((first + 0.5 * second) * 0.75 / 3)
    assert identity.item() == pytest.approx(math.log(3))


def test_discrimination_by_hand():
    """All ten pixels are drawn; the features of the two segments are at right angles, as are those of void."""
    prediction, targets = perfect()
    matched = match_targets(prediction, targets, 1e-5)
    found = losses.discrimination_loss(prediction.pixels, matched, KMaxLosses(), torch.Generator())
    e = math.exp(1 / 0.3)
    # Of six alike, four are others; of two alike, eight are.
    six, two = (-math.log(e / (n * e + 10 - n)) for n in (6, 2))
    assert found.item() == pytest.approx((6 * six + 2 * two) / 8, rel=1e-5)


def test_small_segments_are_drawn_more_often_and_void_last():
    rarity = torch.tensor([[2.0] * 8 + [64.0] * 8 + [512.0] * 4])
    void = torch.tensor([[False] * 16 + [True] * 4])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([losses.draw(rarity, void, 8, 1.5, generator)[0] for _ in range(200)])
    assert all(len(set(row)) == 8 for row in drawn.tolist())
    rare = (drawn >= 8).float().mean().item()
    assert drawn.max() < 16
    assert rare > 0.9
    even = torch.stack([losses.draw(rarity, void, 8, 0.0, generator)[0] for _ in range(200)])
    # Of 16 without a preference half of those drawn are rare, give or take: 200 draws of 8.
    assert (even >= 8).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert losses.draw(rarity, void, 100, 1.5, generator).shape == (1, 20)


def test_more_segments_than_queries():
    """The one that gets no query counts as void."""
    segments = torch.tensor([[[0, 0, 1, 1, 2, 2]]])
    targets = targets_of(segments, torch.tensor([[0, 1, 1]]))
    masks = torch.full((1, 2, 1, 6), -9.0)
    masks[0, 0, 0, :2] = masks[0, 1, 0, 4:] = 9
    classes = torch.tensor([[[9.0, 0, 0], [0, 9.0, 0]]])
    matched = match_targets(Prediction(classes, masks, torch.zeros(1, 2, 1, 6)), targets, 1e-5)
    assert matched.matching.tolist() == [[0, -1, 1]]
    assert matched.segments.tolist() == [[[0, 0, -1, -1, 2, 2]]]
    assert matched.mask_weight[0, 1] == 0
    dice, identity = losses.mask_losses(masks, matched)
    assert identity.item() == pytest.approx(0, abs=1e-6)
    assert dice.item() == pytest.approx(0, abs=1e-6)


def test_images_without_segments():
    targets = targets_of(torch.full((1, 5, 9), -1), torch.full((1, 4), -1))
    masks, classes = torch.randn(1, 3, 5, 9).requires_grad_(), torch.randn(1, 3, 3).requires_grad_()
    final = Prediction(classes, masks, torch.nn.functional.normalize(torch.randn(1, 4, 5, 9), dim=1))
    total, parts = total_loss(Output(final, classes, [], None), targets, KMaxLosses(), torch.Generator().manual_seed(0))
    assert {n: v.item() for n, v in parts.items() if n != "classes"} == pytest.approx(
        {"dice": 0, "mask_id": 0, "discrimination": 0, "semantic": 0}
    )
    total.backward()
    assert torch.isfinite(masks.grad).all() and torch.isfinite(classes.grad).all()


def test_an_image_without_labels_teaches_nothing_and_a_group_its_sum():
    predictions, targets = scene()
    semantic = torch.zeros(IMAGES, CLASSES, *SIZE, requires_grad=True)
    unlabelled = torch.zeros(targets.segments.shape, dtype=torch.bool)
    targets.segments[1], targets.classes[1], targets.semantic[1], unlabelled[1] = -1, -1, -1, True
    output = Output(predictions[0], torch.zeros(IMAGES, QUERIES, 1), predictions[1:], semantic)
    group, members = torch.full_like(targets.segments, -1), torch.zeros(IMAGES, 1, CLASSES + 1, dtype=torch.bool)
    targets = targets._replace(unlabelled=unlabelled, group=group, members=members)
    total_loss(output, targets, CITYSCAPES_LOSSES, torch.Generator())[0].backward()
    for tensor in [*(t for p in predictions for t in p), semantic]:
        assert (tensor.grad[0] != 0).any() and (tensor.grad[1] == 0).all()
    group[1], members[:, 0, :3] = 0, True
    targets.semantic[0] = -1
    _, parts = total_loss(output, targets, CITYSCAPES_LOSSES, torch.Generator())
    assert parts["semantic"].item() == pytest.approx(-math.log(3 / CLASSES) / IMAGES, rel=1e-5)
