"""The worker: the newest frame is processed, every failure is logged and survived, stopping always ends."""

import logging
import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader

from support.bags import START, TENTH, camera_info, drive, raw, write
from support.live_workers import PATIENCE, CollectingSink, camera, cdr, give, read, stamps, until
from support.worlds import colour_model, picture
from vps_ros.clips import ClipSpec
from vps_ros.commands.main import main
from vps_ros.config import Config
from vps_ros.frame import Frame
from vps_ros.live import worker as worker_module
from vps_ros.live.health import health
from vps_ros.live.pipelines import pipelines
from vps_ros.live.worker import Camera, LatestFrames, Worker
from vps_ros.messages.images import compressed_to_rgb, image_to_array, image_to_rgb
from vps_ros.messages.panoptic import CAMERA_INFO, LABEL_INFO, LIVE_OUTPUTS, OUTPUTS, nanoseconds, output
from vps_ros.messages.typestore import typestore
from vps_ros.online import OnlinePanoptic


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "take"]), st.integers(0, 2))))
def test_latest_frames_keep_the_newest_of_each_camera_and_serve_cameras_in_turn(steps):
    frames, held, waited = LatestFrames(3), {}, {}
    for number, (step, who) in enumerate(steps):
        if step == "put":
            assert frames.put(who, number) == (who in held)
            held[who] = number
        elif not held:
            assert frames.take(0) is None
        else:
            taken, item = frames.take(0)
            assert held.pop(taken) == item
            for other in held:
                waited[other] = waited.get(other, 0) + 1
                assert waited[other] <= 2, "two others at most come before a camera's turn"
            waited[taken] = 0


def test_wake_ends_one_take():
    frames = LatestFrames(1)
    frames.put(0, "frame")
    frames.wake()
    assert frames.take(PATIENCE) is None
    assert frames.take(PATIENCE) == (0, "frame")
    assert frames.take(0) is None


def test_live_messages_are_those_of_a_replayed_bag(model, working, tmp_path):
    messages = drive(5) + [(t, s + 9 * TENTH, m) for t, s, m in drive(3)]
    bag = write(tmp_path / "bag", messages)
    assert main(["replay", str(bag), "-o", str(tmp_path / "out.mcap"), "--model", model]) == 0
    with AnyReader([tmp_path / "out.mcap"]) as out:
        replayed = [(c.topic, bytes(data)) for c, _, data in out.messages()]
    sink = CollectingSink()
    worker = working(camera(model, sink))
    for _, _, message in messages:
        give(worker, message)
    store = typestore()
    # A node publishes it before it has an image, a replay with the first one.
    for labels in sink.kept[LABEL_INFO]:
        labels.header = messages[0][2].header
    live = {
        f"/vps/{name}": [bytes(store.serialize_cdr(m, m.__msgtype__)) for m in kept] for name, kept in sink.kept.items()
    }
    for topic in {topic for topic, _ in replayed}:
        assert sorted(live[topic]) == sorted(data for there, data in replayed if there == topic), topic
    assert set(live) - {topic for topic, _ in replayed} == {
        f"/vps/{name}" for name in LIVE_OUTPUTS.keys() - OUTPUTS.keys() | {"overlay", "panoptic_ids"}
    }
    assert [m.sequence_id for m in sink.kept["tracks"]] == [0] * 5 + [1] * 3


def test_the_classes_are_published_before_the_first_image(model, working):
    sink = CollectingSink()
    working(camera(model, sink))
    until(lambda: sink.kept[LABEL_INFO], "the classes")
    assert {c.class_name for c in sink.kept[LABEL_INFO][0].class_map} >= {"road", "sky", "car"}
    assert set(sink.kept) == {LABEL_INFO}


