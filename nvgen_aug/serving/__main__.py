"""The resident process that `nvgen_aug.serve` starts."""

from __future__ import annotations

from .resident import main

if __name__ == "__main__":
    main()
