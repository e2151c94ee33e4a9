"""The direction of imports, and names that only one part of the house may use."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import nvgen_aug

PACKAGE = Path(nvgen_aug.__file__).parent

# Modules directly under nvgen_aug: each may import those further up this list alone.
CORE = (
    {"errors", "whole_file"},
    {"organ_sizes", "ball", "recipe_file"},
    {"spec", "share", "envelope", "condition", "lesions", "sizes", "legality"},
    {"crop", "provenance", "card", "schedule", "pathology"},
    {"volume", "labels", "mix", "grid", "schedule_text"},
    {"source", "record", "recipe"},
)
# Each part of the house, and the parts that it may import beside itself.
PARTS = {
    "core": set[str](),
    "cache": {"core"},
    "generators": {"core"},
    "serving": {"cache", "core"},
    "assembly": {"serving", "cache", "generators", "core"},
    "data": {"core"},
    "transforms": {"data", "core"},
    "integrations": {"data", "core"},
    "training": {"generators", "core"},
    "evaluation": {"data", "core"},
    "demo": {"assembly", "data", "training", "evaluation", "transforms", "core"},
    "cli": {"*"},
}
# A name, or the beginning of one, and the modules that may use it.
RESERVED = {
    "zarr": ("cache",),
    "zarrs": ("cache",),
    "ray": ("serving.cluster",),
    "argparse": ("cli",),
    "typer": ("cli",),
    "print": ("cli",),
    "sys.argv": ("cli", "serving.resident"),  # the number of its socket, from its owner
    "os.environ": ("cli", "serving.lifecycle"),
    "os.getenv": ("cli", "serving.lifecycle"),
    "pickle": (),
}


@dataclass(frozen=True)
class Import:
    """One import: by whom, of what, and whether inside a function."""

    module: str
    line: int
    target: str
    is_deferred: bool


@dataclass(frozen=True)
class Module:
    """One file of a package."""

    tree: ast.Module
    is_package: bool
    imports: tuple[tuple[ast.Import | ast.ImportFrom, bool], ...]
    words: tuple[tuple[str, int], ...]


def modules(package: Path) -> dict[str, Module]:
    """Every module of a package by its name below it (`""` for the package itself)."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found[name] = _read(path.read_text(encoding="utf-8"), is_package)
    return found


@cache  # most tests look at the same text with one line added somewhere
def _read(text: str, is_package: bool) -> Module:
    tree = ast.parse(text)
    words = [(word, getattr(node, "lineno", 0)) for node in ast.walk(tree) for word in _words(node)]
    reserved = tuple((word, line) for word, line in words if word in RESERVED)
    return Module(tree, is_package, tuple(_imports(tree, False)), reserved)


def imports(files: dict[str, Module]) -> Iterator[Import]:
    """Every import in a package, but those for the type checker alone."""
    for name, file in files.items():
        here = ["nvgen_aug", *filter(None, name.split("."))]
        for node, is_deferred in file.imports:
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            else:
                base = here[: len(here) - (node.level - file.is_package)] if node.level else []
                stem = ".".join([*base, *([node.module] if node.module else [])])
                # `from .x import y` may mean the module x.y, or the name y in x.
                targets = [f"{stem}.{alias.name}" for alias in node.names]
            for target in targets:
                yield Import(name, node.lineno, target, is_deferred)


