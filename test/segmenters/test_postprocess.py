"""Each rule of post-processing on masks small enough to work out by hand."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.small_taxonomy import CAR, ROAD, SKY, TAXONOMY
from vps_ros.errors import DroppedFrame
from vps_ros.segmenters import postprocess
from vps_ros.segmenters.model_card import InputSpec, Thresholds
from vps_ros.segmenters.preprocess import fit

VOID = 3
HIGH = 30.0
LIMITS = Thresholds(thing=0.5, stuff=0.3, overlap=0.8, mask=0.4)
SQUARE = fit(InputSpec(8, 8), 8, 8)


def class_logits(*queries):
    """One row a query: {class: probability}; what is left goes to void."""
    rows = []
    for probabilities in queries:
        p = np.full(len(TAXONOMY) + 1, 1e-9)
        for column, value in probabilities.items():
            p[column] = value
        p[VOID] += max(1 - p.sum(), 1e-9)
        rows.append(np.log(p / p.sum()))
    return np.array([rows], np.float32)


def outputs(classes, masks):
    """Outputs of a network for masks [N, h, w] given as logits; embeddings are the number of the query."""
    masks = np.array([masks], np.float32)
    embeddings = np.arange(masks.shape[1], dtype=np.float32)[None, :, None] * np.ones(3, np.float32)
    return {"class_logits": classes, "mask_logits": masks, "query_embeddings": embeddings}


def columns(*ranges, size=8):
    """Mask logits that are HIGH in columns first..last-1 of a size x size map and low elsewhere."""
    masks = np.full((len(ranges), size, size), -HIGH)
    for mask, (first, last) in zip(masks, ranges, strict=True):
        mask[:, first:last] = HIGH
    return masks


def run(given, where=SQUARE, activation="softmax_queries", **changes):
    limits = dataclasses.replace(LIMITS, **changes)
    return postprocess.from_logits(given, where, TAXONOMY, limits, activation)


def test_every_fact_of_a_segment():
    result = run(outputs(class_logits({ROAD: 0.9}, {CAR: 0.8}, {}), columns((0, 5), (5, 8), (0, 0))))
    assert result.map.dtype == np.uint8
    assert result.map.tolist() == [[1] * 5 + [2] * 3] * 8
    assert result.class_ids.tolist() == [7, 26]
    assert result.is_thing.tolist() == [False, True]
    np.testing.assert_allclose(result.scores, [0.9, 0.8], rtol=1e-5)
    assert result.areas.tolist() == [40, 24]
    assert result.boxes.tolist() == [[0, 0, 5, 8], [5, 0, 8, 8]]
    assert result.embeddings.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert (result.scores.dtype, result.areas.dtype, result.boxes.dtype) == (np.float32, np.int64, np.float32)


def test_void_is_dropped_without_normalising_the_rest():
    """Void 0.6, car 0.35: the car's score is 0.35, not 0.875, and below the threshold of things."""
    column, score = postprocess.classify(class_logits({CAR: 0.35, ROAD: 0.05})[0])
    assert column.tolist() == [CAR]
    np.testing.assert_allclose(score, [0.35], rtol=1e-5)
    result = run(outputs(class_logits({CAR: 0.35, ROAD: 0.05}), columns((0, 8))))
    assert len(result) == 0
    assert not result.map.any()


def test_things_and_stuff_have_thresholds_of_their_own():
    given = outputs(class_logits({ROAD: 0.4}, {CAR: 0.4}), columns((0, 4), (4, 8)))
    assert run(given).class_ids.tolist() == [7]
    assert run(given, thing=0.4 - 1e-6).class_ids.tolist() == [7, 26]
    assert run(given, stuff=0.41).class_ids.tolist() == []


def test_queries_that_are_no_candidates_still_take_part_in_the_softmax():
    given = outputs(class_logits({ROAD: 0.9}, {}), columns((0, 8), (4, 8)))
    given["mask_logits"][0, 1, :, 4:] += 1
    result = run(given)
    assert result.areas.tolist() == [32]
    assert run(given, activation="sigmoid").areas.tolist() == [64]


def test_mask_probability_must_exceed_the_threshold():
    """Three equal masks have a third of the probability each."""
    given = outputs(class_logits({ROAD: 0.9}, {SKY: 0.8}, {CAR: 0.7}), np.zeros((3, 8, 8)))
    assert len(run(given)) == 0
    assert run(given, mask=0.33).class_ids.tolist() == [7]


