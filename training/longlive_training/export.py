"""Write and check model packages (format: docs/model-package.md).

Matrices are stored as BF16; norms, biases and modulation stay F32.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .models.dit import CausalDiT
from .models.umt5 import UMT5Encoder
from .models.vae import WanVAE
from .sample import Sampling

LICENSE = "Apache-2.0"
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


def config(vocab_size: int, vae: dict, mean: list[float], std: list[float], dit: dict, text: dict, sampling: Sampling, video: dict) -> dict:
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


def manifest(folder: Path, version: str, name: str, title: str, description: str) -> dict:
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


def write_package(out: Path, parts: dict[str, Path], settings: dict, version: str, **names: str) -> None:
    """Adds weights (`parts`: dit, text_encoder, vae), config.json and manifest.json to a tokenizer.json; `names`: name, title, description."""
    for name, path in parts.items():
        save_file(stored(load_file(path)), out / f"{name}.safetensors")
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
                     "vae": WanVAE(**{k: v for k, v in vae.items() if k not in ("mean", "std", "eight_bit")})}  # fmt: skip
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
