"""Kernels fused over the frames of a clip (Clip-PanoFCN), and clips segmented by several processes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.worlds import colour_model, picture
from vps_ros import Config, Frame, InputError, OnlinePanoptic
from vps_ros.recording.replay import replay
from vps_ros.segmenters.clip_kernels import fuse_kernels

ISTHING = np.array([False, True, True])
VOID = 3


def outputs(*queries):
    """One frame of (class, logit, kernel) for each query."""
    logits = np.zeros((1, len(queries), 4), np.float32)
    for row, (column, logit, _) in enumerate(queries):
        logits[0, row, column] = logit
    kernels = np.array([[kernel for _, _, kernel in queries]], np.float32)
    return {"class_logits": logits, "mask_kernels": kernels, "query_embeddings": 10 * kernels}


def test_fused_queries_by_hand():
    """Class 1: (1, 0) and its double, in two frames, are one object, (0, 1) is another; class 2 is never class 1."""
    first = outputs((1, 5, (1, 0)), (2, 4, (1, 0)), (0, 3, (4, 4)), (VOID, 9, (7, 7)))
    second = outputs((1, 3, (0, 1)), (1, 7, (2, 0)), (0, 5, (2, -2)), (1, 2, (-1, 0)))
    found = fuse_kernels([first, second], ISTHING, 0.9)
    # By score: 7 and 5 together, then class 2, (0, 1), (-1, 0); stuff last.
    np.testing.assert_allclose(found["mask_kernels"][0], [[1.5, 0], [1, 0], [0, 1], [-1, 0], [3, 1]])
    np.testing.assert_allclose(found["query_embeddings"], 10 * found["mask_kernels"])
    assert found["class_logits"][0].argmax(1).tolist() == [1, 2, 1, 1, 0]
    assert found["class_logits"][0].max(1).tolist() == [6, 4, 3, 2, 4]


def test_embeddings_decide_where_there_are_any():
    """Equal kernels with orthogonal embeddings are two objects; without embeddings they are one."""
    frames = [outputs((1, 5, (1, 1))), outputs((1, 4, (1, 1)))]
    frames[1]["query_embeddings"] = np.array([[[1, -1]]], np.float32)
    assert fuse_kernels(frames, ISTHING, 0.9)["mask_kernels"].shape == (1, 2, 2)
    for frame in frames:
        del frame["query_embeddings"]
    assert fuse_kernels(frames, ISTHING, 0.9)["mask_kernels"].shape == (1, 1, 2)


def test_stuff_of_another_place_or_class_is_not_averaged():
    first = outputs((0, 5, (1, 0)), (0, 5, (0, 1)))
    second = outputs((0, 5, (3, 0)), (VOID, 5, (9, 9)))
    found = fuse_kernels([first, second], ISTHING, 0.9)
    assert sorted(found["mask_kernels"][0].tolist()) == [[0, 1], [2, 0]]


def test_a_clip_without_queries_is_void():
    found = fuse_kernels([outputs((VOID, 1, (1, 1)))] * 2, ISTHING, 0.9)
    assert found["class_logits"].shape == (1, 1, 4)
    assert found["class_logits"][0, 0].argmax() == VOID


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**31))
def test_copies_of_a_frame_have_its_queries(copies, count, seed):
    rng = np.random.default_rng(seed)
    frame = outputs(*((int(rng.integers(4)), 1 + rng.random(), rng.normal(size=5)) for _ in range(count)))
    one, several = fuse_kernels([frame], ISTHING, 0.9), fuse_kernels([frame] * copies, ISTHING, 0.9)
    for name, values in one.items():
        np.testing.assert_allclose(several[name], values, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.floats(0.1, 1))
def test_each_thing_is_in_one_group_and_groups_are_of_one_class(seed, least):
    rng = np.random.default_rng(seed)
    frames = [outputs(*((int(rng.integers(4)), 1 + rng.random(), rng.normal(size=2)) for _ in range(5))) for _ in "abc"]
    found = fuse_kernels(frames, ISTHING, least)
    classes = np.concatenate([frame["class_logits"][0].argmax(1) for frame in frames])
    fused = found["class_logits"][0].argmax(1)
    assert set(fused.tolist()) - {VOID} == set(classes.tolist()) - {VOID}
    assert len(fused) <= max((classes != VOID).sum(), 1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "kernels": str(colour_model(folder / "kernels.onnx", kernels=True)),
        "logits": str(colour_model(folder / "logits.onnx")),
    }


def drive():
    """Two sequences of 5 and 3 frames, with a frame that cannot be used in the first."""
    for i in range(5):
        yield Frame(picture({0: (4 + 4 * i, 40), 1: (70, 40)}), 10**9 + i * 10**8)
        if i == 2:
            yield Frame(np.zeros((64, 96), np.uint8), 10**9 + i * 10**8 + 1)
    for i in range(3):
        yield Frame(picture({0: (4 + 4 * i, 40)}), i * 10**8)


def results_of(config, jobs=1):
    found = []
    summary = replay(drive(), OnlinePanoptic(config), [lambda _, result: found.append(result)], jobs)
    return found, summary


def test_fused_kernels_segment_each_frame_as_the_image_model(models):
    """The kernels of a colour are the same in all frames, so that fusion changes nothing."""
    images, _ = results_of(Config(model=models["logits"]))
    clips, summary = results_of(Config(model=models["kernels"], clip_length=3, clip_similarity=0.9999))
    assert summary.clip.late == 2
    assert summary.dropped.total() == 1
    for one, other in zip(images, clips, strict=True):
        assert one.stamp == other.stamp
        np.testing.assert_array_equal(one.class_map, other.class_map)


@pytest.mark.parametrize("jobs", [2, 3])
def test_results_do_not_depend_on_the_processes(models, jobs):
    config = Config(model=models["kernels"], clip_length=2, clip_similarity=0.9999)
    (one, plain), (several, parallel) = results_of(config), results_of(config, jobs)
    assert [r.sequence_id for r in several] == 5 * [0] + 3 * [1]
    assert plain.dropped == parallel.dropped
    for first, second in zip(one, several, strict=True):
        assert (first.stamp, first.segments, first.sequence_id) == (second.stamp, second.segments, second.sequence_id)
        # Times differ, everything else is the same.
        assert first.tracks == second.tracks
        np.testing.assert_array_equal(first.map, second.map)
        np.testing.assert_array_equal(first.embeddings, second.embeddings)


def test_models_without_kernels_have_no_clips(models):
    with pytest.raises(InputError, match=r"clip_length 2: .*logits.onnx takes single images; export"):
        OnlinePanoptic(Config(model=models["logits"], clip_length=2))


def test_impossible_overlap_is_refused(models):
    with pytest.raises(InputError, match="clip_overlap 2"):
        OnlinePanoptic(Config(model=models["kernels"], clip_length=2, clip_overlap=2))
