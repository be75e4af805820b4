"""The sparse evaluation of claims equals the dense one at every pixel, ties aside."""

from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vps_ros.segmenters.contract import InputSpec, Thresholds
from vps_ros.segmenters.grid import grid
from vps_ros.segmenters.postprocess import from_logits
from vps_ros.segmenters.preprocess import Fit, fit
from vps_ros.segmenters.sigmoid import sigmoid_claims
from vps_ros.segmenters.softmax import SoftmaxField
from vps_ros.segmenters.upsample import softmax_claims
from vps_ros.segmenters.winners import argmax_claims, pixel_wise_claims
from vps_ros.taxonomy import CITYSCAPES


def tie_within(nodes):
    """Probability by which float32 may be wrong: its last digit grows with the logits."""
    return 2e-5 + 1e-6 * np.abs(nodes).max()


def upsampled(nodes, where):
    """Dense bilinear upsampling in float64, written out from its definition."""
    values = nodes.astype(np.float64)
    for axis in (0, 1):
        pixels, n = where.camera[axis], nodes.shape[axis + 1]
        if where.align_corners:
            last = (where.resized[axis] - 1) / (where.input[axis] - 1) * (n - 1)
            position = np.clip(np.linspace(0, last, pixels), 0, n - 1)
        else:
            scale = where.resized[axis] / pixels * n / where.input[axis]
            position = np.clip((np.arange(pixels) + 0.5) * scale - 0.5, 0, n - 1)
        low = np.floor(position).astype(int)
        weight = (position - low).reshape((-1,) + (1,) * (1 - axis))
        below, above = values.take(low, axis + 1), values.take(np.minimum(low + 1, n - 1), axis + 1)
        values = below + weight * (above - below)
    return values


def sigmoid(x):
    return 1 / (1 + np.exp(np.clip(-x.astype(np.float64), -700, 700)))


def two_largest(rivals):
    """How far the largest is ahead of the second, at each pixel."""
    if len(rivals) < 2:
        return np.full(rivals.shape[1:], np.inf)
    second, first = np.partition(rivals, -2, axis=0)[-2:]
    return first - second


def dense_softmax(nodes, where, candidates, threshold, exclusive):
    """Claims of the candidates, bool [Q, H, W], their masks' areas, and where a tie makes them a matter of rounding."""
    values, near = upsampled(nodes, where), tie_within(nodes)
    p = np.exp(values - values.max(0))
    p /= p.sum(0)
    tie = (np.abs(p - threshold) < near).any(0)
    claims = p > threshold
    mask_area = claims.sum((1, 2))
    if exclusive:
        claims &= np.arange(len(p))[:, None, None] == p.argmax(0)
        tie |= two_largest(p) < near
    return claims[candidates], mask_area[candidates], tie


def dense_sigmoid(nodes, where, threshold):
    p = sigmoid(upsampled(nodes, where))
    claims = p > threshold
    return claims, claims.sum((1, 2)), (np.abs(p - threshold) < tie_within(nodes)).any(0)


def dense_winners(nodes, where, threshold, scores, argmax):
    """As above, and the pixels that each candidate wins, of the two rules by which every pixel has one winner."""
    near, weight = tie_within(nodes), scores[:, None, None].astype(np.float64)
    if argmax:
        product = upsampled(weight * sigmoid(nodes), where)
        inside, margin = product > threshold, np.abs(product - threshold)
    else:
        p = sigmoid(upsampled(nodes, where))
        product = weight * p
        inside, margin = p > threshold, np.abs(p - threshold)
    wins = np.arange(len(product))[:, None, None] == product.argmax(0)
    tie = (margin < near).any(0) | (two_largest(product) < near)
    return wins if argmax else wins & inside, inside.sum((1, 2)), wins.sum((1, 2)), tie


def agree(claims, where, expected, mask_area, tie):
    """Every pixel that is no tie is claimed by those that claim it in the dense evaluation; counts agree with it."""
    entries = len(claims.weight)
    entry, _ = claims.paint(np.arange(1, entries + 1, dtype=np.uint32), entries)
    assert entry.shape == where.camera and entry.min() > 0
    member = np.zeros((len(expected), entries), bool)
    member[claims.query, claims.entry] = True
    differs = (member[:, entry - 1] != expected).any(0) & ~tie
    assert not differs.any(), f"{differs.sum()} of {differs.size} pixels differ"
    counted = np.bincount(entry.ravel() - 1, minlength=entries)
    claimed = member.any(0)
    np.testing.assert_array_equal(counted[claimed], claims.weight[claimed])
    if mask_area is not None:
        assert np.abs(claims.mask_area - mask_area).max(initial=0) <= tie.sum()


