"""The same 1.3B network in PyTorch on the same device: what bench_gpu's blocks are compared with.

    python bench/gpu/torch_model.py [--blocks N] [--json FILE] [--device cuda|cpu --small]

Random weights in bf16, attention through scaled_dot_product_attention; as it is, through torch.compile, and through
torch.compile with CUDA graphs (mode "reduce-overhead"). A block
is four denoising passes and the context pass over 3 latent frames of 832 x 480 with the window full, decoding left out. The
window is filled by the model as it is; then one block is made again and again, so that nothing is compiled for every new
position, and no keys are moved: in PyTorch's favour.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))
from longlive_training.models.dit import CausalDiT, KVCache  # noqa: E402

FULL = dict(dim=1536, ffn_dim=8960, num_heads=12, num_layers=30, text_dim=4096, text_len=512)
SMALL = dict(dim=96, ffn_dim=256, num_heads=3, num_layers=2, text_dim=64, text_len=16)
BLOCK, WINDOW, SINK, PASSES, FILLED = 3, 12, 3, 5, 6


def variants(model: CausalDiT) -> dict:
    return {
        "eager": lambda: model,
        "compiled": lambda: torch.compile(model, dynamic=False),
        "compiled, graphs": lambda: torch.compile(model, dynamic=False, mode="reduce-overhead"),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--json")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    torch.set_default_device(args.device)
    torch.manual_seed(0)
    config, (h, w) = (SMALL, (4, 6)) if args.small else (FULL, (60, 104))
    dtype = torch.bfloat16
    model = CausalDiT(**config).to(dtype).eval().requires_grad_(False)
    text = model.encode_text(torch.randn(1, 1, config["text_len"], config["text_dim"], dtype=dtype))
    latents = torch.randn(1, 16, BLOCK, h, w, dtype=dtype)
    t = torch.full((1, BLOCK), 625.0)

    def synchronize() -> None:
        if args.device == "cuda":
            torch.cuda.synchronize()

    def blocks(forward) -> list[float]:
        cache = KVCache(model, 1, h // 2 * (w // 2), WINDOW, SINK, relative=False, dtype=dtype)
        for i in range(FILLED):
            model(latents, t, text, cache, start=i * BLOCK)
        times = []
        for _ in range(2 + args.blocks):
            synchronize()
            start = time.perf_counter()
            for _ in range(PASSES):
                forward(latents, t, text, cache, start=(FILLED - 1) * BLOCK)
            synchronize()
            times.append((time.perf_counter() - start) * 1e3)
        return times[2:]  # the first ones compile

    result = {"device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu", "torch": torch.__version__, "values": []}

    def write() -> None:  # after every variant: a compiler may outlast a time limit
        if args.json:
            Path(args.json).write_text(json.dumps(result, indent=1))

    with torch.inference_mode():
        for name, make in variants(model).items():
            try:
                times = blocks(make())
            except Exception as error:  # a compiler that fails is a result too
                print(f"  torch {name}: failed: {error}", flush=True)
                result["values"].append({"name": f"torch {name}: failed", "error": str(error)[:500]})
                write()
                continue
            p50 = statistics.median(times)
            print(f"  torch {name}: block without decode p50 {p50:.2f} ms", flush=True)
            result["values"].append({"name": f"torch {name}: block without decode p50", "value": p50, "unit": "ms"})
            write()


if __name__ == "__main__":
    main()
