"""The scale of a panel whose values are positive."""

from __future__ import annotations

from typing import Any

import numpy as np

from validation.converge.scaling import log_ticks

DECADE = 10.0


def scale_positive(ax: Any) -> None:
    """Begin y at zero where what is drawn spans less than a decade; else make it logarithmic."""
    lines = [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]
    values = np.concatenate([*lines, np.empty(0)])
    values = values[np.isfinite(values) & (values > 0)]
    if values.size and values.max() >= DECADE * values.min():
        ax.set_yscale("log", nonpositive="clip")
        margin = (values.max() / values.min()) ** 0.05  # markers at the ends are whole
        ax.set_ylim(values.min() / margin, values.max() * margin)
        log_ticks(ax.yaxis)
    else:
        ax.set_ylim(bottom=0)
