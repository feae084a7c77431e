"""What readers of the paper asked for: other depths, features against time, losses and batches, learning rates."""

from __future__ import annotations

from . import over_depths, over_rates, over_time, over_training
from .study import Figure

FIGURES: dict[str, Figure] = {
    "depths": over_depths.FIGURE,
    "time": over_time.FIGURE,
    "training": over_training.FIGURE,
    "learning_rate": over_rates.FIGURE,
}
