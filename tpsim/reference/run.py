"""The literal simulation: full history, both passes of every step, all samples (slow, O((T m)^2) per step)."""

from __future__ import annotations

from typing import get_args

import numpy as np
import xarray as xr

from ..errors import Diverged, InputError, ResourceError
from ..plan import available_bytes
from ..problem import Network, Problem, Training, positive_int
from ..task import check_arguments
from . import appendix_b
from .appendix_b import Mistake
from .gaussians import Particles, gaussian, regress, response

Array = np.ndarray
ByLayer = dict[int, Array]


class Replica:
    """One run: the whole past of every Z-variable by the paper's layer index, and the two passes of a step."""

    def __init__(
        self, problem: Problem, network: Network, steps: int, spaces: dict[int, Particles], mistake: Mistake | None
    ) -> None:
        self.problem, self.network, self.spaces, self.mistake = problem, network, spaces, mistake
        m, layers = problem.samples, range(1, network.depth + 1)
        shape = (steps + 1, m, spaces[1].particles)
        self.h, self.x, self.dh = ({l: np.empty(shape) for l in layers} for _ in range(3))
        self.zhat_wx: ByLayer = {l: np.empty(shape) for l in layers[1:]}  # Zhat^{W^l x^{l-1}}, in space l
        self.zhat_wtdh: ByLayer = {l: np.empty(shape) for l in layers[1:]}  # Zhat^{W^l^T dh^l}, in space l - 1
        self.f, self.chi = np.empty((steps + 1, m)), np.empty((steps, m))
        self.moves: ByLayer = {l: np.empty((steps, m)) for l in range(1, network.depth + 2)}
        self.what_0 = self.what = np.empty(0)

    def forward(self, t: int) -> None:
        """Z^{h_t}, Z^{x_t} for l = 1..L, then Z^{What_t} and f_t."""
        L, inputs = self.network.depth, self.problem.inputs
        if t == 0:
            rows = np.sqrt(inputs.shape[1]) * inputs  # their mean products are the xi'xi', the covariance of W^1_0 xi
            self.h_0 = gaussian(self.spaces[1], rows, rows[:0], np.empty((0, self.spaces[1].particles)), self.scale(1))
        for l in range(1, L + 1):
            if l == 1:
                self.h[1][t] = appendix_b.first_layer(self.h_0, inputs, self.moves[1][:t], self.dh[1][:t])
            else:
                self.h[l][t] = self._hidden_forward(l, t)
            self.x[l][t] = self.network.phi.phi(self.h[l][t])  # (B.3)
            self.spaces[l].keep(self.x[l][t])
        if t == 0:
            self.what_0 = self.scale(L + 1) * initial_readout(self.spaces[L], self.x[L][0])
        self.what = appendix_b.last_layer(self.what_0, self.moves[L + 1][:t], self.x[L][:t])
        self.f[t] = appendix_b.output(self.what, self.x[L][t])

    def _hidden_forward(self, l: int, t: int) -> Array:
        x, dh, s = self.x[l - 1], self.dh[l], self.scale(l)
        known = slice(t, t) if self.mistake == "fresh_noise" else slice(0, t)
        self.zhat_wx[l][t] = gaussian(self.spaces[l], x[t], x[known], self.zhat_wx[l][known], s)
        zdot = response(x[t], self.zhat_wtdh[l][:t], dh[:t], s)
        if self.mistake == "zdot_forward_dropped":
            zdot = np.zeros_like(zdot)
        return appendix_b.hidden_layer(self.zhat_wx[l][t], zdot, self.moves[l][:t], dh[:t], x[: t + 1], self.mistake)

    def backward(self, t: int) -> None:
        """Z^{dx_t}, Z^{dh_t} for l = L..1."""
        L = self.network.depth
        dx = np.broadcast_to(self.what, self.h[L][t].shape)  # (B.6)
        for l in range(L, 0, -1):
            self.dh[l][t] = appendix_b.gradient(dx, self.network.phi.dphi(self.h[l][t]))
            self.spaces[l].keep(self.dh[l][t])
            if l > 1:
                dx = self._hidden_backward(l, t)

    def _hidden_backward(self, l: int, t: int) -> Array:
        x, dh, s = self.x[l - 1], self.dh[l], self.scale(l)
        known = slice(t, t) if self.mistake == "fresh_noise" else slice(0, t)
        self.zhat_wtdh[l][t] = gaussian(self.spaces[l - 1], dh[t], dh[known], self.zhat_wtdh[l][known], s)
        last = t if self.mistake == "s_equals_t_dropped" else t + 1
        zdot = response(dh[t], self.zhat_wx[l][: t + 1], x[:last], s)
        if self.mistake == "zdot_backward_dropped":
            zdot = np.zeros_like(zdot)
        return appendix_b.backward_layer(self.zhat_wtdh[l][t], zdot, self.moves[l][:t], x[:t], dh[: t + 1])

    def update(self, t: int, batch: Array, training: Training) -> None:
        """Item 8: chi_{t,i} = L'(f_t, y_i) 1{i in B_t}, divided by the batch's size if the loss is a mean."""
        self.chi[t] = 0.0
        self.chi[t, batch] = training.criterion.derivative(self.f[t, batch], self.problem.targets[batch])
        if training.reduction == "mean":
            self.chi[t] /= len(batch)
        used = max(t - 1, 0) if self.mistake == "chi_one_step_late" else t
        for l, rate in enumerate(training.rates(t, self.network.depth), start=1):
            self.moves[l][t] = rate * self.chi[used]

    def scale(self, l: int) -> float:
        """s_l."""
        return float(self.network.scales[l - 1])


