"""What mkdocs adds to the pages of docs/: README.md as the first page, and a reference made from the docstrings."""

import ast
import re
from pathlib import Path

from griffe import Extension, Object
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vps_ros"
_SHARED = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +.*)*)", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.nav[-1]["Reference"] = [{name: f"reference/{name}.md"} for name in _reference()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    readme = (ROOT / "README.md").read_text()
    files.append(File.generated(config, "index.md", content=readme.replace("](docs/", "](")))
    for name, content in _reference().items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links to files of the project that are not part of the site become plain text."""
    return re.sub(r"(?<!!)\[([^\]]+)\]\((?:\.\./|examples|benchmarks|config|CONTRIBUTING)[^)]*\)", r"\1", markdown)


class SharedDescriptions(Extension):
    """Gives each of several parameters of one description ("gt, pred: folders ...") its own, as griffe expects."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        if obj.docstring:
            obj.docstring.value = _SHARED.sub(_separate, obj.docstring.value)


def _separate(match: re.Match) -> str:
    indent, names, description = match.groups()
    return "\n".join(f"{indent}{name}: {description}" for name in names.split(", "))


def _reference() -> dict[str, str]:
    """Markdown of each page: the public API, the modules beside it, and a page for each folder of the package."""
    public = next(
        ast.literal_eval(node.value)
        for node in ast.parse((PACKAGE / "__init__.py").read_text()).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    )
    pages = {"vps_ros": "# Public API\n\n" + "\n".join(f"::: vps_ros.{name}\n" for name in public)}
    for folder in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        modules = sorted(folder.rglob("*.py"))
        names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in modules]
        pages[folder.name] = f"# vps_ros.{folder.name}\n\n" + "\n".join(f"::: {name}\n" for name in names)
    modules = sorted(path for path in PACKAGE.glob("*.py") if path.stem != "__init__")
    pages["modules"] = "# Modules beside the folders\n\n" + "\n".join(f"::: vps_ros.{p.stem}\n" for p in modules)
    return pages
