"""Pictures of the reference implementation, for `longlive models verify NAME --reference FILE`.

Runs in a checkout of the official repository (NVlabs/LongLive, branch v1.0). It needs the environment of that repository (PyTorch with
CUDA, peft, omegaconf), its weights, and an NVIDIA GPU.

It has not been run as a whole, because the weights were not at hand. What has been tried: its noise is that of the native core, bit for
bit, and longlive models verify reads the file that it writes. How it loads and runs the pipeline was only written against the sources.

    longlive models verify NAME --report verify.html        # says in verify.json which films are asked for
    cd LongLive && python .../bench/reference_frames.py --report .../verify.json --config configs/longlive_interactive_inference.yaml \
        --out reference.safetensors
    longlive models verify NAME --report verify.html --reference reference.safetensors

Two films can only be compared picture by picture when they are made of the same noise. So the reference is given ours: Philox
numbers of (seed, block, step, position), see native/ops/noise.h, instead of torch.randn.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from pathlib import Path

import numpy as np

LATENT_CHANNELS, STRIDE, BLOCK = 16, 8, 3


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10 (Salmon et al., SC 2011) of counters, uint64 [n, 4] that hold 32 bits each."""
    x = [counter[:, i].copy() for i in range(4)]
    low = np.uint64(0xFFFFFFFF)
    k = [np.uint64(key[0]), np.uint64(key[1])]
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * x[0], np.uint64(0xCD9E8D57) * x[2]
        x = [(q >> np.uint64(32)) ^ x[1] ^ k[0], q & low, (p >> np.uint64(32)) ^ x[3] ^ k[1], p & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return np.stack(x, axis=1)


def gaussian(count: int, seed: int, block: int, step: int) -> np.ndarray:
    """What the native core draws for a block: step 0 begins it, step k is mixed in behind the k-th of its denoising steps."""
    index = np.arange((count + 3) // 4, dtype=np.uint64)
    counter = np.empty((len(index), 4), np.uint64)
    counter[:, 0], counter[:, 1] = index & np.uint64(0xFFFFFFFF), index >> np.uint64(32)
    counter[:, 2], counter[:, 3] = block, step
    bits = philox(counter, (seed & 0xFFFFFFFF, seed >> 32)).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((bits[:, 0::2] + 1.0) * 2.0**-32))
    angle = 2.0 * np.pi * bits[:, 1::2] * 2.0**-32
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
    return pairs.reshape(-1)[:count].astype(np.float32)


def write_safetensors(path: Path, films: dict[str, np.ndarray], made: str) -> None:
    """Films of uint8 [pictures, height, width, 3]."""
    header: dict[str, object] = {"__metadata__": {"made": made}}
    start = 0
    for name, frames in films.items():
        header[f"{name}.frames"] = {"dtype": "U8", "shape": list(frames.shape), "data_offsets": [start, start + frames.size]}
        start += frames.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for frames in films.values():
            file.write(np.ascontiguousarray(frames, np.uint8).tobytes())


class Noise:
    """torch.randn_like while a film is made: the reference draws once behind every denoising step but a block's last."""

    def __init__(self, torch, seed: int, steps: int):
        self.torch, self.seed, self.draws, self.original = torch, seed, steps - 1, torch.randn_like
        self.calls = 0

    def __call__(self, like, **_options):
        block, step = self.calls // self.draws, self.calls % self.draws + 1
        self.calls += 1
        values = gaussian(like.numel(), self.seed, block, step)
        return self.torch.from_numpy(values).reshape(like.shape).to(like)

    def __enter__(self):
        self.torch.randn_like = self
        return self

    def __exit__(self, *_error):
        self.torch.randn_like = self.original


def load_pipeline(config, device, torch):
    """As interactive_inference.py of the repository does."""
    import peft
    from pipeline.interactive_causal_inference import InteractiveCausalInferencePipeline
    from utils.lora_utils import configure_lora_for_model

    pipeline = InteractiveCausalInferencePipeline(config, device=device)
    weights = torch.load(config.generator_ckpt, map_location="cpu")["generator_ema" if config.use_ema else "generator"]
    pipeline.generator.load_state_dict({k.replace("_fsdp_wrapped_module.", ""): v for k, v in weights.items()})
    pipeline.is_lora_enabled = bool(getattr(config, "adapter", None))
    if pipeline.is_lora_enabled:
        pipeline.generator.model = configure_lora_for_model(
            pipeline.generator.model, model_name="generator", lora_config=config.adapter, is_main_process=True
        )
        adapter = torch.load(config.lora_ckpt, map_location="cpu")
        peft.set_peft_model_state_dict(pipeline.generator.model, adapter.get("generator_lora", adapter))
    pipeline = pipeline.to(dtype=torch.bfloat16)
    pipeline.generator.to(device=device)
    pipeline.vae.to(device=device)
    return pipeline


def film(pipeline, case: dict, blocks: int, height: int, width: int, device, torch) -> np.ndarray:
    shape = [BLOCK, LATENT_CHANNELS, height // STRIDE, width // STRIDE]
    count = int(np.prod(shape))
    begun = np.stack([gaussian(count, case["seed"], block, 0).reshape(shape) for block in range(blocks)])
    noise = torch.from_numpy(begun.reshape(1, blocks * BLOCK, *shape[1:])).to(device=device, dtype=torch.bfloat16)
    prompts = case["prompts"]
    with Noise(torch, case["seed"], len(pipeline.denoising_step_list)):
        video = pipeline.inference(
            noise=noise,
            text_prompts_list=[[entry["prompt"]] for entry in prompts],
            switch_frame_indices=[entry["block"] * BLOCK for entry in prompts[1:]],
        )
    # [1, pictures, 3, height, width] in 0..1; truncated, as the repository writes its videos.
    return (video[0].permute(0, 2, 3, 1).float().cpu().numpy() * 255.0).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, required=True, help="the JSON that longlive models verify wrote")
    parser.add_argument("--config", type=Path, required=True, help="an interactive inference configuration of the repository")
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    arguments = parser.parse_args()

    sys.path.insert(0, str(Path.cwd()))
    import torch
    from omegaconf import OmegaConf

    report = json.loads(arguments.report.read_text())
    torch.set_grad_enabled(False)
    device = torch.device("cuda")
    pipeline = load_pipeline(OmegaConf.load(arguments.config), device, torch)
    size = report["size"]["height"], report["size"]["width"]
    films = {case["name"]: film(pipeline, case, report["blocks"], *size, device, torch) for case in report["cases"]}
    made = f"NVlabs/LongLive v1.0, {arguments.config.name}, torch {torch.__version__} on {torch.cuda.get_device_name()}"
    write_safetensors(arguments.out, films, made)


if __name__ == "__main__":
    main()
