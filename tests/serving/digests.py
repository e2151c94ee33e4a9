"""A dataset of digests; importable, so that spawn and forkserver find it."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from nvgen_aug.source import VolumeSource
from tests.contracts.source import phantom
from tests.serving.workers import digest


class Digests(Dataset[str]):
    """A dataset whose item is the digest of the volume of that seed."""

    def __init__(self, source: VolumeSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: Any) -> str:
        return digest(self.source.fetch(phantom(int(index))))
