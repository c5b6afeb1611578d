"""How good the native core's videos of a package are: prompts followed, switches, long videos, fidelity.

    npm run bench:adherence -- [--package models/pocket] [--films 24] [--switching 72] [--long 4] [--endless 0] [--prompts FILE] [--precision bf16]

Scenes and sentences are held out of training, the judge has seen the renderer's pictures only; the same measures on the
renderer's own films of the same stories, of the same size (`renderer`), bound what can be reached. `--endless` films 20 minutes
with relative positions. Fidelity (`steps`): the distance to the renderer's films of the suite `switch`, over that of the same
stories sampled in 20 steps, by --teacher if one is named, else by the same network. What is measured is explained in
training/longlive_training/metrics.py, the format of --prompts in evaluate.py. What has been measured is kept in --work, so that a
run that was cut short goes on; films are judged while they are made and not stored.
Writes bench/results/quality-MODEL-CPU-DATE.json and docs/results/MODEL.jpg, frames of some of the videos.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from draw import save_strip
from film import ROOT, Setup, machine
from measure import WORK, Bench

from longlive_training.data import first_frame, sample_story, timeline
from longlive_training.evaluate import SUITES, make_cases, read_prompts
from longlive_training.inference import Package
from longlive_training.judge import DEFAULT, UNSEEN, Size, size_name
from longlive_training.metrics import psnr
from longlive_training.world import render

# Seconds of the frames that are shown, and of how many films. Switches come at 2.8, 5.8 and 8.8 s.
STRIPS = {"single": ([0.2, 2, 8, 14, 20], 3), "switch": ([2.6, 3.3, 5.6, 6.2, 8.6], 2)}
MANY_STEPS = {"denoisingSteps": list(range(1000, 0, -50))}  # the best this network can do, whatever it was distilled to


@torch.inference_mode()
def reconstruction(package: Path, size: Size, count: int) -> dict:
    """Encoder and decoder of the package on stories that nothing was trained on (PyTorch, fp32)."""
    vae = Package(package, torch.float32).vae
    values = []
    for seed in range(UNSEEN, UNSEEN + count):
        story = sample_story(np.random.default_rng([seed, 1]))
        video = render(timeline(story), first_frame(len(story)), None, *size)
        x = torch.from_numpy(video).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        back = ((vae.decode(vae.encode(x), {})[0].clamp(-1, 1) + 1) * 127.5).to(torch.uint8).permute(1, 2, 3, 0).numpy()
        values.append(psnr(back, video))
    return {"stories": count, "psnr": round(float(np.mean(values)), 2)}


def judged(size: Size) -> dict:
    """What is known of the judge's accuracy on pictures of this size."""
    report, name = json.loads((DEFAULT / "judge.json").read_text()), size_name(size)
    if name not in report["accuracy"]:
        sys.exit(f"How accurate the judge is on pictures of {name} has not been measured: cd training && python -m longlive_training.judge --measure {name}")
    return {"unseen": report["unseen"], "size": name, "accuracy": report["accuracy"][name]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="npm run bench:adherence --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, default=ROOT / "models/pocket")
    parser.add_argument("--precision", choices=["fp32", "bf16", "int8"], default="bf16")
    parser.add_argument("--films", type=int, default=24, help="videos of the suite `single`; so many of `switch` are also sampled in 20 steps")
    parser.add_argument("--switching", type=int, default=72, help="videos of the suite `switch`, of which each tells little")
    parser.add_argument("--long", type=int, default=4, help="videos of 240 s")
    parser.add_argument("--endless", type=int, default=0, help="videos of 20 minutes")
    parser.add_argument("--prompts", type=Path, help="own prompts instead of the suites")
    parser.add_argument("--teacher", type=Path, help="package whose films in 20 steps set the scale of fidelity (default: --package)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--keep", type=Path, help="keep the films in this folder, and use those that are there")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    setup = Setup(args.package, precision=args.precision)
    manifest, here, size = json.loads((args.package / "manifest.json").read_text()), machine(), setup.size()
    date = datetime.date.today().isoformat()
    report: dict = {"model": manifest["name"], "version": manifest["version"], "size": size_name(size), "precision": args.precision, "date": date,
                    **here, "judge": judged(size)}  # fmt: skip

    counts = {"single": args.films, "switch": args.switching, "long": args.long, "endless": args.endless}
    suites = {"prompts": read_prompts(args.prompts)} if args.prompts else {s: make_cases(s, counts[s]) for s in SUITES if counts[s]}
    slug = re.sub(r"[^a-z0-9]+", "-", here["cpu"].lower()).strip("-")
    out, strips = args.out or ROOT / f"bench/results/quality-{manifest['name']}-{slug}-{date}.json", []

    def found(**part: dict) -> None:
        """What there is so far is in the report, should the rest be cut short."""
        report.update(part)
        out.write_text(json.dumps(report, indent=1) + "\n")

    with Bench(args.work, args.workers, args.keep) as bench:
        for name, cases in suites.items():
            how = replace(setup, rope="relative") if name == "endless" else setup
            seen = bench.quality(how, cases, name, name in STRIPS)
            if name in STRIPS:
                seen["renderer"] = bench.renderer(cases, size)
                seconds, films = STRIPS[name]
                strips += [(" / ".join(t["prompt"] for t in c["timeline"][:3]), f) for c, f in bench.stills(how, cases, seconds, films)]
                save_strip(strips, ROOT / f"docs/results/{manifest['name']}.jpg")
            found(**{name: seen})
            if name == "switch":
                teacher = replace(setup, package=args.teacher or args.package, config=MANY_STEPS)
                of = json.loads((teacher.package / "manifest.json").read_text())
                part = cases[: args.films]
                few, many = (bench.quality(s, part, label)["frechet"] for s, label in ((setup, "few steps"), (teacher, "20 steps")))
                found(steps={"films": len(part), "frechet": few, "frechetOf20Steps": many, "ratio": round(few / many, 3), "teacher": f"{of['name']} {of['version']}"})
    torch.set_num_threads(int(here["cores"]))
    found(vae=bench.cache.get(lambda: reconstruction(args.package, size, 8), "vae", setup.key()))
    print(json.dumps(report, indent=1))
    print(out, file=sys.stderr)


if __name__ == "__main__":
    main()
