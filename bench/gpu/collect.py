"""Gathers what the stages of run.sh wrote into one result file.

    python bench/gpu/collect.py STAGES RESULTS "DEVICE, DRIVER"

Nothing is calculated here: measured values of the benchmarks' JSON files, and the lines of parity's logs.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
from pathlib import Path

CASE = re.compile(r"^(\S+)\s+(\d\.\d+e[+-]\d+|inf|nan)\s+(PASS|FAIL)\s+(\d+) tensors, worst ?(.*)$")


def parity(stages: Path) -> list[dict]:
    """One entry per golden case and configuration."""
    cases = []
    for log in sorted(stages.glob("parity-*.log")):
        for line in log.read_text().splitlines():
            if match := CASE.match(line):
                name, error, verdict, tensors, worst = match.groups()
                cases.append(
                    {
                        "configuration": log.stem.removeprefix("parity-"),
                        "case": name,
                        "error": float(error) if error not in ("inf", "nan") else None,
                        "passed": verdict == "PASS",
                        "tensors": int(tensors),
                        "worst": worst,
                    }
                )
    return cases


def sanitizer(stages: Path) -> list[dict]:
    return [
        {"run": log.stem.removeprefix("sanitize-"), "passed": (stages / f"{log.stem}.ok").exists()}
        for log in sorted(stages.glob("sanitize-*.log"))
    ]


def read(file: Path) -> tuple[str, dict] | None:
    """A part, unless what wrote it was cut off."""
    try:
        return file.stem, json.loads(file.read_text())
    except ValueError as error:
        print(f"left out: {file.name}: {error}", file=sys.stderr)
        return None


def main(stages: Path, results: Path, gpu: str) -> None:
    name, _, driver = gpu.partition(", ")
    parts = dict(part for p in sorted(stages.glob("*.json")) if not p.stem.startswith("gpu-") if (part := read(p)))
    document = {
        "device": name or "unknown",
        "driver": driver,
        "date": datetime.date.today().isoformat(),
        "parity": parity(stages),
        "sanitizer": sanitizer(stages),
        "parts": parts,
    }
    file = f"gpu-{re.sub(r'[^a-z0-9]+', '-', document['device'].lower()).strip('-')}-{document['date']}.json"
    results.mkdir(parents=True, exist_ok=True)
    for folder in (stages, results):
        (folder / file).write_text(json.dumps(document, indent=1) + "\n")
    print("wrote", file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
