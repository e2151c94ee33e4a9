"""Vocabulary: label names and modality names of the family, with their ids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

TINY_BRAIN_LABELS: Final[Mapping[str, int]] = MappingProxyType(
    {"background": 0, "csf": 1, "grey matter": 2, "white matter": 3, "lesion": 4}
)

# The ids that the family's modality embedding uses; 0 is "unknown", the unguided branch.
UNKNOWN_MODALITY: Final = 0
CT_MODALITIES: Final[Mapping[str, int]] = MappingProxyType(
    {"ct": 1, "ct_wo_contrast": 2, "ct_contrast": 3}
)
MR_MODALITIES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "mri": 8,
        "mri_t1": 9,
        "mri_t2": 10,
        "mri_flair": 11,
        "mri_pd": 12,
        "mri_dwi": 13,
        "mri_adc": 14,
        "mri_ssfp": 15,
        "mri_mra": 16,
        "mri_t1c": 17,
        "mri_swi": 20,
    }
)
STRIPPED: Final = "_skull_stripped"
BRAIN_MODALITIES: Final[Mapping[str, int]] = MappingProxyType(
    {name: MR_MODALITIES[name] for name in ("mri", "mri_t1", "mri_t2", "mri_flair")}
    | {"mri_mra": 16, "mri_swi": 20}
    | {
        f"mri_t1{STRIPPED}": 29,
        f"mri_t2{STRIPPED}": 30,
        f"mri_flair{STRIPPED}": 31,
        f"mri_swi{STRIPPED}": 32,
        f"mri_mra{STRIPPED}": 33,
    }
)
SKULL_STRIPPED_MODALITIES: Final[Mapping[str, int]] = MappingProxyType(
    {
        name: BRAIN_MODALITIES[name]
        for name in (f"mri_t1{STRIPPED}", f"mri_t2{STRIPPED}", f"mri_flair{STRIPPED}")
    }
)

# From head to foot, as the networks of `ddpm-ct` count them.
BODY_REGIONS: Final = ("head", "chest", "abdomen", "lower")

BODY: Final = "body"
BODY_ID: Final = 200  # every voxel of the body that no organ claims


def _sided(*names: str) -> list[str]:
    return [f"{side} {name}" for name in names for side in ("left", "right")]


def _numbered() -> list[str]:
    """The names of ids 0 to 132 in order; ids called `dummy` are free."""
    names = ["background", "liver", "dummy1", "spleen", "pancreas", "right kidney", "aorta"]
    names += ["inferior vena cava", "right adrenal gland", "left adrenal gland", "gallbladder"]
    names += ["esophagus", "stomach", "duodenum", "left kidney", "bladder", "dummy2"]
    names += ["portal vein and splenic vein", "dummy3", "small bowel", "dummy4", "dummy5", "brain"]
    names += ["lung tumor", "pancreatic tumor", "hepatic vessel", "hepatic tumor"]
    names += ["colon cancer primaries", "left lung upper lobe", "left lung lower lobe"]
    names += ["right lung upper lobe", "right lung middle lobe", "right lung lower lobe"]
    for letter, count in (("L", 5), ("T", 12), ("C", 7)):
        names += [f"vertebrae {letter}{n}" for n in range(count, 0, -1)]
    names += ["trachea", *_sided("iliac artery", "iliac vena"), "colon"]
    names += [f"{side} rib {n}" for side in ("left", "right") for n in range(1, 13)]
    names += _sided("humerus", "scapula", "clavicula", "femur", "hip")
    names += ["sacrum", *_sided("gluteus maximus", "gluteus medius", "gluteus minimus")]
    names += [*_sided("autochthon", "iliopsoas"), "left atrial appendage", "brachiocephalic trunk"]
    names += [*_sided("brachiocephalic vein", "common carotid artery"), "costal cartilages"]
    names += ["heart", *_sided("kidney cyst"), "prostate", "pulmonary vein", "skull"]
    names += ["spinal cord", "sternum", *_sided("subclavian artery"), "superior vena cava"]
    names += ["thyroid gland", "vertebrae S1", "bone lesion", "dummy6", "dummy7", "dummy8"]
    return [*names, "airway"]


CT_LABELS: Final[Mapping[str, int]] = MappingProxyType(
    {name: i for i, name in enumerate(_numbered())} | {BODY: BODY_ID}
)


def _totalsegmentator(name: str) -> str | None:
    """What TotalSegmentator calls a label, where it has the same one."""
    tumours = ("tumor", "primaries", "lesion", "dummy", "vessel", "airway", "background")
    if name == BODY or any(word in name for word in tumours):
        return None
    if name == "bladder":
        return "urinary_bladder"
    if rib := re.fullmatch(r"(left|right) rib (\d+)", name):
        return f"rib_{rib[1]}_{rib[2]}"
    if sided := re.fullmatch(r"(left|right) (.+)", name):
        side, rest = sided[1], sided[2].replace(" ", "_")
        return f"{rest}_{side}"
    return name.replace(" ", "_")


# Other names of the same labels. TotalSegmentator's are formed by rule; VISTA-3D's names are those
# of the family. 129 is a free slot whose name is what fine-tuning upstream made of it.
CT_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        alias: name
        for name in CT_LABELS
        if (alias := _totalsegmentator(name)) is not None and alias != name
    }
    | {
        "liver tumor": "hepatic tumor",
        "liver vessel": "hepatic vessel",
        "urinary bladder": "bladder",
        "kidney mass": "dummy6",
    }
)


def mask_channel_to_id(channel: int) -> int:
    """The label id of a channel of the mask autoencoder, which numbers its 125 labels anew.

    Raises:
        ValueError: If there is no such channel.
    """
    for first, last, shift in _CHANNEL_SHIFTS:
        if first <= channel <= last:
            return channel + shift
    msg = f"a channel of the mask autoencoder is 0 to 124, got {channel}"
    raise ValueError(msg)


# First channel, last channel, and what to add.
_CHANNEL_SHIFTS: Final = (
    (0, 1, 0),
    (2, 14, 1),
    (15, 15, 2),
    (16, 16, 3),
    (17, 110, 5),
    (111, 122, 7),
    (123, 123, 9),
    (124, 124, 76),
)
