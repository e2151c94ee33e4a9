"""Maker: one generator in a process that Ray places, starts and starts again."""

from __future__ import annotations

import json
import os
from importlib import import_module
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import numpy as np
import ray

from ...provenance import Provenance
from ...spec import VolumeSpec
from ...volume import SyntheticVolume
from .. import messages as m
from .. import wire

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...crop import Crop
    from ..servable import Servable

DEVICE_LOST = 3  # exit code

# What goes through the cluster is JSON values and arrays, never an object of this package.
Head = dict[str, Any]
Voxels = tuple[Any, ...]


@final
class Maker:
    """An actor with one engine. What goes wrong is answered, with its class; nothing is raised.

    Args:
        factory: `module:function` that returns the engine.
        arguments: Its keyword arguments, as JSON.
    """

    def __init__(self, factory: str, arguments: str) -> None:
        self._failure: Head | None = None
        module, _, name = factory.partition(":")
        try:
            self._engine: Servable = getattr(import_module(module), name)(**json.loads(arguments))
            # Ray starts a process that has ended again; a lost device needs no less.
            self._engine.when_device_lost(lambda error: os._exit(DEVICE_LOST))
        except Exception as error:
            self._failure = failure(error)

    def begin(self) -> Head:
        """The card of the variant, once a canary was made."""
        if self._failure is not None:
            return self._failure
        try:
            self._engine.prove().result()
        except Exception as error:
            return failure(error)
        return {"card": self._engine.card.to_json(), "machine": _machine()}

    def resolve(self, spec: str) -> Head:
        """A spec with the defaults and a mask of the bank."""
        try:
            return {"spec": self._engine.resolve(VolumeSpec.from_json(spec)).to_json()}
        except Exception as error:
            return failure(error)

    def make(self, spec: str, crop: str | None, wants_voxels: bool) -> tuple[Head, Voxels]:
        """A volume: what it is, and apart from that its voxels, or none if they are not wanted."""
        try:
            box = wire.crop_from_json(crop)
            volume = self._engine.submit(VolumeSpec.from_json(spec), box).result()
        except Exception as error:
            return failure(error), ()
        if not wants_voxels:
            return {}, ()
        head = {
            "affine": volume.affine.tolist(),
            "provenance": volume.provenance.to_json(),
            "crop": wire.crop_to_json(volume.crop),
        }
        return head, (volume.image, volume.label)

    def put(self, array: NDArray[np.generic], affine: list[list[float]]) -> Head:
        """Keep an array of a caller."""
        try:
            return {"digest": self._engine.put(array.copy(), np.asarray(affine))}
        except Exception as error:
            return failure(error)

    def figures(self) -> tuple[dict[str, Any], float, float]:
        """The fields of `SourceStats`; how long the job is silent; how long the longest took."""
        stats, health = self._engine.stats(), self._engine.health()
        values = {name: getattr(stats, name) for name in stats.__dataclass_fields__}
        return values, health.silent, health.longest


def volume_of(head: Head, voxels: Voxels) -> SyntheticVolume:
    """The volume that a maker answered with, in arrays of the caller's own."""
    # What comes out of the object store is read-only, and held there for as long as it is used.
    image, label = (None if array is None else array.copy() for array in voxels)
    assert image is not None
    box = wire.crop_from_json(head["crop"])
    crop: Crop | None = box  # type: ignore[assignment]
    return SyntheticVolume(
        image=image,
        label=label,
        affine=np.asarray(head["affine"]),
        provenance=Provenance.from_json(head["provenance"]),
        crop=crop,
    )


def _machine() -> str:
    where: str = ray.get_runtime_context().get_node_id()
    return where


def failure(error: BaseException) -> Head:
    """An error as an answer."""
    said = m.Failure.of(error)
    return {"error": said.kind, "text": said.text}


def check(head: Head) -> Head:
    """The answer, unless it is an error.

    Raises:
        NvgenError: in the class that the maker met.
    """
    if "error" in head:
        raise m.Failure(0, head["error"], head["text"]).error()
    return head
