"""The grid of a sweep: its cells, what identifies each, and what each costs."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from tpsim.activations import Activation, fingerprint, resolve_activation
from tpsim.data import describe
from tpsim.errors import InputError
from tpsim.parametrization import APPENDIX_A, Parametrization, appendix_a, resolve_parametrization
from tpsim.problem import Network, Problem, Training, positive_int
from tpsim.results import describe_arguments, label
from tpsim.task import check_arguments

from .cells import Form, form_of
from .plan import Plan, prepare
from .record import ALWAYS, QUANTITIES, SNAPSHOTS, shapes
from .run import train

FEATURES = ("feature_change_h", "feature_change_x", "kernel_h", "kernel_x", "kernel_h0", "kernel_x0")
WHOLE = 50  # steps up to which every step is recorded
RECORDS = 10  # recorded intervals of a longer run
CELL_WORK = 5e10  # operations of a cell: seconds, so that the file costs little and a restart loses little
CELL_SEEDS = 128  # at most
LONGEST = 2000  # characters of a setting that is kept in full; of a longer one the hash


@dataclass(frozen=True)
class Cell:
    """Networks first..last of one activation, parametrization and width."""

    activation: str
    parametrization: str
    width: int
    first: int
    last: int

    @property
    def seeds(self) -> int:
        return self.last - self.first + 1

    @property
    def name(self) -> str:
        """The file, as in mup-silu-n00064-seeds-0000-0127.nc."""
        what = f"{_slug(self.parametrization)}-{_slug(self.activation)}"
        return f"{what}-n{self.width:05d}-seeds-{self.first:04d}-{self.last:04d}.nc"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name)[:60]


@dataclass(frozen=True, eq=False)
class Grid:
    """Everything that `finite.sweep` was given, resolved. Which cells there are depends on nothing else.

    Parameters
    ----------
    problem, network, training : as given.
    activations, rows : by name, in the order asked for.
    widths : ascending.
    seeds : networks of every activation, parametrization and width.
    options : the other arguments of `finite.train`.
    constants : "appendix_a" or None.
    """

    problem: Problem
    network: Network
    training: Training
    activations: dict[str, Activation]
    rows: dict[str, Parametrization]
    widths: tuple[int, ...]
    seeds: int
    options: dict[str, Any]
    constants: str | None

    def arguments(self, activation: str, parametrization: str) -> tuple[Network, Training]:
        """The network and the training of a cell."""
        network, training = replace(self.network, activation=self.activations[activation]), self.training
        if self.constants is None:
            return network, training
        rate: Any = training.learning_rate
        return appendix_a(parametrization, network, training, self.problem.inputs.shape[1], rate)

    def plan(self, cell: Cell) -> Plan:
        """The checked call of `finite.train` for a cell; InputError and ResourceError as there."""
        network, training = self.arguments(cell.activation, cell.parametrization)
        row = self.rows[cell.parametrization]
        return prepare(
            self.problem, network, training, cell.width, row, cell.seeds, batch_seeds=None, snapshots=(), **self.options
        )

    def train(self, cell: Cell) -> xr.Dataset:
        """Compute a cell."""
        network, training = self.arguments(cell.activation, cell.parametrization)
        return train(
            self.problem, network, training, cell.width, self.rows[cell.parametrization], cell.seeds,
            first_seed=cell.first, progress=False, **self.options,
        )  # fmt: skip

    @property
    def names(self) -> list[tuple[str, str]]:
        """All pairs of activation and parametrization."""
        return list(itertools.product(self.activations, self.rows))

    def cells(self) -> list[Cell]:
        """All cells, the most expensive first: small ones fill the gaps at the end."""
        found = [
            Cell(*names, width, *block) for names in self.names for width in self.widths for block in self.blocks(width)
        ]
        return sorted(found, key=self.work, reverse=True)

    def blocks(self, width: int) -> Iterator[tuple[int, int]]:
        """First and last seed of each cell of a width; more seeds change the last one only, if it was not full."""
        most = int(CELL_WORK / self._work(width))
        size = min(1 << (most.bit_length() - 1), CELL_SEEDS) if most else 1
        for first in range(0, self.seeds, size):
            yield first, min(first + size, self.seeds) - 1

    def work(self, cell: Cell) -> float:
        """Operations of a cell, in float32 on one core some 1e10 a second."""
        return cell.seeds * self._work(cell.width)

    def _work(self, n: int) -> float:
        """(6 m T + 10) (L-1) n^2 + 6 m T d n of a network, and 60 L m T n for what is elementwise."""
        L, (m, d) = self.network.depth, self.problem.inputs.shape
        seen = m * (self.training.steps + 1)
        return float((6 * seen + 10) * (L - 1) * n**2 + 6 * seen * d * n + 60 * L * seen * n)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What all cells of a folder share, ready for JSON; callables and arrays by their fingerprints."""
        given = describe_arguments(self.problem, self.network, self.training)
        network = {key: given["network"][key] for key in ("depth", "init_scale")}
        if self.constants:
            network["init_scale"] = self.constants
        whole = {
            "problem": describe(self.problem), "network": network, "training": given["training"],
            "sweep": {**self.options, "constants": self.constants},
        }  # fmt: skip
        brief = {section: {key: _brief(value) for key, value in table.items()} for section, table in whole.items()}
        return json.loads(json.dumps(brief))

    def identity(self, cell: Cell) -> dict[str, Any]:
        """What is written into a cell, and compared when it is read."""
        activation, row = self.activations[cell.activation], self.rows[cell.parametrization]
        own: dict[str, Any] = asdict(cell)
        own |= {"activation_fingerprint": fingerprint(activation.phi, activation.dphi), "b": row.init, "c": row.rate}
        if self.constants:
            network, training = self.arguments(cell.activation, cell.parametrization)
            own |= {"init_scale": network.init_scale, "learning_rate": training.learning_rate}
        return json.loads(json.dumps({"settings": self.settings, "cell": own}))

    def form(self, cell: Cell) -> Form:
        """What the variables of a cell look like."""
        plan, problem, depth = self.plan(cell), self.problem, self.network.depth
        probes = 0 if problem.probes is None else len(problem.probes)
        kept = shapes(plan.quantities, plan.schedule, depth, problem.samples, probes, cell.width)
        kept |= {"chi": kept["f"], "loss": kept["f"][:1]}
        empty = {name: np.broadcast_to(np.nan, (cell.seeds, *shape)) for name, shape in kept.items()}  # of no size
        run = label(problem, depth, plan.schedule, empty, np.zeros(kept["f"]))
        return form_of(run.assign(diverged_at=("replica", np.zeros(cell.seeds, dtype=int))))


