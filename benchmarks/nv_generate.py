"""NvGenerate: a checkout of NV-Generate-CTMR as a peer, its code imported and not retyped."""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from typing import final

import torch
from monai.bundle import ConfigParser
from monai.inferers.inferer import SlidingWindowInferer

VARIABLE = "NV_GENERATE_CTMR"
_PARTS = ("scripts/utils_infer.py", "scripts/utils.py", "configs/config_network_rflow.json")


@final
@dataclass(frozen=True, slots=True)
class Tiling:
    """How NV-Generate cuts a latent, and how often it splits each convolution.

    Args:
        window: Edges of a tile, in latent voxels.
        overlap: Share of a tile that the next one repeats.
        num_splits: Parts of each convolution.
    """

    window: tuple[int, int, int]
    overlap: float
    num_splits: int

    def inferer(self, device: str) -> SlidingWindowInferer:
        """MONAI's inferer with the arguments that NV-Generate gives it: sums on the host."""
        return SlidingWindowInferer(
            roi_size=list(self.window),
            sw_batch_size=1,
            progress=False,
            mode="gaussian",
            overlap=self.overlap,
            sw_device=torch.device(device),
            device=torch.device("cpu"),
        )


# Its configs/config_infer_80g_512x512x512.json, and what it gives smaller cards.
TILINGS = {
    (256, 256, 128): Tiling((96, 96, 96), 0.25, 2),
    (256, 256, 256): Tiling((48, 48, 64), 0.6666, 4),
    (512, 512, 128): Tiling((80, 80, 32), 0.4, 2),
    (512, 512, 512): Tiling((80, 80, 80), 0.4, 4),
}


@final
class NvGenerate:
    """A checkout: its functions and its network configuration.

    Args:
        folder: The checkout.

    Raises:
        SystemExit: if the folder is none, or what its scripts import is missing.
    """

    def __init__(self, folder: Path) -> None:
        missing = [part for part in _PARTS if not (folder / part).is_file()]
        if missing:
            raise SystemExit(
                f"{VARIABLE} must name a checkout of NV-Generate-CTMR, and {folder} has no "
                f"{missing[0]}; unset it, or clone the repository and give its folder"
            )
        self.folder = folder
        self._infer = _import("scripts.utils_infer", folder)
        self._utils = _import("scripts.utils", folder)

    @classmethod
    def from_environment(cls) -> NvGenerate | None:
        """The checkout that the variable names, or `None` if it is not set."""
        folder = os.environ.get(VARIABLE)
        return cls(Path(folder).absolute()) if folder else None

    def autoencoder(self, **overrides: Any) -> torch.nn.Module:
        """Its autoencoder, built from its own configuration.

        Args:
            overrides: Other values for the configuration, such as `num_splits`.
        """
        path = self.folder / "configs" / "config_network_rflow.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        values["autoencoder_def"] |= overrides
        parser = ConfigParser(values)
        network: torch.nn.Module = parser.get_parsed_content("autoencoder_def", instantiate=True)
        return network

    def decode(
        self, autoencoder: torch.nn.Module, latent: torch.Tensor, tiling: Tiling
    ) -> torch.Tensor:
        """A latent decoded as its script does: its model, its `dynamic_infer`, its inferer."""
        device = str(latent.device)
        model = self._infer.ReconModel(autoencoder=autoencoder, scale_factor=1.0).to(device)
        # On a processor its autocast does nothing: it names CUDA.
        with torch.no_grad(), torch.amp.autocast("cuda", enabled=latent.is_cuda):
            image: torch.Tensor = self._utils.dynamic_infer(tiling.inferer(device), model, latent)
        return image


def _import(name: str, folder: Path) -> ModuleType:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SystemExit(
            f"the checkout at {folder} needs the package `{error.name}`; "
            f"install its requirements.txt, or unset {VARIABLE}"
        ) from error
