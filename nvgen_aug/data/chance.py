"""Chance: what seeds a caller's random transforms for one sample, whatever process runs them."""

from __future__ import annotations

import random
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from multiprocessing.reduction import ForkingPickler
from types import FunctionType
from types import MethodType
from types import ModuleType
from typing import Any
from typing import final

import numpy as np
import torch
from monai.transforms import Compose
from torch.utils.data import Dataset

from ..errors import DataError
from .seeds import derived_seed

Transform = Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None
_LEAVES = (
    str,
    bytes,
    int,
    float,
    complex,
    type,
    ModuleType,
    torch.Tensor,
    np.ndarray,
    np.generic,
    np.random.RandomState,
    np.random.Generator,
)


@final
class Chance:
    """All chance that an object (a transform, a dataset) can draw from.

    That is every `set_random_state` reachable from it, however deep in lists,
    dictionaries and attributes, and the global generators of Python, numpy and
    torch (CPU). The global ones are put back afterwards.

    It has `__slots__`, so MONAI's own seeding of workers does not reach through it.

    Args:
        root: The transform or dataset.
    """

    __slots__ = ("_found", "root")

    def __init__(self, root: Any) -> None:
        self.root = root
        self._found: list[Any] | None = None

    def __getstate__(self) -> tuple[Any]:
        check_picklable(self.root)
        return (self.root,)  # a false state would not be set again

    def __setstate__(self, state: tuple[Any]) -> None:
        (self.root,) = state
        self._found = None

    def __copy__(self) -> Chance:
        return Chance(self.root)

    def __deepcopy__(self, memo: dict[int, Any]) -> Chance:
        return Chance(deepcopy(self.root, memo))

    @contextmanager
    def of(self, seed: int) -> Iterator[None]:
        """Inside, everything drawn by the object is a function of this seed."""
        if self._found is None:
            self._found = _randomizables(self.root)
        for number, found in enumerate(self._found):
            found.set_random_state(seed=derived_seed(seed, number) % 2**32)
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        try:
            random.seed(derived_seed(seed, "python"))
            np.random.seed(derived_seed(seed, "numpy") % 2**32)
            # Not `torch.manual_seed`: it would reach for CUDA in a forked worker.
            torch.default_generator.manual_seed(derived_seed(seed, "torch"))
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])


def as_transform(transform: Any) -> Callable[[Any], Any] | None:
    """One callable: a list becomes a MONAI `Compose`."""
    if isinstance(transform, Sequence):
        composed: Callable[[Any], Any] = Compose(list(transform))
        return composed
    if transform is None:
        return None
    if callable(transform):
        one: Callable[[Any], Any] = transform
        return one
    msg = f"transform must be callable or a list of callables, got {type(transform).__name__}"
    raise DataError(msg)


def check_picklable(root: Any) -> None:
    """Name the step of a transform that cannot be sent to a worker of another start method.

    Anything but a transform or a chain of them is left to whoever pickles it: a dataset
    may hold gigabytes.

    Raises:
        DataError: with the step, why, and what to write in its place.
    """
    if isinstance(root, Dataset) or not callable(root):
        return
    steps = root.transforms if isinstance(root, Compose) else (root,)
    for number, step in enumerate(steps):
        try:
            ForkingPickler.dumps(step)
        except Exception as error:  # whatever its own way of being sent may raise
            name = getattr(step, "__qualname__", type(step).__name__)
            msg = (
                f"step {number} of the transform, `{name}`, cannot be sent to a worker: {error}; "
                "use a function that a module defines in place of a lambda, or workers with "
                'multiprocessing_context="fork"'
            )
            raise DataError(msg) from error


def _randomizables(root: Any) -> list[Any]:
    """Everything with `set_random_state`, outer before inner, since an outer one reseeds inner."""
    found: list[Any] = []
    seen: dict[int, Any] = {}
    todo = [root]
    while todo:
        thing = todo.pop()
        if thing is None or isinstance(thing, _LEAVES) or id(thing) in seen:
            continue
        seen[id(thing)] = thing
        # Asked of the class: a proxy may answer any attribute.
        if callable(getattr(type(thing), "set_random_state", None)):
            found.append(thing)
        todo.extend(reversed(list(_parts(thing))))
    return found


def _parts(thing: Any) -> Iterator[Any]:
    if isinstance(thing, Mapping):
        yield from thing.values()
    elif isinstance(thing, (list, tuple)):
        yield from thing
    elif isinstance(thing, partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, MethodType):
        yield thing.__self__
    elif isinstance(thing, FunctionType):
        for cell in thing.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not yet bound
                continue
    elif hasattr(thing, "__dict__"):
        yield from vars(thing).values()
