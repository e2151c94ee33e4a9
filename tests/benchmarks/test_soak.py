"""The soak: a minute of it, and that it would see what it looks for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.audit import Audit
from benchmarks.audit import wrong_entries
from benchmarks.chaos import Chaos
from benchmarks.victims import BATCH
from benchmarks.victims import EPOCH
from benchmarks.victims import Scene
from benchmarks.victims import blend
from benchmarks.victims import digest
from nvgen_aug.assembly import open_source
from nvgen_aug.cache import VolumeCache
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.record import RunRecord
from nvgen_aug.spec import VolumeSpec

ROOT = Path(__file__).parents[2]
SEED = 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_after_a_minute_of_faults_nothing_is_wrong_lost_repeated_or_left(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--minutes", "1", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    numbers = RunRecord.read(tmp_path / "soak.json").numbers
    assert sum(numbers["faults"].values()) > 10
    assert numbers["samples_delivered"] == numbers["epochs"] * EPOCH
    assert all(bar["met"] for bar in numbers["bars"])


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
def audit(scene: Scene) -> Iterator[Audit]:
    audit = Audit(scene, SEED)
    yield audit
    audit.close()


def steps() -> list[dict[str, object]]:
    """What a training that goes well writes in its first three steps."""
    with open_source("phantom") as source:
        dataset = blend(source, SEED)
        dataset.sampler(BATCH)
        keys = dataset.plan(0, BATCH)
        lines: list[dict[str, object]] = []
        for number in range(3):
            items = dataset.__getitems__(keys[number * BATCH : (number + 1) * BATCH])
            samples = [[item["synthetic"], digest(item["image"], item["label"])] for item in items]
            lines.append({"samples": samples, "state": dataset.checkpoint(number + 1)})
    return lines


def write(scene: Scene, lines: list[dict[str, object]]) -> None:
    scene.ledger.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_what_a_loader_delivers_is_what_the_generator_makes_in_the_order_of_the_plan(
    scene: Scene, audit: Audit
) -> None:
    write(scene, steps())
    audit.follow()
    assert (audit.samples, audit.wrong, audit.out_of_order) == (3 * BATCH, [], [])
    assert audit.stray < 1
    assert not audit.is_whole


def test_a_wrong_sample_is_found(scene: Scene, audit: Audit) -> None:
    lines = steps()
    lines[1]["samples"][2][1] = digest(np.zeros(1), np.zeros(1))  # type: ignore[index]
    write(scene, lines)
    audit.follow()
    assert audit.wrong == [f"epoch 0, position {BATCH + 2}"]


@pytest.mark.parametrize("order", [[0, 2], [0, 0, 1]])
def test_a_step_that_is_lost_or_repeated_is_found(
    scene: Scene, audit: Audit, order: list[int]
) -> None:
    lines = steps()
    write(scene, [lines[number] for number in order])
    audit.follow()
    assert audit.out_of_order
    assert audit.wrong


def test_a_stored_volume_that_its_spec_does_not_give_is_found(scene: Scene) -> None:
    generator = PhantomGenerator()
    cache = VolumeCache(scene.cache, max_bytes="1 GB")
    specs = [generator.card.resolve(VolumeSpec("phantom", seed=seed)) for seed in (1, 2)]
    right, other = (generator.generate(spec).volume for spec in specs)
    cache.put_volume(generator.card.volume_key(specs[0]), right)
    assert wrong_entries(scene) == (1, [])
    key = generator.card.volume_key(specs[1])
    lie = type(right)(other.image + 1, other.label, other.affine, other.provenance)
    cache.put_volume(key, lie)
    assert wrong_entries(scene) == (2, [key])


def test_a_stored_latent_that_gives_another_volume_than_its_spec_is_found(scene: Scene) -> None:
    generator = PhantomGenerator()
    cache = VolumeCache(scene.cache, max_bytes="1 GB")
    specs = [generator.card.resolve(VolumeSpec("phantom", seed=seed)) for seed in (1, 2)]
    right, other = (generator.latent(spec) for spec in specs)
    cache.put_latent(generator.card.latent_key(specs[0]), right)
    assert wrong_entries(scene) == (1, [])
    key = generator.card.latent_key(specs[1])
    cache.put_latent(key, replace(other, tensor=other.tensor + np.float16(1)))
    assert wrong_entries(scene) == (2, [key])


@dataclass
class Nobody:
    """A cast whose processes are one that waits to be killed, and nothing else."""

    training: int = 0
    onlooker: int = 0
    steps: int = 1


def test_faults_are_dealt_out_alike_and_in_the_order_of_the_seed(scene: Scene) -> None:
    stored(scene)
    orders = []
    for _ in range(2):
        chaos = Chaos(Nobody(), scene, SEED, has_disk=False)
        orders.append([chaos.strike() for _ in range(9)])
    assert orders[0] == orders[1]
    # Those that need no process, three times each.
    assert chaos.struck == {"bit flipped": 3, "file truncated": 3, "chunk deleted": 3}
    assert chaos.missed["generator killed"] == 3


def test_a_flipped_bit_leaves_the_size_and_the_time_of_its_file(scene: Scene) -> None:
    before = stored(scene)
    assert Chaos(Nobody(), scene, SEED, has_disk=False)._flip()
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before}
    changed = [path for path in before if before[path] != after[path]]
    assert len(changed) == 1
    (old, time), (new, same_time) = before[changed[0]], after[changed[0]]
    assert (len(old), time) == (len(new), same_time)
    differing = [a ^ b for a, b in zip(old, new, strict=True) if a != b]
    assert [byte.bit_count() for byte in differing] == [1]


def test_what_was_stopped_goes_on_when_the_soak_ends(scene: Scene) -> None:
    waiting = subprocess.Popen(["sleep", "600"])
    try:
        chaos = Chaos(Nobody(onlooker=waiting.pid), scene, SEED, has_disk=False)
        assert chaos._pause(waiting.pid)
        assert os.WIFSTOPPED(os.waitpid(waiting.pid, os.WUNTRACED)[1])
        chaos.heal(everything=True)
        assert os.WIFCONTINUED(os.waitpid(waiting.pid, os.WCONTINUED)[1])
    finally:
        waiting.send_signal(signal.SIGKILL)
        waiting.wait()


def stored(scene: Scene) -> dict[Path, tuple[bytes, int]]:
    """A volume in the cache, as its files."""
    generator = PhantomGenerator()
    spec = generator.card.resolve(VolumeSpec("phantom", seed=1))
    cache = VolumeCache(scene.cache, max_bytes="1 GB")
    cache.put_volume(generator.card.volume_key(spec), generator.generate(spec).volume)
    files = [path for path in (scene.cache / "volumes").rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
