"""How long does the decode of a whole volume take, beside MONAI's and NV-Generate's?

    python -m benchmarks.decode_whole [--quick] [--device DEVICE]

The same random weights and latents for all, full width unless a title says narrow. MONAI's network
is `AutoencoderKlMaisi` as NV-Generate configures it, with its convolutions cut in 4 parts. The
sliding window is MONAI's with NV-Generate's overlap and its ratio of tile to latent. Errors are
against MONAI's whole decode in float32; a sliding window uses each tile's own statistics, hence its
error. `NV_GENERATE_CTMR=DIR` adds the code of a checkout as it is.
"""

from __future__ import annotations

from argparse import Namespace

import torch

from benchmarks.contest import Bar
from benchmarks.contest import Entrant
from benchmarks.contest import Standing
from benchmarks.contest import hold
from benchmarks.decoders import Decoders
from benchmarks.full_width import AUTOENCODER
from benchmarks.full_width import NARROW_AUTOENCODER
from benchmarks.nv_generate import TILINGS
from benchmarks.nv_generate import NvGenerate
from benchmarks.nv_generate import Tiling
from benchmarks.outcome import conclude
from benchmarks.timing import device_parser

OURS, UNDIVIDED, SLABS, MONAI = "ours", "ours, undivided", "ours, in slabs", "MONAI whole"
SLAB_PLANES = 16
SLAB_NOTE = f"{SLAB_PLANES} planes each: what larger volumes need, which do not fit undivided"
# Of the 8 minutes that a GPU is lent for, what one size of the largest may take.
GPU_SECONDS = 75.0
# Compilation is most of it.
PROCESSOR_SECONDS = 150.0


def main() -> None:
    """Measure, print tables and bars, write the record."""
    parser = device_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    checkout = NvGenerate.from_environment()
    measure = _on_processor if arguments.device == "cpu" else _on_gpu
    standings = measure(arguments, checkout)
    if arguments.device == "cpu":
        # The bars are of the full width, which a quick run leaves out.
        bars = [] if arguments.quick else _bars(standings)
    else:
        bars = _gpu_bars(standings)
    conclude("decode_whole", arguments, standings, bars)


def _on_processor(arguments: Namespace, checkout: NvGenerate | None) -> list[Standing]:
    narrow_edge, rounds = (12, 1) if arguments.quick else (32, arguments.rounds)
    tile = narrow_edge * 5 // 8  # 80 of 128 in NV-Generate's configuration for 512³
    narrow = Decoders(NARROW_AUTOENCODER, (narrow_edge,) * 3)
    # A tile of 7³ in parts would lose planes in MONAI's convolutions.
    tiling = Tiling((tile,) * 3, 0.4, 1 if arguments.quick else 4)
    peers = [_monai(narrow, 4), _monai(narrow, 1)]
    if not arguments.quick:  # it compiles for a minute, or for four on a busy machine
        note = "num_splits=1, default flags; the first run compiles"
        peers.append(Entrant("MONAI, torch.compile", narrow.compiled(), note=note, may_fail=True))
    peers.append(
        Entrant(
            "MONAI, sliding window",
            narrow.windowed(tiling),
            note=f"tiles of {tile}³, overlap 0.4, Gaussian blend: 1.95 times the work at 32³",
        )
    )
    if checkout is not None:
        run = narrow.of_checkout(checkout, tiling)
        peers.append(Entrant("NV-Generate", run, note="a checkout, unmodified", may_fail=True))
    edge = 4 * narrow_edge
    title = f"Narrow network, {narrow_edge}³ latent to {edge}³, float32"
    standings = [_hold(title, narrow, [*_ours(narrow), *peers], rounds, PROCESSOR_SECONDS)]
    if not arguments.quick:
        full = Decoders(AUTOENCODER, (16, 16, 16))
        title = "Full width, 16³ latent to 64³, float32"
        plans = [
            Entrant(UNDIVIDED, full.planned("whole", None), is_ours=True),
            Entrant(SLABS, full.planned("slabs", SLAB_PLANES), is_ours=True, note=SLAB_NOTE),
        ]
        standings.insert(0, _hold(title, full, [*_ours(full), *plans, _monai(full, 4)], rounds))
    return standings


def _on_gpu(arguments: Namespace, checkout: NvGenerate | None) -> list[Standing]:
    standings = []
    shape = NARROW_AUTOENCODER if arguments.quick else AUTOENCODER
    for size, tiling in TILINGS.items():
        latent = (size[0] // 4, size[1] // 4, size[2] // 4)
        decoders = Decoders(shape, latent, arguments.device, "fp16")
        window = " × ".join(map(str, tiling.window))
        entrants = [
            *_ours(decoders),
            _monai(decoders, 4, may_fail=True),
            Entrant(
                "MONAI, sliding window",
                decoders.windowed(tiling),
                note=f"NV-Generate's: tiles of {window}, overlap {tiling.overlap:g}",
                may_fail=True,
            ),
        ]
        if checkout is not None:
            run = decoders.of_checkout(checkout, tiling)
            entrants.append(Entrant("NV-Generate", run, note="a checkout", may_fail=True))
        title = f"Full width, to {' × '.join(map(str, size))}, float16"
        standings.append(_hold(title, decoders, entrants, arguments.rounds, GPU_SECONDS))
        del decoders, entrants
        torch.cuda.empty_cache()
    return standings


def _hold(
    title: str,
    decoders: Decoders,
    entrants: list[Entrant],
    rounds: int,
    budget_seconds: float = 600.0,
) -> Standing:
    return hold(
        title,
        entrants,
        rounds=rounds,
        budget_seconds=budget_seconds,
        check=decoders.relative_rms,
        error_name="relative RMS",
        device=decoders.device,
    )


def _ours(decoders: Decoders) -> list[Entrant]:
    return [Entrant(OURS, decoders.ours(), is_ours=True)]


def _monai(decoders: Decoders, splits: int, *, may_fail: bool = False) -> Entrant:
    name = MONAI if splits == 4 else f"{MONAI}, num_splits={splits}"
    return Entrant(name, decoders.monai(splits), may_fail=may_fail)


def _bars(standings: list[Standing]) -> list[Bar]:
    full = standings[0]
    ours, peer = full[OURS].peak_mib, full[MONAI].peak_mib
    memory = None if ours is None or peer is None else ours / peer
    return [
        Bar("full width to 64³, float32: times faster than MONAI", _faster(full, MONAI), 1.25),
        Bar("the same: peak memory, ours over MONAI's", memory, 1.0, is_most=True),
        Bar("the same: slabs over undivided", full.times_faster(UNDIVIDED, SLABS), 1.15, True),
        Bar("the same in bfloat16, where the processor has it: times faster", None, 2.0),
    ]


def _gpu_bars(standings: list[Standing]) -> list[Bar]:
    largest = standings[-1]
    tiles = "MONAI, sliding window"
    return [
        Bar("512³, float16: seconds", largest.seconds(OURS), 1.2, is_most=True),
        Bar("512³, float16: times faster than MONAI's tiles", _faster(largest, tiles), 10.0),
    ]


def _faster(standing: Standing, peer: str) -> float:
    return standing.times_faster(OURS, peer)


if __name__ == "__main__":
    main()
