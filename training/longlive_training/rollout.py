"""Roll-outs that are trained through: a causal student makes video block by block from its own past (Self-Forcing).

Every block passes the first denoising steps without gradient, one step with it, and gives that step's x0. Then its clean
latents pass once more without gradient, so that the cache holds what inference would hold; the gradient of later blocks
reaches the trained step through that cache (`GraphCache`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .loop import Random
from .models.dit import CausalDiT, GraphCache
from .sample import Sampling


class Rollout:
    """Endless videos, one per row of a batch, with the cache kept from one call of `roll` to the next.

    shape: (batch, channels, height, width) of a latent frame. dtype: of the cache.
    """

    def __init__(self, model: CausalDiT, sampling: Sampling, shape: tuple[int, int, int, int], dtype: torch.dtype = torch.float32):
        self.model, self.sampling, self.shape, self.dtype = model, sampling, shape, dtype
        self.steps = sampling.steps()
        # The reference notes a clean block at the lowest level of its table, which is not quite zero.
        self.context_sigma = sampling.schedule()[0][-1].item()
        self.frames = 0
        self.restart()

    def restart(self) -> None:
        s, (batch, channels, h, w) = self.sampling, self.shape
        self.cache = GraphCache(self.model, batch, (h // 2) * (w // 2), s.window_frames, s.sink_frames, s.rope == "relative", self.dtype)
        self.recent = torch.zeros(batch, channels, 0, h, w, device=self.model.device)  # clean latents, as many as the window holds
        self.frames = 0

    def call(self, latents: Tensor, t: float, text: list, start: int, write_sink: bool = False) -> Tensor:
        times = torch.full((latents.shape[0], latents.shape[2]), t, device=latents.device)
        return self.model(latents, times, text, self.cache, start, write_sink).float()

    @torch.no_grad()
    def recache(self, text: Tensor) -> None:
        """A prompt switch: what the window holds is computed anew under the new text [B, L, dim], as at inference."""
        if not self.sampling.global_sink:
            self.cache.clear()
        if self.frames:
            keys = self.model.encode_text(text[:, None])
            self.call(self.recent, self.sampling.context_noise, keys, self.frames - self.recent.shape[2], not self.sampling.global_sink)

    def roll(self, blocks: int, text: Tensor, exit_step: int, rng: Random, grad: bool) -> Tensor:
        """The next latents [B, C, blocks * frames_per_block, h, w]: the x0 of `exit_step`, with gradient if asked for."""
        self.cache.detach()
        batch, channels, h, w = self.shape
        count = self.sampling.frames_per_block
        with torch.set_grad_enabled(grad):
            keys = self.model.encode_text(text[:, None])
        made = []
        for _ in range(blocks):
            x = rng.normal(batch, channels, count, h, w)
            for step, (t, sigma) in enumerate(self.steps[: exit_step + 1]):
                with torch.set_grad_enabled(grad and step == exit_step):
                    clean = x - sigma * self.call(x, t, keys, self.frames)
                if step < exit_step:
                    following = self.steps[step + 1][1]
                    x = (1 - following) * clean + following * rng.normal_like(clean)
            made.append(clean)
            with torch.no_grad():
                noted = (1 - self.context_sigma) * clean.detach() + self.context_sigma * rng.normal_like(clean)
                self.call(noted, self.sampling.context_noise, keys, self.frames)
                self.recent = torch.cat([self.recent, clean.detach()], 2)[:, :, -self.sampling.window_frames :]
            self.frames += count
        return torch.cat(made, 2)

    # --- state of a roll-out that goes on after an interruption ---------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {"k": [k.detach() for k in self.cache.k], "v": [v.detach() for v in self.cache.v], "global_end": self.cache.global_end,
                "local_end": self.cache.local_end, "recent": self.recent, "frames": self.frames}  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.cache.k, self.cache.v = list(state["k"]), list(state["v"])
        self.cache.global_end, self.cache.local_end = state["global_end"], state["local_end"]
        self.recent, self.frames = state["recent"], state["frames"]
