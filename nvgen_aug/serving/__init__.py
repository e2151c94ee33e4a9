"""Serving: an engine in this process, or behind a Unix socket in one of its own."""

from __future__ import annotations

from .client import Client
from .engine import Engine
from .lifecycle import Resident
from .lifecycle import serve_here
from .served_source import ServedSource

__all__ = ["Client", "Engine", "Resident", "ServedSource", "serve_here"]
