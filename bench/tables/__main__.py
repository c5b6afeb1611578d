"""The tables of docs/results, each from one command: its numbers, a plot and a strip of frames.

    npm run tables -- recache | window | precision | steps | all [--package models/pocket] [--films N]
    npm run tables -- long | all --tuned PACKAGE [--base models/pocket] [--films N]

Needs training/requirements.txt (LONGLIVE_PYTHON names the interpreter). What has been measured is kept in --work, so that a
run that was cut short goes on; speeds want a quiet machine: `--no-speed` leaves them out, `--speed` measures them anew.
--films is for each row; without it `all` takes some minutes on two cores, most of them for the table that compares within 2 points.
Writes docs/results/NAME.md, .json, .png and -strip.jpg.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from draw import save_strip  # noqa: E402
from film import ROOT, Setup, machine  # noqa: E402
from measure import WORK, Bench  # noqa: E402

from longlive_training.evaluate import blocks_in, make_case, make_cases  # noqa: E402

from .report import markdown, plot  # noqa: E402
from .tables import TABLES, Row, Table, long_table  # noqa: E402

OUT = ROOT / "docs/results"
COMPARED, COMPARED_SECONDS = 3, 5  # films that are held against those of another setup


def manifest_of(package: Path) -> dict:
    return json.loads((package / "manifest.json").read_text())


def cases_of(table: Table, count: int) -> list[dict]:
    cases = make_cases(table.suite, count)
    if table.seconds is None:
        return cases
    blocks = blocks_in(table.seconds)
    return [make_case(c["name"], c["seed"], [{**c["timeline"][0], "blocks": blocks}]) for c in cases]


def measure(bench: Bench, table: Table, package: Path, cases: list[dict], speeds: str) -> list[Row]:
    setups = {label: Setup(**({"package": package} | fields)) for label, fields in table.rows.items()}
    rows: list[Row] = []
    for label, setup in setups.items():
        row: Row = {"label": label, "quality": bench.quality(setup, cases, label)}
        if table.like and label != table.like:
            row["psnr"] = bench.likeness(setup, setups[table.like], cases[:COMPARED], COMPARED_SECONDS)
        rows.append(row)
    if speeds != "none":
        for row, report in zip(rows, bench.speeds([*setups.values()], cases[0], speeds == "anew")):
            row["speed"] = report
    strips = [(label, bench.stills(setup, cases, table.strip, 2)[-1][1]) for label, setup in setups.items()]
    save_strip(strips, OUT / f"{table.name}-strip.jpg")
    return rows


def write(table: Table, rows: list[Row], package: Path, count: int) -> None:
    here, date = machine(), datetime.date.today().isoformat()
    packages = {label: manifest_of(fields.get("package", package)) for label, fields in table.rows.items()}
    names = dict.fromkeys(f"{m['title']} {m['version']} ({m['name']})" for m in packages.values())
    width, height = Setup(package).size()
    conditions = (f"{', '.join(names)}, {width}x{height}, native core, {here['cpu']}, {here['cores']} cores, {date}; {count} film{'s' if count > 1 else ''} a row, "
                  "scenes and sentences held out of training.")  # fmt: skip
    for row in rows:
        row |= {"model": packages[row["label"]]["name"], "version": packages[row["label"]]["version"]}
    plot(table, rows, OUT / f"{table.name}.png")
    (OUT / f"{table.name}.md").write_text(markdown(table, rows, conditions, count))
    report = {"table": table.name, "size": f"{width}x{height}", "date": date, **here, "films": count, "rows": rows}
    (OUT / f"{table.name}.json").write_text(json.dumps(report, indent=1) + "\n")
    print(OUT / f"{table.name}.md")


def main() -> None:
    parser = argparse.ArgumentParser(prog="npm run tables --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=[*(t.name for t in TABLES), "long", "all"])
    parser.add_argument("--package", type=Path, default=ROOT / "models/pocket")
    parser.add_argument("--tuned", type=Path, help="for `long`: the package after streaming long tuning")
    parser.add_argument("--base", type=Path, help="for `long`: the one that the tuning began from (default: --package)")
    parser.add_argument("--films", type=int, help="films a row")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--keep", type=Path, help="keep the films in this folder, and use those that are there")
    speeds = parser.add_mutually_exclusive_group()
    speeds.add_argument("--speed", dest="speeds", action="store_const", const="anew", default="kept")
    speeds.add_argument("--no-speed", dest="speeds", action="store_const", const="none")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.table == "long" and not args.tuned:
        parser.error("`long` compares two packages: name the one after streaming long tuning with --tuned")
    every = [*TABLES, *([long_table(args.tuned, args.base or args.package)] if args.tuned else [])]
    tables = [t for t in every if args.table in (t.name, "all")]
    OUT.mkdir(parents=True, exist_ok=True)
    with Bench(args.work, args.workers, args.keep) as bench:
        for table in tables:
            cases = cases_of(table, args.films or table.count)
            frames = len(table.rows) * sum(12 * c["blocks"] - 3 for c in cases)
            print(f"{table.title}: {len(table.rows)} rows of {len(cases)} films, {frames} frames", file=sys.stderr)
            package = args.tuned if table.name == "long" else args.package
            write(table, measure(bench, table, package, cases, args.speeds), package, len(cases))


if __name__ == "__main__":
    main()
