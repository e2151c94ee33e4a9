"""How long does the flow take, one step and a whole latent, beside MONAI's networks?

    python -m benchmarks.flow [--quick] [--device DEVICE]

The same random weights, noise and mask for both, ControlNet included, no guidance. MONAI's are
called as NV-Generate's loop calls them: mask and times are encoded again in every step, and its
scheduler takes the steps. Ours encodes them once for a latent, and takes the same 30 Euler steps,
with NV-Generate's rounding of times, so that the ends can be compared; other solvers have a
question of their own. On a processor most of the error is torch's group norm, which in the layout
that ours uses loses digits where a channel's mean is far from zero, as random weights make it.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.contest import Bar
from benchmarks.contest import Entrant
from benchmarks.contest import Standing
from benchmarks.contest import hold
from benchmarks.flows import Flows
from benchmarks.flows import Run
from benchmarks.full_width import FLOW
from benchmarks.full_width import NARROW_FLOW
from benchmarks.outcome import conclude
from benchmarks.timing import device_parser

GPU_LATENTS = ((64, 64, 32), (64, 64, 64), (128, 128, 32), (128, 128, 128))
OURS, MONAI = "ours", "MONAI"


def main() -> None:
    """Measure, print the tables, write the record."""
    parser = device_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rounds, is_gpu = (1 if arguments.quick else arguments.rounds), arguments.device != "cpu"
    shape, width = (NARROW_FLOW, "Narrow networks") if arguments.quick else (FLOW, "Full width")
    latents = GPU_LATENTS if is_gpu else ((8, 8, 8) if arguments.quick else (16, 16, 16),)
    steps = 3 if arguments.quick else 30
    standings = []
    for latent in latents:
        flows = Flows(shape, latent, arguments.device, steps)
        name = f"{width}, {' × '.join(map(str, latent))} latent"
        standings.append(_step(name, flows, rounds))
        if is_gpu:
            standings.append(_volume(name, flows, rounds))
    if not is_gpu:
        edge = 8 if arguments.quick else 16
        small = Flows(NARROW_FLOW, (edge, edge, edge), steps=steps)
        standings.append(_volume(f"Narrow networks, {edge}³ latent", small, rounds))
    largest = standings[-1].seconds(OURS) if is_gpu else None
    bars = [Bar("512³, float16, 30 steps with ControlNet: seconds", largest, 2.6, True)]
    conclude("flow", arguments, standings, bars)


def _step(name: str, flows: Flows, rounds: int) -> Standing:
    return _hold(f"{name}: one step", flows, flows.our_step, flows.monai_step, rounds)


def _volume(name: str, flows: Flows, rounds: int) -> Standing:
    return _hold(
        f"{name}: {flows.steps} steps", flows, flows.our_volume, flows.monai_volume, rounds
    )


def _hold(
    title: str, flows: Flows, ours: Callable[[], Run], monai: Callable[[], Run], rounds: int
) -> Standing:
    return hold(
        title,
        [Entrant(OURS, ours(), is_ours=True), Entrant(MONAI, monai())],
        rounds=rounds,
        budget_seconds=60.0,
        check=flows.difference(monai()),
        error_name="relative RMS to MONAI",
        device=flows.device,
    )


if __name__ == "__main__":
    main()
