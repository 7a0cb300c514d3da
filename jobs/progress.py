"""How a job tells a person how far it is."""

from __future__ import annotations

from lakehouse.progress import SILENT, Progress

__all__ = ["SILENT", "Progress"]
