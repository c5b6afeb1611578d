"""Run a recipe: all stages of a preset, or one of them.

    python -m longlive_training.run --preset smoke|pocket [--out RUN] [--stage NAME]... [--device cpu|cuda] [--threads N]
    python -m longlive_training.run --preset wan-1.3b --dry-run
    torchrun --nproc-per-node 8 -m longlive_training.run --preset wan-1.3b --package MODEL --out RUN

A stage that is done is left out; one that was interrupted goes on where it was. Every stage leaves `report.json` (steps, wall
time, device, losses, configuration), its weights, and its loss curves as PNG in RUN/<stage>. `--no-resume` forgets
the results of the stages that are run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from . import distributed
from .config import ClipsStage, ConfigError, load
from .context import Context
from .loop import OutOfTime, device_name, write_json

TEMPORARY = 75  # exit status EX_TEMPFAIL


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", required=True, help="a folder of training/configs")
    parser.add_argument("--stage", action="append", help="only this stage; may be repeated")
    parser.add_argument("--out", type=Path, help="folder of results (default: runs/<preset>)")
    parser.add_argument("--package", help="model package that gives tokenizer, text encoder, VAE and generator (wan-1.3b)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=0, help="PyTorch threads on the CPU (default: all cores)")
    parser.add_argument("--seed", type=int, help="instead of the preset's")
    parser.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, default=True, help="leave finished stages out and go on with others"
    )
    parser.add_argument("--set", action="append", default=[], metavar="TOML", help="replace a value: vae.joint.minutes=2, preset.vae.z_dim=32; may be repeated")
    parser.add_argument("--minutes", type=float, help="stop in time, with exit status 75; the same command goes on")
    parser.add_argument("--dry-run", action="store_true", help="build every module without memory and print sizes, memory and FLOPs")
    return parser.parse_args(argv)


def run_stage(context: Context, name: str, settings: Any, resume: bool) -> None:
    from .stages import STAGES

    folder = context.path(name)
    report = folder / "report.json"
    identity = json.loads(
        json.dumps({"preset": dataclasses.asdict(context.preset), "stage": dataclasses.asdict(settings), "seed": context.seed})
    )
    if not resume and not distributed.rank() and folder.exists():
        shutil.rmtree(folder)
    distributed.barrier()
    if report.exists():
        if json.loads(report.read_text())["config"] != identity:
            raise ConfigError(f"{report} was made with another configuration or seed: take another --out, or --no-resume to make it anew")
        print(f"{name}: done before", flush=True)
        return
    spent = folder / "wall.json"  # seconds of earlier, interrupted processes
    began = time.monotonic() - (json.loads(spent.read_text()) if spent.exists() else 0)
    torch.compiler.reset()
    try:
        made = STAGES[name](context, settings)
    except OutOfTime:
        if not distributed.rank():
            write_json(spent, round(time.monotonic() - began, 1))
        raise
    if not distributed.rank():
        facts = {"stage": name, "device": device_name(context.device), "processes": distributed.world_size(), "torch": torch.__version__,
                 "wallSeconds": round(time.monotonic() - began, 1)}  # fmt: skip
        write_json(report, facts | made | {"config": identity})


class Background:
    """A stage that runs in a process of its own while others go on; `wait` joins it."""

    def __init__(self, args: argparse.Namespace, name: str, out: Path, device: torch.device):
        command = [
            sys.executable,
            "-m",
            "longlive_training.run",
            "--preset",
            args.preset,
            "--stage",
            name,
            "--out",
            out,
            "--device",
            device.type,
        ]
        command += [] if args.seed is None else ["--seed", args.seed]
        command += [word for text in args.set for word in ("--set", text)]
        self.name, self.process = name, subprocess.Popen([str(c) for c in command], cwd=Path(__file__).parents[1])

    def stop(self) -> None:
        """Ends the process if it still runs; finished shards stay."""
        self.process.terminate()
        self.process.wait()

    def wait(self) -> None:
        if code := self.process.wait():
            raise RuntimeError(f"stage {self.name} failed with exit code {code}; its messages are above")


NEEDS_CLIPS = ("teacher", "causal")


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    background: Background | None = None
    device = distributed.start("cpu" if args.dry_run else args.device)
    try:
        preset, stages = load(args.preset, "cuda" if args.dry_run else device.type, settings=args.set)
        if args.package:
            preset = dataclasses.replace(preset, package=args.package)
        for name in args.stage or []:
            if name not in stages:
                raise ConfigError(f'preset {args.preset} has no stage "{name}"; its stages are {", ".join(stages)}')
        if args.dry_run:
            from .dry_run import dry_run

            print(dry_run(preset, stages))
            return
        torch.set_num_threads(args.threads or torch.get_num_threads())
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
        out = (args.out or Path("runs", args.preset)).resolve()
        deadline = time.monotonic() + 60 * args.minutes if args.minutes else math.inf
        context = Context(preset, args.preset, out, device, preset.seed if args.seed is None else args.seed, deadline)
        for name, settings in stages.items():
            if args.stage and name not in args.stage:
                continue
            if (
                isinstance(settings, ClipsStage)
                and settings.background
                and not args.stage
                and not context.path(name, "report.json").exists()
            ):
                background = Background(args, name, out, device)
                continue
            if background and name in NEEDS_CLIPS:
                background.wait()
                background = None
            if time.monotonic() > deadline:
                raise OutOfTime(f"stage {name} has not begun")
            run_stage(context, name, settings, args.resume)
    except (ConfigError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    except OutOfTime as stop:
        print(f"out of time: {stop}; the same command goes on", flush=True)
        sys.exit(TEMPORARY)
    finally:
        if background:
            background.stop()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
