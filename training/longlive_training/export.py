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

from .card import HEADING, pictures, quality_section
from .models.dit import CausalDiT
from .models.umt5 import UMT5Encoder
from .models.vae import WanVAE
from .sample import Sampling
from .train_dit import CONFIG as DIT
from .train_dit import SAMPLING
from .train_text import CONFIG as TEXT
from .world import FPS

NAME, TITLE, LICENSE = "pocket", "Pocket", "Apache-2.0"
DESCRIPTION = "A small LongLive model of a drawn side-view world, trained from scratch; real time on two CPU cores."
WEAKNESSES = [
    "* Small moving parts (legs, wings, faces) are soft: 16 numbers per 4 x 8 x 8 pixels do not hold them, and the decoder invents little.",
    "* A subject that comes out of the puff after a switch is sometimes a blur, most of all one that jumps, at night or in snowfall.",
    "* The seed changes little: every story begins in the same place (training/longlive_training/data.py says why), so the same prompt",
    "  gives nearly the same picture.",
]
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


def config(vocab_size: int, vae: dict, mean: list[float], std: list[float], dit: dict = DIT, text: dict = TEXT,
           sampling: Sampling = SAMPLING, video: dict = VIDEO) -> dict:  # fmt: skip
    common = {"in_dim": 16, "out_dim": 16, "freq_dim": 256, "patch_size": [1, 2, 2], "eps": 1e-6, "rope_theta": 10000, "rope_table_length": ROPE_TABLE}
    return {
        "formatVersion": 1,
        "dit": camel_keys(common | dit),
        "textEncoder": camel_keys({"vocab_size": vocab_size} | text),
        "vae": camel_keys(vae | {"mean": mean, "std": std}),
        "tinyVae": None,
        "sampling": camel_keys(vars(sampling)),
        "video": video,
    }


def manifest(folder: Path, version: str, name: str = NAME, title: str = TITLE, description: str = DESCRIPTION) -> dict:
    files = sorted(p for p in folder.iterdir() if p.name not in ("manifest.json", "README.md"))
    return {
        "formatVersion": 1,
        "name": name,
        "version": version,
        "title": title,
        "description": description,
        "license": LICENSE,
        "createdAt": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "files": {p.name: {"bytes": p.stat().st_size, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()} for p in files},
    }


