"""Whether the prompts that a package suggests are right: each under 20 seeds, judged (training/longlive_training/guide.py).

    npm run bench:guide -- [--package models/pocket] [--seeds 20] [--seconds 4] [--precision bf16]

A film is right when every attribute that its prompt names is seen in more than half of its looks, those of the first second aside.
Writes bench/results/guide-MODEL-CPU-DATE.json; fails when a prompt is wrong under any seed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
from film import ROOT, Setup, machine
from measure import WORK, Bench

from longlive_training.evaluate import blocks_in, make_case
from longlive_training.guide import EXAMPLES

MOST_LOOKS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(prog="npm run bench:guide --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, default=ROOT / "models/pocket")
    parser.add_argument("--precision", choices=["fp32", "bf16", "int8"], default="bf16")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    setup, here = Setup(args.package, precision=args.precision), machine()
    manifest, date = json.loads((args.package / "manifest.json").read_text()), datetime.date.today().isoformat()
    prompts = []
    with Bench(args.work, args.workers) as bench:
        for prompt, attributes in EXAMPLES:
            story = [{"prompt": prompt, "attributes": attributes, "blocks": blocks_in(args.seconds)}]
            cases = [make_case(f"seed-{seed}", seed, story) for seed in range(1, args.seeds + 1)]
            films = [seen.prompt for seen in bench.observations(setup, cases, prompt)]
            shares = {name: round(float(np.mean([film[name] for film in films])), 3) for name in attributes}
            right = sum(all(film[name] > MOST_LOOKS for name in attributes) for film in films)
            prompts.append({"prompt": prompt, "right": right, "shares": shares})
            print(f"{right:3d} of {args.seeds}  {prompt}  {shares}", flush=True)
    slug = re.sub(r"[^a-z0-9]+", "-", here["cpu"].lower()).strip("-")
    out = args.out or ROOT / f"bench/results/guide-{manifest['name']}-{slug}-{date}.json"
    report = {"model": manifest["name"], "version": manifest["version"], "precision": args.precision, "date": date, **here, "seeds": args.seeds, "seconds": args.seconds}
    out.write_text(json.dumps(report | {"prompts": prompts}, indent=1) + "\n")
    if any(entry["right"] < args.seeds for entry in prompts):
        sys.exit("a prompt is wrong under some seed")


if __name__ == "__main__":
    main()
