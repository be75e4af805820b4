"""Clips: grouping of frames, and the near-online pipeline with a real ONNX model."""

import dataclasses
import multiprocessing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.threshold_model import CARD, HEIGHT, WIDTH, Model, load, refusal
from support.worlds import CAR_ID, ROAD_ID, colour_model, picture
from vps_ros import Config, DroppedFrame, Frame, InputError, OnlinePanoptic
from vps_ros.clips import ClipSpec, FrameGroups
from vps_ros.frame import AssociatedBy
from vps_ros.recording.replay import replay
from vps_ros.segmenters import ClipPool

TENTH = 100_000_000
specs = st.integers(1, 6).flatmap(lambda t: st.builds(ClipSpec, st.just(t), st.integers(0, t - 1)))


class TestGrouping:
    def test_clips_of_three_with_one_overlapping_frame(self):
        groups = FrameGroups(ClipSpec(3, 1))
        assert groups.push("a") is None
        first = groups.push("b")
        assert (first.items, first.items[first.new]) == (("a", "a", "b"), ("a", "b"))
        assert groups.push("c") is None
        assert groups.waiting == ("c",)
        last = groups.flush()
        assert (last.items, last.items[last.new]) == (("b", "c", "c"), ("c",))
        assert groups.flush() is None

    @given(specs, st.lists(st.booleans(), max_size=30))
    def test_each_frame_is_new_exactly_once_in_order_and_in_time(self, spec, ends):
        """`ends`: whether the sequence ends after each frame."""
        groups = FrameGroups(spec)
        given_at, out = {}, []

        def take(group, now):
            if group is not None:
                assert len(group.items) == spec.length
                new = group.items[group.new]
                # Frames in front of the new ones are the last ones before, or copies of the first.
                front = group.items[: group.new.start]
                before = [n for n in out if given_at[n][1] == given_at[new[0]][1]]
                assert set(front) <= {*before[max(len(before) - spec.overlap, 0) :], *([] if before else new[:1])}
                assert set(group.items[group.new.stop :]) <= {new[-1]}
                assert all(now - given_at[n][0] <= spec.late for n in new)
                out.extend(new)

        sequence = 0
        for number, end in enumerate(ends):
            given_at[number] = number, sequence
            take(groups.push(number), number)
            assert len(groups.waiting) <= spec.late
            if end:
                take(groups.flush(), number)
                groups.reset()
                sequence += 1
        take(groups.flush(), len(ends) - 1)
        assert out == list(range(len(ends)))

    @pytest.mark.parametrize(("length", "overlap"), [(1, 1), (2, 2), (2, 5)])
    def test_an_overlap_that_leaves_no_new_frame_is_refused(self, length, overlap):
        with pytest.raises(InputError, match=r"overlap must be smaller than the length"):
            ClipSpec(length, overlap)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def image_model(folder):
    return str(colour_model(folder / "images.onnx"))


@pytest.fixture(scope="module")
def clip_model(folder):
    """Makes models for clips, once for each length."""
    made = {}

    def model(length):
        if length not in made:
            made[length] = str(colour_model(folder / f"clips{length}.onnx", clip=ClipSpec(length, length - 1)))
        return made[length]

    return model


def drive(count, start=10, paint=0):
    return [Frame(picture({paint: (4 + 4 * i, 40)}), (start + i) * TENTH, f"frame {i}") for i in range(count)]


