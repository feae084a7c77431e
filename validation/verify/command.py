"""`tpsim verify`: the claims of the paper on a dataset, printed, drawn and written."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from tpsim import InputError, config, job, output
from tpsim.conventions import conventions_table
from tpsim.data import describe
from tpsim.describe import duration, job_text
from tpsim.errors import Notice
from tpsim.results import save, versions

from ..independence import spectra
from ..inputs import dataset_table
from . import report
from .claims import Findings, measure
from .evidence import TOLERANCE, Evidence, Say, Settings, gather

FOLDER = "tpsim-verify"
SECTIONS = (*config.RUN, "verify")
IMAGES = ("mnist", "cifar10", "cifar100")
UNUSED = ("probe_every", "joint_every", "snapshots", "parts", "quantities", "threads")  # of [simulation]
DEFAULT = """
[data]
source = "digits"
probes = 0

[network]
depth = 3
activation = "silu"
init_scale = 1.4142135623730951

[training]
steps = 250
learning_rate = 0.1
loss = "squared"
reduction = "mean"
"""


def main(arguments: argparse.Namespace) -> bool:
    """Run the command; return whether no claim has failed.

    Raises
    ------
    InputError, FileError, ResourceError
        A configuration or a folder that cannot be used.
    RunStopped
        The limit had to stop; nothing is written.
    """
    start = time.perf_counter()
    read = _checked(config.read(arguments.config, arguments.set, DEFAULT, SECTIONS))
    folder = output.choose(arguments.output, arguments.force, FOLDER)
    with job.named("verify"):
        prepared = job.prepare(read, pictures=False)
        settings = settings_of(prepared)
    plan = announcement(prepared, settings)
    if not arguments.quiet:
        print(f"{plan}\n", flush=True)
    say, progress = _stages(start, arguments.quiet), False if arguments.quiet else None
    say("Assumption 4.1 on datasets")
    if not settings.network.phi.smooth:
        what = f"the derivative of {settings.network.phi.name} jumps: every step brings new directions to the bases"
        warnings.warn(f"{what}, which may fill before the end; take few training.steps", Notice, stacklevel=2)
    paths = {name: path for name in IMAGES if (path := getattr(read.verify, name)) is not None}
    datasets = dataset_table(paths, read.verify.images, progress=progress)  # first: files may be unreadable
    evidence = gather(settings, progress, say)
    source = str(prepared.config.data["source"])
    findings = measure(evidence, source, datasets, read.verify.controls, progress, say)
    notices = list(dict.fromkeys([*evidence.notices, *_notices(findings)]))
    for notice in notices:
        warnings.warn(notice, Notice, stacklevel=2)
    if not arguments.quiet:
        print(f"\nresult\n{report.text(findings)}\n", flush=True)
    facts: dict[str, Any] = {
        "seconds": round(time.perf_counter() - start, 3), "notices": notices, "plan": plan,
        "data": describe(settings.problem), "versions": versions(),
    }  # fmt: skip
    origin = f"tpsim {facts['versions']['tpsim']} verify: the configuration of the results beside this file"
    names = write(folder, evidence, findings, facts, config.to_toml(prepared.config, [origin], SECTIONS))
    if not arguments.quiet:
        print(f"time: {time.perf_counter() - start:.1f} s\nwritten to {folder}: {', '.join(names)}", flush=True)
    return not findings.refuted


def settings_of(prepared: job.Job) -> Settings:
    """Return what the configuration asks for."""
    task, simulation, table = prepared.task, prepared.config.simulation, prepared.config.verify
    return Settings(
        task.problem, task.network, task.training, particles=task.settings.particles, replicas=task.replicas,
        tolerance=simulation.tolerance, sobol=simulation.sobol, max_rank=simulation.max_rank,
        record_every=simulation.record_every, seed=simulation.seed, workers=simulation.workers,
        widths=tuple(sorted(set(table.widths))), seeds=table.seeds,
    )  # fmt: skip


def announcement(prepared: job.Job, settings: Settings) -> str:
    """Return the plan."""
    widths = ", ".join(str(n) for n in settings.widths)
    networks = f"SP, NTP, IP, muP: n = {widths}, {settings.seeds} seeds each" if widths else "none"
    lines = [
        f"plan\n{job_text(prepared)}",
        f"  {'':12}and {settings.replicas} replicas of {settings.particles // 2} particles",
        f"  {'networks':12}{networks}",
        "\nconventions (n: width, d: input dimension)",
        conventions_table(settings.network, settings.training, "mup"),
    ]
    return "\n".join(lines)


def write(folder: Path, evidence: Evidence, findings: Findings, facts: dict[str, Any], resolved: str) -> list[str]:
    """Write report.md, the runs, summary.json, config.toml and the figures; return the names.

    Raises
    ------
    FileError
        Nothing can be written there; what was there is left as it was.
    """
    summary = {**facts, "claims": [report.record(claim) for claim in findings.claims]}

    def fill(temporary: Path) -> list[str]:
        from .figures import save_figures  # matplotlib takes half a second to import

        captions = save_figures(evidence, findings, temporary)
        (temporary / "report.md").write_text(report.markdown(findings, facts, captions), encoding="utf-8")
        whole = spectra(evidence.large).to_dataset(name="eigenvalues").assign_attrs(evidence.large.attrs)
        runs = {"limit": evidence.large, "first_steps": evidence.short[-1], "spectra": whole}
        if evidence.networks is not None:
            runs["networks"] = evidence.networks
        for name, run in runs.items():
            save(run, temporary / f"{name}.nc")
        return ["report.md", *captions, *(f"{name}.nc" for name in runs), output.SUMMARY, "config.toml"]

    return [path.name for path in output.write_folder(folder, fill, summary, resolved)]


def _checked(read: config.Config) -> config.Config:
    """Fill in this command's defaults; refuse what it has no meaning for, and networks without torch."""
    simulation = read.simulation
    job.refuse_target(read)
    if simulation.limit != "mup":
        raise InputError("simulation.limit", simulation.limit, '"mup": whose limit the claims are about')
    if simulation.noise != "matched":
        raise InputError("simulation.noise", simulation.noise, '"matched": the noise of which the floors are known')
    for key in UNUSED:
        if getattr(simulation, key) != getattr(config.SimulationTable(), key):
            warnings.warn(f"simulation.{key} has no meaning here and is not used", Notice, stacklevel=2)
    if read.verify.widths and importlib.util.find_spec("torch") is None:
        raise InputError(
            "verify.widths", read.verify.widths,
            "[] where torch is not installed: finite networks need it (pip install 'tpsim[finite]')",
        )  # fmt: skip
    tolerance = TOLERANCE if simulation.tolerance is None else simulation.tolerance
    return replace(read, simulation=replace(simulation, tolerance=tolerance))


def _notices(findings: Findings) -> list[str]:
    """What a hypothesis that fails has to be told beside the table."""
    return [
        f"{claim.name} does not hold here: the theorems do not speak of this case"
        for claim in findings.claims
        if claim.hypothesis and claim.verdict == "FAIL"
    ]


def _stages(start: float, quiet: bool) -> Say:
    """Print the name of each stage, with the time it begins."""

    def say(stage: str) -> None:
        if not quiet:
            print(f"  {duration(time.perf_counter() - start):>6}  {stage}", file=sys.stderr, flush=True)

    return say