def test_the_better_class_is_pasted_first():
    """Both claim columns 3 and 4 with a half each; the car is surer and keeps them, the road has 3 of 5 left."""
    given = outputs(class_logits({ROAD: 0.8}, {CAR: 0.9}), columns((0, 5), (3, 8)))
    result = run(given, overlap=0.59)
    assert result.class_ids.tolist() == [26, 7]
    assert result.map.tolist() == [[2] * 3 + [1] * 5] * 8
    assert result.areas.tolist() == [40, 24]


def test_a_mask_too_much_covered_gets_nothing():
    """The road has exactly 3 of 5 columns left, and must have more than the threshold."""
    given = outputs(class_logits({ROAD: 0.8}, {CAR: 0.9}), columns((0, 5), (3, 8)))
    assert run(given, overlap=0.61).class_ids.tolist() == [26]
    assert run(given, overlap=0.6).class_ids.tolist() == [26]
    assert run(given, overlap=0.599).class_ids.tolist() == [26, 7]


def test_pixels_of_a_refused_mask_go_to_the_next():
    """The sky loses to the car and is refused; the road then gets what the sky had claimed."""
    classes = class_logits({CAR: 0.9}, {SKY: 0.8}, {ROAD: 0.7})
    given = outputs(classes, columns((0, 5), (0, 7), (5, 8)))
    result = run(given, activation="sigmoid", overlap=0.5)
    assert result.class_ids.tolist() == [26, 7]
    assert result.map.tolist() == [[1] * 5 + [2] * 3] * 8


def test_the_mask_score_decides_the_order_where_its_exponent_says_so():
    """Car 0.8 with a mask of 0.6, road 0.7 with a mask of 0.9: by class the car leads, by the product the road."""
    masks = np.full((2, 8, 8), -HIGH)
    masks[0, :, 0:5], masks[1, :, 3:8] = np.log(0.6 / 0.4), np.log(0.9 / 0.1)
    given = outputs(class_logits({CAR: 0.8}, {ROAD: 0.7}), masks)
    by_class = run(given, activation="sigmoid", overlap=0.5)
    assert by_class.class_ids.tolist() == [26, 7]
    np.testing.assert_allclose(by_class.scores, [0.8, 0.7], rtol=1e-5)
    by_product = run(given, activation="sigmoid", overlap=0.5, mask_exponent=1.0)
    assert by_product.class_ids.tolist() == [7, 26]
    np.testing.assert_allclose(by_product.scores, [0.63, 0.48], rtol=1e-5)
    by_squares = run(given, activation="sigmoid", overlap=0.5, class_exponent=2.0, mask_exponent=0.5)
    np.testing.assert_allclose(by_squares.scores, [0.49 * 0.9**0.5, 0.64 * 0.6**0.5][::-1], rtol=1e-5)


def scores_of_softmax(p, query, **limits):
    """Mask scores where the logits, relative to the largest, have these probabilities [N, h, w]."""
    relative = np.log(p / p.max(0)).astype(np.float32)
    limits = dataclasses.replace(LIMITS, **limits)
    return postprocess.mask_scores(relative, np.array(query), limits, "softmax_queries")


def test_mask_score_of_softmax_masks_is_their_mean_where_they_exceed_the_threshold():
    p = np.array([[[0.9, 0.5, 0.3]], [[0.1, 0.5, 0.7]]])
    np.testing.assert_allclose(scores_of_softmax(p, [1, 0], mask=0.4, mode="mask_wise"), [0.6, 0.7], rtol=1e-6)
    assert scores_of_softmax(p, [0], mask=0.95, mode="mask_wise").tolist() == [0]


def test_pixel_wise_mask_score_does_not_depend_on_the_size_of_the_object():
    """Without a threshold the mean over the whole image would be 0.47; the query wins the first two nodes."""
    p = np.array([[[0.9, 0.7, 0.1, 0.18]], [[0.1, 0.3, 0.9, 0.82]]])
    np.testing.assert_allclose(scores_of_softmax(p, [0, 1], mask=0.0, mode="pixel_wise"), [0.8, 0.86], rtol=1e-6)
    np.testing.assert_allclose(scores_of_softmax(p, [0, 1], mask=0.85, mode="pixel_wise"), [0.9, 0.9], rtol=1e-6)