def test_every_output_has_the_header_of_its_image(model, working):
    sink = CollectingSink()
    worker = working(camera(model, sink))
    for _, _, message in drive(3):
        give(worker, message)
    assert len(sink.kept[LABEL_INFO]) == 1
    for name in LIVE_OUTPUTS:
        assert stamps(sink.kept[name]) == [START + i * TENTH for i in range(3)], name
        assert {m.header.frame_id for m in sink.kept[name]} == {"camera"}
        assert {m.__msgtype__ for m in sink.kept[name]} == {LIVE_OUTPUTS[name]}
    assert sink.kept["overlay"][0].width == 96
    assert not sink.kept[CAMERA_INFO], "the camera has none"


def test_semantic_and_compressed_images_show_what_the_others_show(model, working):
    sink = CollectingSink()
    give(working(camera(model, sink)), drive(1)[0][2])
    ids = image_to_array(sink.kept["panoptic"][0], "mono16", np.uint16)
    semantic = image_to_array(sink.kept["semantic"][0], "mono8", np.uint8)
    classes = {s.segment_id: s.class_id for s in sink.kept["segments"][0].segments}
    assert semantic.tolist() == np.vectorize(lambda segment: classes.get(segment, 255))(ids).tolist()
    named = {c.class_id: c.class_name for c in sink.kept[LABEL_INFO][0].class_map}
    assert {named[class_id] for class_id in np.unique(semantic).tolist()} == {"road", "sky", "car"}
    png, jpg = sink.kept["panoptic/compressed"][0], sink.kept["overlay/compressed"][0]
    assert (png.format, jpg.format) == ("mono16; png compressed ", "rgb8; jpeg compressed bgr8")
    assert cv2.imdecode(png.data, cv2.IMREAD_UNCHANGED).tolist() == ids.tolist()
    drawn = image_to_rgb(sink.kept["overlay"][0]).astype(int)
    # Red and blue swapped would differ by a hundred in half of the image.
    assert np.abs(compressed_to_rgb(jpg) - drawn).mean() < 20


def test_camera_info_goes_with_each_frame(model, working):
    info = camera_info(7)
    sink = CollectingSink()
    worker = working(replace(camera(model, sink), info=lambda: info))
    for _, _, message in drive(2):
        give(worker, message)
    assert stamps(sink.kept[CAMERA_INFO]) == [START, START + TENTH] == stamps(sink.kept["tracks"])
    assert {m.header.frame_id for m in sink.kept[CAMERA_INFO]} == {"camera"}
    assert sink.kept[CAMERA_INFO][0].k.tolist() == list(range(9))
    assert nanoseconds(info.header.stamp) == 7


def test_an_image_without_a_stamp_gets_its_time_of_arrival(model, working):
    sink = CollectingSink()
    worker = working(camera(model, sink))
    before = time.time_ns()
    give(worker, raw(picture({0: (4, 40)}), 0))
    give(worker, raw(picture({0: (8, 40)}), 0))
    first, second = stamps(sink.kept["tracks"])
    assert before <= first < second <= time.time_ns()


