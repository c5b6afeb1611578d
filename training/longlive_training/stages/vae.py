"""Stage 2: the Wan VAE learns to be the inverse (decoder) and the equal (encoder) of the linear code that defines the latents.

The decoder sees codec latents with a little noise, so that it forgives small errors of the DiT, and is trained against the
rendered frames and their changes; the encoder is regressed to the latents. Trained `joint`ly, the decoder sees the encoder's latents, which
leave the linear code as far as that helps the pictures and an anchor lets them; they are the latents of the stages behind then.
Convolutions are trained with Muon, the rest with AdamW.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codec import PATCH, Codec
from ..config import Loop as LoopSettings
from ..config import VaeStage
from ..context import Context, parameters, read_weights
from ..loop import Average, Optimiser, Random, mixed, write_json
from ..models.vae import ResidualBlock, WanVAE, channels_last
from ..muon import Muon
from ..widen import widened_vae
from ..world import CYCLE, TRANSITION, render, sample_attributes


def initialise(vae: WanVAE) -> None:
    """Weights that keep the variance, residual branches that start small, latents passed on as they are."""
    with torch.no_grad():
        for layer in vae.modules():
            if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
                nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
                nn.init.zeros_(layer.bias)
        for layer in vae.modules():
            if isinstance(layer, ResidualBlock):
                layer.residual[6].weight.mul_(0.3)
        for layer in (vae.conv1, vae.conv2):
            layer.weight.copy_(torch.eye(layer.weight.shape[0])[:, :, None, None, None])


def compile_blocks(vae: WanVAE) -> None:
    """Compiles the residual blocks, one by one: equal ones share their code, and what lies between them is cheap."""
    torch._dynamo.config.recompile_limit = 64
    for layer in vae.modules():
        if isinstance(layer, ResidualBlock):
            layer.compile(dynamic=False)


def picture_loss(y: Tensor, x: Tensor, change_weight: float, square_weight: float = 1.0) -> Tensor:
    """L1 and squared error of pixels, L1 of their differences in space and time and of a quarter-size picture, and of how much changes
    from frame to frame. [B, 3, T, H, W].

    Four frames come from one latent. A decoder that is only asked for pixels lets too little change among them and too much from one
    latent to the next, which is seen as a seam; `change_weight` is how much that counts."""
    error = y - x
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    motion = error.diff(dim=-3).abs().mean()
    change, true_change = (v.diff(dim=-3).abs().mean((1, 3, 4)) for v in (y, x))  # [B, T - 1]
    coarse = F.avg_pool3d(error, (1, 4, 4)).abs().mean()
    pixels = error.abs().mean() + square_weight * error.square().mean()
    return pixels + 0.3 * edges + 0.6 * motion + change_weight * (change - true_change).abs().mean() + 0.3 * coarse


def psnr(y: Tensor, x: Tensor) -> float:
    """dB between videos in [-1, 1]; y is clamped."""
    return -10 * math.log10(((y.clamp(-1, 1) - x) / 2).square().mean().item())


def to_videos(clips: Tensor) -> Tensor:
    """uint8 [n, T, H, W, 3] -> float [n, 3, T, H, W] in [-1, 1], channels last in memory."""
    return (clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last_3d)


def make_clip(seed: tuple[int, ...], frames: int, width: int, height: int) -> np.ndarray:
    """uint8 [frames, H, W, 3]: a random scene; about half of the clips contain (part of) a switch."""
    rng = np.random.default_rng(seed)
    start = int(rng.integers(TRANSITION, 5 * CYCLE))
    at = start + int(rng.integers(-TRANSITION, 2 * frames))
    story = [(0, sample_attributes(rng)), (max(1, at), sample_attributes(rng))]
    return render(story, frames, int(rng.integers(2**31)), width, height, start)


VALIDATION_FRAMES = 57  # longer than what the causal convolutions look back: a video is mostly what comes after that


class Pool:
    """Rendered clips on the device, slowly replaced by fresh ones that other processes render ahead.

    Which clip is in which place at a step depends on the step alone, so a run that was interrupted finds the same pool.
    """

    def __init__(self, context: Context, settings: VaeStage, first_step: int):
        video = context.preset.video
        self.size, self.fresh, self.device = settings.pool, settings.fresh, context.device
        frames = 1 + 4 * (settings.frames - 1)
        self.arguments = lambda index: ((context.seed, 30, index), frames, video.width, video.height)
        workers = settings.workers or os.cpu_count() or 1
        one_thread = {"initializer": torch.set_num_threads, "initargs": (1,)}
        self.workers = ProcessPoolExecutor(workers, mp_context=get_context("forkserver"), **one_thread) if workers > 1 else None
        self.ahead: dict[int, Future] = {}
        self.done = self.made(first_step)
        # The newest clip of every place.
        indices = range(max(0, self.done - self.size), self.done)
        self.videos = torch.empty(self.size, frames, video.height, video.width, 3, dtype=torch.uint8, device=self.device)
        for index in indices:
            self.ask(index)
        for index in indices:
            self.put(index)

    def made(self, step: int) -> int:
        """How many clips have been rendered by a step."""
        return self.size + int(step * self.fresh)

    def ask(self, index: int) -> None:
        if self.workers and index not in self.ahead:
            self.ahead[index] = self.workers.submit(make_clip, *self.arguments(index))

    def put(self, index: int) -> None:
        clip = self.ahead.pop(index).result() if index in self.ahead else make_clip(*self.arguments(index))
        self.videos[index % self.size] = torch.from_numpy(clip).to(self.device, non_blocking=True)

    def advance(self, step: int) -> None:
        for index in range(self.done, self.made(step) + 64 if self.workers else self.done):
            self.ask(index)
        for index in range(self.done, self.made(step)):
            self.put(index)
        self.done = self.made(step)

    def close(self) -> None:
        if self.workers:
            self.workers.shutdown(cancel_futures=True)


def encode(codec: Codec, videos: Tensor) -> Tensor:
    """Codec latents [n, C, t, h, w] of videos [n, 3, T, H, W] in [-1, 1]."""
    x = torch.cat([videos[:, :, :1].expand(-1, -1, 4, -1, -1), videos[:, :, 1:]], 2)
    n, _, t, h, w = x.shape
    x = x.view(n, 3, t // 4, 4, h // PATCH, PATCH, w // PATCH, PATCH).permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4)
    return ((x - codec.mean) @ codec.basis / codec.scale).permute(0, 4, 1, 2, 3)


def batch(pool: Pool, codec: Codec, rng: Random, count: int, crop: int, step: int) -> tuple[Tensor, Tensor]:
    """Videos [count, 3, T, 8 crop, 8 crop] and their latents; every sixteenth batch is of whole pictures, as many as have its pixels, and
    with a crop of 0 all are. Every second crop is in the middle, where the subject is."""
    pool.advance(step)
    _, _, h, w, _ = pool.videos.shape
    side = crop * PATCH
    if not crop or step % 16 == 15:
        whole = max(1, count * side**2 // (h * w)) if crop else count
        parts = [pool.videos[int(i)] for i in rng.numpy.integers(pool.size, size=whole)]
    else:
        parts = []
        for i in range(count):
            y = PATCH * int(rng.numpy.integers((h - side) // PATCH + 1))
            room = (w - side) // PATCH
            x = PATCH * int(rng.numpy.integers(room // 4, max(room // 2, room // 4) + 1) if (step + i) % 2 else rng.numpy.integers(room + 1))
            parts.append(pool.videos[int(rng.numpy.integers(pool.size)), :, y : y + side, x : x + side])
    videos = to_videos(torch.stack(parts))
    return videos, encode(codec, videos)


def train(context: Context, settings: VaeStage, vae: WanVAE, name: str, loop_settings: LoopSettings) -> dict[str, Any]:
    """Trains the `decoder`, the `encoder`, or both (`joint`), and leaves `vae` with the averaged weights, saved."""
    codec, before = context.codec(), {k: v.clone() for k, v in vae.state_dict().items()}
    halves = {"decoder": [vae.decoder, vae.conv2], "encoder": [vae.encoder, vae.conv1]}
    weights = [p for half in halves.get(name, sum(halves.values(), [])) for p in half.parameters()]
    hidden = [p for p in weights if p.dim() >= 4 and min(p.shape[:2]) > 3]
    others = [p for p in weights if not any(p is h for h in hidden)]
    average = Average(vae, loop_settings.ema or 0.997)
    optimisers = [Optimiser(Muon(hidden, loop_settings.lr), 0),
                  Optimiser(torch.optim.AdamW(others, lr=loop_settings.lr / 10, betas=(0.9, 0.98), weight_decay=0), 0)]  # fmt: skip
    states = {"vae": vae, "average": average, "muon": optimisers[0], "adamw": optimisers[1]}
    loop = context.loop("vae", name, loop_settings, states)
    clips, through = validation(context, max(2, settings.validation)), name != "decoder"
    loop.probe("before", lambda _: {k: torch.tensor(v) for k, v in quality(context, vae, clips, through).items()}, 1)
    print(f"{name}: before {shown(loop.probes['before'])}", flush=True)
    pool = Pool(context, settings, loop.step)
    if context.preset.compile:
        compile_blocks(vae)

    def errors(x: Tensor, code: Tensor, rng: Random) -> dict[str, Tensor]:
        with context.precision():
            z = vae.encode(x).float() if through else code
            if name == "encoder":
                return {"loss": F.mse_loss(z, code)}
            y = vae.decode(z + settings.latent_noise * rng.normal_like(z)).float()
        late = loop.step >= settings.late_from
        pictures = picture_loss(y, x, settings.late_change_weight if late else settings.change_weight, settings.square_weight)
        if name == "decoder":
            return {"loss": pictures}
        distance = F.mse_loss(z, code)
        return {"loss": pictures + settings.anchor * distance, "pictures": pictures, "distance": distance}

    def step(rng: Random) -> dict[str, Tensor]:
        made = errors(*batch(pool, codec, rng, loop_settings.batch, settings.crop, loop.step), rng)
        made["loss"].backward()
        for optimiser in optimisers:
            optimiser.step(loop.rate())
        average.update(loop.step)
        if settings.watch and (loop.step + 1) % settings.watch == 0:
            seen = quality(context, average.module, clips[:2], through)
            print(f"{name}: step {loop.step + 1}, {loop.seconds:.0f} s, two clips: {shown(seen)}", flush=True)
        return made

    def keep() -> None:
        pool.close()
        vae.load_state_dict(mixed(before, average.module.state_dict(), settings.init_share))
        context.save_model(vae, context.path("vae", "vae.safetensors"))
        if name == "joint":
            mean, std = statistics(context, vae, pool.videos[:256])
            write_json(context.path("vae", "latents.json"), {"mean": mean.tolist(), "std": std.tolist()})

    report = context.train(loop, step, keep)
    report |= {k: round(v, 3) for k, v in quality(context, vae, clips, through).items()}
    print(f"vae: {shown(report)} {'through both halves' if through else 'from codec latents'}", flush=True)
    return report


def shown(figures: dict[str, float]) -> str:
    return f"{figures['psnr']:.2f} dB, seam {figures['seam']:.3f}"


def validation(context: Context, count: int) -> list[Tensor]:
    """Whole unseen clips [1, 3, T, H, W]."""
    video = context.preset.video
    made = (make_clip((context.seed, 31, i), VALIDATION_FRAMES, video.width, video.height) for i in range(count))
    return [to_videos(context.host(clip)[None]) for clip in made]


@torch.no_grad()
def quality(context: Context, vae: WanVAE, clips: list[Tensor], with_encoder: bool) -> dict[str, float]:
    """Mean PSNR in dB and `seam` over clips: of the decoder on codec latents, or of decoder after encoder."""
    codec, figures = context.codec(), []
    with context.precision(), untuned():
        for x in clips:
            y = vae.decode(vae.encode(x).float() if with_encoder else encode(codec, x)).float()
            figures.append((psnr(y, x), seam(y.clamp(-1, 1)) / seam(x)))
    return dict(zip(("psnr", "seam"), np.mean(figures, 0).tolist()))


def seam(video: Tensor) -> float:
    """How much changes from the frames of one latent to those of the next, over how much does among them."""
    change = video.diff(dim=2).abs().mean((0, 1, 3, 4))
    borders = change[::4]
    return (borders.mean() / ((change.sum() - borders.sum()) / (len(change) - len(borders))).clamp_min(1e-9)).item()


def untuned() -> contextlib.AbstractContextManager:
    """For shapes that come seldom: takes cuDNN's first guess instead of trying all its algorithms."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=True)


@torch.no_grad()
def statistics(context: Context, vae: WanVAE, clips: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C] of the latents of clips, uint8 [n, T, H, W, 3]."""
    with context.precision(), untuned():
        latents = torch.cat([vae.encode(to_videos(part)).float() for part in clips.split(4)])
    return latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))


def encoder(context: Context) -> Callable[[Tensor], Tensor]:
    """The trained encoder: uint8 [n, T, H, W, 3] -> latents [n, C, t, h, w] as the DiT sees them."""
    vae, (mean, std) = context.vae(), context.statistics()

    @torch.no_grad()
    def latents(clips: Tensor) -> Tensor:
        with context.precision():
            z = vae.encode(to_videos(clips.to(context.device)))
        return (z.float() - mean) / std

    return latents


def vae(context: Context, settings: VaeStage) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        model = WanVAE(**vars(context.preset.vae))
        initialise(model)
    if settings.init:
        model.load_state_dict(widened_vae(read_weights(context.given(settings.init)), model))
    model = channels_last(model.to(context.device))
    report: dict[str, Any] = {"parameters": parameters(model)}
    for name in ("decoder", "encoder", "joint"):
        if loop_settings := getattr(settings, name):
            report[name] = train(context, settings, model, name, loop_settings)
    return report