def test_stuff_of_one_class_becomes_one_segment_things_do_not():
    classes = class_logits({ROAD: 0.6}, {ROAD: 0.9}, {CAR: 0.8}, {CAR: 0.7})
    result = run(outputs(classes, columns((0, 2), (6, 8), (2, 4), (4, 6))))
    assert result.class_ids.tolist() == [7, 26, 26]
    assert result.map.tolist() == [[1, 1, 2, 2, 3, 3, 1, 1]] * 8
    assert result.areas.tolist() == [32, 16, 16]
    assert result.boxes.tolist() == [[0, 0, 8, 8], [2, 0, 4, 8], [4, 0, 6, 8]]
    np.testing.assert_allclose(result.scores, [0.9, 0.8, 0.7], rtol=1e-5)
    assert result.embeddings[:, 0].tolist() == [1, 2, 3]


def test_small_segments_become_void():
    """16 pixels of car, 16 + 16 of road: the parts of stuff count together."""
    classes = class_logits({ROAD: 0.6}, {ROAD: 0.9}, {CAR: 0.8}, {SKY: 0.7})
    given = outputs(classes, columns((0, 2), (6, 8), (2, 4), (4, 6)))
    result = run(given, stuff_area=17, thing_area=16)
    assert result.class_ids.tolist() == [7, 26]
    assert result.map.tolist() == [[1, 1, 2, 2, 0, 0, 1, 1]] * 8
    assert run(given, stuff_area=33, thing_area=17).class_ids.tolist() == []


def test_areas_are_in_pixels_of_the_network_input():
    """A camera of 16 x 24 over an input of 8 x 8: one input pixel is six camera pixels."""
    given = outputs(class_logits({ROAD: 0.9}, {CAR: 0.8}), columns((0, 5), (5, 8)))
    where = fit(InputSpec(8, 8), 16, 24)
    assert where.pixels_per_input_pixel == 6
    assert run(given, where, thing_area=24).areas.tolist() == [15 * 16, 9 * 16]
    assert run(given, where, thing_area=25).class_ids.tolist() == [7]


def test_pixel_wise_softmax_gives_each_pixel_to_its_largest_query():
    """The pixels where the largest is no candidate are void, though a candidate claims them too."""
    masks = np.array([columns((0, 8))[0], columns((4, 8))[0] + 0.2])
    classes = class_logits({ROAD: 0.9}, {})
    assert run(outputs(classes, masks), mode="pixel_wise").areas.tolist() == [32]
    assert run(outputs(classes, masks), overlap=0.5).areas.tolist() == [64]
    both = run(outputs(class_logits({ROAD: 0.9}, {CAR: 0.6}), masks), mode="pixel_wise", overlap=1.0)
    assert both.map.tolist() == [[1] * 4 + [2] * 4] * 8


def test_pixel_wise_sigmoid_weighs_masks_by_class_score():
    """In columns 3 and 4 the road's 0.9 * 0.7 beats the car's 0.6 * 0.9; the car keeps 3 of 5."""
    masks = np.full((2, 8, 8), -HIGH)
    masks[0, :, 0:5], masks[1, :, 3:8] = np.log(0.7 / 0.3), np.log(0.9 / 0.1)
    given = outputs(class_logits({ROAD: 0.9}, {CAR: 0.6}), masks)
    result = run(given, activation="sigmoid", mode="pixel_wise", overlap=0.5)
    assert result.map.tolist() == [[1] * 5 + [2] * 3] * 8
    refused = run(given, activation="sigmoid", mode="pixel_wise", overlap=0.6)
    assert refused.map.tolist() == [[1] * 5 + [0] * 3] * 8


def levels(*rows):
    """Mask logits of probabilities given by column, the same in all 8 rows."""
    p = np.clip(np.array(rows, np.float64), 1e-9, 1 - 1e-9)
    return np.repeat(np.log(p / (1 - p))[:, None], 8, axis=1)


def test_a_winner_below_the_threshold_leaves_a_pixel_void_or_takes_it():
    """In column 4 the road's 0.9 * 0.45 beats the car's 0.6 * 0.6, in column 5 nobody reaches a half.

    Column 5 is the road's by 0.36 to 0.3. Where winners below the threshold count, the road has columns 0..5.
    """
    masks = levels([0.9] * 4 + [0.45, 0.4, 0, 0], [0] * 4 + [0.6, 0.49, 0.9, 0.9])
    given = outputs(class_logits({ROAD: 0.9}, {CAR: 0.6}), masks)
    pixel_wise = run(given, activation="sigmoid", mode="pixel_wise", overlap=0.5, mask=0.5)
    assert pixel_wise.map.tolist() == [[1] * 4 + [0, 0, 2, 2]] * 8
    argmax = run(given, activation="sigmoid", mode="argmax", overlap=0.5, mask=0.5)
    assert argmax.map.tolist() == [[1] * 6 + [2, 2]] * 8


