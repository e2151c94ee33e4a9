"""Quality: what a generated image must satisfy before anyone sees it."""

from __future__ import annotations

import torch

from ...errors import GenerationError


def check_finite(values: torch.Tensor, what: str, seed: int) -> None:
    """Refuse NaN and infinity.

    Raises:
        GenerationError: Naming what is not finite, where, and for which seed.
    """
    if not bool(torch.isfinite(values).all()):
        bad = int((~torch.isfinite(values)).sum())
        msg = (
            f"{bad} of {values.numel()} values of the {what} for seed {seed} are not finite; "
            "draw another seed, and report this one with its spec"
        )
        raise GenerationError(msg)
