"""A cache that was read in a process can be read in its forked children."""

from __future__ import annotations

import multiprocessing
import threading

import numpy as np
import pytest

from nvgen_aug.cache import VolumeCache
from nvgen_aug.crop import Crop
from nvgen_aug.volume import SyntheticVolume

# Several chunks, so that a codec pipeline has work for more than one thread.
SIZE = (72, 132, 40)


def _read_often(cache: VolumeCache, key: str, expected: SyntheticVolume) -> None:
    for start in range(20):
        crop = Crop((start, 3 * start, 0), (32, 64, 32))
        found = cache.get_volume(key, crop)
        assert found is not None
        assert np.array_equal(found.image, expected.cropped(crop).image)


@pytest.mark.parametrize("of", ["reader", "writer"])
def test_children_forked_after_a_read_can_read(cache, make, of) -> None:
    key, made = make(7, SIZE)
    cache.put_volume(key, made.volume)
    used = cache if of == "writer" else cache.reader()
    context = multiprocessing.get_context("fork")
    for _ in range(8):
        _read_often(used, key, made.volume)
        child = context.Process(target=_read_often, args=(used, key, made.volume))
        child.start()
        child.join(timeout=60)
        hung = child.exitcode is None
        child.kill()
        child.join()
        assert not hung
        assert child.exitcode == 0


def test_children_forked_during_reads_of_other_threads_can_read(cache, make) -> None:
    key, made = make(7, SIZE)
    cache.put_volume(key, made.volume)
    reader = cache.reader()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            reader.get_volume(key)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    context = multiprocessing.get_context("fork")
    try:
        codes = []
        for _ in range(8):
            child = context.Process(target=_read_often, args=(reader, key, made.volume))
            child.start()
            child.join(timeout=60)
            codes.append(child.exitcode)
            child.kill()
            child.join()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert codes == [0] * 8


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_reader_can_be_sent_to_a_new_process(cache, make, method) -> None:
    key, made = make(7, SIZE)
    cache.put_volume(key, made.volume)
    context = multiprocessing.get_context(method)
    child = context.Process(target=_read_often, args=(cache.reader(), key, made.volume))
    child.start()
    child.join()
    assert child.exitcode == 0