def test_a_slow_model_drops_frames_and_keeps_its_latency(slow, working):
    sink = CollectingSink()
    worker = working(camera(slow, sink, threads=1))
    count = 90
    for i in range(count):
        worker.offer(0, raw(picture({0: (4 + i % 40, 40)}), START + i * TENTH // 3))
        time.sleep(1 / 30)
    last = START + (count - 1) * TENTH // 3
    until(lambda: sink.kept["panoptic"] and stamps(sink.kept["panoptic"])[-1] == last, "the newest frame")
    until(lambda: worker.busy == 0)
    figures = worker.stats[0].figures()
    assert figures.received == count == figures.frames + figures.dropped
    seen = stamps(sink.kept["tracks"])
    assert seen == sorted(set(seen))
    # A frame waits for one other at most, and then for its own turn: nothing queues up, however many come.
    json = worker.stats[0].to_json()
    assert figures.dropped > 0, "the model is not slow enough for this test"
    steps = sum(json["latency_ms"][stage] for stage in ("segment", "flow", "track", "other"))
    assert json["latency_ms"]["p50"] < 4 * steps


def test_a_failing_frame_is_logged_once_and_counted(model, working, caplog):
    sink = CollectingSink()

    def moody(message, received):
        if isinstance(message, int):
            raise ValueError(f"broken camera number {message}")
        return read(message, received)

    worker = working(camera(model, sink, read=moody))
    with caplog.at_level(logging.WARNING):
        for i, (_, _, message) in enumerate(drive(4)):
            give(worker, message)
            give(worker, i)
            give(worker, raw(picture({}), START + i * TENTH, f"hologram{i}"))
    figures = worker.stats[0].figures()
    assert (figures.frames, figures.failed, figures.in_a_row) == (4, 8, 2)
    assert sorted(figures.failures.values()) == [4, 4]
    logged = [r.getMessage() for r in caplog.records]
    assert len(logged) == 2
    assert "broken camera number 0" in logged[0]
    assert "hologram0" in logged[1]
    assert caplog.records[0].exc_info
    assert {o.track_id for m in sink.kept["tracks"] for o in m.objects} == {1, 2}, "tracks outlive a bad frame"


def test_stopping_ends_a_network_that_runs(folder):
    path = colour_model(folder / "endless.onnx", rounds=1_000_000)
    sink = CollectingSink()
    worker = Worker([camera(str(path), sink, threads=1)])
    worker.start()
    for _, _, message in drive(2):
        worker.offer(0, message)
    until(lambda: worker.busy > 0)
    assert worker.stop()
    assert not worker.alive
    worker.offer(0, drive(1)[0][2])


def test_stopping_finishes_a_quick_frame(model):
    sink = CollectingSink()
    entered = threading.Event()

    def slowly(message, received):
        entered.set()
        time.sleep(0.05)
        return read(message, received)

    worker = Worker([camera(model, sink, read=slowly)])
    worker.start()
    worker.offer(0, drive(1)[0][2])
    assert entered.wait(PATIENCE)
    assert worker.stop(PATIENCE)
    assert len(sink.kept["panoptic"]) == 1


def test_a_worker_that_never_started_stops(model):
    worker = Worker([camera(model)])
    work = worker.call(lambda: 1)
    assert worker.stop()
    assert work.cancelled()
    assert worker.call(lambda: 1).cancelled()


def test_a_pipeline_goes_on_with_the_next_worker(model):
    one = camera(model)
    for message in (m for _, _, m in drive(3)):
        worker = Worker([one])
        worker.start()
        give(worker, message)
        assert worker.stop(PATIENCE)
    assert [{o.track_id for o in m.objects} for m in one.sink.kept["tracks"]] == [{1, 2}] * 3


def test_work_between_frames_is_done_by_the_worker(model, working):
    sink = CollectingSink()
    worker = working(camera(model, sink))
    messages = [m for _, _, m in drive(3)]
    give(worker, messages[0])
    assert worker.call(threading.current_thread).result(PATIENCE).name == "vps-worker"
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0).result(PATIENCE)
    worker.reset_tracks().result(PATIENCE)
    give(worker, messages[1])
    first, second = sink.kept["tracks"]
    assert (first.sequence_id, second.sequence_id) == (0, 1)
    assert {o.track_id for o in second.objects} == {3, 4}, "ids are never used twice"


def test_a_disabled_worker_discards_frames(model, working):
    sink = CollectingSink()
    worker = working(camera(model, sink))
    worker.enabled = False
    for _, _, message in drive(3):
        worker.offer(0, message)
    worker.call(int).result(PATIENCE)
    assert set(sink.kept) <= {LABEL_INFO}
    assert health(worker, PATIENCE)[0].message == "disabled"
    worker.enabled = True
    give(worker, drive(1)[0][2])
    assert len(sink.kept["tracks"]) == 1


def test_outputs_without_subscribers_are_not_computed(model, working, monkeypatch):
    made = []
    monkeypatch.setattr(worker_module, "output", lambda name, *rest: made.append(name) or output(name, *rest))
    sink = CollectingSink(wanted={"tracks"})
    worker = working(camera(model, sink))
    messages = [m for _, _, m in drive(4)]
    give(worker, messages[0])
    assert set(sink.kept) == {LABEL_INFO, "tracks"}
    sink.wanted, before = frozenset(), len(made)
    give(worker, messages[1])
    give(worker, messages[2])
    assert len(made) == before == 1
    sink.wanted = {"tracks"}
    give(worker, messages[3])
    assert [o.hits for o in sink.kept["tracks"][-1].objects] == [4, 4], "objects are tracked all the same"


@pytest.mark.parametrize(
    "change",
    [
        lambda i: (START + (i % 3) * TENTH, (96, 64)),
        lambda i: (START + i * TENTH, (96, 64) if i < 3 else (192, 128)),
        lambda i: (START + i * TENTH + (i >= 3) * 3600 * 10**9, (96, 64)),
    ],
    ids=["time jumps back", "a new size", "a long gap"],
)
def test_a_new_sequence_starts(model, working, change):
    sink = CollectingSink()
    worker = working(camera(model, sink))
    for i in range(6):
        stamp, size = change(i)
        give(worker, raw(picture({0: (8, 40)}, size), stamp))
    assert [m.sequence_id for m in sink.kept["tracks"]] == [0, 0, 0, 1, 1, 1]
    ids = [{o.track_id for o in m.objects} for m in sink.kept["tracks"]]
    assert ids == [{1}] * 3 + [{2}] * 3


def test_cameras_share_a_model_and_keep_their_own_objects(model, working):
    config = Config(model=model)
    first = OnlinePanoptic(config)
    assert not first.segmenter.recurrent
    sinks = CollectingSink(), CollectingSink()
    names = ("front", "rear")
    both = (first, OnlinePanoptic(config, segmenter=first.segmenter))
    worker = working(*(Camera(n, p, read, s) for n, p, s in zip(names, both, sinks, strict=True)))
    front = [raw(picture({0: (4 + 4 * i, 40)}), START + i * TENTH) for i in range(4)]
    rear = [raw(picture({1: (70, 36), 2: (8 + 4 * i, 8)}), START + i * TENTH) for i in range(4)]
    for one, other in zip(front, rear, strict=True):
        give(worker, one, 0)
        give(worker, other, 1)
    for sink, messages in zip(sinks, (front, rear), strict=True):
        alone = CollectingSink()
        single = working(camera(model, alone))
        for message in messages:
            give(single, message)
        for name in OUTPUTS:
            assert [cdr(m) for m in sink.kept[name]] == [cdr(m) for m in alone.kept[name]], name


@pytest.mark.parametrize("recurrent", [False, True])
def test_pipelines_share_a_network_that_keeps_no_state_and_are_fresh(folder, recurrent):
    path = colour_model(folder / f"recurrent-{recurrent}.onnx", recurrent=recurrent)
    first, second = pipelines(Config(model=str(path)), 2)
    assert (first.segmenter is second.segmenter) is not recurrent
    for pipeline in (first, second):
        result = pipeline.step(Frame(picture({0: (4, 40)}), START))
        assert (result.sequence_id, [t.track_id for t in result.tracks]) == (0, [1])


def test_no_camera_starves_beside_a_fast_one(slow, working):
    sinks = CollectingSink({"tracks"}), CollectingSink({"tracks"})
    config = Config(model=slow, threads=1)
    first = OnlinePanoptic(config)
    both = (first, OnlinePanoptic(config, segmenter=first.segmenter))
    worker = working(*(Camera(str(i), p, read, s) for i, (p, s) in enumerate(zip(both, sinks, strict=True))))
    image = picture({0: (8, 40)})
    for i in range(40):
        worker.offer(0, raw(image, START + i * TENTH))
        if i % 4 == 0:
            worker.offer(1, raw(image, START + i * TENTH))
        time.sleep(0.02)
    until(lambda: worker.stats[1].figures().frames + worker.stats[1].figures().dropped == 10)
    assert worker.stats[1].figures().frames >= 2
    assert np.all(np.diff(stamps(sinks[1].kept["tracks"])) > 0)


@pytest.mark.parametrize("batch", [True, False])
def test_waiting_frames_of_several_cameras_in_one_run(folder, working, monkeypatch, batch):
    """The results are those of single frames; a broken frame of one camera does not affect the others."""
    pytest.importorskip("torch", reason="torch is of the [train] extra")
    one, both = colour_model(folder / "single.onnx"), folder / "batch.onnx"
    if not both.exists():
        assert main(["export", "--from", "onnx", str(one), "-o", str(both), "--batch"]) == 0
    shared = pipelines(Config(model=str(both)), 3)
    runs = []
    ahead = shared[0].segmenter.run_ahead
    monkeypatch.setattr(shared[0].segmenter, "run_ahead", lambda images: (runs.append(len(images)), ahead(images)))
    sinks = [CollectingSink() for _ in shared]
    rows = zip("abc", shared, sinks, strict=True)
    worker = Worker([Camera(name, pipeline, read, sink) for name, pipeline, sink in rows], batch=batch)
    images = [picture({0: (8, 20)}), picture({}), picture({1: (40, 30)}, size=(160, 96))]
    messages = [raw(image, START) for image in images]
    messages[1].data = messages[1].data[:-1]
    for index, message in enumerate(messages):
        worker.offer(index, message)
    worker.start()
    until(lambda: sum(s.figures().frames + s.figures().failed for s in worker.stats) == 3)
    assert worker.stop(PATIENCE)
    assert runs == ([2] if batch else [])
    assert [(s.figures().frames, s.figures().failed) for s in worker.stats] == [(1, 0), (0, 1), (1, 0)]
    for index in (0, 2):
        expected = OnlinePanoptic(Config(model=str(one))).step(read(messages[index], 0))
        (found,) = sinks[index].kept["panoptic"]
        np.testing.assert_array_equal(image_to_array(found, "mono16", np.uint16), expected.map)


def test_clips_are_published_frame_by_frame_and_an_incomplete_one_after_a_silence(tmp_path, working):
    path = colour_model(tmp_path / "clips.onnx", clip=ClipSpec(3, 0))
    sink = CollectingSink()
    worker = working(camera(str(path), sink))
    pipeline, stats = worker.cameras[0].pipeline, worker.stats[0]
    for count, (_, _, message) in enumerate(drive(5), 1):
        worker.offer(0, message)
        until(lambda count=count: stats.figures().frames + len(pipeline.waiting) >= count)
    until(lambda: stats.figures().frames == 5, "the end of the incomplete clip")
    for name in LIVE_OUTPUTS:
        assert stamps(sink.kept[name]) == [START + i * TENTH for i in range(5)], name
    assert len({o.track_id for m in sink.kept["tracks"] for o in m.objects}) == len(sink.kept["tracks"][0].objects)
    # The first frame of the clip waited for the last one, the fourth frame at least for the silence.
    assert stats.to_json()["latency_ms"]["p99"] > 900
    (status,) = health(worker, PATIENCE)
    assert ("clip", "3 frames, 0 of them overlapping; results at most 2 frames late") in status.values


@pytest.mark.parametrize(
    "end", [lambda worker: worker.reset_tracks().result(PATIENCE), lambda worker: worker.stop(PATIENCE)]
)
def test_frames_that_wait_for_their_clip_are_published_before_the_tracks_are_forgotten(tmp_path, working, end):
    path = colour_model(tmp_path / "clips.onnx", clip=ClipSpec(4, 0))
    sink = CollectingSink()
    worker = working(camera(str(path), sink))
    worker.offer(0, drive(1)[0][2])
    until(lambda: worker.cameras[0].pipeline.waiting, "the frame")
    end(worker)
    assert stamps(sink.kept["panoptic"]) == [START]
    assert worker.stats[0].figures().frames == 1
