"""many generators behind one seam, as actors of a Ray cluster; all that imports Ray

this process                  the cluster
ClusterEngine ── spec ──► Pool ── spec ──► Maker    an engine on every GPU
     ▲                                       │
     └────── voxels, by the object store ────┘
"""

from __future__ import annotations

from .engine import ClusterEngine

__all__ = ["ClusterEngine"]
