"""A pool is made once, and read from then on."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvgen_aug.training import pool as module
from nvgen_aug.training.pool import open_pool
from nvgen_aug.training.stand_ins import MODALITIES
from nvgen_aug.training.stand_ins import StandIns


class Here:
    """An executor that runs in this process, and counts what it makes."""

    made = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, make: Callable[[Any], Any], items: Iterable[Any], **_: Any) -> Iterator[Any]:
        for item in items:
            Here.made += 1
            yield make(item)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # Processes that import torch take seconds to start; the test of all stages has them.
    monkeypatch.setattr(module, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(Here, "made", 0)


def test_a_pool_is_made_once_and_read_again(tmp_path: Path) -> None:
    made = open_pool(tmp_path, 2)
    assert Here.made == 2
    read = open_pool(tmp_path, 2)
    assert Here.made == 2
    assert len(made) == len(read) == 2
    np.testing.assert_array_equal(read.images, made.images)
    np.testing.assert_array_equal(read.labels, made.labels)
    np.testing.assert_array_equal(read.modalities, made.modalities)


def test_a_pool_holds_the_stand_ins_of_its_split_in_order(tmp_path: Path) -> None:
    pool = open_pool(tmp_path, 1, "held-out")
    expected = StandIns("held-out").make(0)
    np.testing.assert_array_equal(pool.images[0], expected.image.astype(np.float16))
    np.testing.assert_array_equal(pool.labels[0], expected.label)
    assert MODALITIES[pool.modalities[0]] == expected.modality
    assert pool.images.dtype == np.float16
    assert pool.labels.dtype == np.uint8


def test_pools_of_other_splits_and_sizes_are_kept_apart(tmp_path: Path) -> None:
    one, other = open_pool(tmp_path, 1), open_pool(tmp_path, 1, "held-out")
    assert not np.array_equal(one.labels, other.labels)
    assert len(open_pool(tmp_path, 2)) == 2


def test_a_pool_whose_making_was_interrupted_is_made_again(tmp_path: Path) -> None:
    open_pool(tmp_path, 1)
    (last,) = tmp_path.glob("*/modalities.npy")
    last.unlink()
    assert len(open_pool(tmp_path, 1)) == 1
    assert Here.made == 2
