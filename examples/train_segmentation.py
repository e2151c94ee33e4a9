"""Train a segmenter on real and synthetic volumes, 30 % synthetic, and write down what it saw.

    python examples/train_segmentation.py                         # stand-ins for patients
    python examples/train_segmentation.py --data scans/           # yours: imagesTr/, labelsTr/
    python examples/train_segmentation.py --quick                 # rough images, a minute
    nvgen-aug inspect runs/segmentation

A folder of yours has NIfTI files of one name in `imagesTr` and `labelsTr`, with lesions as 1.
Without one, brains from the generator itself stand in for patients, which shows that
everything works and says nothing of whether synthetic data help.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import monai.transforms as mt
import nibabel
import numpy as np
import torch
from monai.data import CacheDataset
from monai.data import DataLoader
from monai.losses import DiceCELoss
from monai.metrics import DiceMetric
from monai.networks.nets import UNet

import nvgen_aug as nv

KEYS = ("image", "label")
LABELS = nv.LabelMap({"lesion": 1}, others="background")

# Real files are loaded; synthetic volumes arrive as if they had been.
LOAD = [mt.LoadImaged(KEYS), mt.EnsureChannelFirstd(KEYS)]
# Both kinds are brought to one state …
PREP = [mt.Orientationd(KEYS, "RAS", labels=None)]
# … and augmented alike. Harmonised takes away what would tell the two apart.
AUG = [nv.Harmonised("image"), mt.RandFlipd(KEYS, prob=0.5, spatial_axis=0)]


def real_files(folder: Path) -> list[dict[str, str]]:
    """Pairs of image and label, as every MONAI script lists them."""
    images = sorted((folder / "imagesTr").glob("*.nii.gz"))
    return [{"image": str(i), "label": str(folder / "labelsTr" / i.name)} for i in images]


def stand_ins(folder: Path, source: nv.VolumeSource, recipe: nv.Recipe, number: int) -> None:
    """Volumes of the generator, from seeds of their own, as files that stand in for patients."""
    volumes = nv.SyntheticDataset(source, recipe, labels=LABELS, seed=1_000_000)
    for case in range(number):
        item = volumes[case]
        for key, below, kind in (("image", "imagesTr", np.int16), ("label", "labelsTr", np.uint8)):
            path = folder / below / f"case_{case:03d}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            voxels = item[key][0].numpy().astype(kind)
            nibabel.save(nibabel.Nifti1Image(voxels, item[key].affine.numpy()), path)


def blended(
    files: list[dict[str, str]],
    source: nv.VolumeSource,
    recipe: nv.Recipe,
    *,
    ratio: float,
    seed: int = 0,
    **options: Any,
) -> nv.SyntheticRealDataset:
    """The real files with synthetic volumes at an exact share."""
    real = CacheDataset(files, mt.Compose(LOAD + PREP), progress=False)
    synthetic = nv.SyntheticDataset(source, recipe, labels=LABELS, transform=PREP, max_reuse=4)
    crop = mt.RandSpatialCropd(KEYS, (48, 48, 48), random_size=False)
    return nv.SyntheticRealDataset(
        real, synthetic, ratio=ratio, transform=[crop, *AUG], seed=seed, **options
    )


def fit(
    train: nv.SyntheticRealDataset,
    validation: list[dict[str, str]],
    *,
    epochs: int,
    batch_size: int = 2,
    workers: int = 0,
    seed: int = 0,
) -> float:
    """Train a small U-Net, and return its Dice on real cases it has never seen."""
    torch.manual_seed(seed)
    network = UNet(3, 1, 2, channels=(8, 16, 32), strides=(2, 2), norm="instance")
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    loader = DataLoader(
        train,
        batch_size=batch_size,
        sampler=train.sampler(batch_size),
        num_workers=workers,
    )
    for epoch in range(epochs):
        train.set_epoch(epoch)
        losses = []
        for batch in loader:
            optimizer.zero_grad()
            loss = loss_of(network(batch["image"]), batch["label"])
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        print(f"epoch {epoch}: loss {np.mean(losses):.3f}")
    return dice(network, validation)


def dice(network: torch.nn.Module, validation: list[dict[str, str]]) -> float:
    """Mean Dice of the lesions of real cases; cases without any are left out."""
    metric = DiceMetric(include_background=False)
    prepare = mt.Compose([*LOAD, *PREP, nv.Harmonised("image")]).set_random_state(0)
    network.eval()
    with torch.no_grad():
        for case in validation:
            item = prepare(case)
            image, label = item["image"].as_tensor()[None], item["label"].as_tensor()[None]
            found = network(image).argmax(1, keepdim=True)
            metric(torch.cat([1 - found, found], 1), torch.cat([1 - label, label], 1))
    return float(torch.nan_to_num(metric.aggregate()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with imagesTr and labelsTr")
    parser.add_argument("--ratio", type=float, default=0.3, help="share of synthetic samples")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/segmentation"))
    parser.add_argument("--quick", action="store_true", help="rough images and two epochs")
    chosen = parser.parse_args()

    lesions = {"lesion": nv.Lesions((1, 3), (8, 20))}
    recipe = nv.Recipe(pathology=lesions, steps=2 if chosen.quick else None)
    # One resident process makes volumes for all workers, and keeps them in a folder.
    with nv.serve("tiny-brain", cache=chosen.out / "cache") as source:
        folder = chosen.data or chosen.out / "stand-ins"
        if chosen.data is None:
            stand_ins(folder, source, recipe, 6 if chosen.quick else 12)
        files = real_files(folder)
        held_out = max(2, len(files) // 4)
        train = blended(files[held_out:], source, recipe, ratio=chosen.ratio)
        train.record_to(chosen.out)  # what every sample was, for `nvgen-aug inspect`
        score = fit(
            train,
            files[:held_out],
            epochs=2 if chosen.quick else chosen.epochs,
            workers=1 if chosen.quick else 2,
        )
        print(train.report())
    print(f"Dice of lesions on {held_out} real cases: {score:.3f}")


if __name__ == "__main__":
    main()
