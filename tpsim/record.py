"""Collectors: what one replica's trajectory leaves behind. The main loop calls `observe` and knows no more."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .core import Parts, count, inner
from .core.kernels import inner_change, inner_rows
from .core.saved import Saved, nested
from .core.stack import buffer
from .mlp import Fields, State
from .probes import Frame

Array = np.ndarray


KERNELS, JOINT = ("kernel_h", "kernel_x", "kernel_dh"), ("kernel_h0", "kernel_x0")
MEANS, CHANGES = ("mean_h", "mean_x"), ("feature_change_h", "feature_change_x")
INCREMENTS = ("increment_forward", "residual_forward", "innovation_forward")
GRADIENTS = ("residual_backward", "innovation_backward")
ALWAYS = ("f", "chi", "loss", "batch")  # as ranks and dropped energies, which cost nothing, either
QUANTITIES = (*ALWAYS, *KERNELS, *JOINT, *MEANS, *CHANGES, *INCREMENTS, *GRADIENTS, "f_probe")
NEED_MOMENTS = frozenset({*KERNELS, *MEANS, "kernel_h0", "feature_change_h"})  # h itself, or more than E[Z_i^2]

STATIC = 1e-14  # an increment below this, relative to the field, is rounding


@dataclass(frozen=True)
class Schedule:
    """Which steps leave what: sorted step numbers."""

    record: tuple[int, ...]
    joint: tuple[int, ...]
    probe: tuple[int, ...]
    snapshot: tuple[int, ...]
    parts: bool = False
    quantities: tuple[str, ...] = QUANTITIES

    @cached_property
    def _everyone(self) -> frozenset[int]:
        return frozenset({*self.record, *self.joint, *self.snapshot})

    def full(self, step: int) -> bool:
        """Whether all samples are evaluated at `step`, and not its minibatch only."""
        return step in self._everyone

    @cached_property
    def _moments(self) -> bool:
        return not NEED_MOMENTS.isdisjoint(self.quantities)

    def moments(self, step: int) -> bool:
        """Whether h, means, and second moments off the diagonal are wanted of `step`."""
        return step in self.snapshot or (self._moments and self.full(step))

    def wants(self, *names: str) -> bool:
        """Whether one of these quantities is wanted."""
        return not set(names).isdisjoint(self.quantities)


def shapes(schedule: Schedule, depth: int, samples: int, particles: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of everything that one replica records; f_probe comes from `tpsim.probes`."""
    T, L, m = len(schedule.record), depth, samples
    always = {
        "f": (T, m), "chi": (T, m), "batch": (T, m), "loss": (T,),
        "rank_forward": (T, L), "rank_backward": (T, L), "dropped_forward": (T, L), "dropped_backward": (T, L),
    }  # fmt: skip
    chosen = {
        **dict.fromkeys(KERNELS, (T, L, m, m)), **dict.fromkeys(JOINT, (len(schedule.joint), L, m, m)),
        **dict.fromkeys(MEANS, (T, L, m)), **dict.fromkeys(CHANGES, (T, L)),
        "increment_forward": (T, L, m), "residual_forward": (T, L, m), "innovation_forward": (T, L),
        "residual_backward": (T, L, m), "innovation_backward": (T, L),
    }  # fmt: skip
    found = always | {name: shape for name, shape in chosen.items() if schedule.wants(name)}
    snapshots = (len(schedule.snapshot), L, m)
    if schedule.snapshot:
        found |= {name: (*snapshots, particles) for name in ("Z_h", "Z_x", "Z_dh")}
        if schedule.parts:
            found |= {name: (*snapshots, 3, particles) for name in ("Z_h_parts", "Z_dx_parts")}
    return found


