"""Sources that are tables of numbers: csv and npz files, and a drawn Gaussian mixture."""

from __future__ import annotations

import csv as csv_format
import math
import warnings
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import FileError, InputError, ResourceError
from ..files import check_plain, file_path
from ..plan import available_bytes
from ..problem import Problem, positive_int
from .transform import NO_SAMPLES, Scale, Standardise, make_problem

Array = np.ndarray
NPZ_REQUIRED, NPZ_OPTIONAL = ("inputs", "targets"), ("probes", "probe_targets")


def npz(path: str | Path, scale: Scale = "none", standardise: Standardise = "none") -> Problem:
    """An npz file with the arrays `inputs` (m, d), `targets` (m,), optionally `probes` (p, d), `probe_targets` (p,).

    Parameters
    ----------
    path : the file; it is never unpickled.
    scale, standardise : see `tpsim.data`; by default the numbers are used as given.

    Raises
    ------
    FileError
        Missing, damaged, not an npz file, other arrays than these, or arrays that are not real numbers.
    InputError
        Wrong shapes, NaN or infinite values.
    """
    file = file_path("path", path)
    arrays = _npz_arrays(file)
    allowed = f"{', '.join(NPZ_REQUIRED)}, and optionally {', '.join(NPZ_OPTIONAL)}"
    if not set(NPZ_REQUIRED) <= set(arrays) <= set(NPZ_REQUIRED + NPZ_OPTIONAL):
        raise FileError(f"{file}: holds {', '.join(sorted(arrays)) or 'nothing'}; allowed: {allowed}")
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            raise FileError(f"{file}: {name} is {getattr(array, 'dtype', 'no array')}; allowed: real numbers")
    probes = arrays.get("probes"), arrays.get("probe_targets")
    try:
        return make_problem((arrays["inputs"], arrays["targets"]), probes, scale, standardise)
    except InputError as error:
        if error.field in arrays:
            raise InputError(error.field, error.value, f"{error.allowed}, in {file}") from None
        raise


