"""`python -m nvgen_aug.cli`, for where the entry point is not on the path."""

from __future__ import annotations

from . import main

if __name__ == "__main__":
    main()
