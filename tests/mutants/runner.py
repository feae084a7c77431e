"""Plant a bug in a copy of the repository and run its tests there, in a process of its own."""

from __future__ import annotations

import ast
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

from .mutant import ROOT, Mutant

COPIED = ("tpsim", "finite", "validation", "tests", "pyproject.toml")
LIMIT = 900  # processor seconds of one run of pytest: an endless loop is no kill, and other work costs no time here
# An exception that says of the bug only that it is no working program.
UNFIT = {
    "AttributeError", "ImportError", "IndentationError", "LoweringError", "ModuleNotFoundError", "NameError",
    "SyntaxError", "TypeError", "TypingError", "UnboundLocalError",
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What the tests said of one mutant.

    Attributes
    ----------
    verdict : "killed", "survived", or "unfit": no test failed as a test, but a run, an import or the program did.
    killer : the test that failed, or "".
    said : the first line of its failure, or why the verdict is "unfit".
    passed : how many tests passed.
    seconds, cpu : of the process, wall clock and processor.
    """

    verdict: str
    killer: str
    said: str
    passed: int
    seconds: float
    cpu: float


class Copy:
    """A copy of the package and its tests, with a numba cache of its own.

    Parameters
    ----------
    folder : Path, empty.
    source : Path of the repository.
    """

    def __init__(self, folder: Path, source: Path = ROOT) -> None:
        self.root, self.cache, self._report = folder / "repository", folder / "cache", folder / "report.xml"
        self.root.mkdir()
        for name in COPIED:
            if (source / name).is_dir():
                shutil.copytree(source / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source / name, self.root / name)
        self.cache.mkdir()

    def check_import(self) -> None:
        """Raise RuntimeError unless tests here import the copy, whatever is installed."""
        command = [sys.executable, "-c", "import tpsim; print(tpsim.__file__)"]
        environment = self._environment(self.cache)
        found = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=True)
        if not Path(found.stdout.strip()).is_relative_to(self.root):
            raise RuntimeError(f"tests would import {found.stdout.strip()}, which is not the copy in {self.root}")

    def control(self, mutants: Sequence[Mutant]) -> Outcome:
        """All their tests, without a bug: the verdict has to be "survived"."""
        return self._pytest(list(dict.fromkeys(test for mutant in mutants for test in mutant.tests)), self.cache)

    def run(self, mutant: Mutant) -> Outcome:
        """Plant one bug, run its tests up to the first failure, and take it out again."""
        with self._planted(mutant), self._cache_without(mutant.file) as cache:
            return self._pytest(["-x", *mutant.tests], cache)

    @contextmanager
    def _planted(self, mutant: Mutant) -> Iterator[None]:
        path = self.root / mutant.file
        before, times = path.read_bytes(), path.stat()
        try:
            path.write_text(mutant.applied(before.decode()), encoding="utf-8")
            yield
        finally:
            path.write_bytes(before)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # by which older versions of numba know it

    @contextmanager
    def _cache_without(self, file: str) -> Iterator[Path]:
        """The numba cache; a copy of it without what was compiled from `file` or with it, if anything was.

        numba looks at the file of a function only, not at the files of what that function calls.
        """
        names = {module.stem for module in self._with(file)}
        if not any(_module(path) in names for path in self.cache.rglob("*.nb?")):
            yield self.cache
            return
        other = self.cache.with_name("cache-mutant")
        try:
            shutil.copytree(self.cache, other)
            for path in list(other.rglob("*.nb?")):
                if _module(path) in names:
                    path.unlink()
            yield other
        finally:
            shutil.rmtree(other, ignore_errors=True)

    def _with(self, file: str) -> set[Path]:
        """The file and every module that imports it, however indirectly."""
        found, new = {self.root / file}, {self.root / file}
        while new:
            new = {path for path, used in self._imports.items() if used & new} - found
            found |= new
        return found

    @cached_property
    def _imports(self) -> dict[Path, set[Path]]:
        """The modules of `tpsim` that each of them imports itself."""
        return {path: set(_imported(path)) for path in (self.root / "tpsim").rglob("*.py")}

    def _environment(self, cache: Path) -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",  # byte code knows sources to the second
            "NUMBA_CACHE_DIR": str(cache),
        }

    def _pytest(self, arguments: list[str], cache: Path) -> Outcome:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={self._report}"]
        self._report.unlink(missing_ok=True)
        start, before = time.perf_counter(), _children_cpu()
        done = subprocess.run(
            command + arguments, cwd=self.root, env=self._environment(cache), capture_output=True, text=True,
            preexec_fn=_limit_cpu,
        )  # fmt: skip
        seconds, cpu = time.perf_counter() - start, _children_cpu() - before
        return judge(done.returncode, self._report, done.stdout + done.stderr, seconds, cpu)


def judge(code: int, report: Path, output: str, seconds: float, cpu: float) -> Outcome:
    """Return the verdict on a run of pytest from its exit code and its report: only a test that failed kills."""
    if code not in (0, 1):
        return Outcome("unfit", "", f"pytest ended with code {code}: {_last_line(output)}", 0, seconds, cpu)
    cases = list(ElementTree.parse(report).iter("testcase"))
    passed = sum(len(case) == 0 or case.find("system-out") is not None and len(case) == 1 for case in cases)
    for case in cases:
        failure, error = case.find("failure"), case.find("error")
        if error is not None:  # of the import of a test's file, or of a fixture
            return Outcome("unfit", "", _first_line(error.get("message", "")), passed, seconds, cpu)
        if failure is not None:
            said, file = failure.get("message", ""), case.get("classname", "").replace(".", "/")
            verdict = "unfit" if _exception(said) in UNFIT else "killed"
            return Outcome(verdict, f"{file}.py::{case.get('name')}", _first_line(said), passed, seconds, cpu)
    return Outcome("survived" if code == 0 else "unfit", "", _last_line(output), passed, seconds, cpu)


def _imported(path: Path) -> Iterator[Path]:
    """The files of this package that the relative imports of a module name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            modules = [folder / alias.name for alias in node.names]
            if not all(module.with_suffix(".py").exists() for module in modules):  # names out of a module
                modules.append(folder if folder.with_suffix(".py").exists() else folder / "__init__")
            yield from (module.with_suffix(".py") for module in modules)


def _module(path: Path) -> str:
    """The module that a file of the numba cache belongs to."""
    return path.name.split(".")[0]


def _exception(message: str) -> str:
    """The class of an exception as pytest reports it, without its module; of a bare assertion, what it says."""
    return message.split(":")[0].split("\n")[0].rsplit(".", 1)[-1].strip()


def _first_line(message: str) -> str:
    """The first two lines that say something, as one."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines[:2])[:160]


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1][:160] if lines else ""


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _limit_cpu() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
