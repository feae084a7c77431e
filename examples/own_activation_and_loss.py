"""Your own activation and your own loss: a pair of functions each.

    python examples/own_activation_and_loss.py [--output DIR] [--smoke]

A function on the circle, one sample of which is wrong. The activation is a snake, h + sin(h)^2. The loss is a smooth
Huber loss, quadratic near the target and linear far from it: the wrong sample has less weight than in the squared one.
"""

import argparse
from pathlib import Path

import numpy as np

from tpsim import Network, Problem, Training, simulate
from tpsim.plot.read import band
from tpsim.plot.style import BLUE, GREY, VERMILLION, band_key, curve, finish, line_key, panel

WIDTH = 0.1  # of the quadratic part


def snake(h):
    return h + np.sin(h) ** 2


def snake_derivative(h):
    return 1.0 + np.sin(2.0 * h)


def huber(f, y):
    return 2.0 * WIDTH * (np.sqrt((f - y) ** 2 + WIDTH**2) - WIDTH)


def huber_derivative(f, y):
    return 2.0 * WIDTH * (f - y) / np.sqrt((f - y) ** 2 + WIDTH**2)


def circle(angle):
    return 1.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("."), metavar="DIR")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    samples, steps, particles = (5, 5, 512) if options.smoke else (10, 60, 2048)

    angles = np.linspace(0.1, 6.2, samples) + 0.1 * np.random.default_rng(0).standard_normal(samples)
    grid = np.linspace(0.0, 2 * np.pi, 12 if options.smoke else 60)
    targets = np.sin(angles)
    targets[samples // 3] = -1.0
    problem = Problem(circle(angles), targets, probes=circle(grid))
    network = Network(depth=2, activation=(snake, snake_derivative))
    runs = {}
    with panel(None) as ax:
        ax.plot(grid, np.sin(grid), ":", color=GREY)
        for name, loss, colour in (("squared", "squared", GREY), ("Huber", (huber, huber_derivative), BLUE)):
            training = Training(steps, 0.1, loss, reduction="mean")
            run = runs[name] = simulate(problem, network, training, particles, replicas=4, record_every=steps)
            print(f"{name}: worst |f - sin| {abs(run.f_probe[:, -1].mean('replica').values - np.sin(grid)).max():.3f}")
            curve(ax, grid, band(run.f_probe[:, -1]), colour)
        ax.plot(angles, targets, "o", color=VERMILLION)
        keys = [line_key(GREY, "squared loss"), line_key(BLUE, "Huber loss"), band_key(4)]
        keys += [line_key(VERMILLION, "samples", marker="o", linestyle="none"), line_key(GREY, "truth", linestyle=":")]
        finish(ax, f"Snake activation, after {steps} steps", "angle of the input", "$f$", keys)
        ax.figure.savefig(options.output / "own_activation_and_loss.png")
    return runs


if __name__ == "__main__":
    main()
