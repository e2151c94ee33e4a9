"""BidsFolder: volumes laid out as a BIDS derivative dataset."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import final

from ..card import VariantCard
from ..errors import DataError
from ..record import package_version
from ..spec import VolumeSpec
from ..whole_file import replacing
from .volume_files import VolumeFiles

VERSION = "1.9.0"  # of the standard; nothing that came later is used
DESCRIPTION = "synth"  # the entity `desc-synth` of every file
SECTION = "NvgenAug"  # where a sidecar holds what the standard has no words for
# Beginnings of the family's names of contrasts, and suffixes of the standard.
_SUFFIXES = {
    "mri_t1c": "T1w",
    "mri_t1": "T1w",
    "mri_t2": "T2w",
    "mri_flair": "FLAIR",
    "mri_pd": "PDw",
    "mri_mra": "angio",
    "mri_swi": "swi",
}
_OUTSIDE = "image"  # of what the standard has no suffix for, such as CT


@final
@dataclass(frozen=True, slots=True)
class BidsFolder:
    """A derivative dataset: `dataset_description.json`, `dseg.tsv` and a folder for each volume.

    Each volume is a subject of its own, `sub-<name>/anat/sub-<name>_desc-synth_T1w.nii.gz`,
    with its label as `…_desc-synth_dseg.nii.gz`. The standard has no suffix for CT: such
    files are called `…_image.nii.gz`, and listed in `.bidsignore`.

    Args:
        root: Where it is.
    """

    root: Path

    def files(self, name: str, spec: VolumeSpec) -> VolumeFiles:
        """The files of a volume.

        Args:
            name: What it is called; letters and digits of it are kept.
            spec: What it was made of.
        """
        subject = re.sub(r"[^A-Za-z0-9]", "", name)
        modality = spec.modality or ""
        return VolumeFiles(
            self.root / f"sub-{subject}" / "anat",
            f"sub-{subject}_desc-{DESCRIPTION}",
            suffix=f"_{suffix_of(modality)}",
            label_suffix="_dseg",
            section=SECTION,
            head=(
                ("Description", f"Synthetic image, made by {spec.variant} and not measured"),
                ("SkullStripped", modality.endswith("skull_stripped")),
            ),
        )

    def describe(self, card: VariantCard | None, variants: tuple[str, ...] = ()) -> None:
        """Write what belongs to all volumes.

        Args:
            card: Of the variant that made them; without one there is no `dseg.tsv`.
            variants: Names of the variants, if they are more than that of the card.

        Raises:
            DataError: if the folder cannot be written.
        """
        makers = variants or ((card.name,) if card else ())
        description: dict[str, Any] = {
            "Name": "Synthetic volumes of " + (", ".join(makers) or "unknown variants"),
            "BIDSVersion": VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [
                {
                    "Name": "nvgen_aug",
                    "Version": package_version(),
                    "Description": "Synthetic images and masks; each sidecar says how to make "
                    f"its volume again, under {SECTION}",
                }
            ],
            "SourceDatasets": [],
        }
        texts = {
            "dataset_description.json": json.dumps(description, indent=2) + "\n",
            ".bidsignore": f"*_{_OUTSIDE}.*\n",
        }
        if card is not None and card.has_labels:
            rows = sorted((value, name) for name, value in card.vocabulary.items())
            lines = ["index\tname", *(f"{value}\t{name}" for value, name in rows)]
            texts["dseg.tsv"] = "\n".join(lines) + "\n"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                with replacing(self.root / name) as partial:
                    partial.write_text(text, encoding="utf-8")
        except OSError as error:
            msg = f"cannot write to {self.root}: {error.strerror}; choose another folder"
            raise DataError(msg) from error


def suffix_of(modality: str) -> str:
    """The standard's suffix for a contrast of the family."""
    found = (suffix for begin, suffix in _SUFFIXES.items() if modality.startswith(begin))
    return next(found, _OUTSIDE)
