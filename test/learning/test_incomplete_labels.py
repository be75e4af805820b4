"""Incomplete labels: classes without segments, groups of classes, unlabelled pixels, and the losses for them."""

import numpy as np
import pytest

from vps_ros.datasets.class_mapping import SourceClasses, assign_codes
from vps_ros.taxonomy import CITYSCAPES, VOID_ID, ClassInfo, Taxonomy

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from vps_ros.learning.data.pseudo_labels import Completion  # noqa: E402
from vps_ros.learning.data.targets import known_things, labelled_share, make_targets, stack  # noqa: E402
from vps_ros.learning.kmeans.architecture import Architecture, LossWeights  # noqa: E402
from vps_ros.learning.kmeans.losses import total_loss  # noqa: E402
from vps_ros.learning.kmeans.model import KMeansMaskTransformer  # noqa: E402
from vps_ros.learning.losses import class_loss, classes_only_loss, semantic_loss  # noqa: E402

ROAD, SKY, PERSON, CAR, TRUCK = 0, 10, 11, 13, 14
SMALL = {"queries": 8, "channels": [16] * 4, "depths": [0] * 4, "query_dim": 16, "mask_dim": 16, "heads": 2}


def coarse(*names):
    """A data set of classes only: `vehicle` is car or truck, `ground` road."""
    taxonomy = Taxonomy("coarse", tuple(ClassInfo(i, n, False, (0, 0, 0)) for i, n in enumerate(names)))
    return SourceClasses(taxonomy, {"vehicle": ("car", "truck"), "ground": ("road",)}, True)


CODES, (TABLE,) = assign_codes(CITYSCAPES, [coarse("vehicle", "ground")])
VEHICLE, GROUND, OPEN = (int(TABLE[i]) for i in (0, 1, VOID_ID))


def targets_of(semantic, instance=None):
    """Of one image or several, at the mask stride."""
    semantic = np.asarray(semantic, np.uint8)
    semantic = semantic if semantic.ndim == 3 else semantic[None]
    instance = np.zeros(semantic.shape, np.int64) if instance is None else np.asarray(instance).reshape(semantic.shape)
    return stack([make_targets(s, i, CITYSCAPES, 6, CODES) for s, i in zip(semantic, instance, strict=True)])


def test_targets_by_hand():
    t = targets_of([[VEHICLE] * 4, [GROUND] * 4, [OPEN] * 4, [VOID_ID] * 4, [ROAD] * 4, [CAR] * 4], [[0] * 4] * 6)
    assert t.semantic[0, :, 0].tolist() == [-1, ROAD, -1, -1, ROAD, CAR]
    assert t.segments[0, :, 0].tolist() == [-1, -1, -1, -1, 0, -1], "road of a whole map is a segment, a crowd is not"
    assert t.group[0, :, 0].tolist() == [0, -1, -1, -1, -1, -1]
    assert t.unlabelled[0, :, 0].tolist() == [True, True, True, False, False, True]
    assert torch.nonzero(t.members[0, 0])[:, 0].tolist() == [CAR, TRUCK]
    plain = make_targets(np.full((2, 2), CAR, np.uint8), np.zeros((2, 2)), CITYSCAPES, 4)
    assert plain.unlabelled.all() and (plain.semantic == CAR).all() and not len(plain.members)


def test_void_of_partial_labels_is_unlabelled():
    codes, (table, full) = assign_codes(
        CITYSCAPES, [SourceClasses(CITYSCAPES, {}, False, partial=True), SourceClasses(CITYSCAPES, {}, False)]
    )
    assert full is None
    assert table[[ROAD, CAR]].tolist() == [ROAD, CAR]
    semantic = table[np.array([[ROAD] * 4, [CAR] * 4, [VOID_ID] * 4], np.uint8)]
    t = make_targets(semantic, np.array([[0] * 4, [3] * 4, [0] * 4]), CITYSCAPES, 4, codes)
    assert t.unlabelled[:, 0].tolist() == [False, False, True]
    assert t.segments[2].tolist() == [-1] * 4
    assert sorted(t.classes.tolist()) == [-1, -1, ROAD, CAR]


def test_the_loss_of_a_group_is_that_of_its_summed_probability():
    logits = torch.zeros(1, 19, 1, 2)
    logits[0, CAR, 0, 0], logits[0, TRUCK, 0, 0], logits[0, ROAD, 0, 0] = np.log([3.0, 2.0, 4.0])
    t = targets_of([[VEHICLE, OPEN]])
    # exp: 3 + 2 of the group, 4 + 16 of the others
    assert semantic_loss(logits, t).item() == pytest.approx(-np.log(5 / 25), abs=1e-5)
    both = targets_of([[VEHICLE, GROUND]])
    expected = (-np.log(5 / 25) - np.log(1 / 19)) / 2
    assert semantic_loss(logits, both).item() == pytest.approx(expected, abs=1e-5)
    assert semantic_loss(logits, targets_of([[OPEN, VOID_ID]])).item() == 0


def test_queries_learn_a_cell_of_which_only_the_class_is_known():
    """Two queries; the first has 0.8 of the cell and is car with 0.5, truck with 0.25; the second is a road."""
    classes = torch.full((1, 2, 20), -30.0)
    classes[0, 0, CAR], classes[0, 0, TRUCK], classes[0, 0, 19] = np.log([0.5, 0.25, 0.25])
    classes[0, 1, ROAD] = 0.0
    masks = torch.tensor([0.8, 0.2]).log().view(1, 2, 1, 1).expand(-1, -1, 1, 2)
    loss = classes_only_loss(classes, masks, targets_of([[VEHICLE, OPEN]]))
    assert loss.item() == pytest.approx(-np.log(0.8 * 0.75), abs=1e-4)
    loss = classes_only_loss(classes, masks, targets_of([[VEHICLE, GROUND]]))
    assert loss.item() == pytest.approx((-np.log(0.6) - np.log(0.2)) / 2, abs=1e-4)
    whole = targets_of([[ROAD] * 4] * 4)
    assert classes_only_loss(classes, masks.expand(-1, -1, 4, -1).repeat(1, 1, 1, 2), whole).item() == 0


