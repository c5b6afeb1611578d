"""Write a model package from the trained parts (format: docs/model-package.md).

    python -m longlive_training.export --text RUN --dit RUN/dit --vae RUN/vae --out models/pocket [--evaluation FILE]

Matrices are stored as BF16; norms, biases and modulation stay F32. README.md, the model card, is written from the
reports of the training runs.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .train_dit import CONFIG as DIT
from .train_dit import SAMPLING
from .train_text import CONFIG as TEXT
from .world import FPS

NAME, TITLE, LICENSE = "pocket", "Pocket", "Apache-2.0"
DESCRIPTION = "A small LongLive model of a drawn side-view world, trained from scratch; real time on two CPU cores."
VIDEO = {"width": 192, "height": 112, "fps": FPS}
ROPE_TABLE = 1024


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def camel_keys(section: dict) -> dict:
    return {camel(k): v for k, v in section.items()}


def stored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    def narrow(name: str, tensor: Tensor) -> bool:
        return tensor.dim() > 1 and not name.endswith(("modulation", "gamma", "pos_embedding.embedding.weight"))

    return {k: (v.bfloat16() if narrow(k, v) else v.float()).contiguous() for k, v in tensors.items()}


def config(vocab_size: int, vae: dict, mean: list[float], std: list[float]) -> dict:
    dit = {"in_dim": 16, "out_dim": 16, "freq_dim": 256, "patch_size": [1, 2, 2], "eps": 1e-6, "rope_theta": 10000, "rope_table_length": ROPE_TABLE} | DIT
    return {
        "formatVersion": 1,
        "dit": camel_keys(dit),
        "textEncoder": camel_keys({"vocab_size": vocab_size} | TEXT),
        "vae": camel_keys(vae | {"mean": mean, "std": std}),
        "tinyVae": None,
        "sampling": camel_keys(vars(SAMPLING)),
        "video": VIDEO,
    }


def manifest(folder: Path, version: str) -> dict:
    files = sorted(p for p in folder.iterdir() if p.name not in ("manifest.json", "README.md"))
    return {
        "formatVersion": 1,
        "name": NAME,
        "version": version,
        "title": TITLE,
        "description": DESCRIPTION,
        "license": LICENSE,
        "createdAt": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "files": {p.name: {"bytes": p.stat().st_size, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()} for p in files},
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="folder with tokenizer.json and text_encoder.safetensors")
    parser.add_argument("--dit", type=Path, required=True, help="folder with dit.safetensors")
    parser.add_argument("--vae", type=Path, required=True, help="folder with final.safetensors and stats.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--version", default="0.1.0")
    parser.add_argument("--evaluation", type=Path, help="JSON report of longlive_training.evaluate for the model card")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    stats = json.loads((args.vae / "stats.json").read_text())
    for source, target in ((args.dit / "dit", "dit"), (args.text / "text_encoder", "text_encoder"), (args.vae / "final", "vae")):
        save_file(stored(load_file(source.with_suffix(".safetensors"))), args.out / f"{target}.safetensors")
    shutil.copyfile(args.text / "tokenizer.json", args.out / "tokenizer.json")
    vocab_size = len(json.loads((args.out / "tokenizer.json").read_text())["model"]["vocab"])
    vae = {"dim": stats["dim"], "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "temporal_downsample": [False, True, True]}
    (args.out / "config.json").write_text(json.dumps(config(vocab_size, vae, stats["mean"], stats["std"]), indent=2) + "\n")
    (args.out / "manifest.json").write_text(json.dumps(manifest(args.out, args.version), indent=2) + "\n")
    for path in args.out.iterdir():
        path.chmod(0o644)
    total = sum(p.stat().st_size for p in args.out.iterdir())
    print(f"{args.out}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
