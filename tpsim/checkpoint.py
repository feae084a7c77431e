"""Checkpoints: what a replica has at the beginning of a step, in a file, so that a run that was ended can go on.

    replica-0003-step-000000417.ckpt    everything that replica 3 has before the forward pass of step 417

Each replica keeps the newest two. A resumed run does the same arithmetic on the same bits as one that nobody disturbed.
The file's format is that of `tpsim.container`.
"""

from __future__ import annotations

import math
import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from joblib.externals.loky.process_executor import BrokenProcessPool

from .container import clean, read, write
from .core import GUARDS, counted, restore
from .core.saved import Saved, nested
from .errors import CheckpointError, InputError, Interrupted, Notice, ResourceError
from .files import file_path
from .identity import here, identity, other_past, past
from .mlp import State
from .record import Recorder
from .signals import requested, stop_on_signals
from .storage import check_writable, first_difference, held
from .task import Task

Array = np.ndarray

SECONDS = 300.0
GENERATIONS = 2
NAME = re.compile(r"replica-([0-9]{4,})-step-([0-9]{9,})\.ckpt")
POLL = 0.05  # seconds between two looks at whether to stop
ABOUT = {"replica": int, "step": int, "identity": dict, "versions": dict, "notices": list, "undefined": list}


@dataclass(frozen=True)
class Checkpoints:
    """Where a run keeps its checkpoints.

    Attributes
    ----------
    folder : Path
    seconds : between two of them.
    resume : whether to go on from those that are there.
    owner : the process that started the run; its workers end with it.
    stop : the file of its `StopRequest`.
    """

    folder: Path
    seconds: float = SECONDS
    resume: bool = False
    owner: int = 0
    stop: Path = Path()

    def within(self, part: str) -> Checkpoints:
        """Those of a part of the run, which are its own whether or not there are some already."""
        return replace(self, folder=self.folder / part, resume=True)

    def make(self) -> None:
        """Make the folder of a part."""
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise CheckpointError(self.folder, f"cannot be made: {error.strerror}") from error

    def path(self, replica: int, step: int) -> Path:
        """The file of a replica and a step."""
        return self.folder / name_of(replica, step)

    def steps(self, replica: int) -> list[int]:
        """Steps of which the replica has a file, the newest first."""
        return sorted((step for one, step in found(self.folder) if one == replica), reverse=True)


def name_of(replica: int, step: int) -> str:
    """What the file of a replica and a step is called."""
    return f"replica-{replica:04d}-step-{step:09d}.ckpt"


def found(folder: Path) -> list[tuple[int, int]]:
    """Replica and step of every checkpoint in a folder, by their names."""
    try:
        matches = [match for path in folder.iterdir() if (match := NAME.fullmatch(path.name))]
    except OSError:
        return []
    pairs = [(int(match[1]), int(match[2]), match[0]) for match in matches]
    return sorted((replica, step) for replica, step, name in pairs if name == name_of(replica, step))


def with_checkpoints(task: Task, folder: str | os.PathLike[str] | None, seconds: float, resume: bool) -> Task:
    """Return the task with checkpoints in `folder`, every argument checked.

    Raises
    ------
    InputError
        As `simulate`.
    """
    number = isinstance(seconds, int | float | np.number) and not isinstance(seconds, bool)
    if not number or not 0 <= seconds < math.inf:
        raise InputError("checkpoint_seconds", seconds, "a number >= 0")
    if not isinstance(resume, bool | np.bool_):
        raise InputError("resume", resume, "True or False")
    if folder is None:
        if resume:
            raise InputError("resume", resume, "False without checkpoint, the folder to resume from")
        return task
    place = file_path("checkpoint", folder).absolute()
    if task.lazy:
        allowed = f"None with limit={task.limit!r}: its features do not move, and there is nothing to resume"
        raise InputError("checkpoint", str(folder), allowed)
    if os.path.lexists(place) and not place.is_dir():
        raise InputError("checkpoint", str(folder), "a folder")
    return replace(task, checkpoint=Checkpoints(place, float(seconds), bool(resume)))


KILLED = "a worker process was killed, by the system perhaps, for want of memory"


