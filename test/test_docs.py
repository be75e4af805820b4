"""What README and docs say: links lead somewhere, commands are understood, code blocks import what there is."""

import ast
import importlib
import json
import re
import shlex
import sys

import pytest

import vps_ros
from support import ROOT
from vps_ros.commands.main import COMMANDS, _parser

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(page):
    """(language, text) of the code blocks, fenced or indented."""
    text = page.read_text()
    fenced = re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [*fenced, ("", "\n".join(re.findall(r"^    (.*)$", rest, re.MULTILINE)))]


def commands(page):
    """The `vps-ros` lines of a page, as lists of words."""
    for language, text in blocks(page):
        if language in ("", "sh", "bash"):
            for line in text.replace("\\\n", " ").splitlines():
                if line.strip().startswith("vps-ros "):
                    yield shlex.split(line, comments=True)[1:]


def imported(name):
    """The module; skips the test where what it needs from others is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name.startswith("vps_ros"):
            raise
        pytest.skip(f"{name} needs {error.name}")


@pages
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} is not there"
        assert target.is_relative_to(ROOT), f"{link} leads out of the project"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


@pages
def test_commands_are_understood(page, capsys):
    for words in commands(page):
        assert words[0] in COMMANDS, words
        try:
            _parser(words).parse_args(words)
        except SystemExit as end:
            assert end.code == 0, f"vps-ros {' '.join(words)}: {capsys.readouterr().err}"


@pages
def test_code_blocks_import_what_there_is(page):
    for language, text in blocks(page):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ImportFrom) or not node.module.startswith("vps_ros"):
                continue
            for alias in node.names:
                if node.module == "vps_ros.msg":  # which ROS generates
                    assert (ROOT / "msg" / f"{alias.name}.msg").is_file(), f"there is no message {alias.name}"
                else:
                    assert hasattr(imported(node.module), alias.name), f"{node.module} has no {alias.name}"


@pages
def test_code_blocks_use_public_names(page):
    for language, text in blocks(page):
        if language == "python":
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "vps":
                    assert node.attr in vps_ros.__all__, f"vps.{node.attr} is not public"


def test_the_pages_show_commands():
    """Otherwise the tests above would look at nothing."""
    shown = {words[0] for page in PAGES for words in commands(page)}
    assert {"replay", "track", "evaluate", "synth", "train", "export", "live"} <= shown


def maker(name):
    """A script of docs/."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def test_tables_of_the_trackers_are_those_of_their_figures():
    make = maker("make_ablation")
    for page, figures in make.FIGURES.items():
        shown = (ROOT / "docs" / page).read_text().partition(make.BEGIN)[2].partition(make.END)[0]
        assert shown.strip() == make.text(json.loads((ROOT / "docs" / figures).read_text())).strip()


def test_tables_of_benchmarks_are_made_of_the_committed_figures():
    make = maker("make_benchmarks")
    assert (ROOT / "docs" / "benchmarks.md").read_text() == make.page()
    pages = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
    assert {name for name, text in pages.items() if make.FILLED.search(text)} == {"clips.md", "depth.md", "imports.md"}
    assert all(make.filled(text) == text for text in pages.values())
