"""Stage 2: the Wan VAE learns to be the inverse (decoder) and the equal (encoder) of the linear code that defines the latents.

The decoder sees codec latents with a little noise, so that it forgives small errors of the DiT, and is trained against the
rendered frames and their changes; the encoder is regressed to the latents. Convolutions are trained with Muon, the rest with AdamW.
"""

from __future__ import annotations

import math
import os
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
from ..loop import Average, Optimiser, Random
from ..models.vae import ResidualBlock, WanVAE
from ..muon import Muon
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


def channels_last(vae: WanVAE) -> WanVAE:
    for p in vae.parameters():
        if p.dim() == 5:
            p.data = p.data.contiguous(memory_format=torch.channels_last_3d)
    return vae


def picture_loss(y: Tensor, x: Tensor, change_weight: float) -> Tensor:
    """L1 and squared error of pixels, L1 of their differences in space and time and of a quarter-size picture, and of how much changes
    from frame to frame. [B, 3, T, H, W].

    Four frames come from one latent. A decoder that is only asked for pixels lets too little change among them and too much from one
    latent to the next, which is seen as a seam; `change_weight` is how much that counts."""
    error = y - x
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    motion = error.diff(dim=-3).abs().mean()
    change, true_change = (v.diff(dim=-3).abs().mean((1, 3, 4)) for v in (y, x))  # [B, T - 1]
    coarse = F.avg_pool3d(error, (1, 4, 4)).abs().mean()
    return error.abs().mean() + error.square().mean() + 0.3 * edges + 0.6 * motion + change_weight * (change - true_change).abs().mean() + 0.3 * coarse


def psnr(y: Tensor, x: Tensor) -> float:
    """dB between videos in [-1, 1]; y is clamped."""
    return -10 * math.log10(((y.clamp(-1, 1) - x) / 2).square().mean().item())


def to_tensor(clip: np.ndarray) -> Tensor:
    """uint8 [T, H, W, 3] -> float [3, T, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(clip)).permute(3, 0, 1, 2).float() / 127.5 - 1


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
    """Videos [count, 3, T, 8 crop, 8 crop] and their latents; every sixteenth batch is one whole picture. Every second crop
    is in the middle, where the subject is."""
    pool.advance(step)
    _, _, h, w, _ = pool.videos.shape
    if step % 16 == 15:
        cut = pool.videos[rng.numpy.integers(pool.size, size=1)]
    else:
        side, parts = crop * PATCH, []
        for i in range(count):
            y = PATCH * int(rng.numpy.integers((h - side) // PATCH + 1))
            room = (w - side) // PATCH
            x = PATCH * int(rng.numpy.integers(room // 4, max(room // 2, room // 4) + 1) if (step + i) % 2 else rng.numpy.integers(room + 1))
            parts.append(pool.videos[rng.numpy.integers(pool.size), :, y : y + side, x : x + side])
        cut = torch.stack(parts)
    videos = (cut.permute(0, 4, 1, 2, 3).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last_3d)
    return videos, encode(codec, videos)


class Part(nn.Module):
    """The trained half of the VAE: what is averaged and saved."""

    def __init__(self, *modules: nn.Module):
        super().__init__()
        self.parts = nn.ModuleList(modules)


def train_part(context: Context, settings: VaeStage, vae: WanVAE, name: str, loop_settings: LoopSettings) -> dict[str, Any]:
    codec = context.codec()
    part = Part(vae.decoder, vae.conv2) if name == "decoder" else Part(vae.encoder, vae.conv1)
    average = Average(part, loop_settings.ema or 0.997)
    hidden = [p for p in part.parameters() if p.dim() >= 4 and min(p.shape[:2]) > 3]
    others = [p for p in part.parameters() if not any(p is h for h in hidden)]
    optimisers = [Optimiser(Muon(hidden, loop_settings.lr), 0),
                  Optimiser(torch.optim.AdamW(others, lr=loop_settings.lr / 10, betas=(0.9, 0.98), weight_decay=0), 0)]  # fmt: skip
    states = {"part": part, "average": average, "muon": optimisers[0], "adamw": optimisers[1]}
    loop = context.loop("vae", name, loop_settings, states)
    pool = Pool(context, settings, loop.step)
    forward = vae.decode if name == "decoder" else vae.encode
    if context.preset.compile:
        forward = torch.compile(forward, dynamic=False)

    def step(rng: Random) -> dict[str, Tensor]:
        x, z = batch(pool, codec, rng, loop_settings.batch, settings.crop, loop.step)
        with context.precision():
            y = forward(z + settings.latent_noise * rng.normal_like(z) if name == "decoder" else x)
        change_weight = settings.late_change_weight if loop.step >= settings.late_from else settings.change_weight
        error = picture_loss(y.float(), x, change_weight) if name == "decoder" else F.mse_loss(y.float(), z)
        error.backward()
        for optimiser in optimisers:
            optimiser.step(loop.rate())
        average.update(loop.step)
        return {"loss": error}

    report = context.train(loop, step)
    pool.close()
    part.load_state_dict(average.module.state_dict())
    return report


@torch.no_grad()
def quality(context: Context, vae: WanVAE, count: int, with_encoder: bool) -> float:
    """Mean PSNR in dB over whole unseen clips: of the decoder on codec latents, or of decoder after encoder."""
    video, codec, figures = context.preset.video, context.codec(), []
    for i in range(count):
        x = to_tensor(make_clip((context.seed, 31, i), VALIDATION_FRAMES, video.width, video.height))[None].to(context.device)
        with context.precision():
            y = vae.decode(vae.encode(x) if with_encoder else encode(codec, x)).float()
        figures.append(psnr(y, x))
    return float(np.mean(figures))


def vae(context: Context, settings: VaeStage) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        model = WanVAE(**vars(context.preset.vae))
        initialise(model)
    if settings.init:
        model.load_state_dict(read_weights(context.given(settings.init)))
    model = channels_last(model.to(context.device))
    report: dict[str, Any] = {"parameters": parameters(model)}
    for name, loop_settings in (("decoder", settings.decoder), ("encoder", settings.encoder)):
        if loop_settings:
            report[name] = train_part(context, settings, model, name, loop_settings)
            report[name]["psnr"] = round(quality(context, model, settings.validation, with_encoder=name == "encoder"), 2)
            print(f"vae: {report[name]['psnr']} dB {'from codec latents' if name == 'decoder' else 'through both halves'}", flush=True)
    context.save_model(model, context.path("vae", "vae.safetensors"))
    return report
