"""The command line: `tpsim run`, `plan`, `converge`, `verify`, `figures`, `sweep`.

Exit codes: 0; 1 a claim that `verify` checks has failed; 2 bad input (one line on stderr, nothing written); 3 the run
had to stop (what was finished is written); 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import FileError, InputError, Interrupted, Notice, RunStopped, TpsimError
from .signals import Terminated, terminable

if TYPE_CHECKING:  # what is heavy is imported where it is used: help and most errors come at once
    from pathlib import Path

    import xarray as xr

    from .config import Config
    from .job import Job

OK, FAILED, BAD_INPUT, STOPPED, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
SIGNALLED = 128  # plus the number of the signal, as shells have it


class _Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"error: {' '.join(message.split())} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed help, the version or the error
        return int(stop.code or 0)
    try:
        with terminable(), _notices():
            return int(arguments.command(arguments))
    except TpsimError as error:
        _say("error", str(error))
        return BAD_INPUT
    except MemoryError:
        _say("error", "the sizes asked for do not fit into memory")
        return BAD_INPUT
    except Interrupted as stop:
        _say("interrupted", f"{stop}; to go on: {_again(argv)}")
        return SIGNALLED + stop.signum
    except KeyboardInterrupt as stop:
        folder = getattr(arguments, "checkpoint", None)
        kept = f"; what checkpoints there are is in {folder}: to go on: {_again(argv)}" if folder else ""
        _say("interrupted", f"nothing was written{kept}")
        return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
    except BrokenPipeError:  # `tpsim plan | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _again(argv: Sequence[str] | None) -> str:
    """The command that goes on from the checkpoints of this one."""
    given = list(sys.argv[1:] if argv is None else argv)
    return shlex.join(["tpsim", *given, *["--resume"] * ("--resume" not in given)])


def _parser() -> argparse.ArgumentParser:
    from .config import describe_keys

    parser = _Parser(prog="tpsim", description="The infinite-width limit of deep networks that learn features.")
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    keys = f"sections and keys of CONFIG:\n{describe_keys()}"
    for command, text in (
        (run, "simulate the limit, print a table, write results and figures"),
        (plan, "predict ranks, memory and time, and write nothing"),
        (converge, "train networks of many widths beside the limit, and measure how fast they approach it"),
        (verify, "check every claim of the paper in the limit of a dataset; exit code 1 if one fails"),
        (figures, "draw the figures of the paper with the limit in them"),
        (sweep, "train networks of many widths in all parametrizations; a sweep that was interrupted goes on"),
    ):
        sub = commands.add_parser(command.__name__, help=text, description=f"{text.capitalize()}.", epilog=keys)
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        sub.add_argument("config", nargs="?", metavar="CONFIG.toml", help="default: the built-in demo, digits 0 v 1")
        sub.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one value")
        sub.set_defaults(command=command)
    for name, folder in (("run", "tpsim-output"), ("converge", "tpsim-converge"), ("verify", "tpsim-verify")):
        sub = commands.choices[name]
        sub.add_argument("--output", metavar="DIR", help=f"default: {folder}, or the first free {folder}-K")
        sub.add_argument("--force", action="store_true", help="replace the results that DIR holds")
        sub.add_argument("--quiet", action="store_true", help="print nothing but notices and errors")
    sub = commands.choices["run"]
    sub.add_argument("--checkpoint", metavar="DIR", help="keep what the run has reached in DIR; see --resume")
    sub.add_argument("--checkpoint-seconds", type=float, default=300.0, metavar="S", help="default: every 300 s")
    sub.add_argument("--resume", action="store_true", help="go on from the checkpoints in DIR, if there are some")
    for name in ("sweep", "figures"):
        sub = commands.choices[name]
        sub.add_argument("--output", metavar="DIR", help=f"default: tpsim-{name}; networks that it holds are kept")
        sub.add_argument("--workers", type=int, metavar="N", help="processes; default: all cores")
        sub.add_argument("--quiet", action="store_true", help="print nothing but notices and errors")
    sub.add_argument("--only", metavar="NAMES", help="as in 1,5,depths (see --list); default: all")
    sub.add_argument("--list", action="store_true", help="print the figures there are")
    sub.add_argument("--data", metavar="SOURCE[:PATH]", help="as in cifar10:PATH: two classes, ten images")
    sub.add_argument("--max-width", type=int, metavar="N", help="widths 8, 16, .. up to N")
    sub.add_argument("--steps", type=int, metavar="T", help="the paper has 1000")
    sub.add_argument("--seeds", type=int, metavar="S", help="networks of each width")
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        print(f"tpsim {version('tpsim')}")
        parser.exit()


def plan(arguments: argparse.Namespace) -> int:
    """`tpsim plan`: the plan with its prediction, and the conventions."""
    from . import config

    job = _prepare(config.read(arguments.config, arguments.set, used=config.RUN))
    _announce(job)
    for notice in job.task.notices:  # a run gives them itself
        _say("notice", notice)
    return OK


def run(arguments: argparse.Namespace) -> int:
    """`tpsim run`: plan, conventions, simulation, table, files."""
    from . import config, output

    read = config.read(arguments.config, arguments.set, used=config.RUN)
    folder = output.choose(arguments.output, arguments.force)
    job = _prepare(read)
    job = job.with_checkpoints(arguments.checkpoint, arguments.checkpoint_seconds, arguments.resume)
    kept = job.task.checkpoint
    if kept is not None and kept.folder.resolve().is_relative_to(folder.resolve()):
        raise InputError("--checkpoint", arguments.checkpoint, "a folder outside that of --output, which is new")
    if not arguments.quiet:
        _announce(job)
    start, stopped = time.perf_counter(), None
    try:
        dataset = job.simulate(False if arguments.quiet else None, _silent if arguments.quiet else _say_stage)
    except RunStopped as error:
        dataset, stopped = error.run, str(error)
        if dataset is None:
            _say("stopped", f"{stopped}; nothing was finished, and nothing was written")
            return STOPPED
    try:
        summary = _write(job, folder, dataset, time.perf_counter() - start, stopped)
    except FileError as error:
        if kept is None:
            raise
        raise FileError(f"{error}; the same command with --resume goes on from what is in {kept.folder}") from None
    if not arguments.quiet:
        from .report import table

        print(f"result\n{table(summary)}\n  time: {summary['seconds']:.1f} s\n")
        if "why" in dataset.attrs:
            print(f"{dataset.attrs['why']}\n")
        print(f"written to {folder}: {', '.join(summary['files'])}", flush=True)
    if stopped is not None:
        _say("stopped", f"{stopped}; the steps before it are in {folder}")
        return STOPPED
    return OK


def converge(arguments: argparse.Namespace) -> int:
    """`tpsim converge`: networks of many widths beside the limit."""
    from validation.converge import command

    try:
        command.main(arguments)
    except RunStopped as error:
        _say("stopped", f"the limit: {error}; nothing was written")
        return STOPPED
    return OK


def verify(arguments: argparse.Namespace) -> int:
    """`tpsim verify`: the claims of the paper."""
    from validation.verify import command

    try:
        return OK if command.main(arguments) else FAILED
    except RunStopped as error:
        _say("stopped", f"the limit: {error}; nothing was written")
        return STOPPED


def figures(arguments: argparse.Namespace) -> int:
    """`tpsim figures`: the figures of the paper."""
    _require_torch("figures")
    from validation.figures import command

    try:
        return command.main(arguments)
    except RunStopped as error:
        _say("stopped", f"the limit: {error}; no figure was written; networks and finished limits are kept")
        return STOPPED


def sweep(arguments: argparse.Namespace) -> int:
    """`tpsim sweep`: a grid of networks of finite width."""
    _require_torch("sweep")
    from finite import command

    return command.main(arguments)


def _require_torch(command: str) -> None:
    if importlib.util.find_spec("torch") is None:
        what = f"tpsim {command} trains networks with torch, which is not installed"
        raise TpsimError(f"{what}: pip install 'tpsim[finite]'")


def _prepare(read: Config) -> Job:
    from .plan import check_particles

    if read.simulation.particles is not None:
        check_particles(read.simulation.particles)
    from . import job  # brings the engine, for a configuration that is well formed

    return job.prepare(read)


def _announce(job: Job) -> None:
    """Print the plan, the conventions, and the predicted cost."""
    from .conventions import conventions_table, parametrization_title
    from .describe import concerns, job_text, prediction_text
    from .predict import predict

    print(f"plan\n{job_text(job)}", flush=True)
    prediction = predict(job.task)
    print(prediction_text(job, prediction))
    conventions = conventions_table(job.task.network, job.task.training, job.task.limit)
    title = parametrization_title(job.task.limit)
    print(f"\nconventions, {title} (n: width, d: input dimension)\n{conventions}\n", flush=True)
    for concern in concerns(job, prediction):
        _say("notice", concern)


def _write(job: Job, folder: Path, dataset: xr.Dataset, seconds: float, stopped: str | None) -> dict[str, Any]:
    """Write everything that the run leaves, and return its summary."""
    from . import output
    from .config import to_toml
    from .data import describe
    from .report import summarise
    from .results import versions

    dataset = dataset if job.kept else output.thin(dataset)
    summary = summarise(dataset) | {
        "seconds": round(seconds, 3), "stopped": stopped, "notices": dataset.attrs["notices"].splitlines(),
        "data": describe(job.task.problem), "versions": versions(),
    }  # fmt: skip
    origin = [f"tpsim {versions()['tpsim']}: the configuration of the results beside this file, every default resolved"]
    if "why" in dataset.attrs:
        origin.append(dataset.attrs["why"])
        summary |= {name: dataset.attrs[name] for name in ("target_error", "why")}
        summary["accuracy"] = json.loads(dataset.attrs["accuracy"])
    paths = output.write(folder, dataset, summary, to_toml(job.resolved(dataset), origin))
    return summary | {"files": [path.name for path in paths]}


def _say_stage(line: str) -> None:
    print(f"stage: {line}", flush=True)


def _silent(line: str) -> None:
    """Nothing is printed with --quiet."""


def _say(kind: str, message: str) -> None:
    """Print one line on stderr."""
    print(f"{kind}: {' '.join(message.split())}", file=sys.stderr, flush=True)


@contextmanager
def _notices() -> Iterator[None]:
    """Print every `Notice` as a line on stderr, once."""
    seen: set[str] = set()
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, Notice):
                shown(message, category, *place, **more)
            elif str(message) not in seen:
                seen.add(str(message))
                _say("notice", str(message))

        warnings.simplefilter("always", Notice)
        warnings.showwarning = show
        yield
