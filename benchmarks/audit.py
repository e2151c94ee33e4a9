"""Audit: what a training was given, compared with its plan and with what the generator makes.

Nothing that the training says of itself is believed but the digests of the samples that it
got: the plan is laid out again here, each synthetic volume is made directly from its spec,
and each real case is built anew.
"""

from __future__ import annotations

from typing import final

from nvgen_aug.cache import Upkeep
from nvgen_aug.cache import VolumeCache
from nvgen_aug.data.plan import SampleKey
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving import Engine
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import SyntheticVolume

from .victims import BATCH
from .victims import EPOCH
from .victims import RATIO
from .victims import Scene
from .victims import blend
from .victims import digest
from .victims import read_lines
from .victims import real_case


@final
class Audit:
    """Follows the ledger of a training, step by step.

    Args:
        scene: Where the ledger is.
        seed: Of the training.
    """

    def __init__(self, scene: Scene, seed: int) -> None:
        self.samples = 0
        self.synthetic = 0
        self.wrong: list[str] = []
        self.out_of_order: list[str] = []
        self.stray = 0.0  # the most that the synthetic samples were ever away from their share
        self._scene = scene
        self._generator = PhantomGenerator()
        self._engine = Engine(PhantomGenerator())
        self._dataset = blend(self._engine, seed)
        self._dataset.sampler(BATCH)
        self._lines = 0
        self._plan: list[SampleKey] = []
        self._real = [digest(*self._voxels(case)) for case in range(len(self._dataset.real))]
        self._made: dict[int, str] = {}

    @property
    def steps(self) -> int:
        """Steps of training so far."""
        return self._lines

    @property
    def epochs(self) -> float:
        """Epochs so far."""
        return self.samples / EPOCH

    @property
    def is_whole(self) -> bool:
        """Whether all samples of the epochs that were begun were delivered."""
        return self.samples > 0 and self.samples % EPOCH == 0

    def follow(self) -> None:
        """Take in the steps since the last time."""
        lines = read_lines(self._scene.ledger)
        for line in lines[self._lines :]:
            self._step(line["samples"], line["state"])
        self._lines = len(lines)

    def close(self) -> None:
        """Let go of the engine that resolved the specs."""
        self._engine.close()

    def _step(self, samples: list[tuple[int, str]], state: dict[str, int]) -> None:
        for is_synthetic, found in samples:
            epoch, position = divmod(self.samples, EPOCH)
            if position == 0:
                self._plan = self._dataset.plan(epoch, BATCH)
                self._made = {k: v for k, v in self._made.items() if k in self._soon(epoch)}
            key = self._plan[position]
            if bool(is_synthetic) != key.is_synthetic or found != self._expected(key):
                self.wrong.append(f"epoch {epoch}, position {position}")
            self.samples += 1
            self.synthetic += is_synthetic
        self.stray = max(self.stray, abs(self.synthetic - RATIO * self.samples))
        stands = state["epoch"] * EPOCH + state["samples_done"]
        if stands != self.samples:
            self.out_of_order.append(f"step {stands}, when {self.samples} samples were delivered")

    def _expected(self, key: SampleKey) -> str:
        if not key.is_synthetic:
            return self._real[key.index]
        if key.index not in self._made:
            assert self._dataset.synthetic is not None
            made = self._generator.generate(self._dataset.synthetic.spec(key.index)).volume
            self._made[key.index] = digest(made.image, made.label)
        return self._made[key.index]

    def _soon(self, epoch: int) -> set[int]:
        return {key.index for e in (epoch, epoch + 1) for key in self._dataset.plan(e, BATCH)}

    def _voxels(self, case: int) -> tuple[object, object]:
        item = real_case(case)
        return item["image"].numpy(), item["label"].numpy()


def wrong_entries(scene: Scene) -> tuple[int, list[str]]:
    """How many latents and volumes a cache holds, and which do not give what the generator makes.

    Damage that nobody has read yet is set aside first, as `nvgen-aug cache verify` does it.
    """
    upkeep = Upkeep(scene.cache)
    for _ in upkeep.verify():
        pass
    generator = PhantomGenerator()
    wrong = [held.key for checked in upkeep.verify() if checked.faults for held in [checked.held]]
    compared = 0
    with VolumeCache(scene.cache, read_only=True) as cache:
        for held in upkeep.entries():
            if held.kind == "volumes":
                stored = cache.get_volume(held.key)
            elif held.kind == "latents":
                latent = cache.get_latent(held.key)
                stored = None if latent is None else generator.decode(latent)
            else:
                continue
            compared += 1
            if stored is None or stored.digest() != _made(generator, stored).digest():
                wrong.append(held.key)
    return compared, wrong


def _made(generator: PhantomGenerator, stored: SyntheticVolume) -> SyntheticVolume:
    return generator.generate(VolumeSpec.from_json(stored.provenance.spec)).volume
