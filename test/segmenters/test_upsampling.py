"""Post-processing equals its definition, written out in float64, at every pixel that rounding does not decide."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.interpolation import at_input, interpolated
from vps_ros.label_maps import pixel_counts
from vps_ros.segmenters.model_card import InputSpec, Thresholds
from vps_ros.segmenters.postprocess import from_logits
from vps_ros.segmenters.preprocess import Fit, fit
from vps_ros.segmenters.upsampling import Upsampling, labels_at_camera
from vps_ros.taxonomy import CITYSCAPES

CAR = [c.name for c in CITYSCAPES.classes].index("car")
RULES = [
    ("softmax_queries", "pixel_wise", 0),
    ("softmax_queries", "mask_wise", 0),
    ("sigmoid", "pixel_wise", 0),
    ("sigmoid", "mask_wise", 0),
    ("sigmoid", "argmax", 0),
    ("sigmoid", "argmax", 7),
]


def sigmoid(x):
    return 1 / (1 + np.exp(np.clip(-np.asarray(x, np.float64), -700, 700)))


def lead(rivals):
    """How far the largest is ahead of the second, at each pixel."""
    if len(rivals) < 2:
        return np.full(rivals.shape[1:], np.inf)
    second, first = np.partition(rivals, -2, axis=0)[-2:]
    return first - second


def dense(nodes, where, scores, limits, activation):
    """Owner of each input pixel (-1 for none), and where the outcome is a matter of rounding or of pruning."""
    number = np.arange(len(nodes))[:, None, None]
    near = 1e-4 + 1e-6 * np.abs(nodes).max()
    weight = scores[:, None, None].astype(np.float64)
    if activation == "softmax_queries":
        values = at_input(nodes, where)
        p = np.exp(values - values.max(0))
        p /= p.sum(0)
        relative = nodes - nodes.max(0)
        # What is left out: queries that are far behind at all nodes around, yet count in between.
        beaten = at_input((relative > -4).astype(np.float32), where) == 0
        far = at_input((relative > -10).astype(np.float32), where) == 0
        unsure = (beaten & (p == p.max(0))).any(0) | ((far & (p > 1e-3)).any(0))
        unsure |= (np.abs(p - limits.mask) < 0.02 * (limits.mask < 1 / len(p)) + near + 2e-3).any(0)
        claims = p > limits.mask
        if limits.mode == "pixel_wise":
            claims &= number == p.argmax(0)
            unsure |= lead(p) < near
            return np.where(claims.any(0), claims.argmax(0), -1), unsure
        return pasted(claims, limits.overlap), unsure
    if limits.mode == "mask_wise":
        p = sigmoid(at_input(nodes, where))
        return pasted(p > limits.mask, limits.overlap), (np.abs(p - limits.mask) < near).any(0)
    if limits.mode == "argmax":
        if limits.mask_grid:
            side = (limits.mask_grid, limits.mask_grid)
            nodes = interpolated(nodes, side, side)
        product = at_input(weight * sigmoid(nodes), where)
        inside = product > limits.mask
        unsure = (np.abs(product - limits.mask) < near).any(0)
    else:
        p = sigmoid(at_input(nodes, where))
        product, inside = weight * p, p > limits.mask
        unsure = (np.abs(p - limits.mask) < near).any(0)
    wins = number == product.argmax(0)
    unsure |= lead(product) < near
    kept = (wins.sum((1, 2)) > limits.overlap * inside.sum((1, 2))) & inside.any((1, 2))
    claims = wins & kept[:, None, None]
    if limits.mode == "pixel_wise":
        claims &= inside
    return np.where(claims.any(0), claims.argmax(0), -1), unsure


def pasted(claims, overlap):
    owner = np.full(claims.shape[1:], -1)
    for q, mask in enumerate(claims):
        free = mask & (owner < 0)
        if free.any() and free.sum() > overlap * mask.sum():
            owner[free] = q
    return owner


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
        "height": st.sampled_from([0.3, 2.0, 8.0, 30.0]),
        "blur": st.integers(0, 3),
        "threshold": st.sampled_from([0.0, 0.05, 0.3, 0.4, 0.5, 0.7]),
        "keep_aspect": st.booleans(),
        "align_corners": st.booleans(),
        "stride": st.sampled_from([(4, 4), (2, 2), (4, 3)]),
    }
)


def arrange(scene):
    rng = np.random.default_rng(scene["seed"])
    nodes = smooth(rng, (scene["queries"], *scene["nodes"]), scene["blur"], scene["height"])
    if scene["align_corners"]:
        height, width = (max(n - 1, 1) * 4 + 1 for n in scene["nodes"])
    else:
        height, width = (n * s for n, s in zip(scene["nodes"], scene["stride"], strict=True))
    spec = InputSpec(height, width, keep_aspect=scene["keep_aspect"], align_corners=scene["align_corners"])
    return nodes, fit(spec, *scene["camera"]), rng


def segments(nodes, where, scores, limits, activation):
    """Owner of each camera pixel: all queries are cars of these scores, in order of rank, and know their number."""
    classes = np.repeat(np.log((1 - scores[:, None]) / len(CITYSCAPES) + 1e-9), len(CITYSCAPES) + 1, axis=1)
    classes[:, CAR] = np.log(scores)
    outputs = {"class_logits": classes, "mask_logits": nodes, "query_embeddings": np.arange(len(nodes))[:, None]}
    given = {name: array[None].astype(np.float32) for name, array in outputs.items()}
    found = from_logits(given, where, CITYSCAPES, limits, activation)
    return np.append(-1, found.embeddings[:, 0]).astype(int)[found.map]


@settings(max_examples=400, deadline=None)
@given(scenes, st.sampled_from(RULES), st.sampled_from([0.0, 0.5]))
def test_pixels_go_to_those_that_the_definition_names(scene, rule, overlap):
    nodes, where, rng = arrange(scene)
    activation, mode, side = rule
    scores = np.sort(rng.uniform(0.4, 1, len(nodes)))[::-1].astype(np.float32)
    limits = Thresholds(thing=0.0, overlap=overlap, mask=scene["threshold"], mode=mode, mask_grid=side)
    expected, unsure = dense(nodes, where, scores, limits, activation)
    if unsure.any() and (overlap or mode != "pixel_wise" or activation == "sigmoid"):
        # One pixel more or less may decide over a whole mask: compare where nothing is a matter of rounding.
        limits = dataclasses.replace(limits, overlap=0.0)
        expected, unsure = dense(nodes, where, scores, limits, activation)
    found = segments(nodes, where, scores, limits, activation)
    rows, columns = where.nearest(0), where.nearest(1)
    expected, unsure = expected[rows][:, columns], unsure[rows][:, columns]
    if unsure.any() and activation == "sigmoid" and mode != "mask_wise":
        # A mask of no certain pixel may be kept or not.
        unsure = unsure | ~np.isin(expected, np.unique(expected[~unsure]))
        unsure |= ~np.isin(found, np.unique(expected[~unsure]))
    differs = (found != expected) & ~unsure
    assert not differs.any(), f"{differs.sum()} of {differs.size} pixels differ"


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("camera", [(375, 1242), (270, 480), (40, 50)])
def test_a_street_of_many_queries(rule, camera):
    """Most pixels are certain, and nearly all of these are as defined."""
    rng = np.random.default_rng(3)
    activation, mode, side = rule
    nodes = smooth(rng, (20, 24, 80), 3, 6.0)
    scores = np.sort(rng.uniform(0.4, 1, 20))[::-1].astype(np.float32)
    where = fit(InputSpec(96, 320, keep_aspect=True), *camera)
    limits = Thresholds(thing=0.0, overlap=0.0, mask=0.4, mode=mode, mask_grid=side)
    expected, unsure = dense(nodes, where, scores, limits, activation)
    found = segments(nodes, where, scores, limits, activation)
    rows, columns = where.nearest(0), where.nearest(1)
    expected, unsure = expected[rows][:, columns], unsure[rows][:, columns]
    assert unsure.mean() < 0.2
    assert (found != expected)[~unsure].mean() < 1e-4


def test_interpolation_is_that_of_torch():
    torch = pytest.importorskip("torch")
    nodes = np.random.default_rng(0).normal(size=(2, 7, 9)).astype(np.float32)
    for size, where in (((28, 36), Fit((50, 60), (28, 36), (28, 36))), ((28, 36), Fit((50, 60), (28, 36), (20, 36)))):
        theirs = torch.nn.functional.interpolate(torch.from_numpy(nodes)[None], size, mode="bilinear")[0].numpy()
        upsampling = Upsampling.of(where, (7, 9))
        for mine, other in zip(nodes, theirs, strict=True):
            np.testing.assert_allclose(upsampling(mine), other[: where.resized[0]], atol=1e-5)


def test_aligned_interpolation_is_that_of_torch():
    """kMaX-DeepLab: masks of 2^n k + 1 nodes, corners on corners; the padding below is cut off."""
    torch = pytest.importorskip("torch")
    nodes = np.random.default_rng(0).normal(size=(1, 9, 17)).astype(np.float32)
    where = fit(InputSpec(33, 65, keep_aspect=True, align_corners=True), 90, 120)
    assert where.resized == (33, 44)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(nodes)[None], (33, 65), mode="bilinear", align_corners=True
    )[0, 0].numpy()
    np.testing.assert_allclose(Upsampling.of(where, (9, 17))(nodes[0]), theirs[:, :44], atol=1e-5)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_areas_and_boxes_are_those_of_the_camera_map(seed, keep_aspect, align_corners):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(2, 40, 2).tolist()
    spec = InputSpec(height, width, keep_aspect=keep_aspect, align_corners=align_corners)
    where = fit(spec, *rng.integers(1, 90, 2).tolist())
    labels = np.kron(rng.integers(0, 5, (height, width)), np.ones((3, 2), np.uint8)).astype(np.uint8)
    labels = labels[: where.resized[0], : where.resized[1]]
    picture, areas, boxes = labels_at_camera(labels, where, 6)
    np.testing.assert_array_equal(picture, labels[where.nearest(0)][:, where.nearest(1)])
    for label in range(1, 7):
        rows, columns = np.nonzero(picture == label)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0] * 4
        assert boxes[label - 1].tolist() == expected
        assert areas[label - 1] == len(rows)


def test_nearest_input_pixels_by_hand():
    """Six camera pixels over three input pixels; two over four take the centres of each half."""
    assert fit(InputSpec(1, 3), 1, 6).nearest(1).tolist() == [0, 0, 1, 1, 2, 2]
    assert fit(InputSpec(1, 4), 1, 2).nearest(1).tolist() == [1, 3]


def test_far_apart_logits_meet_in_the_middle():
    """From 0 to -40 over 4 pixels, and back: each query has the half at which it is ahead."""
    nodes = np.array([[[0.0, -40.0]], [[-40.0, 0.0]]], np.float32)
    where = Fit((1, 8), (4, 8), (1, 8))
    for mode in ("pixel_wise", "mask_wise"):
        limits = Thresholds(thing=0.0, overlap=0.0, mask=0.4, mode=mode)
        owner = segments(nodes, where, np.array([0.9, 0.8], np.float32), limits, "softmax_queries")
        assert owner.tolist() == [[0] * 4 + [1] * 4]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.4])
def test_equal_logits_go_to_the_first_query(threshold):
    """With a threshold of 0.4, none of three equals reaches it."""
    nodes, where = np.zeros((3, 2, 2), np.float32), Fit((9, 9), (8, 8), (8, 8))
    limits = Thresholds(thing=0.0, overlap=0.0, mask=threshold, mode="pixel_wise")
    owner = segments(nodes, where, np.array([0.9, 0.8, 0.7], np.float32), limits, "softmax_queries")
    assert (owner == (0 if threshold < 0.4 else -1)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_pixels_are_counted_for_each_label(dtype):
    labels = np.array([[0, 3, 3], [1, 3, 0]], dtype)
    assert pixel_counts(labels, 5).tolist() == [2, 1, 0, 3, 0]