def _imports(node: ast.AST, inside: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield node, inside
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        children: list[ast.stmt] = node.orelse
        for child in children:
            yield from _imports(child, inside)
        return
    inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    for below in ast.iter_child_nodes(node):
        yield from _imports(below, inside)


def complaints(package: Path) -> list[str]:
    """What breaks the direction or a reservation, as sentences."""
    files = modules(package)
    known = set(files)
    graph: dict[str, set[str]] = {name: set() for name in known}
    found = []
    for entry in imports(files):
        where = f"{entry.module or '__init__'}:{entry.line}"
        if not (entry.target + ".").startswith("nvgen_aug."):
            continue
        target = _module(entry.target.removeprefix("nvgen_aug").lstrip("."), known)
        graph[entry.module].add(target)
        if entry.is_deferred and part(entry.module) != "cli":
            found.append(f"{where} imports {target} inside a function")
        if not may_import(entry.module, target):
            found.append(f"{where} imports {target or 'the package itself'}, which is uphill")
    found += [f"{' -> '.join(circle)} is a circle" for circle in circles(graph)]
    return found + list(_reserved(files))


def _module(target: str, known: set[str]) -> str:
    while target not in known:
        target = target.rpartition(".")[0]
    return target


def part(module: str) -> str:
    """The part of the house that a module belongs to."""
    first = module.split(".")[0]
    return first if first in PARTS else "core"


def may_import(module: str, target: str) -> bool:
    """Whether an import runs downhill."""
    if module == "":
        return False
    allowed = PARTS[part(module)]
    if "*" in allowed:
        return True
    if target == "" or part(target) == "cli":
        return False
    if part(module) == part(target) == "core":
        return _height(target) < _height(module)
    return part(target) == part(module) or part(target) in allowed


def _height(module: str) -> int:
    for height, names in enumerate(CORE):
        if module in names:
            return height
    pytest.fail(f"`{module}` is new under nvgen_aug: say in CORE or PARTS where it stands")


def circles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    """One path for each import that leads back to where it began."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> Iterator[list[str]]:
        if module in path:
            yield [*path[path.index(module) :], module]
        elif module not in done:
            for target in sorted(graph[module] - {module}):
                yield from walk(target, [*path, module])
            done.add(module)

    for module in sorted(graph):
        yield from walk(module, [])


def _reserved(files: dict[str, Module]) -> Iterator[str]:
    for name, file in files.items():
        for word, line in file.words:
            homes = RESERVED[word]
            if not any((name + ".").startswith(f"{home}.") for home in homes):
                yield f"{name or '__init__'}:{line} uses {word}, which only {homes} may"


def _words(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module.split(".")[0], *(f"{node.module}.{a.name}" for a in node.names)]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return [f"{node.value.id}.{node.attr}"]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return [node.func.id]
    return []


def test_imports_run_downhill_and_reserved_names_stay_at_home() -> None:
    assert complaints(PACKAGE) == []


@pytest.mark.parametrize(
    ("module", "line", "expected"),
    [
        ("spec.py", "from .volume import Latent", "imports volume, which is uphill"),
        ("spec.py", "def f():\n    from .card import VariantCard", "inside a function"),
        ("labels.py", "import nvgen_aug.mix", "imports mix, which is uphill"),
        ("labels.py", "from . import data", "imports data, which is uphill"),
        ("labels.py", "import nvgen_aug", "imports the package itself, which is uphill"),
        ("data/__init__.py", "from ..cache import VolumeCache", "imports cache"),
        ("data/__init__.py", "from nvgen_aug.serving import client", "imports serving"),
        ("generators/phantom.py", "from ..cli import main", "imports cli"),
        ("generators/base.py", "from . import phantom", "is a circle"),
        ("mix.py", "import zarr.storage", "uses zarr"),
        ("mix.py", "from os import environ", "uses os.environ"),
        ("mix.py", "import os\nos.environ['A']", "uses os.environ"),
        ("mix.py", "print(1)", "uses print"),
        ("source.py", "import pickle", "uses pickle"),
    ],
)
def test_an_import_that_runs_uphill_is_found(
    tmp_path: Path, module: str, line: str, expected: str
) -> None:
    copy = tmp_path / "nvgen_aug"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    path = copy / module
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    assert any(expected in text for text in complaints(copy))


def test_an_import_for_the_type_checker_alone_may_run_uphill(tmp_path: Path) -> None:
    copy = tmp_path / "nvgen_aug"
    copy.mkdir()
    (copy / "__init__.py").touch()
    (copy / "source.py").touch()
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .source import X\n"
    (copy / "spec.py").write_text(text)
    assert complaints(copy) == []


def test_all_names_every_public_name_and_each_can_be_had() -> None:
    (block,) = [
        node
        for node in modules(PACKAGE)[""].tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    typed = {
        a.asname for node in block.body if isinstance(node, ast.ImportFrom) for a in node.names
    }
    assert typed == set(nvgen_aug.__all__) == set(dir(nvgen_aug))
    assert {name for name in nvgen_aug.__all__ if getattr(nvgen_aug, name, None) is None} == set()


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Volume'"):
        nvgen_aug.Volume  # noqa: B018


@pytest.mark.parametrize(
    "lines",
    [
        "import nvgen_aug",
        "from nvgen_aug.cli import app",
        "from typer.testing import CliRunner; from nvgen_aug.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0",
        "from typer.testing import CliRunner; from nvgen_aug.cli import app\n"
        "assert CliRunner().invoke(app, ['generate', '--help']).exit_code == 0",
        "from typer.testing import CliRunner; from nvgen_aug.cli import app\n"
        "assert CliRunner().invoke(app, 'plan --real 9 --ratio 0.3'.split()).exit_code == 0",
        "import nvgen_aug as nv; nv.Recipe, nv.VolumeSpec, nv.LabelMap",
    ],
)
def test_these_lines_do_without_torch(lines: str) -> None:
    heavy = "import sys; sys.exit(','.join({'torch', 'monai', 'zarr'} & set(sys.modules)) or None)"
    done = subprocess.run(
        [sys.executable, "-c", f"{lines}\n{heavy}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
