"""MaisiGenerator: a loaded member of the family, from a spec to voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...card import VariantCard
from ...crop import Crop
from ...errors import SpecError
from ...errors import WeightsError
from ...errors import did_you_mean
from ...provenance import Provenance
from ...record import package_version
from ...spec import VolumeSpec
from ...volume import Blob
from ...volume import Generated
from ...volume import Latent
from ...volume import SyntheticVolume
from ..base import Generator
from .backends import BackedNetwork
from .backends import open_backend
from .conditioning import mask_bits
from .engines.parts import Part
from .engines.parts import parts_of
from .engines.store import DEFAULT_FOLDER
from .engines.store import EngineStore
from .flow import SOLVERS
from .flow import draw_noise
from .flow import schedule
from .flow import solve
from .masks.warped_template import Grid
from .masks.warped_template import Template
from .masks.warped_template import draw_anatomy
from .networks import build_autoencoder
from .networks import build_control
from .networks import build_flow
from .placement import PRECISIONS
from .placement import check_convolution
from .placement import chosen_precision
from .placement import place
from .quality import check_finite
from .variants import VARIANTS
from .variants import Variant
from .velocity import ControlStep
from .velocity import FlowStep
from .velocity import Guidance
from .velocity import Velocity
from .weights import SCALE_FACTOR
from .weights import TEMPLATE_FILE
from .weights import WEIGHTS_FILE
from .weights import load_network
from .weights import read_tensors
from .weights import weights_digest

# The two kinds of chance in a volume have streams of their own, so that one mask can be kept while
# the noise changes and the other way round.
_ANATOMY_STREAM, _NOISE_STREAM = 1, 2


@final
class MaisiGenerator(Generator):
    """Draws a label map, solves the flow under it, decodes the latent.

    The same resolved spec gives the same bytes on one machine with one number of threads. The
    latent is rounded to half precision before its first decode, so voxels decoded from a stored
    latent are those of the first time.

    Args:
        variant: What to load.
        device: Where the networks run, such as `"cpu"` or `"cuda:0"`.
        weights: Folder with `weights.safetensors` and `template.safetensors`; the variant's own
            when `None`.
        backend: How the flow's networks run: `"eager"`, `"compiled"`, `"tensorrt"` or
            `"tensorrt-rtx"`.
        precision: `"fp32"`, `"fp16"` or `"bf16"`; fp16 on a GPU and fp32 on a CPU when `None`.
        engines: Folder of built engines; one below the user's cache folder when `None`.

    Raises:
        SpecError: There is no such backend or precision.
        WeightsError: Files are missing, damaged or made for other networks.
        BackendError: The backend cannot run here, or the device computes wrongly in half precision.
    """

    def __init__(
        self,
        variant: Variant,
        *,
        device: str = "cpu",
        weights: Path | None = None,
        backend: str = "eager",
        precision: str | None = None,
        engines: Path | None = None,
    ) -> None:
        folder = variant.folder if weights is None else Path(weights)
        if folder is None:
            msg = f"give the folder with the weights of `{variant.name}`"
            raise WeightsError(msg)
        files = [folder / WEIGHTS_FILE, folder / TEMPLATE_FILE]
        tensors = read_tensors(files[0])
        if SCALE_FACTOR not in tensors:
            msg = f"the weights at {files[0]} have no `{SCALE_FACTOR}`; use the variant's own file"
            raise WeightsError(msg)
        if not files[1].is_file():
            msg = f"there is no template at {files[1]}; reinstall the package"
            raise WeightsError(msg)
        latent = variant.autoencoder.latent
        self.variant = variant
        self.device = torch.device(device)
        self.precision = chosen_precision(precision, self.device)
        if self.device.type == "cuda" and self.precision != "fp32":
            check_convolution(self.device, self.precision)
        self._scale_factor = float(tensors[SCALE_FACTOR])
        self._template = Template.load(files[1])
        self._autoencoder = build_autoencoder(variant.autoencoder)
        self._flow = FlowStep(build_flow(variant.flow, latent))
        self._control = ControlStep(build_control(variant.flow, latent))
        parts: dict[str, nn.Module] = {
            "autoencoder": self._autoencoder,
            "flow": self._flow.network,
            "control": self._control.network,
        }
        for prefix, network in parts.items():
            load_network(network, tensors, prefix, files[0])
        for placed in (self._autoencoder, self._flow, self._control):
            place(placed, self.device, self.precision)
        self._card = _card(variant, weights_digest(files))
        self._backend = open_backend(
            backend,
            device=self.device,
            store=EngineStore(DEFAULT_FOLDER if engines is None else engines),
            variant=variant.name,
            network=self._card.weights_digest,
            precision=self.precision,
        )
        self._run_flow = BackedNetwork("flow", self._flow, self._backend, self.precision)
        self._run_control = BackedNetwork("control", self._control, self._backend, self.precision)

    @classmethod
    def load(
        cls,
        variant: str,
        *,
        device: str = "cpu",
        weights: str | Path | None = None,
        backend: str = "eager",
        precision: str | None = None,
        engines: str | Path | None = None,
    ) -> MaisiGenerator:
        """The generator of a variant's name; other arguments are those of the class.

        Raises:
            SpecError: There is no such variant, backend or precision.
            WeightsError: Its weights are missing, damaged or made for other networks.
            BackendError: The backend cannot run here.
        """
        if variant not in VARIANTS:
            msg = f"there is no variant `{variant}`; {did_you_mean(variant, VARIANTS)}"
            raise SpecError(msg)
        folder = None if weights is None else Path(weights)
        return cls(
            VARIANTS[variant],
            device=device,
            weights=folder,
            backend=backend,
            precision=precision,
            engines=None if engines is None else Path(engines),
        )

    @property
    def card(self) -> VariantCard:
        """What the outside may know of this generator."""
        return self._card

    def parts(self, size: Sequence[int], precision: str | None = None) -> list[Part]:
        """The networks that engines can be built of, with inputs for volumes of one size.

        In another precision than the generator's own they are copies.
        """
        return parts_of(
            self._control,
            self._flow,
            self._autoencoder,
            size=size,
            precision=precision or self.precision,
            compression=self.variant.compression,
        )

    def latent(self, spec: VolumeSpec, mask: Blob | None = None) -> Latent:
        """Label map and latent of a spec; the decoder has not run yet."""
        spec = self._card.resolve(spec)
        assert spec.size is not None
        assert spec.spacing is not None
        grid = Grid(spec.size, spec.spacing)
        if spec.mask is None:
            label, affine = self._drawn_label(spec, grid), grid.affine
        else:
            label, affine = self._given_label(spec, mask)
        tensor = self._sample(spec, torch.from_numpy(label)[None])
        check_finite(tensor, "latent", spec.seed)
        return Latent(
            spec=spec,
            tensor=tensor[0].to("cpu", torch.float16).contiguous().numpy(),
            label=label[None],
            affine=affine,
            provenance=self._provenance(spec),
        )

    def decode(self, latent: Latent, crop: Crop | None = None) -> SyntheticVolume:
        """The voxels of a latent, or of a box of it."""
        return self._decode(latent)[0].cropped(crop)

    def generate(self, spec: VolumeSpec, mask: Blob | None = None) -> Generated:
        """Latent with the decoder's statistics, and the whole volume."""
        latent = self.latent(spec, mask)
        volume, statistics = self._decode(latent)
        return Generated(latent.with_statistics(statistics), volume)

    def _drawn_label(self, spec: VolumeSpec, grid: Grid) -> NDArray[np.uint8]:
        rng = np.random.default_rng(np.random.SeedSequence([spec.seed, _ANATOMY_STREAM]))
        diameters = [diameter for _, diameter in spec.pathology]
        if "lesion" in spec.anatomy and not diameters:
            # A label that must be there, with no word on its size: one of middling size.
            diameters = [float(rng.uniform(8.0, 16.0))]
        return draw_anatomy(self._template, grid, rng, lesion_diameters=diameters).label

    def _given_label(
        self, spec: VolumeSpec, mask: Blob | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        if mask is None:
            msg = f"the spec names mask {spec.mask}, but no mask came with it; `put` it first"
            raise SpecError(msg)
        if mask.array.shape != spec.size or mask.array.dtype != np.uint8:
            msg = (
                f"the mask must be uint8 of the spec's size {spec.size}, "
                f"got {mask.array.dtype} {mask.array.shape}"
            )
            raise SpecError(msg)
        unknown = sorted(set(np.unique(mask.array).tolist()) - set(self.variant.labels.values()))
        if unknown:
            msg = f"the mask has ids {unknown[:5]} that `{self.variant.name}` lacks; it knows "
            msg += f"{dict(self.variant.labels)}; map yours to these"
            raise SpecError(msg)
        label = np.ascontiguousarray(mask.array.astype(np.uint8))
        return label, np.asarray(mask.affine, np.float64)

    @torch.inference_mode()
    def _sample(self, spec: VolumeSpec, label: torch.Tensor) -> torch.Tensor:
        """The latent under a label `[1, X, Y, Z]`, `[1, C, x, y, z]` as the decoder wants it."""
        assert spec.size is not None
        assert spec.spacing is not None
        assert spec.modality is not None
        assert spec.solver is not None
        assert spec.steps is not None
        small = [n // self.variant.compression for n in spec.size]
        seeds = np.random.SeedSequence([spec.seed, _NOISE_STREAM]).generate_state(1, np.uint64)
        noise = draw_noise(
            (1, self.variant.autoencoder.latent, *small), int(seeds[0] % np.uint64(2**63))
        )
        condition = mask_bits(label.to(self.device), self.variant.flow.mask_bits)
        plan = schedule(spec.steps, math.prod(small), spec.numerics, spec.solver)
        velocity = Velocity(
            self._control,
            self._flow,
            plan,
            condition=condition.contiguous(memory_format=torch.channels_last_3d),
            modality=self.variant.modalities[spec.modality],
            spacing=spec.spacing,
            guidance=Guidance(spec.guidance or 0.0, spec.guidance_interval),
            run_control=self._run_control,
            run_flow=self._run_flow,
        )
        solved = solve(velocity, noise.to(self.device), plan)
        return solved / self._scale_factor

    @torch.inference_mode()
    def _decode(self, latent: Latent) -> tuple[SyntheticVolume, NDArray[np.float32]]:
        tensor = torch.from_numpy(latent.tensor.astype(np.float32))[None]
        tensor = tensor.to(self.device, PRECISIONS[self.precision])
        tensor = tensor.contiguous(memory_format=torch.channels_last_3d)
        decoded, statistics = self._autoencoder.decode_with_statistics(tensor)
        decoded = decoded.float()
        check_finite(decoded, "image", latent.spec.seed)
        rule = self.variant.intensity
        values = (decoded[0] * rule.scale + rule.shift).clamp(rule.lowest, 32767.0)
        image = values.cpu().numpy().astype(np.int16)  # truncates, as the family does
        if latent.label is not None:
            image[latent.label == 0] = rule.background
        volume = SyntheticVolume(
            np.ascontiguousarray(image), latent.label, latent.affine, latent.provenance
        )
        return volume, statistics.cpu().float().numpy()

    def _provenance(self, spec: VolumeSpec) -> Provenance:
        where = self.device.type
        if where == "cpu":
            where += f", {torch.get_num_threads()} threads"
        where += f", {self.precision}, {self._backend.name}"
        return Provenance(
            source="synthetic",
            uid=self._card.volume_key(spec),
            variant=self._card.name,
            weights_digest=self._card.weights_digest,
            generator=f"{self.variant.revision} ({where})",
            spec=spec.to_json(),
            seed=spec.seed,
            mask_source=spec.mask or "drawn",
            licence=self._card.licence,
            version=package_version(),
        )


def _card(variant: Variant, digest: str) -> VariantCard:
    return VariantCard(
        name=variant.name,
        weights_digest=digest,
        generator_revision=variant.revision,
        vocabulary=dict(variant.labels),
        has_labels=True,
        modalities=dict(variant.modalities),
        intensity=variant.intensity.unit,
        licence=variant.licence.text(),
        default_size=variant.size,
        default_spacing=variant.spacing,
        default_modality=variant.default_modality,
        legal_sizes=variant.legal_sizes,
        spacing_range=variant.spacing_range,
        default_solver=variant.solver,
        default_steps=variant.steps,
        solvers=SOLVERS,
        pathology=variant.pathology,
        pathology_range=variant.pathology_range,
    )
