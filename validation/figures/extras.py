"""Data of their own, by the name of the figure that needs them."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr

from .over_depths import depths_data
from .over_time import time_data
from .over_training import training_data
from .stability import rates_data
from .study import Progress, Settings

EXTRAS: dict[str, Callable[[Settings, Progress], xr.Dataset]] = {
    "depths": depths_data,
    "time": time_data,
    "training": training_data,
    "learning_rate": rates_data,
}
