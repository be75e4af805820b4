"""Video K-Net: its parts by hand, its losses, what it hands on, and that it learns from pairs."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from support.knet_pairs import (  # noqa: E402
    AFTER_BRIGHT,
    BRIGHT,
    CAR,
    DARK,
    FRAMES,
    PERSON,
    SKY,
    SMALL,
    STEPS,
    H,
    W,
    images,
    targets,
    trained,
)
from vps_ros.learning.data.targets import Targets  # noqa: E402
from vps_ros.learning.video_knet.architecture import THRESHOLDS, LossWeights, default_thresholds  # noqa: E402
from vps_ros.learning.video_knet.layers import AdaptiveUpdate, KernelAttention, mask_logits, masked_mean, membership  # noqa: E402
from vps_ros.learning.video_knet.losses import (  # noqa: E402
    GroundTruth,
    class_term,
    dice,
    focal,
    mask_terms,
    match,
    matched_things,
    pair_loss,
)
from vps_ros.learning.video_knet.model import IMPOSSIBLE_LOGIT, State, VideoKNet, class_logits, kept_things  # noqa: E402
from vps_ros.segmenters.model_card import InputSpec  # noqa: E402
from vps_ros.segmenters.postprocess import from_logits  # noqa: E402
from vps_ros.segmenters.preprocess import fit  # noqa: E402
from vps_ros.taxonomy import CITYSCAPES  # noqa: E402


def fresh(seed=0, **sizes):
    torch.manual_seed(seed)
    return VideoKNet(replace(SMALL, **sizes), CITYSCAPES.isthing).eval()


class TestParts:
    def test_pixels_belong_to_a_mask_from_one_half_on(self):
        probability = torch.tensor([0.0, 0.3, 0.5, 0.75, 1.0], requires_grad=True)
        members = membership(probability)
        assert members.tolist() == [0, 0, 0, 0.5, 1] and not members.requires_grad

    def test_grouped_features_are_means_that_vanish_with_the_mask(self):
        pixels = torch.tensor([[[1.0, 2.0, 30.0], [0.0, 4.0, 50.0]]])
        members = torch.tensor([[[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]])
        assert masked_mean(members, pixels).flatten().tolist() == pytest.approx([1, 4 / 3, 0, 0])

    def test_masks_are_scaled_products_and_one_number_of_the_kernel(self):
        pixels = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]])
        kernel = torch.tensor([[[2.0, 1.0, 9.0, 9.0, -7.0]]])
        assert mask_logits(kernel, pixels).tolist() == [[[5 / 2 - 7, 8 / 2 - 7]]]
        assert mask_logits(kernel[..., :4], pixels).tolist() == [[[5 / 2, 8 / 2]]]

    def test_closed_gates_leave_nothing_and_open_ones_add(self):
        torch.manual_seed(0)
        update = AdaptiveUpdate(8)
        grouped, kernels = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
        for gate in (update.psi1, update.psi2):
            torch.nn.init.zeros_(gate[1].weight)
            torch.nn.init.constant_(gate[1].bias, -50.0)
        assert torch.allclose(update(grouped, kernels), torch.zeros(2, 3, 8), atol=1e-6)
        torch.nn.init.constant_(update.psi1[1].bias, 50.0)
        assert torch.allclose(update(grouped, kernels), update.psi4(kernels), atol=1e-6)
        torch.nn.init.constant_(update.psi2[1].bias, 50.0)
        assert torch.allclose(update(grouped, kernels), update.psi3(grouped) + update.psi4(kernels), atol=1e-6)

    def test_attention_is_that_of_torch(self):
        torch.manual_seed(0)
        ours = KernelAttention(SMALL).eval()
        theirs = torch.nn.MultiheadAttention(SMALL.dim, SMALL.heads, batch_first=True)
        with torch.no_grad():
            theirs.in_proj_weight.copy_(torch.cat([p.weight for p in (ours.query, ours.key, ours.value)]))
            theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.zeros(SMALL.dim), ours.value.bias]))
            theirs.out_proj.load_state_dict(ours.out.state_dict())
            kernels, others = torch.randn(2, 5, SMALL.dim), torch.randn(2, 7, SMALL.dim)
            there = (torch.rand(2, 7) < 0.5).float()
            there[:, 0] = 1
            for mask in (None, there):
                hidden = None if mask is None else mask == 0
                x = ours.norm1(kernels + theirs(kernels, others, others, hidden)[0])
                assert torch.allclose(ours(kernels, others, mask), ours.norm2(x + ours.ffn(x)), atol=1e-5)

    def test_the_best_class_keeps_its_sigmoid(self):
        torch.manual_seed(0)
        classes = 4 * torch.randn(2, 60, 19)
        probability = class_logits(classes).softmax(2)
        assert probability.shape == (2, 60, 20)
        best, column = classes.sigmoid().max(2)
        assert torch.allclose(probability.gather(2, column[..., None])[..., 0], best, atol=1e-6)
        assert torch.equal(probability.argmax(2) == column, best > 1 / 20)
        assert (probability[..., -1] < best)[best > 1 / 20].all()


class TestNetwork:
    def test_kernels_of_instances_are_things_and_each_stuff_class_has_its_own(self):
        model = fresh()
        output = model(images())
        assert [tuple(p.masks.shape) for p in output.stages] == [(4, 4 + 11, H // 4, W // 4)] * 2
        assert output.embeddings.shape == (4, 15, 16)
        possible = output.stages[-1].classes > IMPOSSIBLE_LOGIT
        assert torch.equal(possible[:, :4], torch.from_numpy(CITYSCAPES.isthing).expand(4, 4, -1))
        stuff = possible[0, 4:].nonzero()
        assert stuff[:, 0].tolist() == list(range(11))
        assert stuff[:, 1].tolist() == np.flatnonzero(~CITYSCAPES.isthing).tolist()

    def test_zeros_are_no_previous_frame(self):
        model = fresh()
        for without, zeros in zip(
            flat(model(images())), flat(model(images(), model.empty_state(len(FRAMES)))), strict=True
        ):
            assert torch.equal(without, zeros)

    def test_each_image_of_a_batch_has_its_own_previous_frame(self):
        model = fresh()
        state = model(images()).state._replace(kept=torch.ones(4, 15), seen=torch.tensor([1.0, 0.0, 1.0, 0.0]))
        state = state._replace(kept=state.kept * state.seen[:, None])
        mixed, alone = model(images(), state), model(images())
        for i in (1, 3):
            assert torch.allclose(mixed.embeddings[i], alone.embeddings[i], atol=1e-6)
            assert torch.allclose(mixed.stages[-1].masks[i], alone.stages[-1].masks[i], atol=1e-5)
        for i in (0, 2):
            one = model(images()[i : i + 1], State(*(t[i : i + 1] for t in state)))
            assert torch.allclose(mixed.embeddings[i], one.embeddings[0], atol=1e-5)
            assert not torch.allclose(mixed.stages[-1].masks[i], alone.stages[-1].masks[i], atol=1e-3)

    def test_linking_looks_at_kept_kernels_alone_and_changes_no_mask(self):
        model = fresh()
        state = model(images()[:1]).state
        kept = torch.zeros(1, 15)
        kept[0, 2] = 1
        linked = model(images()[1:2], state._replace(kept=kept))
        other = state.kernels.clone()
        other[:, [0, 1, 3]] += 1
        assert torch.equal(linked.embeddings, model(images()[1:2], state._replace(kept=kept, kernels=other)).embeddings)
        other[:, 2] += torch.randn(SMALL.dim)
        moved = model(images()[1:2], state._replace(kept=kept, kernels=other))
        assert not torch.allclose(linked.embeddings, moved.embeddings, atol=1e-4)
        assert torch.equal(linked.stages[-1].masks, moved.stages[-1].masks)

    def test_fusion_is_of_the_last_stage_only(self):
        model = fresh(stages=3)
        state = model(images()[:1]).state
        alone, after = model(images()[1:2]), model(images()[1:2], state)
        for before_last in (0, 1):
            assert torch.equal(alone.stages[before_last].masks, after.stages[before_last].masks)
        assert not torch.allclose(alone.stages[2].masks, after.stages[2].masks, atol=1e-3)
        # Looking back one frame: what is handed on for fusion holds nothing of the frame before.
        assert torch.equal(alone.state.inputs, after.state.inputs)

    def test_every_weight_learns_from_a_pair(self):
        model = fresh().train()
        # Of one thing alone there is nothing to choose in linking.
        pair = [(image, semantic, number + (semantic == SKY)) for image, semantic, number in (BRIGHT, AFTER_BRIGHT)]
        pair = [(image, np.where(semantic == SKY, PERSON, semantic), number) for image, semantic, number in pair]
        pair_loss(model, model.encode(images(pair)), targets(pair), LossWeights()).total.backward()
        idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert idle == []

    def test_the_second_frame_teaches_the_first(self):
        model = fresh().train()
        found = pair_loss(model, model.encode(images()), targets(), LossWeights())
        (gradient,) = torch.autograd.grad(found.after.stages[-1].masks.sum(), found.before.state.inputs)
        assert gradient.abs().sum() > 0


def flat(output):
    return [t for p in output.stages for t in p] + [output.embeddings, *output.state]


class TestWhatIsKept:
    def test_a_thing_that_is_covered_is_not(self):
        isthing = torch.tensor([True, True, True, False])
        masks = torch.full((1, 4, 10), -5.0)
        masks[0, 0, :4] = 5.0
        masks[0, 1, 1:4] = 4.0
        masks[0, 2, 5:7] = 5.0
        masks[0, 3, 7:] = 5.0
        # The second loses all it claims to the first; the third is doubtful; the fourth is stuff.
        scores = torch.tensor([[0.9, 0.8, 0.2, 0.9]])
        assert kept_things(scores, masks, isthing, THRESHOLDS).tolist() == [[1, 0, 0, 0]]
        scores[0, 2] = 0.3
        assert kept_things(scores, masks, isthing, THRESHOLDS).tolist() == [[1, 0, 1, 0]]

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10_000))
    def test_it_is_what_post_processing_keeps(self, seed):
        """On images as large as the masks both see the same pixels."""
        rng = np.random.default_rng(seed)
        h, w, things = 6, 9, int(CITYSCAPES.isthing.sum())
        classes = np.full((12, 19), IMPOSSIBLE_LOGIT, np.float32)
        thing_columns = np.flatnonzero(CITYSCAPES.isthing)
        classes[:8, thing_columns] = rng.normal(-1, 2, (8, things))
        classes[range(8, 12), np.flatnonzero(~CITYSCAPES.isthing)[:4]] = rng.normal(0, 2, 4)
        masks = rng.normal(0, 2, (12, h, w)).astype(np.float32)
        classes, masks = torch.from_numpy(classes)[None], torch.from_numpy(masks)[None]
        kept = kept_things(classes.amax(2).sigmoid(), masks.flatten(2), torch.arange(12) < 8, THRESHOLDS)
        outputs = {
            "class_logits": class_logits(classes).numpy(),
            "mask_logits": masks.numpy(),
            "query_embeddings": np.eye(12, dtype=np.float32)[None],
        }
        found = from_logits(outputs, fit(InputSpec(h, w), h, w), CITYSCAPES, THRESHOLDS, "sigmoid")
        of_things = found.embeddings[found.is_thing].argmax(1)
        assert sorted(of_things.tolist()) == kept[0].nonzero()[:, 0].tolist()

    def test_the_least_stuff_grows_with_the_image(self):
        assert default_thresholds(1242, 375).stuff_area == 4096
        assert default_thresholds(621, 375).stuff_area == 2048
        assert default_thresholds(1242, 375) == replace(THRESHOLDS, stuff_area=4096)


def truth_of(segments, classes, tracks):
    """GroundTruth of one image of one row of cells."""
    segments = torch.tensor(segments)[None, None]
    return GroundTruth.of(Targets(segments, torch.tensor(classes)[None], torch.tensor(tracks)[None], segments))


class TestLosses:
    def test_focal_by_hand(self):
        right, wrong = focal(torch.tensor([0.0, math.log(3)]))
        assert right.tolist() == pytest.approx([0.25 * 0.25 * math.log(2), 0.25 * 0.0625 * math.log(4 / 3)])
        assert wrong.tolist() == pytest.approx([0.75 * 0.25 * math.log(2), 0.75 * 0.5625 * math.log(4)])

    def test_dice_by_hand_leaves_void_out(self):
        truth = truth_of([0, 0, 1, -1], [CAR, 0], [7, 0])
        masks = torch.tensor([[[0.0, 0.0, 0.0, 9.0]]])
        # Three valid cells of one half: 2 * (2 * 1/2) / (3/4 + 2) and 2 * (1/2) / (3/4 + 1).
        assert dice(masks, truth)[0, 0].tolist() == pytest.approx([2 / 2.75, 1 / 1.75])

    def test_things_are_matched_and_stuff_has_its_kernel(self):
        model = fresh()
        truth = truth_of([0, 0, 1, 1, 2, 2], [CAR, 8, PERSON], [7, 0, 9])
        masks = torch.full((1, 15, 6), -5.0)
        masks[0, 3, :2] = 5.0
        masks[0, 1, 4:] = 5.0
        vegetation = 4 + np.flatnonzero(~CITYSCAPES.isthing).tolist().index(8)
        assert match(masks[:, :4], None, truth, model, LossWeights()).tolist() == [[3, vegetation, 1]]
        # Of two equal masks the one with the class is taken.
        masks[0, 0] = masks[0, 3]
        classes = torch.full((1, 15, 19), -3.0)
        for kernel in (0, 3):
            classes[0, :, CAR] = -3.0
            classes[0, kernel, CAR] = 3.0
            assert match(masks, classes, truth, model, LossWeights())[0, 0] == kernel

    def test_more_things_than_kernels_leave_some_out(self):
        model = fresh(queries=2)
        truth = truth_of([0, 1, 2, 2], [CAR, CAR, CAR], [1, 2, 3])
        masks = torch.full((1, 13, 4), -5.0)
        masks[0, 0, :1] = 5.0
        masks[0, 1, 2:] = 5.0
        assert match(masks, None, truth, model, LossWeights()).tolist() == [[0, -1, 1]]

    def test_an_image_of_stuff_alone_and_one_of_nothing(self):
        model = fresh().train()
        empty = Targets(
            torch.tensor([[[0] * 16] * 8, [[-1] * 16] * 8]),
            torch.tensor([[10], [-1]]),
            torch.zeros(2, 1, dtype=torch.long),
            torch.tensor([[[10] * 16] * 8, [[-1] * 16] * 8]),
        )
        found = pair_loss(model, model.encode(images()[:2]), empty, LossWeights())
        found.total.backward()
        assert torch.isfinite(found.total) and float(found.parts["track"]) == 0

    def test_masks_that_are_right_cost_nothing(self):
        truth = truth_of([0, 0, 1, -1], [CAR, PERSON], [7, 9])
        masks = torch.tensor([[[30.0, 30.0, -30.0, 30.0], [-30.0, -30.0, 30.0, 30.0], [-30.0] * 4]])
        terms = mask_terms(masks, truth, torch.tensor([[0, 1]]))
        assert [float(v) for v in terms.values()] == pytest.approx([0, 0, 0], abs=1e-6)
        wrong = mask_terms(masks, truth, torch.tensor([[1, 0]]))
        assert float(wrong["mask"]) == pytest.approx(30) and float(wrong["rank"]) == pytest.approx(60)
        assert float(wrong["dice"]) == pytest.approx(1)

    def test_only_possible_classes_count(self):
        truth = truth_of([0, 0], [CAR], [7])
        classes = torch.zeros(1, 2, 19, requires_grad=True)
        possible = torch.zeros(2, 19, dtype=torch.bool)
        possible[0, [CAR, PERSON]] = True
        loss = class_term(classes, truth, torch.tensor([[0]]), possible)
        assert loss.item() == pytest.approx(0.25 * math.log(2))
        loss.backward()
        assert classes.grad.nonzero()[:, 1:].tolist() == [[0, PERSON], [0, CAR]]
        assert classes.grad[0, 0, CAR] < 0 < classes.grad[0, 0, PERSON]

    def test_a_kernel_without_a_segment_learns_as_far_as_it_lies_where_segments_are_known(self):
        truth = truth_of([0, 0], [CAR], [7])
        classes = torch.zeros(1, 3, 19, requires_grad=True)
        possible = torch.ones(3, 19, dtype=torch.bool)
        class_term(classes, truth, torch.tensor([[0]]), possible, torch.tensor([[0.0, 0.0, 0.5]])).backward()
        whole = torch.zeros(1, 3, 19, requires_grad=True)
        class_term(whole, truth, torch.tensor([[0]]), possible).backward()
        assert (classes.grad[0, 0] == whole.grad[0, 0]).all(), "matched"
        assert (classes.grad[0, 1] == 0).all() and (classes.grad[0, 2] == whole.grad[0, 2] / 2).all()

    def test_linking_learns_from_matched_things(self):
        tracks = torch.tensor([[5, 0, 6], [0, 0, 0]])
        of = Targets(None, None, tracks, None)
        assert matched_things(torch.tensor([[2, 4, -1], [4, -1, -1]]), of, 5).tolist() == [[0, 0, 1, 0, 0], [0] * 5]


class TestLearning:
    def test_pairs_are_learned(self):
        model, losses = trained()
        assert len(losses) == STEPS and losses[-1] < 0.05 * losses[0]
        with torch.no_grad():
            before = model(images(FRAMES[::2]))
            after = model(images(FRAMES[1::2]), before.state)
        for output, frames in ((before, FRAMES[::2]), (after, FRAMES[1::2])):
            for i, frame in enumerate(frames):
                semantic = segmented(output, i)
                assert (semantic == frame[1]).mean() > 0.9
                assert set(np.unique(semantic)) <= {0, 10, frame[1].max(), 255}

    def test_the_second_frame_remembers_what_only_the_first_could_tell(self):
        """Both second frames are the same picture: without a state they are the same to the network."""
        model, _ = trained()
        grey = images((AFTER_BRIGHT,))
        with torch.no_grad():
            found = [segmented(model(grey, model(images((first,))).state), 0)[18, 32] for first in (BRIGHT, DARK)]
        assert found == [CAR, PERSON]

    def test_embeddings_of_one_object_are_alike(self):
        model, _ = trained()
        with torch.no_grad():
            before = model(images(FRAMES[::2]))
            after = model(images(FRAMES[1::2]), before.state)
        kept, seen = before.state.kept, after.state.kept
        assert kept.sum(1).tolist() == seen.sum(1).tolist() == [1, 1]
        a, b = before.embeddings[kept > 0], after.embeddings[seen > 0]
        alike = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2)
        assert alike.diagonal().min() > 0.7


def segmented(output, image):
    """uint8 [H, W] class ids, by the shipped post-processing."""
    final = output.stages[-1]
    outputs = {
        "class_logits": class_logits(final.classes)[image : image + 1].numpy(),
        "mask_logits": final.masks[image : image + 1].numpy(),
        "query_embeddings": output.embeddings[image : image + 1].numpy(),
    }
    found = from_logits(outputs, fit(InputSpec(H, W), H, W), CITYSCAPES, default_thresholds(W, H), "sigmoid")
    return np.append(255, found.class_ids).astype(np.uint8)[found.map]
