"""docs/ways.md: its examples are recipes, and its commands can be parsed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nvgen_aug as nv
from nvgen_aug.cli import app
from nvgen_aug.recipe import Recipe
from tests.data.censuses import counted

PAGE = Path(__file__).parents[2] / "docs" / "ways.md"

if not PAGE.exists():
    pytest.skip("the page is in the repository, not in the wheel", allow_module_level=True)

SECTIONS = PAGE.read_text(encoding="utf-8").split("\n## ")
FIRST, *WAYS = [(text.splitlines()[0], text) for text in SECTIONS]


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("text", [text for _, text in WAYS], ids=[name for name, _ in WAYS])
def test_the_python_of_a_way_runs(text: str) -> None:
    label = np.zeros((64, 64, 64), np.uint8)
    label[8:56, 8:56, 8:56] = 1
    with nv.open_source("phantom") as source:
        known: dict[str, Any] = {
            "source": _TinyBrain(source),
            "label": label,
            "affine": np.diag([3.0, 3.0, 3.0, 1.0]),
            "census": counted([[5.0, 9.0, 14.0]]),
        }
        exec(blocks(FIRST[1], "python")[0], known)
        for block in blocks(text, "python"):
            exec(block, known)
        if isinstance(known.get("recipe"), Recipe):
            known["recipe"].draw(np.random.default_rng(0), variant="tiny-brain")


class _TinyBrain(nv.VolumeSource):
    """The card of the shipped model, before a source that is quicker."""

    __slots__ = ("_card", "_inner")

    def __init__(self, inner: nv.VolumeSource) -> None:
        self._inner = inner
        self._card = nv.load_generator("tiny-brain").card

    @property
    def card(self) -> nv.VariantCard:
        return self._card

    def fetch(self, spec: nv.VolumeSpec, crop: Any = None) -> nv.SyntheticVolume:
        self._card.resolve(spec)
        return self._inner.fetch(nv.VolumeSpec("phantom", seed=spec.seed, size=(8, 8, 8)))

    def put(self, array: Any, affine: Any) -> str:
        return self._inner.put(array, affine)

    def stats(self) -> Any:
        return self._inner.stats()


@pytest.mark.parametrize("text", [text for _, text in WAYS], ids=[name for name, _ in WAYS])
def test_the_file_of_a_way_is_a_recipe(text: str, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(text, "toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        if "[grid]" in block:
            recipe, factors = Recipe.load_grid(path)
            assert len(recipe.grid(factors, variant="tiny-brain")) == 6
        else:
            Recipe.load(path).draw(np.random.default_rng(0), variant="tiny-brain")


def test_the_commands_have_options_that_exist() -> None:
    import typer.main

    commands: Any = typer.main.get_command(app)
    lines = [
        line for _, text in WAYS for block in blocks(text, "bash") for line in [*block.splitlines()]
    ]
    assert len(lines) > 8
    for line in lines:
        name, *words = shlex.split(line.split(" #")[0].split(" > ")[0])[1:]
        context = commands.commands[name].make_context(name, words, resilient_parsing=False)
        assert context.params
