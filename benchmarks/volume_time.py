"""How long does one volume take, from a spec to voxels?

    python -m benchmarks.volume_time [--quick]

Times `Generator.generate` on distinct specs, and its two halves, the flow
(`latent`) and the whole decode (`decode`), in one process after a warm-up.
"""

from __future__ import annotations

from itertools import count

import torch

from benchmarks.timing import measure
from benchmarks.timing import quick_parser
from benchmarks.timing import write_record
from nvgen_aug.assembly import load_generator
from nvgen_aug.spec import VolumeSpec


def main() -> None:
    """Measure, print a table, write the record."""
    parser = quick_parser(__doc__ or "")
    parser.add_argument("--variant", default="tiny-brain")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    variant = "phantom" if arguments.quick else arguments.variant
    generator = load_generator(variant)
    seeds = count(1)

    def spec() -> VolumeSpec:
        return generator.card.resolve(VolumeSpec(variant, seed=next(seeds)))

    latent = generator.generate(spec()).latent
    timings = {
        "volume": measure(lambda: generator.generate(spec()), runs=arguments.runs),
        "flow": measure(lambda: generator.latent(spec()), runs=arguments.runs),
        "decode": measure(lambda: generator.decode(latent), runs=arguments.runs),
    }
    settings = {
        "variant": variant,
        "size": list(generator.card.default_size),
        "steps": generator.card.default_steps,
        "threads": torch.get_num_threads(),
    }
    print(f"{variant} {settings['size']} on {settings['threads']} threads")
    for name, timing in timings.items():
        low, high = min(timing.seconds), max(timing.seconds)
        print(
            f"  {name:8s} {timing.median:8.3f} s   ({low:.3f} to {high:.3f}, {arguments.runs} runs)"
        )
    numbers = {name: timing.to_dict() for name, timing in timings.items()}
    write_record("volume_time", settings, numbers, arguments)


if __name__ == "__main__":
    main()
