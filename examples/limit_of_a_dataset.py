"""A dataset in, the outputs of an infinitely wide network out.

    python examples/limit_of_a_dataset.py [--csv FILE.csv] [--output DIR] [--smoke]

Each line is f_t of one sample. The bands (thinner than the lines, here) are the error of the simulation, not a spread
over networks: in the limit f_t is deterministic. A csv file has a header line and the targets in its last column.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from tpsim import Network, Training, data, plot, simulate, standard_error
from tpsim.plot.style import PAGE, STYLE


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", metavar="FILE.csv", help="your data; digits 3 against 8 when missing")
    parser.add_argument("--output", type=Path, default=Path("."), metavar="DIR")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)

    if options.csv:
        problem = data.csv(options.csv, standardise="feature", scale="sqrt_d")
    else:
        problem = data.digits((3, 8), count=6 if options.smoke else 16, probes=8 if options.smoke else 24)
    network = Network(depth=2, activation="tanh", init_scale=np.sqrt(2))
    training = Training(steps=5 if options.smoke else 80, learning_rate=0.5, reduction="mean")
    run = simulate(problem, network, training, particles=512 if options.smoke else 1024, replicas=4)

    loss, error = run.loss.mean("replica").values, standard_error(run.loss).values
    print(f"{problem.samples} samples: loss {loss[0]:.4f} at t = 0, {loss[-1]:.6f} +- {error[-1]:.6f} after training")
    print(f"largest standard error of any f_t: {float(standard_error(run.f).max()):.4f}")
    with plt.rc_context(STYLE):
        columns = 1 if problem.probes is None else 2
        figure, axes = plt.subplots(1, columns, figsize=(PAGE, 2.8), sharey=True, squeeze=False, layout="constrained")
        plot.outputs(run, axes[0, 0])
        if problem.probes is not None:
            plot.probes(run, axes[0, 1])
        figure.savefig(options.output / "limit_of_a_dataset.png")
    plt.close(figure)
    return run


if __name__ == "__main__":
    main()
