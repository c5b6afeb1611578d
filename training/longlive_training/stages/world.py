"""Stage 1: the code that defines the latents, and the tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..captions import caption
from ..codec import Codec, patches
from ..config import WorldStage
from ..context import Context
from ..data import render_story, sample_story
from ..tokenizer import train
from ..world import sample_attributes

FIRST_SEED = 1_000_000  # of the stories that the codec is fitted to


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = (a.astype(np.float32) - b) / 255
    return float(-10 * np.log10((error**2).mean()))


def world(context: Context, settings: WorldStage) -> dict[str, Any]:
    folder = context.path("world")
    folder.mkdir(parents=True, exist_ok=True)
    stories = [sample_story(np.random.default_rng([context.seed, FIRST_SEED + i])) for i in range(settings.codec_stories + 1)]
    size = context.preset.video
    videos = [render_story(story, FIRST_SEED + i, size.width, size.height) for i, story in enumerate(stories)]
    torch.manual_seed(context.seed)  # the fit draws random projections
    codec = Codec.fit(torch.cat([patches(v).flatten(0, 2)[::7] for v in videos[:-1]]), context.preset.vae.z_dim)
    codec.save(folder / "codec.safetensors")
    rng = np.random.default_rng([context.seed, 20])
    corpus = [caption(sample_attributes(rng), rng, full=bool(i % 2)) for i in range(settings.captions)]
    tokenizer = train(corpus, context.preset.vocab_size)
    tokenizer.save(str(folder / "tokenizer.json"))
    quality = psnr(codec.decode(codec.encode(videos[-1])), videos[-1])
    print(f"world: the codec gives an unseen story back at {quality:.1f} dB; {tokenizer.get_vocab_size()} pieces of text", flush=True)
    return {"codecPsnr": round(quality, 2), "vocabulary": tokenizer.get_vocab_size()}
