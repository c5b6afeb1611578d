"""How well generated videos follow their prompts, judged by a network that never saw the model's pictures.

    python -m longlive_training.evaluate cases --suite switch --out cases.json [--count 24] [--prompts FILE]
    python -m longlive_training.evaluate videos --cases cases.json --videos DIR [--out report.json]
    python -m longlive_training.evaluate package --package models/pocket [--suite switch] [--count 24] [--out report.json]
    python -m longlive_training.evaluate world [--suite switch] [--count 24]

`cases` writes stories for any generator: per case a name, a seed, the number of blocks and a timeline of prompts with
the block and frame at which each takes effect. `videos` judges what a generator made of them: DIR/<name>.rgb (raw RGB,
8 bits, frame after frame), .npy or .npz (`frames`), uint8 [T, H, W, 3]. `package` generates with PyTorch and judges; `world`
judges the renderer's own pictures, which bounds what any model can reach with this judge. The size of raw videos and of the
renderer's pictures is --size, else that of --package.
`npm run bench:adherence` does all of it with the native core.

Suites: `single`, one prompt for 20 s; `switch`, four prompts of 3 s; `long`, one prompt for 240 s. All scenes are among
those that training holds out, all sentences of patterns that training never uses. Own prompts come from a file, JSON or
one JSON object per line:

    {"prompt": "a red fox runs over sand", "attributes": {"subject": "fox", "colour": "red"}, "seconds": 20, "seed": 7}
    {"turns": [{"prompt": "...", "attributes": {...}, "seconds": 3}, ...]}

`attributes` says what the judge is to find (values of world's ATTRIBUTES); what is left out is not judged.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from .captions import caption
from .data import change as changed_scene, first_frame, held_out
from .judge import DEFAULT, Judge, Size, parse_size, size_name
from .metrics import PIECE, Observation, Video, observe, summarise
from .world import ATTRIBUTES, FPS, render, sample_attributes

POCKET = Path(__file__).parents[2] / "models/pocket"
# Blocks per turn, turns. The first block has 9 frames, others 12.
SUITES = {"single": (27, 1), "switch": (4, 4), "long": (321, 1), "endless": (1601, 1)}
FIRST_SEED = 1_000_000


def blocks_in(seconds: float) -> int:
    """The fewest blocks that make a video at least this long."""
    return max(1, math.ceil((seconds * FPS + 3) / 12))


def make_cases(suite: str, count: int, split: str = "test", seed: int = 0) -> list[dict]:
    """Stories of held-out scenes. Half of the switches change everything by chance, half one or two attributes."""
    rng = np.random.default_rng([seed, 11])

    def unseen(draw: Callable[[], dict], last: dict | None = None) -> dict:
        while not held_out(scene := draw()) or scene == last:
            pass
        return scene

    blocks, turns = SUITES[suite]
    cases = []
    for i in range(count):
        scenes = [unseen(lambda: sample_attributes(rng))]
        while len(scenes) < turns:
            last = scenes[-1]
            scenes.append(unseen(lambda last=last: changed_scene(last, rng), last))
        story = [{"prompt": caption(a, rng, full=True, split=split), "attributes": a, "blocks": blocks} for a in scenes]
        cases.append(make_case(f"{suite}-{i:03d}", FIRST_SEED + i, story))
    return cases


def make_case(name: str, seed: int, turns: list[dict]) -> dict:
    """turns: prompt, attributes and blocks of each."""
    starts = np.cumsum([0, *(t["blocks"] for t in turns)]).tolist()
    timeline = [{"block": b, "frame": first_frame(b), "prompt": t["prompt"], "attributes": t["attributes"]} for b, t in zip(starts, turns)]
    return {"name": name, "seed": seed, "blocks": starts[-1], "timeline": timeline}


def read_prompts(path: Path) -> list[dict]:
    """Cases from a file of prompts; raises ValueError that names the entry."""
    text = path.read_text().strip()
    entries = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines() if line.strip()]
    cases = []
    for i, entry in enumerate(entries):
        where = f"{path}, entry {i + 1}"
        turns = entry.get("turns", [entry])
        for turn in turns:
            if not isinstance(turn.get("prompt"), str) or not isinstance(turn.get("attributes"), dict):
                raise ValueError(f'{where}: needs "prompt" (text) and "attributes" (object), or "turns" of these')
            for name, value in turn["attributes"].items():
                if value not in ATTRIBUTES.get(name, []):
                    raise ValueError(f"{where}: {name} {value!r} is not among {ATTRIBUTES.get(name, list(ATTRIBUTES))}")
        seconds = 20 if len(turns) == 1 else 3
        story = [t | {"blocks": blocks_in(t.get("seconds", seconds))} for t in turns]
        cases.append(make_case(f"prompt-{i:03d}", int(entry.get("seed", FIRST_SEED + i)), story))
    return cases


def package_size(folder: Path) -> Size:
    """Width and height of the package's own pictures."""
    video = json.loads((folder / "config.json").read_text())["video"]
    return video["width"], video["height"]


