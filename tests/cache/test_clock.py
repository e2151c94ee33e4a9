"""A clock that jumps by years may cost time, and never gives a wrong volume."""

from __future__ import annotations

import time

import numpy as np
import pytest

from nvgen_aug.cache import VolumeCache
from nvgen_aug.cache.layout import Layout
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving import Engine
from nvgen_aug.spec import VolumeSpec

YEARS = 365.25 * 86_400


@pytest.mark.parametrize("jump", [-60 * YEARS, -10 * YEARS, 10 * YEARS])
def test_volumes_are_stored_read_and_evicted_over_a_jump_of_the_clock(
    tmp_path, make, monkeypatch, jump
) -> None:
    bound = 150_000  # a few of these volumes
    cache = VolumeCache(tmp_path / "cache", max_bytes=bound)
    real = time.time
    for seed in range(12):
        if seed == 4:
            monkeypatch.setattr(time, "time", lambda: real() + jump)
        if seed == 8:
            monkeypatch.setattr(time, "time", real)
        key, made = make(seed, (32, 32, 32))
        cache.put_volume(key, made.volume)
        for reader in (cache, VolumeCache(tmp_path / "cache", read_only=True)):
            np.testing.assert_array_equal(reader.get_volume(key).image, made.volume.image)
        assert cache.stats().bytes <= bound


def test_a_request_under_way_is_answered_over_a_jump_of_the_clock(monkeypatch) -> None:
    real = time.time
    with Engine(PhantomGenerator(seconds_per_volume=0.2)) as engine:
        for jump in (-60 * YEARS, 10 * YEARS):
            future = engine.submit(VolumeSpec("phantom", seed=int(jump > 0)))
            monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
            assert future.result(20.0).image.any()
            assert engine.stats().failures == 0


def test_no_name_is_made_of_a_time(tmp_path, make, monkeypatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    layout = Layout(tmp_path)
    key, _ = make()
    assert layout.new_partial(key) != layout.new_partial(key)
