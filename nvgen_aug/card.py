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

from .envelope import Envelope
from .envelope import Verdict
from .errors import SpecError
from .legality import check
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
        has_labels: Whether volumes can come with a label.
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
        hosts: For each of these, the labels that it takes the place of in a mask.
        pathology_range: Least and greatest diameter in mm.
        steps_range: Least and greatest number of evaluations.
        draws_labels: Whether a label is drawn for a spec without a mask; if not, such a
            volume is an image alone.
        aliases: Other names of labels, such as those of TotalSegmentator.
        has_guidance: Whether guidance on the modality is possible.
        guides_tumours: Whether guidance on the tumours of a label is.
        body_regions: Regions of the body that a spec may name, from head to foot.
        default_body_region: What `None` becomes where no mask says it.
        envelope: What the model was trained on; `None` if sizes and spacings say it all.
        has_images_alone: Whether an image can be made without a label.
        sized_organs, sized_tumours: Names that can be asked for with a size; of the tumours one
            in a volume.
        default_mask_steps: What `None` becomes where the label map is drawn in steps.
        mask_networks: What would let this variant draw label maps; empty if it does, or never can.
        mask_bank: Digest of the bank of masks to which the source binds a spec without a mask;
            empty if it has none.
        image_weights: SHA-256 of the weights with which it renders the subject of a given image in
            another contrast; empty if it cannot.
        statistics: Whose statistics the decoder's norms use: `"full"`, the whole volume's, or a
            generator's word for others.
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
    draws_labels: bool = True
    aliases: Mapping[str, str] = field(default_factory=dict)
    has_guidance: bool = True
    body_regions: tuple[str, ...] = ()
    default_body_region: tuple[str, str] | None = None
    envelope: Envelope | None = None
    statistics: str = "full"
    has_images_alone: bool = False
    sized_organs: tuple[str, ...] = ()
    sized_tumours: tuple[str, ...] = ()
    default_mask_steps: int | None = None
    mask_networks: str = ""
    guides_tumours: bool = False
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mask_bank: str = ""
    image_weights: str = ""
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
        is_given = self.has_mask(spec) or spec.image is not None
        draws = self.draws_labels and not is_given and not spec.image_only
        is_told = self.draws_labels or spec.mask is not None
        default = self.default_mask_steps
        is_other = solver == self.reference_solver != self.default_solver
        resolved = replace(
            spec,
            size=spec.size or self.default_size,
            spacing=spec.spacing or self.default_spacing,
            modality=spec.modality or self.default_modality,
            solver=solver,
            steps=spec.steps or (self.reference_steps if is_other else self.default_steps),
            guidance=self.default_guidance if spec.guidance is None else spec.guidance,
            anatomy=tuple(self.canonical(name) for name in spec.anatomy),
            pathology=tuple((self.canonical(name), size) for name, size in spec.pathology),
            body_region=spec.body_region
            or (None if self.gives_label(spec) else self.default_body_region),
            organ_sizes=tuple(sorted((self.canonical(n), size) for n, size in spec.organ_sizes)),
            mask_steps=default and (spec.mask_steps or default) if draws else None,
            # Two ways to ask for the same voxels must not have two keys.
            image_only=spec.image_only and is_told,
        )
        check(self, resolved)
        if resolved.allow_out_of_distribution and self.outside(resolved) is None:
            resolved = replace(resolved, allow_out_of_distribution=False)
        return resolved

    def canonical(self, name: str) -> str:
        """The vocabulary's own name of a label."""
        return self.aliases.get(name, name)

    def gives_label(self, spec: VolumeSpec) -> bool:
        """Whether the volume of a spec comes with a label."""
        drawn = self.draws_labels and spec.image is None
        is_given = drawn or spec.mask is not None
        return self.has_labels and is_given and not spec.image_only

    def binds_mask(self, spec: VolumeSpec) -> bool:
        """Whether the source will choose a mask of its bank for a spec."""
        can_draw = self.default_mask_steps is not None
        is_drawn = bool(spec.organ_sizes) or (can_draw and spec.mask_steps is not None)
        # No mask of a bank is of the subject that an image shows.
        is_free = spec.mask is None and spec.image is None and not spec.image_only
        return bool(self.mask_bank) and is_free and not is_drawn

    def has_mask(self, spec: VolumeSpec) -> bool:
        """Whether a stored mask is the label of a spec, be it named or yet to be chosen."""
        return spec.mask is not None or self.binds_mask(spec)

    def outside(self, spec: VolumeSpec) -> Verdict | None:
        """In what a resolved spec lies outside the training data; `None` if it does not."""
        if self.envelope is None:
            return None
        assert spec.size is not None
        assert spec.spacing is not None
        assert spec.modality is not None
        return self.envelope.judge(spec.size, spec.spacing, spec.modality)

    @property
    def ways_to_labels(self) -> str:
        """What to do for a label where none is drawn."""
        if self.has_labels:
            ways = (
                "give masks of your own, Recipe(mask=source.put(array, affine)), or use the images"
            )
            return (
                f"{self.mask_networks}; or {ways} alone" if self.mask_networks else f"{ways} alone"
            )
        return (
            "use a variant with labels, such as `tiny-brain` or `rflow-ct` with masks, or use the "
            "images alone"
        )

    def latent_key(self, spec: VolumeSpec) -> str:
        """64 hex digits that name the latent of a resolved spec made by this generator.

        Device, backend and precision are provenance, not part of the key.
        """
        if not spec.is_resolved:
            msg = f"only a resolved spec has a key; call `source.resolve` first: {spec}"
            raise SpecError(msg)
        if self.binds_mask(spec):
            msg = f"only a spec that is bound to a mask has a key; call `source.resolve`: {spec}"
            raise SpecError(msg)
        parts = ["latent", spec.to_json(), self.weights_digest, self.generator_revision]
        if spec.image is not None:
            parts.append(self.image_weights)
        text = "\n".join(parts)
        return hashlib.sha256(text.encode()).hexdigest()

    def volume_key(self, spec: VolumeSpec) -> str:
        """64 hex digits that name the decoded volume of a resolved spec."""
        text = "\n".join(("volume", self.latent_key(spec), self.statistics, "int16"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """The card as one line of JSON."""
        values = asdict(self)
        values["vocabulary"] = dict(self.vocabulary)
        values["modalities"] = dict(self.modalities)
        values["aliases"] = dict(self.aliases)
        values["hosts"] = dict(self.hosts)
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> VariantCard:
        """The card that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = _tuples(value)
        values["hosts"] = {name: _tuples(organs) for name, organs in values["hosts"].items()}
        if values.get("envelope") is not None:
            values["envelope"] = Envelope.from_values(values["envelope"])
        return cls(**values)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
