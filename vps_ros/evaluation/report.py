"""An evaluation as one HTML page that needs nothing else: no script, no font, no request."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.evaluation.plots import line_plot
from vps_ros.evaluation.results import ClassReport, Report, SequenceReport
from vps_ros.output import whole


class Picture(NamedTuple):
    """An example for the page: RGB uint8 [H, W, 3], and what it shows."""

    image: NDArray[np.uint8]
    caption: str


def write_html(
    path: str | Path,
    report: Report,
    pictures: Sequence[Picture] = (),
    title: str = "Evaluation",
    facts: Mapping[str, str] | None = None,
    timeline: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Writes the page, whole or not at all; an existing file is replaced.

    Args:
        pictures: shown at the end, embedded.
        facts: what else to say at the top, such as speed: name -> value.
        timeline: PQ of each frame, 0..1 or NaN, by sequence.
    """
    page = render_html(report, pictures, title, facts or {}, timeline or {})
    with whole(path) as draft:
        draft.write_text(page, encoding="utf-8")


def render_html(
    report: Report,
    pictures: Sequence[Picture],
    title: str,
    facts: Mapping[str, str],
    timeline: Mapping[str, Sequence[float]],
) -> str:
    """The page as text; arguments as `write_html`."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p class=lead>{_lead(report)}</p>",
        _tiles(report, facts),
        _section("Classes", _CLASSES, _class_table(report)),
        _section("Sequences", _SEQUENCES, _sequence_table(report.sequences)),
    ]
    if timeline:
        plots = "".join(_plot(name, values) for name, values in timeline.items())
        parts.append(_section("Quality over time", "Panoptic quality of each frame by itself.", plots))
    if pictures:
        shown = "".join(_figure(p) for p in pictures)
        parts.append(_section("Pictures", "", f"<div class=pictures>{shown}</div>"))
    return _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(parts))


_CLASSES = (
    "IoU compares pixels, PQ = SQ × RQ compares segments, AQ says how well the identities of a thing last. "
    "TP, FP and FN are matched, invented and missed segments. Classes that never occur are left out."
)
_SEQUENCES = "A tube is one true object through its sequence. Without tubes AQ, and with it STQ, is 0 by protocol."


def _lead(report: Report) -> str:
    sequences = len(report.sequences)
    return (
        f"{report.frames} frames in {sequences} sequence{'s' * (sequences != 1)}, {report.tubes} true tubes. "
        f"Protocol <b>{escape(report.protocol)}</b>, taxonomy <b>{escape(report.taxonomy)}</b>. Numbers in percent."
        + (f" {escape(report.void_note)}" if report.void_note else "")
    )


def _tiles(report: Report, facts: Mapping[str, str]) -> str:
    figures = (
        ("STQ", report.stq, "segmentation and tracking"),
        ("AQ", report.aq, "association"),
        ("SQ", report.sq, "segmentation"),
        ("PQ", report.pq.all, f"things {_percent(report.pq.things)} · stuff {_percent(report.pq.stuff)}"),
        ("mIoU", report.miou, "mean over classes"),
    )
    tiles = [_tile(name, _percent(value), meaning, i == 0) for i, (name, value, meaning) in enumerate(figures)]
    tiles += [_tile(name, value, "", False) for name, value in facts.items()]
    return f"<div class=tiles>{''.join(tiles)}</div>"


def _tile(name: str, value: str, meaning: str, first: bool) -> str:
    kind = "tile first" if first else "tile"
    return (
        f"<div class='{kind}'><span>{escape(name)}</span><b>{escape(value)}</b><small>{escape(meaning)}</small></div>"
    )


def _section(heading: str, meaning: str, body: str) -> str:
    words = f"<p>{meaning}</p>" if meaning else ""
    return f"<section><h2>{heading}</h2>{words}{body}</section>"


def _class_table(report: Report) -> str:
    head = ("class", "", "IoU", "PQ", "SQ", "RQ", "AQ", "TP", "FP", "FN")
    rows = [_class_row(name, c) for name, c in report.classes.items() if c.occurs]
    return _table(head, rows)


def _class_row(name: str, c: ClassReport) -> str:
    color = "#{:02x}{:02x}{:02x}".format(*c.color)
    label = f"<td class=name><i style='background:{color}'></i>{escape(name)}</td>"
    kind = f"<td class=kind>{'thing' if c.is_thing else 'stuff'}</td>"
    bars = _bar(c.iou) + _bar(c.pq)
    return label + kind + bars + _cells(_percent(c.sq), _percent(c.rq), _percent(c.aq), c.tp, c.fp, c.fn)


def _sequence_table(sequences: Mapping[str, SequenceReport]) -> str:
    head = ("sequence", "frames", "tubes", "STQ", "AQ", "SQ", "PQ", "things", "stuff", "mIoU")
    rows = []
    for name, s in sequences.items():
        values = (s.aq, s.sq, s.pq.all, s.pq.things, s.pq.stuff, s.miou)
        label = f"<td class=name>{escape(name)}</td>"
        rows.append(label + _cells(s.frames, s.tubes) + _bar(s.stq) + _cells(*map(_percent, values)))
    return _table(head, rows)


def _table(head: Iterable[str], rows: Iterable[str]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<div class=scroll><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"


def _cells(*values: object) -> str:
    return "".join(f"<td>{value}</td>" for value in values)


def _bar(value: float) -> str:
    share = 0.0 if value != value else value
    return f"<td class=bar><em style='--share:{share:.3f}'></em>{_percent(value)}</td>"


def _plot(name: str, values: Sequence[float]) -> str:
    known = [v for v in values if v == v]
    words = f"{len(values)} frames, mean {_percent(sum(known) / len(known) if known else float('nan'))}"
    caption = f"<figcaption><b>{escape(name)}</b> {words}</figcaption>"
    return f"<figure class=plot>{caption}{line_plot(values)}</figure>"


def _figure(picture: Picture) -> str:
    caption = escape(picture.caption)
    return f"<figure><img src='{_data_uri(picture.image)}' alt='{caption}'><figcaption>{caption}</figcaption></figure>"


def _data_uri(image: NDArray[np.uint8]) -> str:
    """The image as PNG or JPEG, whichever is smaller: painted maps are best as the one, photographs as the other."""
    bgr = np.ascontiguousarray(image[..., ::-1])
    png = cv2.imencode(".png", bgr)[1].tobytes()
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    kind, data = ("png", png) if len(png) <= len(jpeg) else ("jpeg", jpeg)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _percent(value: float) -> str:
    return "–" if value != value else f"{100 * value:.1f}"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title><style>{style}</style></head>
<body><main>
{body}
</main></body></html>
"""

