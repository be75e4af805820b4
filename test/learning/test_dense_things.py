"""Things from heat maps beside queries: kernels by hand, what is learned, slots, export."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from vps_ros.errors import InputError  # noqa: E402
from vps_ros.learning.data.targets import make_targets, stack  # noqa: E402
from vps_ros.learning.export.onnx_file import model_card  # noqa: E402
from vps_ros.learning.kmeans.dense_things import (  # noqa: E402
    PLACE,
    UNIT,
    DenseThings,
    ThingOutput,
    placed,
    stuff_slots,
    thing_slots,
)
from vps_ros.learning.kmeans.kind import KMeansKind  # noqa: E402
from vps_ros.learning.kmeans.losses import thing_losses  # noqa: E402
from vps_ros.learning.recipe import Recipe  # noqa: E402
from vps_ros.learning.training.initial_weights import trained  # noqa: E402
from vps_ros.segmenters.postprocess import from_logits  # noqa: E402
from vps_ros.segmenters.preprocess import fit  # noqa: E402
from vps_ros.taxonomy import CITYSCAPES  # noqa: E402

PERSON, CAR = 11, 13
ISTHING = torch.from_numpy(CITYSCAPES.isthing)
THINGS = int(CITYSCAPES.isthing.sum())
H, W, D = 6, 10, 4


def head(seed=0):
    torch.manual_seed(seed)
    return DenseThings(8, 16, THINGS, D, 6)


def test_a_mask_is_a_gaussian_around_its_cell_weighted_by_what_pixels_look_like():
    """Cell (2, 7): logit = w f + b + a d - softplus(p) d^2, d counted in units of 16 cells from the cell."""
    one = head()
    states, pixels = torch.randn(1, 1, 16), torch.randn(1, D, H, W)
    cells = torch.tensor([[2 * W + 7]])
    logits = (one.kernels(states, cells, W) @ placed(pixels).flatten(2)).reshape(H, W)
    raw = one.kernel_head(states)[0, 0]
    look, bias, slope, spread = raw.split([D, 1, 2, 2])
    spread = torch.log1p(spread.exp())
    for y, x in ((2, 7), (0, 0), (5, 9)):
        d = torch.tensor([y - 2, x - 7]) / UNIT
        expected = look @ pixels[0, :, y, x] + bias[0] + slope @ d - spread @ d.square()
        torch.testing.assert_close(logits[y, x], expected, atol=1e-5, rtol=1e-4)
    assert placed(pixels).shape == (1, D + PLACE, H, W)


def test_queries_keep_stuff_where_they_are_the_largest():
    """Of road 0.5, car 0.4 and void 0.1, the road keeps 0.5, and the car's 0.4 is void."""
    masks = torch.tensor([[[[3.0, 1.0, 0.0]], [[1.0, 4.0, 0.5]], [[2.0, 0.0, -1.0]]]])
    expected = [[[1.0, -3.0, -0.5]], [[-2.0, 3.0, 0.5]], [[-1.0, -4.0, -1.5]]]
    columns = torch.tensor([1])
    classes = torch.log(torch.tensor([[[0.5, 0.4, 0.1], [0.05, 0.9, 0.05], [0.2, 0.2, 0.6]]]))
    found, logits = stuff_slots(classes, masks, columns)
    assert logits[0].tolist() == expected
    p = found.softmax(2)[0]
    expected = torch.tensor([[0.5, 0.0, 0.5], [0.05, 0.0, 0.95], [0.2, 0.0, 0.8]])
    torch.testing.assert_close(p, expected, atol=1e-6, rtol=1e-6)


def two_frames():
    """Two people and a car on a road, the same in both frames of a pair; the right column is void."""
    semantic, instance = np.zeros((H, W), np.uint8), np.zeros((H, W), np.uint16)
    semantic[1:4, 1:3], instance[1:4, 1:3] = PERSON, 1
    semantic[1:4, 4:6], instance[1:4, 4:6] = PERSON, 2
    semantic[3:6, 6:9], instance[3:6, 6:9] = CAR, 1
    semantic[:, 9] = 255
    return stack([make_targets(semantic, instance, CITYSCAPES, 20)] * 2)


def scene(seed=0):
    """A head, free features for it, and what is to be learned."""
    one = head(seed)
    features = torch.randn(2, 8, H, W, requires_grad=True)
    pixels = torch.nn.functional.normalize(torch.randn(2, D, H, W), dim=1)
    return one, features, pixels, two_frames()


