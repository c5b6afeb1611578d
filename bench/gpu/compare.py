"""Runs two builds of bench_gpu in turns on one device and prints every figure of both.

    python bench/gpu/compare.py BEFORE AFTER [--rounds 2] -- --only kernels --precision int8

A device's clock wanders by more than most changes bring, so a round is BEFORE, AFTER, AFTER, BEFORE: what wanders evenly falls on
both alike. Printed: the median of a figure's values, how far they lie apart, and AFTER over BEFORE.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

Figures = dict[str, list[float]]


def figures(result: dict) -> dict[str, float]:
    """Kernels' times and measured values of one run, by name and unit."""
    kernels = {f"{k['name']}, ms": k["ms"] for k in result["kernels"]}
    return kernels | {", ".join(filter(None, (v["name"], v["unit"]))): v["value"] for v in result["values"]}


def measure(binary: str, options: list[str], into: Figures) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        subprocess.run([binary, *options, "--json", str(file)], check=True, stdout=subprocess.DEVNULL)
        for name, value in figures(json.loads(file.read_text())).items():
            into[name].append(value)


def spread(values: list[float]) -> str:
    """The median and half the distance of the extremes, in percent of it."""
    middle = median(values)
    return f"{middle:.4g} +-{50 * (max(values) - min(values)) / abs(middle):.1f} %" if middle else "0"


def table(before: Figures, after: Figures) -> list[str]:
    rows = [("", "before", "after", "after / before")]
    for name in [name for name in before if name in after]:
        old, new = median(before[name]), median(after[name])
        rows.append((name, spread(before[name]), spread(after[name]), f"{new / old:.3f}" if old else ""))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before --, for this program, and what behind it, for bench_gpu."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--rounds", type=int, default=2)
    mine, options = split(sys.argv[1:])
    args = parser.parse_args(mine)
    before, after = defaultdict(list), defaultdict(list)
    for done in range(args.rounds):
        for binary, into in ((args.before, before), (args.after, after), (args.after, after), (args.before, before)):
            measure(binary, options, into)
        print(f"round {done + 1} of {args.rounds}", file=sys.stderr)
    print("\n".join(table(before, after)))


if __name__ == "__main__":
    main()
