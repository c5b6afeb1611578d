"""Streaming long tuning: train on the video as long as it is tested.

A sequence goes on from one training step to the next over its KV cache. Every step makes the next chunk, and the loss looks at
the last window of frames, of which the teacher knows no more than what it was trained on: a short clip. Old frames have no
gradient. Once per sequence the prompt changes at the beginning of a chunk, with the recache of inference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .config import LongStage
from .loop import Random
from .rollout import Rollout


def chunk_ends(settings: LongStage) -> list[int]:
    """Latent frames at which the chunks of a sequence end: 21, 39, 57, ..., 237 for the paper's numbers."""
    return list(range(settings.first_chunk, settings.max_frames + 1, settings.chunk))


def switch_points(settings: LongStage) -> list[int]:
    """Frames at which the prompt may change: chunk ends that are chunk beginnings, up to `last_switch`."""
    ends = chunk_ends(settings)
    return [f for f in ends[:-1] if f <= settings.last_switch]


@dataclass
class Window:
    latents: Tensor  # [B, C, window, h, w], with gradient in the new frames if asked for
    mask: Tensor  # float [window]: frames that count in the loss
    text: Tensor  # [B, L, dim]: the prompt of its newest frames
    start: int  # frame of the sequence at which the new chunk began
    switched: bool  # the prompt changed with this chunk


class Stream:
    """`prompts(rng, batch)` gives embeddings of first and second prompts. `reencode(latents)` gives the last frame of latents
    [B, C, n, h, w] as it would be if the video began with it [B, C, 1, h, w]."""

    def __init__(self, settings: LongStage, rollout: Rollout, prompts: Callable[[Random, int], tuple[Tensor, Tensor]],
                 reencode: Callable[[Tensor], Tensor]):  # fmt: skip
        self.settings, self.rollout, self.prompts, self.reencode = settings, rollout, prompts, reencode
        self.active = False
        self.length = 0  # frames made
        self.switch_at = 0
        self.switched = False
        self.texts: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))
        self.previous = torch.empty(0)  # the last `window` latents, without gradient

    def begin(self, rng: Random) -> None:
        self.rollout.restart()
        self.texts = self.prompts(rng, self.rollout.shape[0])
        self.switch_at = int(rng.shared.choice(switch_points(self.settings)))
        self.switched, self.length, self.active = False, 0, True
        self.previous = self.rollout.recent

    def next(self, rng: Random, exit_step: int, grad: bool) -> Window:
        """Makes the next chunk; a sequence that is full is followed by a new one."""
        s = self.settings
        if not self.active or self.length + s.chunk > s.max_frames:
            self.begin(rng)
        start, count = self.length, s.chunk if self.length else s.first_chunk
        switching = not self.switched and start == self.switch_at  # always the beginning of a chunk
        if switching:
            self.rollout.recache(self.texts[1])
            self.switched = True
        text = self.texts[1] if self.switched else self.texts[0]
        new = self.rollout.roll(count // self.rollout.sampling.frames_per_block, text, exit_step, rng, grad)
        frames = torch.cat([self.previous, new], 2)
        window, kept = frames[:, :, -s.window :], min(count, s.window)
        mask = torch.zeros(s.window, device=new.device)
        if start:
            with torch.no_grad():
                first = self.reencode(frames[:, :, : frames.shape[2] - s.window + 1].detach())
            window = torch.cat([first, window[:, :, 1:]], 2)
            # A replaced frame is not the student's.
            kept = min(kept, s.window - 1)
        mask[-kept:] = 1
        self.previous = frames[:, :, -s.window :].detach()
        self.length += count
        return Window(window, mask, text, start, switching)

    def state_dict(self) -> dict[str, Any]:
        own = {k: getattr(self, k) for k in ("active", "length", "switch_at", "switched", "texts", "previous")}
        return own | {"rollout": self.rollout.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for key in ("active", "length", "switch_at", "switched", "texts", "previous"):
            setattr(self, key, state[key])
        self.rollout.load_state_dict(state["rollout"])
