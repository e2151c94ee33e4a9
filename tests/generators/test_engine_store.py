"""Engines are found by everything they depend on, and a damaged one is never used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nvgen_aug.errors import BackendError
from nvgen_aug.generators.maisi.engines.store import EngineStore
from tests.generators.engine_key import KEY


@pytest.mark.parametrize(
    "change",
    [
        {"backend": "tensorrt"},
        {"part": "control"},
        {"network": 64 * "b"},
        {"shapes": ((2, 4, 16, 16, 16), (2, 256))},
        {"precision": "bf16"},
        {"target": "SM80"},
        {"libraries": {"tensorrt-rtx": "1.8"}},
    ],
)
def test_what_differs_in_anything_is_another_engine(change: dict[str, Any], tmp_path: Path) -> None:
    store = EngineStore(tmp_path)
    store.put(KEY, b"engine", seconds=1.0)
    assert store.get(replace(KEY, **change)) is None
    assert store.get(KEY) == b"engine"


def test_a_store_that_holds_nothing_yet_needs_no_folder(tmp_path: Path) -> None:
    store = EngineStore(tmp_path / "none")
    assert store.get(KEY) is None
    assert store.engines() == []
    assert not store.folder.exists()


def test_what_was_kept_is_listed_with_what_it_is(tmp_path: Path) -> None:
    store = EngineStore(tmp_path)
    put = [
        store.put(key, b"12345678", seconds=2.0, weights="random")
        for key in (KEY, replace(KEY, part="control"))
    ]
    assert EngineStore(tmp_path).engines() == put[::-1]
    assert (put[0].bytes, put[0].seconds, put[0].weights) == (8, 2.0, "random")


def test_a_damaged_engine_is_refused(tmp_path: Path) -> None:
    stored = EngineStore(tmp_path).put(KEY, b"engine", seconds=1.0)
    stored.path.write_bytes(b"enginf")
    with pytest.raises(BackendError, match="damaged: its SHA-256 is not the one in"):
        EngineStore(tmp_path).get(KEY)


def test_an_engine_without_its_description_is_not_there(tmp_path: Path) -> None:
    stored = EngineStore(tmp_path).put(KEY, b"engine", seconds=1.0)
    stored.path.with_suffix(".json").unlink()
    assert EngineStore(tmp_path).get(KEY) is None
    assert EngineStore(tmp_path).engines() == []


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"key": {}}'])
def test_a_description_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    stored = EngineStore(tmp_path).put(KEY, b"engine", seconds=1.0)
    stored.path.with_suffix(".json").write_text(text)
    with pytest.raises(BackendError, match="does not describe an engine"):
        EngineStore(tmp_path).engines()
