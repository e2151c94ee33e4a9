"""Checkpoint: a released `.pt` file, read without running anything that is in it."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import Final

import torch

from ...errors import WeightsError
from .weights import SCALE_FACTOR
from .weights import check_fit

# What upstream's trainers wrap a state dict in; a bare one is accepted too.
_WRAPPERS: Final = (
    "unet_state_dict",
    "controlnet_state_dict",
    "autoencoder_state_dict",
    "state_dict",
)
# An identity and zeros, left in `ddpm-ct` by a conversion; the networks have no such layer.
_LEFT_OVER: Final = re.compile(r"\.attn\.out_proj\.(weight|bias)$")


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """What a checkpoint holds, its tensors on the CPU.

    Only tensors and plain Python values are ever made of it (`weights_only=True`): a file
    that asks for anything else is refused, and nothing in it is run.

    Raises:
        WeightsError: It is missing, damaged, or holds more than tensors and plain values.
    """
    if not path.is_file():
        msg = f"there is no checkpoint at {path}; give the folder that NV-Generate downloaded to"
        raise WeightsError(msg)
    try:
        # Mapped, so that an optimizer's state of more than a gigabyte is never read.
        found = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    # Torch has no one class for what a malicious or a damaged file leads to.
    except Exception as error:
        first = str(error).partition("\n")[0]
        msg = (
            f"{path} ({path.stat().st_size} bytes) holds more than tensors and plain values, or "
            f"is damaged; nothing in it was run ({type(error).__name__}: {first}); fetch it again "
            "from its publisher"
        )
        raise WeightsError(msg) from error
    if not isinstance(found, Mapping):
        msg = f"{path} must hold a state dict, got {type(found).__name__}"
        raise WeightsError(msg)
    return found


def state_dict(checkpoint: Mapping[str, Any], path: Path) -> dict[str, torch.Tensor]:
    """The tensors of the network, whether the file holds them bare or wrapped.

    What else a file may hold, such as an optimizer's state, is left out.

    Raises:
        WeightsError: There are no tensors.
    """
    wrapped = [name for name in _WRAPPERS if isinstance(checkpoint.get(name), Mapping)]
    state = checkpoint[wrapped[0]] if wrapped else checkpoint
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        strange = sorted(str(k) for k, v in state.items() if not isinstance(v, torch.Tensor))
        msg = (
            f"{path} must hold tensors, bare or under one of {', '.join(_WRAPPERS)}; "
            f"got {', '.join(strange[:3]) or 'nothing'}"
        )
        raise WeightsError(msg)
    return dict(state)


def scale_factor(checkpoint: Mapping[str, Any], path: Path) -> torch.Tensor:
    """What latents were multiplied by in training, float32, from whatever type it was kept in.

    Raises:
        WeightsError: There is none, or it is no positive number.
    """
    value = checkpoint.get(SCALE_FACTOR)
    try:
        number = float(value)  # type: ignore[arg-type]  # None and others are refused below
    except (TypeError, ValueError, RuntimeError):
        number = 0.0
    if not 0.0 < number < float("inf"):
        msg = f"{path} must hold a positive `{SCALE_FACTOR}`, got {value!r}; use the released file"
        raise WeightsError(msg)
    return torch.tensor([number], dtype=torch.float32)


def fitted(
    state: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    name: str,
    path: Path,
    *,
    has_left_over: bool = False,
) -> tuple[dict[str, torch.Tensor], int]:
    """The tensors for a network, and how many were left out because upstream ignores them.

    Args:
        state: What the file holds.
        wanted: What the network has.
        name: Of the network.
        path: Of the file.
        has_left_over: Whether files of this network may hold a layer that it does not have.

    Raises:
        WeightsError: Any other tensor is missing, unexpected or of other shape; each is named.
    """
    left_over = {key for key in state if has_left_over and _LEFT_OVER.search(key)}
    kept = {key: value for key, value in state.items() if key not in left_over}
    check_fit(kept, wanted, name, path)
    return kept, len(left_over)
