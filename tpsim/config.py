"""Configuration files: TOML in, validated tables out, and back.

    [data]
    source = "digits"                             # a name of tpsim.data.SOURCES; the other keys are its options

    [network]
    depth = 3

    [training]
    steps = 200
    learning_rate = { 0 = 0.1, 100 = [0.01, 0.02, 0.02, 0.01] }   # from step 0 on, from step 100 on

    [simulation]
    particles = 4096

Keys are named like the arguments of `Network`, `Training` and `simulate`; what is left out has the default that it has
there. A learning rate is a number, L+1 numbers, or a table {first step = either}. Relative paths in [data] start at the
folder of the file, those in overrides at the current folder.
"""

from __future__ import annotations

import bisect
import json
import os
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, StrictBool, StrictFloat, StrictInt, StrictStr, TypeAdapter, ValidationError

from .errors import FileError, InputError
from .files import check_plain

Number = StrictInt | StrictFloat
PerLayer = Number | list[Number]
MOST = 1 << 20  # bytes of a configuration
_CLOSED = ConfigDict(extra="forbid")

DEMO = """
[data]
source = "digits"

[network]
depth = 3
activation = "silu"
init_scale = 1.4142135623730951

[training]
steps = 200
learning_rate = 0.1
loss = "squared"
reduction = "mean"

[simulation]
probe_every = 10
"""


def _key(default: Any, allowed: str) -> Any:
    return field(default=default, metadata={"allowed": allowed})


@dataclass(frozen=True)
class NetworkTable:
    """[network]; see `tpsim.Network`."""

    __pydantic_config__: ClassVar = _CLOSED
    depth: StrictInt = _key(3, "an integer >= 1")
    activation: StrictStr = _key("silu", "the name of an activation")
    init_scale: PerLayer = _key(1.0, "a number >= 0, or L+1 of them")


@dataclass(frozen=True)
class TrainingTable:
    """[training]; see `tpsim.Training`."""

    __pydantic_config__: ClassVar = _CLOSED
    steps: StrictInt = _key(200, "an integer >= 0")
    learning_rate: PerLayer | dict[str, PerLayer] = _key(
        0.1, "a number >= 0, L+1 of them, or a table {first step = either}, as in { 0 = 0.1, 100 = 0.01 }"
    )
    loss: StrictStr = _key("squared", '"squared" or "logistic"')
    reduction: Literal["sum", "mean"] = _key("sum", '"sum" or "mean"')
    batches: list[list[StrictInt]] | dict[str, StrictInt] | None = _key(
        None, "{ size = b, seed = k }, or one list of sample indices for each step"
    )


@dataclass(frozen=True)
class SimulationTable:
    """[simulation]; see `tpsim.simulate`. Here `workers` defaults to all cores: results do not depend on it."""

    __pydantic_config__: ClassVar = _CLOSED
    particles: StrictInt | None = _key(None, "an integer >= 2")
    replicas: StrictInt | None = _key(None, "an integer >= 1")
    noise: Literal["matched", "iid", "width"] = _key("matched", '"matched", "iid" or "width"')
    sobol: StrictBool | None = _key(None, "true or false")
    tolerance: Number | None = _key(None, "a number between 0 and 1, exclusive")
    seed: StrictInt = _key(0, "an integer >= 0")
    record_every: StrictInt = _key(1, "an integer >= 1")
    probe_every: StrictInt | None = _key(None, "an integer >= 1")
    joint_every: StrictInt | None = _key(None, "an integer >= 1")
    snapshots: list[StrictInt] = field(default_factory=list, metadata={"allowed": "a list of steps 0..T"})
    parts: StrictBool = _key(False, "true or false")
    max_rank: StrictInt | None = _key(None, "an integer >= 1")
    workers: StrictInt | None = _key(None, "an integer >= 1")
    threads: StrictInt | None = _key(None, "an integer >= 1")
    limit: Literal["mup", "ip", "ntp", "sp"] = _key("mup", '"mup", "ip", "ntp" or "sp"')
    dtype: Literal["float64", "float32"] = _key("float64", '"float64" or "float32"')
    quantities: list[StrictStr] | None = _key(None, "a list of names of variables")
    target_error: Number | None = _key(None, "a number > 0")
    max_seconds: Number | None = _key(None, "a number > 0")
    max_bytes: StrictInt | None = _key(None, "an integer >= 1")


@dataclass(frozen=True)
class ConvergeTable:
    """[converge]; see `validation.converge.study`. [simulation] says how the limit is simulated."""

    __pydantic_config__: ClassVar = _CLOSED
    widths: list[StrictInt] = field(
        default_factory=lambda: [2**k for k in range(4, 12)], metadata={"allowed": "a list of integers >= 2"}
    )
    matrix_free: list[StrictInt] = field(
        default_factory=lambda: [2**k for k in (6, 10, *range(12, 18))], metadata={"allowed": "a list of integers >= 2"}
    )
    seeds: StrictInt | dict[str, StrictInt] = _key(8, "an integer >= 1, or a table {first width = integer}")
    tolerance: Number = _key(0.05, "a number > 0")
    dtype: Literal["float32", "float64"] = _key("float32", '"float32" or "float64"')
    coordinate_seeds: StrictInt = _key(4, "an integer >= 1")
    fit_from: StrictInt = _key(32, "an integer >= 1")
    minutes: Number = _key(4.0, "a number > 0")


