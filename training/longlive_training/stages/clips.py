"""Stage 1, data: rendered and encoded clips. The codec encodes where they are rendered; where the VAE's encoder makes the latents, the
stage comes after `vae`, and pictures are encoded on its device.

`scenes` are for the teacher: one prompt, as long as a window of distillation, beginning anywhere in a story. Some show the last
frames of another scene first and then its change, which is what a window shows after a prompt switch; their prompt is the new
one. `stories` are for the causal student: prompts change at block borders; `films` are longer ones for its roll-outs. Held-out scenes are in none.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ProcessPoolExecutor
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
from ..data import FILM_BLOCKS, FILM_SWITCH, FIXED, first_frame, render_story, sample_story, scenes, to_indices
from ..loop import OutOfTime, write
from ..world import CYCLE, render
from .vae import encoder

Clip = dict[str, Tensor]


@dataclass(frozen=True)
class Renderer:
    """What a worker process needs; it is sent to all of them."""

    width: int
    height: int
    scene_frames: int  # latent
    lead_in: float
    seed: int

    def scene(self, index: int) -> Clip:
        rng = np.random.default_rng([self.seed, index, 2])
        before, *_, after = sample_story(rng, 3)
        # Blocks and gait repeat every CYCLE frames, and windows begin with a block.
        start = CYCLE * int(rng.integers(40)) if rng.random() < 0.7 else 0
        story = [(0, before), (start + first_frame(1), after)] if rng.random() < self.lead_in else [(0, after)]
        frames = 1 + 4 * (self.scene_frames - 1)
        video = render(story, frames, None if rng.random() < FIXED else index, self.width, self.height, start)
        return {"video": torch.from_numpy(video), "attributes": to_indices([after])}

    def story(self, index: int) -> Clip:
        rng = np.random.default_rng([self.seed, index, 1])
        story = sample_story(rng)
        fixed = rng.random() < FIXED
        video = render_story(story, None if fixed else index, self.width, self.height)
        return {"video": torch.from_numpy(video), "attributes": to_indices(story), "fixed": torch.tensor(fixed, dtype=torch.uint8)}

    def film(self, index: int) -> Clip:
        story = sample_story(np.random.default_rng([self.seed, index, 3]), FILM_BLOCKS, FILM_SWITCH)
        video = render_story(story, None, self.width, self.height)
        return {"video": torch.from_numpy(video), "attributes": to_indices(story)}

    def beginning(self, index: int) -> Clip:
        story = [scenes()[scene_order()[index]]]
        video = render_story(story, None, self.width, self.height)
        return {"video": torch.from_numpy(video), "attributes": to_indices(story)}


@functools.cache
def scene_order() -> np.ndarray:
    """So that some beginnings already show everything."""
    return np.random.default_rng(0).permutation(len(scenes()))


@dataclass(frozen=True)
class Shard:
    kind: str
    path: Path
    indices: range


def save(path: Path, made: list[Clip]) -> None:
    stacked = {k: torch.stack([c[k] for c in made]).contiguous() for k in made[0]}
    write(path, lambda p: save_file(stacked, p))


def encode_there(renderer: Renderer, codec: Path, channels: int, shard: Shard) -> None:
    """Renders and encodes a shard in a worker process."""
    torch.set_num_threads(1)
    code = Codec.load(codec).first(channels)
    made = [getattr(renderer, shard.kind)(i) for i in shard.indices]
    save(shard.path, [c | {"latents": code.encode(c.pop("video").numpy()).half()} for c in made])


@dataclass(frozen=True)
class Frames:
    """A file of places for clips that processes hand over in memory: through a pipe it would take longer than to render them."""

    path: Path
    size: int  # bytes of a place

    def place(self, number: int, shape: tuple[int, ...]) -> np.ndarray:
        return np.memmap(self.path, np.uint8, "r+", number * self.size, shape)


def render_clip(renderer: Renderer, kind: str, index: int, frames: Frames, number: int) -> dict[str, Any]:
    """Renders into a place; the rest of the clip, and the shape of its pictures."""
    clip = {k: v.numpy() for k, v in getattr(renderer, kind)(index).items()}
    video = clip.pop("video")
    frames.place(number, video.shape)[:] = video
    return clip | {"shape": video.shape}


def encode_here(context: Context, renderer: Renderer, shards: list[Shard], workers: int) -> None:
    """Workers render ahead, this process encodes, some clips at once."""
    encode, batch, waiting = encoder(context), 8, 4 * workers
    places = waiting + batch  # a place is taken again when the clip in it has been encoded
    longest = max(first_frame(FILM_BLOCKS), 1 + 4 * (renderer.scene_frames - 1))
    frames = Frames(context.path("clips", "frames.tmp"), longest * renderer.height * renderer.width * 3)
    write(frames.path, lambda p: np.memmap(p, np.uint8, "w+", shape=places * frames.size))
    order = [(shard.kind, i) for shard in shards for i in shard.indices]
    rendered = ahead(render_clip, [(renderer, *clip, frames, n % places) for n, clip in enumerate(order)], workers, waiting)
    last, number = time.monotonic(), 0
    try:
        for count, shard in enumerate(shards, 1):
            made: list[Clip] = []
            for first in range(0, len(shard.indices), batch):
                clips, videos = [], []
                for clip in itertools.islice(rendered, min(batch, len(shard.indices) - first)):
                    videos.append(torch.from_numpy(frames.place(number % places, clip.pop("shape"))))
                    clips.append({k: torch.from_numpy(v) for k, v in clip.items()})
                    number += 1
                latents = encode(torch.stack(videos)).half().cpu()
                made += [c | {"latents": z} for c, z in zip(clips, latents)]
            save(shard.path, made)
            if time.monotonic() > context.deadline:
                raise OutOfTime(f"stage clips has {count} of {len(shards)} shards to make")
            if time.monotonic() - last > 10:
                last = time.monotonic()
                print(f"clips: {count} of {len(shards)} shards", flush=True)
    finally:
        rendered.close()
        frames.path.unlink()


def ahead(task: Callable[..., Any], jobs: list[tuple], workers: int, count: int) -> Generator[Any, None, None]:
    """The results of the jobs in their order, made in `workers` processes, up to `count` of them before they are asked for."""
    if workers <= 1:
        yield from (task(*job) for job in jobs)
        return
    pool, waiting = ProcessPoolExecutor(workers, mp_context=get_context("forkserver")), deque[Future]()
    try:
        for job in jobs:
            waiting.append(pool.submit(task, *job))
            if len(waiting) >= count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def clips(context: Context, settings: ClipsStage) -> dict[str, Any]:
    video, workers = context.preset.video, settings.workers or os.cpu_count() or 1
    renderer = Renderer(video.width, video.height, settings.scene_frames, settings.lead_in, context.seed)
    shards = []
    for kind, count in (("beginning", settings.beginnings), ("story", settings.stories), ("film", settings.films), ("scene", settings.scenes)):
        for first in range(0, count, settings.shard):
            path = context.path("clips", kind, f"{first:07d}.safetensors")
            if not path.exists():
                shards.append(Shard(kind, path, range(first, min(first + settings.shard, count))))
    if context.preset.latents == "encoder":
        encode_here(context, renderer, shards, workers)
    else:
        codec = context.need("world", "codec.safetensors"), context.preset.vae.z_dim
        for _ in ahead(encode_there, [(renderer, *codec, shard) for shard in shards], min(workers, len(shards)), len(shards)):
            pass
    report = {
        "device": f"CPU, {workers} process{'es' if workers > 1 else ''}",
        "scenes": settings.scenes,
        "stories": settings.stories,
        "beginnings": settings.beginnings,
        "films": settings.films,
        "sceneFrames": settings.scene_frames,
    }
    print(f"clips: {settings.scenes} scenes, {settings.stories} stories, {settings.beginnings} beginnings, {settings.films} films", flush=True)
    for kind in ("story", "scene"):
        if getattr(settings, {"story": "stories", "scene": "scenes"}[kind]):
            report[kind] = spread(next(iter(sorted(context.path("clips", kind).glob("*.safetensors")))))
            print(f"clips: latents of a {kind}: {report[kind]}", flush=True)
    return report


def spread(path: Path) -> dict[str, list[float]]:
    """The least and the largest of the means and of the standard deviations of a shard's latents by channel."""
    latents = load_file(path)["latents"].float().transpose(0, 1).flatten(1)
    return {name: [round(float(v), 3) for v in (values.min(), values.max())] for name, values in (("mean", latents.mean(1)), ("std", latents.std(1)))}


def load(context: Context, kind: str) -> Clip:
    """All clips of a kind on the device: latents fp16 [n, C, F, h, w], attributes [n, blocks, 6] on the host, ..."""
    paths = sorted(context.path("clips", kind).glob("*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"there are no clips of kind {kind} in {context.path('clips')}: run stage clips first")
    shards = [load_file(p) for p in paths]
    every = {k: torch.cat([s[k] for s in shards]) for k in shards[0]}
    return every | {"latents": every["latents"].to(context.device)}
