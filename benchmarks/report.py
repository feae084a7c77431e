"""docs/performance.md and its picture from the files in benchmarks/results: every number on the page is in one of them.

    python -m benchmarks.report [--results FOLDER] [--docs FOLDER]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .common import RESULTS, Row

NAMES = (
    "rates", "roofline", "early", "flatness", "accuracy", "scaling", "elementwise", "startup", "memory", "checkpoints",
    "paper",
)  # fmt: skip
DOCS = Path(__file__).parent.parent / "docs"
PICTURE = "images/accuracy.png"
HEAD = """# Performance

Measured by `make bench`, which writes `benchmarks/results/` and this page, which `python -m benchmarks.report` makes of
those files alone. Each section names its command. A value with a range is the median and, in parentheses, the smallest
and the largest of repeats that took turns with what they are compared with; ratios are of such pairs. The rates of the
machine in the roofline are measured after its runs."""


def number(value: Any) -> str:
    """A cell: three digits of a number, a range, or the text itself."""
    if isinstance(value, list):
        middle, low, high = map(number, value)
        return middle if low == high else f"{middle} ({low} .. {high})"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or value == 0 or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.1e}" if abs(value) < 1e-3 else f"{value:.3g}"


def table(rows: list[Row]) -> str:
    """Rows as markdown; the columns are those of any row, in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(number(row.get(name, "")) for name in columns) + " |" for row in rows]
    return "\n".join(lines)


def machine_text(results: list[Row]) -> str:
    """The machines and the state that they were in, with the benchmarks that ran there."""
    found: dict[str, list[str]] = {}
    for result in results:
        about = result["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        environment = ", ".join(f"{name}={value}" for name, value in about["environment"].items()) or "nothing set"
        text = (
            f"{about['cpu']}, cores: {about['cores']}, caches: {about['caches']}, "
            f"{number(about['memory_gib'])} GiB; Python {about['python']}, {versions}; environment: {environment}"
        )
        found.setdefault(text, []).append(result["benchmark"])
    if len(found) == 1:
        return next(iter(found)) + "."
    return "\n".join(f"- {', '.join(names)}: {text}." for text, names in found.items())


def targets(results: list[Row]) -> list[Row]:
    """What was aimed at, and what was reached."""
    rows = []
    for result in results:
        for row in result["reached"]:
            rows.append({"what": row["what"], "target": row["target"], "reached": row["reached"],
                         "section": result["title"]})  # fmt: skip
    return rows


def section(result: Row) -> str:
    """One benchmark."""
    took = f"`{result['command']}` took {number(result['seconds'])} s{_others(result)}."
    parts = [f"## {result['title']}", result["what"], took]
    if result["benchmark"] == "accuracy":
        parts.append(f"![Error against processor seconds, one panel a problem]({PICTURE})")
    parts += result["notes"]
    for title, rows in result["tables"].items():
        if rows:
            parts += [f"**{title}**"] * bool(title) + [table(rows)]
    return "\n\n".join(parts)


def _others(result: Row) -> str:
    busy = result["busy"]
    return "" if busy is None else f"; share of the cores that other work took when it began: {number(busy)}"


def render(results: list[Row]) -> str:
    """The page."""
    parts = [HEAD, "## Machine", machine_text(results)]
    if any(result["reached"] for result in results):
        parts += ["## Targets", table(targets(results))]
    quick = [result["benchmark"] for result in results if "--quick" in result["command"]]
    if quick:
        parts.insert(1, f"**A fast pass with small sizes, of which no number should be quoted: {', '.join(quick)}.**")
    return "\n\n".join([*parts, *map(section, results)]) + "\n"


def picture(curves: dict[str, dict[str, list[list[float]]]]) -> Any:
    """Error against the processor seconds of the cheapest way to it, one panel a problem."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(4.2 * len(curves), 4.0), layout="constrained")
    for ax, (problem, lines) in zip(page.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for name, points in lines.items():
            seconds, errors = zip(*points, strict=True)
            ax.loglog(seconds, errors, label=name, lw=2.5 if name == "matched" else 1.2)
        ax.set(title=problem, xlabel="processor seconds", ylabel="rms error of f")
        ax.grid(alpha=0.3)
    page.axes[0].legend(fontsize="small")
    return page


def load(folder: Path) -> list[Row]:
    """The results that there are, in the order of the page."""
    paths = [folder / f"{name}.json" for name in NAMES]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def main() -> int:
    """Write the page and the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="Make docs/performance.md.")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of performance.md and images/")
    arguments = parser.parse_args()
    results = load(arguments.results)
    if not results:
        parser.error(f"no results in {arguments.results}")
    (arguments.docs / "images").mkdir(parents=True, exist_ok=True)
    for result in results:
        if result["benchmark"] == "accuracy":
            picture(result["data"]).savefig(arguments.docs / PICTURE, dpi=110)
    (arguments.docs / "performance.md").write_text(render(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
