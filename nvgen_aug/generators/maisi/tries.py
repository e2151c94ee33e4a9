"""Tries: a volume that fails its checks is made again from another seed, a few times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace
from typing import Any
from typing import Final
from typing import final

from ...errors import QualityError
from ...spec import VolumeSpec
from ...volume import Generated
from ...volume import Latent
from ...volume import SyntheticVolume
from .quality import Fault
from .quality import faults_of
from .streams import RETRY
from .streams import chance
from .variants import Variant

# What a second seed does not mend, a third does only if chance was to blame.
MOST: Final = 3


@final
@dataclass(frozen=True, slots=True)
class Try:
    """One attempt at a volume.

    Attributes:
        number: From 1 on.
        seed: What label and noise are drawn from: the spec's, and after that one of its own.
    """

    number: int
    seed: int

    def provenance(self) -> dict[str, Any]:
        """What the record of a volume says of it."""
        retry_seed = self.seed if self.number > 1 else 0
        return {"attempts": self.number, "retry_seed": retry_seed, "quality": "finite"}


@final
class Tries:
    """The attempts at one volume, judged one after another.

    Which of them is handed out depends on the spec and the weights alone: the seeds follow from
    the spec's, and so does every verdict.

    Args:
        spec: Resolved.
        variant: Whose checks apply.
        can_be_marked: Whether what fails is handed out with its faults in its provenance: it lies
            outside the training data, and was asked for all the same.
    """

    def __init__(self, spec: VolumeSpec, variant: Variant, *, can_be_marked: bool = False) -> None:
        self._spec = spec
        self._variant = variant
        self._can_be_marked = can_be_marked
        self._faults: list[list[Fault]] = []

    def __iter__(self) -> Iterator[Try]:
        for number in range(1, MOST + 1):
            yield Try(number, self._seed(number))

    def failed(self, text: str) -> None:
        """The try under way gave no voxels."""
        self._faults.append([Fault("not finite", text)])

    def judged(self, latent: Latent, volume: SyntheticVolume) -> Generated | None:
        """The volume as it is handed out, or `None` if it may not be."""
        label = None if volume.label is None else volume.label[0]
        faults = faults_of(volume.image[0], label, self._spec, self._variant)
        if faults and not self._can_be_marked:
            self._faults.append(faults)
            return None
        passed = "finite, not constant" + ("" if label is None else ", as its label says")
        quality = "failed: " + "; ".join(fault.text for fault in faults) if faults else passed
        provenance = latent.provenance.with_(quality=quality)
        return Generated(
            replace(latent, provenance=provenance),
            replace(volume, provenance=provenance),
            self._reasons(),
        )

    def refusal(self) -> QualityError:
        """The error that says what was wrong with the first try, and how many there were."""
        texts = "; ".join(fault.text for fault in self._faults[0])
        number = len(self._faults)
        msg = (
            f"`{self._variant.name}` made the volume of seed {self._spec.seed} {number} times, "
            f"each from another seed, and it failed its checks: {texts}; ask for another seed or "
            "more steps, or look at the mask or image that it must follow"
        )
        error = QualityError(msg)
        error.rejected = self._reasons()
        return error

    def _reasons(self) -> tuple[str, ...]:
        return tuple(fault.reason for faults in self._faults for fault in faults)

    def _seed(self, number: int) -> int:
        if number == 1:
            return self._spec.seed
        return int(chance(self._spec.seed, RETRY).integers(0, 2**63 - 1, MOST)[number - 1])
