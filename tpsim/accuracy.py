"""Accuracy on demand: the particles, replicas and tolerance that bring the error of f to a target.

The mean over R replicas of M particles, with tolerance eps, differs from the limit by

    error^2 = se^2 + bias^2 + truncation^2                                                                        (1)
    se = s / sqrt(R)       s: spread of one replica, falling as M^-a
    bias = |b| / M         E f_M = f + b / M; b by weighted least squares over all M that were run                (2)
    truncation = c eps^2   (f_{8 eps} - f_eps) / 63, replica by replica, at the smallest M                        (3)

in root mean square over recorded steps (after 0, where f = 0 exactly) and samples; of f and f_probe the larger error
counts. Where (2) or (3) is hidden by noise, the noise counts: on average every square in (1) is at least the truth.

    pilot:   16 replicas of few particles; eps is lowered until (3) is below half of the target
    repeat:  run the cheapest (M, R) that is predicted to bring (1) to 0.8 of the target, or else what the budget can
             do best; M grows by no more than a factor of four at once, which is as far as predictions are good
    until:   (1) is at the target, the spread does not fall as M grows, or nothing that the budget allows would help

Source: none. What is promised, and how well it was kept: docs/accuracy.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace

import xarray as xr

from .checkpoint import kept
from .errorlaw import Law, Size, truncation_error
from .errors import RankError
from .goal import HELD, PILOT_REPLICAS, Goal, first_particles
from .progress import Progress
from .run import finish
from .stages import Plan, Stage, Workshop
from .task import REPLICAS, Task

MARGIN = 0.8  # share of the target that a plan aims at: one that just misses costs another stage
GROWTH = 4  # of M from one stage to the next
COARSE = 8  # times the tolerance is what the tolerance is compared with
TRUNCATION = 0.5  # share of the target that the truncation may take
USEFUL = 0.9  # a stage that does not reach the target must bring the error to this share of what it was
COUNTS = [round(2 ** (k / 2)) for k in range(2, 21)]  # replicas of a plan, up to 1024
DOUBLINGS = 12  # of M in a plan


def execute(task: Task, progress: Progress = None, report: Callable[[str], None] = lambda line: None) -> xr.Dataset:
    """Run stages until the target is met or out of reach, and return the last; `report` hears a line of each."""
    goal = task.goal
    assert goal is not None
    with kept(task) as task:
        search = Search(task, goal, progress, report)
        search.pilot()
        while (size := search.next_size()) is not None:
            search.run(size)
    return search.finish()


class Search:
    """What has been run, what it says of the error, and what to run next.

    Attributes
    ----------
    stages : the last one of every M, ascending; only the very last keeps its results.
    tolerance, truncation : the tolerance of all stages, and its error (3) by output.
    needed : the cheapest plan that is predicted to reach the target, whatever the budget.
    why : why the search has ended.
    """

    def __init__(self, task: Task, goal: Goal, progress: Progress, report: Callable[[str], None]) -> None:
        self.task, self.goal, self.report = task, goal, report
        self.workshop = Workshop(task, goal, progress)
        self.stages: list[Stage] = []
        self.tolerance = goal.first_tolerance
        self.truncation: dict[str, float] = {}
        self.needed: Plan | None = None
        self.why = ""

    # Stages -----------------------------------------------------------------------------------------------------------

    def pilot(self) -> None:
        """Run the first M that has room, and find the tolerance."""
        M, given = first_particles(self.task.problem, self.goal.particles), self.goal.particles
        while True:
            try:
                self._pilot(M)
                return self._tell()
            except RankError as error:
                if given == M or "max_rank" in str(error) or 3 * self.workshop.spent > self.goal.max_seconds:
                    raise
                self.stages.clear()
                M = min(2 * M, given or 2 * M)

    def _pilot(self, M: int) -> None:
        held = self.goal.particles not in (None, M)
        R = PILOT_REPLICAS if held else self.goal.replicas or (REPLICAS if self.goal.particles else PILOT_REPLICAS)
        self._add(Size(M, 2))  # two replicas always run; from here on the budget is asked
        if R > 2 and self._affordable(Size(M, R)):
            self._add(Size(M, R))
        self._find_tolerance()
        if held:
            self._sharpen()

    def _find_tolerance(self) -> None:
        """Compare the tolerance with a coarser one, and lower it until the truncation is small."""
        size = self.stages[-1].size
        if self.tolerance is None:  # `iid`: 3 / sqrt(M), whose error is a part of b / M
            self.truncation = dict.fromkeys(self.stages[-1].samples, 0.0)
            return
        again = Size(size.particles, 2 * size.replicas)  # costs what as many replicas once more cost
        if self._affordable(again):
            ratio = min(COARSE, 0.99 / self.tolerance)
            self._compare(self.workshop.run(size, ratio * self.tolerance, self.stages[-1]), ratio)
        while self._truncated and self.goal.tolerance is None and self._affordable(again):
            coarse = self.stages.pop()
            self.tolerance /= GROWTH
            self._add(size)
            self._compare(coarse, GROWTH)

    def _sharpen(self) -> None:
        """Add replicas of the first M, until its noise hides no bias of half the target at an M that is given."""
        (M, R), law, given = self.stages[-1].size, self.worst(), self.goal.particles
        assert given is not None
        wanted = law.variance[-1] * (2 / (given / M - 1) / self.goal.target) ** 2
        laws, quarter = self.laws(), (self.goal.max_seconds - self.workshop.spent) / 4
        plans = [self.workshop.plan(Size(M, count), self.stages[-1], laws) for count in COUNTS if count > R]
        enough = next((k for k, plan in enumerate(plans) if plan.size.replicas >= wanted), len(plans))
        within = [plan.size for plan in plans[: enough + 1] if plan.affordable and plan.seconds <= quarter]
        if wanted > R and within:
            self._add(within[-1])

    def _compare(self, coarse: Stage, ratio: float) -> None:
        fine = self.stages[-1].samples
        self.truncation = {name: truncation_error(coarse.samples[name], x, ratio) for name, x in fine.items()}

    @property
    def _truncated(self) -> bool:
        return max(self.truncation.values(), default=0.0) > TRUNCATION * self.goal.target

    def run(self, size: Size) -> None:
        """Run a stage, and say what it has brought."""
        self._add(size)
        self._tell()

    def _add(self, size: Size) -> None:
        """Replicas that the last stage has already are kept where M is the same."""
        last = self.stages[-1] if self.stages else None
        earlier = self.stages.pop() if last and last.size.particles == size.particles else None
        stage = self.workshop.run(size, self.tolerance, last, earlier)
        for before in self.stages:
            before.results = []
        self.stages.append(stage)

    # The error --------------------------------------------------------------------------------------------------------

    def laws(self) -> dict[str, Law]:
        """The law of every output."""

        def law(name: str) -> Law:
            samples = {stage.size.particles: stage.samples[name] for stage in self.stages}
            return Law(samples, self.task.settings.sobol, self.truncation.get(name, math.inf))

        return {name: law(name) for name in self.stages[-1].samples}

    def worst(self) -> Law:
        """The law of the output whose error is the larger one."""
        return max(self.laws().values(), key=lambda law: (law.errors().total, law.errors().standard_error))

    def _tell(self) -> None:
        errors, (M, R) = self.worst().errors(), self.stages[-1].size
        self.stages[-1].facts |= {name: _number(value) for name, value in asdict(errors).items()}
        self.report(f"{R} replicas of {M} particles: {errors}; {self.workshop.spent:.1f} s so far")

    # What to run next -------------------------------------------------------------------------------------------------

    def next_size(self) -> Size | None:
        """The stage to run, or None, with the reason in `why`."""
        goal, worst = self.goal, self.worst()
        if (now := worst.errors().total) <= goal.target:
            self.why = f"the spread falls like M^-{worst.exponent:.2f}, and no cheaper run was predicted to do"
            return None
        if goal.particles is None and not worst.falls:
            M = [size.particles for size in worst.sizes]
            self.why = (
                f"the spread of f does not fall from {M[0]} to {M[-1]} particles, as where training amplifies every "
                "difference: more of them would not help, a smaller learning rate may"
            )
            return None
        laws = self.laws()
        plans = [self.workshop.plan(size, self.stages[-1], laws) for size in self._sizes()]
        enough = [plan for plan in plans if plan.error <= MARGIN * goal.target]
        self.needed = min(enough, key=lambda plan: plan.work, default=None)
        if within := [plan for plan in enough if plan.affordable]:
            return self._step(min(within, key=lambda plan: plan.work).size)
        effort = min((plan for plan in plans if plan.affordable), key=lambda plan: plan.error, default=None)
        if effort is not None and effort.error < USEFUL * now:
            step = self._step(effort.size, sure=worst.sure)
            return step if self._affordable(step) else effort.size
        self.why = self._out_of_reach()
        return None

    def _sizes(self) -> list[Size]:
        """All plans: more replicas of the last M, or more particles."""
        last, goal = self.stages[-1].size, self.goal
        sizes = [goal.particles] if goal.particles else [last.particles << k for k in range(DOUBLINGS)]
        counts = [goal.replicas] if goal.replicas else [R for R in COUNTS if R >= REPLICAS]
        both = (Size(M, R) for M in sizes for R in counts)
        return [size for size in both if size.particles > last.particles or size.replicas > last.replicas]

    def _step(self, size: Size, sure: bool = True) -> Size:
        """The plan itself, or a step towards one that is far, or a guess as long as the spread is not seen to fall."""
        last = self.stages[-1].size.particles
        if self.goal.particles or (sure and size.particles <= GROWTH * last):
            return size
        return Size(min(max(size.particles, 2 * last), GROWTH * last), self.goal.replicas or REPLICAS)

    def _affordable(self, size: Size) -> bool:
        return self.workshop.plan(size, self.stages[-1], self.laws()).affordable

    def _out_of_reach(self) -> str:
        goal = self.goal
        held = [name for name in HELD if getattr(goal, name) is not None]
        given = f" with the given {' and '.join(held)}" if held else ""
        budget = f"max_seconds={goal.max_seconds:g}, max_bytes={goal.max_bytes}"
        if not math.isfinite(self.worst().errors().total):
            return f"the runs that would show the error are more than allowed: {budget}"
        if self.needed is None:
            return f"no run{given} is predicted to reach it"
        (M, R), time_, room = self.needed.size, self.needed.seconds, self.needed.bytes / 2**30
        return (
            f"predicted to be needed{given}: {R} replicas of {M} particles, {time_:.3g} s more and {room:.3g} GiB; "
            f"allowed: {budget}"
        )

    # The result -------------------------------------------------------------------------------------------------------

    def finish(self) -> xr.Dataset:
        """The last stage as a dataset that says what was asked, reached, run and why."""
        last, law, target = self.stages[-1], self.worst(), self.goal.target
        errors, (M, R) = law.errors(), last.size
        reached = errors.total <= target
        sentence = (
            f"target_error={target:g} was {'reached' if reached else 'not reached'} by {R} replicas of {M} particles, "
            f"tolerance {last.task.settings.tolerance:.2g}: {errors}; {self.why}"
        )
        task = last.task if reached else replace(last.task, notices=[*last.task.notices, sentence])
        run = finish(task, last.results)
        largest = max(float(x.std(axis=0, ddof=1).max()) for x in last.samples.values()) / math.sqrt(R)
        details = {name: _number(value) for name, value in asdict(errors).items()} | {
            "reached": reached, "bias_resolved": law.bias_resolved, "largest_standard_error": largest,
            "exponent": round(law.exponent, 3), "stages": self.workshop.history,
        }  # fmt: skip
        more = {"target_error": target, "error": errors.total, "accuracy": json.dumps(details), "why": sentence}
        return run.assign_attrs(more)


def _number(value: float) -> float | None:
    """For JSON, which has no infinity: None is what was not measured."""
    return value if math.isfinite(value) else None
