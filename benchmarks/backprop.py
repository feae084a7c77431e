"""Gradients written by hand, with updates in place, against torch autograd; and how many networks to train together.

    python benchmarks/backprop.py [--quick]

One thread. Both train the same networks by the same steps: f agrees at the end. Autograd is the plain loop: loss,
backward(), W -= rate * W.grad. Times are processor time per network and step, medians of paired runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from finite.activations import in_torch
from finite.dense import Layers, backward, draw, forward, update
from finite.plan import prepare
from tpsim import Network, Problem, Training
from tpsim.parametrization import MUP

RATE, DIMENSION, DEPTH = 0.1, 20, 3
AUTOGRAD = {"silu": torch.nn.functional.silu, "tanh": torch.tanh}
Trainer = Callable[[str, Layers, Tensor, Tensor, int], Tensor]


def by_hand(activation: str, weights: Layers, inputs: Tensor, y: Tensor, steps: int) -> Tensor:
    phi, dphi = in_torch(Network(DEPTH, activation).phi)
    rates = MUP.rates(np.full(DEPTH + 1, RATE), weights[1].shape[1])
    for _ in range(steps):
        h, x, f = forward(weights, phi, inputs)
        update(weights, rates, 2.0 * (f - y) / len(y), x, backward(weights, dphi, h))
    return f


def by_autograd(activation: str, weights: Layers, inputs: Tensor, y: Tensor, steps: int) -> Tensor:
    parameters = [w.requires_grad_() for w in weights.values()]
    rates = MUP.rates(np.full(DEPTH + 1, RATE), weights[1].shape[1])
    for _ in range(steps):
        x = inputs
        for w in parameters[:-1]:
            x = AUTOGRAD[activation](x @ w.mT)
        f = (x @ parameters[-1].mT)[..., 0]
        ((f - y) ** 2).mean(dim=-1).sum().backward()
        with torch.no_grad():
            for w, rate in zip(parameters, rates.tolist(), strict=True):
                w.sub_(w.grad, alpha=rate)
                w.grad = None
    return f.detach()


def seconds(train: Trainer, case: tuple, steps: int) -> tuple[float, Tensor]:
    """Processor time per network and step, and f at the last one."""
    activation, width, networks, samples, dtype = case
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(samples, DIMENSION, generator=generator, dtype=dtype) / DIMENSION**0.5
    y = 1.0 - 2.0 * (torch.arange(samples) % 2).to(dtype)
    weights = draw(Network(DEPTH, activation), DIMENSION, width, MUP, dtype, 0, range(networks))
    start = time.process_time()
    f = train(activation, weights, inputs, y, steps)
    return (time.process_time() - start) / steps / networks, f


def compare(case: tuple, pairs: int, work: float) -> str:
    """One row of the first table."""
    activation, width, networks, samples, dtype = case
    steps = max(2, int(work / (12 * networks * samples * width**2)))
    for train in (by_hand, by_autograd):
        seconds(train, case, 1)
    times: list[tuple[float, float]] = []
    for _ in range(pairs):
        (mine, f), (theirs, other) = (seconds(train, case, steps) for train in (by_hand, by_autograd))
        assert float((f - other).abs().max()) < (1e-9 if dtype == torch.float64 else 1e-3)
        times.append((mine, theirs))
    ratios = sorted(b / a for a, b in times)
    hand, auto = (1e6 * statistics.median(column) for column in zip(*times, strict=True))
    name = f"{str(dtype).removeprefix('torch.'):8}  {activation:4}  {width:6}  {networks:8}  {samples:3}"
    spread = f"{statistics.median(ratios):5.1f}  ({ratios[0]:.1f} .. {ratios[-1]:.1f})"
    return f"{name}  {hand:10.1f}  {auto:10.1f}  {spread}"


def blocks(width: int, samples: int, dtype: torch.dtype, repeats: int, work: float) -> str:
    """One row of the second table: microseconds by the number of networks, the default marked."""
    problem = Problem(np.ones((samples, DIMENSION)), np.ones(samples))
    name = str(dtype).removeprefix("torch.")
    plan = prepare(problem, Network(DEPTH), Training(1), width, "mup", 512, 0, name, None, ("f",), 1, None, None, ())
    sizes = sorted({1, *(max(1, round(plan.block * factor)) for factor in (0.25, 0.5, 1, 2, 4))})
    best = dict.fromkeys(sizes, np.inf)
    for _ in range(repeats):
        for size in sizes:
            steps = max(2, int(work / (12 * size * samples * width**2)))
            best[size] = min(best[size], seconds(by_hand, ("silu", width, size, samples, dtype), steps)[0])
    cells = "  ".join(f"{size}{'*' if size == plan.block else ''}: {1e6 * best[size]:.0f}" for size in sizes)
    return f"{name:8}  {width:6}  {samples:3}  {cells}"


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="Hand-written gradients against autograd.")
    parser.add_argument("--quick", action="store_true", help="fewer pairs and widths")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    pairs, work = (3, 1e8) if quick else (7, 4e8)
    print("us per network and step")
    print(f"dtype     phi    width  networks    m     by hand    autograd  ratio (smallest .. largest of {pairs})")
    sizes = [(64, 1, 4), (64, 32, 4), (256, 4, 4), (1024, 1, 4), (1024, 1, 10)] + ([] if quick else [(2048, 1, 10)])
    for dtype in (torch.float64, torch.float32):
        for activation in ("silu", "tanh"):
            for width, networks, samples in sizes:
                print(compare((activation, width, networks, samples, dtype), pairs, work), flush=True)
    print("\ndtype      width    m  the same, by the number of networks trained together (*: the default)")
    for dtype in (torch.float64, torch.float32):
        for width, samples in ((16, 4), (64, 4), (64, 10), (128, 4), (256, 4)):
            print(blocks(width, samples, dtype, 3, work / 2), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
