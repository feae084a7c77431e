"""Every public entry point and the command line under random and hostile input: each call runs, or is refused at once.

Oracle: `tests/fuzz/check.py`. Refused means an error of the package, in under a second, that names the field; nothing
else is changed: no argument, no file. By default a few cases of each entry point; `-m slow` draws more than 10 000.
"""

import contextlib
import importlib
import io
import os
import shutil
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import tpsim
from finite import cells
from tests.fuzz import check as checks
from tests.fuzz.check import alarm, check, tree
from tests.fuzz.entries import EXEMPT, cases, entries
from tests.fuzz.files import prepare
from tpsim import Notice, cli, config

ENTRIES = entries()
QUICK, SLOW = 12, 165  # cases of each entry point
QUICK_COMMANDS, SLOW_COMMANDS = 150, 2000
SLOW_SEED = 20250711
HEAVY = {"finite.sweep": 4, "tpsim.plot.save_all": 3}  # so many times fewer


@pytest.fixture(autouse=True, scope="module")
def warm(tmp_path_factory):
    """Compile what is compiled at the first call, which takes its time once."""
    with warnings.catch_warnings(), contextlib.chdir(tmp_path_factory.mktemp("warm")):
        warnings.simplefilter("ignore")
        for entry in ENTRIES.values():
            for choice in range(4 if "core" in str(entry.valid) else 2):
                arguments = {k: make[min(choice, len(make) - 1)]() for k, make in entry.valid.items()}
                with contextlib.suppress(Exception):
                    entry.call(**arguments)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with data, in memory where there is such a place; what is on the disk is not what is tested here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cells, "flush", lambda path: None)
    prepare()
    return tmp_path


def clear():
    """Remove what a call that ran has written."""
    plt.close("all")
    for name in set(os.listdir()) - {"data", "data.npz", "data.csv"}:
        shutil.rmtree(name) if os.path.isdir(name) else os.remove(name)


def fuzz(name, count, draw_seed=None):
    """Draw and check cases of one entry point; return how many were drawn, and how many of them were refused."""
    entry, seen = ENTRIES[name], {"cases": 0, "refused": 0}

    @settings(max_examples=count, database=None, derandomize=draw_seed is None, suppress_health_check=list(HealthCheck))
    @given(cases(entry))
    def one(case):
        arguments, _ = case
        _, error = check(entry.call, arguments, entry.writes)
        seen["cases"] += 1
        seen["refused"] += error is not None
        clear()

    (one if draw_seed is None else seed(draw_seed)(one))()
    return seen


def public(module):
    return {f"{module.__name__}.{name}" for name in module.__all__}


def test_every_public_name_is_fuzzed_or_exempt_with_a_reason():
    names = set().union(
        *(
            public(importlib.import_module(name))
            for name in ("tpsim", "tpsim.core", "tpsim.data", "tpsim.plot", "tpsim.reference", "finite")
        )
    )
    exempt = {name for group in EXEMPT.values() for name in group}
    assert names - set(ENTRIES) - exempt == set()
    assert exempt <= names and not exempt & set(ENTRIES)
    for name in set(ENTRIES) & names:  # the strategy knows every argument that the function has
        *_, last = name.split(".")
        assert last in dir(importlib.import_module(name.removesuffix(f".{last}")))


