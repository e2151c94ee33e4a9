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
        refuse_unless_finite(int((~torch.isfinite(values)).sum()), values.numel(), what, seed)


def refuse_unless_finite(bad: int, count: int, what: str, seed: int) -> None:
    """As `check_finite`, for values that have been counted already.

    Raises:
        GenerationError: if any of them is bad.
    """
    if bad:
        msg = (
            f"{bad} of {count} values of the {what} for seed {seed} are not finite; "
            "draw another seed, and report this one with its spec"
        )
        raise GenerationError(msg)
