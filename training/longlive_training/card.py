"""The part of a model card that says how good the model is, from the report of `npm run bench:adherence`.

    python -m longlive_training.card --package models/pocket --quality bench/results/quality-....json

Replaces the section "How good it is" of the package's README.md; the rest is export.py's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path

from .world import ATTRIBUTES

HEADING = "## How good it is"
ROOT = Path(__file__).resolve().parent.parent.parent


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _attributes(title: str, shares: dict[str, float], bar: str) -> str:
    return f"| {title} | {bar} | " + " | ".join(_percent(shares.get(name)) for name in (*ATTRIBUTES, "all")) + " |"


def quality_section(report: dict, pictures: str | None = None) -> list[str]:
    """Lines of Markdown. `pictures`: a picture of strips of frames, relative to the card."""
    judged = {name: min(report["judge"]["accuracy"][kind][name] for kind in report["judge"]["accuracy"]) for name in ATTRIBUTES}
    lines = [HEADING, ""]
    if pictures:
        lines += [f"![frames of videos that were judged; the sentences above the rows are their prompts]({pictures})", ""]
    lines += [
        f"Version {report['version']}, {report['precision']}, native core on {report['cpu']}, {report['date']}. Scenes and sentences are held out of training. The judge",
        f"has seen the renderer's pictures only; on {report['judge']['unseen']} renders of {report['judge']['size']} it never saw, as they are and made worse, it is right in at least "
        + ", ".join(f"{name} {_percent(value)}" for name, value in judged.items())
        + ".",
        "The *renderer* rows are its verdict on the true pictures of the same stories.",
        "",
        "| attributes right | bar | " + " | ".join((*ATTRIBUTES, "all")) + " |",
        "|---|---|" + "---|" * (len(ATTRIBUTES) + 1),
    ]
    if single := report.get("single"):
        lines += [_attributes(f"one prompt, 20 s, {single['videos']} videos", single["prompt"], ">= 95 %"), _attributes("*renderer*", single["renderer"]["prompt"], "")]
    if switch := report.get("switch"):
        lines += [_attributes(f"changed, within 2 s of {switch['jump']['switches']} switches", switch["changed"], ">= 90 %"),
                  _attributes("*renderer*", switch["renderer"]["changed"], ""), _attributes("unchanged, after a switch", switch["kept"], ">= 95 %")]  # fmt: skip
    for name, title, points in (("long", "240 s", 2), ("endless", "20 minutes, relative positions", 4)):
        if long := report.get(name):
            lines += [_attributes(f"{title}: first 30 s, {long['videos']} videos", long["first"], ""), _attributes(f"{title}: last 30 s", long["last"], f"within {points} points")]
    if own := report.get("prompts"):
        lines.append(_attributes(f"own prompts, {own['videos']} videos", own["prompt"], ""))
    lines += ["", "| measure | bar | value |", "|---|---|---|"]
    if switch:
        jump, true = switch["jump"], switch["renderer"]["jump"]
        lines.append(f"| largest change in the 2 s after a switch, over the 99th percentile of ordinary motion: median, 95 %, largest (renderer: {true['median']:.2f}, "
                     f"{true['p95']:.2f}, {true['largest']:.2f}) | <= 1.5 | {jump['median']:.2f}, {jump['p95']:.2f}, {jump['largest']:.2f} |")  # fmt: skip
        lines.append(f"| share of switches at or below 1.5 | | {_percent(jump['within1.5'])} |")
    if single:
        lines.append(f"| change at chunk borders over change elsewhere, relative to the renderer's | <= 1.05 | {single['seam']:.3f} |")
        lines.append(f"| Fréchet distance of features to renders of the same stories | | {single['frechet']:.3f} |")
    if steps := report.get("steps"):
        lines.append(f"| Fréchet distance after switches ({steps['films']} videos), over that of the same stories in 20 steps of {steps['teacher']} | <= 1.3 | {steps['ratio']:.2f} |")
    if vae := report.get("vae"):
        lines.append(f"| reconstruction through encoder and decoder, {vae['stories']} unseen stories (videos are made by the decoder alone; its figure is above) | >= 32 dB | {vae['psnr']:.1f} dB |")
    if below := misses(report):
        lines += ["", "Below its bar: " + "; ".join(below) + "."]
    return [*lines, "", "`npm run bench:adherence` measures these again; `docs/results/` has more tables."]


def pictures(package: Path, report: dict) -> str | None:
    """The frames that bench:adherence left beside its report, relative to the card."""
    frames = ROOT / f"docs/results/{report['model']}.jpg"
    return os.path.relpath(frames, package.resolve()) if frames.exists() else None


def misses(report: dict) -> list[str]:
    """What is below its bar, with its value."""
    single, switch, found = report.get("single", {}), report.get("switch", {}), []
    for title, shares, bar in (("on one prompt", single.get("prompt"), 0.95), ("changed within 2 s of a switch", switch.get("changed"), 0.9), ("unchanged after a switch", switch.get("kept"), 0.95)):
        found += [f"{name} {title} ({_percent(shares[name])})" for name in ATTRIBUTES if shares and shares.get(name, 1) < bar]
    if switch and switch["jump"]["within1.5"] < 1:
        found.append(f"changes at a switch above 1.5 times ordinary motion ({_percent(1 - switch['jump']['within1.5'])} of switches)")
    for name, title, points in (("long", "240 s", 2), ("endless", "20 minutes", 4)):
        if (long := report.get(name)) and long["last"]["all"] < long["first"]["all"] - points / 100:
            found.append(f"the last 30 s of {title} ({100 * (long['first']['all'] - long['last']['all']):.1f} points lost)")
    if single and single["seam"] > 1.05:
        found.append(f"chunk borders ({single['seam']:.2f})")
    if (steps := report.get("steps")) and steps["ratio"] > 1.3:
        found.append(f"distance to renders beside 20 steps ({steps['ratio']:.2f})")
    if (vae := report.get("vae")) and vae["psnr"] < 32:
        found.append(f"reconstruction by the VAE ({vae['psnr']:.1f} dB)")
    return found


def replace_section(card: str, section: list[str]) -> str:
    """The card with its section HEADING replaced, or added at the end."""
    text = "\n".join(section) + "\n"
    pattern = re.compile(rf"^{HEADING}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    if not pattern.search(card):
        return card.rstrip("\n") + "\n\n" + text
    return pattern.sub(lambda match: text + ("" if match.end() == len(card) else "\n"), card, count=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--quality", type=Path, required=True)
    args = parser.parse_args()
    report = json.loads(args.quality.read_text())
    path = args.package / "README.md"
    path.write_text(replace_section(path.read_text(), quality_section(report, pictures(args.package, report))))
    print(path)


if __name__ == "__main__":
    main()
