"""Data: synthetic and real samples in one dataset, at an exact share."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from .plan import Plan as Plan
    from .plan import SampleKey as SampleKey
    from .report import BlendReport as BlendReport
    from .sampler import SyntheticRealSampler as SyntheticRealSampler
    from .synthetic import SyntheticDataset as SyntheticDataset
    from .synthetic_real import SyntheticRealDataset as SyntheticRealDataset

# Names are resolved on first use, so that a plan can be printed without torch.
_HOME = {
    "BlendReport": "report",
    "Plan": "plan",
    "SampleKey": "plan",
    "SyntheticDataset": "synthetic",
    "SyntheticRealDataset": "synthetic_real",
    "SyntheticRealSampler": "sampler",
}

__all__ = [  # the order of _HOME, so that one list serves
    *_HOME
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
