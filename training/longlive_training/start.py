"""Puts what a preset begins with into the folder of a run: codec, tokenizer, text encoder, VAE and student as if their stages were
done (a preset that trains one replaces it), and the weights that `init` names.

    python -m longlive_training.start --package PACKAGE --codec configs/pocket-0.8/codec.safetensors --out RUN
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from .loop import write_json


def start(package: Path, codec: Path, out: Path) -> None:
    statistics = {k: json.loads((package / "config.json").read_text())["vae"][k] for k in ("mean", "std")}
    write_json(out / "vae" / "latents.json", statistics)
    for source, target in (
        (codec, "world/codec.safetensors"),
        (package / "tokenizer.json", "world/tokenizer.json"),
        (package / "text_encoder.safetensors", "text/text_encoder.safetensors"),
        (package / "vae.safetensors", "vae/vae.safetensors"),
        (package / "dit.safetensors", "causal/dit.safetensors"),
        (package / "vae.safetensors", "start/vae.safetensors"),
        (package / "dit.safetensors", "start/dit.safetensors"),
    ):
        path = out / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True, help="model package to go on from")
    parser.add_argument("--codec", type=Path, required=True, help="the linear code of its latents")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    args = parser.parse_args()
    start(args.package, args.codec, args.out)


if __name__ == "__main__":
    main()