def test_pixels_that_a_pixel_wise_query_wins_below_the_threshold_count_for_it():
    """The car's mask is columns 4 to 7, of which the road takes one: 3 are not more than 0.8 of 4.

    It also wins columns 2 and 3, by 0.6 * 0.45 to 0.9 * 0.2, which stay void; with them it has 5.
    """
    classes = class_logits({ROAD: 0.9}, {CAR: 0.6})
    rows = [0.9, 0.9, 0.2, 0.2, 0.7, 0, 0, 0], [0, 0, 0.45, 0.45, 0.9, 0.9, 0.9, 0.9]
    result = run(outputs(classes, levels(*rows)), activation="sigmoid", mode="pixel_wise", overlap=0.8, mask=0.5)
    assert result.map.tolist() == [[1, 1, 0, 0, 1, 2, 2, 2]] * 8
    rows[1][2:4] = 0.1, 0.1
    result = run(outputs(classes, levels(*rows)), activation="sigmoid", mode="pixel_wise", overlap=0.8, mask=0.5)
    assert result.map.tolist() == [[1, 1, 0, 0, 1, 0, 0, 0]] * 8


def test_argmax_compares_what_is_won_with_where_the_product_exceeds_the_threshold():
    """The car's products are 0.42 and 0.54: two columns above 0.5, of which the road's 0.72 takes one.

    It wins columns 4 and 5 by 0.42, and 6: three, of two above the threshold. The sky has two above it, and wins none.
    """
    masks = levels([0.8, 0.8, 0.8, 0.8, 0, 0, 0, 0.8], [0] * 4 + [0.7, 0.7, 0.9, 0.9], [0.7] * 2 + [0] * 6)
    given = outputs(class_logits({ROAD: 0.9}, {CAR: 0.6}, {SKY: 0.8}), masks)
    result = run(given, activation="sigmoid", mode="argmax", overlap=0.99, mask=0.5)
    assert result.map.tolist() == [[1] * 4 + [2] * 3 + [1]] * 8
    assert result.class_ids.tolist() == [7, 26]


def test_argmax_refuses_a_mask_that_nowhere_exceeds_the_threshold():
    given = outputs(class_logits({ROAD: 0.9}, {CAR: 0.6}), levels([0.9] * 4 + [0] * 4, [0] * 4 + [0.8] * 4))
    assert run(given, activation="sigmoid", mode="argmax", mask=0.5).map.tolist() == [[1] * 4 + [0] * 4] * 8
    assert run(given, activation="sigmoid", mode="argmax", mask=0.4).map.tolist() == [[1] * 4 + [2] * 4] * 8


def test_argmax_interpolates_probabilities_and_the_others_logits():
    """From 0.99 to 0.3 over one node of 8 pixels: probabilities cross a half at 0.71 of the way, logits at 0.84."""
    masks = np.log(np.array([[[0.99, 0.3]]]) / (1 - np.array([[[0.99, 0.3]]])))
    where = fit(InputSpec(1, 200), 1, 200)
    given = outputs(class_logits({ROAD: 0.999}, {}), np.concatenate([masks, masks]))
    width = {
        mode: run(given, where, "sigmoid", mode=mode, mask=0.5, overlap=0.0).areas.tolist()
        for mode in ("pixel_wise", "mask_wise")
    }
    # Pixel x lies (x + 0.5) / 100 - 0.5 of the way; ln 99 / (ln 99 + ln 7/3) = 0.844 of it is inside.
    assert width == {"pixel_wise": [134], "mask_wise": [134]}
    # Every pixel is won; 0.49 / 0.69 = 0.710 of the way is above the threshold, and 200 / 121 pixels are enough.
    assert run(given, where, "sigmoid", mode="argmax", mask=0.5, overlap=1.65).areas.tolist() == [200]
    assert len(run(given, where, "sigmoid", mode="argmax", mask=0.5, overlap=1.66)) == 0


