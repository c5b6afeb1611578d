"""Gathers what the stages of run.sh wrote into one result file.

    python bench/gpu/collect.py STAGES RESULTS BINARIES SOURCES

Nothing is calculated here: measured values of the benchmarks' JSON files, and the lines of parity's logs. BINARIES and SOURCES are
hashes; what other binaries or another device than STAGES/device gave is left out.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
from pathlib import Path

CASE = re.compile(r"^(\S+)\s+(\d\.\d+e[+-]\d+|inf|nan)\s+(PASS|FAIL)\s+(\d+) tensors, worst ?(.*)$")


class Stages:
    """The files of the steps that these binaries ran on this device."""

    def __init__(self, folder: Path, binaries: str):
        self.folder, self.binaries = folder, binaries
        device = folder / "device"
        self.device, _, self.driver = device.read_text().strip().partition(", ") if device.exists() else ("", "", "")

    def files(self, steps: str, suffix: str) -> list[Path]:
        """What the steps whose names match have left, NAME.of being what each was a step of."""
        found = [of.with_suffix(suffix) for of in sorted(self.folder.glob(f"{steps}.of"))]
        return [file for file in found if file.exists() and self.current(file)]

    def current(self, file: Path) -> bool:
        if file.with_suffix(".of").read_text().strip() == self.binaries:
            return True
        print(f"left out: {file.name}: of other binaries", file=sys.stderr)
        return False

    def parity(self) -> list[dict]:
        """One entry per golden case and configuration."""
        cases = []
        for log in self.files("parity-*", ".log"):
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

    def sanitizer(self) -> list[dict]:
        logs = self.files("sanitize-*", ".log")
        return [{"run": log.stem.removeprefix("sanitize-"), "passed": log.with_suffix(".ok").exists()} for log in logs]

    def parts(self) -> dict[str, dict]:
        return {file.stem: part for file in self.files("*", ".json") if (part := self.read(file))}

    def read(self, file: Path) -> dict | None:
        """A part, unless what wrote it was cut off or another device ran it."""
        try:
            part = json.loads(file.read_text())
        except ValueError as error:
            print(f"left out: {file.name}: {error}", file=sys.stderr)
            return None
        if part["device"].startswith(self.device):
            return part
        print(f"left out: {file.name}: of {part['device']}, not of {self.device}", file=sys.stderr)
        return None


def main(folder: Path, results: Path, binaries: str, sources: str) -> None:
    stages = Stages(folder, binaries)
    document = {
        "device": stages.device or "unknown",
        "driver": stages.driver,
        "date": datetime.date.today().isoformat(),
        "sources": sources,
        "binaries": binaries,
        "parity": stages.parity(),
        "sanitizer": stages.sanitizer(),
        "parts": stages.parts(),
    }
    file = f"gpu-{re.sub(r'[^a-z0-9]+', '-', document['device'].lower()).strip('-')}-{document['date']}.json"
    results.mkdir(parents=True, exist_ok=True)
    for place in (folder, results):
        (place / file).write_text(json.dumps(document, indent=1) + "\n")
    print("wrote", file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:5])
