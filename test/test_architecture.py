"""Imports point one way: hosts and commands -> online -> segmenters, trackers -> flow, frame, taxonomy, parameters."""

import ast
import importlib.util
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from support import ROOT

PACKAGE = ROOT / "vps_ros"
FILES = sorted(PACKAGE.rglob("*.py"))

BASE = {
    "errors",
    "clips",
    "frame",
    "frame_3d",
    "sequence",
    "taxonomy",
    "taxonomies",
    "parameters",
    "reading",
    "files",
    "parallel",
    "label_maps",
}
ALLOWED = {
    "flow": BASE | {"segmenters"},
    "trackers": BASE | {"flow"},
    "segmenters": BASE,
    "config": BASE | {"segmenters", "trackers"},
    "online": BASE | {"config", "segmenters", "trackers"},
    "depth": BASE,
    "messages": BASE,
    "drawing": BASE,
    "datasets": BASE,
    "evaluation": BASE | {"datasets", "drawing"},
    "offline": BASE | {"config", "trackers", "datasets", "online", "recording"},
    "labelling": BASE | {"config", "flow", "trackers", "segmenters", "datasets", "drawing"},
    "adaptation": BASE
    | {"config", "online", "segmenters", "trackers", "datasets", "messages", "recording", "labelling", "learning"},
    "ablation": BASE | {"config", "trackers", "segmenters", "datasets", "evaluation"},
    "recording": BASE | {"depth", "online", "messages", "trackers"},
    "live": BASE | {"config", "depth", "online", "messages", "drawing"},
    "ros": BASE | {"config", "live", "online", "messages"},
    "fleet": BASE
    | {"bag_pairs", "config", "online", "segmenters", "trackers", "flow", "recording"}
    | {"datasets", "evaluation", "labelling", "adaptation"},
    "bag_pairs": BASE | {"recording", "datasets", "evaluation"},
    "learning": BASE | {"config", "flow", "trackers", "segmenters", "datasets", "evaluation", "ablation", "online"},
    **dict.fromkeys(BASE, BASE),
}
"""Part of the package -> the other parts that it may import."""
SUBFOLDERS: dict[str, set[str]] = {
    "datasets/streets": set(),
    "evaluation/page": set(),
    "learning/data": set(),
    "learning/export": {"training"},
    "learning/hf": {"export", "onnx_import"},
    "learning/in_graph": {"data"},
    "learning/kmax": {"data", "export", "kmeans", "training"},
    "learning/kmeans": {"data", "export", "layers", "panoptic_fcn", "training"},
    "learning/layers": set(),
    "learning/onnx_import": {"export", "in_graph"},
    "learning/panoptic_fcn": {"data", "export", "layers", "training"},
    "learning/raft": {"export"},
    "learning/tracking": {"data"},
    "learning/training": {"data"},
    "learning/video_knet": {"data", "export", "kmeans", "layers", "training"},
    "trackers/hierarchical": set(),
}
"""Folder inside a part -> the other folders of that part that it may import."""
IMPORTED_BY = {"datasets/streets": set(), "evaluation/page": {"report"}, "trackers/hierarchical": set()}
"""Folder inside a part -> the other modules of that part that may import it."""
ONLY_IN = {"torch": "learning", "transformers": "learning", "onnx": "learning"}
ONLY_IN |= dict.fromkeys(("rclpy", "rcl_interfaces", "std_srvs", "launch", "tf2_ros"), "ros")
ONLY_IN["cyclonedds"] = "live"
ONLY_IN["ray"] = "fleet"
ONLY_IN["rerun"] = "drawing"
ONLY_IN["foxglove"] = "live"


def imports(path: Path) -> set[str]:
    return imported(ast.parse(path.read_text()))


def imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"relative import of {node.module}; write the full name"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    here = part(path)
    parts = {p.name.removesuffix(".py") for p in PACKAGE.iterdir()}
    for name in imports(path):
        root, _, rest = name.partition(".")
        if root in ONLY_IN:
            assert here == ONLY_IN[root], f"{path}: {root} belongs in {ONLY_IN[root]}/ only"
        used = rest.partition(".")[0]
        if root != "vps_ros" or used not in parts or here in ("commands", "__init__"):
            continue
        assert used == here or used in ALLOWED[here], f"{path}: {here} must not import {used}"


def test_every_subfolder_is_listed():
    assert {str(p.parent.relative_to(PACKAGE)) for p in PACKAGE.glob("*/*/__init__.py")} == set(SUBFOLDERS)


@pytest.mark.parametrize("folder", SUBFOLDERS)
def test_subfolders_import_only_their_siblings_that_are_listed(folder):
    """Imports inside functions count too; those of other parts are checked above."""
    prefix = f"vps_ros.{part(PACKAGE / folder)}."
    siblings = {Path(other).name for other in SUBFOLDERS if part(PACKAGE / other) == part(PACKAGE / folder)}
    allowed = SUBFOLDERS[folder] | {Path(folder).name}
    for path in (PACKAGE / folder).rglob("*.py"):
        used = {name.removeprefix(prefix).partition(".")[0] for name in imports(path) if name.startswith(prefix)}
        assert used & siblings <= allowed, f"{path.relative_to(PACKAGE)}: imports {used & siblings - allowed}"


def test_imports_between_subfolders_point_one_way():
    TopologicalSorter({Path(folder).name: others for folder, others in SUBFOLDERS.items()}).prepare()


@pytest.mark.parametrize("folder", IMPORTED_BY)
def test_few_modules_import_a_subfolder(folder):
    package = f"vps_ros.{folder.replace('/', '.')}"
    for path in (PACKAGE / part(PACKAGE / folder)).rglob("*.py"):
        if (PACKAGE / folder) in path.parents or path.stem in IMPORTED_BY[folder]:
            continue
        used = [name for name in imports(path) if name == package or name.startswith(f"{package}.")]
        assert not used, f"{path.relative_to(PACKAGE)} must not import {used[0]}"


def module_name(path: Path) -> str:
    return str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")


def test_named_tuples_have_no_other_base_class():
    """Python 3.10 refuses that when the class is defined; mypy does not report it."""
    classes = (
        node for path in FILES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
    )
    named = [node for node in classes if any(ast.unparse(base) == "NamedTuple" for base in node.bases)]
    assert named
    assert [node.name for node in named if len(node.bases) > 1] == []


def test_no_imports_at_the_top_of_modules_form_a_cycle():
    """A cycle works or fails by the order in which modules are first imported."""
    modules = {module_name(p): p for p in FILES}
    graph = {}
    for name, path in modules.items():
        used = set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                used |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                # `from package import module` needs the module, not the names of the package.
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                used |= names if names <= modules.keys() else {node.module} | names
        graph[name] = used & modules.keys() - {name}
    TopologicalSorter(graph).prepare()


def test_runtime_imports_neither_torch_nor_ros():
    here = [p for p in FILES if part(p) not in ("learning", "ros")]
    if importlib.util.find_spec("cyclonedds") is None:
        here = [p for p in here if not p.name.startswith("dds")]
    # The only module that needs rerun-sdk at its import.
    here = [p for p in here if p.name != "rerun_log.py"]
    modules = [module_name(p) for p in here]
    code = f"import sys, importlib\nfor m in {modules!r}: importlib.import_module(m)\n"
    absent = {"torch", "rclpy", "transformers", "onnx", "matplotlib", "rerun", "ray", "pyarrow"}
    code += f"print(sorted({absent} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"
