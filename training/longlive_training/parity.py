"""Records what PyTorch computes with a package, as a case for the native core: `native/build/parity DIR` replays it.

    python -m longlive_training.parity --package models/pocket --out DIR [--blocks 5]

The case is a roll-out in float32 with a prompt switch: noise, texts, the clean latents of every call, and the counters of the
cache.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from .inference import Package
from .sample import Generator

PROMPTS = {"A": "a red fox walks on grass by day", "B": "a blue robot runs on snow at night"}


class Recorder(Generator):
    """A generator that notes every call of the network."""

    def __init__(self, *arguments, prompt: str):
        self.calls: list[dict] = []
        self.tensors: dict[str, Tensor] = {}
        self.prompt, self.step = prompt, 0
        super().__init__(*arguments)

    def note(self, kind: str, frames: int, start: int) -> dict:
        tokens = self.cache.tokens_per_frame
        call = {"call": len(self.calls), "kind": kind, "block": self.index, "num_frames": frames, "prompt": self.prompt,
                "current_start_token": start * tokens, "global_end_index_after": self.cache.global_end,
                "local_end_index_after": self.cache.local_end}  # fmt: skip
        self.calls.append(call)
        return call

    def _run(self, latents: Tensor, t: float, start: int, write_sink: bool = False) -> Tensor:
        flow = super()._run(latents, t, start, write_sink)
        steps = self.sampling.steps()
        if latents.shape[2] > self.sampling.frames_per_block or self.switching:
            self.note("recache", latents.shape[2], start)
        elif self.step < len(steps):
            call = self.note("denoise", latents.shape[2], start)
            clean = (latents.double() - steps[self.step][1] * flow.double()).to(latents.dtype)
            self.tensors[f"outputs.call{call['call']}.x0"] = clean.transpose(1, 2).contiguous()
            self.step += 1
        else:
            self.note("clean", latents.shape[2], start)
            self.step = 0
        return flow

    switching = False

    def switch(self, text: Tensor) -> None:
        self.switching = True
        super().switch(text)
        self.switching = False


@torch.inference_mode()
def record(package: Package, out: Path, blocks: int, switch_at: int, name: str = "package") -> None:
    """Writes NAME.json, NAME.safetensors and NAME_weights.safetensors. The package must be in float32."""
    sampling, config = package.sampling, package.dit.config
    h, w = (package.video[k] // 8 for k in ("height", "width"))
    source = torch.Generator().manual_seed(5)
    shape = (1, config["in_dim"], sampling.frames_per_block, h, w)
    noise = {(b, s): torch.randn(shape, generator=source) for b in range(blocks) for s in range(len(sampling.steps()))}
    texts = {key: package.text([text]) for key, text in PROMPTS.items()}
    recorder = Recorder(package.dit, sampling, texts["A"], lambda b, s: noise[b, s], prompt="A")
    made = []
    for block in range(blocks):
        if block == switch_at:
            recorder.prompt = "B"
            recorder.switch(texts["B"])
        made.append(recorder.block())
    tokens = (h // 2) * (w // 2)
    tensors = recorder.tensors | {f"inputs.text.{k}": v[0] for k, v in texts.items()}
    tensors["inputs.noise"] = torch.cat([noise[b, 0] for b in range(blocks)], 2).transpose(1, 2)
    tensors |= {f"inputs.renoise.block{b}.step{s - 1}": v[0].transpose(0, 1) for (b, s), v in noise.items() if s > 0}
    tensors["outputs.latents"] = torch.cat(made, 2).transpose(1, 2)
    window = sampling.window_frames * tokens
    run = {"latent_h": h, "latent_w": w, "local_attn_size": sampling.window_frames, "num_frame_per_block": sampling.frames_per_block,
           "sink_size": sampling.sink_frames, "relative_rope": sampling.rope == "relative", "global_sink": sampling.global_sink,
           "timestep_shift": sampling.timestep_shift, "denoising_step_list": sampling.denoising_steps,
           "warp_denoising_step": sampling.warp_denoising_steps, "context_noise": sampling.context_noise, "kv_cache_tokens": window,
           "max_attention_size_tokens": window}  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / f"{name}.safetensors")
    save_file({f"weights.{k}": v.contiguous() for k, v in package.dit.state_dict().items()}, out / f"{name}_weights.safetensors")
    case = {"case": name, "kind": "pipeline", "weights_file": f"{name}_weights.safetensors", "config": config | {"patch_size": list(config["patch_size"])},
            "run": run, "calls": recorder.calls}  # fmt: skip
    (out / f"{name}.json").write_text(json.dumps(case, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--blocks", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    record(Package(args.package, torch.float32), args.out, args.blocks, args.blocks // 2)


if __name__ == "__main__":
    main()