def _npz_arrays(file: Path) -> dict[str, Array]:
    check_plain(file)
    try:
        with file.open("rb") as handle:
            if not zipfile.is_zipfile(handle):
                raise FileError(f"{file}: not an npz file, or truncated")
            _check_size(file, handle)
            handle.seek(0)
            with warnings.catch_warnings(action="ignore"), np.load(handle, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{file}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # damage surfaces as BadZipFile, zlib.error, EOFError, ValueError, KeyError, ...
        raise FileError(f"{file}: not a readable npz file ({type(error).__name__}: {error})") from None


def _check_size(file: Path, handle: IO[bytes]) -> None:
    """Refuse an archive whose arrays do not fit into memory, however small it is itself."""
    with zipfile.ZipFile(handle) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > (free := available_bytes() // 2):
        raise FileError(f"{file}: {size} bytes of arrays are too many; at most {free} fit into memory")


def csv(
    path: str | Path,
    target: str | int = -1,
    probes: str | Path | None = None,
    header: bool = True,
    delimiter: str = ",",
    scale: Scale = "none",
    standardise: Standardise = "none",
) -> Problem:
    """A csv file: one sample per line, one column the target, the others the inputs, in the file's order.

    Parameters
    ----------
    path : UTF-8 text; empty lines are skipped.
    target : name (with a header) or position (from 0; negative from the end) of the target column.
    probes : a second file with the same columns; without its target column, probes have no targets.
    header : whether the first line of each file names the columns.
    delimiter : one character.
    scale, standardise : see `tpsim.data`; by default the numbers are used as given.

    Raises
    ------
    FileError
        Missing, not text, empty, a ragged line, or a field that is not a finite number; line and column are named.
    InputError
        A target column or delimiter that cannot be.
    """
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        raise InputError("delimiter", delimiter, "one character that is no quote and no line end")
    if not isinstance(header, bool):
        raise InputError("header", header, "true or false")
    names, table = _read_table(file_path("path", path), header, delimiter)
    column = _target_column(target, names, table.shape[1], header)
    train = np.delete(table, column, axis=1), table[:, column]
    if probes is None:
        return make_problem(train, NO_SAMPLES, scale, standardise)
    file, rest = file_path("probes", probes), NO_SAMPLES
    probe_names, probe_table = _read_table(file, header, delimiter)
    if probe_names == names:
        rest = np.delete(probe_table, column, axis=1), probe_table[:, column]
    elif len(probe_names) == len(names) - 1 and (not header or probe_names == names[:column] + names[column + 1 :]):
        rest = probe_table, None
    else:
        columns = f"{len(probe_names)} columns ({', '.join(probe_names)})"
        raise FileError(f"{file}: {columns}; allowed: the columns of {path}, with or without the target")
    return make_problem(train, rest, scale, standardise)


def _read_table(file: Path, header: bool, delimiter: str) -> tuple[list[str], Array]:
    """Return the column names (their positions without a header) and the table of numbers (rows, columns)."""
    check_plain(file)
    rows: list[list[float]] = []
    names: list[str] = []
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv_format.reader(text, delimiter=delimiter, strict=True)
            for fields in reader:
                if not fields:
                    continue
                if not names:
                    names = [name.strip() for name in fields] if header else [str(k) for k in range(len(fields))]
                    if header:
                        continue
                rows.append(_numbers(fields, names, f"{file}, line {reader.line_num}"))
    except OSError as error:
        raise FileError(f"{file}: cannot be read ({error.strerror or error})") from None
    except (UnicodeDecodeError, csv_format.Error) as error:
        raise FileError(f"{file}: not a UTF-8 csv file ({error})") from None
    if not rows:
        raise FileError(f"{file}: no line of numbers")
    return names, np.array(rows)


def _numbers(fields: list[str], names: list[str], where: str) -> list[float]:
    if len(fields) != len(names):
        raise FileError(f"{where}: {len(fields)} fields, expected {len(names)}")
    values = []
    for name, field in zip(names, fields, strict=True):
        try:
            values.append(float(field))
        except ValueError:
            values.append(math.nan)
        if not math.isfinite(values[-1]):
            raise FileError(f"{where}, column {name}: {field[:40]!r} is not a finite number")
    return values


def _target_column(target: str | int, names: list[str], columns: int, header: bool) -> int:
    allowed = f"a position -{columns}..{columns - 1}"
    if header:
        allowed += f" or one of {', '.join(names)}"
    if columns < 2:
        raise InputError("target", target, "a file with at least one column besides the target")
    if isinstance(target, str) and header and names.count(target) == 1:
        return names.index(target)
    if isinstance(target, bool) or not isinstance(target, int) or not -columns <= target < columns:
        raise InputError("target", target, allowed)
    return target % columns


def gaussian_mixture(
    count: int = 10,
    dimension: int = 20,
    separation: float = 2.0,
    seed: int = 0,
    probes: int = 0,
    scale: Scale = "sqrt_d",
    standardise: Standardise = "none",
) -> Problem:
    """Two Gaussian clouds: x = (y separation / 2) e_1 + N(0, I_d), y = -1 or +1 in equal numbers (-1 gets the odd one).

    Parameters
    ----------
    count, probes : samples in all; the training samples do not depend on the number of probes.
    dimension : d.
    separation : distance between the two means, >= 0.
    seed : of the draws.
    scale, standardise : see `tpsim.data`.

    Raises
    ------
    InputError
        An option out of range.
    ResourceError
        More samples than fit into memory.
    """
    for field, value, minimum in (("count", count, 1), ("dimension", dimension, 1), ("seed", seed, 0)):
        positive_int(field, value, minimum)
    positive_int("probes", probes, 0)
    if isinstance(separation, bool) or not isinstance(separation, int | float) or not 0 <= separation < math.inf:
        raise InputError("separation", separation, "a finite number >= 0")
    needed, free = 3 * 8 * (count + probes) * dimension, available_bytes()  # drawn, scaled, and in the problem
    if needed > free:
        raise ResourceError(f"count={count}, probes={probes}, dimension={dimension}: {needed} bytes, {free} are free")
    train, rest = (_clouds(size, dimension, separation, [seed, k]) for k, size in enumerate((count, probes)))
    return make_problem(train, rest if probes else NO_SAMPLES, scale, standardise)


def _clouds(size: int, dimension: int, separation: float, key: list[int]) -> tuple[Array, Array]:
    rng = np.random.default_rng(key)
    targets = rng.permutation(np.where(np.arange(size) % 2 == 0, -1.0, 1.0))
    points = rng.standard_normal((size, dimension))  # ~ N(0, I_d)
    points[:, 0] += targets * separation / 2
    return points, targets