def check_softmax(nodes, where, candidates, threshold, exclusive):
    claims = softmax_claims(SoftmaxField(nodes), candidates, grid(where, nodes.shape[1:]), threshold, exclusive)
    expected, mask_area, tie = dense_softmax(nodes, where, candidates, threshold, exclusive)
    agree(claims, where, expected, None if exclusive else mask_area, tie)
    return claims


def check_sigmoid(nodes, where, threshold):
    claims = sigmoid_claims(nodes, grid(where, nodes.shape[1:]), threshold)
    agree(claims, where, *dense_sigmoid(nodes, where, threshold))
    return claims


def check_winners(nodes, where, threshold, scores, argmax):
    over = grid(where, nodes.shape[1:])
    if argmax:
        products = (scores[:, None, None] * sigmoid(nodes)).astype(np.float32)
        claims = argmax_claims(products, over, threshold)
    else:
        claims = pixel_wise_claims(nodes, scores, over, threshold)
    expected, mask_area, won, tie = dense_winners(nodes, where, threshold, scores, argmax)
    agree(claims, where, expected, mask_area, tie)
    assert claims.won.sum() == tie.size
    assert np.abs(claims.won - won).max() <= tie.sum()
    return claims


def smooth(rng, shape, blur, height):
    """Logits like a network's: regions with soft borders; `blur` nodes wide, `height` high."""
    noise = rng.normal(size=shape)
    for axis in (1, 2):
        for _ in range(blur):
            noise = noise + np.roll(noise, 1, axis)
    return (noise / max(noise.std(), 0.1) * height).astype(np.float32)


scenes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "queries": st.integers(1, 12),
        "nodes": st.tuples(st.integers(1, 14), st.integers(1, 18)),
        "camera": st.tuples(st.integers(1, 90), st.integers(1, 120)),
        "height": st.sampled_from([0.3, 2.0, 8.0, 60.0, 400.0]),
        "blur": st.integers(0, 3),
        "threshold": st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.4, 0.5, 0.7, 1.0]),
        "exclusive": st.booleans(),
        "keep_aspect": st.booleans(),
        "align_corners": st.booleans(),
    }
)


def arrange(scene):
    rng = np.random.default_rng(scene["seed"])
    nodes = smooth(rng, (scene["queries"], *scene["nodes"]), scene["blur"], scene["height"])
    aligned = scene["align_corners"]
    height, width = (max(n - 1, 1) * 4 + 1 if aligned else n * 4 for n in scene["nodes"])
    spec = InputSpec(height, width, keep_aspect=scene["keep_aspect"], align_corners=aligned)
    some = np.flatnonzero(rng.random(scene["queries"]) < 0.8)
    return nodes, fit(spec, *scene["camera"]), rng.permutation(some if len(some) else [0]), rng


SEED_OF_NOTHING_BUT_NAMES = {
    "seed": 0,
    "queries": 11,
    "nodes": (2, 1),
    "camera": (34, 1),
    "height": 60.0,
    "blur": 0,
    "threshold": 0.5,
    "exclusive": False,
    "keep_aspect": False,
    "align_corners": False,
}
"""Two queries matter, both by name: nothing remains of which the rest could have at least something."""


@settings(max_examples=400, deadline=None)
@given(scenes)
@example(SEED_OF_NOTHING_BUT_NAMES)
def test_softmax_claims_equal_the_dense_ones(scene):
    nodes, where, candidates, _ = arrange(scene)
    check_softmax(nodes, where, candidates, scene["threshold"], scene["exclusive"])


@settings(max_examples=300, deadline=None)
@given(scenes)
def test_sigmoid_claims_equal_the_dense_ones(scene):
    nodes, where, _, _ = arrange(scene)
    check_sigmoid(nodes, where, scene["threshold"])


@settings(max_examples=400, deadline=None)
@given(scenes, st.booleans())
def test_winners_equal_the_dense_ones(scene, argmax):
    nodes, where, _, rng = arrange(scene)
    scores = rng.uniform(0.2, 1, len(nodes)).astype(np.float32)
    check_winners(nodes, where, scene["threshold"], scores, argmax)


