"""The training loop that every stage shares: rates, clipping, averaging, progress, curves, resuming, a report.

Randomness is a function of (seed, stage, step): every step seeds the generators anew, so a run that was interrupted and goes
on equals one that was not, bit for bit on one machine. A loop with a time budget decides its number of steps when the final
fall of the learning rate has to begin, and reports it; with that number as `steps` and no budget the run repeats exactly.

Losses stay on the device until they are printed, so that the loop never waits for a GPU.
"""

from __future__ import annotations

import copy
import json
import math
import os
import platform
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from . import config
from .distributed import agreed, rank


class OutOfTime(RuntimeError):
    """The time given to this process is over; the state is saved and the same command goes on."""


class Stateful(Protocol):
    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> Any: ...


@dataclass
class Random:
    """The random numbers of one step: tensors on the device, choices on the host, and choices that all ranks share."""

    device: torch.Generator
    numpy: np.random.Generator
    shared: np.random.Generator

    @classmethod
    def of(cls, device: torch.device, *key: int | str) -> Random:
        words = [zlib.crc32(k.encode()) if isinstance(k, str) else int(k) for k in key]
        own = np.random.SeedSequence([*words, rank() + 1]).generate_state(3, np.uint64)
        tensors = torch.Generator(device).manual_seed(int(own[0] >> 1))
        return cls(tensors, np.random.default_rng(own[1:]), np.random.default_rng(words))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.device, device=self.device.device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.device, device=self.device.device)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.device, device=self.device.device)

    def normal_like(self, x: Tensor) -> Tensor:
        return self.normal(*x.shape)


class Average:
    """Exponential moving average of a module's weights."""

    def __init__(self, module: nn.Module, decay: float):
        self.source, self.decay = module, decay
        self.module = copy.deepcopy(module).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, step: int) -> None:
        keep = min(self.decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(self.module.parameters()), [p.detach() for p in self.source.parameters()], 1 - keep)

    def state_dict(self) -> Any:
        return self.module.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.module.load_state_dict(state)