def test_void_may_be_of_a_group():
    source = SourceClasses(coarse("else").taxonomy, {"else": ("road", "void")}, True)
    codes, (table,) = assign_codes(CITYSCAPES, [source])
    t = stack([make_targets(np.full((1, 1), table[0]), np.zeros((1, 1)), CITYSCAPES, 2, codes)])
    classes = torch.full((1, 1, 20), -30.0)
    classes[0, 0, 19], classes[0, 0, CAR] = np.log([0.75, 0.25])
    assert classes_only_loss(classes, torch.zeros(1, 1, 1, 1), t).item() == pytest.approx(-np.log(0.75), abs=1e-4)


def test_unmatched_queries_are_void_only_where_segments_are_known():
    t = targets_of([[ROAD, ROAD, ROAD, ROAD, OPEN, OPEN, OPEN, OPEN]])
    masks = torch.zeros(1, 3, 1, 8)
    masks[0, 1, 0, :4] = 1.0
    masks[0, 2, 0, 2:] = 1.0
    share = labelled_share(masks, t)
    assert share[0].tolist() == pytest.approx([0, 1, 1 / 3])
    classes = torch.zeros(1, 3, 20, requires_grad=True)
    # The second query has the road; of the others, the third is void with a weight of a third.
    matching = torch.tensor([[1, -1, -1, -1, -1, -1]])
    class_loss(classes, matching, t, 0.5, share).backward()
    assert (classes.grad[0, 0] == 0).all()
    assert classes.grad[0, 2, 19].item() == pytest.approx(-(1 - 1 / 20) * (0.5 / 3) / (1 + 0.5 / 3), rel=1e-5)
    assert labelled_share(masks, targets_of([[ROAD] * 8])) is None


def test_unlabelled_cells_have_no_gradient():
    """Through the whole loss: the images' own gradients are exactly zero but in cells with a label."""
    torch.manual_seed(0)
    network = KMeansMaskTransformer(
        Architecture(**{k: tuple(v) if isinstance(v, list) else v for k, v in SMALL.items()})
    )
    images = torch.randn(2, 3, 32, 64)
    whole, nothing = np.full((8, 16), ROAD), np.full((8, 16), OPEN)
    for second, taught in ((nothing, False), (np.full((8, 16), VEHICLE), True)):
        output = network(images)
        kept = [output.final.classes, output.final.masks, output.semantic, output.offsets, output.pixels]
        kept += [t for p in output.layers for t in p] + [output.embeddings]
        total, parts = total_loss(
            output,
            targets_of([whole, second]),
            torch.from_numpy(CITYSCAPES.isthing),
            LossWeights(),
            torch.Generator().manual_seed(0),
        )
        grads = torch.autograd.grad(total, kept, allow_unused=True)
        assert any(g is not None and (g[0] != 0).any() for g in grads)
        assert any(g is not None and (g[1] != 0).any() for g in grads) == taught
        assert bool(parts["classes_only"] > 0) == taught


def test_where_no_thing_can_be_by_hand():
    source = SourceClasses(
        coarse("vehicle", "ground", "else").taxonomy,
        {"vehicle": ("car",), "ground": ("road", "person")} | {"else": ("road", "sky", "void")},
        True,
    )
    codes, (table,) = assign_codes(CITYSCAPES, [source])
    cells = np.array([[table[0], table[1], table[2], table[VOID_ID]], [VOID_ID, CAR, ROAD, CAR]], np.uint8).repeat(4, 1)
    instance = np.array([[0, 0, 0, 0], [0, 5, 0, 0]]).repeat(4, 1)
    t = stack([make_targets(cells, instance, CITYSCAPES, 4, codes)])
    told = known_things(t, torch.from_numpy(CITYSCAPES.isthing))[0, :, ::4]
    assert told.tolist() == [[False, False, True, False], [False, True, True, False]]


def test_a_semantic_cell_without_a_label_has_no_gradient():
    logits = torch.randn(1, 19, 2, 2, requires_grad=True)
    semantic_loss(logits, targets_of([[VEHICLE, OPEN], [VOID_ID, GROUND]])).backward()
    zero = (logits.grad[0] == 0).all(0)
    assert zero.tolist() == [[False, True], [True, False]]


def test_pseudo_labels_complete_unlabelled_pixels():
    codes, (table,) = assign_codes(CITYSCAPES, [coarse("vehicle", "ground")], alone=True)
    semantic = np.array([[table[0], table[0], table[1], table[VOID_ID], VOID_ID, ROAD, table[VOID_ID]]])
    told = np.array([[TRUCK, SKY, SKY, SKY, SKY, SKY, VOID_ID]], np.uint8)
    found = Completion.of(codes).complete(semantic, told)
    assert codes.index[found].tolist() == [[TRUCK, -1, ROAD, SKY, -1, ROAD, -1]]
    assert not codes.complete[found[0, [0, 3]]].any(), "what a teacher tells is no segment"
    assert codes.group[found[0, 1]] == 0, "what does not agree with the group changes nothing"
