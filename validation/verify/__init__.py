"""`tpsim verify`: every claim of Chen et al. 2025 on one dataset, one table, one report."""

from .evidence import Evidence, Settings, gather

__all__ = ["Evidence", "Settings", "gather"]
