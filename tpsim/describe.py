"""A job and its predicted cost as lines of text: what `tpsim run` and `tpsim plan` print first."""

from __future__ import annotations

import numpy as np

from . import data
from .conventions import parametrization_title
from .goal import HELD
from .job import Job
from .predict import Prediction
from .problem import Training
from .task import Task


def job_text(job: Job) -> str:
    """Return what will be done: data, network, training, simulation."""
    task, source = job.task, job.config.data["source"]
    options = {key: value for key, value in job.config.data.items() if key != "source"}
    settings, tolerance = task.settings, f"tolerance {task.settings.tolerance:.3g}"
    noise = f"{settings.noise} noise" + (" on Sobol points" if settings.sobol else "")
    return _lines(
        {
            "data": [data.explain(source, **options), _samples(job)],
            "network": [f"L = {task.network.depth} hidden layers, {task.network.phi.name}"],
            "training": [f"{task.training.steps} steps, {_batches(task.training)}"],
            "simulation": [
                _simulated(task),
                *_search(task),
                f"{task.replicas} replicas of {settings.particles} particles, {noise}, {tolerance}",
                f"{_count(task.workers, 'process')}, {_count(task.threads, 'thread')} each",
            ],
        }
    )


def _simulated(task: Task) -> str:
    name = parametrization_title(task.limit)
    if task.settings.noise == "width":
        return f"networks of width {task.settings.particles} without their matrices, {name}"
    return f"the limit of infinite width, {name}" + (", features do not move" if task.lazy else "")


def _search(task: Task) -> list[str]:
    """The rules of `tpsim.accuracy`, whose first stage the next line is."""
    if (goal := task.goal) is None:
        return []
    held = [f"{name} = {value:g}" for name in HELD if (value := getattr(goal, name)) is not None]
    return [
        f"error of f at most {goal.target:g}, within {duration(goal.max_seconds)} and {size(goal.max_bytes)}",
        f"given: {', '.join(held)}" if held else "particles, replicas and tolerance are chosen",
        "stages of up to 4 times the particles of the one before, until the error does; first",
    ]


def _samples(job: Job) -> str:
    found = data.describe(job.task.problem)
    targets = ", ".join(f"{count} with y = {y:g}" for y, count in (found["classes"] or {}).items())
    return f"m = {found['m']} samples ({targets or 'many targets'}), d = {found['d']}, {found['p']} probes"


def _batches(training: Training) -> str:
    if training.batches is None:
        return "full batch"
    return f"batches of {training.batches['size']}" if isinstance(training.batches, dict) else "batches as listed"


def prediction_text(job: Job, prediction: Prediction) -> str:
    """Return what it will cost, and what that was measured on."""
    pilot, M, T = prediction.pilot, job.task.settings.particles, job.task.training.steps
    measured = [f"{pilot.particles} particles, steps 0..{pilot.steps} of {T}: {pilot.seconds:.1f} s"]
    if pilot.ranks.size:
        measured[0] += f"; p, q of {_ranks(pilot.ranks[-1])}"
    if pilot.stopped:
        measured.append(pilot.stopped)
    if prediction.trial_steps:
        measured.append(f"{M} particles, steps 0..{prediction.trial_steps - 1}: {prediction.trial_seconds:.1f} s")
    rows = {"pilot": measured}
    if prediction.ranks.size:
        arrays = f"at most about {prediction.arrays} arrays in a space, which must stay below {M}"
        rows["ranks"] = [f"p, q of {_ranks(prediction.ranks)}", arrays]
    free = size(prediction.free_bytes)
    rows["memory"] = [f"about {size(prediction.bytes)} of arrays and 0.3 GB for each process; {free} are free"]
    rows["time"] = [f"about {duration(prediction.seconds)} on idle cores"]
    if job.task.goal is not None:
        rows["time"][0] += " for the first stage, and as much for its tolerance;"
        rows["time"].append("later ones in proportion to particles times replicas")
    return _lines(rows)


def concerns(job: Job, prediction: Prediction) -> list[str]:
    """Return what the prediction warns of."""
    found = []
    M = job.task.settings.particles
    if prediction.pilot.stopped and not prediction.pilot.full:
        found.append(f"the pilot stopped: {prediction.pilot.stopped}")
    grows = job.task.goal is not None and job.task.goal.particles is None
    if job.task.settings.noise != "width" and prediction.arrays >= M and not grows:
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


def _lines(rows: dict[str, list[str]]) -> str:
    first = [(name if k == 0 else "", line) for name, lines in rows.items() for k, line in enumerate(lines)]
    return "\n".join(f"  {name:12}{line}" for name, line in first)


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
