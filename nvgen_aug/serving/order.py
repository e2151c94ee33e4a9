"""Order: what a resident process makes its engine of, as JSON values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import Self
from typing import final

from ..cache import VolumeCache
from ..errors import SpecError
from .far_engine import far_engine

CachePath = str | os.PathLike[str] | VolumeCache | None
# A variant after this is made in a Ray cluster.
CLUSTER = "ray:"
FAR_ENGINE = f"{far_engine.__module__}:{far_engine.__name__}"
_OF_CLUSTER = ("actors", "cluster")
# Options that are paths, which mean the same in every process.
_PATHS = ("weights", "engines")


@final
@dataclass(frozen=True, slots=True)
class Order:
    """A function by its name, and its keyword arguments.

    Args:
        factory: The function, as `module:name`; for a cluster that of `far_engine`.
        arguments: JSON values.
        devices: One for each engine.
    """

    factory: str
    arguments: dict[str, Any]
    devices: tuple[str, ...]

    @classmethod
    def of(
        cls,
        variant: str,
        factory: str,
        *,
        device: str | Sequence[str],
        cache: CachePath,
        max_bytes: int | str | None,
        masks: str | os.PathLike[str] | None,
        threads: int | None,
        timeout: float,
        options: Mapping[str, Any],
    ) -> Self:
        """What `serve` and `open_source` were asked for; `ray:` before a variant is a cluster.

        `factory` names, as `module:function`, what makes an engine on one device.

        Raises:
            SpecError: for no device at all, or several for a cluster.
        """
        devices = (device,) if isinstance(device, str) else tuple(device)
        is_far = variant.startswith(CLUSTER)
        if not devices or (is_far and len(devices) > 1):
            msg = f"device must be one, or a list of them for one machine, got {device!r}"
            raise SpecError(msg)
        opened = cache if isinstance(cache, VolumeCache) else None
        path = cache.path if isinstance(cache, VolumeCache) else cache
        arguments = {
            "variant": variant.removeprefix(CLUSTER),
            "cache": None if path is None else str(Path(path).absolute()),
            "max_bytes": max_bytes if opened is None else opened.stats().bound,
            "read_only": opened is not None and opened.read_only,
            "remote": None if opened is None else opened.remote,
            "masks": None if masks is None else os.path.abspath(masks),
            "shared": [] if opened is None else [os.fspath(path) for path in opened.shared],
            "threads": threads,
        }
        left = {name: _jsonable(name, value) for name, value in options.items()}
        if not is_far:
            return cls(factory, {**arguments, "options": left}, devices)
        of_cluster = {name: left.pop(name, None) for name in _OF_CLUSTER}
        of_cluster |= {"timeout": timeout, "factory": factory}
        return cls(FAR_ENGINE, {**arguments, **of_cluster, "options": left}, devices)

    @property
    def each(self) -> list[dict[str, Any]]:
        """The arguments of each engine."""
        return [{**self.arguments, "device": device} for device in self.devices]

    def behind(self, shared: Sequence[str | os.PathLike[str]], remote: str | None) -> Order:
        """The same with a cache that reads other folders, and a bucket."""
        others = [str(Path(folder).absolute()) for folder in shared]
        bucket = None if remote is None else [remote, {}]
        return replace(self, arguments={**self.arguments, "shared": others, "remote": bucket})


def _jsonable(name: str, value: Any) -> Any:
    is_path = isinstance(value, os.PathLike) or (name in _PATHS and isinstance(value, str))
    return os.path.abspath(value) if is_path else value
