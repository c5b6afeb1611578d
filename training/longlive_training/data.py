"""Latent clips of the toy world: what the DiT is trained on.

    python -m longlive_training.data --kind stories --codec RUN/codec.safetensors --out RUN/stories --count 2000 [--first-seed 0]
    python -m longlive_training.data --kind beginnings --codec RUN/codec.safetensors --out RUN/beginnings

A story has `BLOCKS` blocks. At every block border the prompt may change, and the picture starts to change with the first
frame of that block, as it has to after a prompt switch. Clips are written in shards so that a training can start with
the first ones while more are being made.

Every story that the model tells begins with the scenery in the same place, so that its first block follows from the prompt:
a model that has to choose among many places in four steps paints their average. Later blocks copy the scenery from what
they see, wherever it has got to; they are learned from stories that begin anywhere (`fixed` is 0), and the fixed ones.
A tenth of all scenes is held out: no training clip shows one.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .codec import Codec
from .world import ATTRIBUTES, render, sample_attributes

BLOCKS = 5
BLOCK_FRAMES = 3  # latent frames
SWITCH = 0.45  # probability of a switch at a block border
FIXED = 0.5  # share of the stories that begin in the fixed place
NAMES = list(ATTRIBUTES)


def first_frame(block: int) -> int:
    """The video frame a block begins with: latent frame f > 0 holds the video frames 4 f - 3 .. 4 f."""
    return max(0, 4 * BLOCK_FRAMES * block - 3)


def held_out(attributes: dict[str, str]) -> bool:
    """Whether a scene is kept for tests: about one in ten, spread over all values by a multiplicative hash."""
    index = 0
    for name, values in ATTRIBUTES.items():
        index = index * len(values) + values.index(attributes[name])
    return ((index + 1) * 2654435761 % 2**32 >> 16) % 10 == 0


def change(attributes: dict[str, str], rng: np.random.Generator) -> dict[str, str]:
    """A switch: half of them tell a new scene, half change one or two attributes."""
    fresh = sample_attributes(rng)
    changed = NAMES if rng.random() < 0.5 else rng.choice(NAMES, size=rng.integers(1, 3), replace=False)
    return attributes | {name: fresh[name] for name in changed}


def sample_story(rng: np.random.Generator, blocks: int = BLOCKS) -> list[dict[str, str]]:
    """Attributes of each block, none of them held out."""

    def allowed(draw):
        while held_out(attributes := draw()):
            pass
        return attributes

    story = [allowed(lambda: sample_attributes(rng))]
    for _ in range(blocks - 1):
        last = story[-1]
        story.append(allowed(lambda: change(last, rng)) if rng.random() < SWITCH else last)
    return story


def timeline(story: list[dict[str, str]]) -> list[tuple[int, dict[str, str]]]:
    return [(first_frame(i), a) for i, a in enumerate(story) if i == 0 or a != story[i - 1]]


def to_indices(story: list[dict[str, str]]) -> Tensor:
    """uint8 [blocks, attributes]: positions in the value lists of `ATTRIBUTES`."""
    return torch.tensor([[ATTRIBUTES[n].index(a[n]) for n in NAMES] for a in story], dtype=torch.uint8)


def from_indices(row: Tensor) -> dict[str, str]:
    return {name: ATTRIBUTES[name][int(i)] for name, i in zip(NAMES, row)}


def render_story(story: list[dict[str, str]], seed: int | None) -> np.ndarray:
    """uint8 [frames, H, W, 3]: exactly the frames of the story's blocks."""
    return render(timeline(story), first_frame(len(story)), seed=seed)


def make_clip(codec: Codec, story: list[dict[str, str]], seed: int | None) -> dict[str, Tensor]:
    """latents fp16 [z, frames, h, w] (normalised), attributes uint8 [blocks, attributes], fixed uint8 (1: begins in the fixed place)."""
    latents = codec.encode(render_story(story, seed)).half()
    return {"latents": latents, "attributes": to_indices(story), "fixed": torch.tensor(seed is None, dtype=torch.uint8)}


def random_clip(codec: Codec, seed: int) -> dict[str, Tensor]:
    rng = np.random.default_rng([seed, 1])
    story = sample_story(rng)
    return make_clip(codec, story, None if rng.random() < FIXED else seed)


def scenes() -> list[dict[str, str]]:
    """Every scene that is not held out."""
    every = (dict(zip(NAMES, values)) for values in itertools.product(*ATTRIBUTES.values()))
    return [scene for scene in every if not held_out(scene)]


@dataclass
class Clips:
    """All shards of a folder; `refresh` picks up those written since."""

    folder: Path

    def __post_init__(self) -> None:
        self.seen: set[Path] = set()
        self.clips: list[dict[str, Tensor]] = []
        self.refresh()

    def refresh(self) -> None:
        for path in sorted(set(self.folder.glob("*.safetensors")) - self.seen):
            shard = load_file(path)
            self.clips += [{k: v[i] for k, v in shard.items()} for i in range(len(shard["latents"]))]
            self.seen.add(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=["stories", "beginnings"], required=True, help="beginnings: the first block of every scene")
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2000, help="of stories")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--shard", type=int, default=20, help="clips per file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    codec = Codec.load(args.codec)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.kind == "stories":
        last = args.first_seed + args.count
        make = lambda i: random_clip(codec, i)
    else:
        order = np.random.default_rng(0).permutation(scenes())  # so that the first shards already show everything
        last = len(order)
        make = lambda i: make_clip(codec, [order[i]], None)
    began = time.time()
    for first in range(args.first_seed, last, args.shard):
        path = args.out / f"{first:07d}.safetensors"
        if path.exists():
            continue
        clips = [make(i) for i in range(first, min(first + args.shard, last))]
        part = path.with_suffix(".part")
        save_file({k: torch.stack([c[k] for c in clips]).contiguous() for k in clips[0]}, part)
        part.rename(path)
        done = first + len(clips) - args.first_seed
        print(f"{done} clips, {(time.time() - began) / done:.2f} s each", flush=True)


if __name__ == "__main__":
    main()
