"""Subjects: the real side of the demo, ready in memory on the generator's grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from monai.transforms import CropForegroundd
from monai.transforms import EnsureChannelFirstd
from monai.transforms import LoadImaged
from monai.transforms import NormalizeIntensityd
from monai.transforms import Orientationd
from monai.transforms import ResizeWithPadOrCropd
from monai.transforms import Spacingd

from ..assembly import open_source
from ..errors import DataError
from ..recipe import Recipe
from ..training.stand_ins import StandIns
from .dataset_folder import Case
from .dataset_folder import DatasetFolder
from .talk import Talk
from .task import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEYS = ("image", "label")
_PHANTOM_SEEDS = {"train": 0x5EED_7A1E, "validation": 0x5EED_5A1D}


def same_scale() -> Compose:
    """The one intensity transform of real and synthetic images: mean 0 and deviation 1 inside."""
    return Compose([NormalizeIntensityd("image", nonzero=True, channel_wise=True)])


@final
@dataclass(frozen=True, slots=True)
class Subjects:
    """Items with `image` and `label`, float32 `[1, X, Y, Z]` MetaTensors, to train and to validate.

    Args:
        train: What both runs train on.
        validation: What both runs are scored on; never trained on.
        kind: What they are, in a word or two, for tables and titles.
        remark: What they are and are not, in plain sentences.
    """

    train: tuple[dict[str, Any], ...]
    validation: tuple[dict[str, Any], ...]
    kind: str
    remark: str

    @classmethod
    def stand_ins(cls, task: Task, train: int, validation: int, talk: Talk) -> Subjects:
        """Brains warped from one public template; the generator saw other warps of it."""
        items: dict[str, list[dict[str, Any]]] = {}
        with talk.track("warping stand-ins for subjects", train + validation) as advance:
            for split, number in (("demo", train), ("held-out", validation)):
                supply = StandIns(split, modality=task.modality)
                items[split] = []
                for index in range(number):
                    made = supply.make(index)
                    name = f"stand-in:{split}:{index}"
                    items[split].append(_item(made.image, made.label, made.affine, name, task))
                    advance("")
        return cls(
            tuple(items["demo"]),
            tuple(items["held-out"]),
            "stand-in",
            "The “real” brains are not patients: they are copies of one public MRI template "
            "(ICBM152), each warped at random, standing in for subjects. The generator learned "
            "from other warps of the same template.",
        )

    @classmethod
    def phantoms(
        cls, task: Task, recipe: Recipe, train: int, validation: int, talk: Talk
    ) -> Subjects:
        """Ellipsoids of the phantom generator, from seeds of their own."""
        items: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
        with (
            open_source("phantom") as source,
            talk.track("drawing phantoms for subjects", train + validation) as advance,
        ):
            for split, number in (("train", train), ("validation", validation)):
                for index in range(number):
                    rng = np.random.default_rng((_PHANTOM_SEEDS[split], index))
                    made = source.fetch(recipe.draw(rng, variant="phantom"))
                    assert made.label is not None
                    name = f"phantom:{split}:{index}"
                    image = made.image[0].astype(np.float32)
                    items[split].append(_item(image, made.label[0], made.affine, name, task))
                    advance("")
        return cls(
            tuple(items["train"]),
            tuple(items["validation"]),
            "phantom",
            "The “real” volumes are not patients: they are ellipsoids with noise, made by the "
            "phantom generator from seeds of their own. The synthetic ones come from the very "
            "same generator.",
        )

    @classmethod
    def scans(
        cls,
        folder: DatasetFolder,
        task: Task,
        *,
        most: int,
        channel: int,
        seed: int,
        talk: Talk,
    ) -> Subjects:
        """The caller's own scans, a quarter of them kept for validation.

        Args:
            folder: Where they are.
            task: Grid and classes to bring them to.
            most: How many to use at most.
            channel: Which channel of an image to use.
            seed: Which cases are used and which of them validate.
            talk: Who hears of the progress.

        Raises:
            DataError: for a file that cannot be trained on, and for fewer than 2 cases.
        """
        if len(folder.cases) < 2:
            msg = (
                f"{folder.path} has {len(folder.cases)} training case, expected at least 2: "
                "one to train on and one to validate on"
            )
            raise DataError(msg)
        order = np.random.default_rng(seed).permutation(len(folder.cases))[: max(2, most)]
        chosen = [folder.cases[int(place)] for place in order]
        with talk.track(f"reading scans in {folder.path}", len(chosen)) as advance:
            items = []
            for case in chosen:
                case.check()
                items.append(_scan(case, task, channel))
                advance(case.name)
        kept = max(1, len(items) // 4)
        # A case without lesions is a case; a folder without any is a mistake.
        if not any((item["label"] > 0).any() for item in items[kept:]):
            ids = ", ".join(map(str, sorted(task.real)))
            msg = (
                f"no label of the {len(items) - kept} training cases has a voxel of the mapped "
                f"ids ({ids}) on the generator's grid of {task.size} voxels, expected some; "
                "check --labels and the orientation of the scans"
            )
            raise DataError(msg)
        size = " × ".join(map(str, task.size))
        return cls(
            tuple(items[kept:]),
            tuple(items[:kept]),
            "scan",
            f"The real volumes are {len(items)} of {len(folder.cases)} scans in "
            f"{folder.path.name} ({folder.layout} layout), resampled to {size} voxels of "
            f"{' × '.join(f'{mm:g}' for mm in task.spacing)} mm. The generator has never seen "
            "them; what it makes may differ from them in contrast, and it makes brains without "
            "skull.",
        )


def clone(item: Mapping[str, Any]) -> dict[str, Any]:
    """A copy whose tensors may be changed in place."""
    return {key: item[key].clone() for key in KEYS}


def _item(
    image: NDArray[np.float32],
    label: NDArray[np.uint8],
    affine: NDArray[np.float64],
    name: str,
    task: Task,
) -> dict[str, Any]:
    assert image.shape == task.size, (image.shape, task.size)
    place = torch.from_numpy(np.array(affine, dtype=np.float64))

    def tensor(voxels: NDArray[Any]) -> MetaTensor:
        # A dictionary and a copy for each: transforms write into them.
        copied = torch.from_numpy(voxels[None].astype(np.float32))
        return MetaTensor(copied, affine=place, meta={"filename_or_obj": name})

    item = {"image": tensor(image), "label": _relabelled(tensor(label), task)}
    prepared: dict[str, Any] = same_scale()(item)
    return prepared


def _scan(case: Case, task: Task, channel: int) -> dict[str, Any]:
    load = Compose(
        [
            LoadImaged(KEYS, image_only=True),
            EnsureChannelFirstd("image", strict_check=False),
            EnsureChannelFirstd("label", strict_check=False),
        ]
    )
    fit = Compose(
        [
            Orientationd(KEYS, axcodes="RAS", labels=None),
            Spacingd(KEYS, pixdim=task.spacing, mode=("bilinear", "nearest")),
            # Heads rarely sit in the middle of a scan; the generator's always do.
            CropForegroundd(KEYS, "image", select_fn=_is_inside, allow_smaller=True),
            same_scale(),
            ResizeWithPadOrCropd(KEYS, spatial_size=task.size),
        ]
    )
    loaded = load({"image": str(case.image), "label": str(case.label)})
    channels = loaded["image"].shape[0]
    # nnU-Net's channels are files of their own and were chosen by name.
    wanted = channel if channels > 1 else 0
    if wanted >= channels:
        msg = f"--channel {channel}: image {case.image} has {channels} channels, counted from 0"
        raise DataError(msg)
    loaded["image"] = loaded["image"][wanted : wanted + 1]
    fitted: dict[str, Any] = fit(loaded)
    fitted["label"] = _relabelled(fitted["label"], task)
    return {key: fitted[key].float() for key in KEYS}


def _is_inside(image: torch.Tensor) -> torch.Tensor:
    return image != 0


def _relabelled(label: MetaTensor, task: Task) -> MetaTensor:
    classes = torch.zeros_like(label, dtype=torch.float32)
    for value, place in task.real.items():
        classes[label == value] = place
    assert isinstance(classes, MetaTensor)
    return classes
