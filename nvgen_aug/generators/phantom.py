"""PhantomGenerator: ellipsoids, no weights; a fake for tests, examples and dry runs."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING
from typing import final

import numpy as np

from ..card import VariantCard
from ..crop import Crop
from ..errors import SpecError
from ..provenance import Provenance
from ..record import package_version
from ..spec import VolumeSpec
from ..volume import Blob
from ..volume import Generated
from ..volume import Latent
from ..volume import SyntheticVolume
from .base import Generator
from .maisi.masks.fitting import fitted
from .maisi.masks.fitting import has_grid
from .maisi.masks.fitting import spacing_of
from .maisi.masks.hosts import Host
from .maisi.masks.insertion import insert_tumour

if TYPE_CHECKING:
    from numpy.typing import NDArray

REVISION = "phantom-2"
VOCABULARY = {"background": 0, "body": 1, "organ": 2, "lesion": 3}
MODALITIES = {"bright": 1, "dark": 2}
_GREY = {"bright": (0, 300, 600, 950), "dark": (0, 700, 400, 100)}
_HOSTS = {"lesion": Host(VOCABULARY["lesion"], frozenset({VOCABULARY["organ"]}), "organ")}
_NOISE = 25.0


@final
class PhantomGenerator(Generator):
    """A body, an organ and lesions, all ellipsoids, with noise.

    It obeys the same rules as a real generator (a volume is a pure function of
    its spec, lesions have the asked diameter, any legal size and spacing) and
    costs a millisecond.

    Args:
        seconds_per_volume: Pretend that a generation takes this long.
    """

    def __init__(self, *, seconds_per_volume: float = 0.0) -> None:
        self.seconds_per_volume = seconds_per_volume
        self.calls = 0
        sizes = tuple(range(8, 513, 4))
        self._card = VariantCard(
            name="phantom",
            weights_digest=hashlib.sha256(b"no weights").hexdigest(),
            generator_revision=REVISION,
            vocabulary=VOCABULARY,
            has_labels=True,
            modalities=MODALITIES,
            intensity="arbitrary units x 1000",
            licence="Apache-2.0",
            default_size=(32, 32, 32),
            default_spacing=(2.0, 2.0, 2.0),
            default_modality="bright",
            legal_sizes=(sizes, sizes, sizes),
            spacing_range=(0.1, 10.0),
            pathology=("lesion",),
            hosts={"lesion": ("organ",)},
            pathology_range=(0.1, 200.0),
        )

    @property
    def card(self) -> VariantCard:
        """Facts of the phantom."""
        return self._card

    def latent(
        self, spec: VolumeSpec, mask: Blob | None = None, image: Blob | None = None
    ) -> Latent:
        """The label, and the grey value of each of its classes as the latent tensor."""
        spec = self._card.resolve(spec)
        self.calls += 1
        if self.seconds_per_volume:
            time.sleep(self.seconds_per_volume)
        assert spec.modality is not None
        assert spec.spacing is not None
        label, changes = (_draw_label(spec), "") if mask is None else _given_label(spec, mask)
        grey = np.asarray(_GREY[spec.modality], dtype=np.float16) / 1000
        return Latent(
            spec=spec,
            tensor=grey.reshape(1, -1, 1, 1).astype(np.float16),
            label=label[None],
            affine=np.diag([*spec.spacing, 1.0]),
            provenance=Provenance(
                source="synthetic",
                uid=self._card.volume_key(spec),
                variant=self._card.name,
                weights_digest=self._card.weights_digest,
                generator=REVISION,
                spec=spec.to_json(),
                seed=spec.seed,
                mask_source=f"{spec.mask or 'drawn'}{changes}",
                mask_parent=(spec.mask if changes else "") if spec.mask else "ellipsoids",
                quality="finite",  # integers are
                licence=self._card.licence,
                version=package_version(),
            ),
        )

    def prove(self) -> None:
        """Nothing can be missing, and nobody should wait for pretended work."""

    def decode(self, latent: Latent, crop: Crop | None = None) -> SyntheticVolume:
        """Grey values by class, plus noise drawn from the spec's seed."""
        assert latent.label is not None
        rng = np.random.default_rng(np.random.SeedSequence([latent.spec.seed, 2]))
        grey = (latent.tensor.astype(np.float32).ravel() * 1000)[latent.label]
        noise = rng.normal(0.0, _NOISE, size=grey.shape)
        image = self.new_image(latent.label.shape)
        image[:] = np.rint(np.where(latent.label > 0, grey + noise, 0.0))
        whole = SyntheticVolume(image, latent.label, latent.affine, latent.provenance)
        return whole.cropped(crop)

    def generate(
        self, spec: VolumeSpec, mask: Blob | None = None, image: Blob | None = None
    ) -> Generated:
        """Latent and volume; there are no group norms, hence no statistics."""
        latent = self.latent(spec, mask)
        return Generated(latent, self.decode(latent))


