"""The kernels of a network whose features do not move: that of f_0 and the tangent kernel, from particles at t = 0.

    K^0 = <xi, xi'>,   K^l = E[Z^{x^l} Z^{x^l}'],   Kdot^l = E[phi'(Z^{h^l}) phi'(Z^{h^l})'],   l = 1..L
    D^L = s_{L+1}^2 Kdot^L,   D^l = s_{l+1}^2 D^{l+1} Kdot^l  (elementwise)    = E[Z^{dh^l} Z^{dh^l}']

    covariance of f_0 : s_{L+1}^2 K^L
    tangent kernel    : Theta_t = sum_{l=1}^{L+1} eta_l(t) Theta^l,   Theta^l = D^l K^{l-1},   Theta^{L+1} = K^L

Source: Jacot, Gabriel & Hongler 2018; Yang & Hu 2020 (TP4), Sec. 3. With the powers of n of Chen et al. 2025, Table 2,
df/dh^l is dh^l / sqrt(n), so that W^1 has the share eta_1 n^-c_1 Theta^1 and every other matrix eta_l n^(1 - c_l)
Theta^l. That is Theta^l in NTP, and in SP but for W^1, whose share Theta^1 / n vanishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .core import SpaceFull, inner
from .errors import Diverged, ResourceError
from .mlp import Fields, State, backward, forward
from .parametrization import TABLE_2
from .task import Task

Array = np.ndarray

REMAINDER = 1e-12  # a variance below this share of itself, given the inputs before it, is rounding


@dataclass(frozen=True)
class Kernel:
    """Where f starts and what moves it, at N = m + p inputs: the samples, then the probes.

    Parameters
    ----------
    covariance : (N, N), of f_0.
    shares : (L+1, N, m), Theta^l: entry l-1 is what W^l moves at learning rate one.
    """

    covariance: Array
    shares: Array

    @property
    def samples(self) -> int:
        return self.shares.shape[2]

    @property
    def probes(self) -> int:
        return len(self.covariance) - self.samples

    @cached_property
    def root(self) -> Array:
        """Lower triangular S with S S' = covariance."""
        return factor(self.covariance)

    @cached_property
    def unseen(self) -> Array:
        """Covariance of f_0 on the probes given f_0 on the samples, (p, p)."""
        rest = self.root[self.samples :, self.samples :]
        return rest @ rest.T

    def at(self, rates: Array) -> Array:
        """Theta_t, (N, m), at the learning rates eta_1..eta_{L+1}."""
        theta = np.zeros(self.shares.shape[1:])
        for rate, share in zip(rates, self.shares, strict=True):
            theta += rate * share
        return theta

    def draw(self, z: Array, z_probes: Array) -> tuple[Array, Array]:
        """f_0 on the samples, (K, m), and on the probes, (K, p), from independent normals of the same shapes."""
        m, root = self.samples, self.root
        return z @ root[:m, :m].T, z @ root[m:, :m].T + z_probes @ root[m:, m:].T


def average(kernels: list[Kernel]) -> Kernel:
    """The mean of independent estimates."""
    return Kernel(
        np.mean([kernel.covariance for kernel in kernels], axis=0),
        np.mean([kernel.shares for kernel in kernels], axis=0),
    )


def leave_out(pooled: Kernel, one: Kernel, count: int) -> Kernel:
    """The mean of the other count - 1 estimates."""
    return Kernel(
        (count * pooled.covariance - one.covariance) / (count - 1), (count * pooled.shares - one.shares) / (count - 1)
    )


def factor(covariance: Array) -> Array:
    """Lower triangular S with S S' = covariance: the Cholesky factor of a matrix that may be singular.

    An input whose f is a function of the f of inputs before it (a probe that is a sample, a sample given twice) has
    a zero on the diagonal. Rows depend on those above them only, in every bit.
    """
    size = len(covariance)
    root = np.zeros((size, size))
    for k in range(size):
        rest = covariance[k:, k] - (root[k:, :k] * root[k, :k]).sum(axis=1)
        if rest[0] > REMAINDER * covariance[k, k]:
            root[k:, k] = rest / np.sqrt(rest[0])
    return root