def test_argmax_on_a_grid_of_its_own():
    """The road's logits 2 and -30 are 2, -6, -22, -30 on a grid of four, the car's -2 and 2 are -2, -1, 1, 2.

    So pixel 1 is the car's by 0.27 * 0.8. Without the grid it lies a quarter of the way between the probabilities, and
    is the road's: 0.75 * 0.88 * 0.9 to (0.75 * 0.12 + 0.25 * 0.88) * 0.8.
    """
    masks = np.array([[[2.0, -30.0]] * 2, [[-2.0, 2.0]] * 2])
    given = outputs(class_logits({ROAD: 0.9}, {CAR: 0.8}), masks)
    where = fit(InputSpec(4, 4), 4, 4)
    found = {n: run(given, where, "sigmoid", mode="argmax", mask_grid=n, mask=0.5).map.tolist() for n in (0, 4)}
    assert found == {0: [[1, 1, 2, 2]] * 4, 4: [[1, 2, 2, 2]] * 4}


def test_a_sigmoid_query_whose_void_is_likelier_is_no_candidate():
    given = outputs(class_logits({CAR: 0.4}), columns((0, 8)))
    assert run(given, activation="sigmoid", thing=0.3).class_ids.tolist() == []
    assert run(given, thing=0.3).class_ids.tolist() == [26]


def test_padding_of_the_input_is_no_part_of_the_picture():
    """A camera of 8 x 4 fills the left half of the input; the car lies in the padding alone."""
    given = outputs(class_logits({ROAD: 0.9}, {CAR: 0.9}), columns((0, 4), (4, 8)))
    where = fit(InputSpec(8, 8, keep_aspect=True), 8, 4)
    result = run(given, where)
    assert result.map.tolist() == [[1] * 4] * 8
    assert result.class_ids.tolist() == [7]


def test_more_segments_than_a_byte_holds():
    n = 18 * 18
    masks = np.full((n, 18, 18), -HIGH)
    masks[np.arange(n), np.arange(n) // 18, np.arange(n) % 18] = HIGH
    where = fit(InputSpec(18, 18), 18, 18)
    result = run(outputs(np.tile(class_logits({CAR: 0.9}), (1, n, 1)), masks), where)
    assert len(result) == n
    assert result.map.dtype == np.uint16
    np.testing.assert_array_equal(np.unique(result.map), np.arange(1, n + 1))
    assert (result.areas == 1).all()


KERNELS = np.array([[1, 0.5], [-1, 0.25], [0, 2]], np.float32)
MODES = [("softmax_queries", "mask_wise"), ("softmax_queries", "pixel_wise")]
MODES += [("sigmoid", mode) for mode in ("mask_wise", "pixel_wise", "argmax")]


@pytest.mark.parametrize(("activation", "mode"), MODES)
def test_kernels_and_features_are_the_mask_logits_that_they_multiply_to(activation, mode):
    features = 4 * np.random.default_rng(3).normal(size=(2, 8, 8)).astype(np.float32)
    classes = class_logits({CAR: 0.9}, {ROAD: 0.6}, {CAR: 0.8})
    given = outputs(classes, np.einsum("nd,dyx->nyx", KERNELS, features))
    factors = {k: v for k, v in given.items() if k != "mask_logits"}
    factors |= {"mask_kernels": KERNELS[None], "mask_features": features[None]}
    rule = {"activation": activation, "mode": mode, "mask_exponent": 1.0, "overlap": 0.1}
    expected = run(given, **rule)
    result = run(factors, **rule)
    assert len(expected) >= 2
    np.testing.assert_array_equal(result.map, expected.map)
    np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-5)
    np.testing.assert_array_equal(result.embeddings, expected.embeddings)


