"""Judges: a small network that tells the attributes of the world from pixels.

    python -m longlive_training.judge --codec RUN/codec.safetensors --out judge

It is trained on pictures of the renderer only, half of them degraded (the linear code of the latents, blur, noise),
never on pictures of the model that it is to judge. One head per attribute reads a shared trunk; the action needs
motion, so a look is `LOOK` frames of which every second one is used.

Writes `judge.safetensors` (half precision) and `judge.json` with the accuracy on unseen clips, clean and degraded.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .codec import Codec
from .world import ATTRIBUTES, TRANSITION, render, sample_attributes

LOOK = 9  # frames of one look
STEP = 2  # every second one is used
USED = LOOK // STEP + 1
DEFAULT = Path(__file__).parent.parent / "judge"


def shrink(clips: np.ndarray) -> np.ndarray:
    """uint8 [..., LOOK, 112, 192, 3] -> uint8 [..., USED * 3, 56, 96]: half size, frames stacked as channels."""
    x = clips[..., ::STEP, :, :, :].astype(np.uint16)
    x = x[..., 0::2, 0::2, :] + x[..., 1::2, 0::2, :] + x[..., 0::2, 1::2, :] + x[..., 1::2, 1::2, :]
    x = np.moveaxis((x // 4).astype(np.uint8), -1, -3)
    return x.reshape(*x.shape[:-4], USED * 3, *x.shape[-2:])


class Judge(nn.Module):
    """Looks uint8 or float 0..255 [n, USED * 3, 56, 96] -> logits per attribute."""

    def __init__(self, width: int = 24):
        super().__init__()
        channels = [USED * 3, width, 2 * width, 3 * width, 4 * width]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 5 if i == 0 else 3, stride=2, padding=2 if i == 0 else 1)
                                   for i, (a, b) in enumerate(zip(channels, channels[1:])))  # fmt: skip
        self.norms = nn.ModuleList(nn.GroupNorm(4, c) for c in channels[1:])
        self.mix = nn.Linear(channels[-1] * 4 * 6, 6 * width)
        self.heads = nn.ModuleDict({name: nn.Linear(6 * width, len(values)) for name, values in ATTRIBUTES.items()})

    def forward(self, looks: Tensor) -> dict[str, Tensor]:
        x = looks.float() / 127.5 - 1
        for conv, norm in zip(self.convs, self.norms):
            x = F.silu(norm(conv(x)))
        x = F.silu(self.mix(x.flatten(1)))
        return {name: head(x) for name, head in self.heads.items()}

    @classmethod
    def load(cls, folder: Path = DEFAULT) -> "Judge":
        judge = cls()
        judge.load_state_dict({k: v.float() for k, v in load_file(folder / "judge.safetensors").items()})
        return judge.eval().requires_grad_(False)

    @torch.inference_mode()
    def probabilities(self, video: np.ndarray, starts: list[int]) -> dict[str, np.ndarray]:
        """For looks that begin at the given frames of a video uint8 [T, 112, 192, 3]: float [looks, values] each."""
        looks = torch.from_numpy(np.stack([shrink(video[s : s + LOOK]) for s in starts]))
        return {name: logits.softmax(1).numpy() for name, logits in self(looks).items()}


def make_look(seed: int, codec: Codec) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """A clean and a coded look of a settled scene, and the indices of its attributes.

    In a third of the scenes the picture has only just changed from another one, as after a prompt switch.
    """
    rng = np.random.default_rng([seed, 3])
    scene = sample_attributes(rng)
    story = [(0, scene)] if rng.random() < 0.67 else [(0, sample_attributes(rng)), (int(rng.integers(1, 5)), scene)]
    clip = render(story, LOOK, int(rng.integers(2**31)), start=TRANSITION + 5 + int(rng.integers(64)))
    coded = codec.decode(codec.encode(clip))
    return shrink(clip), shrink(coded), [values.index(scene[name]) for name, values in ATTRIBUTES.items()]


def degrade(looks: Tensor, rng: torch.Generator) -> Tensor:
    """Blur, noise, brightness and a shift of up to three pixels, different for every look. float in, float out."""
    n = len(looks)
    soft = F.avg_pool2d(looks, 3, 1, 1, count_include_pad=False)
    amount = torch.rand(n, 1, 1, 1, generator=rng) * (torch.rand(n, 1, 1, 1, generator=rng) < 0.5)
    looks = looks + amount * (soft - looks)
    looks = looks * (0.92 + 0.16 * torch.rand(n, 1, 1, 1, generator=rng))
    sigma = 12 * torch.rand(n, 1, 1, 1, generator=rng) * (torch.rand(n, 1, 1, 1, generator=rng) < 0.5)
    looks = looks + sigma * torch.randn(looks.shape, generator=rng)
    dy, dx = torch.randint(-3, 4, (2,), generator=rng).tolist()
    return looks.roll((dy, dx), (2, 3)).clamp(0, 255)


@torch.inference_mode()
def accuracy(judge: Judge, looks: Tensor, labels: Tensor) -> dict[str, float]:
    guesses = [judge(part) for part in looks.split(64)]
    return {name: (torch.cat([g[name] for g in guesses]).argmax(1) == labels[:, i]).float().mean().item()
            for i, name in enumerate(ATTRIBUTES)}  # fmt: skip


def dataset(seeds: range, codec: Codec) -> tuple[Tensor, Tensor, Tensor]:
    clean, coded, labels = zip(*(make_look(s, codec) for s in seeds))
    return torch.from_numpy(np.stack(clean)), torch.from_numpy(np.stack(coded)), torch.tensor(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=DEFAULT)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--clips", type=int, default=2400)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    codec = Codec.load(args.codec)
    clean, coded, labels = dataset(range(args.clips), codec)
    print(f"{args.clips} looks rendered", flush=True)
    unseen = dataset(range(10_000_000, 10_000_400), codec)
    judge = Judge()
    average = Judge().requires_grad_(False)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.02)
    rng = torch.Generator().manual_seed(0)
    began = time.time()
    for step in range(1, args.steps + 1):
        progress = step / args.steps
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, step / 50) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * progress)))
        pick = torch.randint(len(clean), (48,), generator=rng)
        source = torch.where((torch.rand(48, generator=rng) < 0.5)[:, None, None, None], clean[pick], coded[pick]).float()
        guesses = judge(degrade(source, rng))
        loss = sum(F.cross_entropy(g, labels[pick, i], label_smoothing=0.02) for i, g in enumerate(guesses.values()))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(judge.parameters()), 1 - min(0.99, step / (step + 10)))
        if step % 100 == 0:
            print(f"step {step} {time.time() - began:.0f} s loss {loss.item():.3f}", accuracy(average, *unseen[1:]), flush=True)
    average.eval()
    report = {"steps": args.steps, "clips": args.clips, "unseen": len(unseen[2]),
              "accuracy": {"clean": accuracy(average, unseen[0], unseen[2]), "coded": accuracy(average, unseen[1], unseen[2])}}  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half() for k, v in average.state_dict().items()}, args.out / "judge.safetensors")
    (args.out / "judge.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
