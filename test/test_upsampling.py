"""The sparse evaluation of claims equals the dense one at every pixel, ties aside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vps_ros.segmenters.contract import InputSpec
from vps_ros.segmenters.grid import grid
from vps_ros.segmenters.preprocess import Fit, fit
from vps_ros.segmenters.sigmoid import sigmoid_claims
from vps_ros.segmenters.softmax import SoftmaxField
from vps_ros.segmenters.upsample import softmax_claims


def tie_within(nodes):
    """Probability by which float32 may be wrong: its last digit grows with the logits."""
    return 2e-5 + 1e-6 * np.abs(nodes).max()


def upsampled(nodes, where):
    """Dense bilinear upsampling in float64, written out from its definition."""
    values = nodes.astype(np.float64)
    for axis in (0, 1):
        pixels, n = where.camera[axis], nodes.shape[axis + 1]
        scale = where.resized[axis] / pixels * n / where.input[axis]
        position = np.clip((np.arange(pixels) + 0.5) * scale - 0.5, 0, n - 1)
        low = np.floor(position).astype(int)
        weight = (position - low).reshape((-1,) + (1,) * (1 - axis))
        below, above = values.take(low, axis + 1), values.take(np.minimum(low + 1, n - 1), axis + 1)
        values = below + weight * (above - below)
    return values


def dense(nodes, where, candidates, threshold, exclusive, scores=None):
    """Claims of the candidates, bool [Q, H, W], and the pixels where a tie makes them a matter of rounding."""
    values, near = upsampled(nodes, where), tie_within(nodes)
    if scores is None:
        p = np.exp(values - values.max(0))
        p /= p.sum(0)
        tie = (np.abs(p - threshold) < near).any(0)
        claims = p > threshold
        rivals = p
    else:
        p = 1 / (1 + np.exp(np.minimum(-values[candidates], 700)))
        tie = (np.abs(p - threshold) < near).any(0)
        claims = p > threshold
        rivals = np.where(claims, p * scores[:, None, None], 0)
    mask_area = claims.sum((1, 2))
    if exclusive:
        claims &= np.arange(len(rivals))[:, None, None] == rivals.argmax(0)
        if len(rivals) > 1:
            second, first = np.partition(rivals, -2, axis=0)[-2:]
            tie |= (first - second < near) & (first > 0)
    if scores is None:
        claims, mask_area = claims[candidates], mask_area[candidates]
    return claims, mask_area, tie


def check(nodes, where, candidates, threshold, exclusive, scores=None):
    over = grid(where, nodes.shape[1:])
    if scores is None:
        claims = softmax_claims(SoftmaxField(nodes), candidates, over, threshold, exclusive)
    else:
        claims = sigmoid_claims(nodes, candidates, over, threshold, exclusive, scores)
    entries = len(claims.weight)
    entry, _ = claims.paint(np.arange(1, entries + 1, dtype=np.uint32), entries)
    assert entry.shape == where.camera and entry.min() > 0
    expected, mask_area, tie = dense(nodes, where, candidates, threshold, exclusive, scores)
    member = np.zeros((len(candidates), entries), bool)
    member[claims.query, claims.entry] = True
    differs = (member[:, entry - 1] != expected).any(0) & ~tie
    assert not differs.any(), f"{differs.sum()} of {differs.size} pixels differ"
    counted = np.bincount(entry.ravel() - 1, minlength=len(claims.weight))
    claimed = member.any(0)
    np.testing.assert_array_equal(counted[claimed], claims.weight[claimed])
    if not (exclusive and scores is None):
        assert np.abs(claims.mask_area - mask_area).max(initial=0) <= tie.sum()
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
    }
)


def arrange(scene):
    rng = np.random.default_rng(scene["seed"])
    nodes = smooth(rng, (scene["queries"], *scene["nodes"]), scene["blur"], scene["height"])
    spec = InputSpec(scene["nodes"][0] * 4, scene["nodes"][1] * 4, keep_aspect=scene["keep_aspect"])
    some = np.flatnonzero(rng.random(scene["queries"]) < 0.8)
    return nodes, fit(spec, *scene["camera"]), rng.permutation(some if len(some) else [0]), rng


@settings(max_examples=400, deadline=None)
@given(scenes)
def test_softmax_claims_equal_the_dense_ones(scene):
    nodes, where, candidates, _ = arrange(scene)
    check(nodes, where, candidates, scene["threshold"], scene["exclusive"])


@settings(max_examples=400, deadline=None)
@given(scenes)
def test_sigmoid_claims_equal_the_dense_ones(scene):
    nodes, where, candidates, rng = arrange(scene)
    scores = rng.uniform(0.2, 1, len(candidates)).astype(np.float32)
    check(nodes, where, candidates, scene["threshold"], scene["exclusive"], scores)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("camera", [(375, 1242), (270, 480), (40, 50)])
def test_a_street_of_many_queries(camera, exclusive):
    rng = np.random.default_rng(3)
    nodes = smooth(rng, (40, 24, 80), 3, 6.0)
    where = fit(InputSpec(96, 320, keep_aspect=True), *camera)
    check(nodes, where, np.arange(0, 40, 2), 0.4, exclusive)
    check(nodes, where, np.arange(0, 40, 2), 0.5, exclusive, rng.uniform(0.2, 1, 20).astype(np.float32))


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
    claims = check(nodes, Fit((1, 40), (4, 8), (4, 8)), np.arange(3), 0.4, False)
    assert claims.mask_area.tolist() == [12, 12, 16]


def test_equal_logits_go_to_the_first_query():
    nodes = np.zeros((3, 2, 2), np.float32)
    claims = softmax_claims(SoftmaxField(nodes), np.arange(3), grid(Fit((9, 9), (8, 8), (8, 8)), (2, 2)), 0.3, True)
    assert claims.mask_area.tolist() == [81, 0, 0]


def test_interpolation_is_that_of_torch():
    torch = pytest.importorskip("torch")
    nodes = np.random.default_rng(0).normal(size=(2, 7, 9)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(torch.from_numpy(nodes)[None], (31, 50), mode="bilinear")[0].numpy()
    np.testing.assert_allclose(upsampled(nodes, Fit((31, 50), (28, 36), (28, 36))), theirs, atol=1e-5)


def test_padding_is_cut_off():
    """A camera image that fills the left half of the input sees the left half of the masks."""
    nodes = np.zeros((2, 4, 8), np.float32)
    nodes[0, :, :4] = nodes[1, :, 4:] = 20
    where = fit(InputSpec(16, 32, keep_aspect=True), 64, 64)
    assert where.resized == (16, 16)
    claims = check(nodes, where, np.arange(2), 0.5, False)
    # The last pixel lies at node 63.5 / 16 - 0.5 = 3.47, short of the border between nodes 3 and 4.
    assert claims.mask_area.tolist() == [64 * 64, 0]