class TestPipeline:
    @pytest.mark.parametrize(("length", "overlap"), [(2, 1), (2, 0), (3, 1), (4, 0)])
    @pytest.mark.parametrize("jobs", [1, 3])
    def test_maps_are_those_of_the_image_model_with_the_stamps_of_the_frames(
        self, image_model, clip_model, length, overlap, jobs
    ):
        """Two sequences of 5 frames; the model segments each frame of a clip as it segments an image."""
        frames = [*drive(5), *drive(5, start=2)]
        near = OnlinePanoptic(Config(model=clip_model(length), clip_overlap=overlap))
        one_by_one = OnlinePanoptic(Config(model=image_model))
        expected = [one_by_one.step(frame) for frame in frames]
        found = []
        summary = replay(iter(frames), near, [lambda frame, result: found.append((frame, result))], jobs)
        assert [frame for frame, _ in found] == frames
        for (frame, result), other in zip(found, expected, strict=True):
            assert (result.stamp, result.frame_id) == (frame.stamp, frame.frame_id)
            assert np.array_equal(result.class_map, other.class_map)
            assert result.sequence_id == other.sequence_id
        assert [len({t.track_id for _, r in found[i : i + 5] for t in r.visible}) for i in (0, 5)] == [1, 1]
        figures = summary.to_json()
        assert figures["clip"]["late_frames"] == length - 1 - overlap
        assert figures["clip"]["late_ms"]["max"] == 100 * (length - 1 - overlap)
        assert figures["clip"]["network_frames"] == length / (length - overlap)
        assert figures["frames"] == 10

    def test_push_returns_the_frames_of_a_clip_together_and_flush_the_rest(self, clip_model):
        pipeline = OnlinePanoptic(Config(model=clip_model(3), clip_overlap=0))
        stamps = [[r.stamp // TENTH for r in pipeline.push(frame)] for frame in drive(5)]
        assert stamps == [[], [], [10, 11, 12], [], []]
        assert len(pipeline.waiting) == 2
        assert [r.stamp // TENTH for r in pipeline.flush()] == [13, 14]
        assert pipeline.flush() == []

    def test_step_works_where_no_frame_is_late(self, clip_model):
        pipeline = OnlinePanoptic(Config(model=clip_model(2)))
        found = [pipeline.step(frame) for frame in drive(3)]
        assert [r.stamp // TENTH for r in found] == [10, 11, 12]
        with pytest.raises(InputError, match=r"results come 1 frame\(s\) later; use push and flush, or clip_overlap 1"):
            OnlinePanoptic(Config(model=clip_model(2), clip_overlap=0)).step(drive(1)[0])

    def test_a_tube_keeps_the_identity_of_an_object_that_jumps(self, clip_model):
        """A red square far from where it was: one tube, which the trackers of the papers match before all else."""
        frames = [Frame(picture({0: (x, 40)}), i * TENTH) for i, x in enumerate((4, 60, 4))]
        for tracker in ("hila_mb", "sort", "hybrid", "quasi_dense", "iou"):
            pipeline = OnlinePanoptic(Config(tracker=tracker, model=clip_model(2)))
            found = [pipeline.step(frame).visible for frame in frames]
            assert [[t.track_id for t in tracks] for tracks in found] == [[1], [1], [1]], tracker
            assert found[2][0].associated_by == AssociatedBy.PIXELS

    def test_an_unusable_frame_is_one_that_is_lost(self, clip_model):
        pipeline = OnlinePanoptic(Config(model=clip_model(2), clip_overlap=0))
        broken = Frame(np.zeros((4, 4), np.uint8), 11 * TENTH)
        summary = replay(iter([*drive(1), broken, *drive(2, start=12)]), pipeline, [])
        assert len(summary.milliseconds) == 3
        assert summary.dropped.total() == 1

    def test_a_clip_without_a_result_loses_its_new_frames(self, folder):
        spec = ClipSpec(3, 1)
        path = colour_model(folder / "nan.onnx", clip=spec, poison=np.nan)
        pipeline = OnlinePanoptic(Config(model=str(path)))
        first, second = drive(2)
        assert pipeline.push(first) == []
        with pytest.raises(DroppedFrame, match="NaN"):
            pipeline.push(second)
        lost = [pipeline.segment_ready(frame) for frame in drive(2, start=12)]
        assert [len(one) for one in lost] == [0, 2]

    def test_a_recording_that_is_shorter_than_a_clip_is_refused(self, clip_model):
        with pytest.raises(InputError, match=r"clip_length 4: the recording has only 3 frame\(s\)"):
            replay(iter(drive(3)), OnlinePanoptic(Config(model=clip_model(4))), [])

    def test_a_process_that_was_killed_is_one_message(self, clip_model):
        before = set(multiprocessing.active_children())
        with ClipPool(Config(model=clip_model(2)).segmenter_parameters, 1) as pool:
            images = [frame.image for frame in drive(2)]
            assert len(pool.segment(images)[0]) == 2
            (process,) = set(multiprocessing.active_children()) - before
            process.kill()
            process.join()
            with pytest.raises(InputError, match="jobs: a process that segments clips was ended from outside"):
                pool.segment(images)

    def test_reset_forgets_the_frames_that_wait(self, clip_model):
        pipeline = OnlinePanoptic(Config(model=clip_model(3), clip_overlap=0))
        pipeline.push(drive(1)[0])
        pipeline.reset()
        assert pipeline.waiting == ()
        assert pipeline.flush() == []


class TestModels:
    def test_a_clip_model_segments_one_image_as_a_clip_of_copies(self, image_model, clip_model):
        one, several = (OnlinePanoptic(Config(model=m)).segmenter for m in (image_model, clip_model(3)))
        image = picture({0: (10, 40), 2: (60, 20)})
        found = several(image)
        assert found.tubes is None
        assert np.array_equal(one(image).map, found.map)
        clip = several.segment_clip([image] * 3)
        assert [c.tubes.tolist() for c in clip] == [clip[0].tubes.tolist()] * 3
        # Queries: road, sky and the paints 0 to 3.
        assert set(zip(clip[0].class_ids.tolist(), clip[0].tubes.tolist(), strict=True)) >= {
            (ROAD_ID, 0),
            (CAR_ID, 2),
            (CAR_ID, 4),
        }

    def test_images_of_two_sizes_are_refused(self, clip_model):
        segmenter = OnlinePanoptic(Config(model=clip_model(2))).segmenter
        with pytest.raises(InputError, match=r"image 2 of a clip is 48x32, and the first is 96x64"):
            segmenter.segment_clip([picture({}), picture({}, size=(48, 32))])

    def test_other_clips_than_the_model_has_are_refused(self, image_model, clip_model):
        for model, parameters, message in (
            (image_model, {"clip_length": 2}, r"clip_length 2: .*images.onnx takes single images; export a model"),
            (image_model, {"clip_overlap": 1}, r"clip_overlap 1: .* clips of 1 frame; give at most 0"),
            (clip_model(2), {"clip_length": 3}, r"clip_length 3: .* takes clips of 2 frames"),
            (clip_model(2), {"clip_overlap": 2}, r"clip_overlap 2: .* clips of 2 frames; give at most 1"),
            (clip_model(2), {"tiles": 2}, r"tiles: 2: colours takes clips"),
        ):
            with pytest.raises(InputError, match=message):
                OnlinePanoptic(Config(model=model, **parameters))
        with pytest.raises(InputError, match=r"clip_length 2: segmenter f takes 1 frame"):

            def f(image):
                return [], [], []

            OnlinePanoptic(Config(clip_length=2), segmenter=f, taxonomy="cityscapes")

    def test_a_card_with_an_impossible_overlap_is_refused(self, tmp_path):
        model = Model()
        model.card = model.card.replace('"contract": 1', '"contract": 1, "clip": {"length": 2, "overlap": 2}')
        assert "2 overlapping frames in clips of 2" in refusal(model.save(tmp_path))

    def test_outputs_must_have_the_length_of_the_clip(self, tmp_path):
        model = Model()
        model.card = dataclasses.replace(CARD, clip=ClipSpec(2, 1)).to_json()
        model.inputs["image"] = ("u8", [2, HEIGHT, WIDTH, 3])
        model.outputs["mask_logits"] = ("f", [2, 2, HEIGHT, WIDTH])
        assert load(model.save(tmp_path)).clip == ClipSpec(2, 1)
        model.constants["classes"] = np.tile(model.constants["classes"], (2, 1, 1))
        model.outputs["class_logits"] = ("f", [2, 2, 3])
        assert "output 'class_logits' has shape [2, 2, 3], not [1, any, 3]" in refusal(model.save(tmp_path))

    def test_a_recurrent_network_with_clips_is_refused(self, folder):
        path = colour_model(folder / "recurrent.onnx", recurrent=True, clip=ClipSpec(2, 1))
        with pytest.raises(InputError, match="a recurrent network .* cannot take clips"):
            OnlinePanoptic(Config(model=str(path)))
