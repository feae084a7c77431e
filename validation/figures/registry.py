"""All figures, by the names that `--only` takes."""

from __future__ import annotations

from .study import Figure

FIGURES: dict[str, Figure] = {}  # of metrics, spectra, curves_of_activations and readers: each has a dict FIGURES

__all__ = ["FIGURES", "Figure"]
