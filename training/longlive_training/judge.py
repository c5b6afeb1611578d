"""Judges: a small network that tells the attributes of the world from pixels.

    python -m longlive_training.judge [--out judge] [--steps 1500] [--looks 5000]
    python -m longlive_training.judge --measure 256x144 [--out judge]

It is trained on pictures of the renderer only, never on pictures of the model that it is to judge. Half of its looks are
made worse in the ways that generated video is: blurred, smeared over time, noisy, brighter or darker, a little displaced.
A look is one second, of which every second frame is used at half size: more than one turn of every gait.

It looks at the world's stage, whatever the size of the pictures (`shrink`). Writes `judge.safetensors` (half precision) and
`judge.json` with the accuracy on looks it never saw, clean and made worse, by the size of the renders; `--measure` adds that on
another size.
"""

import argparse
import json
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .world import ATTRIBUTES, FPS, STAGE, View, render, sample_attributes

LOOK = FPS  # frames of one look
STEP = 2  # every second one is used
USED = LOOK // STEP
Size = tuple[int, int]  # width, height
TRAINED: Size = STAGE  # of the renderer's pictures it is trained on
SMALL = (STAGE[1] // 2, STAGE[0] // 2)  # rows and columns that the judge sees
DEFAULT = Path(__file__).parent.parent / "judge"
UNSEEN = 10_000_000  # seeds from here on are not trained on


def shrink(video: np.ndarray) -> np.ndarray:
    """uint8 [T, H, W, 3] of any size -> uint8 [T, 3, *SMALL]: the world's stage (`world.View`), scaled by areas to the judge's size.

    A picture that is larger than the stage shows more around it, which the judge does not look at.
    """
    t, height, width, _ = video.shape
    view = View(width, height)
    rows, columns = SMALL
    if view.left > 0.001 * STAGE[0]:
        raise ValueError(f"the judge looks at pictures that show the whole stage, {STAGE[0]} x {STAGE[1]} units; {width} x {height} pixels are too narrow")
    scale = STAGE[1] / rows * view.scale  # pixels of the video to one of the judge
    down, across = _areas(height, rows, scale, -view.top * view.scale), _areas(width, columns, scale, -view.left * view.scale)
    across = torch.kron(across.T.contiguous(), torch.eye(3)).view(width * 3, columns, 3).transpose(1, 2).reshape(width * 3, 3 * columns)
    small = np.empty((t, 3, rows, columns), np.uint8)
    for i in range(0, t, 16):  # as much as fits the cache
        x = torch.from_numpy(video[i : i + 16].astype(np.float32)).view(-1, height, width * 3)
        small[i : i + 16] = (torch.matmul(down, x) @ across).view(-1, rows, 3, columns).transpose(1, 2).to(torch.uint8)
    return small


@lru_cache(maxsize=8)
def _areas(pixels: int, count: int, scale: float, first: float) -> Tensor:
    """[count, pixels]: the share that each pixel has in each of `count` intervals of length `scale` that begin at `first`."""
    begin = first + scale * torch.arange(count, dtype=torch.float64)[:, None]
    at = torch.arange(pixels)[None]
    return ((torch.minimum(begin + scale, at + 1) - torch.maximum(begin, at)).clamp(0) / scale).float()


def looks_at(small: np.ndarray, starts: Sequence[int]) -> Tensor:
    """The looks that begin at the given frames of a shrunk video: uint8 [n, USED * 3, h, w], frames stacked as channels."""
    looks = np.stack([small[s : s + LOOK : STEP] for s in starts])
    return torch.from_numpy(looks.reshape(len(starts), USED * 3, *small.shape[-2:]))


class Judge(nn.Module):
    """Looks uint8 or float 0..255 [n, USED * 3, 56, 96] -> logits per attribute."""

    def __init__(self, width: int = 32):
        super().__init__()
        channels = [USED * 3, width, 2 * width, 3 * width, 4 * width]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 5 if i == 0 else 3, stride=2, padding=2 if i == 0 else 1)
                                   for i, (a, b) in enumerate(zip(channels, channels[1:])))  # fmt: skip
        self.norms = nn.ModuleList(nn.GroupNorm(4, c) for c in channels[1:])
        self.mix = nn.Linear(channels[-1] * 4 * 6, 6 * width)
        self.heads = nn.ModuleDict({name: nn.Linear(6 * width, len(values)) for name, values in ATTRIBUTES.items()})

    def stages(self, looks: Tensor) -> list[Tensor]:
        """The picture after each convolution, [n, channels, height, width]."""
        x, stages = looks.float() / 127.5 - 1, []
        for conv, norm in zip(self.convs, self.norms):
            x = F.silu(norm(conv(x)))
            stages.append(x)
        return stages

    def answers(self, stages: list[Tensor]) -> dict[str, Tensor]:
        x = F.silu(self.mix(stages[-1].flatten(1)))
        return {name: head(x) for name, head in self.heads.items()}

    def forward(self, looks: Tensor) -> dict[str, Tensor]:
        return self.answers(self.stages(looks))

    @classmethod
    def load(cls, folder: Path = DEFAULT) -> "Judge":
        judge = cls()
        judge.load_state_dict({k: v.float() for k, v in load_file(folder / "judge.safetensors").items()})
        return judge.eval().requires_grad_(False)

    @torch.inference_mode()
    def guesses(self, looks: Tensor) -> dict[str, np.ndarray]:
        """The most probable value of each attribute, int [n] each: positions in the value lists of `ATTRIBUTES`."""
        parts = [self(part) for part in looks.split(64)]
        return {name: torch.cat([p[name] for p in parts]).argmax(1).numpy() for name in ATTRIBUTES}


