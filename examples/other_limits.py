"""The same data, network and constants in four infinite-width limits: muP, IP, NTP and SP.

    python examples/other_limits.py [--output DIR] [--smoke]

In muP and IP f_t is deterministic and starts at 0: all wide networks agree. In NTP and SP features do not move, and
f_0 is a draw of a Gaussian process: the bands are the spread of f_t over initial weights, which neither width nor the
number of particles makes smaller. Training takes most of it away on the samples, and less of it on other inputs.
"""

import argparse
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch

from tpsim import Network, Notice, Training, data, simulate
from tpsim.plot.style import BLUE, GREEN, GREY, PAGE, SHADE, STYLE, VERMILLION, finish_curves, finish_page, line_key

LIMITS = {
    "mup": ("muP", BLUE, "-"),
    "ip": ("IP", GREEN, "-"),
    "ntp": ("NTP", VERMILLION, "--"),
    "sp": ("SP", GREY, "--"),
}


def law(run, name, sample):
    """Mean and standard deviation of f_t, or f_probe, over initial weights, (step,) each."""
    if f"{name}_mean" in run:
        return run[f"{name}_mean"].values[:, sample], np.sqrt(run[f"{name}_cov"].values[:, sample, sample])
    mean = run[name].mean("replica").values[:, sample]
    return mean, np.zeros_like(mean)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("."), metavar="DIR")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    steps, particles = (6, 512) if options.smoke else (60, 2048)

    problem = data.digits((3, 8), count=8, probes=8)
    network = Network(depth=2, activation="tanh", init_scale=np.sqrt(2))
    training = Training(steps, learning_rate=0.3, reduction="mean")
    with warnings.catch_warnings(action="ignore", category=Notice):  # in IP h^2_0 = 0, and so is what it is divided by
        runs = {limit: simulate(problem, network, training, particles, 8, limit=limit) for limit in LIMITS}

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(PAGE, 2.8), sharey=True, layout="constrained")
        for ax, name, title in zip(axes, ("f", "f_probe"), ("a sample with $y = 1$", "another input"), strict=True):
            for limit, (label, colour, style) in LIMITS.items():
                mean, spread = law(runs[limit], name, 0)
                time = np.arange(steps + 1)
                ax.fill_between(time, mean - 2 * spread, mean + 2 * spread, color=colour, alpha=SHADE, linewidth=0)
                ax.plot(time, mean, style, color=colour)
                start, end = (f"{mean[t]:z.2f} +- {spread[t]:.2f}" for t in (0, -1))
                print(f"{label:4} {title}: f_0 = {start}, f_{steps} = {end}")
            finish_curves(ax, time, title, "$f_t$" if name == "f" else "", ())
        keys = [line_key(colour, label, linestyle=style) for label, colour, style in LIMITS.values()]
        keys += [(Patch(color=GREY, alpha=2 * SHADE, linewidth=0), "two standard deviations over initial weights")]
        finish_page(figure, "The output $f_t$ in four limits", keys)
        figure.savefig(options.output / "other_limits.png")
    plt.close(figure)
    return runs


if __name__ == "__main__":
    main()