class Recorder:
    """Fills one array per reported quantity; rows follow `Schedule`."""

    def __init__(self, schedule: Schedule, depth: int, samples: int, particles: int) -> None:
        self.schedule, self.depth = schedule, depth
        every = shapes(schedule, depth, samples, particles)
        self.arrays = {name: np.full(shape, np.nan) for name, shape in every.items()}
        self.frames: list[Frame] = []
        self.undefined: set[str] = set()  # ratios that met a zero denominator
        self._recorded = self._joined = self._pictured = 0  # rows filled
        self._initial: dict[str, list[Array]] = {}  # h and x of step 0, by layer
        self._sizes: dict[str, list[Array]] = {}  # sqrt(sum_i E|Z_0|^2) of each of them, (1,)
        self._previous: Fields | None = None

    def observe(self, state: State, fields: Fields, chi: Array, loss: float, batch: Array) -> None:
        """Record one step; chi (m,) is the gradient of the whole data's loss, batch the indices of B_t."""
        step, plan = fields.step, self.schedule
        if step == 0:
            self._keep_initial(fields)
        if _next(plan.record, self._recorded) == step:
            self._record(self._recorded, state, fields, chi, loss, batch)
            self._recorded += 1
        if _next(plan.joint, self._joined) == step:
            self._record_joint(self._joined, fields)
            self._joined += 1
        if _next(plan.probe, len(self.frames)) == step:
            self.frames.append(Frame.of(state, step))
        if _next(plan.snapshot, self._pictured) == step:
            self._record_snapshot(self._pictured, state, fields)
            self._pictured += 1
        self._previous = fields

    def _keep_initial(self, fields: Fields) -> None:
        """Copy the fields of step 0 with which later ones are compared."""
        for name, z, kernels in (("h", fields.h, fields.kernel_h), ("x", fields.x, fields.kernel_x)):
            if self._compares(name):
                self._initial[name] = [one.copy() for one in z]
                squares = [np.trace(kernel) for _, kernel in sorted(kernels.items())]
                self._sizes[name] = [np.empty(0), *(np.sqrt([square]) for square in squares)]

    def _compares(self, kind: str) -> bool:
        """Whether the fields of step 0 are wanted at later steps."""
        return self.schedule.wants(f"feature_change_{kind}", f"kernel_{kind}0")

    def _record(self, t: int, state: State, fields: Fields, chi: Array, loss: float, batch: Array) -> None:
        put = self.arrays
        put["f"][t], put["chi"][t], put["loss"][t] = fields.f, chi, loss
        put["batch"][t] = 0.0
        put["batch"][t, batch] = 1.0
        put["rank_forward"][t, 0], put["rank_backward"][t, 0] = len(state.first.basis), 0
        for l in range(1, self.depth + 1):
            for name in (*KERNELS, *MEANS):
                if name in put:
                    put[name][t, l - 1] = getattr(fields, name)[l]
            self._relative_change("h", t, l, fields.h[l])
            self._relative_change("x", t, l, fields.x[l])
            if l > 1:
                self._record_matrix(t, l, state, fields)

    def _record_matrix(self, t: int, l: int, state: State, fields: Fields) -> None:
        """Ranks, dropped energy and the new randomness of Section 5.4 at W^l."""
        put, seen, back = self.arrays, fields.forward[l], fields.backward[l]
        put["rank_forward"][t, l - 1], put["rank_backward"][t, l - 1] = state.hidden[l].ranks
        put["dropped_forward"][t, l - 1], put["dropped_backward"][t, l - 1] = seen.dropped, back.dropped
        if self.schedule.wants(*INCREMENTS):
            self._record_increments(t, l, state, fields)
        if self.schedule.wants(*GRADIENTS):
            square = np.diag(fields.kernel_dh[l])
            past, new = np.split(back.coordinates, [back.known], axis=1)
            self._new_randomness("residual_backward", (t, l), np.arange(len(square)), square, past)
            self._innovation("innovation_backward", (t, l), square, new)

    def _record_increments(self, t: int, l: int, state: State, fields: Fields) -> None:
        """Size and new randomness of delta x^{l-1}."""
        seen = fields.forward[l]
        here, delta = self._increment(fields, l - 1)
        size, square = np.diag(fields.kernel_x[l - 1])[here], inner_rows(delta, delta)
        if "increment_forward" in self.arrays:
            sizes = np.sqrt(self._divide("increment_forward", square, size))
            self.arrays["increment_forward"][t, l - 1, here] = sizes
        static = (square <= STATIC**2 * size) & (square > 0.0)
        count("static_increment", static.sum())
        square = np.where(static, 0.0, square)
        past = inner(delta, state.hidden[l].X)[:, : seen.known]
        self._new_randomness("residual_forward", (t, l), here, square, past)
        # x_{t-1} lies in the past: delta x_t and x_t have the same coordinates on the directions that are new
        self._innovation("innovation_forward", (t, l), square, seen.coordinates[here, seen.known :])

    def _increment(self, fields: Fields, l: int) -> tuple[Array, Array]:
        """delta x^l_t(xi_i) (B.3), delta x_0 = x_0, and the rows it is known for: those that step t-1 evaluated."""
        x, before = fields.x[l], self._previous
        if before is None:
            return np.arange(len(x)), x
        if np.array_equal(fields.samples, before.samples):
            return np.arange(len(x)), np.subtract(x, before.x[l], out=buffer("increment", x.shape))
        _, here, there = np.intersect1d(fields.samples, before.samples, return_indices=True)
        return here, x[here] - before.x[l][there]

    def _new_randomness(self, name: str, at: tuple[int, int], rows: Array, square: Array, past: Array) -> None:
        """|P_perp z_i| / |z_i| against the basis of all the past; `past` are z's coordinates on it, square = |z|^2.

        Resolved down to 1e-8, the rounding of sqrt(|z|^2 - |past|^2); undefined where z vanishes up to rounding.
        """
        if name not in self.arrays:
            return
        t, l = at
        energy = square - (past**2).sum(axis=1)
        count("clamped_residual", (energy < 0.0).sum())
        residual = np.sqrt(np.maximum(energy, 0.0))
        self.arrays[name][t, l - 1, rows] = self._divide(name, residual, np.sqrt(square))

    def _innovation(self, name: str, at: tuple[int, int], square: Array, new: Array) -> None:
        """Smallest singular value of the rows P_perp z_i / |z_i|, from the coordinates of z on the new directions.

        Its square is the smallest eigenvalue of a Schur complement: that of this step, in the covariance of (C.1) or
        (C.2) over all samples and steps so far. What the tolerance left out is missing: an error below sqrt(m)
        tolerance |x| / |z|, and 0 where there are fewer new directions than samples.
        """
        if name not in self.arrays:
            return
        t, l = at
        if (square == 0).any():
            self._undefined(name)
        elif square.size:
            rows = new / np.sqrt(square)[:, None]
            full = rows.shape[1] >= rows.shape[0]
            self.arrays[name][t, l - 1] = np.linalg.svd(rows, compute_uv=False)[-1] if full else 0.0

    def _relative_change(self, kind: str, t: int, l: int, z: Array) -> None:
        """sqrt(sum_i E|Z_t - Z_0|^2 / sum_i E|Z_0|^2)."""
        name = f"feature_change_{kind}"
        if name not in self.arrays:
            return
        size = np.sqrt(inner_change(z, self._initial[kind][l]).sum(keepdims=True))
        self.arrays[name][t, l - 1] = self._divide(name, size, self._sizes[kind][l])[0]

    def _divide(self, name: str, numerator: Array, denominator: Array) -> Array:
        """numerator / denominator: NaN, and the name is noted, where it is undefined or overflows."""
        ratio = np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator > 0)
        bad = ~np.isfinite(ratio)
        self._undefined(name, int(bad.sum()))
        ratio[bad] = np.nan
        return ratio

    def _undefined(self, name: str, entries: int = 1) -> None:
        count("undefined_ratio", entries)
        if entries:
            self.undefined.add(name)

    def _record_joint(self, t: int, fields: Fields) -> None:
        """E[Z_0(xi_i) Z_t(xi_j)]."""
        for l in range(1, self.depth + 1):
            for name, z in (("h", fields.h[l]), ("x", fields.x[l])):
                if f"kernel_{name}0" in self.arrays:
                    self.arrays[f"kernel_{name}0"][t, l - 1] = inner(self._initial[name][l], z)

    def _record_snapshot(self, t: int, state: State, fields: Fields) -> None:
        put = self.arrays
        for l in range(1, self.depth + 1):
            put["Z_h"][t, l - 1], put["Z_x"][t, l - 1] = fields.h[l], fields.x[l]
            put["Z_dh"][t, l - 1] = fields.dh[l]
            if self.schedule.parts:
                put["Z_h_parts"][t, l - 1] = _stack(forward_parts(state, fields, l))
                put["Z_dx_parts"][t, l - 1] = _stack(backward_parts(state, fields, l))

    def state(self) -> dict[str, Array]:
        """What `restore` takes, as views: filled rows, frames, the first step's fields, and the last step's features.

        `undefined`, which is text, is left to the caller.
        """
        parts = {"arrays": {name: array[: self._filled(name)] for name, array in self.arrays.items()}}
        parts["frames"] = {"count": np.array(len(self.frames))}
        parts |= {f"frames/{k}": frame.state() for k, frame in enumerate(self.frames)}
        for kind, fields in self._initial.items():
            parts[f"initial/{kind}"] = {str(l): z for l, z in enumerate(fields) if l}
            parts[f"size/{kind}"] = {str(l): size for l, size in enumerate(self._sizes[kind]) if l}
        if (last := self._previous) is not None:
            parts["previous"] = {str(l): last.x[l] for l in range(1, self.depth)}
            parts["previous"]["samples"] = np.asarray(last.samples, np.int64)
        return nested(parts)

    def restore(self, saved: Saved, step: int, state: State) -> None:
        """Become the recorder that `state` described at the beginning of `step`, of a schedule with the same past."""
        plan, M, m = self.schedule, state.settings.particles, len(state.first.coordinates)
        steps = (plan.record, plan.joint, plan.snapshot)
        self._recorded, self._joined, self._pictured = (bisect.bisect_left(one, step) for one in steps)
        for name, array in self.arrays.items():
            filled = self._filled(name)
            array[:filled] = saved.take(f"arrays/{name}", (filled, *array.shape[1:]), np.float64)
        frames, past = saved.count("frames/count"), [t for t in plan.probe if t < step]
        if frames != len(past):
            raise ValueError(f"{frames} frames, and not {len(past)}")
        self.frames = [Frame.restored(saved.within(f"frames/{k}"), t, state) for k, t in enumerate(past)]
        layers, none = range(1, self.depth + 1), np.empty(0)
        for kind in (kind for kind in "hx" if step and self._compares(kind)):
            own, sizes = saved.within(f"initial/{kind}"), saved.within(f"size/{kind}")
            self._initial[kind] = [none, *(own.take(str(l), (m, M), np.float64) for l in layers)]
            self._sizes[kind] = [none, *(sizes.take(str(l), (1,), np.float64) for l in layers)]
        if step:
            last = saved.within("previous")
            samples = last.take("samples", (None,), np.int64)
            x = [none, *(last.take(str(l), (len(samples), M), np.float64) for l in layers[:-1])]
            self._previous = Fields(step - 1, samples, [], x, [], [])

    def _filled(self, name: str) -> int:
        """Rows of an array that are filled."""
        if name in ("kernel_h0", "kernel_x0"):
            return self._joined
        return self._pictured if name.startswith("Z_") else self._recorded


def _next(steps: tuple[int, ...], filled: int) -> int | None:
    """The step that row `filled` waits for."""
    return steps[filled] if filled < len(steps) else None


def forward_parts(state: State, fields: Fields, l: int) -> Parts:
    """Zhat, Zdot and history of Z^{h^l_t}; layer 1 has no Zdot."""
    parts = state.first.parts(state.first.coordinates[fields.samples]) if l == 1 else fields.forward[l].parts
    assert parts is not None
    return parts


def backward_parts(state: State, fields: Fields, l: int) -> Parts:
    """Zhat, Zdot and history of Z^{dx^l_t}; at l = L it is What_0 and its accumulated update (B.4)."""
    if l < state.depth:
        parts = fields.backward[l + 1].parts
        assert parts is not None
        return parts
    shape = fields.h[l].shape
    assert state.readout_0 is not None
    return Parts(
        np.broadcast_to(state.readout_0, shape),
        np.zeros(shape),
        np.broadcast_to(state.readout.array - state.readout_0, shape),
    )


def _stack(parts: Parts) -> Array:
    return np.stack([parts.Zhat, parts.Zdot, parts.history], axis=1)