CAR = [c.name for c in CITYSCAPES.classes].index("car")


@settings(max_examples=300, deadline=None)
@given(scenes, st.sampled_from([("pixel_wise", 0), ("argmax", 0), ("argmax", 1), ("argmax", 7), ("argmax", 24)]))
def test_segments_are_those_of_the_dense_winners(scene, rule):
    """Of cars alone, that need not keep any share of their masks: also where masks are brought to a square first."""
    mode, side = rule
    nodes, where, _, rng = arrange(scene)
    scores, threshold = rng.uniform(0.2, 1, len(nodes)).astype(np.float32), scene["threshold"]
    classes = np.repeat(np.log((1 - scores[:, None]) / len(CITYSCAPES) + 1e-9), len(CITYSCAPES) + 1, axis=1)
    classes[:, CAR] = np.log(scores)
    outputs = {"class_logits": classes, "mask_logits": nodes, "query_embeddings": np.arange(len(nodes))[:, None]}
    limits = Thresholds(thing=0.0, overlap=0.0, mask=threshold, mode=mode, mask_grid=side)
    found = from_logits(
        {n: a[None].astype(np.float32) for n, a in outputs.items()}, where, CITYSCAPES, limits, "sigmoid"
    )
    if side:
        nodes = upsampled(nodes, Fit((side, side), nodes.shape[1:], nodes.shape[1:]))
    claims, mask_area, _, tie = dense_winners(nodes, where, threshold, scores, mode == "argmax")
    # Where rounding decides whether a mask has a pixel at all, it decides over all that the mask wins.
    expected = np.where(claims.any(0), claims.argmax(0), -1)
    expected[(mask_area == 0)[expected] & (expected >= 0)] = -1
    faint = (expected >= 0) & (mask_area[expected] <= tie.sum())
    owner = np.append(-1, found.embeddings[:, 0]).astype(int)[found.map]
    differs = (owner != expected) & ~tie & ~faint
    assert not differs.any(), f"{differs.sum()} of {differs.size} pixels differ"


@pytest.mark.parametrize("argmax", [False, True])
def test_more_open_cells_than_are_looked_at_together(argmax):
    """Masks that are random from node to node, in which every cell has several contenders and borders."""
    rng = np.random.default_rng(5)
    nodes = smooth(rng, (10, 150, 160), 0, 2.0)
    where = fit(InputSpec(600, 640), 170, 180)
    check_winners(nodes, where, 0.5, rng.uniform(0.6, 1, 10).astype(np.float32), argmax)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("camera", [(375, 1242), (270, 480), (40, 50)])
def test_a_street_of_many_queries(camera, exclusive):
    rng = np.random.default_rng(3)
    nodes = smooth(rng, (40, 24, 80), 3, 6.0)
    where = fit(InputSpec(96, 320, keep_aspect=True), *camera)
    check_softmax(nodes, where, np.arange(0, 40, 2), 0.4, exclusive)
    check_sigmoid(nodes[::2], where, 0.5)
    check_winners(nodes[::2], where, 0.5, rng.uniform(0.2, 1, 20).astype(np.float32), exclusive)


@settings(max_examples=400, deadline=None)
@given(scenes)
def test_boxes_are_those_of_the_painted_labels(scene):
    nodes, where, candidates, rng = arrange(scene)
    claims = softmax_claims(SoftmaxField(nodes), candidates, grid(where, nodes.shape[1:]), 0.4, scene["exclusive"])
    labels = rng.integers(0, 5, len(claims.weight)).astype(np.uint8)
    picture, boxes = claims.paint(labels, 6)
    for label in range(1, 7):
        rows, columns = np.nonzero(picture == label)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0] * 4
        assert boxes[label - 1].tolist() == expected


def test_far_apart_logits_meet_in_the_middle():
    """Between two sharp masks a third can win that is the largest at no node."""
    nodes = np.array([[[0.0, -100.0]], [[-100.0, 0.0]], [[-12.0, -12.0]]], np.float32)
    claims = check_softmax(nodes, Fit((1, 40), (4, 8), (4, 8)), np.arange(3), 0.4, False)
    assert claims.mask_area.tolist() == [12, 12, 16]


