"""Building: from a network in memory to engines in a store, for one kind of GPU or several."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ....errors import BackendError
from ..networks import build_autoencoder
from ..networks import build_control
from ..networks import build_flow
from ..variants import Variant
from ..velocity import ControlStep
from ..velocity import FlowStep
from .onnx_file import export
from .parts import Part
from .parts import parts_of
from .store import EngineKey
from .store import EngineStore
from .store import StoredEngine
from .tensorrt import Built
from .tensorrt import Library
from .tensorrt import build


def engine_key(
    library: Library,
    part: Part,
    *,
    variant: str,
    network: str,
    precision: str,
    target: str,
) -> EngineKey:
    """Under what the engine of a part is kept.

    Args:
        library: What builds it.
        part: The network with its inputs.
        variant: Name of the member of the family.
        network: SHA-256 that names its weights.
        precision: Of weights and inputs.
        target: Kind of GPU, such as `SM89`.
    """
    return EngineKey(
        backend=library.backend,
        variant=variant,
        part=part.name,
        network=network,
        shapes=part.shapes,
        precision=precision,
        target=target,
        libraries={library.backend: library.version, "torch": str(torch.__version__)},
    )


def build_missing(
    library: Library,
    store: EngineStore,
    part: Part,
    keys: Sequence[EngineKey],
    *,
    weights: str = "given",
    report: Callable[[str], None] = lambda text: None,
) -> list[StoredEngine]:
    """The engines of one part that the store lacks, built and kept.

    Args:
        library: What builds them.
        store: Where they go.
        part: The network, which is exported once.
        keys: One for each target.
        weights: `given`, or `random`.
        report: Told what is under way.

    Raises:
        BackendError: It cannot be exported or built, or takes other inputs than the network.
    """
    missing = [key for key in keys if store.get(key) is None]
    if not missing:
        return []
    made = []
    with tempfile.TemporaryDirectory(prefix="nvgen-aug-engine-") as folder:
        report(f"exporting {part.name}")
        graph = export(part.network, part.inputs, Path(folder))
        for key in missing:
            report(f"building {part.name} for {key.target}")
            begin = time.perf_counter()
            built = build(library, graph, key.target)
            seconds = time.perf_counter() - begin
            _check_inputs(built, part)
            made.append(store.put(key, built.content, seconds=seconds, weights=weights))
    return made


def _check_inputs(built: Built, part: Part) -> None:
    wanted = [(tuple(tensor.shape), tensor.dtype) for tensor in part.inputs]
    found = [(port.shape, port.dtype) for port in built.inputs]
    if found != wanted:
        msg = (
            f"the engine of `{part.name}` takes {found}, but the network {wanted}; "
            "use backend='compiled'"
        )
        raise BackendError(msg)


def random_parts(variant: Variant, size: Sequence[int], precision: str) -> tuple[list[Part], str]:
    """A variant's networks with random weights, and a digest that no real weights have.

    They show that engines of this width and size can be built, and how long they take. What such
    an engine computes is noise, and no generator finds it.
    """
    latent = variant.autoencoder.latent
    control = build_control(variant.flow, latent) if variant.has_control else None
    flow = build_flow(variant.flow, latent)
    autoencoder = build_autoencoder(variant.autoencoder)
    for network in (control, flow, autoencoder):
        if network is not None:
            _redraw_zeros(network.eval())
    parts = parts_of(
        None if control is None else ControlStep(control).eval(),
        FlowStep(flow).eval(),
        autoencoder,
        size=size,
        precision=precision,
        compression=variant.compression,
    )
    name = f"random weights of {variant.name}"
    return parts, hashlib.sha256(name.encode()).hexdigest()


def _redraw_zeros(network: nn.Module) -> None:
    # A layer of zeros would be folded away, and with it much of what is to be built.
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.Linear) and not bool(module.weight.any()):
            module.reset_parameters()
