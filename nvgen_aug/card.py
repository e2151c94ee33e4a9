"""VariantCard: what the outside may know of a loaded variant."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any
from typing import final

from .errors import SpecError
from .errors import did_you_mean
from .spec import VolumeSpec


@final
@dataclass(frozen=True, slots=True)
class VariantCard:
    """The facts that labels, recipes and checks need, without a generator.

    Every `VolumeSource` has one; a server sends it first.

    Args:
        name: Name of the variant.
        weights_digest: SHA-256 of its weights as 64 hex digits.
        generator_revision: Changes when the same weights would give other voxels.
        vocabulary: Label names and their ids.
        has_labels: Whether volumes come with a label.
        modalities: Names of the contrasts and their ids in the model.
        intensity: What the int16 voxels mean, such as `"HU"`.
        licence: Licence of the weights.
        default_size, default_spacing, default_modality, default_solver,
        default_steps, default_guidance: What `None` in a spec becomes.
        legal_sizes: Sizes that can be made, for each axis.
        spacing_range: Least and greatest spacing in mm.
        solvers: Names of the solvers on offer.
        reference_solver, reference_steps: What NV-Generate uses, and what `None` becomes in a
            spec that asks for its numerics; the steps also stand where that solver is named.
        pathology: Label names that can be asked for with a diameter.
        pathology_range: Least and greatest diameter in mm.
        steps_range: Least and greatest number of evaluations.
    """

    name: str
    weights_digest: str
    generator_revision: str
    vocabulary: Mapping[str, int]
    has_labels: bool
    modalities: Mapping[str, int]
    intensity: str
    licence: str
    default_size: tuple[int, int, int]
    default_spacing: tuple[float, float, float]
    default_modality: str
    legal_sizes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    spacing_range: tuple[float, float]
    default_solver: str = "euler"
    default_steps: int = 30
    default_guidance: float = 0.0
    solvers: tuple[str, ...] = ("euler",)
    pathology: tuple[str, ...] = ()
    pathology_range: tuple[float, float] = (1.0, 100.0)
    steps_range: tuple[int, int] = (1, 1000)
    reference_solver: str = "euler"
    reference_steps: int = 30
    notes: str = field(default="", compare=False)

    def resolve(self, spec: VolumeSpec) -> VolumeSpec:
        """The spec with every default filled in, checked against this card.

        Raises:
            SpecError: naming the field, what came, and the nearest legal value.
        """
        if spec.variant != self.name:
            msg = f"variant `{spec.variant}` was asked of a source that makes `{self.name}`"
            raise SpecError(msg)
        solver = spec.solver
        if solver is None:
            is_reference = spec.numerics == "reference"
            solver = self.reference_solver if is_reference else self.default_solver
        is_other = solver == self.reference_solver != self.default_solver
        resolved = replace(
            spec,
            size=spec.size or self.default_size,
            spacing=spec.spacing or self.default_spacing,
            modality=spec.modality or self.default_modality,
            solver=solver,
            steps=spec.steps or (self.reference_steps if is_other else self.default_steps),
            guidance=self.default_guidance if spec.guidance is None else spec.guidance,
        )
        self._check(resolved)
        return resolved

    def _check(self, spec: VolumeSpec) -> None:
        assert spec.size is not None
        assert spec.spacing is not None
        assert spec.modality is not None
        assert spec.steps is not None
        if any(n not in legal for n, legal in zip(spec.size, self.legal_sizes, strict=True)):
            nearest = tuple(
                min(legal, key=lambda m, n=n: (abs(m - n), m))  # type: ignore[misc]
                for n, legal in zip(spec.size, self.legal_sizes, strict=True)
            )
            msg = f"`{self.name}` cannot make size {spec.size}; the nearest legal size is {nearest}"
            raise SpecError(msg)
        low, high = self.spacing_range
        if not all(low <= mm <= high for mm in spec.spacing):
            nearest_mm = tuple(min(max(mm, low), high) for mm in spec.spacing)
            msg = (
                f"`{self.name}` makes spacings of {low} to {high} mm, got {spec.spacing}; "
                f"the nearest is {nearest_mm}"
            )
            raise SpecError(msg)
        if spec.modality not in self.modalities:
            msg = (
                f"`{self.name}` has no modality `{spec.modality}`; "
                f"{did_you_mean(spec.modality, self.modalities)}"
            )
            raise SpecError(msg)
        if spec.solver not in self.solvers:
            msg = f"solver must be one of {self.solvers}, got {spec.solver!r}"
            raise SpecError(msg)
        if spec.numerics == "reference" and spec.solver != self.reference_solver:
            msg = (
                f"numerics `reference` repeat NV-Generate, whose solver is "
                f"`{self.reference_solver}`, got solver `{spec.solver}`; ask for numerics `exact`"
            )
            raise SpecError(msg)
        if not self.steps_range[0] <= spec.steps <= self.steps_range[1]:
            msg = f"steps must lie in {list(self.steps_range)}, got {spec.steps}"
            raise SpecError(msg)
        for name in spec.anatomy:
            if name not in self.vocabulary:
                msg = f"`{self.name}` has no label `{name}`; {did_you_mean(name, self.vocabulary)}"
                raise SpecError(msg)
        least, most = self.pathology_range
        for name, diameter in spec.pathology:
            if name not in self.pathology:
                msg = (
                    f"`{self.name}` cannot place `{name}`; {did_you_mean(name, self.pathology)}"
                    if self.pathology
                    else f"`{self.name}` cannot place lesions, got pathology `{name}`"
                )
                raise SpecError(msg)
            if not least <= diameter <= most:
                msg = f"`{name}` diameters are {least} to {most} mm, got {diameter}"
                raise SpecError(msg)

    def latent_key(self, spec: VolumeSpec) -> str:
        """64 hex digits that name the latent of a resolved spec made by this generator.

        Device, backend and precision are provenance, not part of the key.
        """
        if not spec.is_resolved:
            msg = f"only a resolved spec has a key; call `source.resolve` first: {spec}"
            raise SpecError(msg)
        text = "\n".join(("latent", spec.to_json(), self.weights_digest, self.generator_revision))
        return hashlib.sha256(text.encode()).hexdigest()

    def volume_key(self, spec: VolumeSpec) -> str:
        """64 hex digits that name the decoded volume of a resolved spec."""
        text = "\n".join(("volume", self.latent_key(spec), "full", "int16"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """The card as one line of JSON."""
        values = asdict(self)
        values["vocabulary"] = dict(self.vocabulary)
        values["modalities"] = dict(self.modalities)
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> VariantCard:
        """The card that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = _tuples(value)
        return cls(**values)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
