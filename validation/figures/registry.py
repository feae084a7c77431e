"""All figures, by the names that `--only` takes, and the data that some need of their own."""

from __future__ import annotations

from . import curves_of_activations, metrics, readers, spectra
from .extras import EXTRAS
from .study import Figure

FIGURES: dict[str, Figure] = {
    name: figure
    for name, figure in sorted(
        (metrics.FIGURES | spectra.FIGURES | curves_of_activations.FIGURES | readers.FIGURES).items(),
        key=lambda item: (not item[0].isdecimal(), int(item[0]) if item[0].isdecimal() else 0),
    )
}
# Layers that there must be; figures of "layer 2" in the text (1-4) are of the last layer of a network of one.
DEPTH = {"6": 2, "7": 3, "9": 2, "10": 3, "12": 2, "13": 3, "15": 2, "16": 3}

__all__ = ["DEPTH", "EXTRAS", "FIGURES", "Figure"]