@pytest.mark.parametrize("mode", ["mask_wise", "pixel_wise", "argmax"])
@pytest.mark.parametrize("nodes", [(4, 8), (5, 8)])
def test_a_mask_ends_at_its_box(mode, nodes):
    """The mask covers an input of 16 x 32; the centres of columns 3 to 9 and of rows 2 to 6 lie in the first box."""
    given = outputs(class_logits({CAR: 0.9}, {CAR: 0.8}), np.full((2, *nodes), HIGH))
    given["query_boxes"] = np.array([[[2.6, 1.7, 10.4, 7.3], [-9, 12.2, 40, 99]]], np.float32)
    result = run(given, fit(InputSpec(16, 32), 16, 32), "sigmoid", mode=mode, overlap=0.5)
    expected = np.zeros((16, 32), int)
    expected[2:7, 3:10], expected[12:, :] = 1, 2
    np.testing.assert_array_equal(result.map, expected)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(4, 4), (5, 6), (8, 4), (3, 8)]),
    st.sampled_from(["mask_wise", "pixel_wise"]),
    st.booleans(),
)
def test_a_box_only_removes_pixels_of_its_mask(seed, nodes, mode, keep_aspect):
    rng = np.random.default_rng(seed)
    given = outputs(class_logits({CAR: 0.9}), 3 * rng.normal(size=(1, *nodes)))
    corners = np.sort(rng.uniform(-4, 30, (2, 2)), axis=0)
    where = fit(InputSpec(24, 24, keep_aspect=keep_aspect), 18, 24)._replace(
        camera=(18, 24) if keep_aspect else (24, 24)
    )
    limits = {"mode": mode, "overlap": 0.0, "mask": 0.5}
    without = run(given, where, "sigmoid", **limits).map > 0
    given["query_boxes"] = corners.reshape(1, 1, 4).astype(np.float32)
    y, x = (np.arange(n) + 0.5 for n in without.shape)
    (x0, y0), (x1, y1) = corners.astype(np.float32)
    inside = ((y >= y0) & (y < y1))[:, None] & (x >= x0) & (x < x1)
    np.testing.assert_array_equal(run(given, where, "sigmoid", **limits).map > 0, without & inside)


@pytest.mark.parametrize("name", ["mask_kernels", "mask_features", "query_boxes"])
def test_factors_and_boxes_that_are_not_finite_drop_the_frame(name):
    given = outputs(class_logits({CAR: 0.9}), columns((0, 8)))
    features = given.pop("mask_logits")
    given |= {"mask_kernels": np.ones((1, 1, 1)), "mask_features": features, "query_boxes": np.ones((1, 1, 4))}
    given[name].reshape(-1)[-1] = np.nan
    with pytest.raises(DroppedFrame, match=f"NaN or infinity in {name}"):
        run(given, activation="sigmoid")


@pytest.mark.parametrize("name", ["class_logits", "mask_logits", "query_embeddings"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_drops_the_frame(name, value):
    given = outputs(class_logits({ROAD: 0.9}), columns((0, 8)))
    given[name].reshape(-1)[-1] = value
    with pytest.raises(DroppedFrame, match=f"NaN or infinity in {name}"):
        run(given)


def test_half_precision_outputs():
    given = outputs(class_logits({ROAD: 0.9}, {CAR: 0.8}), columns((0, 5), (5, 8)))
    result = run({name: values.astype(np.float16) for name, values in given.items()})
    assert result.areas.tolist() == [40, 24]
    assert result.embeddings.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(
        [(a, m) for a in ("softmax_queries", "sigmoid") for m in ("mask_wise", "pixel_wise")] + [("sigmoid", "argmax")]
    ),
    st.booleans(),
)
def test_the_arrays_describe_the_map(seed, rule, keep_aspect):
    activation, mode = rule
    rng = np.random.default_rng(seed)
    queries, size = int(rng.integers(1, 12)), rng.integers(2, 12, 2)
    given = outputs(
        rng.normal(size=(1, queries, 4)).astype(np.float32) * 3,
        np.kron(rng.normal(size=(queries, *size)) * 8, np.ones((2, 2))),
    )
    where = fit(
        InputSpec(int(size[0]) * 8, int(size[1]) * 8, keep_aspect=keep_aspect), *rng.integers(1, 150, 2).tolist()
    )
    result = run(given, where, activation, mode=mode, overlap=0.5, thing_area=6, stuff_area=9)
    assert result.map.shape == where.camera
    np.testing.assert_array_equal(result.areas, np.bincount(result.map.ravel(), minlength=len(result) + 1)[1:])
    for k, box in enumerate(result.boxes):
        rows, cols = np.nonzero(result.map == k + 1)
        assert box.tolist() == [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
    stuff = result.class_ids[~result.is_thing].tolist()
    assert len(set(stuff)) == len(stuff)
    # Each input pixel is the nearest one of at least this number of camera pixels.
    least = np.prod([camera // resized for camera, resized in zip(where.camera, where.resized, strict=True)])
    assert (result.areas >= np.where(result.is_thing, 6, 9) * least).all()
    assert ((result.scores > 0) & (result.scores <= 1)).all()
