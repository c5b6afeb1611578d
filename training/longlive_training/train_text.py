"""Train the text encoder: captions in, attributes out.

    python -m longlive_training.train_text --tokenizer RUN/tokenizer.json --out RUN --minutes 3

The mean of the token embeddings has to tell every attribute of the scene (one linear classifier each), and two captions
of the same scene have to be closer to each other than to those of other scenes. The classifiers are thrown away; the
encoder is frozen and its rows are what the DiT attends to.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from .captions import caption
from .data import to_indices
from .models.umt5 import UMT5Encoder
from .tokenizer import encode
from .world import ATTRIBUTES, sample_attributes

ANCHOR = 1.0  # weight of the relative squared distance to the weights that `--init` names
CONFIG = {"dim": 128, "dim_attn": 128, "dim_ffn": 256, "num_heads": 4, "num_layers": 2, "num_buckets": 32, "max_distance": 128, "eps": 1e-6}


class Text:
    """A frozen encoder with its tokenizer: `text(["..."])` gives embeddings [n, length, dim]."""

    def __init__(self, tokenizer: Path, weights: Path, config: dict, length: int):
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.encoder = UMT5Encoder(self.tokenizer.get_vocab_size(), **config).eval().requires_grad_(False)
        self.encoder.load_state_dict({k: v.float() for k, v in load_file(weights).items()})
        self.length = length

    def __call__(self, texts: list[str]) -> Tensor:
        with torch.no_grad():
            return self.encoder(*encode(self.tokenizer, texts, self.length))


def pooled(embeddings: Tensor, mask: Tensor) -> Tensor:
    return embeddings.sum(1) / mask.sum(1, keepdim=True)


def accuracy(encoder: UMT5Encoder, heads: nn.ModuleList, tokenizer: Tokenizer, length: int, split: str, count: int = 500) -> dict[str, float]:
    rng = np.random.default_rng(12345)
    scenes = [sample_attributes(rng) for _ in range(count)]
    ids, mask = encode(tokenizer, [caption(s, rng, full=True, split=split) for s in scenes], length)
    with torch.inference_mode():
        pool = pooled(encoder(ids, mask), mask)
        guesses = torch.stack([head(pool).argmax(1) for head in heads], 1)
    return dict(zip(ATTRIBUTES, (guesses == to_indices(scenes).long()).float().mean(0).tolist()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--init", type=Path, help="weights to go on from, staying near them so that a DiT trained with them understands the result")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(args.seed)
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    encoder = UMT5Encoder(tokenizer.get_vocab_size(), **CONFIG)
    for name, weight in encoder.named_parameters():
        if weight.dim() == 2:
            scale = 0.02 if "pos_embedding" in name else 1.0 if "token" in name else weight.shape[1] ** -0.5
            nn.init.normal_(weight, std=scale * (CONFIG["dim"] // CONFIG["num_heads"]) ** -0.5 if "attn.q" in name else scale)
    anchor = None
    if args.init:
        encoder.load_state_dict({k: v.float() for k, v in load_file(args.init).items()})
        anchor = copy.deepcopy(encoder).requires_grad_(False).eval()
    heads = nn.ModuleList(nn.Linear(CONFIG["dim"], len(values)) for values in ATTRIBUTES.values())
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=args.lr, weight_decay=0.01)
    began, step = time.time(), 0
    while (progress := (time.time() - began) / (60 * args.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * progress))
        scenes = [sample_attributes(rng) for _ in range(args.batch)]
        texts = [caption(s, rng, full=rng.random() < 0.8) for s in scenes + scenes]
        ids, mask = encode(tokenizer, texts, args.length)
        ids, mask = ids[:, : mask.sum(1).max()], mask[:, : mask.sum(1).max()]
        ids = torch.where((torch.rand(ids.shape) < 0.05) & (ids > 1), 2, ids)  # a word may be unknown
        rows = encoder(ids, mask)
        pool = pooled(rows, mask)
        labels = to_indices(scenes + scenes).long()
        classify = sum(F.cross_entropy(head(pool), labels[:, i]) for i, head in enumerate(heads))
        a, b = F.normalize(pool, dim=1).split(args.batch)
        contrast = F.cross_entropy(a @ b.T * 10, torch.arange(args.batch))
        loss = classify + 0.5 * contrast
        if anchor is not None:
            known = anchor(ids, mask)
            loss = loss + ANCHOR * (rows - known).square().sum() / known.square().sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            print(f"step {step} classify {classify.item():.3f} contrast {contrast.item():.3f}", flush=True)
    encoder.eval()
    report = {"steps": step, "seconds": time.time() - began, "length": args.length, "config": CONFIG,
              "accuracy": {split: accuracy(encoder, heads, tokenizer, args.length, split) for split in ("train", "test")}}  # fmt: skip
    print(json.dumps(report, indent=1))
    save_file(encoder.state_dict(), args.out / "text_encoder.safetensors")
    (args.out / "text_encoder.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