def make_look(seed: int, size: Size) -> tuple[np.ndarray, list[int]]:
    """A look of a settled scene in pictures of `size` (width, height), and the positions of its attributes. One in three begins
    where the model's stories do."""
    rng = np.random.default_rng([seed, 3])
    scene = sample_attributes(rng)
    begin = None if rng.random() < 1 / 3 else int(rng.integers(2**31))
    clip = render([(0, scene)], LOOK, begin, *size, start=int(rng.integers(256)))
    return looks_at(shrink(clip), [0])[0].numpy(), [values.index(scene[name]) for name, values in ATTRIBUTES.items()]


def worsen(looks: Tensor, rng: torch.Generator) -> Tensor:
    """Each look in its own way and amount; float 0..255 in and out."""
    n = len(looks)

    def amount(share: float) -> Tensor:
        return torch.rand(n, 1, 1, 1, generator=rng) * (torch.rand(n, 1, 1, 1, generator=rng) < share)

    soft = F.avg_pool2d(looks, 3, 1, 1, count_include_pad=False)
    softer = F.avg_pool2d(soft, 5, 1, 2, count_include_pad=False)
    looks = looks + amount(0.5) * (soft - looks)
    looks = looks + 0.7 * amount(0.25) * (softer - looks)
    frames = looks.view(n, USED, 3, *looks.shape[-2:])
    near = torch.cat([frames[:, 1:2], frames, frames[:, -2:-1]], 1)
    looks = looks + 0.6 * amount(0.4) * ((near[:, :-2] + near[:, 2:]) / 2 - frames).view_as(looks)
    looks = looks * (0.92 + 0.16 * torch.rand(n, 1, 1, 1, generator=rng))
    noisy = torch.rand(n, generator=rng) < 0.5
    sigma = 12 * torch.rand(n, 1, 1, 1, generator=rng)[noisy]
    looks[noisy] += sigma * torch.randn(looks[noisy].shape, generator=rng)
    dy, dx = torch.randint(-2, 3, (2,), generator=rng).tolist()
    return looks.roll((dy, dx), (2, 3)).clamp(0, 255)


def accuracy(judge: Judge, looks: Tensor, labels: Tensor) -> dict[str, float]:
    return {name: round(float((guess == labels[:, i].numpy()).mean()), 4) for i, (name, guess) in enumerate(judge.guesses(looks).items())}


def accuracies(judge: Judge, looks: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
    """As they are and made worse."""
    worse = worsen(looks.float(), torch.Generator().manual_seed(1))
    return {"clean": accuracy(judge, looks, labels), "worsened": accuracy(judge, worse, labels)}


def dataset(seeds: range, size: Size) -> tuple[Tensor, Tensor]:
    looks, labels = zip(*(make_look(s, size) for s in seeds))
    return torch.from_numpy(np.stack(looks)), torch.tensor(labels)


def size_name(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def parse_size(text: str) -> Size:
    """WIDTHxHEIGHT; raises ValueError."""
    width, height = map(int, text.split("x"))
    return width, height


def train(looks: Tensor, labels: Tensor, check: tuple[Tensor, Tensor], steps: int, batch: int = 48) -> Judge:
    """The running average of the weights."""
    judge, average = Judge().to(memory_format=torch.channels_last), Judge().requires_grad_(False)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.02)
    rng = torch.Generator().manual_seed(0)
    began = time.time()
    for step in range(1, steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, step / 50) * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        pick = torch.randint(len(looks), (batch,), generator=rng)
        source = looks[pick].float()
        source[batch // 2 :] = worsen(source[batch // 2 :], rng)
        with torch.autocast("cpu", torch.bfloat16):
            guesses = judge(source.contiguous(memory_format=torch.channels_last))
        loss = sum(F.cross_entropy(g.float(), labels[pick, i], label_smoothing=0.02) for i, g in enumerate(guesses.values()))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(judge.parameters()), 1 - min(0.995, step / (step + 10)))
        if step % 200 == 0:
            print(f"step {step} {time.time() - began:.0f} s loss {loss.item():.3f} {accuracy(average, *check)}", flush=True)
    return average.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DEFAULT)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--looks", type=int, default=5000)
    parser.add_argument("--unseen", type=int, default=1000)
    parser.add_argument("--measure", type=parse_size, metavar="SIZE", help="do not train: measure the judge in --out on renders of this size")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    began = time.time()
    unseen = range(UNSEEN, UNSEEN + args.unseen)
    if args.measure:
        judge, report = Judge.load(args.out), json.loads((args.out / "judge.json").read_text())
        if args.unseen != report["unseen"]:
            parser.error(f"the accuracy in {args.out}/judge.json is that of {report['unseen']} looks; measure as many")
        report["accuracy"][size_name(args.measure)] = accuracies(judge, *dataset(unseen, args.measure))
    else:
        check = dataset(unseen, TRAINED)
        looks, labels = dataset(range(args.looks), TRAINED)
        print(f"{args.looks} looks rendered, {time.time() - began:.0f} s", flush=True)
        judge = train(looks, labels, (check[0][:400], check[1][:400]), args.steps)
        report = {"steps": args.steps, "looks": args.looks, "unseen": args.unseen, "seconds": round(time.time() - began),
                  "accuracy": {size_name(TRAINED): accuracies(judge, *check)}}  # fmt: skip
        args.out.mkdir(parents=True, exist_ok=True)
        save_file({k: v.half() for k, v in judge.state_dict().items()}, args.out / "judge.safetensors")
    (args.out / "judge.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