def test_what_is_learned_is_found_again():
    """After some steps on one pair, peaks lie on the three things, with their classes and masks."""
    one, features, pixels, targets = scene()
    pixels.requires_grad_()
    optimizer = torch.optim.Adam([*one.parameters(), features, pixels], 0.03)
    for _ in range(150):
        parts = thing_losses(one, one(features), pixels, targets, ISTHING)
        optimizer.zero_grad()
        (parts["centre"] + 3 * parts["thing_mask"]).backward()
        optimizer.step()
    columns = torch.from_numpy(np.flatnonzero(CITYSCAPES.isthing))
    with torch.no_grad():
        slots = thing_slots(one, one(features), pixels, columns, len(CITYSCAPES), 3, None)
    assert sorted(slots.classes[0].argmax(1).tolist()) == [PERSON, PERSON, CAR]
    truth = [(targets.segments[0] == row).numpy() for row, c in enumerate(targets.classes[0].tolist()) if c >= 11]
    valid = (targets.segments[0] >= 0).numpy()
    for mask in slots.masks[0].numpy() > 0:
        best = max(((mask & t) & valid).sum() / ((mask | t) & valid).sum() for t in truth)
        assert best > 0.8


def test_void_teaches_nothing():
    """Neither the heat map at a void cell nor a mask there has a gradient."""
    one, features, pixels, targets = scene()
    output = one(features)
    centres = output.centres.detach().requires_grad_()
    pixels.requires_grad_()
    parts = thing_losses(one, ThingOutput(centres, output.states), pixels, targets, ISTHING)
    (parts["centre"] + parts["thing_mask"]).backward()
    assert not centres.grad[..., 9].any() and centres.grad[..., :9].any()
    assert not pixels.grad[..., 9].any() and pixels.grad[..., :9].any()


def test_images_without_things_have_a_gradient_for_every_weight():
    """All workers exchange the same gradients."""
    one, features, pixels, _ = scene()
    empty = stack([make_targets(np.zeros((H, W), np.uint8), np.zeros((H, W), np.uint16), CITYSCAPES, 20)] * 2)
    sum(thing_losses(one, one(features), pixels, empty, ISTHING).values()).backward()
    assert not [n for n, p in one.named_parameters() if p.grad is None]


def kind_of(**model):
    return KMeansKind(
        Recipe.from_mapping(
            {
                "name": "small",
                "data": {"scenarios": ["cruise"], "size": [96, 64]},
                "schedule": {"steps": 1, "phases": [{"until": 1.0, "size": [96, 64], "pairs": 2}]},
                "model": {"channels": [8, 8, 8, 8], "query_dim": 16, "mask_dim": D, "queries": 4} | model,
            },
            "recipe",
        )
    )


def test_the_exported_file_gives_segments_and_can_be_learned_from_again(tmp_path):
    torch.manual_seed(3)
    kind = kind_of(dense_things=7, dense_width=16)
    network = kind.build().eval()
    card = model_card(kind, kind._recipe, 5)
    assert (card.mask_activation, card.thresholds.mode, card.thresholds.things_first) == ("sigmoid", "mask_wise", True)
    kind.export(network, card, tmp_path / "small.onnx")
    again, _, step, limits = trained(tmp_path / "small.onnx")
    assert (step, limits) == (5, card.thresholds)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        mine, theirs = (n.model_outputs(n(image)) for n in (network, again))
    assert mine.class_logits.shape == (1, 4 + 7, 20)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_masks_of_heat_maps_lie_at_stride_4():
    with pytest.raises(InputError, match="remove `detail`"):
        kind_of(dense_things=7, detail=8)


def test_things_are_pasted_before_stuff_of_a_higher_score():
    """A road of 0.9 covers the image; a car of 0.6 keeps its two columns only when things come first."""
    p = np.full((1, 2, 20), 1e-6)
    p[0, 0, [0, 19]], p[0, 1, [CAR, 19]] = (0.9, 0.1), (0.6, 0.3)
    masks = np.full((1, 2, 8, 8), 9.0, np.float32)
    masks[0, 1, :, :6] = -9
    outputs = {
        "class_logits": np.log(p).astype(np.float32),
        "mask_logits": masks,
        "query_embeddings": np.zeros((1, 2, 1), np.float32),
    }
    kind = kind_of(dense_things=7)
    where = fit(kind.input_spec((8, 8), False), 8, 8)
    limits = dataclasses.replace(kind.thresholds, thing_area=0, stuff_area=0)
    found = from_logits(outputs, where, CITYSCAPES, limits, "sigmoid")
    assert np.append(255, found.class_ids)[found.map[0]].tolist() == [0] * 6 + [CAR] * 2
    found = from_logits(outputs, where, CITYSCAPES, dataclasses.replace(limits, things_first=False), "sigmoid")
    assert found.class_ids.tolist() == [0]
