"""Suite: the benchmarks of a checkout, each with the question that it answers."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from ..errors import NvgenError

FOLDER = "benchmarks"


@final
@dataclass(frozen=True, slots=True)
class Suite:
    """The benchmarks that lie beside the package in a checkout; they are not in the wheel.

    Args:
        root: Folder of the checkout, from which `python -m benchmarks.NAME` works.
        questions: Question of each benchmark by its name, in alphabetical order.
        with_device: Those that take `--device`.
    """

    root: Path
    questions: Mapping[str, str]
    with_device: Sequence[str]

    @classmethod
    def find(cls, package: Path) -> Suite:
        """The suite beside the folder of this package.

        Raises:
            NvgenError: There is none, because the package was installed without its repository.
        """
        root = package.resolve().parent
        folder = root / FOLDER
        if not (folder / "__init__.py").is_file() or not (root / "pyproject.toml").is_file():
            msg = (
                f"the benchmarks are in the repository, not in the installed package, and {root} "
                "is no clone; clone it, and run `make install` and `nvgen-aug bench` there"
            )
            raise NvgenError(msg)
        questions = questions_in(folder)
        usage = "[--device DEVICE]"
        texts = {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in questions}
        return cls(root, questions, [name for name in questions if usage in texts[name]])


def questions_in(folder: Path) -> dict[str, str]:
    """Name and question of every benchmark in a folder; other modules there ask none."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        question = " ".join(text.split("\n\n")[0].split())
        if question.endswith("?"):
            found[path.stem] = question
    return found
