"""The limit against real networks: dense ones, trained on the same data and extrapolated in the width.

Of networks of width n, E f_t(n) = f_t + a/n + b/n^2 + ..., and of runs with M particles, E f_t(M) = f_t + a'/M + ...;
both are extrapolated, and compared at every step and sample. Nothing is fitted to the other side.

What is compared has a hundredth of the variance of f_t:

    g_t(i) = (f_t(i)[y] - f_t(i)[-y]) / 2 - beta_t(i) z(i),     z(i) = - sum_j Theta_0(i, j) L'(0, y_j)

f[y] and f[-y] are outputs of one network trained twice from the same weights, on the targets y and -y: as What_0 and
-What_0 have one law, -f[-y] has the law of f[y] (squared and logistic loss), and what is odd in What_0, such as f_0,
cancels. z is what the tangent kernel of this network at t = 0 makes of the targets: it fluctuates about its limit, and
f_t with it. beta is one number for networks and limit, from a pilot that is used for nothing else: whatever it is, g
agrees if f_t and Theta_0 do. (Theta_0 has closed forms, which other tests compare with; no history enters it.)
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import joblib
import numpy as np
import xarray as xr
from scipy.special import ndtri, stdtrit

from tpsim import Network, Notice, Problem, Training, simulate
from tpsim.errors import InputError
from tpsim.problem import positive_int
from tpsim.progress import Progress
from tpsim.signals import interrupts_deferred

from .claim import Claim, Verdict

Array = np.ndarray

FALSE = 1e-3  # probability that any of the comparisons of one call fails without cause
POWER = 0.9  # with which the minimum detectable effect is detected
RESOLUTION = 0.1  # of rms_i(f_T - f_0): what has to be detectable for a PASS
AIM = 0.4  # part of it that the errors of the networks may take: the rest is for the limit and for the remainder
PILOT = 48  # networks of each width
PIECE = 64  # networks that are trained in one piece
# Of a pair of trainings, as measured on one core: results are the same on every machine
DRAW, STEP, SAMPLE = 60e-9, 2.7e-9, 0.2e-9  # seconds for each entry of a matrix; the last two a step, SAMPLE a sample
OVERHEAD = 8000.0  # entries that take as long as what does not depend on the width


@dataclass(frozen=True)
class Pair:
    """A problem with targets y and -y, and what is trained on it."""

    problems: tuple[Problem, Problem]
    network: Network
    training: Training
    seed: int

    def tangent(self, start: xr.Dataset) -> Array:
        """z (replica, sample) from the kernels at step 0, with the learning rates of all steps together."""
        problem, training, L = self.problems[0], self.training, self.network.depth
        x, dh = (start[name].values[:, 0] for name in ("kernel_x", "kernel_dh"))  # (replica, layer, sample, sample2)
        gram = problem.inputs @ problem.inputs.T
        shares = [dh[:, 0] * gram, *(dh[:, l] * x[:, l - 1] for l in range(1, L)), x[:, L - 1]]
        rates = np.sum([training.rates(t, L) for t in range(training.steps)], axis=0)
        chi = training.criterion.derivative(np.zeros(problem.samples), problem.targets)
        return -sum(rate * share @ chi for rate, share in zip(rates, shares, strict=True))


class Sample(NamedTuple):
    """Independent replicas: f (R, T, m), the half difference of f[y] and f[-y] at t = 1..T, and z (R, m)."""

    f: Array
    z: Array

    def less(self, beta: Array) -> Array:
        return self.f - beta * self.z[:, None]


class Mean(NamedTuple):
    """A mean, its variance, and sum_k variance_k^2 / freedom_k over what it is made of (Satterthwaite)."""

    value: Array
    variance: Array
    quartic: Array


def agreement(
    problem: Problem, network: Network, training: Training, *, particles: int = 4096, replicas: int = 8, seed: int = 0,
    steps: int = 8, widths: Sequence[int] = (32, 96, 256), seconds: float = 8.0, progress: Progress = None,
    workers: int = 1,
) -> Claim:  # fmt: skip
    """Compare f_1..f_T of the limit with dense muP networks extrapolated in the width, for T = `steps` steps.

    Parameters
    ----------
    problem, network, training : as for `simulate`; probes are left aside, and training ends after `steps` steps.
    particles, replicas, seed : the limit is extrapolated in 1/M from M = `particles` and M/2.
    widths : two or more; means are extrapolated by the polynomial in 1/n through all of them.
    seconds : of one core that the networks may take beside the pilot, by a table of what was measured once. The pilot
        says how many networks the resolution takes, and how they are best shared among the widths.
    progress, workers : as for `simulate`; the result does not depend on them.

    Returns
    -------
    Claim
        estimate : the largest of (|difference| - remainder) / standard error over steps and samples. The remainder is
            what the extrapolation is trusted with: as much as it moves f from the widest networks. (Close to where
            training is unstable, rare networks make E f_t(n) no polynomial in 1/n: half of it was seen to be wrong.)
        reference : Student's two-sided critical value for all of them together, level 1e-3, with the smallest degrees
            of freedom. More is a FAIL.
        resolved : entries whose minimum detectable effect is at most 10% of rms_i(f_T - f_0). PASS takes all of them.

    Raises
    ------
    InputError
        An argument out of range.
    Diverged, RankError
        Of the limit. Networks that diverge leave the claim unresolved.

    Source: Chen et al. 2025, Sec. 4 and Appendix B, for the limit; TP4, Theorem 7.4, for the convergence.
    Error: networks are float32, about 1e-6 of rms f: nothing beside 10%. Their inputs are rotated into their span if
        d > m, which leaves their law as it is, as W^1 is isotropic.
    Cost: `seconds` at most, a pilot of 48 networks at each width, and 2 x `replicas` runs at M and M/2.
    """
    _check(widths, particles, replicas, seconds)
    training = replace(training, steps=min(positive_int("steps", steps), training.steps))
    pair = _pair(problem, network, training, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # of the data: other claims give them; of divergence: it is counted
        limits = {M: _limit(pair, M, replicas, progress, workers) for M in (particles // 2, particles)}
        motion = float(np.sqrt(np.mean(limits[particles].f[:, -1].mean(axis=0) ** 2))) if training.steps else 0.0
        pilot = _networks(pair, dict.fromkeys(widths, range(PILOT)), workers)
        if not motion > 0.0 or not _finite(pilot):
            return _nothing(training.steps * problem.samples, pilot, motion)
        beta = _slope(pilot[max(widths)])
        counts = _counts(pair, {n: sample.less(beta) for n, sample in pilot.items()}, motion, seconds)
        sample = _networks(pair, {n: range(PILOT, PILOT + count) for n, count in counts.items()}, workers)
    if not _finite(sample):
        return _nothing(training.steps * problem.samples, sample, motion)
    by_width = {n: s.less(beta) for n, s in sample.items()}
    found = _judge(by_width, {M: s.less(beta) for M, s in limits.items()}, motion)
    sizes = ", ".join(f"{count} of n = {n}" for n, count in counts.items())
    text = f"networks beside the pilot: {sizes}; limit: {replicas} replicas at M = {particles // 2} and {particles}"
    return replace(found, notes=(*found.notes, text))


def _check(widths: Sequence[int], particles: int, replicas: int, seconds: float) -> None:
    positive_int("particles", particles, 4)
    positive_int("replicas", replicas, 2)
    for n in widths:
        positive_int("widths", n, 2)
    if len({*widths}) < max(len(widths), 2):
        raise InputError("widths", widths, "two or more different widths")
    if not seconds > 0:
        raise InputError("seconds", seconds, "a number > 0")


def _pair(problem: Problem, network: Network, training: Training, seed: int) -> Pair:
    inputs = problem.inputs
    if inputs.shape[1] > problem.samples:
        inputs = np.asarray(np.linalg.qr(inputs.T, mode="r")).T  # the same Gram matrix
    return Pair((Problem(inputs, problem.targets), Problem(inputs, -problem.targets)), network, training, seed)


def _half(plus: xr.Dataset, minus: xr.Dataset) -> Array:
    return (plus["f"].values - minus["f"].values)[:, 1:] / 2


def _limit(pair: Pair, particles: int, replicas: int, progress: Progress, workers: int) -> Sample:
    plus, minus = (
        simulate(
            problem, pair.network, pair.training, particles, replicas, seed=pair.seed + particles, progress=progress,
            workers=min(workers, replicas), joint_every=max(pair.training.steps, 1),
        )
        for problem in pair.problems
    )  # fmt: skip
    return Sample(_half(plus, minus), pair.tangent(plus))


def _networks(pair: Pair, wanted: Mapping[int, range], workers: int) -> dict[int, Sample]:
    """Train the networks k in `wanted[n]` of every width n, in pieces that do not depend on `workers`."""
    pieces = [(n, ks[at : at + PIECE]) for n, ks in wanted.items() for at in range(0, len(ks), PIECE)]
    if workers == 1:
        found = [_piece(pair, *piece) for piece in pieces]
    else:
        jobs = (joblib.delayed(_piece)(pair, *piece) for piece in pieces)
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            with interrupts_deferred():
                results = joblib.Parallel(workers, return_as="generator")(jobs)  # starts the processes
            found = list(results)
    parts = {n: [part for (width, _), part in zip(pieces, found, strict=True) if width == n] for n in wanted}
    return {
        n: Sample(*(np.concatenate(arrays) for arrays in zip(*several, strict=True))) for n, several in parts.items()
    }


def _piece(pair: Pair, width: int, ks: range) -> Sample:
    import torch  # where there are no networks, nothing needs it

    from finite import train

    def trained(problem: Problem, training: Training, quantities: tuple[str, ...]) -> xr.Dataset:
        return train(
            problem, pair.network, training, width, seeds=len(ks), first_seed=ks[0], seed=pair.seed, dtype="float32",
            quantities=quantities, progress=False,
        )  # fmt: skip

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)
            start = trained(pair.problems[0], replace(pair.training, steps=0), ("kernel_x", "kernel_dh"))
            plus, minus = (trained(problem, pair.training, ()) for problem in pair.problems)
    finally:
        torch.set_num_threads(threads)
    return Sample(_half(plus, minus), pair.tangent(start))


def _slope(sample: Sample) -> Array:
    """beta (T, m): the regression of f_t(i) on z(i)."""
    f, z = (values - values.mean(axis=0) for values in sample)
    square = (z**2).sum(axis=0)
    return np.divide(np.einsum("rti,ri->ti", f, z), square, out=np.zeros(f.shape[1:]), where=square > 0)


def _counts(pair: Pair, pilot: Mapping[int, Array], motion: float, seconds: float) -> dict[int, int]:
    """Networks of each width: the cheapest ones that reach AIM * RESOLUTION, or as many as fit into `seconds`."""
    (steps, m), L = next(iter(pilot.values())).shape[1:], pair.network.depth
    each = DRAW + 2 * steps * (STEP + SAMPLE * m)
    cost = {n: each * ((L - 1) * n**2 + (m + 1) * n + OVERHEAD) for n in pilot}
    noise = {n: abs(w) * float(pilot[n].std(axis=0, ddof=1).max()) for n, w in _weights(pilot).items()}
    target = AIM * RESOLUTION * motion / float(ndtri(1 - FALSE / (2 * steps * m)) + ndtri(POWER))
    total = sum(noise[n] * np.sqrt(cost[n]) for n in pilot)
    share = {n: noise[n] / np.sqrt(cost[n]) * total / target**2 for n in pilot}
    scale = min(1.0, seconds / sum(share[n] * cost[n] for n in pilot)) if total > 0 else 1.0
    return {n: max(int(np.ceil(scale * share[n])), PILOT // 3) for n in pilot}


def _weights(widths: Mapping[int, Array] | Sequence[int]) -> dict[int, float]:
    """w_n with sum_n w_n p(1/n) = p(0) for polynomials p of degree len(widths) - 1."""
    return {n: float(np.prod([n / (n - other) for other in widths if other != n])) for n in widths}


def _combined(samples: Mapping[int, Array]) -> Mean:
    """The extrapolation of the means of independent samples, by width or number of particles."""
    weights = _weights(samples)
    value = sum(w * samples[n].mean(axis=0) for n, w in weights.items())
    parts = {n: w**2 * samples[n].var(axis=0, ddof=1) / len(samples[n]) for n, w in weights.items()}
    return Mean(value, sum(parts.values()), sum(part**2 / (len(samples[n]) - 1) for n, part in parts.items()))


def _judge(networks: Mapping[int, Array], limits: Mapping[int, Array], motion: float) -> Claim:
    """The claim, from g of networks by width and of the limit by number of particles, (R, T, m) each."""
    real, limit = _combined(networks), _combined(limits)
    remainder = np.abs(real.value - networks[max(networks)].mean(axis=0))
    error = np.sqrt(real.variance + limit.variance)
    freedom = float((error**4 / (real.quartic + limit.quartic)).min())
    critical = float(-stdtrit(freedom, FALSE / (2 * error.size)))
    off = np.maximum(np.abs(limit.value - real.value) - remainder, 0.0) / error
    effect = ((critical + float(stdtrit(freedom, POWER))) * error + remainder) / motion
    resolved, worst = effect <= RESOLUTION, np.unravel_index(np.argmax(off), off.shape)
    verdict = Verdict.FAIL if off.max() > critical else Verdict.PASS if resolved.all() else Verdict.NOT_RESOLVED
    notes = (
        f"largest (|difference| - remainder) / s.e. at step {worst[0] + 1}, sample {worst[1] + 1}, of {off.size}",
        f"minimum detectable effect {effect.max():.2g} of the rms motion of f_T, {motion:.3g}; "
        f"{RESOLUTION:g} asked for; remainder of the extrapolation up to {remainder.max() / motion:.2g}",
        f"largest difference {np.abs(limit.value - real.value).max() / motion:.2g} of that motion",
    )
    return _claim(len(off), float(off.max()), critical, 1.0, verdict, int(resolved.sum()), off.size, notes)


def _nothing(entries: int, networks: Mapping[int, Sample], motion: float) -> Claim:
    if not motion > 0.0:
        note = "f does not move: nothing to compare"
    else:
        lost = [(n, int((~np.isfinite(s.f).all(axis=(1, 2))).sum()), len(s.f)) for n, s in networks.items()]
        note = "diverged: " + ", ".join(f"{k} of {count} networks of width {n}" for n, k, count in lost if k)
    return _claim(0, np.nan, np.nan, np.nan, Verdict.NOT_RESOLVED, 0, entries, (note,))


def _claim(
    steps: int, estimate: float, reference: float, error: float, verdict: Verdict, resolved: int, of: int,
    notes: tuple[str, ...],
) -> Claim:  # fmt: skip
    statement = f"f_1..f_{steps} of the limit are those of dense networks extrapolated to infinite width"
    return Claim("Limit of finite networks", statement, estimate, reference, error, verdict, resolved, of, notes)


def _finite(networks: Mapping[int, Sample]) -> bool:
    return all(np.isfinite(sample.f).all() and np.isfinite(sample.z).all() for sample in networks.values())
