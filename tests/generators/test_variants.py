"""The released members of the family are described to the tensor, and named as people name them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from torch import nn

from nvgen_aug.generators.maisi.networks import build_networks
from nvgen_aug.generators.maisi.variants import VARIANTS
from nvgen_aug.generators.maisi.vocabulary import CT_ALIASES
from nvgen_aug.generators.maisi.vocabulary import CT_LABELS
from nvgen_aug.generators.maisi.vocabulary import mask_channel_to_id

# Key and shape of every tensor of the released networks.
RELEASED: dict[str, dict[str, list[int]]] = json.loads(
    gzip.decompress((Path(__file__).parent / "released_keys.json.gz").read_bytes())
)
PARAMETERS = {
    "autoencoder": 20_944_897,
    "rflow flow": 180_500_868,
    "ddpm flow": 169_370_884,
    "rflow control": 72_037_072,
    "ddpm control": 68_644_944,
    "mask_autoencoder": 5_256_509,
    "mask_flow": 197_163_012,
}
CT = ["autoencoder", "flow", "control", "mask_autoencoder", "mask_flow"]


@pytest.fixture(scope="module")
def networks() -> dict[tuple[str, str], nn.Module]:
    return {
        (name, part): network
        for name, variant in VARIANTS.items()
        for part, network in build_networks(variant).items()
    }


@pytest.mark.parametrize(
    ("variant", "part", "released"),
    [
        ("ddpm-ct", "autoencoder", "autoencoder"),
        ("ddpm-ct", "flow", "ddpm flow"),
        ("ddpm-ct", "control", "ddpm control"),
        ("ddpm-ct", "mask_autoencoder", "mask_autoencoder"),
        ("ddpm-ct", "mask_flow", "mask_flow"),
        ("rflow-ct", "autoencoder", "autoencoder"),
        ("rflow-ct", "flow", "rflow flow"),
        ("rflow-ct", "control", "rflow control"),
        ("rflow-ct", "mask_autoencoder", "mask_autoencoder"),
        ("rflow-ct", "mask_flow", "mask_flow"),
        ("rflow-mr", "autoencoder", "autoencoder"),
        ("rflow-mr", "flow", "rflow flow"),
        ("rflow-mr-brain", "autoencoder", "autoencoder"),
        ("rflow-mr-brain", "flow", "rflow flow"),
    ],
)
def test_a_network_has_the_parameters_and_tensors_of_the_released_one(
    networks: dict[tuple[str, str], nn.Module], variant: str, part: str, released: str
) -> None:
    network = networks[variant, part]
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[released]
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert shapes == RELEASED[released]


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_networks_are_built_without_memory(
    networks: dict[tuple[str, str], nn.Module], name: str
) -> None:
    parts = [network for (variant, _), network in networks.items() if variant == name]
    assert {p.device.type for part in parts for p in part.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("variant", "parts"),
    [
        ("ddpm-ct", CT),
        ("rflow-ct", CT),
        ("rflow-mr", CT[:2]),
        ("rflow-mr-brain", CT[:2]),
        ("tiny-brain", CT[:3]),
    ],
)
def test_a_variant_has_the_networks_that_were_released(
    networks: dict[tuple[str, str], nn.Module], variant: str, parts: list[str]
) -> None:
    assert [part for name, part in networks if name == variant] == parts


@pytest.mark.parametrize("name", ["ddpm-ct", "rflow-ct", "rflow-mr", "rflow-mr-brain"])
def test_there_is_a_checkpoint_for_each_network(
    networks: dict[tuple[str, str], nn.Module], name: str
) -> None:
    release = VARIANTS[name].release
    assert release is not None
    assert [slot.network for slot in release.slots] == [p for v, p in networks if v == name]


def test_brains_are_decoded_with_the_autoencoder_of_ct() -> None:
    ct, brain = VARIANTS["rflow-ct"].release, VARIANTS["rflow-mr-brain"].release
    assert ct is not None
    assert brain is not None
    assert brain.slots[0] == ct.slots[0]


def test_the_licence_that_forbids_commerce_says_so_and_the_others_do_not() -> None:
    licences = {name: variant.licence.text() for name, variant in VARIANTS.items()}
    forbidding = [name for name, text in licences.items() if "non-commercial" in text]
    assert forbidding == ["rflow-mr"]


def test_the_vocabulary_numbers_132_labels_and_the_body() -> None:
    assert sorted(CT_LABELS.values()) == [*range(133), 200]
    assert CT_LABELS["body"] == 200
    some = {"liver": 1, "brain": 22, "left lung upper lobe": 28, "vertebrae L5": 33, "colon": 62}
    some |= {"right rib 12": 86, "left humerus": 87, "costal cartilages": 114, "skull": 120}
    some |= {"vertebrae C1": 56, "vertebrae S1": 127, "bone lesion": 128, "airway": 132}
    assert {name: CT_LABELS[name] for name in some} == some


def test_labels_go_by_the_names_of_totalsegmentator_too() -> None:
    known = {"kidney_right": 5, "urinary_bladder": 15, "lung_middle_lobe_right": 31}
    known |= {"rib_left_7": 69, "iliac_vena_left": 60, "vertebrae_L3": 35, "clavicula_right": 92}
    assert {name: CT_LABELS[CT_ALIASES[name]] for name in known} == known


def test_other_names_are_none_of_the_vocabulary_and_mean_one_that_is() -> None:
    assert not CT_ALIASES.keys() & CT_LABELS.keys()
    assert set(CT_ALIASES.values()) <= CT_LABELS.keys()


def test_channels_of_the_mask_autoencoder_are_mapped_to_all_labels_but_free_ones() -> None:
    ids = [mask_channel_to_id(channel) for channel in range(125)]
    assert sorted(ids) == ids
    assert set(CT_LABELS.values()) - set(ids) == {2, 16, 18, 20, 21, 116, 117, 130, 131}
    assert (ids[16], ids[122], ids[123], ids[124]) == (19, 129, 132, 200)


@pytest.mark.parametrize("channel", [-1, 125])
def test_a_channel_that_is_not_there_is_refused(channel: int) -> None:
    with pytest.raises(ValueError, match=rf"0 to 124, got {channel}"):
        mask_channel_to_id(channel)


@pytest.mark.parametrize(
    ("variant", "modalities"),
    [
        ("ddpm-ct", {1}),
        ("rflow-ct", {1, 2, 3}),
        ("rflow-mr", {8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20}),
        ("rflow-mr-brain", {8, 9, 10, 11, 16, 20, 29, 30, 31, 32, 33}),
    ],
)
def test_a_variant_has_the_modalities_of_its_networks(variant: str, modalities: set[int]) -> None:
    assert set(VARIANTS[variant].modalities.values()) == modalities