@dataclass(frozen=True)
class Estimate:
    """What the particles of one replica say.

    Attributes
    ----------
    kernel : Kernel
    arrays : dict
        kernel_h, kernel_x, kernel_dh (L, m, m), mean_h, mean_x (L, m), and with snapshots Z_h, Z_x, Z_dh (L, m, M).
    """

    kernel: Kernel
    arrays: dict[str, Array]


def estimate(task: Task, replica: int) -> Estimate:
    """Estimate the kernels from the particles of one replica at t = 0.

    Raises
    ------
    Diverged
        Second moments that are not finite.
    ResourceError
        More arrays than particles in one space.

    Error: `matched` noise, bias O(1/M), spread about M^-0.7 with Sobol points; zero for the identity activation.
    Cost: O(L N^2 M) for N = m + p inputs.
    """
    problem, scales = task.problem, task.network.scales
    state, fields = _initial(task, problem.inputs, replica)
    K, slopes = _moments(problem.inputs, fields)
    if problem.probes is not None:
        # Samples once more, beside the probes, and their own moments put back: training knows of probes in no bit.
        m, inputs = problem.samples, np.concatenate([problem.inputs, problem.probes])
        own, own_slopes = K, slopes
        K, slopes = _moments(inputs, _initial(task, inputs, replica)[1])
        K[:, :m, :m], slopes[:, :m, :m] = own, own_slopes
    if not (np.isfinite(K).all() and np.isfinite(slopes).all()):
        raise Diverged("diverged: second moments at step 0 are not finite", 0)
    gradients = np.cumprod((scales[1:, None, None] ** 2 * slopes)[::-1], axis=0)[::-1]  # D^1..D^L
    shares = np.concatenate([gradients * K[:-1], K[-1:]])
    if TABLE_2[task.limit].rate[0] > 0:  # W^1 learns at eta_1 / n
        shares[0] = 0.0
    m = problem.samples
    arrays = _arrays(task, state, fields) | {"kernel_x": K[1:, :m, :m], "kernel_dh": gradients[:, :m, :m]}
    return Estimate(Kernel(scales[-1] ** 2 * K[-1], shares[:, :, :m]), arrays)


def _initial(task: Task, inputs: Array, replica: int) -> tuple[State, Fields]:
    """The forward pass of step 0."""
    state = State(task.network, inputs, task.settings, replica)
    try:
        return state, forward(state, 0, np.arange(len(inputs)))
    except SpaceFull as error:
        enough = 2 * len(inputs) + 3  # the images of all inputs, their features, What_0, the constant; and one more
        raise ResourceError(
            f"{error}; limit={task.limit!r} takes samples and probes together, {len(inputs)} here: "
            f"particles={enough} is sufficient"
        ) from error


def _moments(inputs: Array, fields: Fields) -> tuple[Array, Array]:
    """K^0..K^L, (L+1, N, N), and Kdot^1..Kdot^L, (L, N, N)."""
    K = [inputs @ inputs.T] + [kernel for _, kernel in sorted(fields.kernel_x.items())]
    return np.array(K), np.array([inner(slope, slope) for slope in fields.slope[1:]])


def _arrays(task: Task, state: State, fields: Fields) -> dict[str, Array]:
    """What is reported of the samples' fields, which no step changes."""
    layers = range(1, state.depth + 1)
    arrays = {
        name: np.array([getattr(fields, name)[l] for l in layers]) for name in ("kernel_h", "mean_h", "mean_x")
    }
    if task.schedule.snapshot:
        backward(state, fields)
        arrays |= {name: np.array(z[1:]) for name, z in (("Z_h", fields.h), ("Z_x", fields.x), ("Z_dh", fields.dh))}
    return arrays
