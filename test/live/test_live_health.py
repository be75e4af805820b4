"""Statistics and health of the worker, and how they are reported."""

import logging
import threading

import pytest

from support.bags import START, drive, raw
from support.live_workers import PATIENCE, CollectingSink, camera, give, read, until
from support.worlds import picture
from vps_ros.config import Config
from vps_ros.frame import Frame
from vps_ros.live.health import Level, Status, StatusLog, diagnostic_array, health
from vps_ros.live.stats import RECENT, MessageCounter, Stats
from vps_ros.live.worker import FAILURES, Worker
from vps_ros.messages.panoptic import LABEL_INFO, nanoseconds
from vps_ros.messages.typestore import read_message, typestore
from vps_ros.online import OnlinePanoptic


def test_messages_are_counted_by_cause_and_never_grow_too_many():
    counter = MessageCounter()
    assert counter.add("frame at 17 ns: 3x4 pixels")
    assert not counter.add("frame at 18 ns: 5x6 pixels")
    assert counter.to_dict() == {"frame at 17 ns: 3x4 pixels": 2}
    for i in range(300):
        counter.add("x" * (i + 1))
    assert counter.total == 302
    assert len(counter.to_dict()) <= 101


def test_problems_and_their_end_are_logged_once_a_minute(caplog):
    now = [0.0]
    log = StatusLog(clock=lambda: now[0])

    def logged(level, message):
        caplog.clear()
        log.update({"front": Status("vps: front", level, message)})
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    with caplog.at_level(logging.INFO):
        assert logged(Level.OK, "waiting for the first image") == []
        assert logged(Level.WARN, "no image for 3 s") == [("WARNING", "front: no image for 3 s")]
        assert logged(Level.WARN, "no image for 4 s") == []
        assert logged(Level.ERROR, "the worker is not running") == [("ERROR", "front: the worker is not running")]
        assert logged(Level.OK, "9.8 frames/s") == [("INFO", "back to normal: front: 9.8 frames/s")]
        assert logged(Level.WARN, "no image for 3 s") == []
        assert logged(Level.OK, "9.9 frames/s") == []
        now[0] = 61.0
        assert logged(Level.WARN, "no image for 3 s") == [("WARNING", "front: no image for 3 s")]


def test_rate_and_latency_are_those_of_the_last_seconds(model):
    now = [0.0]
    stats = Stats(clock=lambda: now[0])
    result = OnlinePanoptic(Config(model=model)).step(Frame(picture({0: (4, 40)}), 1))
    for i in range(50):
        now[0] = i * 0.5
        stats.arrived()
        stats.done(10.0 if i < 25 else 30.0, result)
    figures = stats.figures()
    assert (figures.received, figures.frames, figures.tracks, figures.objects) == (50, 50, 1, 1)
    assert figures.rate == pytest.approx(2.0)
    assert (figures.p50, figures.p99) == (30.0, 30.0)
    now[0] += RECENT + 1
    assert (stats.figures().rate, stats.figures().p50) == (0.0, None)
    assert stats.figures().silent == RECENT + 1
    assert stats.to_json()["latency_ms"]["p50"] == pytest.approx(20.0)


def test_many_failures_in_a_row_are_an_error_until_a_frame_is_good(model, working, caplog):
    sink = CollectingSink()
    worker = working(camera(model, sink))
    (status,) = health(worker, PATIENCE)
    assert (status.level, status.message) == (Level.OK, "waiting for the first image")
    messages = [m for _, _, m in drive(2)]
    give(worker, messages[0])
    for i in range(FAILURES):
        assert health(worker, PATIENCE)[0].level == (Level.WARN if i else Level.OK)
        give(worker, raw(picture({}), START + i, "hologram8"))
    until(lambda: worker.busy == 0)
    (status,) = health(worker, PATIENCE)
    assert status.level == Level.ERROR
    assert f"{FAILURES} frames in a row" in status.message
    assert dict(status.values)["failed"] == str(FAILURES)
    for i in range(FAILURES):
        give(worker, raw(picture({}), START + i, "hologram8"))
    assert health(worker, PATIENCE)[0].level == Level.ERROR
    give(worker, messages[1])
    assert health(worker, PATIENCE)[0].level == Level.OK
    assert [m.sequence_id for m in sink.kept["tracks"]] == [0, 1], "what so many failures left behind is forgotten"
    assert caplog.text.count("frames in a row could not be used") == 1, "a camera that stays broken fills no log"


def test_health_becomes_a_diagnostics_message(model, working):
    worker = working(camera(model, name="front"), camera(model, name="rear"))
    give(worker, drive(1)[0][2], 1)
    message = diagnostic_array(START, health(worker, PATIENCE))
    data = typestore().serialize_cdr(message, message.__msgtype__)
    back = read_message(data, "diagnostic_msgs/msg/DiagnosticArray")
    assert nanoseconds(back.header.stamp) == START
    assert [s.name for s in back.status] == ["vps: front", "vps: rear"]
    values = {v.key: v.value for v in back.status[1].values}
    assert (values["frames"], values["providers"], values["model"]) == ("1", "cpu", "colours")
    assert float(values["latency p99 (ms)"]) > 0


def test_a_failed_worker_is_an_error(model, caplog):
    class Fatal(CollectingSink):
        def publish(self, output, message):
            if output != LABEL_INFO:
                raise SystemExit

    worker = Worker([camera(model, Fatal())])
    worker.start()
    assert worker.alive
    worker.offer(0, drive(1)[0][2])
    until(lambda: not worker.alive)
    (status,) = health(worker, PATIENCE)
    assert (status.level, status.message) == (Level.ERROR, "the worker is not running")
    assert "the worker failed" in caplog.text
    assert worker.reset_tracks().cancelled(), "who asks the dead gets an answer"
    assert worker.stop()


def test_a_worker_that_hangs_is_an_error_and_publishes_nothing_after_stop(model):
    release, entered, sink = threading.Event(), threading.Event(), CollectingSink()

    def hang(message, received):
        entered.set()
        release.wait(PATIENCE)
        return read(message, received)

    worker = Worker([camera(model, sink, read=hang)])
    worker.start()
    worker.offer(0, drive(1)[0][2])
    assert entered.wait(PATIENCE)
    until(lambda: worker.busy > 0.05)
    (status,) = health(worker, patience=0.05)
    assert status.level == Level.ERROR
    assert "stuck" in status.message
    assert not worker.stop(0.1)
    assert not worker.alive
    release.set()
    until(lambda: all(thread.name != "vps-worker" for thread in threading.enumerate()))
    assert set(sink.kept) <= {LABEL_INFO}


def test_missing_images_are_a_warning(model, working):
    worker = working(camera(model))
    give(worker, drive(1)[0][2])
    until(lambda: health(worker, patience=0.05)[0].level == Level.WARN)
    assert "no image for" in health(worker, patience=0.05)[0].message
    assert health(worker, PATIENCE)[0].level == Level.OK
