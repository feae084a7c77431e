"""Table 1 of Chen et al. 2025 from data: who learns features, and whose are rich, at infinite and at finite widths.

In the limit, over L layers and both kinds of features (`validation.features`):

    learns   every change is bounded away from zero;          frozen   none has changed at all;
    rich     lambda_min / lambda_max of every hidden layer l >= 2 is bounded away from zero;
    none     the features of one of them are zero;            low      lambda_min cannot be told from zero

and theory says what these have to be (`validation.expected`). At finite widths, by powers of n (`validation.features`),

    frozen   every change falls;    learns   none does;
    none     the features' size falls;    low   the ratio does;    rich   neither.

A change or a size falls if its power is below -1/4, half of the -1/2 of SP and NTP; a ratio falls if its power is below
-1/2, half of the -1 that initial weights of size 1/n give.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from tpsim.parametrization import TABLE_2

from .claim import Bounds, Claim, Verdict, bounds
from .converge.quantities import healthy
from .expected import PAPER, Theory, expected
from .features import LEVEL, ROUNDING, TINY, Features, features, power, resolution

Widths = tuple[int, ...]

TITLES = {"sp": "SP", "ntp": "NTP", "ip": "IP", "mup": "muP"}
UNDECIDED = "?"
TRUNCATION = 10.0  # tolerances: what all dropped parts of a run add up to (11 were measured over 300 steps)
FALLS, RATIO_FALLS = -0.25, -0.5  # powers of n below these fall
SURE = 0.999  # level at which a network's entry may contradict: there are many entries
ESCAPED = 0.5  # of the initial loss: as in `validation.ip_escape`


@dataclass(frozen=True)
class Cell:
    """One entry: a symbol, its numbers, the symbol that theory expects (None: any), and whether the data decide."""

    symbol: str
    data: str
    expected: str | None
    resolved: bool

    @classmethod
    def of(cls, symbol: str, data: str, expected: str | None, certain: bool = True) -> Cell:
        """A symbol that is not `certain` contradicts nothing."""
        return cls(symbol, data, expected, symbol != UNDECIDED and (certain or expected in (None, symbol)))

    @property
    def contradicts(self) -> bool:
        return self.resolved and self.expected not in (None, self.symbol)


@dataclass(frozen=True)
class Row:
    """Feature learning and richness of one parametrization.

    Attributes
    ----------
    parametrization : "sp", "ntp", "ip" or "mup".
    widths : of the networks; () in the limit.
    learning, richness : Cell
    escaped : of IP where its limit stands still, at each width: how many networks have left, and of how many.
    silent, still : of a limit: why nothing is expected of it, and why IP stays where it is; "" where that is not so.
    """

    parametrization: str
    widths: Widths
    learning: Cell
    richness: Cell
    escaped: tuple[tuple[int, int], ...] = ()
    silent: str = ""
    still: str = ""

    @property
    def cells(self) -> tuple[Cell, Cell]:
        return self.learning, self.richness


def rows(limits: Mapping[str, xr.Dataset], networks: xr.Dataset | None = None) -> list[Row]:
    """Measure the table: first the limits, then the networks.

    There is none for networks with one hidden layer, which have no hidden matrix.

    Parameters
    ----------
    limits : runs of `simulate(limit=...)` by "sp", "ntp", "ip", "mup", recorded at step 0 and at the last step.
    networks : as of `finite.sweep`, over (parametrization, width, replica, ...), of the same training; at least two
        widths. Of several activations the first is taken.
    """
    limits = {name: limits[name] for name in TABLE_2 if name in limits and limits[name].sizes["layer"] > 1}
    found = [_limit_row(name, run) for name, run in limits.items()]
    if networks is None or networks.sizes["layer"] == 1:
        return found
    if "activation" in networks.dims:
        networks = networks.isel(activation=0)
    for name in TABLE_2:
        if name in networks["parametrization"].values:
            found.append(_finite_row(name, networks.sel(parametrization=name), limits.get(name)))
    return found


def _limit_row(name: str, run: xr.Dataset) -> Row:
    theory = expected(name, run)
    found, tolerance = features(run), json.loads(run.attrs["config"])["simulation"]["tolerance"]
    moved, change = _moved(found, TRUNCATION * tolerance)
    rich, ratio = _rich(found, (TRUNCATION * tolerance) ** 2 + ROUNDING)
    # what is below the floor may be small, or dropped: neither refutes that it is positive
    cells = Cell.of(moved, change, theory.learning), Cell.of(rich, ratio, theory.richness, certain=rich != "low")
    return Row(name, (), *cells, silent=theory.silent, still=theory.still)


def _moved(found: Features, floor: float) -> tuple[str, str]:
    """What the smallest change says, and its value; `floor` is relative to the largest size of any field."""
    scale = max(float(found.initial.mean(axis=0).max()), float(found.size.mean(axis=0).max()))
    smallest, stays = bounds(found.change.min(axis=1)), found.change.max(axis=0) <= ROUNDING * scale
    if stays.all():
        return "frozen", "change 0"
    if smallest.low > floor * scale:
        return "learns", f"change {_show(smallest)}"
    return "partly" if stays.any() else UNDECIDED, f"change {_show(smallest)}, floor {floor * scale:.1g}"


def _rich(found: Features, floor: float) -> tuple[str, str]:
    """What the smallest ratio says, and its value."""
    if found.size.min(axis=1).max() <= ROUNDING * found.initial.max():
        return "none", "features 0"
    smallest = bounds(found.ratio.min(axis=1))
    symbol = "rich" if smallest.low > floor else "low" if smallest.high <= floor else UNDECIDED
    return symbol, f"ratio {_show(smallest)}, floor {floor:.1g}"


def _show(value: Bounds) -> str:
    return f"{value.mean:.3g} +- {value.error:.1g}" if abs(value.mean) > ROUNDING else f"below {ROUNDING:g}"


def _finite_row(name: str, networks: xr.Dataset, limit: xr.Dataset | None) -> Row:
    """Powers of n over the replicas that diverged at no width; theory, if it says anything, says it of `limit`."""
    widths = tuple(sorted(map(int, networks["width"].values)))
    each = [networks.sel(width=n) for n in widths]
    alive = [k for k in networks["replica"].values if all(k in healthy(run)["replica"] for run in each)]
    theory = Theory() if limit is None else expected(name, limit)
    learning, richness = (None, None) if name == "ip" else theory[:2]  # the limit says nothing of IP's networks
    if len(alive) < 2 or len(widths) < 2:
        too_few = "fewer than two networks or widths"
        return Row(name, widths, Cell.of(UNDECIDED, too_few, learning), Cell.of(UNDECIDED, too_few, richness))
    found = [features(run.sel(replica=alive)) for run in each]
    escaped = tuple((int((f.loss[:, 1] < ESCAPED * f.loss[:, 0]).sum()), len(alive)) for f in found)
    left = not theory.still or all(count == total for count, total in escaped)
    moved, change = _finite_learning(widths, found, left)
    rich, ratio = _finite_richness(widths, found, floor := resolution(networks))
    told = rich != "low" or float(found[-1].ratio.min(axis=1).max()) > floor  # not told from zero: refutes nothing
    cells = (
        Cell.of(moved, change, learning, moved == _finite_learning(widths, found, left, SURE)[0]),
        Cell.of(rich, ratio, richness, told and rich == _finite_richness(widths, found, floor, SURE)[0]),
    )
    return Row(name, widths, *cells, escaped=escaped if theory.still else ())


def _finite_learning(widths: Widths, found: list[Features], left: bool, level: float = LEVEL) -> tuple[str, str]:
    """`left`: whether all networks have left the saddle at which the limit stays, where there is one."""
    relative = [f.change / np.sqrt(np.maximum(f.loss[:, :1], TINY)) for f in found]
    change = power(widths, np.stack(relative), level)
    symbol = UNDECIDED
    if change.below(FALLS) or found[-1].change.max() == 0:
        symbol = "frozen"
    elif change.above(FALLS) and left:
        symbol = "learns"
    means = found[-1].change.mean(axis=0)
    return symbol, f"change {means.min():.2g} to {means.max():.2g} at n = {widths[-1]}, ~ {change}"


def _finite_richness(
    widths: Widths, found: list[Features], floor: float, level: float = LEVEL
) -> tuple[str, str]:  # fmt: skip
    """`floor`: what the arithmetic of the networks leaves of a ratio that is zero."""
    size = power(widths, np.stack([f.size.min(axis=1) / f.first_size for f in found]), level)
    smallest = [f.ratio.min(axis=1) for f in found]
    relative = [r / np.maximum(f.first_ratio, floor) for r, f in zip(smallest, found, strict=True)]
    ratio = power(widths, np.stack(relative), level)
    symbol = UNDECIDED
    if size.below(FALLS):
        symbol = "none"
    elif smallest[-1].max() <= floor or ratio.below(RATIO_FALLS):
        symbol = "low"
    elif size.above(FALLS) and ratio.above(RATIO_FALLS):
        symbol = "rich"
    return symbol, f"ratio {smallest[-1].mean():.2g} at n = {widths[-1]}, ~ {ratio}; size ~ {size}"


def table_1(limits: Mapping[str, xr.Dataset], networks: xr.Dataset | None = None) -> Claim:
    """Compare the measured table with what theory expects of it.

    PASS where every entry of the limits is as expected, FAIL where an entry that is resolved, of limits or networks, is
    another one, NOT RESOLVED where the data of the limits do not decide. Networks can only refute: what is not resolved
    of them does not matter. Parameters: see `rows`.
    """
    found = rows(limits, networks)
    cells = [cell for row in found for cell in row.cells]
    own = [cell for row in found if not row.widths for cell in row.cells if cell.expected is not None]
    agreeing = sum(cell.symbol == cell.expected for cell in own)
    verdict = Verdict.NOT_RESOLVED
    if any(cell.contradicts for cell in cells):
        verdict = Verdict.FAIL
    elif own and agreeing == len(own):
        verdict = Verdict.PASS
    resolved = sum(cell.resolved for cell in cells)
    return Claim(
        "Table 1", "feature learning and richness of SP, NTP, IP and muP; counted: entries of the limits as expected; "
        "finite widths can only refute, by a resolved contradiction, and those not resolved do not matter",
        float(agreeing), float(len(own)), np.nan, verdict, resolved, len(cells), tuple(_notes(found)),
    )  # fmt: skip


def _notes(found: list[Row]) -> Iterator[str]:
    """What disagrees with theory or is not resolved, and where the paper's table differs."""
    for row in found:
        for cell in row.cells:
            if cell.contradicts or not cell.resolved:
                told = f"{cell.symbol}, expected {cell.expected}" if cell.contradicts else "not resolved"
                yield f"{TITLES[row.parametrization]}, {_place(row)}: {told} ({cell.data})"
    for why in dict.fromkeys(row.silent for row in found if row.silent):
        names = ", ".join(TITLES[row.parametrization] for row in found if row.silent == why)
        yield f"nothing is expected of the limits of {names}: {why}"
    for row in found:
        if row.still and row.learning.symbol == "frozen":
            yield f"IP learns in the paper's table and not in its limit: {row.still}"
        if row.escaped:
            counts = zip(row.widths, row.escaped, strict=True)
            told = ", ".join(f"{count} of {total} at n = {n}" for n, (count, total) in counts)
            yield f"IP networks that had left the saddle (half of the initial loss) at the last step: {told}"


def _place(row: Row) -> str:
    return f"n = {', '.join(map(str, row.widths))}" if row.widths else "limit"


def table_text(found: list[Row]) -> str:
    """The table as markdown, beside the paper's."""
    lines = ["| | width | feature learning | | feature richness | | paper |", "|---|---|---|---|---|---|---|"]
    for row in found:
        paper = ", ".join(PAPER[row.parametrization])
        cells = " | ".join(f"{cell.symbol} | {cell.data}" for cell in row.cells)
        lines.append(f"| {TITLES[row.parametrization]} | {_place(row)} | {cells} | {paper} |")
    legend = (
        "Change: root mean square of Z_T - Z_0, the smallest over layers and kinds in the limit, smallest to largest "
        "at finite widths; ratio: smallest lambda_min / lambda_max over hidden layers l >= 2, Z^h and Z^x, at the last "
        "step. Limit: mean and standard error over replicas; learns and rich are lower bounds above a floor. Networks: "
        f"powers of n at level {LEVEL:g}; a change or a size falls below {FALLS:g}, a ratio below {RATIO_FALLS:g}."
    )
    return "\n".join([*lines, "", legend, *(f"- {note}" for note in _notes(found))])
