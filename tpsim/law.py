"""Gradient descent of f by a fixed kernel, and the law of f_t over the draws of f_0.

    f_{t+1} = f_t - Theta_t(., B_t) chi_t(B_t),    chi_{t,i} = L'(f_t(xi_i), y_i)

on m samples and p probes, of which only the samples have a say. Starts are rows: f (K, m), g (K, p) on the probes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .core import NormalSource
from .losses import SQUARED
from .run import error_signal
from .tangent import Kernel
from .task import Task

Array = np.ndarray
Moments = dict[str, Array]

LAW_DRAWS = 4096  # of f_0, for the law under losses that are not squared
JACKKNIFE_DRAWS = 512  # for the standard errors: differences between laws with the same draws
_START, _LAW = 1, 2  # first key entries of the stream (seed, replica, layer 0), which no particle space uses


def descend(task: Task, kernel: Kernel, f: Array, g: Array) -> Iterator[tuple[Array, Array, Array]]:
    """Yield B_t, f_t (K, m) and g_t (K, p) for t = 0..T."""
    training, m = task.training, task.problem.samples
    y, everyone = np.broadcast_to(task.problem.targets, f.shape), np.arange(m)
    for step, batch in enumerate(task.batches()):
        yield batch, f, g
        if batch.size:
            chi = error_signal(training, f, y, np.isin(everyone, batch))
            theta = kernel.at(training.rates(step, task.network.depth))
            f = f - chi @ np.ascontiguousarray(theta[:m].T)  # apart from the probes: these change no bit of it
            g = g - chi @ theta[m:].T


def replica_starts(task: Task, kernel: Kernel) -> tuple[Array, Array]:
    """f_0 of all replicas, (R, m) and (R, p): each draws from a stream of its own."""
    streams = [(task.settings.seed, replica, 0) for replica in range(task.replicas)]
    z, z_probes = (
        np.array([NormalSource(size, stream).pseudo_random((_START, part)) for stream in streams])
        for part, size in enumerate((kernel.samples, kernel.probes))
    )
    return kernel.draw(z, z_probes)


class Affine:
    """The law under the squared loss: f_t = A_t f_0 + c_t, so that the images of 0 and of the unit vectors tell all.

    E f_t = c_t,    Cov f_t = A_t Cov(f_0) A_t'
    """

    draws = 0

    def starts(self, kernel: Kernel) -> tuple[Array, Array]:
        m = kernel.samples
        return np.concatenate([np.zeros((1, m)), np.eye(m)]), np.zeros((m + 1, kernel.probes))

    def samples(self, kernel: Kernel, f: Array) -> Moments:
        m, A = kernel.samples, (f[1:] - f[0]).T
        return {"f_mean": f[0], "f_cov": A @ kernel.covariance[:m, :m] @ A.T}

    def probes(self, kernel: Kernel, g: Array) -> Moments:
        m, B = kernel.samples, (g[1:] - g[0]).T  # g_t = g_0 + B_t f_0 + g[0]
        start = kernel.covariance
        cross = B @ start[:m, m:]
        return {"f_probe_mean": g[0], "f_probe_cov": start[m:, m:] + cross + cross.T + B @ start[:m, :m] @ B.T}


class Sampled:
    """The law under any loss, from draws of f_0 on the samples: f_0 = S z, z in pairs of opposite sign.

    What is odd in f_0 leaves the mean exact, and the affine part of f_t is a control variate of its covariance. The
    part of f_0 on the probes that the samples leave open is moved by nothing; its covariance is added.

    Parameters
    ----------
    seed : int
    samples : m
    draws : how many at least; eight per sample, to tell the affine part from the rest.
    """

    def __init__(self, seed: int, samples: int, draws: int) -> None:
        half = max(draws // 2, 4 * samples)
        source = NormalSource(half, (seed, 0, 0))
        self.z = np.array([source.pseudo_random((_LAW, k)) for k in range(samples)]).T
        self.draws = 2 * half

    def starts(self, kernel: Kernel) -> tuple[Array, Array]:
        return kernel.draw(np.concatenate([self.z, -self.z]), np.zeros((self.draws, kernel.probes)))

    def samples(self, kernel: Kernel, f: Array) -> Moments:
        return self._moments("f", f)

    def probes(self, kernel: Kernel, g: Array) -> Moments:
        found = self._moments("f_probe", g)
        return found | {"f_probe_cov": found["f_probe_cov"] + kernel.unseen}

    def _moments(self, name: str, f: Array) -> Moments:
        """Mean and covariance, and their standard errors: those of a mean over independent pairs.

        A pair has f - mean = even +- odd, odd = slope z + rest by least squares, and

            cov = E[even even' + odd odd' - slope z z' slope'] + slope slope'
        """
        z, half = self.z, self.draws // 2
        mean = f.mean(axis=0)
        even, odd = (f[:half] + f[half:]) / 2 - mean, (f[:half] - f[half:]) / 2
        slope = np.linalg.solve(z.T @ z, z.T @ odd)  # (m, .)
        signed = ((1, even), (1, odd), (-1, z @ slope))
        rest = sum(sign * (a.T @ a) for sign, a in signed) / half
        square = sum(i * j * ((a * b).T @ (a * b)) for i, a in signed for j, b in signed) / half
        return {
            f"{name}_mean": mean,
            f"{name}_cov": rest + slope.T @ slope,
            f"{name}_mean_draw_se": even.std(axis=0) / np.sqrt(half - 1),
            f"{name}_cov_draw_se": np.sqrt(np.maximum(square - rest**2, 0.0) / (half - 1)),
        }


def law_of(task: Task, draws: int = LAW_DRAWS) -> Affine | Sampled:
    """The law of f_t: in closed form where there is one."""
    if task.training.criterion == SQUARED:
        return Affine()
    return Sampled(task.settings.seed, task.problem.samples, draws)


def jackknife(task: Task, others: list[Kernel]) -> Iterator[Moments]:
    """Yield, for t = 0..T, the standard errors that the kernel brings into the law.

    Parameters
    ----------
    others : the means of all kernel estimates but one, R >= 2 of them.

        se^2 = (R - 1) / R sum_r (law_r - their mean)^2

    These are close to the pooled kernel, where the law is needed: the delta method. Single estimates are sqrt(R) times
    farther away, and near the edge of stability the law is not linear on that scale.
    """
    law, R = law_of(task, JACKKNIFE_DRAWS), len(others)
    paths = zip(*(descend(task, kernel, *law.starts(kernel)) for kernel in others), strict=True)
    for step, states in enumerate(paths):
        laws = [moments(task, law, kernel, step, f, g) for kernel, (_, f, g) in zip(others, states, strict=True)]
        names = [name for name in laws[0] if not name.endswith("_se")]
        yield {f"{name}_se": np.sqrt((R - 1) * np.var([one[name] for one in laws], axis=0)) for name in names}


def moments(task: Task, law: Affine | Sampled, kernel: Kernel, step: int, f: Array, g: Array) -> Moments:
    """The law at `step`, as far as it is recorded there, from the images of `law.starts`."""
    found = law.samples(kernel, f) if step in task.schedule.record else {}
    return found | (law.probes(kernel, g) if step in task.schedule.probe else {})
