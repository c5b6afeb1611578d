"""The same 1.3B network in PyTorch on the same device: what bench_gpu's blocks are compared with.

    python bench/gpu/torch_model.py [--blocks N] [--json FILE] [--device cuda|cpu] [--small]

Random weights in bf16, attention through scaled_dot_product_attention; as it is and through torch.compile, both also with the passes of a
block captured as one CUDA graph. A block is four denoising passes and the context pass over 3 latent frames of 832 x 480 with the
window full, decoding left out. The window is filled by the model as it is; then one block is made again and again, so that nothing is
compiled for every new position, and no keys are moved: in PyTorch's favour. Attention alone, at the size it has there, is timed with
each of PyTorch's kernels. On the CPU nothing is compiled: that is for tests.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))
from longlive_training.models.dit import CausalDiT, KVCache  # noqa: E402

FULL = dict(dim=1536, ffn_dim=8960, num_heads=12, num_layers=30, text_dim=4096, text_len=512)
SMALL = dict(dim=96, ffn_dim=256, num_heads=3, num_layers=2, text_dim=64, text_len=16)
BLOCK, WINDOW, SINK, PASSES, FILLED = 3, 12, 3, 5, 6
KERNELS = {"default": None, "flash": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION}
DTYPE = torch.bfloat16


class Result:
    """What was measured, written after every entry: a compiler may outlast a time limit."""

    def __init__(self, file: str | None, device: str, small: bool):
        name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
        self.file, self.content = file, {"device": name, "torch": torch.__version__, "small": small, "kernels": [], "values": []}

    def put(self, kind: str, **entry: object) -> None:
        print(" ", *(f"{key} {value:.4g}" if isinstance(value, float) else value for key, value in entry.items()), flush=True)
        self.content[kind].append(entry)
        if self.file:
            Path(self.file).write_text(json.dumps(self.content, indent=1))

    def attempt(self, name: str, measure: Callable[[], None]) -> None:
        try:
            measure()
        except Exception as error:  # a compiler or a kernel that fails is a result too
            self.put("values", name=f"{name}: failed", error=str(error)[:500])


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def milliseconds(run: Callable[[], object]) -> float:
    synchronize()
    start = time.perf_counter()
    run()
    synchronize()
    return (time.perf_counter() - start) * 1e3


class Block:
    """A block of a video whose window is full, to be made again and again."""

    def __init__(self, small: bool):
        config, (h, w) = (SMALL, (4, 6)) if small else (FULL, (60, 104))
        self.model = CausalDiT(**config).to(DTYPE).eval().requires_grad_(False)
        self.text = self.model.encode_text(torch.randn(1, 1, config["text_len"], config["text_dim"], dtype=DTYPE))
        self.latents = torch.randn(1, 16, BLOCK, h, w, dtype=DTYPE)
        self.t = torch.full((1, BLOCK), 625.0)
        self.cache = KVCache(self.model, 1, h // 2 * (w // 2), WINDOW, SINK, relative=False, dtype=DTYPE)
        for i in range(FILLED):
            self.forward(self.model, i)

    def forward(self, model: Callable, index: int) -> None:
        model(self.latents, self.t, self.text, self.cache, start=index * BLOCK)

    def passes(self, model: Callable) -> Callable[[], None]:
        def run() -> None:
            for _ in range(PASSES):
                self.forward(model, FILLED - 1)

        return run

    def newest_keys(self) -> torch.Tensor:
        return self.cache.k[:, :, self.cache.slot : self.cache.local_end]


def captured(run: Callable[[], None], written: torch.Tensor) -> Callable[[], None]:
    """The launches of `run` as one CUDA graph. `written` is what they write: a graph that leaves it alone holds no work."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # compiles, and fills the caches of libraries
        run(), run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    written.zero_()
    graph.replay()
    if not written.any():
        raise RuntimeError("the graph holds no work")
    return graph.replay


def measure_blocks(result: Result, block: Block, count: int, device: str) -> None:
    # Code between two graphs is compiled anew for every layer; with the usual limit of 8 the others would run as they are.
    torch._dynamo.config.recompile_limit, torch._dynamo.config.accumulated_recompile_limit = 128, 4096
    compiled = torch.compile(block.model, dynamic=False)
    variants = {
        "eager": lambda: block.passes(block.model),
        "eager, one CUDA graph": lambda: captured(block.passes(block.model), block.newest_keys()),
        "compiled": lambda: block.passes(compiled),
        "compiled, one CUDA graph": lambda: captured(block.passes(compiled), block.newest_keys()),
    }
    for name, make in variants.items() if device == "cuda" else [("eager", variants["eager"])]:

        def measure(name=name, make=make) -> None:
            run = make()
            times = [milliseconds(run) for _ in range(2 + count)][2:]  # the first ones compile
            result.put("values", name=f"torch {name}: block without decode p50", value=statistics.median(times), unit="ms")

        result.attempt(f"torch {name}", measure)


def measure_attention(result: Result, small: bool) -> None:
    queries, heads, width = (24, 3, 32) if small else (4680, 12, 128)
    keys = 4 * queries
    q, k, v = (torch.randn(1, n, heads, width, dtype=DTYPE).transpose(1, 2) for n in (queries, keys, keys))
    launches = 1 if small else 10
    for name, backend in KERNELS.items():

        def measure(name=name, backend=backend) -> None:
            with sdpa_kernel(backend) if backend else nullcontext():
                times = [milliseconds(lambda: [F.scaled_dot_product_attention(q, k, v) for _ in range(launches)]) for _ in range(8)]
            result.put(
                "kernels",
                name=f"self-attention, keys {keys}, {name}",
                ms=statistics.median(times[1:]) / launches,
                operations=4 * queries * keys * heads * width,
                bytes=2 * 2 * (queries + keys) * heads * width,
            )

        result.attempt(f"torch attention, {name}", measure)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--json")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args(arguments)
    torch.manual_seed(0)
    result = Result(args.json, args.device, args.small)
    with torch.device(args.device), torch.inference_mode():
        measure_attention(result, args.small)
        measure_blocks(result, Block(args.small), args.blocks, args.device)


if __name__ == "__main__":
    main(sys.argv[1:])