@dataclass(frozen=True)
class SweepTable:
    """[sweep]; see `finite.sweep`. With `constants`, training.learning_rate is the one number eta of Appendix A."""

    __pydantic_config__: ClassVar = _CLOSED
    widths: list[StrictInt] = field(
        default_factory=lambda: [2**k for k in range(6, 11)], metadata={"allowed": "a list of integers >= 1"}
    )
    parametrizations: list[Literal["sp", "ntp", "ip", "mup"]] = field(
        default_factory=lambda: ["sp", "ntp", "ip", "mup"],
        metadata={"allowed": 'a list out of "sp", "ntp", "ip", "mup"'},
    )
    activations: list[StrictStr] | None = _key(None, "a list of names of activations")
    seeds: StrictInt = _key(8, "an integer >= 1")
    seed: StrictInt = _key(0, "an integer >= 0")
    dtype: Literal["float32", "float64"] = _key("float32", '"float32" or "float64"')
    constants: Literal["appendix_a"] | None = _key(None, '"appendix_a"')
    quantities: list[StrictStr] | None = _key(None, "a list of names of variables")
    record_every: StrictInt | None = _key(None, "an integer >= 1")
    probe_every: StrictInt | None = _key(None, "an integer >= 1")
    joint_every: StrictInt | None = _key(None, "an integer >= 1")
    workers: StrictInt | None = _key(None, "an integer >= 1")


@dataclass(frozen=True)
class VerifyTable:
    """[verify]; see `validation.verify`. The limit is simulated at simulation.particles and at half as many."""

    __pydantic_config__: ClassVar = _CLOSED
    widths: list[StrictInt] = field(
        default_factory=lambda: [64, 256], metadata={"allowed": "a list of at least two integers >= 2, or []"}
    )
    seeds: StrictInt = _key(8, "an integer >= 2")
    controls: StrictBool = _key(True, "true or false")
    mnist: StrictStr | None = _key(None, "the path of a folder or file")
    cifar10: StrictStr | None = _key(None, "the path of a folder or file")
    cifar100: StrictStr | None = _key(None, "the path of a folder or file")
    images: StrictInt = _key(2000, "an integer >= 3")


@dataclass(frozen=True)
class FiguresTable:
    """[figures]; see `validation.figures`. training.learning_rate is the one number eta of Appendix A."""

    __pydantic_config__: ClassVar = _CLOSED
    widths: list[StrictInt] = field(
        default_factory=lambda: [2**k for k in range(3, 11)], metadata={"allowed": "a list of integers >= 1"}
    )
    seeds: StrictInt = _key(10, "an integer >= 1")
    activations: list[StrictStr] = field(
        default_factory=lambda: ["silu", "tanh", "relu"], metadata={"allowed": "a list of names of activations"}
    )
    depths: list[StrictInt] = field(
        default_factory=lambda: [2, 3, 4, 5, 6], metadata={"allowed": "a list of integers >= 1"}
    )
    dtype: Literal["float32", "float64"] = _key("float32", '"float32" or "float64"')


@dataclass(frozen=True)
class Config:
    """A whole configuration; `data` holds `source` and its options, which are checked when the data are read."""

    __pydantic_config__: ClassVar = _CLOSED
    data: dict[str, Any]
    network: NetworkTable = field(default_factory=NetworkTable)
    training: TrainingTable = field(default_factory=TrainingTable)
    simulation: SimulationTable = field(default_factory=SimulationTable)
    converge: ConvergeTable = field(default_factory=ConvergeTable)
    sweep: SweepTable = field(default_factory=SweepTable)
    verify: VerifyTable = field(default_factory=VerifyTable)
    figures: FiguresTable = field(default_factory=FiguresTable)


TABLES: dict[str, Any] = {
    "network": NetworkTable, "training": TrainingTable, "simulation": SimulationTable, "converge": ConvergeTable,
    "sweep": SweepTable, "verify": VerifyTable, "figures": FiguresTable,
}  # fmt: skip
SECTIONS = ("data", *TABLES)
RUN = ("data", "network", "training", "simulation")  # sections of `tpsim run`; other commands have one of their own
PATHS = ("path", "probes")  # [data] keys that name files where they are strings


