"""Stage: the tiny decoder learns to draw what the frozen encoder saw, and what the full decoder draws.

Clips are rendered and encoded, or filmed by the native core, ahead by processes of their own and kept as files, since encoding one takes as long as a step
of training: which of them a step chooses from depends on the step alone. A step takes windows in space and time out of some of them. Where a window cuts a picture, the
decoder misses what lies beyond, so a margin does not count; nor do the first latents of a window that begins within a clip.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..captions import caption
from ..config import ConfigError, TinyStage
from ..context import Context, parameters
from ..data import BLOCK_FRAMES, sample_story
from ..films import Films
from ..loop import Average, Optimiser, Random, write
from ..models.tiny_vae import Doubling, Grow, MemoryBlock, TinyVAE
from ..muon import Muon
from .vae import VALIDATION_FRAMES, encoder, make_clip, psnr, seam, to_videos

# Of a worker process.
_encode: Any = None
_films: Films | None = None


def prepare(context: Context) -> None:
    global _encode, _films
    torch.set_num_threads(1)
    _encode = encoder(context)
    _films = Films(Path(context.preset.package)) if context.preset.package else None


def make_pair(path: Path, seed: tuple[int, ...], frames: int, width: int, height: int) -> None:
    clip = torch.from_numpy(make_clip(seed, frames, width, height))
    pair = {"video": clip, "latents": _encode(clip[None])[0].half().contiguous()}
    write(path, lambda p: save_file(pair, p))


def film_pair(films: Films, seed: tuple[int, ...], latent_frames: int) -> dict[str, Tensor]:
    """A story that no test tells, by the package."""
    rng = np.random.default_rng(seed)
    story = sample_story(rng, latent_frames // BLOCK_FRAMES)
    prompts = [(i, caption(scene, rng)) for i, scene in enumerate(story) if i == 0 or scene != story[i - 1]]
    video, latents = films.make(int(rng.integers(2**31)), prompts, len(story))
    return {"video": video, "latents": latents.half()}


def make_film(path: Path, seed: tuple[int, ...], latent_frames: int) -> None:
    assert _films
    pair = film_pair(_films, seed, latent_frames)
    write(path, lambda p: save_file(pair, p))


class Pairs:
    """Clips, uint8 [T, H, W, 3], and their latents [z, t, h, w] as the DiT sees them."""

    def __init__(self, context: Context, settings: TinyStage):
        self.context, self.settings = context, settings
        self.videos: list[Tensor] = []
        self.latents: list[Tensor] = []
        if settings.film_every and not context.preset.package:
            raise ConfigError('stage tiny: films are made by a model package: say which with --package, or take "film_every" = 0')
        count = settings.workers or os.cpu_count() or 1
        self.workers = ProcessPoolExecutor(count, mp_context=get_context("forkserver"), initializer=prepare, initargs=(context,))
        self.ahead: dict[int, Future] = {}

    def path(self, index: int) -> Path:
        return self.context.path("tiny", "pairs", f"{index:06d}.safetensors")

    def is_film(self, index: int) -> bool:
        every = self.settings.film_every
        return every > 0 and index % every == every - 1

    def advance(self, step: int) -> None:
        """Takes in the clips that a step chooses from, and has the next ones made."""
        s, video = self.settings, self.context.preset.video
        wanted = min(s.clips, s.pool + int(step * s.fresh))
        for index in range(len(self.videos), min(s.clips, wanted + 8)):
            if index not in self.ahead and not self.path(index).exists():
                seed = (self.context.seed, 40, index)
                if self.is_film(index):
                    work = make_film, self.path(index), seed, s.frames
                else:
                    work = make_pair, self.path(index), seed, 1 + 4 * (s.frames - 1), video.width, video.height
                self.ahead[index] = self.workers.submit(*work)
        for index in range(len(self.videos), wanted):
            if index in self.ahead:
                self.ahead.pop(index).result()
            pair = load_file(self.path(index))
            self.videos.append(pair["video"])
            self.latents.append(pair["latents"])

    def close(self) -> None:
        self.workers.shutdown(cancel_futures=True)


def window(pairs: Pairs, rng: Random, settings: TinyStage, middle: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Latents [z, t, h, w] of a window, its frames uint8 [T, H, W, 3], and what of it counts, [T, H, W]."""
    index, s = int(rng.numpy.integers(len(pairs.videos))), settings
    z, video = pairs.latents[index], pairs.videos[index]
    _, t, h, w = z.shape
    high, wide = min(s.crop[0], h), min(s.crop[1], w)
    first = int(rng.numpy.integers(1, t - s.window + 1)) if t > s.window and rng.numpy.random() < 0.5 else 0
    y, room = int(rng.numpy.integers(h - high + 1)), w - wide
    x = int(rng.numpy.integers(room // 4, max(room // 2, room // 4) + 1) if middle else rng.numpy.integers(room + 1))
    start = max(0, 4 * first - 3)
    frames = video[start : 4 * (first + s.window) - 3, 8 * y : 8 * (y + high), 8 * x : 8 * (x + wide)]
    # A decoder that begins makes one frame of the first latent; of one within a clip there are four.
    frames = frames if first == 0 else frames[3:]
    counts = torch.ones(frames.shape[:3])
    margin = 8 * s.margin
    if first:
        counts[: 1 + 4 * (s.lead - 1)] = 0
    for cut, part in ((y > 0, counts[:, :margin]), (y + high < h, counts[:, -margin:]), (x > 0, counts[:, :, :margin]), (x + wide < w, counts[:, :, -margin:])):
        if cut:
            part.zero_()
    return z[:, first : first + s.window, y : y + high, x : x + wide].float(), frames, counts


def masked_loss(y: Tensor, x: Tensor, counts: Tensor, change_weight: float, square_weight: float) -> Tensor:
    """`picture_loss` (stages/vae.py) of what counts: y, x [B, 3, T, H, W], counts [B, 1, T, H, W] of zeros and ones."""
    error = (y - x) * counts
    share = counts.mean()
    pixels = error.abs().mean() + square_weight * error.square().mean()
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    inner = counts[:, :, 1:] * counts[:, :, :-1]
    motion = ((y - x).diff(dim=-3) * inner).abs().mean()
    change, true_change = ((v.diff(dim=-3) * inner).abs().mean((1, 3, 4)) for v in (y, x))  # [B, T - 1]
    coarse = nn.functional.avg_pool3d(error, (1, 4, 4)).abs().mean()
    return (pixels + 0.3 * edges + 0.6 * motion + change_weight * (change - true_change).abs().mean() + 0.3 * coarse) / share


def initialise(model: TinyVAE) -> None:
    """Features of the latents that are handed up as they are: memory blocks begin as the identity, nearly, and so do growth and the layers
    after it. What comes out of a stage is rectified by the next one, and no norm would wake what is below zero everywhere."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=(2 / layer.weight[0].numel()) ** 0.5)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for layer, after in zip(model.decoder, [*model.decoder[1:], None]):
            if isinstance(layer, Doubling):
                n = layer.weight.shape[1] // layer.times
                nn.init.normal_(layer.weight, std=0.1 * (2 / (4 * layer.in_channels)) ** 0.5)
                layer.weight[:, :, 1:3, 1:3].add_(torch.eye(layer.in_channels, n).repeat(1, layer.times)[:, :, None, None])
            if isinstance(layer, MemoryBlock):
                layer.conv[4].weight.mul_(0.1)
            if isinstance(layer, Grow) and isinstance(after, nn.Conv2d):
                layer.conv.weight.mul_(0.1).add_(torch.eye(layer.conv.in_channels).repeat(layer.times, 1)[:, :, None, None])
                after.weight.mul_(0.1)
                after.weight[:, :, 1, 1].add_(torch.eye(*after.weight.shape[:2]))
        last = model.decoder[-1]
        last.weight.mul_(0.1)
        last.bias.fill_(0.5)


@torch.no_grad()
def quality(context: Context, model: TinyVAE, pairs: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Mean PSNR in dB and `seam` (stages/vae.py) over clips [1, 3, T, H, W] and their latents."""
    figures = []
    with context.precision():
        for x, z in pairs:
            y = model.decode(z).float()
            figures.append((psnr(y, x), seam(y.clamp(-1, 1)) / seam(x)))
    return dict(zip(("psnr", "seam"), np.mean(figures, 0).tolist()))


def validation(context: Context, count: int) -> list[tuple[Tensor, Tensor]]:
    video, encode, made = context.preset.video, encoder(context), []
    for i in range(count):
        path = context.path("tiny", "validation", f"{i}.safetensors")
        if not path.exists():
            clip = torch.from_numpy(make_clip((context.seed, 31, i), VALIDATION_FRAMES, video.width, video.height))
            pair = {"video": clip, "latents": encode(clip[None])[0]}
            write(path, lambda p, pair=pair: save_file({k: v.contiguous() for k, v in pair.items()}, p))
        pair = load_file(path)
        made.append((to_videos(pair["video"][None].to(context.device)), pair["latents"][None].to(context.device)))
    return made


def tiny(context: Context, settings: TinyStage) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        model = TinyVAE(settings.channels, context.preset.vae.z_dim, patch=settings.patch, transposed=settings.transposed)
        initialise(model)
    model = model.to(context.device, memory_format=torch.channels_last)
    hidden = [p for p in model.parameters() if p.dim() == 4 and min(p.shape[:2]) > 12]
    others = [p for p in model.parameters() if not any(p is h for h in hidden)]
    average = Average(model, settings.loop.ema or 0.997)
    optimisers = [Optimiser(Muon(hidden, settings.loop.lr), 0),
                  Optimiser(torch.optim.AdamW(others, lr=settings.loop.lr / 5, betas=(0.9, 0.98), weight_decay=0), 0)]  # fmt: skip
    states = {"model": model, "average": average, "muon": optimisers[0], "adamw": optimisers[1]}
    loop = context.loop("tiny", "tiny", settings.loop, states)
    unseen = validation(context, settings.validation)
    pairs = Pairs(context, settings)

    def loss_of(z: Tensor, x: Tensor, counts: Tensor) -> Tensor:
        with context.precision():
            y = model.decode(z).float()
        return masked_loss(y, x, counts, settings.change_weight, settings.square_weight)

    if context.preset.compile:
        loss_of = torch.compile(loss_of, dynamic=False)

    def step(rng: Random) -> dict[str, Tensor]:
        pairs.advance(loop.step)
        windows = [window(pairs, rng, settings, (loop.step + i) % 2 == 1) for i in range(settings.loop.batch)]
        z, x, counts = (torch.stack(part).to(context.device) for part in zip(*windows))
        loss = loss_of(z + settings.latent_noise * rng.normal_like(z), to_videos(x), counts[:, None])
        loss.backward()
        for optimiser in optimisers:
            optimiser.step(loop.rate())
        average.update(loop.step)
        if settings.watch and (loop.step + 1) % settings.watch == 0:
            seen = quality(context, average.module, unseen[:2])
            print(f"tiny: step {loop.step + 1}, {loop.seconds:.0f} s, two clips: {seen['psnr']:.2f} dB, seam {seen['seam']:.3f}", flush=True)
        return {"loss": loss}

    def keep() -> None:
        pairs.close()
        context.save_model(average.module, context.path("tiny", "tiny_vae.safetensors"))

    report = context.train(loop, step, keep)
    report |= {k: round(v, 3) for k, v in quality(context, average.module, unseen).items()} | {"parameters": parameters(model)}
    print(f"tiny: {report['psnr']:.2f} dB, seam {report['seam']:.3f}", flush=True)
    return report