def read_video(folder: Path, name: str, size: Size) -> np.ndarray:
    """uint8 [T, H, W, 3] from name.rgb, which is of this size, name.npy or name.npz."""
    width, height = size
    for suffix in (".rgb", ".npy", ".npz"):
        path = folder / (name + suffix)
        if not path.exists():
            continue
        if suffix == ".rgb":
            raw = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
            if raw.size == 0 or raw.size % (height * width * 3):
                raise ValueError(f"{path}: {raw.size} bytes are not whole frames of {size_name(size)} RGB; --size says the size")
            return raw.reshape(-1, height, width, 3)
        video = np.load(path) if suffix == ".npy" else np.load(path)["frames"]
        if video.dtype != np.uint8 or video.ndim != 4 or video.shape[3] != 3:
            raise ValueError(f"{path}: expected uint8 [T, H, W, 3], found {video.dtype} {list(video.shape)}")
        return video
    raise FileNotFoundError(f"{folder / name}.rgb, .npy or .npz")


def observe_case(judge: Judge, video: Video, case: dict) -> Observation:
    story = [(t["frame"], t["attributes"]) for t in case["timeline"]]
    return observe(judge, video, story, [first_frame(b) for b in range(1, case["blocks"])], first_frame(case["blocks"]))


def evaluate(cases: list[dict], video_of: Callable[[dict], Video], judge: Judge) -> dict:
    """The report over all cases."""
    return summarise([observe_case(judge, video_of(case), case) for case in cases])


def from_world(case: dict, size: Size) -> Iterator[np.ndarray]:
    """The renderer's own film of a case that names every attribute, begun where the model's stories begin, piece by piece."""
    timeline, frames = [(t["frame"], t["attributes"]) for t in case["timeline"]], first_frame(case["blocks"])
    for start in range(0, frames, PIECE):
        yield render(timeline, min(PIECE, frames - start), None, *size, start=start)


def from_package(folder: Path) -> Callable[[dict], Iterator[np.ndarray]]:
    from .inference import Package

    package = Package(folder)

    def video_of(case: dict) -> Iterator[np.ndarray]:
        prompts = [(t["block"], t["prompt"]) for t in case["timeline"]]
        return (chunk.frames for chunk in package.generate(prompts, case["blocks"], case["seed"]))

    return video_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cases", "videos", "package", "world"])
    parser.add_argument("--cases", type=Path, help="JSON made by `cases` (default: made on the spot)")
    parser.add_argument("--prompts", type=Path, help="own prompts instead of a suite")
    parser.add_argument("--suite", choices=SUITES, default="switch")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--split", choices=["train", "test"], default="test", help="which sentence patterns")
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--package", type=Path, default=POCKET)
    parser.add_argument("--size", type=parse_size, help="WIDTHxHEIGHT")
    parser.add_argument("--judge", type=Path, default=DEFAULT)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minimum", type=float, help="fail if the mean of subject, colour and ground after a switch is below")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.cases:
        cases = json.loads(args.cases.read_text())
    else:
        cases = read_prompts(args.prompts) if args.prompts else make_cases(args.suite, args.count, args.split)
    if args.what == "cases":
        report = cases
    else:
        size = args.size or package_size(args.package)
        if args.what == "videos":
            if not args.videos:
                parser.error("videos needs --videos")
            video_of = lambda case: read_video(args.videos, case["name"], size)
        elif args.what == "package":
            video_of = from_package(args.package)
        else:
            video_of = lambda case: from_world(case, size)
        report = evaluate(cases, video_of, Judge.load(args.judge))
    text = json.dumps(report, indent=1) + "\n"
    if args.out:
        args.out.write_text(text)
    if args.what != "cases" or not args.out:
        print(text, end="")
    if args.minimum is not None and args.what != "cases":
        reached = np.mean([report.get("changed", {}).get(n, 0) for n in ("subject", "colour", "ground")])
        if reached < args.minimum:
            sys.exit(f"adherence after a switch is {reached:.3f}, below {args.minimum}")


if __name__ == "__main__":
    main()
