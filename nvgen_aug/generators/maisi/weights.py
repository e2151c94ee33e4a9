"""Weights: one safetensors file for all networks of a variant, loaded strictly.

Keys are `autoencoder.…`, `flow.…` and `control.…` followed by the family's own key, and
`scale_factor`. Tensors may be stored in half precision; they are loaded as float32. Nothing is
ever unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save_file
from torch import nn

from ...errors import WeightsError
from ...whole_file import replacing

WEIGHTS_FILE: Final = "weights.safetensors"
TEMPLATE_FILE: Final = "template.safetensors"
SCALE_FACTOR: Final = "scale_factor"


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file.

    Raises:
        WeightsError: The file is missing, truncated or no safetensors file.
    """
    if not path.is_file():
        msg = f"there are no weights at {path}; reinstall the package or give a folder with them"
        raise WeightsError(msg)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        msg = (
            f"the weights at {path} ({path.stat().st_size} bytes) cannot be read, they are "
            f"truncated or damaged ({error}); fetch or install them again"
        )
        raise WeightsError(msg) from error


def load_network(
    network: nn.Module, tensors: Mapping[str, torch.Tensor], prefix: str, source: Path
) -> None:
    """Copy the tensors under `prefix` into `network`: every key, no other, each of its shape.

    Raises:
        WeightsError: Naming up to three of the keys that are missing, unexpected or of other shape.
    """
    start = f"{prefix}."
    given = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    wanted = network.state_dict()
    problems = [
        (sorted(wanted.keys() - given.keys()), "missing"),
        (sorted(given.keys() - wanted.keys()), "unexpected"),
        (
            [
                f"{key} is {list(given[key].shape)}, not {list(wanted[key].shape)}"
                for key in sorted(wanted.keys() & given.keys())
                if given[key].shape != wanted[key].shape
            ],
            "of other shape",
        ),
    ]
    found = [
        f"{len(keys)} {problem}: {', '.join(keys[:3])}{', …' if len(keys) > 3 else ''}"
        for keys, problem in problems
        if keys
    ]
    if found:
        msg = (
            f"the weights at {source} do not fit the network `{prefix}` ({'; '.join(found)}); "
            "use the file that belongs to this variant and version"
        )
        raise WeightsError(msg)
    network.load_state_dict({k: v.float() for k, v in given.items()})


def save_weights(
    path: Path, networks: Mapping[str, Mapping[str, torch.Tensor]], scale_factor: float
) -> None:
    """Write the state dicts of all networks in half precision, whole or not at all."""
    tensors = {
        f"{prefix}.{key}": value.detach().half().contiguous()
        for prefix, state in networks.items()
        for key, value in state.items()
    }
    tensors[SCALE_FACTOR] = torch.tensor([scale_factor], dtype=torch.float32)
    with replacing(path) as partial:
        save_file(tensors, partial)


def weights_digest(paths: list[Path]) -> str:
    """SHA-256 over the bytes of the files, in the order given, 64 hex digits."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
