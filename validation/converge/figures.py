"""The figures of `tpsim converge`, with their captions: every number drawn is one of the study."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpsim.errors import FileError
from tpsim.plot.files import write_pictures

from .curves import curves_figure, densities_figure
from .scaling import coordinate_figure, rates_figure

if TYPE_CHECKING:
    from .study import Study

FIGURES: dict[str, Callable[..., Any]] = {
    "curves": curves_figure,
    "rates": rates_figure,
    "densities": densities_figure,
    "coordinate_check": coordinate_figure,
}
CAPTIONS = {
    "curves": (
        "Outputs on training samples, and the training loss. Coloured lines: mean over the networks of one width; "
        "shaded: from their 16% to their 84% quantile, wider networks on top of narrower ones. Black: the limit, mean "
        "over replicas with a band of +-2 standard errors. Dotted: the target, where it is in view. Networks that "
        "diverged are left out, and the legend then counts the others."
    ),
    "rates": (
        "Errors of finite networks, root mean square over steps and samples (or pairs of samples), divided by the "
        "size of the limit. Filled: spread, the standard deviation of one network. Open: bias, the distance of the "
        "mean over networks from the limit with the noise of both removed, where it is resolved; triangles: where it "
        "is not, the estimate of its square and two standard errors. Squares: networks without matrices. Bars: +-2 "
        "standard errors of the logarithm. Coloured lines: fitted powers of n, whose exponents (of the spread first) "
        "stand above with the half width of their 95% intervals. Grey: the powers that theory expects, -1/2 of the "
        "spread and -1 of the bias. Dotted: the standard error of the limit itself. Of more than four layers, four "
        "are shown."
    ),
    "densities": (
        "Entries of the pre-activations h^l of the first sample after training. Top: Gaussian kernel estimates of "
        "their density, all networks of a width together, and that of the particles of Z^{h^l} (dashed). Below: "
        "distance between the entries of one network and the particles, mean over networks and samples with bars of "
        "+-2 standard errors of the logarithm; grey: the same distance of as many independent draws from the limit."
    ),
    "coordinate_check": (
        "Root mean square of the entries of h^l after training, and of their change, over neurons and samples: mean "
        "over networks with bars of +-2 standard errors of the logarithm. Dashed: the exact limit of infinite width, "
        "the line that muP must meet with a change that does not vanish in any layer. Where a limit is zero the panel "
        "says so. What falls more than four decades below the top leaves the picture; of more than four layers, four "
        "are shown."
    ),
}


def save_figures(study: Study, directory: str | os.PathLike[str], formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write every figure in every format, and `figures.md` with their captions; return the paths.

    The same study gives the same files, byte for byte.

    Raises
    ------
    InputError
        An unknown format (png, pdf and svg are known).
    FileError
        The directory cannot be created or written.
    """
    written = write_pictures({name: partial(draw, study) for name, draw in FIGURES.items()}, directory, formats)
    try:
        written.append(Path(directory) / "figures.md")
        written[-1].write_text(_report(study, formats), encoding="utf-8")
    except OSError as error:
        raise FileError(f"{directory}: cannot be written: {error.strerror or error}") from error
    return written


def _report(study: Study, formats: Sequence[str]) -> str:
    parts = ["# Finite networks against the limit"]
    for number, (name, caption) in enumerate(CAPTIONS.items(), start=1):
        picture = f"![{name}]({name}.{formats[0]})\n\n" if formats else ""
        parts.append(f"{picture}**Figure {number}.** {caption}")
    parts += [f"Left out: n = {width}: {reason}." for width, reason in study.skipped]
    return "\n\n".join(parts) + "\n"
