"""MaisiGenerator: a loaded member of the family, from a spec to voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from ...card import VariantCard
from ...crop import Crop
from ...errors import QualityError
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
from .decoding import Decoding
from .engines.parts import Part
from .engines.parts import parts_of
from .engines.store import DEFAULT_FOLDER
from .engines.store import EngineStore
from .given_image import given_image
from .masks.label_source import LabelSource
from .masks.label_source import SourcedLabel
from .masks.mask_model import MaskModel
from .masks.warped_template import Template
from .networks import build_autoencoder
from .networks import build_control
from .networks import build_flow
from .networks import build_image_control
from .pinned import PinnedMemory
from .placement import check_convolution
from .placement import chosen_precision
from .placement import place
from .placement import usable_device
from .quality import check_finite
from .releases import AUTOENCODER
from .releases import CONTROL
from .releases import FLOW
from .releases import IMAGE_CONTROL
from .sampler import Sampler
from .statistics_mode import StatisticsMode
from .tries import Tries
from .tries import Try
from .variant_card import card_of
from .variants import VARIANTS
from .variants import Variant
from .velocity import ControlStep
from .velocity import FlowStep
from .weights import TEMPLATE_FILE
from .weights import imported_weights
from .weights import shipped_weights


@final
class MaisiGenerator(Generator):
    """Draws a label map, solves the flow under it, decodes the latent.

    The same resolved spec gives the same bytes on one machine with one number of threads. The
    latent is rounded to half precision before its first decode, so voxels decoded from a stored
    latent are those of the first time.

    Args:
        variant: What to load.
        device: Where the networks run, such as `"cpu"` or `"cuda:0"`.
        weights: Folder with the files that were imported, or with `weights.safetensors` and
            `template.safetensors`; the variant's own when `None`.
        backend: How the flow's networks run: `"eager"`, `"compiled"`, `"tensorrt"` or
            `"tensorrt-rtx"`.
        precision: `"fp32"`, `"fp16"` or `"bf16"`; fp16 on a GPU and fp32 on a CPU when `None`.
        engines: Folder of built engines; one below the user's cache folder when `None`.
        statistics: Whose statistics the decoder's norms use: `"full"`, the volume's, or another
            mode of `StatisticsMode.parse`.

    Raises:
        SpecError: There is no such backend, precision or mode of statistics.
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
        statistics: str = "full",
    ) -> None:
        mode = StatisticsMode.parse(statistics)
        folder = variant.folder if weights is None else Path(weights)
        if folder is None:
            msg = f"give the folder with the weights of `{variant.name}`"
            raise WeightsError(msg)
        template = None
        if variant.release is None:
            loaded = shipped_weights(folder)
            template = Template.load(folder / TEMPLATE_FILE)
        else:
            loaded = imported_weights(folder, variant.name)
        self.variant = variant
        self.device = usable_device(device)
        self.precision = chosen_precision(precision, self.device)
        mask_model = None
        if loaded.mask_scale_factor is not None:
            mask_model = MaskModel(
                variant, loaded, self.device, self.precision, lambda: self.on_progress()
            )
        self._labels = LabelSource(variant, template, mask_model, device=self.device)
        if self.device.type == "cuda" and self.precision != "fp32":
            check_convolution(self.device, self.precision)
        self._scale_factor = loaded.scale_factor
        latent = variant.autoencoder.latent
        # Built without memory: the tensors of the files become their parameters.
        with torch.device("meta"):
            self._autoencoder = build_autoencoder(variant.autoencoder)
            flow = FlowStep(build_flow(variant.flow, latent))
            control = None
            if variant.has_control:
                control = ControlStep(build_control(variant.flow, latent))
            image_control = None
            if loaded.image_digest:
                image_control = ControlStep(build_image_control(variant.flow, latent))
        loaded.fill(self._autoencoder, AUTOENCODER)
        loaded.fill(flow.network, FLOW)
        if control is not None:
            loaded.fill(control.network, CONTROL)
        if image_control is not None:
            loaded.fill(image_control.network, IMAGE_CONTROL)
        for placed in (self._autoencoder, flow, control, image_control):
            if placed is not None:
                place(placed, self.device, self.precision)
        self._decoding = Decoding(
            self._autoencoder, variant, mode, progress=lambda: self.on_progress()
        )
        self._card = replace(
            card_of(variant, loaded.digest, mask_model is not None),
            statistics=str(mode),
            image_weights=loaded.image_digest,
        )
        self._backend = open_backend(
            backend,
            device=self.device,
            store=EngineStore(DEFAULT_FOLDER if engines is None else engines),
            variant=variant.name,
            network=self._card.weights_digest,
            precision=self.precision,
        )
        self._flow, self._control = flow, control
        self._pinned: list[PinnedMemory] = []
        self._sampler = Sampler(
            variant,
            flow,
            control,
            self.device,
            image_control=image_control,
            run_flow=BackedNetwork("flow", flow, self._backend, self.precision),
            run_control=control
            and BackedNetwork("control", control, self._backend, self.precision),
        )

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
        home: Path | None = None,
        statistics: str = "full",
    ) -> MaisiGenerator:
        """The generator of a variant's name; other arguments are those of the class.

        Args:
            variant: Its name.
            device: Where the networks run.
            weights: Folder with its weights.
            home: Folder with a folder for each variant that was imported, where they are looked
                for if `weights` is `None`.

        Raises:
            SpecError: There is no such variant, backend or precision.
            WeightsError: Its weights are missing, damaged or made for other networks.
            BackendError: The backend cannot run here.
        """
        if variant not in VARIANTS:
            msg = f"there is no variant `{variant}`; {did_you_mean(variant, VARIANTS)}"
            raise SpecError(msg)
        known = VARIANTS[variant]
        folder = None if weights is None else Path(weights)
        if folder is None and home is not None and known.release is not None:
            folder = home / variant
        return cls(
            known,
            device=device,
            weights=folder,
            backend=backend,
            precision=precision,
            engines=None if engines is None else Path(engines),
            statistics=statistics,
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

    def latent(
        self, spec: VolumeSpec, mask: Blob | None = None, image: Blob | None = None
    ) -> Latent:
        """Label map and latent of a spec: what `generate` tries first, before it is checked."""
        spec = self._card.resolve(spec)
        return self._latent(spec, Try(1, spec.seed), mask, image)

    def _latent(self, spec: VolumeSpec, now: Try, mask: Blob | None, image: Blob | None) -> Latent:
        drawn = replace(spec, seed=now.seed)
        sourced, subject, image_source = self._labels.label(drawn, mask), None, ""
        if spec.image is not None:
            given = given_image(image, spec, self.variant)
            sourced, image_source = sourced.beside(given.affine), given.source(spec.image)
            subject = self._decoding.encode(given.values) * self._scale_factor
        self._sampler.on_step = self.on_progress
        tensor = self._sampler.latent(drawn, sourced.label, subject) / self._scale_factor
        check_finite(tensor, "latent", now.seed)
        return Latent(
            spec=spec,
            tensor=tensor[0].to("cpu", torch.float16).contiguous().numpy(),
            label=None if sourced.label is None else sourced.label[None],
            affine=sourced.affine,
            provenance=self._provenance(spec, sourced).with_(
                image_source=image_source, **now.provenance()
            ),
        )

    def decode(
        self, latent: Latent, crop: Crop | None = None, *, out: NDArray[np.int16] | None = None
    ) -> SyntheticVolume:
        """The voxels of a latent, or of a box of it, into `out` if given; see `Decoding.decode`."""
        if out is None and crop is None:
            out = self.new_image(self._decoding.image_shape(latent))
        return self._decoding.decode(latent, crop, out)[0]

    def pin(self, memory: NDArray[np.uint8]) -> None:
        """Register memory with CUDA, so that slabs are copied there while the next are decoded."""
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
                self._pinned.append(PinnedMemory(memory, runtime))

    def close(self) -> None:
        """Give registered memory back."""
        while self._pinned:
            self._pinned.pop().release()

    def use_less_memory(self) -> bool:
        """Decode by a leaner plan from now on; `False` if it was not decoding that needed it."""
        return self._decoding.use_less_memory()

    def crop_share(self, latent: Latent, crop: Crop) -> float:
        """Work of decoding a crop, as a part of that of the whole."""
        return self._decoding.crop_share(latent, crop)

    def generate(
        self, spec: VolumeSpec, mask: Blob | None = None, image: Blob | None = None
    ) -> Generated:
        """Latent with the decoder's statistics, and the whole volume, which has passed its checks.

        Raises:
            QualityError: It failed them as often as it was tried.
        """
        spec = self._card.resolve(spec)
        tries = Tries(spec, self.variant, can_be_marked=self._card.outside(spec) is not None)
        out = None
        for now in tries:
            try:
                latent = self._latent(spec, now, mask, image)
                if out is None:  # one for all tries: where it lies there may not be a second
                    out = self.new_image(self._decoding.image_shape(latent))
                volume, statistics = self._decoding.decode(latent, out=out)
            except QualityError as error:
                tries.failed(str(error))
                continue
            if statistics is not None:
                latent = latent.with_statistics(statistics)
            made = tries.judged(latent, volume)
            if made is not None:
                return made
        raise tries.refusal()

    def _provenance(self, spec: VolumeSpec, sourced: SourcedLabel) -> Provenance:
        verdict = self._card.outside(spec)
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
            mask_source=sourced.source,
            mask_parent=sourced.parent,
            licence=self._card.licence,
            version=package_version(),
            out_of_distribution="" if verdict is None else "; ".join(verdict.reasons),
        )
