"""Stage 6: the model package, what lower precision costs, and how good it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from ..card import HEADING, pictures, quality_section
from ..config import ExportStage
from ..context import Context
from ..export import InvalidPackage, config, validate, write_package
from ..guide import write_guide
from ..inference import Package
from ..quantize import int8, psnr
from ..sample import Generator

STUDENTS = ["long", "distill", "ode", "causal"]
# Cross-attention rests on the empty rows behind a text, and paints noise when there are almost none, as captions of the world hardly
# ever leave: so a package cuts texts before its rows are full.
SPARE_ROWS = 16


def package_settings(context: Context, settings: ExportStage, vocab_size: int, text_len: int) -> dict[str, Any]:
    p = context.preset
    z, (mean, std) = p.vae.z_dim, (v.flatten().tolist() for v in context.statistics())
    dit = vars(p.student) | {"in_dim": z, "out_dim": z, "text_dim": p.text_encoder.dim, "text_len": text_len}
    return config(vocab_size, vars(p.vae) | {"eight_bit": settings.eight_bit}, mean, std, dit, vars(p.text_encoder), p.sampling, vars(p.video))


@torch.inference_mode()
def precisions(package: Package, blocks: int) -> dict[str, float]:
    """PSNR in dB of a roll-out's latents in bf16 and int8 against float32, with the same noise. `package` is in float32."""
    z, s = package.dit.config["in_dim"], package.sampling
    shape = (1, z, s.frames_per_block, package.video["height"] // 8, package.video["width"] // 8)
    source = torch.Generator().manual_seed(3)
    noise = {(b, i): torch.randn(shape, generator=source) for b in range(blocks) for i in range(len(s.steps()))}
    text = package.text(["a red fox walks on grass by day"])

    def latents(model: torch.nn.Module) -> torch.Tensor:
        return torch.cat(list(Generator(model, s, text, lambda b, i: noise[b, i]).blocks(blocks)), 2)

    full = latents(package.dit)
    with torch.autocast("cpu", torch.bfloat16):
        half = latents(package.dit)
    return {"bf16": round(psnr(half, full), 2), "int8": round(psnr(latents(int8(package.dit)), full), 2)}


def stage_rows(context: Context) -> list[str]:
    """A row of the model card for every stage that left a report."""
    rows = []
    for stage in context.preset.stages:
        path = context.path(stage, "report.json")
        if not path.exists():
            continue
        made = json.loads(path.read_text())
        trained = {f"{stage}, {k}": v for k, v in made.items() if isinstance(v, dict) and "lossFirst" in v} or {stage: made}
        for name, part in trained.items():
            results = [f"{k} {v:.3f} → {part['lossLast'][k]:.3f}" for k, v in part.get("lossFirst", {}).items() if k in part["lossLast"]]
            results = [f"loss, first and last tenth: {', '.join(results)}"] if results else []
            results += [f"{value} dB" for key, value in part.items() if key.startswith(("psnr", "codecPsnr"))]
            results += [f"{made[key]} {key}" for key in ("scenes", "stories", "beginnings", "films") if stage == "clips" and made.get(key)]
            seconds = part.get("seconds", made["wallSeconds"])
            rows.append(f"| {name} | {part.get('steps', '')} | {seconds / 60:.1f} min | {made['device']} | {'; '.join(results)} |")
    return rows


def card(context: Context, settings: ExportStage, out: Path, report: dict[str, Any]) -> str:
    """The model card: every figure comes from the reports that the stages wrote."""
    preset, parts = context.preset, report["parameters"]
    video, sampling = preset.video, preset.sampling

    def row(name: str, part: str, size: str) -> str:
        return f"| {name} ({size}) | {parts[part] / 1e6:.2f} M |"

    psnrs = ", ".join(f"{k} {v} dB" for k, v in report["latentPsnr"].items())
    text, dit = preset.text_encoder, preset.student
    lines = [f"# {preset.title}", "", settings.description, "", *settings.introduction, "", "## Parts", ""]
    lines += [
        "| part | parameters |",
        "|---|---|",
        row("text encoder", "text_encoder", f"{text.num_layers} layers, width {text.dim}"),
        row("DiT", "dit", f"{dit.num_layers} layers, width {dit.dim}, {dit.num_heads} heads"),
        row("VAE", "vae", f"width {preset.vae.dim}"),
        "",
        f"{video.width} x {video.height} at {video.fps} frames/s; blocks of {sampling.frames_per_block} latent frames, window {sampling.window_frames}, "
        f"sink {sampling.sink_frames}, {sampling.rope} positions, {len(sampling.denoising_steps)} denoising steps.",
        "",
        "## How it was made",
        "",
        f"Preset `{context.name}` of `training/configs`, seed {context.seed}, {preset.precision} arithmetic over float32 weights.",
        "",
        "| stage | steps | time | device | result |",
        "|---|---|---|---|---|",
        *stage_rows(context),
        "",
        f"Latents of a roll-out against float32 with the same noise: {psnrs} (int8 simulated).",
        "",
        *(quality_section(quality, pictures(out, quality)) if (quality := report.get("evaluation")) else [HEADING, "", "Not measured yet."]),
    ]
    lines += ["", "## What it does badly", "", *(f"* {line}" for line in settings.weaknesses)] if settings.weaknesses else []
    return "\n".join(lines) + "\n"


def evaluate(package: Path, cases: int, out: Path) -> Any:
    arguments = ["--package", package, "--count", cases, "--out", out]
    command = [sys.executable, "-m", "longlive_training.evaluate", "package", *map(str, arguments)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    return json.loads(out.read_text())


def export(context: Context, settings: ExportStage) -> dict[str, Any]:
    student = next((s for s in STUDENTS if s in context.preset.stages), "causal")  # given, where no stage makes one (start.py)
    parts = {"dit": context.need(student, "dit.safetensors"), "text_encoder": context.need("text", "text_encoder.safetensors"),
             "vae": context.need("vae", "vae.safetensors")}  # fmt: skip
    tokenizer, text_len = Tokenizer.from_file(str(context.need("world", "tokenizer.json"))), context.preset.text_len
    tokenizer.enable_truncation(text_len - SPARE_ROWS)
    out = context.path("export", settings.name)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    names = {"name": settings.name, "title": context.preset.title, "description": settings.description}
    write_package(out, parts, package_settings(context, settings, tokenizer.get_vocab_size(), text_len), settings.version, **names)
    write_guide(out)
    report: dict[str, Any] = {"package": str(out), "parameters": validate(out)}
    package = Package(out, torch.float32)
    chunk = next(package.generate([(0, "a red fox walks on grass by day")], 1))
    video = context.preset.video
    if chunk.frames.shape[1:] != (video.height, video.width, 3):
        raise InvalidPackage(f"{out} makes frames of {chunk.frames.shape[1:]}, not {(video.height, video.width, 3)}")
    report["latentPsnr"] = precisions(package, settings.blocks)
    if settings.judge:
        report["evaluation"] = evaluate(out, settings.cases, context.path("export", "evaluation.json"))
    (out / "README.md").write_text(card(context, settings, out, report))
    print(f"export: {out}, {sum(p.stat().st_size for p in out.iterdir()) / 1e6:.1f} MB, latents at {report['latentPsnr']} dB", flush=True)
    return report
