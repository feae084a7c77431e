"""What every oracle returns: f, the kernels, the means and the feature changes of a trajectory, as numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray


@dataclass
class Recorder:
    """Collect the trajectory of one network, step by step.

    Parameters
    ----------
    inner : callable (m, N), (k, N) -> (m, k)
        E[Z Z'] of two families of fields.
    mean : callable (m, N) -> (m,)
        E[Z].
    """

    inner: Callable[[Array, Array], Array]
    mean: Callable[[Array], Array]
    _rows: dict[str, list[Array]] = field(default_factory=dict)
    _initial: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, f: Array, h: list[Array], x: list[Array], dh: list[Array]) -> None:
        """Record one step; entry l-1 of h, x and dh holds layer l's fields, (m, N)."""
        if not self._initial:
            self._initial = {"h": [a.copy() for a in h], "x": [a.copy() for a in x]}
        row = {"f": np.array(f), "kernel_dh": np.array([self.inner(a, a) for a in dh])}
        for name, fields in (("h", h), ("x", x)):
            start = self._initial[name]
            row["kernel_" + name] = np.array([self.inner(a, a) for a in fields])
            row["kernel_" + name + "0"] = np.array([self.inner(a0, a) for a0, a in zip(start, fields, strict=True)])
            row["mean_" + name] = np.array([self.mean(a) for a in fields])
            row["feature_change_" + name] = np.array([self._change(a0, a) for a0, a in zip(start, fields, strict=True)])
        for name, value in row.items():
            self._rows.setdefault(name, []).append(value)

    def _change(self, start: Array, now: Array) -> float:
        moved = now - start
        return float(np.sqrt(np.trace(self.inner(moved, moved)) / np.trace(self.inner(start, start))))

    def arrays(self) -> dict[str, Array]:
        """Return f (step, sample), kernels (step, layer, sample, sample2), means (step, layer, sample),
        feature changes (step, layer)."""
        return {name: np.array(rows) for name, rows in self._rows.items()}
