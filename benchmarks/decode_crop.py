"""How long does a crop take to decode, if the volume was decoded before, and if not?

    python -m benchmarks.decode_crop [--quick] [--device DEVICE]

`warm` knows the group norms' statistics from an earlier whole decode, as every latent in the cache
does; `cold` makes that whole decode first. Both stand beside our own decode of the whole volume and
beside MONAI's. On a processor the networks are narrow; on a GPU they have full width, in fp16.
"""

from __future__ import annotations

import torch

from benchmarks.contest import Bar
from benchmarks.contest import Entrant
from benchmarks.contest import Standing
from benchmarks.contest import hold
from benchmarks.decoders import Decoders
from benchmarks.full_width import AUTOENCODER
from benchmarks.full_width import NARROW_AUTOENCODER
from benchmarks.outcome import conclude
from benchmarks.timing import device_parser

WARM, COLD, WHOLE, MONAI = "ours, warm crop", "ours, cold crop", "ours, whole", "MONAI whole"


def main() -> None:
    """Measure, print the tables and the bars, write the record."""
    parser = device_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    is_gpu, rounds = arguments.device != "cpu", 1 if arguments.quick else arguments.rounds
    edge, part = (48, 16) if arguments.quick else (256, 96 if is_gpu else 64)
    shape = AUTOENCODER if is_gpu and not arguments.quick else NARROW_AUTOENCODER
    latent = (edge // 4, edge // 4, edge // 4)
    decoders = Decoders(shape, latent, arguments.device, "fp16" if is_gpu else "fp32")
    low = (edge - part) // 2
    span = (low, low + part)
    box = (span, span, span)
    crops = {WARM: decoders.crop(box), COLD: decoders.cold_crop(box)}
    wholes = [
        Entrant(WHOLE, decoders.ours(), is_ours=True),
        Entrant(MONAI, decoders.monai(4), may_fail=is_gpu),
    ]

    def error(image: torch.Tensor) -> float:
        return decoders.relative_rms(image, box if image.shape[-1] == part else None)

    standings = {
        name: hold(
            f"{part}³ of {edge}³: {name.removeprefix('ours, ')} against whole",
            [Entrant(name, run, is_ours=True), *wholes],
            rounds=rounds,
            budget_seconds=120.0,
            check=error,
            error_name="relative RMS",
            device=arguments.device,
        )
        for name, run in crops.items()
    }
    bars = _gpu_bars(standings[WARM]) if is_gpu else _bars(standings[WARM])
    conclude("decode_crop", arguments, list(standings.values()), bars)


def _bars(warm: Standing) -> list[Bar]:
    faster = warm.times_faster(WARM, WHOLE)
    return [Bar("64³ of 256³, warm: times faster than our whole decode", faster, 8.0)]


def _gpu_bars(warm: Standing) -> list[Bar]:
    return [Bar("96³ of 256³, warm, float16: seconds", warm.seconds(WARM), 0.015, True)]


if __name__ == "__main__":
    main()