def _draw_label(spec: VolumeSpec) -> NDArray[np.uint8]:
    assert spec.size is not None
    assert spec.spacing is not None
    rng = np.random.default_rng(np.random.SeedSequence([spec.seed, 1]))
    size = np.asarray(spec.size, dtype=np.float64)
    spacing = np.asarray(spec.spacing)
    grid = np.indices(spec.size).reshape(3, -1).T.astype(np.float64)
    label = np.zeros(len(grid), dtype=np.uint8)

    def fill(value: int, centre: NDArray[np.float64], radii: NDArray[np.float64]) -> None:
        label[(((grid - centre) / radii) ** 2).sum(axis=1) <= 1] = value

    middle = (size - 1) / 2 + rng.uniform(-0.05, 0.05, 3) * size
    fill(VOCABULARY["body"], middle, size * rng.uniform(0.36, 0.45, 3))
    organ = middle + rng.uniform(-0.08, 0.08, 3) * size
    organ_radii = size * rng.uniform(0.18, 0.26, 3)
    fill(VOCABULARY["organ"], organ, organ_radii)
    for name, diameter in spec.pathology:
        # At least one voxel, however small the lesion or coarse the grid.
        radii = np.maximum(diameter / 2 / spacing, 0.5)
        centre = np.rint(organ + rng.uniform(-0.5, 0.5, 3) * organ_radii)
        fill(VOCABULARY[name], centre, radii)
    return label.reshape(spec.size)


def _given_label(spec: VolumeSpec, mask: Blob) -> tuple[NDArray[np.uint8], str]:
    """The mask with what the spec wants done to it, and what that was."""
    if spec.augment_mask:
        msg = "a phantom does not augment masks; leave augment_mask out, or use a real variant"
        raise SpecError(msg)
    assert spec.size is not None
    assert spec.spacing is not None
    label, changes = np.asarray(mask.array), []
    is_fit = has_grid(label.shape, spacing_of(mask.affine), spec)
    if spec.fit_mask and label.dtype == np.uint8 and not is_fit:
        label, _ = fitted(label, mask.affine, spec.size, spec.spacing)
        changes.append("resampled")
    if label.shape != spec.size or label.dtype != np.uint8:
        msg = (
            f"the mask must be uint8 of the spec's size {spec.size}, "
            f"got {label.dtype} {label.shape}"
        )
        raise SpecError(msg)
    if label.max(initial=0) > max(VOCABULARY.values()):
        msg = f"the mask has ids that the vocabulary {VOCABULARY} lacks"
        raise SpecError(msg)
    rng = np.random.default_rng(np.random.SeedSequence([spec.seed, 3]))
    for name, diameter in spec.pathology:
        label = insert_tumour(label, spec.spacing, name, diameter, rng, _HOSTS)
        changes.append(f"{name} of {diameter:g} mm inserted")
    return label, f": {', '.join(changes)}" if changes else ""
