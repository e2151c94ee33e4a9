"""A Ray cluster of two machines on this one: makers on both, one of which is killed on the way."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvgen_aug.assembly import open_source
from nvgen_aug.assembly import serve
from nvgen_aug.cache import VolumeCache
from nvgen_aug.errors import ServerUnavailable
from nvgen_aug.errors import SpecError
from nvgen_aug.source import VolumeSource
from nvgen_aug.spec import VolumeSpec
from tests.contracts.source import SourceContract
from tests.generators.test_mask_bank import bank_of_a_phantom
from tests.serving.ray_cluster import ROOT
from tests.serving.ray_cluster import environment
from tests.serving.ray_cluster import two_machines

pytest.importorskip("ray", reason="needs the extra `cluster`")

# Ray takes half a minute to start, and its workers seconds each.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_without_a_cluster_the_command_that_starts_one_is_named() -> None:
    with pytest.raises(ServerUnavailable, match="start one with `ray start --head`"):
        open_source("ray:phantom", cluster="127.0.0.1:1")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    # Sockets of Ray lie in it, whose paths are short.
    folder = tempfile.TemporaryDirectory(prefix="r", dir="/tmp")
    with folder as name, two_machines(Path(name)) as found:
        yield found


@pytest.fixture(scope="module")
def story(address: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = str(tmp_path_factory.mktemp("story"))
    command = [sys.executable, "-m", "tests.serving.ray_story", address, folder]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_makers_on_both_machines_make_each_volume_once(story: dict[str, Any]) -> None:
    assert story["machines"] == 2
    assert story["made for eight"] == 1
    assert story["made of twenty"] == 20


def test_a_killed_maker_is_started_again_and_its_volume_made_by_another(
    story: dict[str, Any],
) -> None:
    assert story["deaths"] == 1


def test_a_volume_on_which_every_maker_dies_is_given_up(story: dict[str, Any]) -> None:
    assert "was begun 3 times, and its maker died on it" in story["poison"]


def test_errors_come_back_in_their_own_class(story: dict[str, Any]) -> None:
    assert "failed on volume" in story["failed"]
    assert "no modality `XY`" in story["illegal"]


@pytest.mark.parametrize("how", ["pickled", "forked"])
def test_in_another_process_it_says_what_to_do(story: dict[str, Any], how: str) -> None:
    assert '`serve("ray:…")` it before the loader' in story[how]


class TestServedFromACluster(SourceContract):
    """What loaders use: a process of this machine asks the cluster, and workers ask that."""

    where: str

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def cluster(cls, address: str) -> None:
        cls.where = address

    @classmethod
    def open(cls, folder: str) -> AbstractContextManager[VolumeSource]:
        return serve("ray:phantom", cache=Path(folder) / "cache", actors=2, cluster=cls.where)

    @pytest.fixture(scope="class")
    @classmethod
    def source(
        cls, cluster: None, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[VolumeSource]:
        with cls.open(str(tmp_path_factory.mktemp("source"))) as source:
            yield source


def test_specs_are_bound_to_the_bank_of_the_makers(address: str, tmp_path: Path) -> None:
    mask = bank_of_a_phantom(tmp_path / "masks")
    asked = VolumeSpec("phantom", seed=1, anatomy=("organ",))
    where: dict[str, Any] = {"masks": tmp_path / "masks", "actors": 1, "cluster": address}
    with serve("ray:phantom", **where) as source:
        assert source.resolve(asked).mask == mask.digest()
        label = source.fetch(asked).label
        assert label is not None
        np.testing.assert_array_equal(label[0], mask.array)


def warm(address: str, folder: Path, num: int) -> str:
    words = f"cache warm {folder} --variant phantom --num {num} --ray --actors 2".split()
    done = subprocess.run(
        [sys.executable, "-m", "nvgen_aug.cli", *words],
        cwd=ROOT,
        env={**environment(), "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_warming_makes_only_what_is_missing(address: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert "3 made or decoded in the cluster, 0 were there" in warm(address, folder, 3)
    assert "5 made or decoded in the cluster, 3 were there" in warm(address, folder, 8)
    assert VolumeCache(folder, read_only=True).stats().by_kind["volumes"].entries == 8


def test_a_gpu_of_a_cluster_has_no_number() -> None:
    with pytest.raises(SpecError, match="Ray chooses the GPU"):
        open_source("ray:phantom", device="cuda:1")