def resolve(
    problem: Problem, network: Network, training: Training, *, widths: Sequence[int],
    parametrizations: Sequence[str | Parametrization], activations: Sequence[Any] | None, seeds: int, seed: int,
    dtype: str, constants: str | None, quantities: Sequence[str] | None, record_every: int | None,
    probe_every: int | None, joint_every: int | None,
) -> Grid:  # fmt: skip
    """Check the arguments of `finite.sweep`, and resolve what is None.

    Raises
    ------
    InputError
        Names the argument, its value and what is allowed.
    ResourceError
        A cell does not fit into the memory.
    """
    check_arguments(problem, network, training)
    for width in _some("widths", widths):
        positive_int("widths", width)
    if constants not in (None, "appendix_a"):
        raise InputError("constants", constants, 'None or "appendix_a"')
    rows = [resolve_parametrization(row) for row in _some("parametrizations", parametrizations)]
    if own := [row.name for row in rows if constants and row.name not in APPENDIX_A]:
        raise InputError("constants", constants, f"None with parametrizations of one's own ({', '.join(own)})")
    phis = [network.activation] if activations is None else _some("activations", activations)
    T, default = training.steps, FEATURES if problem.probes is None else (*FEATURES, "f_probe")
    every = (1 if T <= WHOLE else -(-T // RECORDS)) if record_every is None else record_every
    options: dict[str, Any] = {
        "seed": seed, "dtype": dtype, "quantities": default if quantities is None else quantities,
        "record_every": every, "probe_every": every if probe_every is None else probe_every,
        "joint_every": max(T, 1) if joint_every is None else joint_every,
    }  # fmt: skip
    grid = Grid(
        problem, network, training, _by_name("activations", [resolve_activation(phi) for phi in phis]),
        _by_name("parametrizations", rows), tuple(sorted({int(n) for n in widths})), positive_int("seeds", seeds),
        options, constants,
    )  # fmt: skip
    for names, width in itertools.product(grid.names, grid.widths):
        grid.plan(Cell(*names, width, *next(grid.blocks(width))))  # refuses what `finite.train` refuses
    for name in (*SNAPSHOTS, *(["f_probe"] if problem.probes is None else [])):
        if name in options["quantities"]:
            raise InputError("quantities", name, "variables that there are, of the same shape at all widths")
    whole = {key: int(options[key]) for key in ("seed", "record_every", "probe_every", "joint_every")}
    kept = tuple(name for name in QUANTITIES if name in options["quantities"] and name not in ALWAYS)
    return replace(grid, options=options | whole | {"quantities": kept})


def _some(field: str, values: Any) -> list[Any]:
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str) or len(values) == 0:
        raise InputError(field, values, "a list that is not empty")
    return list(values)


def _by_name(field: str, values: Sequence[Any]) -> dict[str, Any]:
    """The values by their names, which must differ in the names of files as well."""
    if len({_slug(value.name).lower() for value in values}) < len(values):
        raise InputError(field, [value.name for value in values], "different names, each once")
    return {value.name: value for value in values}


def _brief(value: Any) -> Any:
    text = json.dumps(value)
    return value if len(text) <= LONGEST else f"sha256 {hashlib.sha256(text.encode()).hexdigest()}"
