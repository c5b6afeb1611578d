"""Latent clips of the toy world: what the DiT is trained on.

    python -m longlive_training.data --codec RUN/codec.safetensors --out RUN/latents --count 2000 [--first-seed 0]

A clip is a story of `BLOCKS` blocks. At every block border the prompt may change, and the picture starts to change
with the first frame of that block, as it has to after a prompt switch. Clips are written in shards so that a training
can start with the first ones while more are being made.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .codec import Codec
from .world import ATTRIBUTES, phases, render, sample_attributes

BLOCKS = 5
BLOCK_FRAMES = 3  # latent frames
SWITCH = 0.45  # probability of a switch at a block border
NAMES = list(ATTRIBUTES)


def first_frame(block: int) -> int:
    """The video frame a block begins with: latent frame f > 0 holds the video frames 4 f - 3 .. 4 f."""
    return max(0, 4 * BLOCK_FRAMES * block - 3)


def sample_story(rng: np.random.Generator, blocks: int = BLOCKS) -> list[dict[str, str]]:
    """Attributes of each block. Half of the switches tell a new scene, half change one or two attributes."""
    story = [sample_attributes(rng)]
    for _ in range(blocks - 1):
        attributes = dict(story[-1])
        if rng.random() < SWITCH:
            fresh = sample_attributes(rng)
            changed = NAMES if rng.random() < 0.5 else rng.choice(NAMES, size=rng.integers(1, 3), replace=False)
            attributes |= {name: fresh[name] for name in changed}
        story.append(attributes)
    return story


def timeline(story: list[dict[str, str]]) -> list[tuple[int, dict[str, str]]]:
    return [(first_frame(i), a) for i, a in enumerate(story) if i == 0 or a != story[i - 1]]


def to_indices(story: list[dict[str, str]]) -> Tensor:
    """uint8 [blocks, attributes]: positions in the value lists of `ATTRIBUTES`."""
    return torch.tensor([[ATTRIBUTES[n].index(a[n]) for n in NAMES] for a in story], dtype=torch.uint8)


def from_indices(row: Tensor) -> dict[str, str]:
    return {name: ATTRIBUTES[name][int(i)] for name, i in zip(NAMES, row)}


def render_story(story: list[dict[str, str]], seed: int) -> np.ndarray:
    """uint8 [frames, H, W, 3]: exactly the frames of the story's blocks."""
    return render(timeline(story), first_frame(len(story)), seed=seed)


def make_clip(codec: Codec, seed: int) -> dict[str, Tensor]:
    """latents fp16 [z, frames, h, w] (normalised), attributes uint8 [blocks, attributes], phases float [number]."""
    story = sample_story(np.random.default_rng([seed, 1]))
    latents = codec.encode(render_story(story, seed)).half()
    return {"latents": latents, "attributes": to_indices(story), "phases": torch.tensor(phases(seed), dtype=torch.float32)}


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


def couple(noise: Tensor, turns: Tensor) -> Tensor:
    """Turn the means of channel pairs of Gaussian noise [C, F, h, w] so that pair j points to angle 2 pi turns[j].

    The phases of a story are uniform and the length of each pair is kept, so over all stories the noise is still exactly
    Gaussian; but it now determines the phases, and the first, pure-noise step can predict a sharp picture instead of the
    average over all of them. At inference the seed thereby chooses the phases.
    """
    pairs = len(turns)
    scale = noise[0].numel() ** 0.5
    mean = noise[: 2 * pairs].mean((1, 2, 3)) * scale
    radius = mean.view(pairs, 2).norm(dim=1)
    target = radius[:, None] * torch.stack([(2 * torch.pi * turns).cos(), (2 * torch.pi * turns).sin()], dim=1)
    shift = (target.flatten() - mean) / scale
    return torch.cat([noise[: 2 * pairs] + shift[:, None, None, None], noise[2 * pairs :]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--shard", type=int, default=20, help="clips per file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    codec = Codec.load(args.codec)
    args.out.mkdir(parents=True, exist_ok=True)
    began = time.time()
    for first in range(args.first_seed, args.first_seed + args.count, args.shard):
        path = args.out / f"{first:07d}.safetensors"
        if path.exists():
            continue
        clips = [make_clip(codec, seed) for seed in range(first, first + args.shard)]
        part = path.with_suffix(".part")
        save_file({k: torch.stack([c[k] for c in clips]).contiguous() for k in clips[0]}, part)
        part.rename(path)
        done = first + args.shard - args.first_seed
        print(f"{done} clips, {(time.time() - began) / done:.2f} s each", flush=True)


if __name__ == "__main__":
    main()
