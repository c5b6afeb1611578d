"""Stage 1, data: rendered and encoded clips.

`scenes` are for the teacher: one prompt, as long as a window of distillation, beginning anywhere in a story. Some show the last
frames of another scene first and then its change, which is what a window shows after a prompt switch; their prompt is the new
one. `stories` are for the causal student: prompts change at block borders. Held-out scenes are in neither.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..codec import Codec
from ..config import ClipsStage
from ..context import Context
from ..data import FIXED, first_frame, render_story, sample_story, scenes, to_indices
from ..loop import write
from ..world import CYCLE, render

Clip = dict[str, Tensor]


@dataclass(frozen=True)
class Renderer:
    """What a worker process needs; it is sent to all of them."""

    codec: Path
    width: int
    height: int
    scene_frames: int  # latent
    lead_in: float
    seed: int

    def scene(self, codec: Codec, index: int) -> Clip:
        rng = np.random.default_rng([self.seed, index, 2])
        before, *_, after = sample_story(rng, 3)
        # Blocks and gait repeat every CYCLE frames, and windows begin with a block.
        start = CYCLE * int(rng.integers(40)) if rng.random() < 0.7 else 0
        story = [(0, before), (start + first_frame(1), after)] if rng.random() < self.lead_in else [(0, after)]
        frames = 1 + 4 * (self.scene_frames - 1)
        video = render(story, frames, None if rng.random() < FIXED else index, self.width, self.height, start)
        return {"latents": codec.encode(video).half(), "attributes": to_indices([after])}

    def story(self, codec: Codec, index: int) -> Clip:
        rng = np.random.default_rng([self.seed, index, 1])
        story = sample_story(rng)
        fixed = rng.random() < FIXED
        video = render_story(story, None if fixed else index, self.width, self.height)
        return {"latents": codec.encode(video).half(), "attributes": to_indices(story), "fixed": torch.tensor(fixed, dtype=torch.uint8)}

    def beginning(self, codec: Codec, index: int) -> Clip:
        story = [scenes()[scene_order()[index]]]
        video = render_story(story, None, self.width, self.height)
        return {"latents": codec.encode(video).half(), "attributes": to_indices(story)}


@functools.cache
def scene_order() -> np.ndarray:
    """So that some beginnings already show everything."""
    return np.random.default_rng(0).permutation(len(scenes()))


def make_shard(renderer: Renderer, kind: str, path: Path, indices: range) -> None:
    torch.set_num_threads(1)
    codec = Codec.load(renderer.codec)
    make: Callable[[Codec, int], Clip] = getattr(renderer, kind)
    made = [make(codec, i) for i in indices]
    stacked = {k: torch.stack([c[k] for c in made]).contiguous() for k in made[0]}
    write(path, lambda p: save_file(stacked, p))


def each(task: Callable[..., None], jobs: list[tuple], workers: int) -> None:
    """Runs the jobs in `workers` processes (0: one per core)."""
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers <= 1:
        for job in jobs:
            task(*job)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        for done in [pool.submit(task, *job) for job in jobs]:
            done.result()


def clips(context: Context, settings: ClipsStage) -> dict[str, Any]:
    video = context.preset.video
    renderer = Renderer(
        context.need("world", "codec.safetensors"), video.width, video.height, settings.scene_frames, settings.lead_in, context.seed
    )
    jobs = []
    for kind, count in (("beginning", settings.beginnings), ("story", settings.stories), ("scene", settings.scenes)):
        for first in range(0, count, settings.shard):
            path = context.path("clips", kind, f"{first:07d}.safetensors")
            if not path.exists():
                jobs.append((renderer, kind, path, range(first, min(first + settings.shard, count))))
    each(make_shard, jobs, settings.workers)
    print(f"clips: {settings.scenes} scenes, {settings.stories} stories, {settings.beginnings} beginnings", flush=True)
    workers = settings.workers or os.cpu_count() or 1
    return {
        "device": f"CPU, {workers} process{'es' if workers > 1 else ''}",
        "scenes": settings.scenes,
        "stories": settings.stories,
        "beginnings": settings.beginnings,
        "sceneFrames": settings.scene_frames,
    }


def load(context: Context, kind: str) -> Clip:
    """All clips of a kind on the device: latents fp16 [n, C, F, h, w], attributes [n, blocks, 6] on the host, ..."""
    paths = sorted(context.path("clips", kind).glob("*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"there are no clips of kind {kind} in {context.path('clips')}: run stage clips first")
    shards = [load_file(p) for p in paths]
    every = {k: torch.cat([s[k] for s in shards]) for k in shards[0]}
    return every | {"latents": every["latents"].to(context.device)}