def mixed(before: dict[str, Tensor], after: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights of which `share` are those of `before`."""
    return {name: share * before[name].to(value.device) + (1 - share) * value for name, value in after.items()}


def adamw(modules: Iterable[nn.Module], settings: config.Loop, lr: float | None = None) -> torch.optim.AdamW:
    """AdamW without decay for vectors and modulation."""
    named = [(n, p) for m in modules for n, p in m.named_parameters() if p.requires_grad]
    matrices = [p for n, p in named if p.dim() > 1 and "modulation" not in n]
    vectors = [p for n, p in named if not (p.dim() > 1 and "modulation" not in n)]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    fused = all(p.device.type == "cuda" for _, p in named)
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr or settings.lr, betas=tuple(settings.betas), fused=fused)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = [line.split(":", 1)[1].strip() for line in cpu_info() if line.startswith("model name")]
    return (
        f"CPU ({model[0] if model else platform.machine()}, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''})"
    )


def cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def write(path: Path, save: Callable[[Path], Any]) -> None:
    """Writes through a neighbour, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save(part)
    os.replace(part, path)


def write_json(path: Path, value: Any) -> None:
    write(path, lambda p: p.write_text(json.dumps(value, indent=1) + "\n"))


class Loop:
    """Runs `step(rng) -> losses` and keeps what it needs to go on.

    `states` are the objects whose state is saved and restored. `report` is what the stage's JSON will hold. `deadline` is the
    time (of `time.monotonic`) at which to save and raise OutOfTime.
    """

    def __init__(self, folder: Path, name: str, settings: config.Loop, seed: int, device: torch.device, states: dict[str, Stateful],
                 deadline: float = math.inf):  # fmt: skip
        self.folder, self.name, self.settings, self.seed, self.device, self.states = folder, name, settings, seed, device, states
        self.deadline = deadline
        self.step, self.seconds, self.total = 0, 0.0, settings.steps
        self.begun = time.monotonic()  # what a stage prepares after this counts as time, too
        self.warm: tuple[int, float] | None = None  # step and seconds once all is compiled and in memory: from there steps take equally long
        self.curve: list[dict[str, float]] = []  # of `log_every` steps each: step and mean losses
        self.probes: dict[str, dict[str, float]] = {}  # what was measured with fixed random numbers, by when
        self.path = folder / f"{name}.state{f'.{rank()}' if rank() else ''}.pt"

    # --- resuming -------------------------------------------------------------------------------------------------

    def resume(self) -> None:
        if not self.path.exists():
            return
        saved = torch.load(self.path, map_location=self.device, weights_only=False)
        for name, state in self.states.items():
            state.load_state_dict(saved["states"][name])
        for name in ("step", "seconds", "total", "curve", "probes"):
            setattr(self, name, saved[name])

    def save(self) -> None:
        saved = {"states": {k: v.state_dict() for k, v in self.states.items()},
                 "step": self.step, "seconds": self.seconds, "total": self.total, "curve": self.curve, "probes": self.probes}  # fmt: skip
        write(self.path, lambda p: torch.save(saved, p))

    # --- rates ----------------------------------------------------------------------------------------------------

    def decide_total(self) -> None:
        """With a time budget: fix the number of steps when it is time to cool down, by the pace since the first steps."""
        s = self.settings
        if self.total or self.seconds < (1 - s.cooldown) * 60 * s.minutes:
            return
        step, seconds = self.warm if self.warm and self.step > self.warm[0] else (0, 0.0)
        pace = (self.seconds - seconds) / max(self.step - step, 1)
        total = self.step + max(0, round((60 * s.minutes - self.seconds) / max(pace, 1e-9)))
        if self.step >= (1 - s.cooldown) * total:
            self.total = max(total, 1)

    def rate(self) -> float:
        """Factor of the learning rate: linear warm-up, constant, cosine fall to 2 % over the last `cooldown` of the steps."""
        s = self.settings
        factor = min(1.0, (self.step + 1) / s.warmup) if s.warmup else 1.0
        fall = s.cooldown * self.total
        left = self.total - self.step
        if self.total and fall >= 1 and left < fall:
            factor *= 0.02 + 0.98 * 0.5 * (1 - math.cos(math.pi * left / fall))
        return factor

    # --- the loop -------------------------------------------------------------------------------------------------

    def run(self, step: Callable[[Random], dict[str, Tensor]], stop_after: int | None = None) -> None:
        """`stop_after`: stop after so many steps of this call, as if interrupted."""
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        mark, saved = self.begun, time.monotonic()
        self.noted = self.step, saved  # the line printed last
        done = 0
        while True:
            self.decide_total()
            if self.total and self.step >= self.total:
                break
            if stop_after is not None and done >= stop_after:
                break
            rng = Random.of(self.device, self.seed, self.name, self.step)
            losses = step(rng)
            for key, value in losses.items():
                sums[key] = sums[key] + value.detach() if key in sums else value.detach()
                counts[key] = counts.get(key, 0) + 1
            self.step, done = self.step + 1, done + 1
            if self.step % self.settings.log_every == 0:
                self.note(sums, counts, mark)
                sums, counts = {}, {}
            now = time.monotonic()
            self.seconds, over, due = agreed((self.seconds + now - mark, now > self.deadline, now - saved > self.settings.save_seconds))
            mark = now
            if self.warm is None and done >= min(10, self.settings.log_every):
                self.warm = self.step, self.seconds
            # A checkpoint falls on a printed step, so that no half-summed losses are lost.
            if self.step % self.settings.log_every == 0 and due:
                self.save()
                mark = saved = time.monotonic()
            if over:
                self.save()
                raise OutOfTime(f"{self.name} stopped at step {self.step}")
        if sums:
            self.note(sums, counts, mark)
        self.save()
        self.begun = time.monotonic()

    def note(self, sums: dict[str, Tensor], counts: dict[str, int], mark: float) -> None:
        values = (torch.stack([v.float() for v in sums.values()]) / torch.tensor(list(counts.values()), device=self.device)).tolist()
        means = dict(zip(sums, values))
        if not all(math.isfinite(v) for v in values):
            raise FloatingPointError(f"stage {self.name}: a loss is not finite at step {self.step}: {means}")
        self.curve.append({"step": self.step} | means)
        if rank():
            return
        shown = " ".join(f"{k} {v:.4f}" for k, v in means.items())
        of = f" of {self.total}" if self.total else f", {self.seconds / 60:.1f} of {self.settings.minutes:g} min"
        pace = (time.monotonic() - self.noted[1]) / max(self.step - self.noted[0], 1)
        self.noted = self.step, time.monotonic()
        print(f"{self.name}: step {self.step}{of}  {shown}  rate {self.rate() * self.settings.lr:.1e}  {pace:.3f} s", flush=True)

    @torch.no_grad()
    def probe(self, when: str, measure: Callable[[Random], dict[str, Tensor]], draws: int) -> None:
        """Means of `measure` over `draws` fixed draws of random numbers, so that two times can be compared; done once."""
        if when not in self.probes:
            rows = [measure(Random.of(self.device, self.seed, self.name, "probe", i)) for i in range(draws)]
            self.probes[when] = {k: float(torch.stack([r[k] for r in rows]).mean()) for k in rows[0]}

    # --- results --------------------------------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        def at(part: slice) -> dict[str, float]:
            rows = self.curve[part]
            return {k: float(np.mean([r[k] for r in rows if k in r])) for k in sorted({k for r in rows for k in r} - {"step"})}

        tenth = max(1, len(self.curve) // 10)
        return {"steps": self.step, "seconds": round(self.seconds, 1), "device": device_name(self.device), "batch": self.settings.batch,
                "lr": self.settings.lr, "lossFirst": at(slice(0, tenth)), "lossLast": at(slice(-tenth, None))} | ({"probes": self.probes} if self.probes else {})  # fmt: skip

    def plot(self) -> None:
        plot(self.curve, self.folder / f"{self.name}.png", self.name)


def plot(curve: list[dict[str, float]], path: Path, title: str) -> None:
    """The losses of a curve over the steps, one panel each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    keys = sorted({k for row in curve for k in row} - {"step"})
    if not keys:
        return
    figure, panels = pyplot.subplots(1, len(keys), figsize=(4 * len(keys), 3), squeeze=False)
    for panel, key in zip(panels[0], keys):
        rows = [(r["step"], r[key]) for r in curve if key in r]
        panel.plot(*zip(*rows), linewidth=1.2)
        panel.set_title(f"{title}: {key}", fontsize=9)
        panel.set_xlabel("step", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


class Optimiser:
    """One optimiser step with clipping, at the loop's rate."""

    def __init__(self, optimiser: torch.optim.Optimizer, clip: float):
        self.optimiser, self.clip = optimiser, clip
        self.rates = [g["lr"] for g in optimiser.param_groups]
        self.parameters = [p for g in optimiser.param_groups for p in g["params"]]

    def step(self, factor: float) -> Tensor:
        """Applies and clears the gradients; returns their norm before clipping."""
        for group, rate in zip(self.optimiser.param_groups, self.rates):
            group["lr"] = rate * factor
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip or math.inf)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> Any:
        return self.optimiser.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.optimiser.load_state_dict(state)
