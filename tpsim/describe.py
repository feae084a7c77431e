"""A job and its predicted cost as lines of text: what `tpsim run` and `tpsim plan` print first."""

from __future__ import annotations

import textwrap

import numpy as np

from . import data
from .job import Job
from .predict import Prediction


def job_text(job: Job) -> str:
    """Return what will be done: data, network, training, simulation."""
    source = job.config.data["source"]
    about = data.explain(source, **{key: value for key, value in job.config.data.items() if key != "source"})
    found = data.describe(job.task.problem)
    classes = found["classes"] or {}
    targets = ", ".join(f"{count} with y = {y:g}" for y, count in classes.items())
    inputs = f"m = {found['m']} inputs of dimension {found['d']}" + (f" ({targets})" if targets else "")
    training, settings = job.task.training, job.task.settings
    batches = training.batches
    batch = (
        "full batch"
        if batches is None
        else f"batches of {batches['size']}"
        if isinstance(batches, dict)
        else "batches as listed"
    )
    noise = settings.noise + (" with Sobol points" if settings.sobol else "")
    return _lines(
        {
            "data": f"{about}; {inputs}; {found['p']} probes",
            "network": f"L = {job.task.network.depth} hidden layers, {job.task.network.phi.name}",
            "training": f"{training.steps} steps, {batch}",
            "simulation": f"{job.task.replicas} replicas of {settings.particles} particles, noise {noise}, tolerance "
            f"{settings.tolerance:.3g}; {_count(job.task.workers, 'process')} of {_count(job.task.threads, 'thread')}",
        }
    )


def prediction_text(job: Job, prediction: Prediction) -> str:
    """Return what it will cost, and what that was measured on."""
    pilot, settings, T = prediction.pilot, job.task.settings, job.task.training.steps
    measured = f"{pilot.particles} particles, steps 0..{pilot.steps} of {T}, {pilot.seconds:.1f} s"
    if pilot.ranks.size:
        measured += f": p, q of {_ranks(pilot.ranks[-1])}"
    if pilot.stopped:
        measured += f"; {pilot.stopped}"
    if prediction.trial_steps:
        last = prediction.trial_steps - 1
        measured += f"; {settings.particles} particles, steps 0..{last}: {prediction.trial_seconds:.1f} s"
    rows = {"pilot": measured}
    if prediction.ranks.size:
        rows["ranks"] = (
            f"p, q of {_ranks(prediction.ranks)}; at most about {prediction.arrays} arrays in a space, which must stay "
            f"below {settings.particles}"
        )
    rows["memory"] = (
        f"about {size(prediction.bytes)} of arrays, and 0.2 GB for each process; {size(prediction.free_bytes)} are free"
    )
    rows["time"] = f"about {duration(prediction.seconds)} on idle cores"
    return _lines(rows)


def concerns(job: Job, prediction: Prediction) -> list[str]:
    """Return what the prediction warns of."""
    found = []
    M = job.task.settings.particles
    if prediction.pilot.stopped and not prediction.pilot.full:
        found.append(f"the pilot stopped: {prediction.pilot.stopped}")
    if job.task.settings.noise != "width" and prediction.arrays >= M:
        found.append(
            f"particles={M} may not do: about {prediction.arrays} arrays are expected in one space, and there must be "
            f"fewer arrays than particles; particles={1 << (2 * prediction.arrays - 1).bit_length()} leaves room"
        )
    if prediction.bytes > prediction.free_bytes:
        found.append(
            f"memory may not do: about {size(prediction.bytes)} are expected, {size(prediction.free_bytes)} are free; "
            "fewer particles or workers, a larger tolerance or max_rank need less"
        )
    return found


def _lines(rows: dict[str, str]) -> str:
    return "\n".join(
        textwrap.fill(text, 110, initial_indent=f"  {name:12}", subsequent_indent=" " * 14, break_on_hyphens=False)
        for name, text in rows.items()
    )


def _ranks(ranks: np.ndarray) -> str:
    return ", ".join(f"W^{l}: {int(p)}, {int(q)}" for l, (p, q) in enumerate(ranks, 2))


def _count(number: int, name: str) -> str:
    plural = "es" if name.endswith("s") else "s"
    return f"{number} {name}{plural if number != 1 else ''}"


def size(count: int) -> str:
    """Return a number of bytes as people write it."""
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.3g} GB"


def duration(seconds: float) -> str:
    """Return a time as people write it."""
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
