"""Data: synthetic and real samples in one dataset, at an exact share."""

from .plan import Plan
from .plan import SampleKey
from .report import BlendReport
from .sampler import SyntheticRealSampler
from .synthetic import SyntheticDataset
from .synthetic_real import SyntheticRealDataset

__all__ = [
    "BlendReport",
    "Plan",
    "SampleKey",
    "SyntheticDataset",
    "SyntheticRealDataset",
    "SyntheticRealSampler",
]
