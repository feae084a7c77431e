"""Joint initial and final features (Chen et al. 2025, Section 5.3 and Figure 2): what training has added is new."""

from __future__ import annotations

import numpy as np
import xarray as xr

from tpsim.problem import Training

from .claim import Claim, Verdict
from .independence import GAP, ROUNDING, Group, certify, groups
from .truncation import truncation

Array = np.ndarray

FROZEN = 1e-12  # a relative change of features below this is rounding
PUSHED = 1e-6  # a sum of updates above this moves features by far more than that


def joint_gram(run: xr.Dataset, kind: str) -> Array:
    """Gram matrices of [Z_0(1..m), Z_T(1..m)], not centred: (replica, layer, 2m, 2m); kind "h" or "x" (Figure 2)."""
    order = ("replica", "layer", "sample", "sample2")
    kernel, joint = run[f"kernel_{kind}"], run[f"kernel_{kind}0"]
    time = next(dim for dim in ("step", "joint_step") if dim in joint.dims)
    start, end = (kernel.sel(step=t).transpose(*order).values for t in (0, int(run[time][-1])))
    both = joint.isel({time: -1}).transpose(*order).values  # rows at step 0, columns at T
    return np.concatenate(
        [np.concatenate([start, both], axis=-1), np.concatenate([both.swapaxes(-1, -2), end], axis=-1)], axis=-2
    )


def joint_features(
    pilot: xr.Dataset, small: xr.Dataset, large: xr.Dataset, training: Training, inputs: Array
) -> Claim:  # fmt: skip
    """Figure 2: initial and final features of every layer, all 2m of them together, are linearly independent.

    The certificate is that of Theorem 4.5 (`validation.independence.certify`) on T_r = the least lambda_min / scale of
    `joint_gram` over h, x and the layers, and so is the floor, below which they cannot be told from singular: the
    accumulated truncation squared times trace / scale, and rounding. Features that hardly moved are nearly singular,
    and that is no failure: FAIL is for those that did not move at all though they were trained, as in NTP, or are
    dependent at 0 or at T.

    Parameters
    ----------
    pilot, small, large : runs of different seeds; M particles in `small`, 2M in `large`.
    training : what they were trained with.
    inputs : (m, d); h at l = 1 is left out where they are dependent.

    Source: Chen et al. 2025, Section 5.3 and Figure 2 (of layer 2, pre-activations; all layers and both kinds here).
    """
    included = [group for group in groups(large.sizes["layer"], inputs) if group[0] in ("h", "x")]
    mean = {group: _joint(pilot, group).mean(axis=0) for group in included}
    scale = {group: float(np.linalg.eigvalsh(gram)[-1]) for group, gram in mean.items()}
    ratio = max((np.trace(mean[group]) / size for group, size in scale.items() if size > 0), default=0.0)
    accumulated = max(float(truncation(run, training).max()) for run in (small, large))
    bar = float(accumulated**2 * ratio + ROUNDING)
    at_m, at_2m = (
        {group: _least(_joint(run, group)) / (scale[group] or 1.0) for group in included} for run in (small, large)
    )
    decided = certify(np.min(list(at_m.values()), axis=0), np.min(list(at_2m.values()), axis=0), bar)
    each = {group: certify(at_m[group], at_2m[group], bar).verdict for group in included}
    trained = [_trained(large, training, int(l)) for l in large["layer"].values]
    for group, verdict in each.items():
        if verdict is Verdict.FAIL and not _has_cause(large, group, scale[group], trained[group[1] - 1]):
            each[group] = Verdict.NOT_RESOLVED
    failed = [f"{kind} of layer {l}" for (kind, l), verdict in each.items() if verdict is Verdict.FAIL]
    passed = decided.verdict is Verdict.PASS
    kind, l = min(included, key=lambda group: float(at_2m[group].mean()))
    notes = [f"smallest: {kind} of layer {l}", f"accumulated truncation: at most {accumulated:.1e}"]
    if not all(trained):
        still = ", ".join(str(k) for k, moved in enumerate(trained, start=1) if not moved)
        notes.append(f"nothing was trained that moves layer {still}: zero steps, rates or gradients")
    return Claim(
        "Joint initial and final features", f"lambda_min / lambda_max(pilot) of [Z_0, Z_{int(large['step'][-1])}]",
        decided.limit.mean, bar, decided.limit.error,
        Verdict.FAIL if failed else Verdict.PASS if passed else Verdict.NOT_RESOLVED,
        sum(verdict is not Verdict.NOT_RESOLVED for verdict in each.values()), len(each),
        (*notes, f"singular: {', '.join(failed)}") if failed else tuple(notes),
    )  # fmt: skip


def _joint(run: xr.Dataset, group: Group) -> Array:
    """`joint_gram` of one kind and layer, (replica, 2m, 2m)."""
    kind, l = group
    return joint_gram(run, kind)[:, l - 1]


def _least(gram: Array) -> Array:
    """lambda_min of each replica."""
    return np.asarray(np.linalg.eigvalsh(gram)[:, 0])


def _has_cause(run: xr.Dataset, group: Group, scale: float, trained: bool) -> bool:
    """Whether training did not move the features at all, or they are dependent at step 0 or at the last one."""
    kind, l = group
    change = run[f"feature_change_{kind}"].sel(layer=l).isel(step=-1).values
    m, gram = run.sizes["sample"], _joint(run, group)
    frozen = trained and not (change > FROZEN).all()
    return frozen or any(_singular(block, scale) for block in (gram[:, :m, :m], gram[:, m:, m:]))


def _singular(gram: Array, scale: float) -> bool:
    """Whether eigenvalues are zero to rounding behind a gap, and not the end of a spectrum that decays."""
    values = np.linalg.eigvalsh(gram)
    decays = (values > ROUNDING * scale) & (values < GAP * scale)
    return scale == 0 or bool(values[:, 0].max() < ROUNDING * scale and not decays.any())


def _trained(run: xr.Dataset, training: Training, layer: int) -> bool:
    """Whether the updates that move a layer are not zero: sum_t max_{k <= l, i} eta_k |chi_i| |dh^k_i| above PUSHED."""
    order = ("replica", "step", "layer", "sample", "sample2")
    squares = np.diagonal(run["kernel_dh"].transpose(*order).values, axis1=-2, axis2=-1)[:, :-1, :layer]
    signals = abs(run["chi"] * run["batch"]).transpose("replica", "step", "sample").values[:, :-1, None]
    rates = np.reshape([training.rates(int(t), run.sizes["layer"])[:layer] for t in run["step"][:-1]], (-1, layer, 1))
    return bool(((rates * signals * np.sqrt(squares)).max(axis=(-2, -1)).sum(axis=1) > PUSHED).all())
