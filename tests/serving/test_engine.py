"""One generator, one thread, many callers."""

from __future__ import annotations

import copy
import gc
import logging
import os
import pickle
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from nvgen_aug.cache import VolumeCache
from nvgen_aug.card import VariantCard
from nvgen_aug.crop import Crop
from nvgen_aug.errors import CacheError
from nvgen_aug.errors import DataError
from nvgen_aug.errors import GenerationError
from nvgen_aug.errors import SourceError
from nvgen_aug.errors import SpecError
from nvgen_aug.errors import WrongProcess
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving.engine import Engine
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from nvgen_aug.volume import Generated
from tests.contracts.source import assert_same
from tests.contracts.source import made_directly
from tests.contracts.source import phantom
from tests.serving.doubles import SECONDS
from tests.serving.doubles import Gated


@pytest.fixture
def gated() -> Iterator[tuple[Gated, Engine]]:
    generator = Gated()
    with Engine(generator) as engine:
        yield generator, engine
        generator.gate.set()


def test_concurrent_callers_of_one_spec_share_one_generation() -> None:
    generator = PhantomGenerator(seconds_per_volume=0.05)
    with Engine(generator) as engine:
        flights = [engine.submit(phantom(1)) for _ in range(8)]
        assert len({id(flight.result()) for flight in flights}) == 1
        assert engine.stats().joined == 7
    assert generator.calls == 1


def test_each_caller_of_one_spec_gets_its_own_crop(gated: tuple[Gated, Engine]) -> None:
    generator, engine = gated
    crops = [Crop((at, 0, 0), (4, 5, 6)) for at in range(3)]
    flights = [engine.submit(phantom(1), crop) for crop in crops]
    generator.gate.set()
    for flight, crop in zip(flights, crops, strict=True):
        assert_same(flight.result(SECONDS), made_directly(phantom(1)).cropped(crop))
    assert generator.seeds == [1]


def test_what_somebody_waits_for_goes_before_what_is_made_ahead(
    gated: tuple[Gated, Engine],
) -> None:
    generator, engine = gated
    engine.prefetch([phantom(seed) for seed in (0, 1, 2)])
    assert generator.begun.wait(SECONDS)
    flight = engine.submit(phantom(9))
    generator.gate.set()
    flight.result(SECONDS)
    engine.submit(phantom(2)).result(SECONDS)
    assert generator.seeds[:2] == [0, 9]


def test_a_volume_in_work_ahead_of_need_is_joined_not_made_again(
    gated: tuple[Gated, Engine],
) -> None:
    generator, engine = gated
    engine.prefetch([phantom(0)])
    assert generator.begun.wait(SECONDS)
    flight = engine.submit(phantom(0))
    generator.gate.set()
    flight.result(SECONDS)
    assert generator.seeds == [0]
    assert engine.stats().joined == 1


def test_clients_take_turns(gated: tuple[Gated, Engine]) -> None:
    generator, engine = gated
    first = engine.submit(phantom(0), client="greedy")
    assert generator.begun.wait(SECONDS)
    rest = [engine.submit(phantom(seed), client="greedy") for seed in (1, 2, 3)]
    rest += [engine.submit(phantom(9), client="modest")]
    generator.gate.set()
    for flight in [first, *rest]:
        flight.result(SECONDS)
    assert generator.seeds == [0, 1, 9, 2, 3]


def test_a_request_that_was_taken_back_is_not_made(gated: tuple[Gated, Engine]) -> None:
    generator, engine = gated
    engine.submit(phantom(0))
    assert generator.begun.wait(SECONDS)
    assert engine.submit(phantom(1)).cancel()
    last = engine.submit(phantom(2))
    generator.gate.set()
    last.result(SECONDS)
    assert generator.seeds == [0, 2]


def test_a_generator_that_fails_is_named_and_goes_on() -> None:
    class Faulty(Gated):
        def generate(self, *arguments: object) -> NoReturn:
            msg = "out of memory"
            raise RuntimeError(msg)

    generator = Faulty()
    with Engine(generator) as engine:
        key = engine.card.volume_key(engine.resolve(phantom(3)))
        for _ in range(2):
            with pytest.raises(GenerationError, match=rf"{key[:12]} \(seed 3\): RuntimeError: out"):
                engine.fetch(phantom(3))
        assert engine.stats().failures == 2


def test_even_an_exit_in_the_generator_does_not_leave_callers_hanging() -> None:
    class Leaving(Gated):
        def generate(self, *arguments: object) -> NoReturn:
            raise SystemExit(3)

    with Engine(Leaving()) as engine, pytest.raises(GenerationError, match="SystemExit: 3"):
        engine.submit(phantom(3)).result(SECONDS)


def test_errors_of_ours_reach_the_caller_as_they_are() -> None:
    class Strict(Gated):
        def generate(self, *arguments: object) -> NoReturn:
            msg = "the mask has no organ"
            raise SpecError(msg)

    with Engine(Strict()) as engine, pytest.raises(SpecError, match=r"^the mask has no organ$"):
        engine.fetch(phantom(3))


