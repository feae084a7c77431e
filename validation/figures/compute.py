"""What the figures asked for need, and nothing else: networks in a folder, limits and other data in files beside it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

import finite
import tpsim
from tpsim.errors import FileError
from tpsim.parametrization import appendix_a
from tpsim.results import describe_arguments, load, save, versions

from .registry import EXTRAS, FIGURES
from .study import PARAMETRIZATIONS, Progress, Settings, Study

NETWORKS, DATA = "networks", "data"  # folders in that of the results
SCHEMA = 1  # of the files in DATA: raise it when what is computed, or how, changes
RECORDS = 40  # recorded intervals of a limit
ROUGH, FEW = 0.05, 4  # tolerance and replicas where phi' jumps: every step brings new directions to the bases
Say = Callable[[str], None]


def needed(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the activations whose networks and limits, and the extra data, that figures need."""
    figures = [FIGURES[name] for name in names]
    activations = dict.fromkeys(phi for figure in figures for phi in figure.activations)
    extras = dict.fromkeys(figure.extra for figure in figures if figure.extra)
    return tuple(activations), tuple(extras)


def make_study(
    settings: Settings, names: Iterable[str], folder: Path, progress: Progress = None, say: Say = lambda text: None
) -> Study:
    """Compute what the figures `names` need.

    Networks are resumed from `folder`/networks by cells (`finite.sweep`); limits and other data are kept in
    `folder`/data and read from there where settings and versions are the same.

    Raises
    ------
    InputError, FileError, ResourceError
        As of `finite.sweep` and `tpsim.simulate`.
    RunStopped
        A limit had to stop.

    Cost: see `tpsim.simulate` and `finite.sweep`.
    """
    activations, extras = needed(names)
    networks, limits, found = None, {}, {}
    if activations:
        say(f"networks with {', '.join(activations)}")  # first, for they may be refused
        networks = finite.sweep(
            settings.problem, settings.network, settings.training, folder / NETWORKS, widths=settings.widths,
            parametrizations=PARAMETRIZATIONS, activations=activations, seeds=settings.seeds, seed=settings.seed,
            dtype=settings.dtype, constants="appendix_a", workers=settings.workers, progress=progress,
        )  # fmt: skip
    for phi, name in itertools.product(activations, PARAMETRIZATIONS):
        say(f"limit of {name}, {phi}")
        limits[phi, name] = _limit(settings, phi, name, folder / DATA, progress)
    for name in extras:
        say(f"data of figure {name}")
        identity = _identity(settings) | {"extra": name}
        found[name] = kept(folder / DATA / f"{name}.nc", identity, partial(EXTRAS[name], settings, progress))
    return Study(settings, networks, limits, found)


def kept(path: Path, identity: dict[str, Any], compute: Callable[[], xr.Dataset]) -> xr.Dataset:
    """Return what the file holds if it was computed from the same, by the same code; else compute, and write it."""
    text = json.dumps(identity | {"schema": SCHEMA, "versions": versions("torch")}, sort_keys=True)
    try:
        run = load(path)
        if run.attrs.get("identity") == text:
            return run
    except FileError:  # missing or damaged
        pass
    run = compute()
    title = str(run.attrs.get("title", path.stem))
    run = run.assign_attrs(title=title if title.startswith("tpsim") else f"tpsim: {title}", identity=text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path.parent}: cannot be written: {error.strerror or error}") from error
    save(run, path)
    return load(path)  # the same, to the order of its variables, in this call and in all later ones


def _limit(settings: Settings, phi: str, name: str, folder: Path, progress: Progress) -> xr.Dataset:
    """The limit of one parametrization, in its constants of Appendix A."""
    problem = settings.problem
    eta: Any = settings.training.learning_rate
    network, training = appendix_a(
        name, replace(settings.network, activation=phi), settings.training, problem.inputs.shape[1], eta
    )
    arguments: dict[str, Any] = settings.simulation | {
        "particles": settings.particles, "replicas": settings.replicas, "seed": settings.seed,
        "record_every": max(-(-training.steps // RECORDS), 1), "limit": name,
    }  # fmt: skip
    if not network.phi.smooth and arguments.get("tolerance") is None:
        arguments |= {"tolerance": ROUGH, "replicas": min(settings.replicas, FEW)}
    identity = describe_arguments(problem, network, training) | {"simulation": _numbers(arguments)}
    return kept(
        folder / f"limit-{name}-{phi}.nc", identity,
        lambda: tpsim.simulate(problem, network, training, progress=progress, workers=settings.workers, **arguments),
    )  # fmt: skip


def _identity(settings: Settings) -> dict[str, Any]:
    """All settings that have an influence on numbers, ready for JSON."""
    given = describe_arguments(settings.problem, settings.network, settings.training)
    names = ("widths", "seeds", "depths", "dtype", "particles", "replicas", "seed")
    own = {name: getattr(settings, name) for name in names}
    return json.loads(json.dumps(given | {"figures": own, "simulation": _numbers(settings.simulation)}))


def _numbers(simulation: dict[str, Any]) -> dict[str, Any]:
    """Without the threads, on which no result depends."""
    return {name: value for name, value in simulation.items() if name != "threads"}
