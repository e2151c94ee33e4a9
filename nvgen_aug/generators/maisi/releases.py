"""Releases: where the weights of a variant come from, and under which licence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from typing import final

# The networks of a variant, by the names under which they are installed.
AUTOENCODER: Final = "autoencoder"
FLOW: Final = "flow"
CONTROL: Final = "control"
IMAGE_CONTROL: Final = "image_control"
MASK_AUTOENCODER: Final = "mask_autoencoder"
MASK_FLOW: Final = "mask_flow"
MASK_NETWORKS: Final = (MASK_AUTOENCODER, MASK_FLOW)
# No network: the sizes of patients that mask networks are told where a request says nothing.
SIZE_TABLE: Final = "size_table"


@final
@dataclass(frozen=True, slots=True)
class Licence:
    """Terms of use of weights.

    Attributes:
        name: As the licence calls itself.
        restriction: What it forbids that a user must know; empty if nothing.
    """

    name: str
    restriction: str = ""

    def text(self) -> str:
        """One line for people and for provenance."""
        return f"{self.name} ({self.restriction})" if self.restriction else self.name


@final
@dataclass(frozen=True, slots=True)
class Slot:
    """A released file: which network it holds and where it lies.

    Attributes:
        network: Name of the network, or of the table.
        repository: On Hugging Face.
        path: Inside the repository, and inside a folder that NV-Generate downloaded to.
    """

    network: str
    repository: str
    path: str


@final
@dataclass(frozen=True, slots=True)
class Release:
    """The checkpoints of a variant, and the licence of them all.

    Attributes:
        slots: One for each network.
        licence: Of all files.
        size_table: What goes with networks that draw masks; they work without it.
    """

    slots: tuple[Slot, ...]
    licence: Licence
    size_table: Slot | None = None


APACHE: Final = Licence("Apache-2.0")
OPEN_MODEL: Final = Licence("NVIDIA Open Model License")
NON_COMMERCIAL: Final = Licence(
    "NVIDIA OneWay Non-Commercial License (22 March 2022)",
    "non-commercial: research and evaluation only",
)

CT_REPOSITORY: Final = "nvidia/NV-Generate-CT"
MR_REPOSITORY: Final = "nvidia/NV-Generate-MR"
BRAIN_REPOSITORY: Final = "nvidia/NV-Generate-MR-Brain"


def _ct(name: str) -> Release:
    files = {
        AUTOENCODER: "autoencoder_v1",
        FLOW: f"diff_unet_3d_{name}",
        CONTROL: f"controlnet_3d_{name}",
        MASK_AUTOENCODER: "mask_generation_autoencoder",
        MASK_FLOW: "mask_generation_diffusion_unet",
    }
    slots = tuple(Slot(n, CT_REPOSITORY, f"models/{file}.pt") for n, file in files.items())
    table = Slot(SIZE_TABLE, CT_REPOSITORY, "datasets/all_anatomy_size_conditions.json")
    return Release(slots, OPEN_MODEL, table)


DDPM_CT: Final = _ct("ddpm-ct")
RFLOW_CT: Final = _ct("rflow-ct")
RFLOW_MR: Final = Release(
    (
        Slot(AUTOENCODER, MR_REPOSITORY, "models/autoencoder_v2.pt"),
        Slot(FLOW, MR_REPOSITORY, "models/diff_unet_3d_rflow-mr.pt"),
    ),
    NON_COMMERCIAL,
)
RFLOW_MR_BRAIN: Final = Release(
    (
        Slot(AUTOENCODER, CT_REPOSITORY, "models/autoencoder_v1.pt"),
        Slot(FLOW, BRAIN_REPOSITORY, "models/diff_unet_3d_rflow-mr-brain_v1.pt"),
    ),
    OPEN_MODEL,
)