def test_a_second_engine_on_the_same_cache_generates_nothing(tmp_path: Path) -> None:
    with Engine(PhantomGenerator(), VolumeCache(tmp_path)) as engine:
        engine.fetch(phantom(1))
    generator = PhantomGenerator()
    with Engine(generator, VolumeCache(tmp_path)) as engine:
        assert_same(engine.fetch(phantom(1)), made_directly(phantom(1)))
        engine.prefetch([phantom(1)])
        assert engine.stats().waiting == 0
    assert generator.calls == 0


def test_a_volume_is_decoded_from_its_latent_where_only_that_was_kept(tmp_path: Path) -> None:
    cache = VolumeCache(tmp_path)
    generator = PhantomGenerator()
    spec = generator.card.resolve(phantom(1))
    cache.put_latent(generator.card.latent_key(spec), generator.latent(spec))
    with Engine(generator, cache) as engine:
        assert_same(engine.fetch(spec), made_directly(spec))
        assert engine.stats().decoded == 1
    assert generator.calls == 1  # the one above
    assert cache.has_volume(generator.card.volume_key(spec))


def test_a_cache_that_cannot_be_written_costs_no_sample_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def put(*arguments: object) -> NoReturn:
        msg = "no space left on the device"
        raise CacheError(msg)

    monkeypatch.setattr(VolumeCache, "put_latent", put)
    caplog.set_level(logging.WARNING)
    with Engine(PhantomGenerator(), VolumeCache(tmp_path), memory_bytes=0) as engine:
        for seed in range(3):
            assert_same(engine.fetch(phantom(seed)), made_directly(phantom(seed)))
        assert engine.stats().unsaved == 3
    assert [record.getMessage() for record in caplog.records] == [
        "the cache cannot keep what is made, training goes on: no space left on the device"
    ]


def test_a_read_only_cache_is_read_and_left_alone(tmp_path: Path) -> None:
    VolumeCache(tmp_path)
    with Engine(PhantomGenerator(), VolumeCache(tmp_path, read_only=True)) as engine:
        engine.fetch(phantom(1))
        assert engine.stats().unsaved == 0


def test_nothing_is_made_ahead_that_memory_would_drop_before_it_is_asked_for() -> None:
    generator = PhantomGenerator()
    nbytes = made_directly(phantom(0)).nbytes
    with Engine(generator, memory_bytes=4 * nbytes) as engine:
        engine.prefetch([phantom(seed) for seed in range(20)])
        while engine.stats().generated < 2:
            pass
        engine.fetch(phantom(99))  # the thread has looked at the queue again
        assert engine.stats().waiting == 18
        for seed in range(20):
            engine.fetch(phantom(seed))
    assert generator.calls == 21


def test_an_engine_in_a_forked_worker_says_what_to_do() -> None:
    with Engine(PhantomGenerator()) as engine:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                engine.fetch(phantom(1))
            except WrongProcess as error:
                os.write(write, str(error).encode())
            engine.close()  # must neither wait for a thread that is not here, nor stop the parent's
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            assert "`serve()` it before the loader" in pipe.read()
        assert os.waitpid(child, 0)[1] == 0
        engine.fetch(phantom(1))


def test_an_engine_cannot_be_pickled_and_says_what_to_do() -> None:
    with (
        Engine(PhantomGenerator()) as engine,
        pytest.raises(WrongProcess, match=r"`serve\(\)` it before the loader"),
    ):
        pickle.dumps(engine)


def test_a_copy_of_an_engine_is_the_engine() -> None:
    with Engine(PhantomGenerator()) as engine:
        assert copy.deepcopy([engine])[0] is engine
        assert copy.copy(engine) is engine


def test_closing_fails_what_waits_and_closes_the_generator() -> None:
    generator = Gated()
    engine = Engine(generator)
    begun = engine.submit(phantom(0))
    assert generator.begun.wait(SECONDS)
    waiting = engine.submit(phantom(1))
    closer = threading.Thread(target=engine.close)
    closer.start()
    with pytest.raises(SourceError, match="closed"):
        waiting.result(SECONDS)
    generator.gate.set()
    closer.join()
    assert begun.result(SECONDS).provenance.seed == 0
    assert generator.is_closed
    with pytest.raises(SourceError, match="generator was closed"):
        engine.fetch(phantom(2))


def test_an_engine_that_nobody_holds_ends_its_thread() -> None:
    generator = Gated()
    generator.gate.set()
    engine = Engine(generator)
    engine.fetch(phantom(0))
    del engine
    gc.collect()
    assert generator.is_closed


def test_an_engine_that_its_own_thread_collects_ends_that_thread() -> None:
    class Collecting(Gated):
        def generate(
            self, spec: VolumeSpec, mask: Blob | None = None, image: Blob | None = None
        ) -> Generated:
            made = super().generate(spec, mask)
            gc.collect()
            return made

    before = set(threading.enumerate())
    generator = Collecting()
    circle: list[object] = [Engine(generator)]
    circle.append(circle)
    (thread,) = set(threading.enumerate()) - before
    flight = circle[0].submit(phantom(0))  # type: ignore[attr-defined]
    assert generator.begun.wait(SECONDS)
    gc.disable()  # nobody else may collect it
    try:
        del circle
        generator.gate.set()
        flight.result(SECONDS)
    finally:
        gc.enable()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert generator.is_closed


