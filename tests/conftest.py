"""What all tests share.

How to share code between tests: the repository's root is on `sys.path` for
pytest (`pythonpath = ["."]` in pyproject.toml) and `tests` is a package, so

    from tests.contracts.generator import GeneratorContract

works from any test file under `--import-mode=importlib`. Contract classes live in
`tests/contracts/`, one for an abstract class. They have no `Test` in their name, so
that pytest collects only what inherits them, and what an implementation must say is
a classmethod. Folders of tests need no `__init__.py`, and two files may have the same
name. Fixtures that one folder needs go in its own conftest.py; here stand only those
that every folder may use.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.leftovers import Leftovers


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_interrupts() -> Iterator[None]:
    """Ctrl-C works also where a shell runs the tests in its background, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """No process, socket, shared memory or directory of ours outlives the tests."""
    if sys.platform != "linux":
        yield
        return
    before = os.environ.get("XDG_RUNTIME_DIR")
    with tempfile.TemporaryDirectory(prefix="nvgen-test-") as name:
        leftovers = Leftovers(Path(name))
        yield
        gc.collect()  # what nobody holds any more is no leftover
        left = leftovers.found()
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
    assert not left, "left behind by the tests: " + "; ".join(left)