_STYLE = """
:root{--ground:#fff;--card:#f5f6f8;--ink:#1b1f24;--soft:#5c6670;--line:#dfe3e8;--mark:#2563eb;--fill:#cfdefb}
@media(prefers-color-scheme:dark){:root{--ground:#14171b;--card:#1d2126;--ink:#e8eaed;--soft:#9aa4af;--line:#30363d;
--mark:#7aa7ff;--fill:#27406e}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:26px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:18px;margin:40px 0 4px}
p{margin:0 0 12px;color:var(--soft);max-width:75ch}
.lead b{color:var(--ink);font-weight:600}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0 0}
.tile{background:var(--card);border-radius:10px;padding:14px 16px;display:flex;flex-direction:column}
.tile span{color:var(--soft);font-size:13px;font-weight:600}
.tile b{font-size:30px;line-height:1.2;font-weight:650;font-variant-numeric:tabular-nums}
.tile small{color:var(--soft);font-size:12px}
.tile.first{background:var(--fill)}
.tile.first span,.tile.first small{color:inherit;opacity:.75}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th{font-weight:600;color:var(--soft);font-size:12px;text-align:right;padding:6px 10px;
border-bottom:1px solid var(--line)}
td{text-align:right;padding:5px 10px;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td.name,td.kind{text-align:left}
td.kind{color:var(--soft);font-size:13px}
td.name i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:8px;vertical-align:-1px;
box-shadow:0 0 0 1px rgba(128,128,128,.5)}
td.bar{position:relative;min-width:130px}
td.bar em{position:absolute;left:10px;top:9px;bottom:9px;opacity:.65;width:calc((100% - 68px)*var(--share));
background:var(--mark);border-radius:2px}
figure{margin:16px 0}
figcaption{color:var(--soft);font-size:13px;margin-bottom:4px}
figcaption b{color:var(--ink)}
.axes{position:relative;height:110px;padding:10px 10px 22px 38px;background:var(--card);border-radius:8px}
.axes svg{display:block;width:100%;height:100%;overflow:visible}
.axes span{position:absolute;color:var(--soft);font-size:11px;line-height:1;font-variant-numeric:tabular-nums}
.axes .high,.axes .mid,.axes .low{right:calc(100% - 32px)}
.axes .high{top:5px}.axes .mid{top:44px}.axes .low{top:83px}
.axes .from{left:38px;bottom:5px}.axes .to{right:10px;bottom:5px}
.plot line{stroke:var(--line);stroke-width:1;vector-effect:non-scaling-stroke}
.plot polyline{fill:none;stroke:var(--mark);stroke-width:1.5;vector-effect:non-scaling-stroke;stroke-linejoin:round}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:16px}
.pictures figure{margin:0}
.pictures figcaption{margin:4px 0 0}
img{display:block;width:100%;height:auto;border-radius:6px}
"""
