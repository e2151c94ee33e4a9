"""A server killed at any stage of a request gives an answer and one whole entry, each time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nvgen_aug.cache import VolumeCache
from nvgen_aug.serving import Client
from nvgen_aug.serving import Resident
from nvgen_aug.serving.restarts import Patience
from nvgen_aug.spec import VolumeSpec
from tests.contracts.source import assert_same
from tests.contracts.source import made_directly
from tests.serving.doubles import SECONDS
from tests.serving.doubles import private_directory

ROOT = Path(__file__).parents[2]
LENIENT = Patience(first_delay=0.01, most_delay=0.01, crashes=10_000)


def volume(seed: int) -> VolumeSpec:
    """A volume that is larger than a slot of the ring, so that it goes in pieces."""
    return VolumeSpec("phantom", seed=seed, size=(48, 48, 48))


class Killed:
    """A resident that kills itself at the stage that is ordered."""

    def __init__(self, folder: Path) -> None:
        self._order = folder / "order"
        self._stages = folder / "stages"
        self.cache = folder / "cache"
        arguments = {"folder": str(folder), "cache": str(self.cache)}
        self.resident = Resident("tests.serving.killed:engine", arguments, LENIENT)
        self.client = Client(self.resident.address, SECONDS * 6)
        self.client.stats()
        self.seed = 0

    def stages(self) -> list[str]:
        """Of one request whose volume nobody has made yet, in order."""
        self._order.write_text("record")
        self.client.fetch(volume(0))
        self._order.unlink()
        return self._stages.read_text().split()

    def killed_at(self, stage: str) -> bool:
        """Have it killed there, and check what its client and its cache come to.

        Returns:
            Whether the request came there: a few calls are only made in the first one.
        """
        self.seed += 1
        self._order.write_text(stage)
        assert_same(self.client.fetch(volume(self.seed)), made_directly(volume(self.seed)))
        was_reached = not self._order.exists()
        self._order.unlink(missing_ok=True)
        card = self.client.card
        spec = card.resolve(volume(self.seed))
        with_entry = VolumeCache(self.cache, read_only=True)
        stored = with_entry.get_volume(card.volume_key(spec))
        assert stored is not None
        assert_same(stored, made_directly(volume(self.seed)))
        assert with_entry.get_latent(card.latent_key(spec)) is not None
        with_entry.close()
        # One entry of each kind for each volume so far, and nothing half done beside them.
        for kind in ("volumes", "latents"):
            assert len(list((self.cache / kind).glob("*/*"))) == self.seed + 1
        assert list((self.cache / "partial").iterdir()) == []
        assert list((self.cache / "quarantine").iterdir()) == []
        return was_reached


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Killed]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with private_directory() as run:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(run))
        server = Killed(tmp_path)
        try:
            yield server
        finally:
            server.client.close()
            server.resident.close()


# What a request goes through, from the first word to the last piece.
LANDMARKS = [
    "serving/conversation.py:_fetch#1",
    "generators/phantom.py:generate#1",
    "cache/arrays.py:write_group#1",
    "cache/publisher.py:_publish#2",
    "serving/ring.py:gather#1",
    "serving/ring.py:gather#2",
]


def test_a_server_killed_at_the_landmarks_of_a_request_leaves_one_entry_and_answers(
    server: Killed,
) -> None:
    stages = server.stages()
    assert set(LANDMARKS) <= set(stages)
    assert all(server.killed_at(stage) for stage in LANDMARKS)
    assert server.client.status().restarts == len(LANDMARKS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_server_killed_at_every_stage_of_a_request_leaves_one_entry_and_answers(
    server: Killed,
) -> None:
    stages = server.stages()
    assert len(stages) > 100
    reached = sum(server.killed_at(stage) for stage in stages)
    assert reached > 0.9 * len(stages)
    assert server.client.status().restarts == reached
