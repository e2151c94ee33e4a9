"""Oversample a rare lesion: synthetic volumes fill what the patients do not show.

    python examples/oversample_rare.py --data Task_Lesions/ --cache cache/
    python examples/oversample_rare.py --data Task_Lesions/ --control      # the fair comparison
    python examples/oversample_rare.py --quick                            # try it, without data

The folder has the layout of the Medical Segmentation Decathlon, with a label `lesion`. With
`--control` no volume is synthetic: patients with the same lesions are repeated at the same places
of the same run, so what differs is new lesions against lesions seen again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import monai.transforms as mt
import nibabel
import torch
from monai.data import CacheDataset
from monai.data import DataLoader
from monai.data import load_decathlon_datalist
from monai.losses import DiceCELoss
from monai.networks.nets import UNet

import nvgen_aug as nv

K = ("image", "label")
LABELS = nv.LabelMap({"lesion": 1}, others="background")
GOAL = {"lesion": 0.5, "lesion < 10 mm": 0.25}  # shares of all samples
RECIPE = nv.Recipe(pathology={"lesion": nv.Lesions(count=(1, 3), diameter=(5, 20))})

LOAD = [
    mt.LoadImaged(K),
    mt.EnsureChannelFirstd(K),
    mt.Orientationd(K, "RAS", labels=None),
    mt.Spacingd(K, (3.0, 3.0, 3.0), mode=("bilinear", "nearest")),
]
PREP = [mt.NormalizeIntensityd("image", nonzero=True)]
AUG = [
    mt.SpatialPadd(K, (48, 48, 48)),
    mt.RandCropByPosNegLabeld(K, "label", (48, 48, 48), num_samples=1),
    mt.RandFlipd(K, prob=0.5, spatial_axis=0),
]


def main() -> None:
    args = arguments()
    recipe = RECIPE if not args.quick else nv.Recipe(pathology=RECIPE.pathology, steps=2)
    with nv.serve("tiny-brain", cache=args.cache) as source:
        files = patients(args.data) if args.data else stand_ins(source, recipe, args.out)
        real = CacheDataset(files, mt.Compose(LOAD + PREP), progress=False)

        census = nv.census(real, LABELS, path=args.out / "census.json")
        print(census)
        strata = nv.Strata(GOAL, census, fill="real" if args.control else "synthetic")
        synthetic = nv.SyntheticDataset(
            source, recipe, labels=LABELS, transform=PREP, max_reuse=4, seed=7
        )
        train = nv.SyntheticRealDataset(
            real, synthetic, ratio=args.ratio, strata=strata, transform=AUG, epochs=args.epochs
        )
        fit(train, args.epochs, args.batch_size)
        print(train.report())


def fit(train: nv.SyntheticRealDataset, epochs: int, batch_size: int) -> None:
    """Any training loop; the sampler is all it needs to know."""
    sampler = train.sampler(batch_size)
    loader = DataLoader(train, batch_size=batch_size, sampler=sampler, num_workers=2)
    network = UNet(3, 1, 2, channels=(8, 16, 32), strides=(2, 2))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    for epoch in range(epochs):
        train.set_epoch(epoch)
        losses = []
        for batch in loader:
            loss = loss_of(network(batch["image"]), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.3f}")


def patients(folder: Path) -> list[dict[str, str]]:
    """The training cases of a folder in the layout of the Decathlon."""
    return load_decathlon_datalist(folder / "dataset.json", True, "training")


def stand_ins(source: nv.VolumeSource, recipe: nv.Recipe, folder: Path) -> list[dict[str, str]]:
    """Six files in the place of patients, two of them with a lesion; not for any comparison."""
    files = []
    for case in range(6):
        lesions = (("lesion", 14.0),) if case % 3 == 0 else ()
        spec = nv.VolumeSpec("tiny-brain", seed=1000 + case, pathology=lesions, steps=recipe.steps)
        volume = source.fetch(spec)
        assert volume.label is not None
        label = (volume.label[0] == source.card.vocabulary["lesion"]).astype("uint8")
        names = {key: str(folder / f"case_{case}_{key}.nii.gz") for key in K}
        nibabel.save(nibabel.Nifti1Image(volume.image[0], volume.affine), names["image"])
        nibabel.save(nibabel.Nifti1Image(label, volume.affine), names["label"])
        files.append(names)
    return files


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with dataset.json")
    parser.add_argument("--out", type=Path, default=Path("runs/oversample_rare"))
    parser.add_argument("--cache", type=Path, help="where synthetic volumes are kept")
    parser.add_argument("--ratio", type=float, default=0.4, help="share of synthetic samples")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--control", action="store_true", help="repeat patients instead")
    parser.add_argument("--quick", action="store_true", help="stand-ins, two epochs, rough images")
    args = parser.parse_args()
    if args.data is None and not args.quick:
        parser.error("--data FOLDER is needed, or --quick to try it without")
    if args.quick:
        args.epochs = min(args.epochs, 2)
    args.out.mkdir(parents=True, exist_ok=True)
    return args


if __name__ == "__main__":
    main()
