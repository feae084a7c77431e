"""What the tolerance of a simulation has dropped, summed up over steps and layers."""

from __future__ import annotations

import numpy as np
import xarray as xr

from tpsim.problem import Training

Array = np.ndarray


def truncation(run: xr.Dataset, training: Training) -> Array:
    """Largest accumulated truncation of each replica over steps and layers: (replica,); see `accumulated`."""
    return np.asarray(accumulated(run, training).max(("step", "layer")))


def accumulated(run: xr.Dataset, training: Training) -> xr.DataArray:
    """What the tolerance has dropped until each step and layer, relative to the features: (replica, step, layer).

    First-order accounting. A product with W^l' leaves out the share dropped^(1/2) of its argument's norm; every
    left-out part counts with the weight with which it enters the fields, and its amplification by later layers and
    steps is taken as one:

        a_{t,l} = sum_{2<=l'<=l} F_{t,l'} + sum_{s<t} sum_{l'>=2} w_{s,l'} (F_{s,l'} + B_{s,l'})
        w_{s,l} = eta_l sum_i |chi_i| |dh^l_i| |x^{l-1}_i| max_j |x^{l-1}_j| / max_j |h^l_j|     (all at step s)

    with F, B = dropped_forward^(1/2), dropped_backward^(1/2): w is the relative size of the update of h^l, which is
    -eta_l sum_i chi_i dh^l_i <x^{l-1}_i, x^{l-1}_j>. It is 0 where h^l is 0. A step that was not recorded counts as the
    recorded one before it, at its own rates.

    Returns zeros where nothing is dropped: L = 1, the lazy limits, dense networks.

    Error: not a bound. Against the same dense networks with and without truncation, the features have changed by .1 to
    .9 of it where training is smooth, but by up to 7 times as much where the loss oscillates (see `unsteady`).
    """
    order = ("replica", "step", "layer")
    sums = np.zeros([run.sizes[name] for name in order])
    if "dropped_forward" in run and run.sizes["layer"] > 1:
        forward, backward = (
            np.sqrt(run[f"dropped_{name}"].transpose(*order).values[..., 1:]) for name in ("forward", "backward")
        )
        weighted = (_weights(run, training) * (forward + backward)).sum(axis=-1)
        sums[..., 1:] = np.cumsum(forward, axis=-1)
        sums += (np.cumsum(weighted, axis=-1) - weighted)[..., None]
    return xr.DataArray(sums, {name: run[name].values for name in order}, order)


def _weights(run: xr.Dataset, training: Training) -> Array:
    """w_{s,l'} of `accumulated` for l' = 2..L, summed over the steps that each recorded one stands for."""
    steps, depth = run["step"].values, run.sizes["layer"]
    ends = [*steps[1:], steps[-1]]
    rates = [
        sum((training.rates(u, depth)[1:depth] for u in range(s, end)), np.zeros(depth - 1))
        for s, end in zip(steps, ends, strict=True)
    ]
    h, x, dh = (_sizes(run[f"kernel_{z}"]) for z in ("h", "x", "dh"))
    chi = np.abs(run["chi"].transpose("replica", "step", "sample").values) * _share(run, training)
    entering = x[:, :, :-1]
    update = (chi[:, :, None] * dh[:, :, 1:] * entering).sum(axis=-1) * entering.max(axis=-1)
    size = h[:, :, 1:].max(axis=-1)
    return np.array(rates) * np.divide(update, size, out=np.zeros_like(size), where=size > 0)


def _sizes(kernel: xr.DataArray) -> Array:
    """|Z_i| = E[Z_i^2]^(1/2): (replica, step, layer, sample)."""
    values = kernel.transpose("replica", "step", "layer", "sample", "sample2").values
    return np.sqrt(np.diagonal(values, axis1=-2, axis2=-1))


def _share(run: xr.Dataset, training: Training) -> Array:
    """What turns the recorded chi, that of all m samples, into that of the step's batch: (step, sample)."""
    batch = run["batch"].transpose("step", "sample").values
    if training.reduction == "mean":
        return batch * batch.shape[1] / np.maximum(batch.sum(axis=1, keepdims=True), 1)
    return batch.astype(float)


def unsteady(run: xr.Dataset) -> int | None:
    """First recorded step at which full-batch training has lost more than 1% of the initial loss again, or None.

    A loss that rises tells of directions in which updates overshoot: there a perturbation grows from step to step, that
    by the noise of the particles (which the replicas show) as well as that by truncation (which they do not).
    """
    if "loss" not in run or not run["batch"].values[:-1].all():
        return None  # with minibatches the loss of all samples rises now and then
    loss = run["loss"].mean("replica").values
    rises = np.flatnonzero(loss - np.minimum.accumulate(loss) > 0.01 * loss[0])
    return int(run["step"].values[rises[0]]) if len(rises) else None
