"""Training: `tiny-brain` from one public template, on a laptop's processor or a GPU."""

from .run import Progress
from .tiny_brain import STAGES
from .tiny_brain import train_tiny_brain

__all__ = ["STAGES", "Progress", "train_tiny_brain"]
