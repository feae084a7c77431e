"""Every public entry point with valid values of its arguments, and those that have none to fuzz, with the reason."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from hypothesis import strategies as st

import finite
import tpsim
from tpsim import Activation, Loss, Network, Problem, Training, core, data, plot, reference
from tpsim.activations import ACTIVATIONS
from tpsim.core import GaussianMatrix, NormalSource, ParticleSpace, Rows
from tpsim.goal import prepare_goal

from .hostile import HOSTILE

NAMES = ("tanh", "sigmoid", "erf", "silu", "gelu", "softplus", "relu", "identity")


@dataclass(frozen=True)
class Entry:
    """A callable; for each argument factories of valid values, the first one the default; those that must be given.

    `writes`: the call may leave files, and takes the time that they take.
    """

    call: Callable[..., Any]
    valid: dict[str, list[Callable[[], Any]]]
    required: tuple[str, ...] = ()
    writes: bool = False


def of(*values):
    """Factories of immutable values."""
    return [lambda value=value: value for value in values]


def rng():
    return np.random.default_rng(0)


def problem(m=3, d=4, probes=0, size=1.0):
    x = size * rng().standard_normal((m + probes, d))
    y = np.where(np.arange(m + probes) % 2, -1.0, 1.0)
    return Problem(x[:m], y[:m]) if not probes else Problem(x[:m], y[:m], x[m:], y[m:])


PROBLEMS = [
    problem,
    functools.partial(problem, probes=2),
    functools.partial(problem, 1, 1),
    functools.partial(problem, size=1e300),
    functools.partial(problem, size=1e-310),
    functools.partial(problem, 5, 2),
    functools.partial(problem, size=1e150),
    functools.partial(problem, size=1e-150),
    lambda: Problem(np.ones((3, 2)), [1.0, 1.0, -1.0]),
    lambda: Problem(np.zeros((2, 2)), [0.0, 0.0]),
    lambda: Problem([[1.0, 2.0], [-1.0, -2.0]], [1e300, -1e300]),
    lambda: Problem(np.eye(2), [5e-324, 0.0], np.eye(2)),
    functools.partial(problem, 2, 3, 1, 1e100),
]
NETWORKS = [
    lambda: Network(2),
    lambda: Network(1, "relu"),
    lambda: Network(3, "identity", 0.0),
    lambda: Network(2, "tanh", [1e200, 1.0, 1.0]),
    lambda: Network(2, "gelu", 1e-200),
    lambda: Network(2, (np.sin, np.cos)),
    lambda: Network(2, (np.exp, np.exp)),
    lambda: Network(2, "erf", (1, 0, 2)),
    lambda: Network(2, (lambda h: np.where(h < 3, h, np.nan), np.ones_like)),
    lambda: Network(2, "softplus", 1e300),
    lambda: Network(2, (np.square, np.square)),
    lambda: Network(2, "silu", 5e-324),
]


def jumping(step):
    if step == 2:
        raise ValueError("no rate")
    return 0.1


LONG = [lambda: Training(10**15), lambda: Training(10**15, lambda t: 0.1)]
TRAININGS = [
    lambda: Training(3),
    lambda: Training(0),
    lambda: Training(3, 1e6),
    lambda: Training(3, 1e300),
    lambda: Training(2, 0),
    lambda: Training(3, lambda t: 0.1 / (t + 1)),
    lambda: Training(3, lambda t: [0.1] * 3),
    lambda: Training(3, jumping),
    lambda: Training(3, lambda t: None),
    lambda: Training(3, 0.1, "logistic", "mean"),
    *LONG,
    lambda: Training(3, batches={"size": 2}),
    lambda: Training(3, [0.1, 0.2, 0.3]),
    lambda: Training(3, batches={"size": 3, "seed": 5}),
    lambda: Training(3, batches=[[0], [1, 0], [0]]),
    lambda: Training(2, loss=(lambda f, y: np.exp(f), lambda f, y: np.exp(f))),
    lambda: Training(3, 5e-324),
    lambda: Training(2, loss=(lambda f, y: f * y, lambda f, y: y / np.where(np.abs(f) < 1e-9, 1e-300, 1.0))),
    lambda: Training(2, batches=[[7], [0]]),
    lambda: Training(2, batches=[[0.5], [0]]),
    lambda: Training(3, 0.0),
]
SETTING = {"problem": PROBLEMS, "network": NETWORKS, "training": TRAININGS}
SIMULATE = SETTING | {
    "particles": of(64, 32, 100, 2),
    "replicas": of(1, 2),
    "noise": of("matched", "iid", "width"),
    "sobol": of(None, False, True),
    "tolerance": of(None, 1e-2, 1e-12),
    "seed": of(0, 2**40),
    "record_every": of(1, 2),
    "progress": of(None, False),
    "workers": of(1),
    "probe_every": of(None, 1, 3),
    "joint_every": of(None, 2),
    "snapshots": [tuple, lambda: [0, 2]],
    "parts": of(False, True),
    "max_rank": of(None, 1, 100),
    "threads": of(None, 1),
    "limit": of("mup", "ip", "ntp", "sp"),
    "dtype": of("float64", "float32"),
    "quantities": of(None, ("f", "kernel_x"), []),
}
TRAIN = SETTING | {
    "width": of(8, 1, 5),
    "parametrization": of("mup", "sp", "ntp", "ip", finite.MUP),
    "seeds": of(2, 1, 3),
    "seed": of(0, 2**40),
    "dtype": of("float64", "float32"),
    "batch_seeds": of(None, 1),
    "quantities": [lambda: None, list, lambda: ["kernel_h"]],
    "record_every": of(1, 2),
    "probe_every": of(None, 2),
    "joint_every": of(None, 2),
    "snapshots": [tuple, lambda: [0]],
    "progress": of(None, False),
    "first_seed": of(0, 4),
}
SWEEP = SETTING | {
    "training": [make for make in TRAININGS if make not in LONG],  # 10^15 steps are an honest long run
    "folder": of("cells", Path("cells"), "other/cells"),
    "widths": [lambda: (4,), lambda: [3, 4]],
    "parametrizations": [lambda: ("mup",), lambda: ["sp"]],
    "activations": [lambda: None, lambda: ["relu"]],
    "seeds": of(2, 1),
    "seed": of(0),
    "dtype": of("float32", "float64"),
    "constants": of(None, "appendix_a"),
    "quantities": [lambda: None, lambda: ["kernel_h"]],
    "record_every": of(None, 1),
    "probe_every": of(None, 2),
    "joint_every": of(None, 2),
    "workers": of(1),
    "progress": of(False, None),
}


@functools.cache
def _whole(probes):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tpsim.simulate(
            problem(probes=probes), Network(2), Training(3), 64, 2, snapshots=[0, 3] if probes else (), threads=1
        )


def run(probes=2):
    """A run of its own."""
    return _whole(probes).copy(deep=True)


def with_value(name, value):
    changed = run()
    changed[name] = changed[name].astype(float) * 0.0 + value
    return changed


def odd(name, value):
    changed = run()
    changed.attrs[name] = value
    return changed


RUNS = [
    run,
    functools.partial(run, 0),
    lambda: run().isel(replica=[0]),
    lambda: run().isel(step=[0]),
    lambda: run().isel(replica=0),
    lambda: run().isel(layer=[0]),
    lambda: run().isel(sample=[]),
    lambda: run().isel(step=[]),
    lambda: run()[["f"]],
    lambda: run().drop_vars("targets"),
    lambda: with_value("f", math.nan),
    lambda: with_value("loss", math.inf),
    lambda: with_value("kernel_x", 1e300),
    lambda: with_value("kernel_h", -1.0),
    lambda: with_value("targets", math.nan),
    lambda: with_value("loss", 0.0),
    lambda: with_value("f_probe", 1e308),
    lambda: run().transpose(),
    lambda: run().isel(replica=[]),
    lambda: run().drop_vars(["step", "layer"]),
    lambda: odd("config", "{"),
    lambda: odd("config", None),
    lambda: odd("config", "[1]"),
    lambda: run().isel(layer=[]),
    lambda: run().rename(step="steps"),
    lambda: run().astype(str),
    lambda: run().astype(complex),
    lambda: odd("é", "ñ"),
    lambda: run().assign_coords(step=[math.nan] * 4),
    lambda: run().astype(object),
    lambda: run().isel(sample=[0, 0]),
]
AX = of(None)
PICTURE = {
    "loss": {},
    "outputs": {},
    "probes": {},
    "probe_error": {},
    "ranks": {},
    "residuals": {},
    "feature_change": {},
    "law": {},
    "densities": {"layer": of(None, 1, 2), "sample": of(0, 2)},
    "spectra": {"which": of("x", "h", "dh"), "layer": of(None, 1)},
    "kernels": {"which": of("x", "h", "dh"), "layer": of(None, 2), "step": of(None, 0, 3)},
}
FIGURE = {
    "densities_figure": {"layers": [lambda: None, lambda: [1, 2]]},
    "spectra_figure": {"which": of("x", "h"), "layers": [lambda: None, lambda: [1]]},
    "kernels_figure": {"which": of("x", "dh"), "layers": [lambda: None, lambda: [2]]},
}

SHARED = {"scale": of("sqrt_d", "none", 2.0), "standardise": of("none", "feature", "sample")}
IMAGES = {
    "path": of("data", Path("data"), "nowhere"),
    "classes": [lambda: (0, 1), lambda: [1, 0]],
    "count": of(2, 3),
    "seed": of(0, 1),
    "probes": of(0, 1),
    "probes_from": of("train", "test"),
} | SHARED


def space(noise="matched"):
    return ParticleSpace(64, noise, seed=(1,))


def matrix():
    return GaussianMatrix(space(), ParticleSpace(64, seed=(2,)))


def fields(k=2, particles=64):
    return rng().standard_normal((k, particles))


def rows(k=3, particles=64, dtype=np.float64):
    return Rows.of(fields(k, particles), dtype)


BASES = [
    rows,
    fields,
    lambda: [rows(), rows(2)],
    lambda: rows(40),
    lambda: rows(3, 64, np.float32),
    lambda: rows(3, 100),
]
FIELDS = [
    fields,
    lambda: fields(1),
    lambda: fields(3),
    lambda: fields(2, 100),
    lambda: fields(0),
    lambda: fields()[::-1],
]
FACTORS = [lambda: np.ones((2, 3)), lambda: np.ones((1, 3)), lambda: np.ones((2, 5)), lambda: np.ones((3, 3))]
KEYS = [lambda: [(1,)], lambda: [(1, 2), (3,)], list]


def on(make, method):
    """A method of a fresh object."""

    def call(**arguments):
        return getattr(make(), method)(**arguments)

    return call


def drawn(keys, complement=None):
    here = space("width")
    return here.draw(here.family(), keys, complement)


def product(x):
    return matrix() @ x


def product_transposed(x):
    return matrix().T @ x


def drawing(function):
    """A picture whose figure is closed again."""

    def call(**arguments):
        try:
            function(**arguments)
        finally:
            plt.close("all")

    return call


def with_target(**given):
    """What `simulate` checks before it looks for accuracy, which takes the seconds that it is given."""
    parameters = inspect.signature(tpsim.simulate).parameters.values()
    others = ("progress", "checkpoint", "checkpoint_seconds", "resume")
    defaults = {entry.name: entry.default for entry in parameters if entry.name not in others}
    return prepare_goal(**defaults | given)


def entries() -> dict[str, Entry]:
    """All entry points that are fuzzed, by their full names; methods as Class.method."""
    table = {
        "tpsim.Problem": Entry(
            Problem,
            {
                "inputs": [lambda: np.eye(3), lambda: [[1, 2], [3, 4], [5, 6]], lambda: np.ones((3, 1), dtype=np.int8)],
                "targets": [lambda: np.ones(3), lambda: [1, 2, 3]],
                "probes": [lambda: None, lambda: np.eye(3)],
                "probe_targets": [lambda: None, lambda: np.ones(3)],
            },
            ("inputs", "targets"),
        ),
        "tpsim.Network": Entry(
            Network,
            {"depth": of(2, 1, 3), "activation": of(*NAMES, (np.sin, np.cos)), "init_scale": of(1.0, (1, 2, 3))},
        ),
        "tpsim.Training": Entry(
            Training,
            {
                "steps": of(3, 0),
                "learning_rate": [lambda: 0.1, lambda: [0.1, 0.2, 0.3], lambda: jumping],
                "loss": of("squared", "logistic"),
                "reduction": of("sum", "mean"),
                "batches": [lambda: None, lambda: {"size": 2, "seed": 1}, lambda: [[0], [1], [2]]],
            },
        ),
        "tpsim.Activation": Entry(
            lambda **given: Network(2, Activation(**given)).phi.evaluate(*np.zeros((3, 2, 4))),
            {"name": of("mine", "tanh"), "phi": of(np.sin, np.tanh), "dphi": of(np.cos), "smooth": of(True, False)},
            ("name", "phi", "dphi"),
        ),
        "tpsim.Loss": Entry(
            lambda **given: Training(2, loss=Loss(**given)).criterion,
            {"name": of("mine", "squared"), "value": of(lambda f, y: f * y), "derivative": of(lambda f, y: y * 1.0)},
            ("name", "value", "derivative"),
        ),
        "tpsim.check_assumption": Entry(tpsim.check_assumption, {"inputs": [lambda: np.eye(3), fields]}, ("inputs",)),
        "tpsim.simulate": Entry(tpsim.simulate, SIMULATE, tuple(SETTING) + ("particles", "replicas")),
        "tpsim.simulate, with a target": Entry(
            with_target,
            {name: make for name, make in SIMULATE.items() if name != "progress"}
            | {"target_error": of(0.5, 1e-3), "max_seconds": of(None, 0.5), "max_bytes": of(None, 10**8)},
            (*SETTING, "target_error"),
        ),
        "tpsim.save": Entry(tpsim.save, {"run": RUNS, "path": of("run.nc", Path("other.nc"))}, ("run", "path"), True),
        "tpsim.load": Entry(tpsim.load, {"path": of("nowhere.nc", ".", "data")}, ("path",)),
        "tpsim.standard_error": Entry(tpsim.standard_error, {"values": [*RUNS, lambda: run()["f"]]}, ("values",)),
        "tpsim.summary": Entry(tpsim.summary, {"run": RUNS}, ("run",)),
        "tpsim.reference.simulate_reference": Entry(
            reference.simulate_reference,
            SETTING
            | {
                "particles": of(64, 8),
                "replicas": of(1, 2),
                "seed": of(0),
                "mistake": of(None, "fresh_noise"),
                "matched": of(True, False),
            },
            (*SETTING, "particles", "replicas"),
        ),
        "tpsim.data.digits": Entry(
            data.digits, {name: IMAGES[name] for name in ("classes", "count", "probes", "seed", "scale", "standardise")}
        ),
        "tpsim.data.cifar10": Entry(data.cifar10, IMAGES, ("path",)),
        "tpsim.data.cifar100": Entry(data.cifar100, IMAGES | {"labels": of("fine", "coarse")}, ("path",)),
        "tpsim.data.mnist": Entry(data.mnist, IMAGES, ("path",)),
        "tpsim.data.npz": Entry(data.npz, {"path": of("data.npz", "nowhere")} | SHARED, ("path",)),
        "tpsim.data.csv": Entry(
            data.csv,
            {
                "path": of("data.csv", "nowhere"),
                "target": of(-1, 0, "b"),
                "probes": of(None, "data.csv"),
                "header": of(True, False),
                "delimiter": of(",", ";"),
            }
            | SHARED,
            ("path",),
        ),
        "tpsim.data.gaussian_mixture": Entry(
            data.gaussian_mixture,
            {"count": of(3, 10), "dimension": of(2, 3), "separation": of(2.0, 0), "seed": of(0), "probes": of(0, 2)}
            | SHARED,
        ),
        "tpsim.data.load": Entry(
            data.load, {"source": of("digits", "csv"), "count": of(4), "seed": of(0)}, ("source",)
        ),
        "tpsim.data.explain": Entry(
            data.explain, {"source": of("digits", "npz"), "scale": of("none", 2.0)}, ("source",)
        ),
        "tpsim.data.resolve_options": Entry(
            data.resolve_options, {"source": of("digits"), "count": of(3)}, ("source",)
        ),
        "tpsim.data.describe": Entry(data.describe, {"problem": PROBLEMS}, ("problem",)),
        "tpsim.plot.missing": Entry(plot.missing, {"run": RUNS}, ("run",)),
        "tpsim.plot.save_all": Entry(
            plot.save_all,
            {
                "run": [lambda: run()[["loss", "targets"]], *RUNS],
                "directory": of("figures", Path("figures")),
                "formats": [lambda: ("png",), list, lambda: ["svg"]],
            },
            ("run", "directory"),
            True,
        ),
        "finite.train": Entry(finite.train, TRAIN, (*SETTING, "width", "seeds")),
        "finite.sweep": Entry(finite.sweep, SWEEP, (*SETTING, "folder", "widths", "seeds", "workers"), True),
        "finite.load_sweep": Entry(finite.load_sweep, {"folder": of("cells", "nowhere", ".")}, ("folder",)),
        "finite.Parametrization": Entry(
            lambda **given: finite.train(problem(), Network(2), Training(2), 8, finite.Parametrization(**given), 1),
            {"name": of("mine"), "init": of((0.0, 0.5, 1.0)), "rate": of((-1.0, 0.0, 1.0))},
            ("name", "init", "rate"),
        ),
        "finite.appendix_a": Entry(
            finite.appendix_a,
            {
                "parametrization": of("sp", "mup"),
                "network": NETWORKS,
                "training": TRAININGS,
                "dimension": of(4, 1),
                "learning_rate": of(0.1, 0),
            },
            ("parametrization", "network", "training", "dimension"),
        ),
        "tpsim.core.ParticleSpace": Entry(
            core.ParticleSpace,
            {
                "particles": of(64, 2, 100),
                "noise": of("matched", "iid", "width"),
                "sobol": of(False, True),
                "seed": of((0,), (1, 2)),
                "name": of("layer 1"),
                "dtype": of(np.float64, np.float32),
            },
            ("particles",),
        ),
        "tpsim.core.ParticleSpace.draw": Entry(drawn, {"keys": KEYS, "complement": [lambda: None, rows]}, ("keys",)),
        "tpsim.core.ParticleSpace.normal": Entry(on(space, "normal"), {"key": of(None, (3,)), "count": of(1, 3)}),
        "tpsim.core.ParticleSpace.keep": Entry(on(space, "keep"), {"x": FIELDS}, ("x",)),
        "tpsim.core.ParticleSpace.inner": Entry(on(space, "inner"), {"x": FIELDS, "y": FIELDS}, ("x", "y")),
        "tpsim.core.ParticleSpace.mean": Entry(on(space, "mean"), {"x": FIELDS}, ("x",)),
        "tpsim.core.GaussianMatrix": Entry(
            core.GaussianMatrix,
            {
                "source": [space],
                "target": [space],
                "scale": of(1.0, 0, 1e300),
                "tolerance": of(3e-3, 1e-9),
                "max_rank": of(None, 1),
                "key": of(None, (1, 2)),
            },
            ("source", "target"),
        ),
        "tpsim.core.GaussianMatrix.product": Entry(
            on(matrix, "product"),
            {"x": FIELDS, "step": of(None, 3), "labels": [lambda: None, lambda: [4, 5]], "parts": of(False, True)},
            ("x",),
        ),
        "tpsim.core.GaussianMatrix.transposed": Entry(
            on(matrix, "transposed"), {"y": FIELDS, "step": of(None, 3), "labels": of(None, (4, 5))}, ("y",)
        ),
        "tpsim.core.GaussianMatrix.@": Entry(product, {"x": FIELDS}, ("x",)),
        "tpsim.core.GaussianMatrix.T.@": Entry(product_transposed, {"x": FIELDS}, ("x",)),
        "tpsim.core.NormalSource": Entry(
            lambda key, **given: NormalSource(**given).normal(key),
            {"particles": of(64, 3), "root": of((0,), (1, 2)), "sobol": of(False), "key": of((1,), (2, 3))},
            ("particles", "root", "key"),
        ),
        "tpsim.core.Rows": Entry(
            core.Rows, {"particles": of(64, 3), "dtype": of(np.float64, np.float32)}, ("particles",)
        ),
        "tpsim.core.Rows.of": Entry(Rows.of, {"array": FIELDS, "dtype": of(np.float64, "float32")}, ("array",)),
        "tpsim.core.Rows.append": Entry(on(rows, "append"), {"rows": [*FIELDS, lambda: np.ones(64)]}, ("rows",)),
        "tpsim.core.check_noise": Entry(
            core.check_noise,
            {"noise": of("matched", "iid"), "sobol": of(False, True)},
            ("noise", "sobol"),
        ),
        "tpsim.core.expand": Entry(
            lambda coefficients, basis: core.expand(coefficients, basis),
            {"coefficients": FACTORS, "basis": BASES},
            ("coefficients", "basis"),
        ),
        "tpsim.core.inner": Entry(core.inner, {"x": FIELDS, "basis": BASES}, ("x", "basis")),
        "tpsim.core.accumulate": Entry(
            lambda coefficients, x: core.accumulate(rows(), coefficients, x),
            {"coefficients": FACTORS, "x": FIELDS},
            ("coefficients", "x"),
        ),
        "tpsim.core.forward_pass": Entry(
            lambda coefficients, basis, activation, onto, m=2, M=64: core.forward_pass(
                coefficients, basis, activation, *np.zeros((3, m, M)), onto
            ),
            {
                "coefficients": FACTORS,
                "basis": [rows, lambda: [rows(), rows(2)]],
                "onto": [rows, list, lambda: [rows()]],
                "activation": of("tanh", ACTIVATIONS["erf"].evaluate),
            },
            ("coefficients", "basis", "activation", "onto"),
        ),
        "tpsim.core.backward_pass": Entry(
            lambda coefficients, basis, onto: core.backward_pass(coefficients, basis, *np.zeros((2, 2, 64)), onto),
            {"coefficients": FACTORS, "basis": [rows, lambda: [rows(), rows(2)]], "onto": [rows, list]},
            ("coefficients", "basis", "onto"),
        ),
    }
    for name, options in PICTURE.items():
        table[f"tpsim.plot.{name}"] = Entry(drawing(getattr(plot, name)), {"run": RUNS, "ax": AX} | options, ("run",))
    for name, options in FIGURE.items():
        table[f"tpsim.plot.{name}"] = Entry(
            drawing(getattr(plot, name)), {"run": RUNS, "figure": AX} | options, ("run",)
        )
    return table


EXEMPT = {
    "an exception or a warning": [
        f"tpsim.{name}"
        for name in (
            "CheckpointError",
            "Interrupted",
            "Diverged",
            "FileError",
            "InputError",
            "Notice",
            "RankError",
            "ResourceError",
            "RunStopped",
            "TpsimError",
            "core.MaxRank",
            "core.SpaceFull",
        )
    ],
    "a constant or a type of constants": [
        "tpsim.core.BACKWARD",
        "tpsim.core.FORWARD",
        "tpsim.core.GUARDS",
        "tpsim.core.TILE",
        "tpsim.core.Noise",
        "tpsim.reference.Mistake",
        "tpsim.data.SOURCES",
        "finite.APPENDIX_A",
        "finite.MUP",
        "finite.TABLE_2",
    ],
    "a counter that the package itself calls, with names of guards": [
        f"tpsim.core.{name}" for name in ("count", "counted", "counting", "restore")
    ],
    "a record that the package fills in": ["tpsim.core.Parts", "tpsim.core.Product", "tpsim.data.Source"],
    "a module, whose own names are here": ["tpsim.core", "tpsim.data", "tpsim.plot", "tpsim.reference"],
}


@st.composite
def cases(draw, entry: Entry, most: int = 2) -> tuple[dict[str, Any], frozenset[str]]:
    """Arguments of one call, at most `most` of them hostile; and which."""
    names = list(entry.valid)
    bad = draw(st.sets(st.sampled_from(names), max_size=most))
    given = {}
    for name in names:
        if name in bad:
            given[name] = draw(HOSTILE)
        elif name in entry.required or draw(st.booleans()):
            given[name] = draw(st.sampled_from(entry.valid[name]))()
    return given, frozenset(bad)
