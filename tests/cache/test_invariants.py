"""What holds of a cache whatever happens to it, in any order: writers, readers, damage, kills.

Each rule is one thing that happens on a shared machine. After each of them a reader gets
what was stored or a miss (I1), no entry is seen without a commit file that fits (I4), the
directory stays within its bound (I5), and nothing of a dead writer outlives the next (I6).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

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
from nvgen_aug.cache import eviction
from nvgen_aug.cache.entry import read_commit
from nvgen_aug.cache.layout import KINDS
from nvgen_aug.crop import Crop
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.spec import VolumeSpec

GENERATOR = PhantomGenerator()
CARD = GENERATOR.card
SPECS = [
    CARD.resolve(VolumeSpec("phantom", seed=seed, size=(24, 20, 16 + 8 * (seed % 2))))
    for seed in range(5)
]
KEYS = [CARD.volume_key(spec) for spec in SPECS]
MADE = [GENERATOR.generate(spec) for spec in SPECS]
BOUND = 60_000  # about three of them

numbers = st.integers(0, len(KEYS) - 1)
gone_process = 2**22 + 1  # above any process id that Linux gives


class CacheUnderFire(RuleBasedStateMachine):
    """Two writers and a reader on one directory, which others damage."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "cache"
        self.writers = [VolumeCache(self.path, max_bytes=BOUND) for _ in range(2)]
        self.reader = self.writers[0].reader()
        self.dead = 0
        for number in range(2):
            self.put_volume(0, number)
            self.put_latent(1, number)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule(writer=st.integers(0, 1), number=numbers)
    def put_volume(self, writer: int, number: int) -> None:
        self.writers[writer].put_volume(KEYS[number], MADE[number].volume)

    @rule(writer=st.integers(0, 1), number=numbers)
    def put_latent(self, writer: int, number: int) -> None:
        self.writers[writer].put_latent(CARD.latent_key(SPECS[number]), MADE[number].latent)

    @rule(who=st.integers(0, 2), number=numbers)
    def read_whole(self, who: int, number: int) -> None:
        found = [*self.writers, self.reader][who].get_volume(KEYS[number])
        if found is not None:
            np.testing.assert_array_equal(found.image, MADE[number].volume.image)
            np.testing.assert_array_equal(found.label, MADE[number].volume.label)

    @rule(who=st.integers(0, 2), number=numbers, start=st.integers(0, 8))
    def read_part(self, who: int, number: int, start: int) -> None:
        crop = Crop((start, start, start), (8, 8, 8))
        found = [*self.writers, self.reader][who].get_volume(KEYS[number], crop)
        if found is not None:
            whole = MADE[number].volume.image
            np.testing.assert_array_equal(found.image, whole[(slice(None), *crop.slices)])

    @rule(
        pick=st.integers(0, 10**6),
        harm=st.sampled_from(["flip", "truncate", "delete", "grow", "zeros", "link"]),
        where=st.floats(0, 1, exclude_max=True),
    )
    def damage(self, pick: int, harm: str, where: float) -> None:
        files = sorted(p for kind in KINDS for p in (self.path / kind).rglob("*") if p.is_file())
        if not files:
            return
        path = files[pick % len(files)]
        content = bytearray(path.read_bytes())
        at = int(where * len(content))
        if harm == "delete":
            path.unlink()
        elif harm == "link":
            path.unlink()
            path.symlink_to("/etc/hostname")
        elif content:
            if harm == "flip":
                content[at] ^= 1 << (pick % 8)
            content = content[:at] if harm == "truncate" else content
            content = content + b"more" if harm == "grow" else content
            path.write_bytes(bytes(len(content)) if harm == "zeros" else bytes(content))

    @rule(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def flip_a_bit_of_every_chunk(self, where: float, bit: int) -> None:
        for path in (self.path / "volumes").rglob("c/*/*/*/*"):
            content = bytearray(path.read_bytes())
            content[int(where * len(content))] ^= 1 << bit
            path.write_bytes(bytes(content))

    @rule(number=numbers)
    def die_while_writing(self, number: int) -> None:
        self.dead += 1
        partial = self.writers[0]._layout.new_partial(KEYS[number])
        left = partial.with_name(partial.name.replace(f".{os.getpid()}.", f".{gone_process}."))
        left.mkdir()
        (left / "zarr.json").write_text("{")

    @rule(writer=st.integers(0, 1))
    def open_again(self, writer: int) -> None:
        self.writers[writer] = VolumeCache(self.path, max_bytes=BOUND)
        self.dead = 0

    @rule()
    def verify(self) -> None:
        for _ in Upkeep(self.path).verify():
            pass
        assert all(not checked.faults for checked in Upkeep(self.path, read_only=True).verify())

    @rule(keep=st.integers(1, BOUND))
    def collect(self, keep: int) -> None:
        Upkeep(self.path).collect(keep)
        self.dead = 0

    @invariant()
    def what_a_new_reader_sees_is_whole_and_right(self) -> None:
        if not hasattr(self, "path"):
            return
        reader = VolumeCache(self.path, read_only=True)
        for key, made in zip(KEYS, MADE, strict=True):
            found = reader.get_volume(key)
            if found is not None:
                np.testing.assert_array_equal(found.image, made.volume.image)
                np.testing.assert_array_equal(found.label, made.volume.label)
                read_commit(self.writers[0]._layout.entry("volumes", key), "volumes", key)

    @invariant()
    def it_stays_within_its_bound(self) -> None:
        # Damage may make files longer; what the cache itself holds may not exceed it.
        if hasattr(self, "path"):
            assert (
                sum(held.bytes for held in eviction.scan(self.writers[0]._layout) if held.is_sealed)
                <= BOUND
            )

    @precondition(lambda self: hasattr(self, "path"))
    @invariant()
    def nothing_of_a_dead_writer_outlives_the_next(self) -> None:
        left = list((self.path / "partial").iterdir())
        assert len(left) <= self.dead


TestCacheUnderFire = CacheUnderFire.TestCase
TestCacheUnderFire.settings = settings(
    max_examples=10,
    stateful_step_count=16,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
