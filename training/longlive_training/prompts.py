"""Texts as the networks need them: tokenised, for trainings ahead, and embedded on the device by the frozen encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from .captions import caption
from .config import ConfigError, TextEncoder
from .data import from_indices, sample_story
from .loop import Random
from .models.umt5 import UMT5Encoder
from .tokenizer import PAD, encode

FULL = 0.85  # share of captions that name every attribute


class Embedder:
    """ids [..., L] -> embeddings [..., L, dim] whose rows behind the end are zero."""

    def __init__(self, tokenizer: Path, weights: Path, settings: TextEncoder, length: int, device: torch.device):
        self.tokenizer, self.length, self.device = Tokenizer.from_file(str(tokenizer)), length, device
        self.encoder = UMT5Encoder(self.tokenizer.get_vocab_size(), **vars(settings)).eval().requires_grad_(False)
        self.encoder.load_state_dict({k: v.float() for k, v in load_file(weights).items()})
        self.encoder.to(device)

    def tokens(self, texts: list[str]) -> Tensor:
        return encode(self.tokenizer, texts, self.length)[0].to(self.device)

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        flat = ids.reshape(-1, ids.shape[-1])
        return self.encoder(flat, flat != PAD).view(*ids.shape, -1)

    def text(self, texts: list[str]) -> Tensor:
        """[n, L, dim]."""
        return self(self.tokens(texts))


class PromptPairs:
    """Pairs of prompts, the second one to switch to: `sample` gives embeddings [n, L, dim] of each."""

    def __init__(self, embedder: Embedder, first: list[str], second: list[str]):
        self.embedder = embedder
        self.ids = torch.stack([embedder.tokens(first), embedder.tokens(second)], 1)

    @classmethod
    def of_world(cls, embedder: Embedder, count: int, seed: int) -> PromptPairs:
        """Captions of scenes that are not held out; the second scene always differs."""
        rng = np.random.default_rng([seed, 21])
        pairs = []
        while len(pairs) < count:
            a, *_, b = sample_story(rng, 3)
            if a != b:
                pairs.append([caption(scene, rng, full=rng.random() < FULL) for scene in (a, b)])
        return cls(embedder, *map(list, zip(*pairs)))

    @classmethod
    def of_files(cls, embedder: Embedder, first: Path, second: Path) -> PromptPairs:
        texts = [[line.strip() for line in path.read_text().splitlines() if line.strip()] for path in (first, second)]
        if len(texts[0]) != len(texts[1]) or not texts[0]:
            raise ConfigError(f"{first} has {len(texts[0])} prompts and {second} {len(texts[1])}; they are paired line by line")
        return cls(embedder, *texts)

    def sample(self, rng: Random, count: int) -> tuple[Tensor, Tensor]:
        first, second = self.embedder(self.ids[rng.integers(len(self.ids), count)]).unbind(1)
        return first, second


class ClipCaptions:
    """`variants` captions for every block of every clip, as ids [clips, blocks, variants, L]; equal scenes in a row share theirs."""

    def __init__(self, embedder: Embedder, attributes: Tensor, variants: int, seed: int):
        rng = np.random.default_rng([seed, 22])
        texts = []
        for clip in attributes.tolist():
            last = None
            for row in clip:
                if row != last:
                    scene = from_indices(torch.tensor(row))
                    spoken = [caption(scene, rng, full=rng.random() < FULL) for _ in range(variants)]
                texts += spoken
                last = row
        self.ids = embedder.tokens(texts).view(*attributes.shape[:2], variants, -1)

    def sample(self, rng: Random, clips: Tensor) -> Tensor:
        """One variant per clip: ids [n, blocks, L]."""
        variant = rng.integers(self.ids.shape[2], len(clips))
        return self.ids[clips, :, variant]
