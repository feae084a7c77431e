"""What `tpsim figures` says before it begins."""

from __future__ import annotations

from collections.abc import Sequence

from tpsim import config
from tpsim.data import explain

from .captions import counted
from .compute import needed
from .look import NAMES
from .study import PARAMETRIZATIONS, Settings


def announcement(settings: Settings, resolved: config.Config, names: Sequence[str]) -> str:
    """Return the plan: what will be computed."""
    m, d = settings.problem.inputs.shape
    activations, extras = needed(names)
    lines = [
        f"plan\n  {'figures':12}{', '.join(names)}",
        f"  {'data':12}{source(resolved)}; m = {m}, d = {d}",
        f"  {'network':12}L = {settings.network.depth} hidden layers; constants of Appendix A",
        f"  {'training':12}{settings.training.steps} steps, eta = {settings.training.learning_rate:g}",
    ]
    if activations:
        networks = len(activations) * len(PARAMETRIZATIONS) * len(settings.widths) * settings.seeds
        titles = ", ".join(NAMES[name] for name in PARAMETRIZATIONS)
        lines += [
            f"  {'of each':12}{titles} with {', '.join(activations)}",
            f"  {'networks':12}n = {', '.join(map(str, settings.widths))}; {counted(settings.seeds, 'seed')}: "
            f"{counted(networks, 'network')}",
            f"  {'limits':12}{counted(settings.replicas, 'replica')} of {settings.particles} particles",
        ]
    lines += [f"  {'besides':12}data of {', '.join(extras)}"] if extras else []
    return "\n".join([*lines, f"  {'processes':12}{settings.workers}; what the folder holds already is kept", ""])


def source(resolved: config.Config) -> str:
    """Name the data and what is done to them."""
    return explain(**resolved.data)
