"""The four-step sampler of LongLive over a KV cache, with prompt switches.

Noise levels follow Wan's shifted schedule; a block is denoised by predicting x0 and adding fresh noise of the next
level, then run once more at t = 0 so that the cache holds its clean keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .models.dit import CausalDiT, KVCache


@dataclass(frozen=True)
class Sampling:
    """The `sampling` section of a package's config.json. Frames are latent frames."""

    frames_per_block: int = 3
    window_frames: int = 12
    sink_frames: int = 3
    rope: str = "absolute"
    global_sink: bool = True
    timestep_shift: float = 5.0
    denoising_steps: list[int] = field(default_factory=lambda: [1000, 750, 500, 250])
    warp_denoising_steps: bool = True
    context_noise: float = 0

    def schedule(self) -> tuple[Tensor, Tensor]:
        """The table of 1000 (sigma, timestep) pairs in float32: sigma = k s / (1 + (k - 1) s) for shift k."""
        s = torch.linspace(1, 0, 1001)[:-1]
        sigma = self.timestep_shift * s / (1 + (self.timestep_shift - 1) * s)
        return sigma, sigma * 1000

    def steps(self) -> list[tuple[float, float]]:
        """(timestep, sigma) of each denoising step."""
        sigmas, timesteps = self.schedule()
        table = torch.cat([timesteps, torch.zeros(1)])
        chosen = table[[1000 - s for s in self.denoising_steps]] if self.warp_denoising_steps else torch.tensor(self.denoising_steps).float()
        nearest = (timesteps[None] - chosen[:, None]).abs().argmin(1)
        return list(zip(chosen.tolist(), sigmas[nearest].tolist()))


class Generator:
    """One endless video: `block` makes the next latents, `switch` changes the prompt.

    `noise(block, step)` gives the Gaussian [B, C, frames_per_block, h, w] that starts (step 0) or re-noises (step 1..)
    a block. Texts are embeddings [B, text_len, text_dim].
    """

    def __init__(self, model: CausalDiT, sampling: Sampling, text: Tensor, noise: Callable[[int, int], Tensor], dtype=torch.float32):
        self.model, self.sampling, self.noise, self.dtype = model, sampling, noise, dtype
        self.text = model.encode_text(text[:, None].to(dtype))
        self.index = 0  # of the next block
        self.recent: list[Tensor] = []  # clean latents per frame, as many as the window holds
        self.cache: KVCache | None = None

    def _run(self, latents: Tensor, t: float, start: int, write_sink: bool = False) -> Tensor:
        if self.cache is None:
            b, _, _, h, w = latents.shape
            s = self.sampling
            self.cache = KVCache(self.model, b, (h // 2) * (w // 2), s.window_frames, s.sink_frames, s.rope == "relative", self.dtype)
        times = torch.full((latents.shape[0], latents.shape[2]), t, device=latents.device)
        return self.model(latents.to(self.dtype), times, self.text, self.cache, start, write_sink)

    def switch(self, text: Tensor) -> None:
        """The next block follows the new text; what the window holds is computed anew under it (KV recache)."""
        self.text = self.model.encode_text(text[:, None].to(self.dtype))
        if not self.sampling.global_sink and self.cache is not None:
            self.cache.clear()
        if self.recent:
            start = self.index * self.sampling.frames_per_block - len(self.recent)
            self._run(torch.cat(self.recent, 2), self.sampling.context_noise, start, not self.sampling.global_sink)

    def block(self) -> Tensor:
        """Clean latents [B, C, frames_per_block, h, w] of the next block."""
        start = self.index * self.sampling.frames_per_block
        x = x0 = self.noise(self.index, 0)
        for step, (t, sigma) in enumerate(self.sampling.steps()):
            if step > 0:
                x = (1 - sigma) * x0 + sigma * self.noise(self.index, step)
            x0 = (x.double() - sigma * self._run(x, t, start).double()).to(x.dtype)
        self._run(x0, self.sampling.context_noise, start)
        self.recent = (self.recent + list(x0.split(1, dim=2)))[-self.sampling.window_frames :]
        self.index += 1
        return x0

    def blocks(self, count: int) -> Iterator[Tensor]:
        for _ in range(count):
            yield self.block()