@contextmanager
def kept(task: Task) -> Iterator[Task]:
    """Hold the folder of the task's checkpoints, and stop with `Interrupted` when a signal asks for it.

    Raises
    ------
    InputError
        The folder holds checkpoints, and the task does not resume.
    FileError
        It cannot be made or opened, or another run is at work in it.
    ResourceError
        A worker process was killed.
    Interrupted
        SIGINT or SIGTERM came; everything that was finished is in the checkpoints.
    """
    if (checkpoint := task.checkpoint) is None:
        try:
            yield task
        except BrokenProcessPool:
            raise ResourceError(f"{KILLED}; fewer workers need less; with `checkpoint` a run can go on") from None
        return
    folder = checkpoint.folder
    with held(folder, "run", clean), stop_on_signals() as request:
        there = [path for place in ("*.ckpt", "*/*.ckpt") for path in folder.glob(place) if NAME.fullmatch(path.name)]
        if there and not checkpoint.resume:
            allowed = "a folder without checkpoints, or `resume` to go on from them"
            raise InputError("checkpoint", str(folder), allowed)
        if checkpoint.resume and not there:
            _say(f"{folder} holds no checkpoint: the run starts at its beginning")
        check_writable(folder)
        try:
            yield replace(task, checkpoint=replace(checkpoint, owner=os.getpid(), stop=request.path))
        except Pause as pause:
            raise pause.error or interruption(folder, request.signum) from None
        except BrokenProcessPool:  # whoever sent the signal may have sent it to a worker that was being started
            if not request.signum:
                again = f"the checkpoints are in {folder}: the same run with `resume` goes on"
                raise ResourceError(f"{KILLED}; fewer workers need less; {again}") from None
        if request.signum:
            raise interruption(folder, request.signum)


def interruption(folder: Path, signum: int) -> Interrupted:
    """What to raise when a signal has ended a run."""
    name = {2: "SIGINT", 15: "SIGTERM"}.get(signum, f"signal {signum}")
    steps: dict[int, int] = {}
    for replica, step in found(folder):
        steps[replica] = step
    reached = ", ".join(["stopped", *(f"replica {replica} at step {step}" for replica, step in steps.items())])
    text = f"{name}: {reached}; the checkpoints are in {folder}: the same run with `resume` goes on"
    return Interrupted(text, signum)


class Pause(Exception):
    """A run was asked to stop, and has: `error` says why its checkpoint could not be written, if so."""

    def __init__(self, error: CheckpointError | None = None) -> None:
        super().__init__(error)
        self.error = error


