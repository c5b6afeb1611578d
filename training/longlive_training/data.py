"""Stories of the toy world: what the models are trained on.

A story has `BLOCKS` blocks. At every block border the prompt may change, and the picture starts to change with the first
frame of that block, as it has to after a prompt switch. A film is a story of `FILM_BLOCKS`.

Every story that the model tells begins with the scenery in the same place, so that its first block follows from the prompt:
a model that has to choose among many places in four steps paints their average. So does the scenery of a new ground
(world). Later blocks copy the scenery from what they see, wherever it has got to; they are learned from stories that begin anywhere (`fixed` is 0), and the fixed ones.
A tenth of all scenes is held out: no training clip shows one.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import torch
from torch import Tensor

from .world import ATTRIBUTES, STAGE, render, sample_attributes

BLOCKS = 5
BLOCK_FRAMES = 3  # latent frames
SWITCH = 0.45  # probability of a switch at a block border
FILM_BLOCKS = 3 * BLOCKS  # of stories long enough to go wrong in
FILM_SWITCH = 0.25
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


def sample_story(rng: np.random.Generator, blocks: int = BLOCKS, switch: float = SWITCH) -> list[dict[str, str]]:
    """Attributes of each block, none of them held out."""

    def allowed(draw):
        while held_out(attributes := draw()):
            pass
        return attributes

    story = [allowed(lambda: sample_attributes(rng))]
    for _ in range(blocks - 1):
        last = story[-1]
        story.append(allowed(lambda last=last: change(last, rng)) if rng.random() < switch else last)
    return story


def timeline(story: list[dict[str, str]]) -> list[tuple[int, dict[str, str]]]:
    return [(first_frame(i), a) for i, a in enumerate(story) if i == 0 or a != story[i - 1]]


def to_indices(story: list[dict[str, str]]) -> Tensor:
    """uint8 [blocks, attributes]: positions in the value lists of `ATTRIBUTES`."""
    return torch.tensor([[ATTRIBUTES[n].index(a[n]) for n in NAMES] for a in story], dtype=torch.uint8)


def from_indices(row: Tensor) -> dict[str, str]:
    return {name: ATTRIBUTES[name][int(i)] for name, i in zip(NAMES, row)}


def render_story(story: list[dict[str, str]], seed: int | None, width: int = STAGE[0], height: int = STAGE[1]) -> np.ndarray:
    """uint8 [frames, H, W, 3]: exactly the frames of the story's blocks."""
    return render(timeline(story), first_frame(len(story)), seed, width, height)


@functools.cache
def scenes() -> list[dict[str, str]]:
    """Every scene that is not held out."""
    every = (dict(zip(NAMES, values)) for values in itertools.product(*ATTRIBUTES.values()))
    return [scene for scene in every if not held_out(scene)]
