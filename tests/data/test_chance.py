"""Chance: everything random that hides in an object is found and seeded."""

from __future__ import annotations

import copy
import pickle
import random
from functools import partial
from typing import Any

import monai.transforms as mt
import numpy as np
import pytest
import torch

from nvgen_aug.data.chance import Chance
from nvgen_aug.data.chance import as_transform
from nvgen_aug.errors import DataError


class Holder:
    """Keeps something somewhere."""

    def __init__(self, **things: Any) -> None:
        self.__dict__.update(things)

    def apply(self, data: Any) -> Any:
        return data


def noise() -> mt.RandGaussianNoise:
    return mt.RandGaussianNoise(prob=1.0)


def closure(transform: mt.RandGaussianNoise) -> Any:
    return lambda image: transform(image)


@pytest.mark.parametrize(
    "hide",
    [
        lambda t: t,
        lambda t: mt.Compose([mt.Compose([t])]),
        lambda t: Holder(parts={"a": [{"b": (t,)}]}),
        lambda t: Holder(inner=Holder(t=t)),
        lambda t: partial(print, t),
        lambda t: Holder(t=t).apply,
        closure,
    ],
)
def test_a_random_transform_is_found_wherever_it_hides(hide: Any) -> None:
    transform = noise()
    chance = Chance(hide(transform))
    image = torch.zeros(1, 4, 4, 4)
    with chance.of(5):
        first = transform(image)
    with chance.of(6):
        other = transform(image)
    with chance.of(5):
        assert torch.equal(transform(image), first)
    assert not torch.equal(other, first)


def test_a_circle_of_attributes_ends() -> None:
    one = Holder()
    one.other = Holder(back=one, noise=noise())
    with Chance(one).of(1):
        pass


def test_two_equal_transforms_get_different_streams() -> None:
    both = [noise(), noise()]
    with Chance(both).of(1):
        image = torch.zeros(1, 4, 4, 4)
        assert not torch.equal(both[0](image), both[1](image))


def test_global_generators_are_seeded_inside_and_put_back_even_after_an_error() -> None:
    chance = Chance(None)

    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    inside = []

    def fail() -> None:
        with chance.of(3):
            inside.append(draws())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert draws() == expected
    with chance.of(3):
        assert [draws()] == inside != [expected]


def test_chance_can_be_pickled_after_use() -> None:
    chance = Chance(noise())
    with chance.of(1):
        first = chance.root(torch.zeros(1, 2, 2, 2))
    again = pickle.loads(pickle.dumps(chance))
    with again.of(1):
        assert torch.equal(again.root(torch.zeros(1, 2, 2, 2)), first)


def test_an_empty_chance_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Chance(None))).root is None


def test_a_step_that_cannot_be_sent_to_a_worker_is_named_and_can_be_copied() -> None:
    chance = Chance(as_transform([noise(), mt.Lambda(lambda image: image)]))
    with pytest.raises(DataError, match=r"step 1 of the transform, `Lambda`, .*a function that"):
        pickle.dumps(chance)
    assert copy.deepcopy(chance).root is not chance.root


def test_what_is_no_transform_is_left_to_whoever_pickles_it() -> None:
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(Chance([lambda: None]))
