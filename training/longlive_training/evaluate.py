"""How well generated videos follow their prompts, judged by networks that never saw the model's pictures.

    python -m longlive_training.evaluate cases --out cases.json [--count 24] [--split test]
    python -m longlive_training.evaluate videos --cases cases.json --videos DIR [--out report.json]
    python -m longlive_training.evaluate package --package models/pocket [--count 24] [--out report.json]
    python -m longlive_training.evaluate world [--count 24]

`cases` writes stories for any generator: per case a name, a seed, the number of blocks and a timeline of prompts with
the block and frame at which each takes effect. `videos` judges what a generator made of them: DIR/<name>.rgb (raw RGB,
8 bits, 192 x 112, frame after frame), .npy or .npz (`frames`), uint8 [T, H, W, 3]. `package` generates with PyTorch and
judges; `world` judges the renderer's own pictures, which bounds what any model can reach with these judges.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from .captions import caption
from .data import first_frame
from .judge import DEFAULT, Judge
from .metrics import adherence, seam, summarise
from .world import ATTRIBUTES, HEIGHT, render, sample_attributes

WIDTH = 192
BLOCKS_PER_PROMPT = 5  # of 12 frames: 3.75 seconds


def make_cases(count: int, split: str = "test", seed: int = 0) -> list[dict]:
    """Stories of two prompts; the second changes everything in one half of them, one or two attributes in the other."""
    rng = np.random.default_rng([seed, 11])
    names = list(ATTRIBUTES)
    cases = []
    for i in range(count):
        first = sample_attributes(rng)
        second = dict(first)
        for name in names if i % 2 else rng.choice(names, size=rng.integers(1, 3), replace=False):
            others = [v for v in ATTRIBUTES[name] if v != first[name]]
            second[name] = others[rng.integers(len(others))]
        timeline = [{"block": b, "frame": first_frame(b), "prompt": caption(a, rng, full=True, split=split), "attributes": a}
                    for b, a in ((0, first), (BLOCKS_PER_PROMPT, second))]  # fmt: skip
        cases.append({"name": f"case-{i:03d}", "seed": i, "blocks": 2 * BLOCKS_PER_PROMPT, "timeline": timeline})
    return cases


def read_video(folder: Path, name: str) -> np.ndarray:
    """uint8 [T, H, W, 3] from name.rgb, name.npy or name.npz."""
    for suffix in (".rgb", ".npy", ".npz"):
        path = folder / (name + suffix)
        if not path.exists():
            continue
        if suffix == ".rgb":
            raw = np.fromfile(path, np.uint8)
            if raw.size == 0 or raw.size % (HEIGHT * WIDTH * 3):
                raise ValueError(f"{path}: {raw.size} bytes are not whole frames of {WIDTH} x {HEIGHT} RGB")
            return raw.reshape(-1, HEIGHT, WIDTH, 3)
        video = np.load(path) if suffix == ".npy" else np.load(path)["frames"]
        if video.dtype != np.uint8 or video.shape[1:] != (HEIGHT, WIDTH, 3):
            raise ValueError(f"{path}: expected uint8 [T, {HEIGHT}, {WIDTH}, 3], found {video.dtype} {list(video.shape)}")
        return video
    raise FileNotFoundError(f"{folder / name}.rgb, .npy or .npz")


def evaluate(cases: list[dict], video_of: Callable[[dict], np.ndarray], judge: Judge) -> dict:
    """The report over all cases; `video_of(case)` gives uint8 [T, H, W, 3]."""
    results, seams = [], []
    for case in cases:
        video = video_of(case)
        results.append(adherence(judge, video, [(t["frame"], t["attributes"]) for t in case["timeline"]]))
        switches = {t["block"] for t in case["timeline"]}
        seams.append(seam(video, [first_frame(b) for b in range(1, case["blocks"]) if b not in switches]))
    return summarise(results) | {"seam": round(float(np.median(seams)), 3)}


def from_world(case: dict) -> np.ndarray:
    return render([(t["frame"], t["attributes"]) for t in case["timeline"]], first_frame(case["blocks"]), case["seed"])


def from_package(folder: Path) -> Callable[[dict], np.ndarray]:
    from .inference import Package

    package = Package(folder)

    def video_of(case: dict) -> np.ndarray:
        prompts = [(t["block"], t["prompt"]) for t in case["timeline"]]
        return np.concatenate([chunk.frames for chunk in package.generate(prompts, case["blocks"], case["seed"])])

    return video_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cases", "videos", "package", "world"])
    parser.add_argument("--cases", type=Path, help="JSON made by `cases` (default: made on the spot)")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--split", choices=["train", "test"], default="test", help="which sentence patterns")
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--package", type=Path)
    parser.add_argument("--judge", type=Path, default=DEFAULT)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minimum", type=float, help="fail if the mean of subject, colour and ground after a switch is below")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cases = json.loads(args.cases.read_text()) if args.cases else make_cases(args.count, args.split)
    if args.what == "cases":
        report = cases
    else:
        if args.what == "videos":
            if not args.videos:
                parser.error("videos needs --videos")
            video_of = lambda case: read_video(args.videos, case["name"])  # noqa: E731
        elif args.what == "package":
            if not args.package:
                parser.error("package needs --package")
            video_of = from_package(args.package)
        else:
            video_of = from_world
        report = evaluate(cases, video_of, Judge.load(args.judge))
    text = json.dumps(report, indent=1) + "\n"
    if args.out:
        args.out.write_text(text)
    if args.what != "cases" or not args.out:
        print(text, end="")
    if args.minimum is not None and args.what != "cases":
        reached = np.mean([report["switch"].get(n, 0) for n in ("subject", "colour", "ground")])
        if reached < args.minimum:
            sys.exit(f"adherence after a switch is {reached:.3f}, below {args.minimum}")


if __name__ == "__main__":
    main()
