"""How much longer does a training step take when 30 % of the samples are synthetic?

    python -m benchmarks.training_step [--quick] [--device DEVICE]

Steps of a MONAI UNet with Adam and mixed Dice and cross-entropy loss, its loader included. Real
cases lie in memory (MONAI's `CacheDataset`), so that any cost of the synthetic ones shows; those
lie warm in the cache. On a processor the loader's worker and the network share the cores.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any
from typing import final

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet

from benchmarks.contest import Bar
from benchmarks.contest import Entrant
from benchmarks.contest import hold
from benchmarks.mixture import mixture
from benchmarks.outcome import conclude
from benchmarks.timing import device_parser

CLASSES = 4
REAL, MIXED, NONE = "real only", "30 % synthetic, warm", "no loader"


def main() -> None:
    """Measure, print the table, write the record."""
    parser = device_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    is_gpu = arguments.device != "cpu"
    edge, part, samples = (32, 16, 8) if arguments.quick else (128, 64, 24)
    if is_gpu and not arguments.quick:
        edge, part, samples = 192, 96, 120
    workers = 8 if is_gpu else 1
    with mixture(edge, part, samples=samples, workers=workers) as data:
        trainer = Trainer(arguments.device, is_wide=is_gpu)
        loaders = {
            REAL: data.real_only(in_memory=True),
            MIXED: data.mixed(0.3, in_memory=True),
            NONE: [_batch(part)] * (samples // 2),
        }
        entrants = [
            Entrant(
                name,
                lambda loader=loader: trainer.epoch(loader),  # type: ignore[misc]
                is_ours=name == MIXED,
                note="the same batch again and again" if name == NONE else "",
                items=samples // 2,
            )
            for name, loader in loaders.items()
        ]
        standing = hold(
            f"Batches of 2 × {part}³ of {edge}³, {workers} workers",
            entrants,
            rounds=_rounds(arguments),
            device=arguments.device,
            budget_seconds=90.0,
            memory=False,
            item="step",
        )
    slower = standing.times_faster(REAL, MIXED) - 1
    bars = [Bar("on a GPU: slowed by mixing at 30 %", slower if is_gpu else None, 0.02, True)]
    settings = {"workers": workers, "steps_in_an_epoch": samples // 2}
    conclude("training_step", arguments, [standing], bars, settings)


@final
class Trainer:
    """A segmenter in training.

    Args:
        device: Where.
        is_wide: Of a width that keeps a GPU busy.
    """

    def __init__(self, device: str, *, is_wide: bool) -> None:
        torch.manual_seed(0)
        channels = (32, 64, 128, 256) if is_wide else (8, 16, 32)
        self._device = device
        self._network = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=CLASSES,
            channels=channels,
            strides=(2,) * (len(channels) - 1),
            num_res_units=1,
        ).to(device)
        self._loss = DiceCELoss(to_onehot_y=True, softmax=True)
        self._optimizer = torch.optim.Adam(self._network.parameters(), 1e-4)

    def epoch(self, loader: Any) -> float:
        """Train on every batch of a loader; the last loss."""
        loss = torch.zeros(())
        for batch in loader:
            image, label = (batch[key].to(self._device) for key in ("image", "label"))
            self._optimizer.zero_grad()
            with torch.autocast("cuda", enabled=self._device != "cpu"):
                loss = self._loss(self._network(image / 1000.0), label)
            loss.backward()
            self._optimizer.step()
        return float(loss.detach())


def _rounds(arguments: Namespace) -> int:
    return 1 if arguments.quick else int(arguments.rounds)


def _batch(part: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 1, part, part, part)
    return {
        "image": torch.randn(shape, generator=generator) * 1000,
        "label": torch.randint(0, CLASSES, shape, generator=generator).float(),
    }


if __name__ == "__main__":
    main()