class Keeper:
    """Keeps the checkpoints of one replica; of a task without checkpoints it does nothing.

    Attributes
    ----------
    remarks : what the user should know and the process of the run could not be told at once.
    """

    def __init__(self, task: Task, replica: int, notices: list[str] | None = None) -> None:
        self.task, self.replica, self.checkpoint = task, replica, task.checkpoint
        self.notices = [] if notices is None else notices  # of the run so far, which the caller fills
        self.remarks: list[str] = []
        self._first = 0
        self._good: list[int] = []  # steps of files that are known to be whole
        self._saved, self._looked = time.monotonic(), -math.inf

    def begin(self) -> tuple[int, State, Recorder]:
        """Return the first step to do, and what there is before it: step 0, or the newest checkpoint that is whole.

        Raises
        ------
        CheckpointError
            There are checkpoints and none can be used, or they are those of another run.
        InputError
            They are of a later step than the last one.
        """
        if self.checkpoint is None or not self.checkpoint.resume:
            return self._start()
        steps, reasons = self.checkpoint.steps(self.replica), list[str]()
        for newer, step in enumerate(steps):
            try:
                begun = self._load(step)
            except _OtherRun:
                raise
            except CheckpointError as error:
                reasons.append(str(error))
                continue
            for reason in reasons:
                self._tell(f"{reason}; going on from step {step}, the checkpoint before it")
            self._prune(steps[: newer + GENERATIONS])  # of a run that was killed before it could
            return begun
        if reasons:
            raise CheckpointError(self.checkpoint.folder, f"no checkpoint of replica {self.replica} can be used: "
                                  + "; ".join(reasons))  # fmt: skip
        return self._start()

    def _start(self) -> tuple[int, State, Recorder]:
        task, settings = self.task, self.task.settings
        network, _ = task.engine
        recorder = Recorder(task.schedule, network.depth, task.problem.samples, settings.particles)
        return 0, State(network, task.problem.inputs, settings, self.replica), recorder

    def turn(self, step: int, state: State, recorder: Recorder) -> None:
        """Before the forward pass of a step: write a checkpoint if it is time, and stop if that was asked for.

        Raises
        ------
        Pause
        """
        if self.checkpoint is None:
            return
        now, new = time.monotonic(), step > self._first
        due = new and (step == self.task.training.steps or now - self._saved >= self.checkpoint.seconds)
        stop = self._stop_requested(now)
        if due or (stop and new):
            self._save(step, state, recorder, stop)
        if stop:
            raise Pause

    def look(self) -> None:
        """Stop if that was asked for, where there is nothing new to write."""
        if self.checkpoint is not None and self._stop_requested(time.monotonic()):
            raise Pause

    def _stop_requested(self, now: float) -> bool:
        assert self.checkpoint is not None
        if now - self._looked < POLL:
            return False
        self._looked, owner = now, self.checkpoint.owner
        if owner not in (0, os.getpid(), os.getppid()):
            os._exit(1)  # the run was killed, and its folder may be another's by now
        return requested(self.checkpoint.stop)

    # Writing ----------------------------------------------------------------------------------------------------------

    def _save(self, step: int, state: State, recorder: Recorder, stop: bool) -> None:
        """Write a checkpoint; a run is not ended by one that cannot be written, unless it is the last chance."""
        assert self.checkpoint is not None
        about = {
            "replica": self.replica, "step": step, "identity": identity(self.task, step), "versions": here(),
            "notices": list(self.notices), "undefined": sorted(recorder.undefined),
        }  # fmt: skip
        counts = counted()  # of nothing where nobody counts
        guards = {"counts": np.array([counts.get(name, 0) for name in GUARDS], dtype=np.int64)}
        parts = {"past": past(self.task, step), "state": state.state(), "recorder": recorder.state(), "guards": guards}
        try:
            write(self.checkpoint.path(self.replica, step), about, nested(parts))
        except CheckpointError as error:
            if stop:
                raise Pause(error) from error
            before = f"the one of step {self._good[-1]} is whole" if self._good else "there is none yet"
            self._tell(f"{error}; the run goes on without this checkpoint ({before})")
        else:
            self._good = [*self._good, step][-GENERATIONS:]
            self._prune(self._good)
        self._saved = time.monotonic()

    def _prune(self, kept: list[int]) -> None:
        """Remove the files of the replica but those of the steps `kept`."""
        assert self.checkpoint is not None
        for step in self.checkpoint.steps(self.replica):
            if step not in kept:
                try:
                    self.checkpoint.path(self.replica, step).unlink(missing_ok=True)
                except OSError as error:
                    self._tell(f"{self.checkpoint.path(self.replica, step)}: cannot be removed: {error.strerror}")

    # Reading ----------------------------------------------------------------------------------------------------------

    def _load(self, step: int) -> tuple[int, State, Recorder]:
        """Return what a file holds; CheckpointError, or `_OtherRun` for a whole file of another run."""
        assert self.checkpoint is not None
        path = self.checkpoint.path(self.replica, step)
        about, arrays = read(path, lambda about: self._judge(path, step, about))
        _, state, recorder = self._start()
        saved = Saved(arrays)
        try:
            if difference := other_past(saved.within("past"), past(self.task, step)):
                raise _OtherRun.by(path, difference)
            state.restore(saved.within("state"))
            recorder.restore(saved.within("recorder"), step, state)
            self._check_ranks(path, state)
            counts = saved.take("guards/counts", (len(GUARDS),), np.int64)
            saved.check_all_taken()
            if (counts < 0).any():
                raise ValueError("a guard acted less than 0 times")
        except ValueError as error:
            raise CheckpointError(path, f"its arrays are not those of the run: {error}") from None
        restore(dict(zip(GUARDS, counts.tolist(), strict=True)))
        recorder.undefined = set(about["undefined"])
        self.notices[:] = about["notices"]
        if difference := first_difference(about["versions"], here()):
            self._tell(f"{path}: {difference}: results may differ in their last digits from an undisturbed run's")
        self._first, self._good = step, [step]
        return step, state, recorder

    def _check_ranks(self, path: Path, state: State) -> None:
        """Refuse a state that a run with this `max_rank` would never have come to."""
        largest = max((rank for matrix in state.hidden.values() for rank in matrix.ranks), default=0)
        if (most := self.task.settings.max_rank) is not None and largest > most:
            raise _OtherRun.by(path, f"simulation.max_rank is {most} here, and a rank of {largest} is reached there")

    def _judge(self, path: Path, step: int, about: dict[str, Any]) -> None:
        """Refuse a file that is not the replica's at this step, before its arrays are read."""
        right = set(about) == set(ABOUT) and all(type(about[key]) is kind for key, kind in ABOUT.items())
        texts = [*about["notices"], *about["undefined"]] if right else [None]
        if not right or not all(isinstance(text, str) for text in texts):
            raise CheckpointError(path, "it does not say what it is")
        if (about["replica"], about["step"]) != (self.replica, step):
            raise CheckpointError(path, f"it is step {about['step']} of replica {about['replica']} under another name")
        if difference := first_difference(about["identity"], identity(self.task, step)):
            raise _OtherRun.by(path, difference)
        if step > (last := self.task.training.steps):
            raise InputError("steps", last, f"at least {step}, the step of {path}")

    def _tell(self, text: str) -> None:
        """Give a notice that is not part of the result."""
        if self.checkpoint is not None and self.checkpoint.owner in (0, os.getpid()):
            _say(text)
        else:
            self.remarks.append(text)


class Remark(Notice):
    """Something about the checkpoints: said at once, and not part of the result."""


def _say(text: str) -> None:
    warnings.warn(text, Remark, stacklevel=2)


class _OtherRun(CheckpointError):
    """A checkpoint that is whole and belongs to another run, so that no older one is looked for."""

    @classmethod
    def by(cls, path: Path, difference: str) -> _OtherRun:
        return cls(path, f"belongs to another run, so that this one needs another folder: {difference}")
