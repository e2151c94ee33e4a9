"""What child processes do in these tests; importable, so that spawn and forkserver find it."""

from __future__ import annotations

import hashlib
import os
from multiprocessing.connection import Connection

from nvgen_aug.serving import messages as m
from nvgen_aug.serving.connection import Pool
from nvgen_aug.serving.connection import Turn
from nvgen_aug.source import VolumeSource
from nvgen_aug.volume import SyntheticVolume
from tests.contracts.source import phantom


def digest(volume: SyntheticVolume) -> str:
    """SHA-256 of everything a volume is."""
    sha = hashlib.sha256(volume.image.tobytes())
    sha.update(b"" if volume.label is None else volume.label.tobytes())
    sha.update(volume.affine.tobytes() + volume.provenance.to_json().encode())
    return sha.hexdigest()


def fetch_and_report(source: VolumeSource, seeds: list[int], report: Connection) -> None:
    """Send the digests of some volumes."""
    report.send([digest(source.fetch(phantom(seed))) for seed in seeds])
    report.close()


def hold_a_slot(address: str, report: Connection) -> None:
    """Ask for a volume, and say nothing once it lies in a slot."""
    with Turn(Pool(), address, 20.0, "a volume") as connection:
        connection.send(m.Fetch(1, phantom(1).to_json(), None, 20.0))
        connection._receive(m.Voxels, 1)
        report.send("held")
        report.recv()
    os._exit(1)
