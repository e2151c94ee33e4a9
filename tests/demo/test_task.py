"""Which of a generator's labels are which of a dataset's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nvgen_aug.card import VariantCard
from nvgen_aug.demo.dataset_folder import DatasetFolder
from nvgen_aug.demo.task import Task
from nvgen_aug.errors import LabelError
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.phantom import PhantomGenerator

PHANTOM = PhantomGenerator().card
BRAIN = replace(PHANTOM, name="brain", vocabulary={"background": 0, "grey matter": 1, "lesion": 4})


def folder(labels: dict[str, int]) -> DatasetFolder:
    return DatasetFolder(Path("data"), "nnU-Net", labels, frozenset(labels.values()), ())


def task(card: VariantCard, labels: dict[str, int], *given: str) -> Task:
    return Task.of_folder(card, folder(labels), given)


def test_a_card_alone_gives_all_its_labels() -> None:
    found = Task.of_card(BRAIN)
    assert found.names == ("grey matter", "lesion")
    assert found.real == {1: 1, 4: 2}
    assert found.synthetic == {"grey matter": 1, "lesion": 2}


def test_names_that_both_sides_have_are_found_whatever_their_spelling() -> None:
    found = task(BRAIN, {"Gray_Matter": 7, "tumour": 2})
    assert found.synthetic == {"grey matter": 1}
    assert found.real == {7: 1}


def test_given_names_win_and_classes_follow_the_ids() -> None:
    found = task(BRAIN, {"tumour": 3, "cortex": 9}, "grey matter=9", "lesion=3")
    assert found.names == ("lesion", "grey matter")
    assert found.real == {3: 1, 9: 2}


def test_two_names_may_mean_one_id() -> None:
    found = task(BRAIN, {"all": 1}, "grey matter=1", "lesion=1")
    assert found.names == ("grey matter + lesion",)
    assert found.synthetic == {"grey matter": 1, "lesion": 1}


def test_one_name_may_stand_for_several_ids() -> None:
    tumour = {"necrosis": 1, "edema": 2, "cortex": 3, "enhancing": 4}
    found = task(BRAIN, tumour, "lesion=1", "lesion=2", "grey matter=3", "lesion=4")
    assert found.names == ("lesion", "grey matter")
    assert found.synthetic == {"lesion": 1, "grey matter": 2}
    assert found.real == {1: 1, 2: 1, 4: 1, 3: 2}


def test_names_and_ids_that_overlap_are_one_class() -> None:
    found = task(BRAIN, {"a": 1, "b": 2}, "lesion=1", "grey matter=2", "grey matter=1")
    assert found.names == ("lesion + grey matter",)
    assert found.synthetic == {"lesion": 1, "grey matter": 1}
    assert found.real == {1: 1, 2: 1}


def test_an_unknown_name_comes_with_close_ones() -> None:
    with pytest.raises(LabelError, match="`brain` has no label `leison`; did you mean `lesion`"):
        task(BRAIN, {"tumour": 1}, "leison=1")


def test_an_unknown_id_comes_with_those_of_the_dataset() -> None:
    with pytest.raises(LabelError, match=r"has no label 5, expected one of \[1\] \(`tumour`=1\)"):
        task(BRAIN, {"tumour": 1}, "lesion=5")


@pytest.mark.parametrize("text", ["lesion", "=1", "lesion=one", "lesion="])
def test_what_is_not_name_and_id_is_shown(text: str) -> None:
    with pytest.raises(LabelError, match="must be NAME=ID, such as `lesion=1`, got"):
        task(BRAIN, {"tumour": 1}, text)


def test_other_anatomy_is_said_and_the_phantom_offered() -> None:
    with pytest.raises(LabelError, match=r"none of .*`liver`=1.*use `--variant phantom`"):
        task(BRAIN, {"liver": 1})


def test_the_phantom_stands_for_any_anatomy() -> None:
    found = task(PHANTOM, {"liver": 1, "tumour": 2})
    assert found.synthetic == {"body": 1, "organ": 2}


def test_an_unknown_contrast_comes_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match="--modality: `brain` has no modality `t3`; known are"):
        Task.of_card(BRAIN, "t3")
