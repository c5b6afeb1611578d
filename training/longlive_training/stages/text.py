"""Stage 3, first half: the text encoder.

The mean of the token embeddings has to tell every attribute of the scene (one linear classifier each), and two captions of the
same scene have to be closer to each other than to those of other scenes. The classifiers are thrown away.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..captions import caption
from ..config import TextEncoder, TextStage
from ..context import Context, parameters
from ..data import to_indices
from ..loop import Optimiser, Random, adamw
from ..models.umt5 import UMT5Encoder
from ..tokenizer import PAD, UNK, encode
from ..world import ATTRIBUTES, sample_attributes

UNKNOWN = 0.05  # share of pieces that are replaced by the unknown one


def initialise(encoder: UMT5Encoder, settings: TextEncoder) -> None:
    for name, weight in encoder.named_parameters():
        if weight.dim() == 2:
            scale = 0.02 if "pos_embedding" in name else 1.0 if "token" in name else weight.shape[1] ** -0.5
            nn.init.normal_(weight, std=scale * (settings.dim // settings.num_heads) ** -0.5 if "attn.q" in name else scale)


def pooled(embeddings: Tensor, mask: Tensor) -> Tensor:
    return embeddings.sum(1) / mask.sum(1, keepdim=True)


def accuracy(encoder: UMT5Encoder, heads: nn.ModuleList, tokenizer: Tokenizer, length: int, split: str, count: int = 500) -> dict[str, float]:
    """Share of captions whose attributes are told rightly, by attribute."""
    rng = np.random.default_rng(12345)
    scenes = [sample_attributes(rng) for _ in range(count)]
    ids, mask = encode(tokenizer, [caption(s, rng, full=True, split=split) for s in scenes], length)
    with torch.inference_mode():
        pool = pooled(encoder(ids, mask), mask)
        guesses = torch.stack([head(pool).argmax(1) for head in heads], 1)
    return dict(zip(ATTRIBUTES, (guesses == to_indices(scenes).long()).float().mean(0).tolist()))


def text(context: Context, settings: TextStage) -> dict[str, Any]:
    preset, device, batch = context.preset, context.device, settings.loop.batch
    tokenizer = Tokenizer.from_file(str(context.need("world", "tokenizer.json")))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        encoder = UMT5Encoder(tokenizer.get_vocab_size(), **vars(preset.text_encoder))
        initialise(encoder, preset.text_encoder)
        heads = nn.ModuleList(nn.Linear(preset.text_encoder.dim, len(values)) for values in ATTRIBUTES.values())
    encoder, heads = encoder.to(device), heads.to(device)
    optimiser = Optimiser(adamw([encoder, heads], settings.loop), settings.loop.clip)
    loop = context.loop("text", "text", settings.loop, {"encoder": encoder, "heads": heads, "optimiser": optimiser})

    def step(rng: Random) -> dict[str, Tensor]:
        scenes = [sample_attributes(rng.numpy) for _ in range(batch)]
        ids, mask = encode(tokenizer, [caption(s, rng.numpy, full=rng.numpy.random() < 0.8) for s in scenes + scenes], preset.text_len)
        longest = int(mask.sum(1).max())
        ids, mask = ids[:, :longest].to(device), mask[:, :longest].to(device)
        ids = torch.where((rng.uniform(*ids.shape) < UNKNOWN) & (ids > PAD + 1), UNK, ids)
        pool = pooled(encoder(ids, mask), mask)
        labels = to_indices(scenes + scenes).long().to(device)
        classify = sum(F.cross_entropy(head(pool), labels[:, i]) for i, head in enumerate(heads))
        a, b = F.normalize(pool, dim=1).split(batch)
        contrast = F.cross_entropy(a @ b.T * 10, torch.arange(batch, device=device))
        (classify + 0.5 * contrast).backward()
        optimiser.step(loop.rate())
        return {"classify": classify, "contrast": contrast}

    report = context.train(loop, step)
    encoder, heads = encoder.eval().cpu(), heads.cpu()
    context.save_model(encoder, context.path("text", "text_encoder.safetensors"))
    shares = {split: accuracy(encoder, heads, tokenizer, preset.text_len, split) for split in ("train", "test")}
    return report | {"parameters": parameters(encoder), "accuracy": shares}
