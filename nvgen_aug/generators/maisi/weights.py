"""Weights: safetensors files with the networks of a variant, loaded strictly.

What comes with this package is one file, whose keys are `autoencoder.…`, `flow.…` and `control.…`
followed by the family's own key, and `scale_factor`. What was imported has a file for each network
and a manifest. Tensors may be stored in half precision; they are loaded as float32. Nothing is ever
unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save_file
from torch import nn

from ...errors import WeightsError
from ...whole_file import replacing
from .manifest import MANIFEST_FILE
from .manifest import Manifest
from .manifest import file_digest
from .releases import FLOW
from .releases import IMAGE_CONTROL
from .releases import MASK_FLOW
from .releases import MASK_NETWORKS
from .releases import SIZE_TABLE

WEIGHTS_FILE: Final = "weights.safetensors"
TEMPLATE_FILE: Final = "template.safetensors"
IMAGE_CONTROL_FILE: Final = "image_control.safetensors"
SCALE_FACTOR: Final = "scale_factor"
TRAINED_ON: Final = "trained_on"
SIZES: Final = "organ_size"


@final
@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a variant, which lie in files until a network asks for its own.

    Attributes:
        source: The file or folder, for errors.
        digest: SHA-256 that names them in keys and provenance.
        scale_factor: What latents were multiplied by in training.
        read: The tensors of a network's name.
        mask_scale_factor: As `scale_factor`, of the networks that draw masks; `None` if they are
            not there.
        image_digest: SHA-256 of the image ControlNet beside them; empty if there is none.
        has_size_table: Whether sizes of patients came with the networks that draw masks.
    """

    source: Path
    digest: str
    scale_factor: float
    read: Callable[[str], Mapping[str, torch.Tensor]]
    mask_scale_factor: float | None = None
    image_digest: str = ""
    has_size_table: bool = False

    def patients(self) -> NDArray[np.float64] | None:
        """Sizes of organs and tumours `[N, 10]`, if they came with the networks that draw masks.

        Raises:
            WeightsError: Their file is damaged.
        """
        return self.read(SIZE_TABLE)[SIZES].numpy() if self.has_size_table else None

    def fill(self, network: nn.Module, name: str) -> None:
        """Give a network its tensors.

        Raises:
            WeightsError: They are missing, damaged, or those of another network.
        """
        fill_network(network, self.read(name), name, self.source)


def shipped_weights(folder: Path) -> Weights:
    """The weights in a folder that holds one file for all networks, and a template.

    An image ControlNet may lie beside them, in a file of its own.

    Raises:
        WeightsError: A file is missing or damaged, or the image ControlNet is of other weights.
    """
    files = [folder / WEIGHTS_FILE, folder / TEMPLATE_FILE]
    tensors = read_tensors(files[0])
    if SCALE_FACTOR not in tensors:
        msg = f"the weights at {files[0]} have no `{SCALE_FACTOR}`; use the variant's own file"
        raise WeightsError(msg)
    if not files[1].is_file():
        msg = f"there is no template at {files[1]}; reinstall the package"
        raise WeightsError(msg)
    scale = float(tensors[SCALE_FACTOR])
    image = folder / IMAGE_CONTROL_FILE
    digest, image_digest = weights_digest(files), ""
    if image.is_file():
        _check_trained_on(image, digest)
        image_digest = weights_digest([image])

    def read(name: str) -> Mapping[str, torch.Tensor]:
        return read_tensors(image) if name == IMAGE_CONTROL else _under(tensors, name)

    return Weights(files[0], digest, scale, read, image_digest=image_digest)


def _check_trained_on(path: Path, digest: str) -> None:
    try:
        with safe_open(path, "pt") as file:
            trained_on = (file.metadata() or {}).get(TRAINED_ON, "")
    except (SafetensorError, OSError) as error:
        msg = f"{path} cannot be read, it is truncated or damaged ({error}); install it again"
        raise WeightsError(msg) from error
    if trained_on != digest:
        msg = (
            f"{path} was trained for the weights {trained_on[:16] or 'of unknown name'}, those "
            f"beside it are {digest[:16]}; train it for them or take it away"
        )
        raise WeightsError(msg)


