"""What holds of a training whatever happens on the way, in any order.

Between steps the training is killed and resumed, on one rank or two, in a process that knows
nothing; the cache loses entries, or gets damaged ones. After each step: every sample is what
the generator makes of its key (I1), the samples are those of a run to which nothing happened
(I2), the share is exact at every batch boundary (I3), and at a share of 0 nothing synthetic
is delivered or asked for (I7). The cache's own (I1, I4, I5, I6) are in tests/cache.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from hypothesis.stateful import initialize
from hypothesis.stateful import invariant
from hypothesis.stateful import precondition
from hypothesis.stateful import rule

from nvgen_aug.cache import Upkeep
from nvgen_aug.cache import VolumeCache
from nvgen_aug.data.plan import SampleKey
from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving import Engine
from tests.data.phantoms import LABELS
from tests.data.phantoms import real_cases
from tests.data.phantoms import synthetic

EPOCH = 12
GLOBAL_BATCH = 4
SEED = 11
RATIOS = (0, 0.3, 0.5, 1)
BOUND = 40_000  # a few volumes


class TrainingUnderFire(RuleBasedStateMachine):
    """A training on one rank or two, with a cache, that others disturb."""

    @initialize(ratio=st.sampled_from(RATIOS), ranks=st.sampled_from([1, 2]))
    def begin(self, ratio: float, ranks: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.cache = Path(self.folder.name) / "cache"
        self.ratio = ratio
        self.state: dict[str, Any] | None = None
        self.delivered = 0
        self.synthetic = 0
        self.engine: Engine | None = None
        self.direct = PhantomGenerator()
        self.start(ranks)

    def start(self, ranks: int) -> None:
        """A process that knows nothing but the last checkpoint."""
        if self.engine is not None:
            self.engine.close()
        self.engine = Engine(PhantomGenerator(), VolumeCache(self.cache, max_bytes=BOUND))
        self.ranks = ranks
        self.train = self.blend()
        self.samplers = [
            self.train.sampler(GLOBAL_BATCH // ranks, ranks, rank) for rank in range(ranks)
        ]
        if self.state is not None:
            self.train.resume(self.state)
        epoch, done = divmod(self.delivered, EPOCH)
        self.train.set_epoch(epoch)
        self.walks = self.walk(done)

    def walk(self, done: int) -> list[Any]:
        walks = []
        for sampler in self.samplers:
            # Each rank is a process of its own, with a place of its own to go on from.
            if self.state is not None and done:
                self.train.resume(self.state)
            walks.append(iter(sampler))
        return walks

    def blend(self) -> SyntheticRealDataset:
        assert self.engine is not None
        volumes = None if self.ratio == 0 else synthetic(self.engine, max_reuse=2, seed=SEED)
        return SyntheticRealDataset(
            real_cases(5), volumes, ratio=self.ratio, epoch_length=EPOCH, seed=SEED
        )

    @rule()
    def step(self) -> None:
        """One global batch, each rank its part, and a checkpoint after it."""
        epoch, done = divmod(self.delivered, EPOCH)
        if done == 0:
            self.train.set_epoch(epoch)
            self.walks = [iter(sampler) for sampler in self.samplers]
        size = GLOBAL_BATCH // self.ranks
        keys = [[next(walk) for _ in range(size)] for walk in self.walks]
        for rank, part in enumerate(keys):
            for key, item in zip(part, self.train.__getitems__(part), strict=True):
                self.check(key, item)
                self.synthetic += item["synthetic"]
            mine = self.train.plan(epoch, size, self.ranks, rank)
            assert part == mine[done // self.ranks : done // self.ranks + size]
        # What a run delivers to which nothing happens, and that has one rank.
        untouched = self.train.plan(epoch, GLOBAL_BATCH)[done : done + GLOBAL_BATCH]
        # Who of a global batch stands on which rank is the layout's; who is in it is not.
        assert Counter(replace(key, position=0) for part in keys for key in part) == Counter(
            replace(key, position=0) for key in untouched
        )
        self.delivered += GLOBAL_BATCH
        self.state = self.train.checkpoint((done + GLOBAL_BATCH) // GLOBAL_BATCH)

    def check(self, key: SampleKey, item: dict[str, Any]) -> None:
        assert bool(item["synthetic"]) == key.is_synthetic
        if not key.is_synthetic:
            expected = real_cases(5)[key.index]
            np.testing.assert_array_equal(item["image"].numpy(), expected["image"].numpy())
            return
        assert self.train.synthetic is not None
        made = self.direct.generate(self.train.synthetic.spec(key.index)).volume
        np.testing.assert_array_equal(item["image"].numpy(), made.image)
        assert made.label is not None
        labels = LABELS.bind(self.direct.card)(made.label)
        np.testing.assert_array_equal(item["label"].numpy(), labels)

    @rule(ranks=st.sampled_from([1, 2]))
    def be_killed_and_resumed(self, ranks: int) -> None:
        self.start(ranks)

    @rule(keep=st.integers(1, BOUND))
    def lose_entries(self, keep: int) -> None:
        Upkeep(self.cache).collect(keep)

    @rule(pick=st.integers(0, 10**6), bit=st.integers(0, 7))
    def flip_a_bit(self, pick: int, bit: int) -> None:
        files = sorted(p for p in (self.cache / "volumes").rglob("*") if p.is_file())
        if files:
            path = files[pick % len(files)]
            content = bytearray(path.read_bytes())
            content[pick % len(content)] ^= 1 << bit
            path.write_bytes(content)

    @precondition(lambda self: hasattr(self, "train"))
    @invariant()
    def the_share_is_exact(self) -> None:
        assert abs(self.synthetic - self.ratio * self.delivered) < 1

    @precondition(lambda self: hasattr(self, "train"))
    @invariant()
    def without_a_share_nothing_is_asked_for(self) -> None:
        assert self.engine is not None
        if self.ratio == 0:
            assert self.engine.stats().fetched == self.synthetic == 0

    def teardown(self) -> None:
        if getattr(self, "engine", None) is not None:
            assert self.engine is not None
            self.engine.close()
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestTrainingUnderFire = TrainingUnderFire.TestCase
TestTrainingUnderFire.settings = settings(
    max_examples=6,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
