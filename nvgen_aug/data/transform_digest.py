"""Transform digest: what a transform is made of, in a few hex digits that use does not change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from collections.abc import Mapping
from enum import Enum
from functools import partial
from types import CodeType
from types import FunctionType
from types import MethodType
from types import ModuleType
from typing import Any

import numpy as np
import torch
from monai.data import ImageReader

# What MONAI's transforms remember of their last call.
_REMEMBERED = {"R", "_do_transform", "_tracing"}
_PLAIN = (str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device, slice)


def transform_digest(thing: Any) -> str:
    """16 hex digits that name a transform: its classes, and everything they were told.

    Random states do not count, nor does what a reader of images remembers of the last
    file. A changed setting or another step changes it, and so does the code of a
    function of the caller; a change inside a class of the caller does not.
    """
    sha = hashlib.sha256()
    for word in _words(thing, frozenset()):
        sha.update(word.encode())
        sha.update(b"\0")
    return sha.hexdigest()[:16]


def _words(thing: Any, above: frozenset[int]) -> Iterator[str]:
    if isinstance(thing, _PLAIN):
        yield repr(thing)
    elif isinstance(thing, (np.ndarray, np.generic, torch.Tensor)):
        array = np.ascontiguousarray(torch.as_tensor(thing).detach().cpu().numpy())
        yield f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    elif isinstance(thing, (np.random.RandomState, np.random.Generator, torch.Generator)):
        yield "chance"
    elif isinstance(thing, (type, ModuleType)):
        yield f"{getattr(thing, '__module__', '')}.{thing.__name__}"
    elif isinstance(thing, Enum):
        yield str(thing)
    elif id(thing) in above:
        yield "a circle"
    else:
        yield type(thing).__qualname__
        yield from _parts(thing, above | {id(thing)})


def _parts(thing: Any, above: frozenset[int]) -> Iterator[str]:
    if isinstance(thing, Mapping):
        for key in sorted(thing, key=str):
            yield str(key)
            yield from _words(thing[key], above)
    elif isinstance(thing, (list, tuple)):
        for part in thing:
            yield from _words(part, above)
    elif isinstance(thing, (set, frozenset)):
        yield from sorted(word for part in thing for word in _words(part, above))
    elif isinstance(thing, FunctionType):
        yield thing.__name__
        yield from _code(thing.__code__)
        for cell in thing.__closure__ or ():
            yield from _words(cell.cell_contents, above)
    elif isinstance(thing, MethodType):
        yield from _words(thing.__func__, above)
        yield from _words(thing.__self__, above)
    elif isinstance(thing, partial):
        yield from _words([thing.func, thing.args, thing.keywords], above)
    elif hasattr(thing, "__dict__"):
        told = {name: part for name, part in vars(thing).items() if name not in _REMEMBERED}
        if isinstance(thing, ImageReader):
            told.pop("filenames", None)
        yield from _words(told, above)


def _code(code: CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _code(value)
        else:
            yield repr(value)