def write_package(out: Path, parts: dict[str, Path], tokenizer: Path, settings: dict, version: str, **names: str) -> None:
    """Weights (`parts`: dit, text_encoder, vae), tokenizer, config.json and manifest.json; `names`: name, title, description."""
    out.mkdir(parents=True, exist_ok=True)
    for name, path in parts.items():
        save_file(stored(load_file(path)), out / f"{name}.safetensors")
    shutil.copyfile(tokenizer, out / "tokenizer.json")
    (out / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (out / "manifest.json").write_text(json.dumps(manifest(out, version, **names), indent=2) + "\n")
    for path in out.iterdir():
        path.chmod(0o644)


class InvalidPackage(ValueError):
    """A package that does not hold what it says; the message names file and tensor."""


def validate(folder: Path) -> dict[str, int]:
    """Checks sizes and hashes of the files, and that the weights are finite and exactly those that config.json describes.
    Returns the number of parameters of each part."""
    from .inference import snake_keys

    listed = json.loads((folder / "manifest.json").read_text())["files"]
    present = {p.name for p in folder.iterdir()} - {"manifest.json", "README.md"}
    if set(listed) != present:
        raise InvalidPackage(f"{folder}: manifest.json and the folder differ in {', '.join(sorted(set(listed) ^ present))}")
    for name, entry in listed.items():
        data = (folder / name).read_bytes()
        if entry != {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}:
            raise InvalidPackage(f"{folder / name} is not the file that manifest.json lists")
    settings = json.loads((folder / "config.json").read_text())
    dit, text, vae = (snake_keys(settings[k]) for k in ("dit", "textEncoder", "vae"))
    with torch.device("meta"):
        described = {"dit": CausalDiT(**{k: v for k, v in dit.items() if k != "rope_table_length"}), "text_encoder": UMT5Encoder(**text),
                     "vae": WanVAE(**{k: v for k, v in vae.items() if k not in ("mean", "std")})}  # fmt: skip
    counts = {}
    for part, module in described.items():
        tensors, wanted = load_file(folder / f"{part}.safetensors"), module.state_dict()
        for name in sorted(set(tensors) | set(wanted)):
            where = f'{folder / part}.safetensors: tensor "{name}"'
            if name not in tensors or name not in wanted:
                raise InvalidPackage(f"{where} is {'missing' if name in wanted else 'not part of the model'}")
            if tensors[name].shape != wanted[name].shape:
                raise InvalidPackage(f"{where} has the shape {list(tensors[name].shape)}, config.json describes {list(wanted[name].shape)}")
            if not torch.isfinite(tensors[name].float()).all():
                raise InvalidPackage(f"{where} has values that are not finite")
        counts[part] = sum(t.numel() for t in tensors.values())
    pieces = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    if pieces != text["vocab_size"]:
        raise InvalidPackage(f"{folder / 'tokenizer.json'} has {pieces} pieces, config.json says {text['vocab_size']}")
    return counts


def read_report(path: Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


def card(folder: Path, config: dict, vae: dict, text: dict, dit: dict, evaluation: dict) -> str:
    """The model card, from the reports that the training runs wrote."""
    s = config["sampling"]

    def millions(name: str) -> str:
        return f"{sum(v.numel() for v in load_file(folder / f'{name}.safetensors').values()) / 1e6:.2f} M"

    def percent(figures: dict) -> str:
        return ", ".join(f"{name} {value:.1%}" for name, value in figures.items())

    lines = [
        f"# {TITLE}",
        "",
        DESCRIPTION,
        "",
        "It has the architecture and the inference of LongLive (arXiv 2509.22622) at a small size: a UMT5 text encoder, a causal diffusion",
        "transformer with sink, window and KV recache, and the Wan2.1 video VAE. It was trained from random weights on procedurally",
        "drawn videos only; no weights or data of others are in it. It shows the service at work. It is not a general video model:",
        "it knows six subjects, six colours, four actions, five grounds, four skies and three weathers, and draws nothing else.",
        "",
        "## Parts",
        "",
        "| part | parameters |",
        "|---|---|",
        f"| text encoder ({config['textEncoder']['numLayers']} layers, width {config['textEncoder']['dim']}) | {millions('text_encoder')} |",
        f"| DiT ({config['dit']['numLayers']} layers, width {config['dit']['dim']}, {config['dit']['numHeads']} heads) | {millions('dit')} |",
        f"| VAE (width {config['vae']['dim']}) | {millions('vae')} |",
        "",
        f"{VIDEO['width']} x {VIDEO['height']} at {VIDEO['fps']} frames/s; blocks of {s['framesPerBlock']} latent frames, window {s['windowFrames']}, sink {s['sinkFrames']},",
        f"{s['rope']} positions, {len(s['denoisingSteps'])} denoising steps. There is no tiny decoder.",
        "",
        "## How it was made",
        "",
        "Trained on a CPU (bf16 arithmetic, float32 master weights; one thread), from the weights of version 0.1.0, which were made in the same",
        "way from random ones on the world as it was then (every gait and place at random): 79 minutes for the DiT, 45 for the decoder.",
        "",
    ]
    if vae:
        lines.append(f"* VAE: {vae['steps']} steps in {vae['seconds'] / 60:.0f} minutes; reconstructs unseen stories at {vae['psnr']:.1f} dB PSNR.")
    if text:
        lines.append(f"* Text encoder: {text['steps']} steps in {text['seconds'] / 60:.1f} minutes. Attributes read off its mean embedding of captions")
        lines += [f"  ({split} phrasing): {percent(figures)}." for split, figures in text["accuracy"].items()]
    if dit:
        lines += [
            f"* DiT: {dit['steps']} steps of {dit['batch']} stories in {dit['minutes']:.0f} minutes, {dit['blocks_seen']} blocks seen from {dit['stories']} encoded",
            f"  stories, peak learning rate {dit['lr']}. Loss at the end: " + ", ".join(f"{k} {v:.3f}" for k, v in dit["loss"].items()) + ".",
        ]
    lines += ["", "The commands are in `training/README.md`.", ""]
    lines += quality_section(evaluation, pictures(folder, evaluation)) if evaluation else [HEADING, "", "Not measured yet."]
    lines += ["", "## What it does badly", "", *WEAKNESSES]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="folder with tokenizer.json and text_encoder.safetensors")
    parser.add_argument("--dit", type=Path, required=True, help="folder with dit.safetensors")
    parser.add_argument("--vae", type=Path, required=True, help="folder with vae.safetensors and stats.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--version", default="0.1.0")
    parser.add_argument("--evaluation", type=Path, help="JSON report of `npm run bench:adherence` for the model card; card.py puts a later one in")
    args = parser.parse_args(argv)
    stats = json.loads((args.vae / "stats.json").read_text())
    vocab_size = len(json.loads((args.text / "tokenizer.json").read_text())["model"]["vocab"])
    vae = {"dim": stats["dim"], "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "temporal_downsample": [False, True, True]}
    settings = config(vocab_size, vae, stats["mean"], stats["std"])
    sources = {"dit": args.dit / "dit", "text_encoder": args.text / "text_encoder", "vae": args.vae / "vae"}
    write_package(args.out, {k: v.with_suffix(".safetensors") for k, v in sources.items()}, args.text / "tokenizer.json", settings, args.version)
    reports = {"vae": stats if "psnr" in stats else {}, "text": read_report(args.text / "text_encoder.json"), "dit": read_report(args.dit / "dit.json")}
    evaluation = read_report(args.evaluation) if args.evaluation else {}
    (args.out / "README.md").write_text(card(args.out, settings, **reports, evaluation=evaluation))
    (args.out / "README.md").chmod(0o644)
    validate(args.out)
    total = sum(p.stat().st_size for p in args.out.iterdir())
    print(f"{args.out}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