def imported_weights(folder: Path, variant: str) -> Weights:
    """The weights that were imported to a folder; each file is checked when it is read.

    Raises:
        WeightsError: There are none, or they are those of another variant.
    """
    if not (folder / MANIFEST_FILE).is_file():
        msg = (
            f"the weights of `{variant}` are not installed in {folder}; "
            f"run `nvgen-aug weights import {variant}`"
        )
        raise WeightsError(msg)
    manifest = Manifest.read(folder / MANIFEST_FILE)
    if manifest.variant != variant:
        msg = f"the weights in {folder} are those of `{manifest.variant}`, not of `{variant}`"
        raise WeightsError(msg)

    def read(name: str) -> Mapping[str, torch.Tensor]:
        part = manifest.part(name)
        if part is None:
            msg = (
                f"the weights in {folder} lack the network `{name}`; "
                f"run `nvgen-aug weights import {variant}`"
            )
            raise WeightsError(msg)
        tensors = read_tensors(folder / part.file)
        if (digest := file_digest(folder / part.file)) != part.sha256:
            msg = (
                f"{folder / part.file} has the digest {digest}, but its manifest says "
                f"{part.sha256}; import the weights again"
            )
            raise WeightsError(msg)
        return tensors

    def without_scale(name: str) -> Mapping[str, torch.Tensor]:
        return {key: value for key, value in read(name).items() if key != SCALE_FACTOR}

    draws_masks = all(manifest.part(name) is not None for name in MASK_NETWORKS)
    return Weights(
        folder,
        manifest.digest,
        _scale_factor(folder, manifest, FLOW),
        without_scale,
        _scale_factor(folder, manifest, MASK_FLOW) if draws_masks else None,
        has_size_table=manifest.part(SIZE_TABLE) is not None,
    )


def _scale_factor(folder: Path, manifest: Manifest, network: str) -> float:
    part = manifest.part(network)
    path = folder / (part.file if part else f"{network}.safetensors")
    try:
        with safe_open(path, "pt") as file:
            return float(file.get_tensor(SCALE_FACTOR))
    except (SafetensorError, OSError) as error:
        msg = f"{path} has no `{SCALE_FACTOR}` ({error}); import the weights again"
        raise WeightsError(msg) from error


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
    fill_network(network, _under(tensors, prefix), prefix, source)


def _under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def fill_network(
    network: nn.Module, given: Mapping[str, torch.Tensor], name: str, source: Path
) -> None:
    """Give `network` its tensors: every key, no other, each of its shape.

    The tensors become its parameters, so that a network that lies on the meta device needs no
    memory twice.

    Raises:
        WeightsError: Naming up to three of the keys that are missing, unexpected or of other shape.
    """
    check_fit(given, network.state_dict(), name, source)
    network.load_state_dict({k: v.float() for k, v in given.items()}, assign=True)


def check_fit(
    given: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], name: str, source: Path
) -> None:
    """Raise if tensors are not exactly those of a network.

    Raises:
        WeightsError: Naming up to three of the keys that are missing, unexpected or of other shape.
    """
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
            f"the weights at {source} do not fit the network `{name}` ({'; '.join(found)}); "
            "use the file that belongs to this variant and version"
        )
        raise WeightsError(msg)


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


def save_image_control(path: Path, state: Mapping[str, torch.Tensor], trained_on: str) -> None:
    """Write an image ControlNet in half precision, whole or not at all.

    Args:
        path: The file.
        state: Its tensors.
        trained_on: Digest of the weights that it was trained beside, and works with alone.
    """
    tensors = {key: value.detach().half().contiguous() for key, value in state.items()}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={TRAINED_ON: trained_on})


def weights_digest(paths: list[Path]) -> str:
    """SHA-256 over the bytes of the files, in the order given, 64 hex digits."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
