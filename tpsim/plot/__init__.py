"""Pictures of a run: every function takes the dataset and an optional `ax`, returns the Axes, and never calls show().

    from tpsim import plot
    plot.loss(run)                              # one panel, here on new axes
    plot.kernels_figure(run, "x").savefig("kernels.pdf")
    plot.save_all(run, "figures", formats=("png", "pdf"))

Bands and bars are +- 2 standard errors of the mean over replicas; with one replica there are none. Datasets of finite
networks have the same variables and draw the same way; a variable that is missing is an `InputError` that names it.
"""

from .curves import loss, outputs, probe_error, probes
from .diagnostics import feature_change, ranks, residuals
from .eigenvalues import spectra, spectra_figure
from .files import missing, save_all
from .law import law
from .matrices import kernels, kernels_figure
from .particles import densities, densities_figure

__all__ = [
    "densities",
    "densities_figure",
    "feature_change",
    "kernels",
    "kernels_figure",
    "law",
    "loss",
    "missing",
    "outputs",
    "probe_error",
    "probes",
    "ranks",
    "residuals",
    "save_all",
    "spectra",
    "spectra_figure",
]
