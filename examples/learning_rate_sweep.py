"""Which learning rate trains an infinitely wide network, and where it stops being stable.

    python examples/learning_rate_sweep.py [--output DIR] [--smoke]

In muP the best rate of the limit is that of every wide network. A rate is called stable here if no replica diverges
(`tpsim.Diverged`) within the T steps; the largest one is found by bisection.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np

from tpsim import Diverged, Network, Notice, Training, data, simulate, standard_error
from tpsim.plot.style import BLUE, GREY, SHADE, VERMILLION, band_key, finish, line_key, panel

REPLICAS = 4


def train(rate, problem, steps, particles):
    """Loss after training and its standard error; (inf, nan) if a replica diverges."""
    training = Training(steps, rate, reduction="mean")
    try:
        with warnings.catch_warnings(action="ignore", category=Notice):  # a diverging run has undefined ratios
            run = simulate(problem, Network(2, "tanh", np.sqrt(2)), training, particles, REPLICAS, record_every=steps)
    except Diverged:
        return np.inf, np.nan
    return float(run.loss[:, -1].mean()), float(standard_error(run.loss)[-1])


def bisect(low, high, stable, precision):
    """Narrow (stable rate, unstable rate) until they are within a factor 1 + precision."""
    while high > low * (1 + precision):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if stable(middle) else (low, middle)
    return low, high


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("."), metavar="DIR")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    points, steps, particles, precision = (4, 30, 512, 0.5) if options.smoke else (11, 30, 1024, 0.05)
    problem = data.digits(count=4 if options.smoke else 6, probes=0)

    swept = np.geomspace(0.03, 10.0, points)
    found = {rate: train(rate, problem, steps, particles) for rate in swept}

    def stable(rate):
        found[rate] = train(rate, problem, steps, particles)
        return np.isfinite(found[rate][0])

    first_bad = min(rate for rate in swept if not np.isfinite(found[rate][0]))
    low, high = bisect(max(rate for rate in swept if rate < first_bad), first_bad, stable, precision)
    rates, loss, error = np.array([(rate, *found[rate]) for rate in sorted(found)]).T
    finite = np.isfinite(loss)
    print(f"largest stable rate: between {low:.4g} and {high:.4g}; best of the sweep: {rates[np.argmin(loss)]:.4g}")

    with panel(None) as ax:
        lower, upper = (np.maximum(loss + k * error, loss / 10)[finite] for k in (-2, 2))
        ax.fill_between(rates[finite], lower, upper, color=BLUE, alpha=SHADE, linewidth=0)
        ax.plot(rates[finite], loss[finite], "o-", color=BLUE)
        ax.set(xscale="log", yscale="log")
        ax.plot(rates[~finite], np.full((~finite).sum(), 0.97), "x", color=GREY, transform=ax.get_xaxis_transform())
        ax.axvline(low, color=VERMILLION, linestyle="--")
        keys = [line_key(BLUE, f"loss after {steps} steps", marker="o"), band_key(REPLICAS)]
        keys += [line_key(VERMILLION, f"largest stable rate, {low:.3g}: no replica diverges", linestyle="--")]
        keys += [line_key(GREY, "a replica diverged", marker="x", linestyle="none")]
        finish(ax, "Learning rates in the limit", r"learning rate $\eta$", "loss", keys)
        ax.figure.savefig(options.output / "learning_rate_sweep.png")
    return {"rates": rates, "loss": loss, "bracket": (low, high)}


if __name__ == "__main__":
    main()
