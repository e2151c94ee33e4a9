"""Recipe file: the table that a TOML or YAML file holds."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import SpecError


def read_table(path: str | Path) -> dict[str, Any]:
    """What a TOML or YAML file holds, by name.

    Raises:
        SpecError: It cannot be read, or is no table.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        is_toml = path.suffix.lower() == ".toml"
        values = tomllib.loads(text) if is_toml else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        msg = f"cannot read the recipe {path}: {error}"
        raise SpecError(msg) from error
    if not isinstance(values, dict):
        msg = f"the recipe {path} may have keys with values, got {type(values).__name__}"
        raise SpecError(msg)
    return values


def flat(factors: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """`pathology.lesion = [6, 12]` is a table inside a table to TOML, and one name here."""
    found: dict[str, Any] = {}
    for name, value in factors.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found