def test_a_disk_that_fails_is_named_to_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*arguments: object) -> NoReturn:
        msg = "input/output error"
        raise OSError(msg)

    with Engine(PhantomGenerator(), VolumeCache(tmp_path)) as engine:
        monkeypatch.setattr(VolumeCache, "get_volume", read)
        with pytest.raises(CacheError, match=r"cannot be read: input/output error; check its disk"):
            engine.fetch(phantom(1))


def test_what_is_made_ahead_for_a_cache_is_not_counted_for_ever(tmp_path: Path) -> None:
    generator = Gated()
    engine = Engine(generator, VolumeCache(tmp_path))
    engine.prefetch([phantom(0)])
    assert generator.begun.wait(SECONDS)
    generator.gate.set()
    engine.close()  # after that volume
    assert engine.stats().generated == 1
    assert engine._shop._ahead == set()


def test_what_is_put_must_be_an_array_of_numbers_with_an_affine() -> None:
    with Engine(PhantomGenerator()) as engine:
        with pytest.raises(DataError, match=r"numbers \[X, Y, Z\], got uint8 \[4, 4\]"):
            engine.put(np.zeros((4, 4), np.uint8), np.eye(4))
        with pytest.raises(DataError, match="affine"):
            engine.put(np.zeros((4, 4, 4), np.uint8), np.full((4, 4), np.nan))


def test_masks_outlive_the_engine_in_the_cache(tmp_path: Path) -> None:
    mask = np.ones((16, 20, 24), np.uint8)
    with Engine(PhantomGenerator(), VolumeCache(tmp_path)) as engine:
        digest = engine.put(mask, np.eye(4))
    with Engine(PhantomGenerator(), VolumeCache(tmp_path)) as engine:
        label = engine.fetch(phantom(1, mask=digest)).label
    assert label is not None
    np.testing.assert_array_equal(label[0], mask)


def test_a_canary_goes_before_all_that_waits_and_is_shared() -> None:
    class Proving(Gated):
        def prove(self) -> None:
            self.seeds.append(-1)

    generator = Proving()
    with Engine(generator) as engine:
        first = engine.submit(phantom(0))
        assert generator.begun.wait(SECONDS)
        second = engine.submit(phantom(1))
        canary = engine.prove()
        assert engine.prove() is canary
        generator.gate.set()
        for future in (first, second, canary):
            future.result(SECONDS)  # type: ignore[attr-defined]
        assert generator.seeds == [0, -1, 1]
        assert engine.health().is_ready


def test_a_canary_that_dies_says_why_and_the_engine_goes_on() -> None:
    class Broken(Gated):
        def prove(self) -> None:
            msg = "no kernel image is available"
            raise RuntimeError(msg)

    generator = Broken()
    generator.gate.set()
    with Engine(generator) as engine:
        with pytest.raises(GenerationError, match=r"smallest volume.*no kernel image"):
            engine.prove().result(SECONDS)
        assert not engine.health().is_ready
        engine.fetch(phantom(1))
        assert engine.health().is_ready


def test_an_engine_that_is_closed_fails_its_canary() -> None:
    generator = Gated()
    engine = Engine(generator)
    flight = engine.submit(phantom(0))
    assert generator.begun.wait(SECONDS)
    canary = engine.prove()
    engine.close(timeout=0.0)
    with pytest.raises(SourceError, match="closed"):
        canary.result(SECONDS)
    generator.gate.set()
    flight.result(SECONDS)


class Follower(Gated):
    """A phantom that claims to follow images, and notes which came."""

    def __init__(self) -> None:
        super().__init__()
        self.gate.set()
        self.images: list[Blob | None] = []

    @property
    def card(self) -> VariantCard:
        return replace(self.phantom.card, image_weights="ab" * 32)

    def generate(
        self, spec: VolumeSpec, mask: Blob | None = None, image: Blob | None = None
    ) -> Generated:
        self.images.append(image)
        return self.phantom.generate(replace(spec, image=None), mask)


def test_an_image_travels_by_its_digest(tmp_path: Path) -> None:
    scan = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    follower = Follower()
    with VolumeCache(tmp_path) as cache, Engine(follower, cache=cache) as engine:
        digest = engine.put(scan, np.eye(4))
        engine.fetch(VolumeSpec("phantom", seed=1, size=(8, 8, 8), image=digest))
    (image,) = follower.images
    assert image is not None
    np.testing.assert_array_equal(image.array, scan)


def test_an_image_that_nobody_handed_over_is_refused_by_name() -> None:
    with Engine(Follower()) as engine, pytest.raises(SpecError, match="no image abababababab… is"):
        engine.fetch(VolumeSpec("phantom", seed=1, size=(8, 8, 8), image="ab" * 32))
