"""Targets, matching and every loss term against answers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from vps_ros.learning.data.targets import Targets, make_targets, stack  # noqa: E402
from vps_ros.learning.kmeans.architecture import Architecture, LossWeights  # noqa: E402
from vps_ros.learning.kmeans.losses import total_loss  # noqa: E402
from vps_ros.learning.kmeans.model import KMeansMaskTransformer  # noqa: E402
from vps_ros.learning.losses import (  # noqa: E402
    association_losses,
    class_loss,
    discrimination_loss,
    mask_losses,
    match,
    offset_loss,
    overlaps,
)
from vps_ros.taxonomy import CITYSCAPES  # noqa: E402

ROAD, SKY, PERSON, CAR = 0, 10, 11, 13


def targets_of(classes, tracks=None):
    """Targets of one image with these segments and no map."""
    tracks = tracks or [0] * len(classes)
    empty = torch.zeros(1, 1, 1, dtype=torch.int64)
    return Targets(empty, torch.tensor([classes]), torch.tensor([tracks]), empty)


def test_targets_keep_the_largest_segments_and_leave_crowds_void():
    semantic = np.array([[ROAD] * 6, [CAR] * 4 + [PERSON] * 2, [CAR] * 2 + [255] * 2 + [SKY, PERSON]], np.uint8)
    instance = np.array([[0] * 6, [7] * 4 + [0] * 2, [7, 7, 0, 0, 0, 0]], np.uint16)
    semantic, instance = np.repeat(semantic, 2, 1), np.repeat(instance, 2, 1)
    t = make_targets(semantic, instance, CITYSCAPES, 4)
    assert t.classes.tolist() == [ROAD, CAR, -1, -1]  # as large as each other: in order of class; two cells of sky go
    assert t.tracks.tolist() == [0, 7, 0, 0]
    assert t.segments.tolist() == [[0] * 12, [1] * 8 + [-1] * 4, [1] * 4 + [-1] * 8]
    assert t.semantic[2].tolist() == [CAR] * 4 + [-1] * 4 + [SKY, SKY, PERSON, PERSON]
    assert make_targets(semantic, instance, CITYSCAPES, 1).classes.tolist() == [ROAD]


def test_dice_and_likelihood_by_hand():
    # Two queries, four cells; the odds of query 0 are 3 : 1 in the first two cells, 1 : 1 elsewhere. The last is void.
    masks = torch.tensor([[[[math.log(3), math.log(3), 0, 0]], [[0.0, 0, 0, 0]]]])
    truth = torch.tensor([[[[1.0, 1, 0, 0]], [[0.0, 0, 1, 0]]]])
    valid = torch.tensor([[[[1.0, 1, 1, 0]]]])
    found = overlaps(masks, truth, valid)
    # Sizes: query 0 is .75 + .75 + .5 = 2, query 1 is 1; segments are 2 and 1.
    assert found.dice[0].tolist() == pytest.approx(
        np.array([[2 * 1.5 / 4, 2 * 0.5 / 3], [2 * 0.5 / 3, 2 * 0.5 / 2]]), abs=1e-6
    )
    assert found.log_likelihood[0, 0, 0].item() == pytest.approx(2 * math.log(0.75))
    dice, identity = mask_losses(found, torch.tensor([[0, 1]]), valid.sum())
    assert dice.item() == pytest.approx(((1 - 0.75) + (1 - 0.5)) / 2)
    assert identity.item() == pytest.approx(-(2 * math.log(0.75) + math.log(0.5)) / 3)


def test_matching_weighs_dice_with_class_probability():
    dice = torch.tensor([[[0.6, 0.1], [0.5, 0.1], [0.0, 0.0]]])
    classes = torch.zeros(1, 3, 20)
    assert match(dice, classes, targets_of([CAR, SKY])).tolist() == [[0, 1]]
    # Query 1 is sure of a car now: .5 of a sure class is worth more than .6 of a guess.
    classes[0, 1, CAR] = 5
    assert match(dice, classes, targets_of([CAR, SKY])).tolist() == [[1, 0]]
    assert match(dice, classes, targets_of([CAR, -1])).tolist() == [[1, -1]]


def test_void_queries_weigh_what_they_are_told():
    classes = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, math.log(2)]]])
    matching, t = torch.tensor([[0]]), targets_of([1])
    # The matched query says 1/3, the void one 2/4.
    for void in (1.0, 0.1, 1e-5):
        expected = (math.log(3) + void * math.log(2)) / (1 + void)
        assert class_loss(classes, matching, t, void).item() == pytest.approx(expected, rel=1e-5)


def test_association_by_hand():
    """Video K-Net, equations 1 and 2, for two objects in two frames; the second query of each image is stuff."""
    embeddings = torch.zeros(2, 3, 2)
    embeddings[0, 0], embeddings[0, 2] = torch.tensor([2.0, 0]), torch.tensor([0, 1.0])
    embeddings[1, 2], embeddings[1, 0] = torch.tensor([1.0, 1.0]), torch.tensor([0, 3.0])
    embeddings[:, 1] = 100
    t = Targets(
        torch.zeros(2, 1, 1), torch.tensor([[CAR, ROAD, CAR]] * 2), torch.tensor([[5, 0, 6], [6, 0, 5]]), torch.zeros(1)
    )
    matching = torch.tensor([[0, 1, 2], [0, 1, 2]])
    track, aux = association_losses(embeddings, matching, t)
    # Products of keys (5, 6) with references (5, 6): [[2, 0], [1, 3]].
    log = math.log
    forward = (log(math.exp(2) + 1) - 2 + log(math.e + math.exp(3)) - 3) / 2
    backward = (log(math.exp(2) + math.e) - 2 + log(1 + math.exp(3)) - 3) / 2
    assert track.item() == pytest.approx((forward + backward) / 2, rel=1e-5)
    half = math.sqrt(0.5)  # cosines [[half, 0], [half, 1]]
    assert aux.item() == pytest.approx(((1 - half) ** 2 + 0) / 2 + (0 + half**2) / 2, rel=1e-5)


def test_association_without_a_common_object_asks_for_nothing():
    t = Targets(torch.zeros(2, 1, 1), torch.tensor([[CAR], [CAR]]), torch.tensor([[1], [2]]), torch.zeros(1))
    embeddings = torch.randn(2, 1, 4, requires_grad=True)
    track, aux = association_losses(embeddings, torch.tensor([[0], [0]]), t)
    (track + aux).backward()
    assert track.item() == aux.item() == 0 and not embeddings.grad.any()


def test_ids_of_different_drives_are_different_objects():
    t = Targets(torch.zeros(4, 1, 1), torch.full((4, 1), CAR), torch.ones(4, 1, dtype=torch.int64), torch.zeros(1))
    embeddings = torch.tensor([[[4.0, 0]], [[4.0, 0]], [[0, 4.0]], [[0, 4.0]]])
    track, aux = association_losses(embeddings, torch.zeros(4, 1, dtype=torch.int64), t)
    assert track.item() == pytest.approx(math.log(1 + math.exp(-16)), abs=1e-6) and aux.item() == 0


def test_offsets_point_at_centres_of_things_only():
    truth = torch.zeros(1, 2, 1, 4)
    truth[0, 0, 0, :3], truth[0, 1, 0, 3] = 1, 1  # a car on cells 0..2, its centre in 1; road on cell 3
    t = Targets(truth.argmax(1), torch.tensor([[CAR, ROAD]]), torch.tensor([[1, 0]]), truth.argmax(1))
    isthing = torch.from_numpy(CITYSCAPES.isthing)
    assert offset_loss(torch.zeros(1, 2, 1, 4), truth, t, isthing).item() == pytest.approx(2 / 3 / 16)
    right = torch.zeros(1, 2, 1, 4)
    right[0, 0, 0] = torch.tensor([1.0, 0, -1, 99]) / 16
    assert offset_loss(right, truth, t, isthing).item() == 0


def test_discrimination_wants_pixels_near_their_own_segment():
    truth = torch.zeros(1, 2, 2, 8)
    truth[0, 0, 0], truth[0, 1, 1] = 1, 1
    t = Targets(truth.argmax(1), torch.tensor([[ROAD, CAR]]), torch.tensor([[0, 1]]), truth.argmax(1))
    apart = torch.zeros(1, 2, 2, 8)
    apart[0, 0, 0], apart[0, 1, 1] = 1, 1
    generator = torch.Generator().manual_seed(0)
    loss = discrimination_loss(apart, truth, t, generator)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1 / 0.3)), rel=1e-4)
    same = torch.full((1, 2, 2, 8), math.sqrt(0.5))
    assert discrimination_loss(same, truth, t, generator).item() == pytest.approx(math.log(2), rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_segments_changes_no_loss(seed):
    torch.manual_seed(seed)
    small = Architecture(queries=8, channels=(8, 8, 8, 8), depths=(0, 0, 0, 0), query_dim=8, mask_dim=8, heads=2)
    output = KMeansMaskTransformer(small).eval()(torch.randn(2, 3, 32, 64))
    rng = np.random.default_rng(seed)
    instance = np.repeat(np.repeat(rng.integers(0, 4, (2, 2, 4)), 4, 1), 4, 2).astype(np.uint16)
    semantic = np.where(instance > 0, CAR, ROAD).astype(np.uint8)
    t = stack([make_targets(s, i, CITYSCAPES, 8) for s, i in zip(semantic, instance, strict=True)])
    order = torch.from_numpy(rng.permutation(int((t.classes >= 0).sum(1).min())))
    full = torch.cat([order, torch.arange(len(order), 8)])
    back = torch.cat([torch.argsort(full), torch.tensor([-1])])
    shuffled = Targets(back[t.segments], t.classes[:, full], t.tracks[:, full], t.semantic)
    weights = LossWeights(discrimination=0.0)  # the only term that draws at random
    isthing = torch.from_numpy(CITYSCAPES.isthing)
    a, _ = total_loss(output, t, isthing, weights, torch.Generator())
    b, _ = total_loss(output, shuffled, isthing, weights, torch.Generator())
    assert a.item() == pytest.approx(b.item(), rel=1e-4)


def small_output(seed=0):
    torch.manual_seed(seed)
    small = Architecture(queries=8, channels=(8, 8, 8, 8), depths=(0, 0, 0, 0), query_dim=8, mask_dim=8, heads=2)
    network = KMeansMaskTransformer(small)
    return network, network(torch.randn(2, 3, 32, 64))


def test_images_of_void_alone_teach_no_mask_and_no_class_of_a_pixel():
    network, output = small_output()
    void = np.full((8, 16), 255, np.uint8)
    t = stack([make_targets(void, np.zeros((8, 16), np.uint16), CITYSCAPES, 8)] * 2)
    isthing = torch.from_numpy(CITYSCAPES.isthing)
    total, parts = total_loss(output, t, isthing, LossWeights(), torch.Generator())
    assert {name for name, value in parts.items() if value != 0} == {"classes"}
    total.backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_without_weight_the_auxiliary_heads_have_no_gradient():
    """These heads are random where a model file is the start; the masks of the k-means layers are still learned."""
    network, output = small_output()
    semantic = np.full((8, 16), ROAD, np.uint8)
    t = stack([make_targets(semantic, np.zeros((8, 16), np.uint16), CITYSCAPES, 8)] * 2)
    weights = LossWeights(semantic=0.0, offset=0.0, layer_classes=0.0)
    total_loss(output, t, torch.from_numpy(CITYSCAPES.isthing), weights, torch.Generator())[0].backward()
    heads = [network.semantic_head, network.offset_head, *(layer.predictor.class_head for layer in network.layers)]
    assert not any(p.grad is not None and p.grad.any() for head in heads for p in head.parameters())
    assert network.predictor.class_head.weight.grad.any()
    assert all(layer.predictor.pixel_head.weight.grad.any() for layer in network.layers)


def test_a_network_that_has_gone_wrong_is_matched_all_the_same():
    """Its loss is no number, by which training knows; the matching itself must not fail."""
    _, output = small_output()
    semantic = np.full((8, 16), ROAD, np.uint8)
    t = stack([make_targets(semantic, np.zeros((8, 16), np.uint16), CITYSCAPES, 8)] * 2)
    output = output._replace(final=output.final._replace(masks=output.final.masks * torch.nan))
    isthing = torch.from_numpy(CITYSCAPES.isthing)
    assert torch.isnan(total_loss(output, t, isthing, LossWeights(), torch.Generator())[0])