def test_a_query_that_is_negligible_at_every_node_can_win_between_them():
    """The first two fall by 100 from node to node; the third is 25 and 15 below the larger, and ahead in the middle."""
    nodes = np.array([[[0.0], [-100.0]], [[-100.0], [0.0]], [[-25.0], [-15.0]]], np.float32)
    claims = check_softmax(nodes, Fit((100, 1), (8, 4), (8, 4)), np.arange(3), 0.5, False)
    # Of 50 pixels between the nodes, the first has those up to 25 / 110 of the way, the second those from 75 / 90 on.
    assert claims.mask_area.tolist() == [25 + 11, 25 + 8, 31]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.4])
def test_equal_logits_go_to_the_first_query(threshold):
    """With a threshold of 0.4, none of three equals reaches it."""
    over, nodes = grid(Fit((9, 9), (8, 8), (8, 8)), (2, 2)), np.zeros((3, 2, 2), np.float32)
    claims = softmax_claims(SoftmaxField(nodes), np.arange(3), over, threshold, True)
    assert claims.mask_area.tolist() == [81 if threshold < 0.4 else 0, 0, 0]


def test_negligible_queries_win_between_the_nodes_also_where_only_the_largest_counts():
    """As above, without a threshold: 50 pixels between the nodes, of which the third has those between its two
    crossings, at 25 / 110 and 75 / 90 of the way."""
    nodes = np.array([[[0.0], [-100.0]], [[-100.0], [0.0]], [[-25.0], [-15.0]]], np.float32)
    claims = check_softmax(nodes, Fit((100, 1), (8, 4), (8, 4)), np.arange(3), 0.0, True)
    assert claims.mask_area.tolist() == [25 + 11, 25 + 8, 31]


def test_what_no_candidate_wins_is_claimed_by_nobody():
    """Two maps cross in the middle of 8 pixels; the one on the right is no candidate."""
    nodes = np.array([[[2.0, 0.0]], [[0.0, 2.0]]], np.float32)
    claims = check_softmax(nodes, Fit((1, 8), (2, 4), (2, 4)), np.array([0]), 0.0, True)
    assert claims.mask_area.tolist() == [4]
    label = np.zeros(len(claims.weight), np.uint8)
    label[claims.entry] = 1
    assert claims.paint(label, 1)[0].tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]


def test_more_contenders_in_a_cell_than_a_byte_can_name():
    nodes = np.random.default_rng(0).normal(0, 1, (600, 2, 2)).astype(np.float32)
    check_softmax(nodes, Fit((30, 40), (8, 8), (8, 8)), np.arange(600), 0.0, True)


def test_interpolation_is_that_of_torch():
    torch = pytest.importorskip("torch")
    nodes = np.random.default_rng(0).normal(size=(2, 7, 9)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(torch.from_numpy(nodes)[None], (31, 50), mode="bilinear")[0].numpy()
    np.testing.assert_allclose(upsampled(nodes, Fit((31, 50), (28, 36), (28, 36))), theirs, atol=1e-5)


def test_aligned_interpolation_is_that_of_torch_in_two_steps():
    """kMaX-DeepLab: to the size of the input, and from its part without padding to the size of the camera image."""
    torch = pytest.importorskip("torch")
    interpolate = partial(torch.nn.functional.interpolate, mode="bilinear", align_corners=True)
    nodes = np.random.default_rng(0).normal(size=(2, 9, 17)).astype(np.float32)
    where = fit(InputSpec(33, 65, keep_aspect=True, align_corners=True), 90, 120)
    assert where.resized == (33, 44)
    whole = interpolate(torch.from_numpy(nodes)[None].double(), (33, 65))
    theirs = interpolate(whole[..., :33, :44], (90, 120))[0].numpy()
    np.testing.assert_allclose(upsampled(nodes, where), theirs, atol=1e-10)


def test_padding_is_cut_off():
    """A camera image that fills the left half of the input sees the left half of the masks."""
    nodes = np.zeros((2, 4, 8), np.float32)
    nodes[0, :, :4] = nodes[1, :, 4:] = 20
    where = fit(InputSpec(16, 32, keep_aspect=True), 64, 64)
    assert where.resized == (16, 16)
    claims = check_softmax(nodes, where, np.arange(2), 0.5, False)
    # The last pixel lies at node 63.5 / 16 - 0.5 = 3.47, short of the border between nodes 3 and 4.
    assert claims.mask_area.tolist() == [64 * 64, 0]
