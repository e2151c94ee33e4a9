"""RandRenderLabel and RandRenderLabeld: a new image for a sample's own label."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import monai.data
import monai.transforms as mt
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import CacheDataset
from monai.data import MetaTensor
from monai.transforms import LazyTransform
from monai.transforms import RandomizableTransform
from monai.utils import TransformBackends

import nvgen_aug
from nvgen_aug import serve
from nvgen_aug.errors import DataError
from nvgen_aug.errors import LabelError
from nvgen_aug.errors import NvgenError
from nvgen_aug.errors import RatioError
from nvgen_aug.labels import LabelMap
from nvgen_aug.recipe import Recipe
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.transforms import RandRenderLabel
from nvgen_aug.transforms import RandRenderLabeld
from nvgen_aug.transforms import RandSyntheticVolumed
from nvgen_aug.volume import Blob
from tests.data.phantoms import KEYS
from tests.data.phantoms import PhantomSource
from tests.data.phantoms import real_case
from tests.data.phantoms import synthetic

LABELS = LabelMap({"organ": 1, "lesion": 2}, others="background")
GREY = {"organ": 600, "lesion": 950}  # of a bright phantom, on average
PLAIN = Recipe(spacing=(2, 2, 2))


def turned(case: int, axes: str = "LPS") -> dict[str, MetaTensor]:
    """A case of three different edges, whose axes point elsewhere, with organ and lesion."""
    rng = np.random.default_rng(case)
    label = (rng.random((1, 12, 16, 8)) * 3).astype(np.int64).astype(np.float32)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    item = {
        key: MetaTensor(
            torch.from_numpy(label.copy()),
            affine=torch.from_numpy(affine),
            meta={"filename_or_obj": f"case_{case}.nii.gz"},
        )
        for key in KEYS
    }
    found: dict[str, MetaTensor] = mt.Orientationd(KEYS, axes, labels=None)(item)
    return found


def coin(prob: float = 1.0, source: Any = None, **arguments: Any) -> RandRenderLabeld:
    transform = RandRenderLabeld(KEYS, source or PhantomSource(), LABELS, prob=prob, **arguments)
    return transform.set_random_state(0)


def rendered(item: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(item["provenance"])
    return record


def test_it_follows_monais_class_shape() -> None:
    assert nvgen_aug.RandRenderLabelD is nvgen_aug.RandRenderLabelDict is RandRenderLabeld
    for kind in (RandRenderLabel, RandRenderLabeld):
        assert kind.backend == [TransformBackends.TORCH]
        assert issubclass(kind, RandomizableTransform)
        assert not issubclass(kind, LazyTransform)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "AIL"])
def test_the_image_follows_the_label_whichever_way_round_it_lies(axes: str) -> None:
    case = turned(0, axes)
    item = coin()(case)
    assert torch.equal(item["label"], case["label"])
    assert torch.equal(item["image"].affine, case["image"].affine)
    assert item["image"].shape == case["image"].shape
    for value, name in ((1, "organ"), (2, "lesion")):
        inside = item["image"][case["label"] == value]
        assert abs(float(inside.mean()) - GREY[name]) < 10
    assert float(item["image"][case["label"] == 0].abs().max()) == 0


def test_the_provenance_names_the_case_the_digest_and_what_makes_it_again() -> None:
    source = PhantomSource()
    item = coin(source=source)(turned(3))
    record = rendered(item)
    assert item["synthetic"] == 1
    assert (record["source"], record["mask_parent"]) == ("synthetic", "case_3.nii.gz")
    (digest,) = source.blobs
    assert record["mask_source"] == digest
    spec = VolumeSpec.from_json(record["spec"])
    assert spec.mask == digest
    assert source.fetch(spec).digest() == record["content"]


def test_ids_of_the_task_become_those_of_the_vocabulary() -> None:
    source = PhantomSource()
    coin(source=source)(turned(0, "RAS"))
    (blob,) = source.blobs.values()
    vocabulary = source.card.vocabulary
    expected = np.array([0, vocabulary["organ"], vocabulary["lesion"]])
    label = turned(0, "RAS")["label"][0].numpy().astype(int)
    np.testing.assert_array_equal(blob.array, expected[label])
    assert blob.array.dtype == np.uint8


def test_an_id_that_stands_for_several_names_is_refused_when_it_is_made() -> None:
    both = LabelMap({"organ": 1, "body": 1, "lesion": 2}, others="background")
    with pytest.raises(LabelError, match=r"the id 1 .* stands for `body` and `organ`, so a label"):
        RandRenderLabel(PhantomSource(), both)
    RandRenderLabel(PhantomSource(), LabelMap({"organ": 1, "body": 0}, others="background"))


def test_ids_that_no_name_has_are_told_with_their_voxels() -> None:
    case = turned(0)
    case["label"][case["label"] == 2] = 7
    with pytest.raises(LabelError, match=r"has the ids 7 \(\d+ voxels\), .* knows 1 `organ`, 2"):
        coin()(case)


@pytest.mark.parametrize("kind", [lambda x: x, lambda x: x.as_tensor(), lambda x: x.numpy()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int16])
def test_types_do_not_depend_on_the_coin(kind: Any, dtype: torch.dtype) -> None:
    data = {key: kind(value.to(dtype)) for key, value in real_case(0).items()}
    real, made = (coin(prob, recipe=PLAIN)(data) for prob in (0.0, 1.0))
    assert list(real) == list(made)
    for key in KEYS:
        assert type(real[key]) is type(made[key]) is MetaTensor
        assert real[key].dtype == made[key].dtype == dtype
    assert (real["synthetic"], made["synthetic"]) == (0, 1)
    assert rendered(real)["source"] == "real"


def test_the_array_version_gives_a_pair_and_one_toss_can_be_applied_again() -> None:
    case = real_case(0)
    transform = RandRenderLabel(PhantomSource(), LABELS, prob=1.0, pool=50)
    image, label = transform(case["image"], case["label"])
    assert torch.equal(label, case["label"])
    assert not torch.equal(image, case["image"])
    assert torch.equal(transform(**case, randomize=False)[0], image)
    still = RandRenderLabel(PhantomSource(), LABELS, prob=0.0)
    assert torch.equal(still(**case)[0], case["image"])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_it_is_seeded_copied_and_pickled_like_any_of_monais(copied: Any) -> None:
    transform = coin(0.5)
    other = copied(transform)
    tosses = [transform(real_case(0)) for _ in range(8)]
    assert {item["synthetic"] for item in tosses} == {0, 1}
    assert [other(real_case(0))["provenance"] for _ in range(8)] == [
        item["provenance"] for item in tosses
    ]


def test_the_same_random_state_gives_the_same_samples_inside_a_compose() -> None:
    def images(seed: int) -> list[str]:
        chain = mt.Compose([coin(0.5), mt.RandFlipd(KEYS, 0.5)]).set_random_state(seed)
        return [chain(real_case(0))["provenance"] for _ in range(12)]

    assert images(1) == images(1)
    assert images(1) != images(2)


def test_a_label_has_as_many_images_as_the_pool_and_other_labels_have_others() -> None:
    transform = coin(pool=3)
    keys = {rendered(transform(real_case(0)))["uid"] for _ in range(30)}
    others = {rendered(transform(real_case(1)))["uid"] for _ in range(30)}
    assert len(keys) == len(others) == 3
    assert not keys & others


def test_it_is_not_frozen_by_a_cache_dataset_nor_does_it_change_what_is_cached() -> None:
    chain = mt.Compose([mt.Identityd(KEYS), coin(0.5)])
    cached = CacheDataset(
        [real_case(0)], chain.set_random_state(0), progress=False, copy_cache=False
    )
    items = [cached[0] for _ in range(12)]
    assert len({item["provenance"] for item in items}) > 2
    real = next(item for item in reversed(items) if not item["synthetic"])
    assert torch.equal(real["image"], real_case(0)["image"])


def test_real_and_rendered_samples_can_be_collated() -> None:
    data = monai.data.Dataset([real_case(c) for c in range(8)], coin(0.5))
    (batch,) = monai.data.DataLoader(data, batch_size=8)
    assert set(batch["synthetic"].tolist()) == {0, 1}
    assert len(monai.data.decollate_batch(batch)) == 8


def test_missing_keys_are_an_error_or_nothing_is_rendered() -> None:
    image = {"image": real_case(0)["image"], "age": 61}
    with pytest.raises(KeyError):
        coin()(image)
    item = coin(allow_missing_keys=True)(image)
    assert (item["synthetic"], item["age"]) == (0, 61)
    assert torch.equal(item["image"], image["image"])
    assert coin(allow_missing_keys=True)({})["synthetic"] == 0


def test_the_transform_brings_the_image_to_the_state_of_the_sample() -> None:
    item = coin(transform=mt.ScaleIntensityd("image"))(real_case(0))
    assert 0 <= float(item["image"].min()) < float(item["image"].max()) <= 1
    with pytest.raises(DataError, match="must keep its grid"):
        coin(transform=mt.SpatialPadd("image", (32, 32, 32)))(real_case(0))


def test_a_rendered_sample_cannot_be_inverted_and_a_real_one_can() -> None:
    chain = mt.Compose([mt.Flipd(KEYS, 0), coin(0.0)])
    assert torch.equal(chain.inverse(chain(real_case(0)))["image"], real_case(0)["image"])
    with pytest.raises(DataError, match="is synthetic, so there is no real sample"):
        coin().inverse(coin()(real_case(0)))


def test_the_recipe_says_what_else_is_wanted() -> None:
    transform = coin(recipe=Recipe(modality=["dark"], guidance=2))
    spec = VolumeSpec.from_json(rendered(transform(real_case(0)))["spec"])
    assert (spec.modality, spec.guidance) == ("dark", 2)


def broken(change: Any) -> dict[str, Any]:
    case: dict[str, Any] = real_case(0)
    change(case)
    return case


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (lambda c: c.update(label=c["label"][0]), r"must be \[1, X, Y, Z\] on the grid"),
        (lambda c: c.update(label=c["label"][:, :8]), r"on the grid of its image .*EnsureChannel"),
        (lambda c: c.update(label=c["label"] + 0.5), r"`case_0.nii.gz` must hold integers.*4096"),
        (lambda c: c.update(label=c["label"] * np.nan), "must hold integers in .*, got nan"),
        (lambda c: c.update(label=c["label"].as_tensor()), "no affine, so its spacing"),
        (
            lambda c: c.update({k: c[k][:, :9] for k in KEYS}),
            "label of `case_0.nii.gz` cannot be rendered: .*nearest legal size .* Spacingd and",
        ),
        (
            lambda c: [c[k].affine.mul_(30.0) for k in KEYS],
            r"cannot be rendered: `phantom` makes spacings of 0.1 to 10.0 mm",
        ),
        (lambda c: c.update(image=c["image"].repeat(2, 1, 1, 1)), "keeps its number of channels"),
    ],
)
def test_a_label_that_cannot_be_rendered_says_why(case: Any, text: str) -> None:
    with pytest.raises(NvgenError, match=text):
        coin()(broken(case))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"prob": 30}, RatioError, "prob must be"),
        ({"pool": 0}, DataError, "pool must be a positive number"),
        ({"on_failure": "reuse"}, DataError, "on_failure must be one of"),
        ({"recipe": Recipe(size=(16, 16, 16))}, DataError, "the `size` of a rendered volume"),
        ({"recipe": Recipe(pathology={"lesion": {}})}, DataError, "cannot ask for `pathology`"),
        ({"recipe": Recipe(modality="drak")}, ValueError, "did you mean `dark`"),
        ({"labels": {"organs": 1}}, LabelError, "did you mean `organ`"),
        ({"source": PhantomSource(has_labels=False)}, ValueError, "cannot follow a mask"),
    ],
)
def test_what_can_never_work_is_refused_when_it_is_made(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        RandRenderLabeld(KEYS, **{"source": PhantomSource(), **arguments})
    with pytest.raises(DataError, match="keys must be that of the image and that of the label"):
        RandRenderLabeld("image", PhantomSource())


def test_a_failure_is_raised_or_leaves_the_sample_and_says_so() -> None:
    source = PhantomSource()
    seed = VolumeSpec.from_json(rendered(coin(source=source, pool=1)(real_case(0)))["spec"]).seed
    source.broken.add(seed)
    with pytest.raises(NvgenError, match="told to fail"):
        coin(source=source, pool=1)(real_case(0))
    item = coin(source=source, pool=1, on_failure="real")(real_case(0))
    assert (item["synthetic"], rendered(item)["status"]) == (0, "substitute")
    assert torch.equal(item["image"], real_case(0)["image"])


def test_a_bundle_makes_it_of_plain_values() -> None:
    config = {
        "render": {
            "_target_": "nvgen_aug.RandRenderLabeld",
            "keys": ["image", "label"],
            "source": {"_target_": "tests.data.phantoms.PhantomSource"},
            "labels": {"organ": 1, "lesion": 2},
            "recipe": {"_target_": "nvgen_aug.Recipe", "modality": ["dark"]},
            "prob": 1.0,
        }
    }
    transform = ConfigParser(config).get_parsed_content("render")
    assert transform(real_case(0))["synthetic"] == 1


def test_workers_of_a_loader_render_through_a_server() -> None:
    with serve("phantom") as source:
        transform = coin(source=source, pool=1)
        data = monai.data.Dataset([turned(c) for c in range(4)], transform)
        loader = monai.data.DataLoader(data, batch_size=4, num_workers=2)
        (batch,) = loader
        here = coin(pool=1)
        for c in range(4):
            assert torch.equal(batch["image"][c], here(turned(c))["image"])
    uids = {json.loads(text)["mask_source"] for text in batch["provenance"]}
    assert len(uids) == 4


def test_the_shipped_model_renders_a_label_of_its_own_size() -> None:
    with nvgen_aug.open_source("tiny-brain") as source:
        drawn = source.fetch(VolumeSpec("tiny-brain", seed=1, steps=1))
        assert drawn.label is not None
        affine = torch.from_numpy(drawn.affine)
        case = {
            "image": MetaTensor(torch.from_numpy(drawn.image.astype(np.float32)), affine=affine),
            "label": MetaTensor(torch.from_numpy(drawn.label.astype(np.float32)), affine=affine),
        }
        transform = RandRenderLabeld(KEYS, source, prob=1.0, recipe=Recipe(steps=1))
        item = transform(mt.Orientationd(KEYS, "LPS", labels=None)(case))
    assert item["image"].shape == (1, 64, 64, 64)
    record = rendered(item)
    assert record["variant"] == "tiny-brain"
    assert record["mask_source"] == Blob(drawn.label[0], drawn.affine).digest()


def test_one_of_its_samples_may_pass_through_the_other_coin() -> None:
    chain = mt.Compose([coin(1.0), RandSyntheticVolumed(KEYS, synthetic(), prob=0.0)])
    item = chain(real_case(0))
    assert (item["synthetic"], rendered(item)["source"]) == (1, "synthetic")
