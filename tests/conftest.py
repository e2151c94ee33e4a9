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

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_interrupts() -> Iterator[None]:
    """Ctrl-C works also where a shell runs the tests in its background, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
