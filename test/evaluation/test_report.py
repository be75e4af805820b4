"""The page of an evaluation: what it shows is what was measured, and it needs nothing else."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.pages import parse
from vps_ros.drawing.colors import identity_color
from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.page import charts
from vps_ros.evaluation.page.charts import polylines
from vps_ros.evaluation.report import Entry, Picture, write_html
from vps_ros.evaluation.timelines import Span, Timeline
from vps_ros.taxonomy import CITYSCAPES

ROAD, SIDEWALK, PERSON, CAR, BUS, VOID = 0, 1, 11, 13, 15, 255


@pytest.fixture
def page(tmp_path):
    def write(entries, *arguments, **named):
        write_html(tmp_path / "page.html", entries, *arguments, **named)
        return parse((tmp_path / "page.html").read_text(encoding="utf-8"))

    return write


def section(page, anchor):
    return next(node for node in page.all("section") if node.id == anchor)


def frame(*pixels):
    """Class and instance maps of one row of pixels, (class, instance) each."""
    classes, instances = zip(*pixels, strict=True)
    return np.array([classes], np.uint8), np.array([instances], np.int64)


def evaluated(name, videos, **how):
    """An entry of a video, {sequence: [(true pixels, predicted pixels), ...]}."""
    evaluator = Evaluator(CITYSCAPES, **how)
    timeline = {
        sequence: [evaluator.update(sequence, *frame(*gt), *frame(*pred)).pq for gt, pred in frames]
        for sequence, frames in videos.items()
    }
    return Entry(name, evaluator.result(), timeline)


TRUTH = [(ROAD, 0), (ROAD, 0), (CAR, 1), (CAR, 1), (PERSON, 2), (VOID, 0)]
GOOD = [(ROAD, 0), (ROAD, 0), (CAR, 7), (CAR, 7), (PERSON, 8), (ROAD, 0)]
# The car has another track, half the road is a sidewalk, and the person is void.
POOR = [(ROAD, 0), (SIDEWALK, 0), (CAR, 9), (CAR, 9), (VOID, 0), (ROAD, 0)]


@pytest.fixture
def good():
    return evaluated("good", {"day": [(TRUTH, GOOD)] * 4, "night": [(TRUTH, GOOD)] * 2})


@pytest.fixture
def poor():
    return evaluated("poor", {"day": [(TRUTH, GOOD), (TRUTH, POOR)] * 2, "night": [(TRUTH, POOR)] * 2})


def tiles_of(page):
    """Name -> figure and the words below it."""
    return {
        tile.one("span").text: (tile.one("b").text, tile.one("small").text)
        for tile in page.one("div", "tiles").children
    }


def percent(value):
    return "–" if value != value else f"{100 * value:.1f}"


PHOTO = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)


@pytest.mark.parametrize("several", [False, True])
def test_the_page_is_well_formed_and_asks_for_nothing(tmp_path, good, poor, several):
    entries = [good, poor] if several else [poor]
    write_html(tmp_path / "r.html", entries, [Picture({"camera": PHOTO}, "one")], "A drive", {"frames/s": "25.1"})
    text = (tmp_path / "r.html").read_text()
    tree = parse(text)
    assert [node for tag in ("script", "link", "iframe", "object") for node in tree.all(tag)] == []
    assert "url(" not in text and "@import" not in text
    found = re.findall(r"(?:src|href|srcset|data|action)=['\"]?([^'\" >]*)", text)
    assert {link[:1] if link.startswith("#") else link[:11] for link in found} == {"#", "data:image/"}
    anchors = re.findall(r' id="([^"]*)"', text)
    assert len(anchors) == len(set(anchors))
    assert {link[1:] for link in found if link.startswith("#")} <= set(anchors)
    assert tree.one("title").text == tree.one("h1").text == "A drive"


def test_the_figures_at_the_top_are_those_of_the_report(page, poor):
    pytest.importorskip("trackeval")
    tree, r = page([poor], facts={"frames/s": "25.1"}), poor.report
    tiles = tiles_of(tree)
    assert tiles["STQ"] == (percent(r.stq), f"AQ {percent(r.aq)} · SQ {percent(r.sq)}")
    assert tiles["PQ"] == (percent(r.pq.all), f"things {percent(r.pq.things)} · stuff {percent(r.pq.stuff)}")
    assert tiles["mIoU"][0] == percent(r.miou)
    assert tiles["VPQ"][0] == percent(r.vpq.all)
    for frames, window in r.vpq.windows.items():
        assert f"{frames}: {percent(window.all)}" in tiles["VPQ"][1]
    small = dict(zip((d.text for d in tree.all("dt")), (d.text for d in tree.all("dd")), strict=True))
    assert small == {
        "VC8": "–",
        "VC16": "–",
        "IDF1": percent(r.identity.idf1),
        "HOTA": percent(r.identity.hota),
        "MOTA": percent(r.identity.mota),
        "IDSW": "3",
        "frames/s": "25.1",
    }
    lead = tree.one("p").text
    assert "6 frames in 2 sequences, 4 true tubes" in lead
    assert "deeplab2 for STQ, kitti-step for VPQ" in lead and "taxonomy cityscapes" in lead
    assert r.void_note in tree.text


def test_classes_that_occur_have_a_row(page, poor):
    rows = section(page([poor]), "classes").one("table").texts()
    assert rows[0] == ["class", "kind", "IoU", "PQ", "VPQ", "AQ", "SQ", "RQ", "TP", "FP", "FN", "tubes"]
    # Of 12 true pixels of the road 8 are found, and none is invented but on void. In two frames its IoU is 1, and
    # in the four others 1/2, which is no match.
    assert rows[1][:4] == ["road", "stuff", "66.7", "33.3"]
    assert rows[1][5:] == ["–", "100.0", "33.3", "2", "4", "4", ""]
    assert [row[0] for row in rows[1:]] == ["road", "sidewalk", "person", "car", "all"]
    for name, _, iou, pq, vpq, aq, sq, rq, tp, fp, fn, tubes in rows[1:-1]:
        c = poor.report.classes[name]
        assert [iou, pq, vpq, aq, sq, rq] == [percent(v) for v in (c.iou, c.pq, c.vpq, c.aq, c.sq, c.rq)]
        assert [tp, fp, fn, tubes] == [str(c.tp), str(c.fp), str(c.fn), str(c.tubes) if c.is_thing else ""]
    assert rows[-1][2:6] == [
        percent(v) for v in (poor.report.miou, poor.report.pq.all, poor.report.vpq.all, poor.report.aq)
    ]


def test_bars_are_as_long_as_their_shares(page, poor):
    cells = {row[0].text: row[2:6] for row in section(page([poor]), "classes").one("table").rows()}
    assert [cell.attributes["style"] for cell in cells["road"][:2]] == ["--share:0.667", "--share:0.333"]
    assert cells["road"][3].attributes["style"] == "--share:0.000"


def test_sequences_and_all_of_them(page, poor):
    rows = section(page([poor]), "sequences").one("table").texts()
    assert [row[0] for row in rows] == ["sequence", "day", "night", "all"]
    for row, s in zip(rows[1:], (*poor.report.sequences.values(), poor.report), strict=True):
        shown = dict(zip(rows[0], row, strict=True))
        assert (shown["frames"], shown["tubes"]) == (str(s.frames), str(s.tubes))
        assert [shown[n] for n in ("STQ", "AQ", "SQ", "VPQ", "PQ", "things", "stuff", "mIoU")] == [
            percent(v) for v in (s.stq, s.aq, s.sq, s.vpq.all, s.pq.all, s.pq.things, s.pq.stuff, s.miou)
        ]


def test_a_timeline_shows_tracks_gaps_and_switches(page, poor):
    figure = section(page([poor]), "timelines").one("figure")
    assert figure.one("figcaption").text == "day 2 things, 3 switches, missed in 25.0 % of 8 appearances"
    car, person = (row for row in figure.one("table").rows()[1:])
    assert [cell.text for cell in (car[0], *car[2:])] == ["car 1", "3", "0", "4"]
    spans = list(car[1].all("i"))
    assert [span.attributes["title"] for span in spans] == [
        "frame 0: track 7",
        "frame 1: track 9",
        "frame 2: track 7",
        "frame 3: track 9",
    ]
    assert [span.text for span in spans] == ["7", "9", "7", "9"]
    assert spans[1].attributes["style"].startswith("left:25%;width:25%;")
    color = "#{:02x}{:02x}{:02x}".format(*identity_color(9))
    assert f"background:{color}" in spans[1].attributes["style"], "the colour that the pictures give the track"
    ticks = [(b.attributes["style"], b.attributes["title"]) for b in car[1].all("b")]
    assert ticks == [(f"left:{25 * f}%", f"frame {f}: another track") for f in (1, 2, 3)]
    assert [cell.text for cell in (person[0], *person[2:])] == ["person 2", "0", "2", "4"]
    missed = [span.attributes["title"] for span in person[1].all("i", "missed")]
    assert missed == ["frame 1: missed", "frame 3: missed"]
    assert list(person[1].all("b")) == []


def with_timelines(entry, lines):
    sequences = {name: replace(s, frames=1000, timelines=lines[name]) for name, s in entry.report.sequences.items()}
    return replace(entry, report=replace(entry.report, sequences=sequences))


def test_only_the_worst_timelines_are_shown(page, good):
    def line(instance, *tracks):
        return Timeline("car", instance, tuple(Span(t, t, track) for t, track in enumerate(tracks)))

    fine = tuple(line(i, 1) for i in range(1, 60))
    lines = {"day": (*fine, line(60, None), line(61, 1, 2), line(62, 1, 2, 1)), "night": fine[:2]}
    shown, rest = section(page([with_timelines(good, lines)]), "timelines").all("figure")
    rows = shown.one("table").texts()[1:]
    assert [row[0] for row in rows[:4]] == ["car 62", "car 61", "car 60", "car 1"]
    assert len(rows) == charts.MAX_SEQUENCE_ROWS
    assert f"Left out: {62 - charts.MAX_SEQUENCE_ROWS} better things." in shown.text
    assert len(rest.one("table").texts()) == 3
    assert "Left out" not in rest.text


def test_only_the_worst_sequences_have_timelines(page):
    frames = [(TRUTH, GOOD), (TRUTH, POOR)]
    videos = {f"calm-{i}": frames[:1] for i in range(charts.MAX_SEQUENCES + 3)} | {"restless": frames}
    part = section(page([evaluated("one", videos)]), "timelines")
    names = [caption.one("b").text for caption in part.all("figcaption")]
    assert len(names) == charts.MAX_SEQUENCES and "restless" in names
    assert "Left out: 4 better sequences." in part.text


def test_a_timeline_that_flickers_for_hours_stays_short(page, good):
    flicker = Timeline("car", 1, tuple(Span(t, t, None if t % 2 else 5) for t in range(100_000)))
    sequences = {name: replace(s, frames=100_000, timelines=(flicker,)) for name, s in good.report.sequences.items()}
    part = section(page([replace(good, report=replace(good.report, sequences=sequences))]), "timelines")
    for row in (figure.one("table").rows()[1] for figure in part.all("figure")):
        assert len(list(row[1].all("i"))) <= charts.RESOLUTION + 1
        assert row[3].text == "50000"


def test_confusion_tells_where_each_true_class_went(page, poor):
    part = section(page([poor]), "confusion")
    rows = part.one("table").rows()
    assert [cell.text for cell in rows[0][1:]] == ["road", "sidewalk", "person", "car", "void"]
    found = {
        row[0].text: {c.attributes["title"]: c.text for c in row[1:] if "title" in c.attributes} for row in rows[1:]
    }
    # 8 of 12 pixels, and 2 of 6; the unlabelled pixels are nobody's.
    assert found == {
        "road": {"road as road: 66.7 % of 12 pixels": "67", "road as sidewalk: 33.3 % of 12 pixels": "33"},
        "person": {"person as person: 33.3 % of 6 pixels": "33", "person as void: 66.7 % of 6 pixels": "67"},
        "car": {"car as car: 100.0 % of 12 pixels": "100"},
    }
    assert "Most frequent confusions: person as void (66.7), road as sidewalk (33.3)." in part.text


def test_two_predictions_side_by_side(page, good, poor):
    pytest.importorskip("trackeval")
    tree = page([good, poor])
    rows = section(tree, "comparison").one("table").rows()
    assert [cell.text for cell in rows[0]] == ["metric", "good", "poor", "difference"]
    shown = {}
    for row in rows[1:]:
        shown.setdefault(row[0].text, row[1:])
    for name, value in (("STQ", "stq"), ("AQ", "aq"), ("SQ", "sq"), ("mIoU", "miou")):
        values = [getattr(entry.report, value) for entry in (good, poor)]
        difference = f"{100 * (values[1] - values[0]):+.1f}".replace("-", "−")
        assert [cell.text for cell in shown[name]] == [*map(percent, values), difference]
        assert [len(list(cell.all("b"))) for cell in shown[name]] == [1, 0, 0]
    assert [cell.text for cell in shown["IDSW"]] == ["0", "3", "+3"]
    assert [len(list(cell.all("b"))) for cell in shown["IDSW"]] == [1, 0, 0], "fewer are better"
    assert "worse" in shown["IDSW"][2].one("span").attributes["class"]
    assert [cell.text for cell in shown["VC8"]] == ["–", "–", "–"]
    assert [cell.text for cell in shown["4 frames"]] == [percent(e.report.vpq.windows[4].all) for e in (good, poor)] + [
        f"{100 * (poor.report.vpq.windows[4].all - good.report.vpq.windows[4].all):+.1f}".replace("-", "−")
    ]

    classes = section(tree, "classes").one("table")
    assert classes.texts()[1] == ["road", "stuff", "100.0", "33.3"]
    car = classes.rows()[4]
    assert [cell.text for cell in car] == ["car", "thing", "100.0", "100.0"]
    assert list(car[2].all("b")) == list(car[3].all("b")) == [], "none is better than the other"
    sequences = section(tree, "sequences").one("table").texts()
    assert sequences[1] == ["day", *(percent(e.report.sequences["day"].stq) for e in (good, poor))]


def test_details_of_each_follow_the_comparison(page, good, poor):
    tree = page([good, poor])
    one, other = tree.all("details")
    assert one.one("summary").text.startswith("good") and other.one("summary").text.startswith("poor")
    for entry, details in ((good, one), (poor, other)):
        assert details.one("div", "tile first").one("b").text == percent(entry.report.stq)
        headings = [h.text for h in details.all("h2")]
        assert headings == ["Classes", "Sequences", "Timelines", "Confusion of classes"]
    order = [h.text for h in tree.all("h2")]
    assert order[:4] == ["Comparison", "Classes", "Sequences", "Quality over time"]


def test_three_predictions_have_no_difference(page, good, poor):
    third = replace(poor, name="third")
    head = section(page([good, poor, third]), "comparison").one("table").texts()[0]
    assert head == ["metric", "good", "poor", "third"]


def test_curves_lie_over_one_another(page, good, poor):
    part = section(page([good, poor]), "time")
    assert [entry.text for entry in part.one("ul").all("li")] == ["good", "poor"]
    day, night = part.all("figure")
    assert [g.attributes["class"] for g in day.all("g")] == ["s0 d0", "s1 d0"]
    mean = sum(poor.timeline["day"]) / 4
    assert day.one("figcaption").text.split() == ["day", "4", "frames,", "mean", "PQ", "100.0", percent(mean)]
    curves = [line.attributes["points"] for line in day.all("polyline")]
    assert curves[0] == "0.0,0.0 333.3,0.0 666.7,0.0 1000.0,0.0"
    assert curves[1].startswith("0.0,0.0 333.3,")
    assert night.one("figcaption").one("b").text == "night"


def test_of_many_sequences_the_worst_are_drawn(page, good):
    timeline = {f"{i:03d}": [i / 100] * 3 for i in range(60, 0, -1)}
    part = section(page([replace(good, timeline=timeline)]), "time")
    names = [caption.one("b").text for caption in part.all("figcaption")]
    assert names == [f"{i:03d}" for i in range(charts.MAX_PLOTS, 0, -1)], "in their order"
    assert f"Left out: {60 - charts.MAX_PLOTS} sequences of higher mean PQ." in part.text


def test_a_shorter_curve_ends_earlier():
    (long,), (short,) = polylines([0.5] * 5, 5), polylines([1.0] * 3, 5)
    assert long.endswith("1000.0,50.0")
    assert short == "0.0,0.0 250.0,0.0 500.0,0.0"


def test_pictures_name_what_they_show(page, good, poor):
    panels = {"ground truth": PHOTO // 64 * 64, "good": PHOTO, "poor": PHOTO}
    part = section(page([good, poor], [Picture(panels, "the worst & last")]), "pictures")
    assert [panel.one("span").text for panel in part.all("div", "panel")] == ["ground truth", "good", "poor"]
    assert part.one("figcaption").text == "the worst & last"
    assert [img.attributes["alt"].split(":")[0] for img in part.all("img")] == ["ground truth", "good", "poor"]


def test_words_of_others_are_only_words(tmp_path):
    bad = "<b>'\"&"
    entry = evaluated(bad, {f"<i>{bad}": [(TRUTH, POOR)]})
    pictures = [Picture({bad: PHOTO}, bad)]
    write_html(tmp_path / "r.html", [entry, replace(entry, name="x")], pictures, bad, {bad: bad})
    text = (tmp_path / "r.html").read_text()
    assert "<b>'" not in text and "<i><b>" not in text
    tree = parse(text)
    assert tree.one("h1").text == bad
    assert tree.one("dt").text == tree.one("dd").text == bad
    assert section(tree, "pictures").one("figcaption").text == bad
    assert section(tree, "sequences").one("table").texts()[1][0] == f"<i>{bad}"


def test_without_metrics_of_video_the_page_is_about_frames(page):
    tree = page([evaluated("one", {"day": [(TRUTH, POOR)]}, video=False)])
    assert "VPQ" not in {tile.text for tile in tree.all("span")}
    assert "TrackEval" not in tree.text
    assert [h.text for h in tree.all("h2")] == ["Classes", "Sequences", "Quality over time", "Confusion of classes"]
    assert section(tree, "classes").one("table").texts()[0][2:5] == ["IoU", "PQ", "AQ"]


def test_without_trackeval_the_page_says_what_is_not_there(page, poor):
    def without(quality, **changed):
        return replace(quality, results={n: r for n, r in quality.results.items() if n != "identity"}, **changed)

    sequences = {name: without(s) for name, s in poor.report.sequences.items()}
    tree = page([replace(poor, report=without(poor.report, sequences=sequences))])
    assert "TrackEval is not installed" in tree.text
    assert [d.text for d in tree.all("dt")] == ["VC8", "VC16"]
    assert section(tree, "sequences").one("table").texts()[0][-1] == "VC16"


@pytest.mark.parametrize("several", [False, True])
def test_where_nothing_is_labelled_there_are_dashes(page, several):
    entry = evaluated("one", {"day": [([(VOID, 0)] * 3, [(ROAD, 0)] * 3)] * 2})
    tree = page([entry, replace(entry, name="other")] if several else [entry])
    assert tiles_of(tree)["PQ"][0] == tiles_of(tree)["mIoU"][0] == "–"
    assert "nan" not in tree.text
    assert "Confusion of classes" not in [h.text for h in tree.all("h2")]


def test_entries_need_names_that_differ(tmp_path, good, poor):
    for entries in ([], [good, replace(poor, name="good")]):
        with pytest.raises(InputError, match="names that differ"):
            write_html(tmp_path / "r.html", entries)
    assert list(tmp_path.iterdir()) == []


pixels = st.sampled_from([(ROAD, 0), (SIDEWALK, 0), (CAR, 1), (CAR, 2), (PERSON, 3), (BUS, 0), (VOID, 0)])
rows_of_pixels = st.lists(pixels, min_size=5, max_size=5)
videos = st.lists(st.tuples(rows_of_pixels, rows_of_pixels), min_size=1, max_size=4)


@settings(deadline=None, max_examples=25)
@given(videos, videos)
def test_any_evaluation_is_shown_as_it_is(tmp_path_factory, day, night):
    entry = evaluated("one", {"day": day, "night": night})
    path = tmp_path_factory.getbasetemp() / "any.html"
    write_html(path, [entry, replace(entry, name="other")])
    text = path.read_text()
    assert not re.search(r"\bnan\b", text)
    rows = section(parse(text), "p1-classes").one("table").texts()
    shown = {row[0]: row[2:] for row in rows[1:-1]}
    assert shown.keys() == {name for name, c in entry.report.classes.items() if c.occurs}
    for name, row in shown.items():
        c = entry.report.classes[name]
        assert row[:6] == [percent(v) for v in (c.iou, c.pq, c.vpq, c.aq, c.sq, c.rq)]
        assert row[6:9] == [str(c.tp), str(c.fp), str(c.fn)]