def read(
    path: str | os.PathLike[str] | None = None,
    overrides: Iterable[str] = (),
    default: str = DEMO,
    used: Sequence[str] | None = None,
) -> Config:
    """Return the configuration of a file (of the text `default` when None) with overrides "section.key=value".

    A file may have sections that a command does not use; an override of a section that is not in `used` is refused.

    Raises
    ------
    FileError
        A file that cannot be read or is not TOML.
    InputError
        An unknown section or key, or a value of another type than its key allows.
    """
    raw, folder = (tomllib.loads(default), Path()) if path is None else (_parse(Path(path)), Path(path).parent)
    _make_absolute(raw.get("data"), folder)
    for override in overrides:
        section = override.partition(".")[0].strip()
        if used is not None and section in SECTIONS and section not in used:
            raise InputError("--set", override, f"sections that this command uses: {', '.join(used)}")
        _override(raw, override)
    return validate(raw)


def _parse(path: Path) -> dict[str, Any]:
    try:
        check_plain(path, MOST)
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, an integer of 5000 digits, a tower of brackets
        raise FileError(f"{path}: not a TOML file: {error}") from None


def _make_absolute(data: Any, folder: Path) -> None:
    for key in PATHS:
        if isinstance(data, dict) and isinstance(value := data.get(key), str) and value and not value.startswith("~"):
            data[key] = os.path.abspath(folder / value)


def _override(raw: dict[str, Any], override: str) -> None:
    """Apply "section.key=value": value is a TOML value, or else a bare word."""
    name, equals, text = override.partition("=")
    *parents, key = (part.strip() for part in name.split("."))
    if not equals or not parents or not all((*parents, key)):
        raise InputError("--set", override, "section.key=value, as in training.steps=100")
    table = raw
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise InputError("--set", override, f"keys of tables only: {parent} is a value")
    table[key] = _value(text.strip())
    if parents == ["data"]:
        _make_absolute(table, Path())


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if set(parsed) == {"value"} else text


def validate(raw: dict[str, Any]) -> Config:
    """Return the configuration that nested tables describe.

    Raises
    ------
    InputError
        Names section and key, the value, and what is allowed.
    """
    if "data" not in raw:
        raise InputError("data", "<nothing>", 'a table [data] with at least a key source, as in source = "digits"')
    try:
        return _ADAPTER.validate_python(raw)
    except ValidationError as error:
        raise _translate(raw, error.errors()[0]["loc"]) from None


_ADAPTER = TypeAdapter(Config)


def _translate(raw: dict[str, Any], location: Sequence[int | str]) -> InputError:
    section = str(location[0])
    if section not in SECTIONS:
        return InputError(section, raw[section], f"sections {', '.join(SECTIONS)}")
    if len(location) == 1 or section == "data":
        return InputError(section, raw[section], "a table")
    key, known = str(location[1]), {entry.name: entry.metadata["allowed"] for entry in fields(TABLES[section])}
    value = raw[section][key]
    if key not in known:
        return InputError(f"{section}.{key}", value, f"keys {', '.join(known)}")
    return InputError(f"{section}.{key}", value, known[key])


@dataclass(frozen=True)
class StepSchedule:
    """A learning rate that changes at given steps: rates[k] from step starts[k] on."""

    starts: tuple[int, ...]
    rates: tuple[float | list[float], ...]

    def __call__(self, step: int) -> float | list[float]:
        return self.rates[bisect.bisect_right(self.starts, step) - 1]

    @classmethod
    def of(cls, table: dict[str, Any]) -> StepSchedule:
        """Return the schedule of a table {first step: rate}; InputError unless the steps are numbers, 0 among them."""
        if "0" not in table or not all(step.isdecimal() and step.isascii() and len(step) < 19 for step in table):
            raise InputError("learning_rate", table, "{first step = rate}: steps >= 0, the first of them 0")
        ordered = sorted((int(step), rate) for step, rate in table.items())
        return cls(tuple(step for step, _ in ordered), tuple(rate for _, rate in ordered))


def to_toml(config: Config, comments: Iterable[str] = (), sections: Sequence[str] = RUN) -> str:
    """Return TOML text that `read` turns into these sections of a configuration; keys that are None are left out."""
    lines = [f"# {' '.join(comment.split())}" for comment in comments]
    tables = asdict(config)
    for section in sections:
        table = tables[section]
        lines += ["", f"[{section}]"]
        lines += [f"{_name(key)} = {_toml(value)}" for key, value in table.items() if value is not None]
    return "\n".join(lines).lstrip("\n") + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # a JSON string is a TOML basic string, but for the one control character that JSON lets through
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_name(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    return str(value)  # of a float: its shortest exact digits, inf or nan


def _name(key: str) -> str:
    bare = key and key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else _toml(key)


def describe_keys() -> str:
    """Return one line for every section: its keys."""
    lines = ["[data]        source, and the options of that source"]
    lines += [f"{f'[{name}]':13s} {', '.join(entry.name for entry in fields(table))}" for name, table in TABLES.items()]
    return "\n".join(lines)


__all__ = [
    "Config",
    "ConvergeTable",
    "FiguresTable",
    "NetworkTable",
    "SimulationTable",
    "StepSchedule",
    "SweepTable",
    "TrainingTable",
    "VerifyTable",
    "read",
    "to_toml",
    "validate",
]
