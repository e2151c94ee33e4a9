"""Far engine: the generators of a Ray cluster, if Ray is here, as the engine of this process."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import SourceError
from ..errors import SpecError
from .servable import Servable


def far_engine(
    *,
    factory: str,
    device: str,
    threads: int | None,
    actors: int | None,
    cluster: str | None,
    timeout: float,
    **arguments: Any,
) -> Servable:
    """The makers of a Ray cluster as an engine.

    Args:
        factory: `module:function` that returns the engine of one maker.
        device: `"cpu"`, or `"cuda"` for one GPU each.
        threads: CPU cores of each maker without a GPU; `None` is one.
        actors, cluster, timeout: As `ClusterEngine` has them.
        **arguments: What else the factory is told, as JSON values.

    Raises:
        SpecError: for a GPU with a number.
        SourceError: without Ray, and as `ClusterEngine`.
    """
    if device not in ("cpu", "cuda"):
        msg = f"in a cluster Ray chooses the GPU: device must be 'cpu' or 'cuda', got {device!r}"
        raise SpecError(msg)
    try:
        # By name, because it needs an extra, and most runs have one machine.
        kind = import_module(".cluster", __package__).ClusterEngine
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        msg = '`ray:` needs Ray, which is not here; pip install "nvgen-aug[cluster]"'
        raise SourceError(msg) from error
    opened: Servable = kind(
        factory,
        {**arguments, "device": device, "threads": threads},
        gpus=1 if device == "cuda" else 0,
        cpus=threads or 1,
        actors=actors,
        cluster=cluster,
        timeout=timeout,
    )
    return opened