@pytest.mark.parametrize("name", ENTRIES)
def test_a_call_runs_or_is_refused_at_once(name):
    seen = fuzz(name, max(QUICK // HEAVY.get(name, 1), 4))
    assert seen["cases"] >= 4


# The command line ---------------------------------------------------------------------------------------------------

COMMANDS = ("run", "plan", "converge", "verify", "figures", "sweep")
OPTIONS = (
    "--quiet",
    "--force",
    "--help",
    "--version",
    "--list",
    "--only",
    "--data",
    "--max-width",
    "--steps",
    "--seeds",
    "--workers",
    "--output",
    "--set",
    "-x",
    "--",
    "--set=",
    "--qui",
)
KEYS = [
    f"{section}.{key}"
    for section, table in config.TABLES.items()
    for key in table.__dataclass_fields__
    if not key.startswith("_")
] + [f"data.{key}" for key in ("source", "path", "count", "probes", "classes", "seed", "scale", "standardise", "x")]
VALUES = (
    "-1",
    "0",
    "1",
    "2",
    "nan",
    "inf",
    "-inf",
    "1e300",
    "5e-324",
    "10000000000000000000000",
    "true",
    '"x"',
    "''",
    "[]",
    "[1]",
    "[[1]]",
    "{}",
    "{0 = 0.1}",
    '{ "x" = 1 }',
    "2020-01-01",
    "[nan]",
    "digits",
    "csv",
    "npz",
    "mnist",
    "cifar10",
    "gaussian_mixture",
    "data.csv",
    "data.npz",
    "data",
    "..",
    "mup",
    "tanh",
    "relu",
    "x = 1",
    "=",
    "",
    "ñ",
    "\ud800",
    "\0",
    "[" * 500,
    "9" * 5000,
    "0x10",
    "1_0",
    "1e",
    "'a\nb'",
    "[1, 2",
    "sqrt_d",
    "feature",
    "logistic",
    "mean",
    "width",
    "iid",
)
TINY = (
    "network.depth=1",
    "training.steps=1",
    "simulation.particles=64",
    "simulation.replicas=1",
    "data.count=4",
    "data.probes=0",
    "simulation.workers=1",
    "sweep.widths=[4]",
    "sweep.seeds=1",
)
WORDS = st.one_of(st.sampled_from(VALUES), st.text(max_size=6))
LINES = st.builds("{} = {}".format, st.sampled_from([key.partition(".")[2] for key in KEYS]), st.sampled_from(VALUES))
SECTION = st.builds(
    lambda name, lines: "\n".join([f"[{name}]", *lines]),
    st.sampled_from([*config.SECTIONS, "other", "data.x", "[data]"]),
    st.lists(LINES, max_size=3),
)
TOML = st.one_of(st.lists(SECTION, max_size=4).map("\n".join), st.text(max_size=60), st.binary(max_size=60))
PATHS = st.sampled_from(
    [
        None,
        "config.toml",
        "config.toml",
        "config.toml",
        "nowhere.toml",
        ".",
        "",
        "/dev/zero",
        "pipe",
        "loop",
        "a" * 300,
        "\0",
    ]
)
SETS = st.builds("{}={}".format, st.one_of(st.sampled_from(KEYS), st.text(max_size=5)), WORDS)
ARGUMENTS = st.lists(
    st.one_of(
        SETS.map(lambda text: ["--set", text]),
        st.sampled_from(OPTIONS).flatmap(
            lambda option: st.one_of(st.just([option]), WORDS.map(lambda word: [option, word]))
        ),
    ),
    max_size=3,
)


class Accepted(BaseException):
    """Work begins: the input was checked, and not refused."""


@pytest.fixture
def no_work(monkeypatch):
    """Whatever would compute says so instead: bad input must be found before."""

    def work(*_, **__):
        raise Accepted

    monkeypatch.setattr("tpsim.job.Job.simulate", work)
    monkeypatch.setattr("tpsim.predict.predict", work)
    monkeypatch.setattr("validation.converge.command.study", work)
    monkeypatch.setattr("validation.verify.command.gather", work)
    monkeypatch.setattr("validation.verify.command.dataset_table", work)
    monkeypatch.setattr("validation.figures.command.make_study", work)
    monkeypatch.setattr("finite.command.execute", work)
    os.mkfifo("pipe")
    os.symlink("loop", "loop")


def command(arguments):
    """Exit code (None where work began), stderr, and seconds of one command."""
    out, err, code, start = io.StringIO(), io.StringIO(), None, time.perf_counter()
    quiet = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with alarm(checks.GIVE_UP), quiet[0], quiet[1], contextlib.suppress(Accepted):
        code = cli.main(arguments)
    return code, err.getvalue(), time.perf_counter() - start


def check_command(arguments):
    before = tree()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", Notice)
        code, err, seconds = command(arguments)
        if seconds > checks.SECONDS:
            seconds = min(seconds, command(arguments)[2])
    assert seconds < checks.SECONDS, f"{seconds:.1f} s"
    assert tree() == before
    assert code in (None, cli.OK, cli.BAD_INPUT), code
    if code == cli.BAD_INPUT:
        lines = [line for line in err.splitlines() if not line.startswith("notice: ")]
        assert len(lines) == 1 and lines[0].startswith("error: ") and "Traceback" not in err, err
    return code


def fuzz_commands(count, draw_seed=None):
    seen: dict = {}

    @settings(max_examples=count, database=None, derandomize=draw_seed is None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(COMMANDS), PATHS, TOML, ARGUMENTS, st.booleans())
    def one(name, path, text, more, tiny):
        with open("config.toml", "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode("utf-8", errors="surrogatepass"))
        words = [name, *([] if path is None else [path]), *(word for part in more for word in part)]
        sets = [word for entry in TINY for word in ("--set", entry)] if tiny and name in ("run", "plan") else []
        code = check_command([name, *sets, *words[1:]])
        seen[code] = seen.get(code, 0) + 1

    (one if draw_seed is None else seed(draw_seed)(one))()
    return seen


def test_a_command_is_accepted_or_refused_in_one_line(no_work):
    seen = fuzz_commands(QUICK_COMMANDS)
    assert sum(seen.values()) >= QUICK_COMMANDS and seen[cli.BAD_INPUT] > 0 and seen.get(None, 0) + seen.get(0, 0) > 0


# What is written ----------------------------------------------------------------------------------------------------


OF_MATRICES = ("residual", "increment", "innovation", "dropped")  # W^1 has none of these: docs/notation.md


def defined(run, name):
    """The values of a variable where docs/notation.md says that it has one."""
    if name.startswith(OF_MATRICES):
        return run[name].sel(layer=run["layer"] > 1).values
    if name.endswith("_se") and run.sizes["replica"] == 1:
        return np.zeros(1)
    return run[name].values


def undefined(run):
    """Names in the notice of undefined ratios."""
    lines = [line for line in run.attrs.get("notices", "").splitlines() if line.startswith("undefined ratios")]
    return {name for line in lines for name in line.rpartition(": ")[2].split(", ")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tpsim.simulate", "finite.train"])
def test_what_is_not_finite_is_named(name):
    """No value is NaN or infinite but undefined ratios, which a notice names, and networks that diverged."""
    entry, found = ENTRIES[name], 0

    @settings(max_examples=80, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(cases(entry, most=0))
    def one(case):
        nonlocal found
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)
            try:
                run = entry.call(**case[0])
            except tpsim.RunStopped as stopped:
                run = stopped.run
            except tpsim.TpsimError:
                return
        if run is None:
            return
        if found < 2:  # the bytes are what `test_damage` is about
            run = tpsim.load(tpsim.save(run, "run.nc"))
        assert not any(np.isinf(values.values.astype(float)).any() for values in run.data_vars.values())
        odd = {key for key, values in run.data_vars.items() if np.isnan(defined(run, key).astype(float)).any()}
        if case[0]["training"].batches is not None:  # an increment is that of a sample which both steps evaluated
            odd -= {"residual_forward", "increment_forward", "innovation_forward"}
        if "diverged_at" in run and (run["diverged_at"] >= 0).any():
            assert "NaN from there on" in run.attrs["notices"]
            return
        assert odd <= undefined(run), odd - undefined(run)
        found += 1

    one()
    assert found > 2  # most of what is drawn is refused, or stops


# The large battery --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_thousand_cases(no_work, capsys):
    """More than 10 000 cases, with a seed that is printed: 0 that break the property."""
    start, totals = time.perf_counter(), {"cases": 0, "refused": 0}
    os.remove("pipe"), os.remove("loop")
    for name in ENTRIES:
        seen = fuzz(name, SLOW // HEAVY.get(name, 1), SLOW_SEED)
        totals = {key: totals[key] + seen[key] for key in totals}
    os.mkfifo("pipe"), os.symlink("loop", "loop")
    commands = fuzz_commands(SLOW_COMMANDS, SLOW_SEED)
    count = totals["cases"] + sum(commands.values())
    with capsys.disabled():
        print(
            f"\nseed {SLOW_SEED}: {count} cases in {time.perf_counter() - start:.0f} s; {len(ENTRIES)} entry points, "
            f"{totals['cases']} calls, {totals['refused']} refused; {sum(commands.values())} commands, "
            f"{commands.get(cli.BAD_INPUT, 0)} refused; 0 broke the property"
        )
    assert count >= 10_000