def initial_readout(space: Particles, x_0: Array) -> Array:
    """Z^{What_0} / s_{L+1} ~ N(0, 1), independent of every x^L_0: orthogonal to them, so that f_0 = 0 at any M."""
    z = space.normal(1)
    return (z - regress(z, x_0) @ x_0)[0]


def simulate_reference(
    problem: Problem,
    network: Network,
    training: Training,
    particles: int = 4096,
    replicas: int = 8,
    seed: int = 0,
    mistake: Mistake | None = None,
    matched: bool = True,
) -> xr.Dataset:
    """Simulate the limit by the full history of Appendix B.

    Parameters
    ----------
    problem, network, training, particles, replicas, seed : as for `tpsim.simulate`; probes are not looked at.
    mistake : str, optional
        One of the wrong variants in `Mistake`, for negative controls.
    matched : bool
        Draw fresh noise with exact second moments (`Particles`), or iid.

    Returns
    -------
    xarray.Dataset
        f, chi (replica, step, sample), loss (replica, step), and kernel_h, kernel_x, kernel_dh (replica, step, layer,
        sample, sample2), with the meaning that they have in `tpsim.simulate`.

    Raises
    ------
    InputError
        A count that is not positive, an unknown mistake.
    ResourceError
        More arrays in a space than particles (`matched`).
    Diverged
        Outputs that are not finite.

    Notes
    -----
    Error: O(M^-1/2) noise between replicas and a bias O(1/M) (O(T m / M) for iid); 1e-8 for linear phi if matched.
    Cost: O(L M (T m)^2) per step, O(L M T m) memory.
    """
    if mistake is not None and (not isinstance(mistake, str) or mistake not in get_args(Mistake)):
        raise InputError("mistake", mistake, f"None or one of {get_args(Mistake)}")
    for field, value, least in (("particles", particles, 1), ("replicas", replicas, 1), ("seed", seed, 0)):
        positive_int(field, value, least)
    if not isinstance(matched, bool | np.bool_):
        raise InputError("matched", matched, "True or False")
    check_arguments(problem, network, training)
    _check_memory(problem, network, training, particles, replicas)
    runs = []
    for replica in range(replicas):
        streams = np.random.SeedSequence([seed, replica]).spawn(network.depth)
        spaces = {
            l: Particles(particles, matched, np.random.default_rng(stream)) for l, stream in enumerate(streams, start=1)
        }
        runs.append(_run(Replica(problem, network, training.steps, spaces, mistake), training))
    return _dataset(runs, problem, network, training)


def _check_memory(problem: Problem, network: Network, training: Training, particles: int, replicas: int) -> None:
    """Refuse a full history that cannot fit: h, x, dh and two families of every layer, step, sample and particle."""
    needed = 8 * 5 * replicas * network.depth * (training.steps + 1) * problem.samples * particles
    if needed > (free := available_bytes()):
        raise ResourceError(f"particles={particles}: the full history needs {needed} bytes, {free} are free")


@np.errstate(over="ignore", invalid="ignore")  # divergence is looked for at every step
def _run(run: Replica, training: Training) -> Replica:
    batches = list(training.batch_indices(run.problem.samples))
    for t in range(training.steps + 1):
        try:
            run.forward(t)
            if not np.isfinite(run.f[t]).all():
                raise Diverged(f"the outputs are not finite at step {t}", t)
            run.backward(t)
        except np.linalg.LinAlgError:  # of a regression on fields that are not finite
            raise Diverged(f"the fields are not finite at step {t}", t) from None
        if t < training.steps:
            run.update(t, batches[t], training)
    return run


@np.errstate(over="ignore", invalid="ignore")
def _dataset(runs: list[Replica], problem: Problem, network: Network, training: Training) -> xr.Dataset:
    f, y = np.stack([run.f for run in runs]), problem.targets
    scale = 1.0 / problem.samples if training.reduction == "mean" else 1.0
    y = np.broadcast_to(y, f.shape)
    dims = ("replica", "step", "layer", "sample", "sample2")
    variables = {
        "f": (("replica", "step", "sample"), f),
        "chi": (("replica", "step", "sample"), scale * training.criterion.derivative(f, y)),
        "loss": (("replica", "step"), scale * training.criterion.value(f, y).sum(axis=-1)),
    }
    for name in ("h", "x", "dh"):
        fields = np.stack([np.stack(list(getattr(run, name).values()), axis=1) for run in runs])  # (R, T+1, L, m, M)
        variables[f"kernel_{name}"] = (dims, fields @ fields.mT / fields.shape[-1])
    if odd := [name for name, (_, values) in variables.items() if not np.isfinite(values).all()]:
        raise Diverged(f"{', '.join(odd)}: not finite", training.steps)
    return xr.Dataset(variables, {"step": np.arange(training.steps + 1), "layer": np.arange(1, network.depth + 1)})
