"""Every way to reach a generator keeps the contract of a source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import contextmanager
from pathlib import Path

from nvgen_aug.assembly import open_source
from nvgen_aug.assembly import serve
from nvgen_aug.cache import VolumeCache
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving import Client
from nvgen_aug.serving import Engine
from nvgen_aug.source import VolumeSource
from tests.contracts.source import SourceContract
from tests.serving.doubles import served


class TestEngine(SourceContract):
    @classmethod
    def open(cls, folder: str) -> AbstractContextManager[VolumeSource]:
        return Engine(PhantomGenerator())


class TestEngineThatKeepsNothingInMemory(SourceContract):
    @classmethod
    def open(cls, folder: str) -> AbstractContextManager[VolumeSource]:
        return Engine(PhantomGenerator(), VolumeCache(folder), memory_bytes=0)


class TestClient(SourceContract):
    @classmethod
    @contextmanager
    def open(cls, folder: str) -> Iterator[VolumeSource]:
        with served(Engine(PhantomGenerator())) as (_, address), Client(address) as client:
            yield client


class TestServedSource(SourceContract):
    @classmethod
    def open(cls, folder: str) -> AbstractContextManager[VolumeSource]:
        return serve("phantom")


class TestServedSourceWithCache(SourceContract):
    @classmethod
    def open(cls, folder: str) -> AbstractContextManager[VolumeSource]:
        return serve("phantom", cache=Path(folder))


class TestOpenSourceWithCache(SourceContract):
    @classmethod
    def open(cls, folder: str) -> AbstractContextManager[VolumeSource]:
        return open_source("phantom", cache=folder)
