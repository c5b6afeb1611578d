"""What the tables of docs/results compare: setups, measures, and what the paper says of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Row = dict  # label, quality, speed


@dataclass(frozen=True)
class Column:
    title: str
    path: str  # of the value in a row, with dots
    form: str = "{:.1%}"

    def value(self, row: Row) -> float | None:
        found: object = row
        for part in self.path.split("/"):
            found = found.get(part) if isinstance(found, dict) else None
        return found if isinstance(found, (int, float)) else None

    def text(self, row: Row) -> str:
        value = self.value(row)
        return "" if value is None else self.form.format(value / 2**20 if "MB" in self.form else value)


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, a test of the rows, and why it may not hold here."""

    text: str
    holds: Callable[[dict[str, Row]], bool]
    otherwise: str


@dataclass(frozen=True)
class Table:
    name: str
    title: str
    intro: str
    rows: dict[str, dict]  # label: fields of film.Setup
    columns: list[Column]
    claims: list[Claim]
    suite: str
    count: int
    seconds: int | None = None  # of each film, instead of the suite's
    strip: list[float] = field(default_factory=list)  # seconds of the first film
    bars: list[str] = field(default_factory=list)  # titles of columns to draw
    curve: tuple[str, str, str] | None = None  # path, x label, y label
    like: str | None = None  # label of the row whose films the others are held against


PROMPT, CHANGED, KEPT = Column("prompt", "quality/prompt/all"), Column("changed within 2 s", "quality/changed/all"), Column("kept", "quality/kept/all")
JUMP = Column("jump, median", "quality/jump/median", "{:.2f}")
JUMP95 = Column("jump, p95", "quality/jump/p95", "{:.2f}")
DISTANCE = Column("Fréchet distance", "quality/frechet", "{:.3f}")
FPS = Column("frames/s", "speed/framesPerSecond", "{:.1f}")


def share(row: Row, what: str) -> float:
    return row["quality"][what]["all"]


def loses_at_most(rows: dict[str, Row], label: str, points: float, base: str) -> bool:
    return share(rows[label], "prompt") >= share(rows[base], "prompt") - points / 100


def window(frames: int, sink: int) -> dict:
    return {"config": {"windowFrames": frames, "sinkFrames": sink}}


def steps(count: int) -> dict:
    return {"config": {"denoisingSteps": [round(1000 - 1000 * i / count) for i in range(count)]}}


TABLES = [
    Table(
        "recache",
        "What a prompt switch does with the cache",
        "Four prompts of three seconds each. *Changed*: attributes that a switch changes and that are there in the second second after it. "
        "*Kept*: the others. *Jump*: the largest change from frame to frame in the two seconds after a switch, over the 99th percentile of ordinary motion.",
        {"recache": {"mode": "recache"}, "keep cache": {"mode": "keep"}, "clear cache": {"mode": "clear"}},
        [CHANGED, KEPT, JUMP, JUMP95, Column("jump <= 1.5", "quality/jump/within1.5"), Column("switch ms", "speed/switchMilliseconds", "{:.0f}")],
        [
            Claim("Recache follows the new prompt as well as clearing the cache (within 2 points).",
                  lambda r: share(r["recache"], "changed") >= share(r["clear cache"], "changed") - 0.02,
                  "the window's pictures of the old story are strong evidence for a small network, recomputed keys or not"),
            Claim("Recache is as smooth as keeping the cache (median jump within 10 %).",
                  lambda r: r["recache"]["quality"]["jump"]["median"] <= 1.1 * r["keep cache"]["quality"]["jump"]["median"],
                  "what arrives sooner moves more: where the kept cache holds on to the old story nothing jumps because nothing happens"),
            Claim("Keeping the cache follows the new prompt worse than recache (by more than 2 points).",
                  lambda r: share(r["keep cache"], "changed") < share(r["recache"], "changed") - 0.02,
                  "the text reaches every layer anew in each step, and this network reads it there more than in old keys"),
        ],
        "switch", 12, strip=[2.5, 3.2, 3.5, 4.0, 5.5], bars=["changed within 2 s", "kept"],
        curve=("quality/arrival", "seconds after the switch", "changed attributes there"),
    ),
    Table(
        "window",
        "Window and sink",
        "One prompt for forty seconds. *Window* counts latent frames, the sink among them. *First* and *last*: attributes right in the first and the last "
        "quarter. *Drift*: Fréchet distance between the two.",
        {f"window {w}, sink {s}": window(w, s) for w, s in ((6, 3), (9, 3), (12, 3), (9, 0), (12, 0))},
        [Column("first", "quality/first/all"), Column("last", "quality/last/all"), Column("drift", "quality/drift", "{:.3f}"),
         FPS, Column("session MB", "speed/sessionBytes", "{:.1f} MB")],
        [
            Claim("A short window with a sink is as consistent as a long one without (last quarter, within 2 points).",
                  lambda r: share(r["window 9, sink 3"], "last") >= share(r["window 12, sink 0"], "last") - 0.02,
                  "the network was trained with one window and one sink; any other geometry is new to it"),
            Claim("Without a sink a video drifts more.",
                  lambda r: r["window 9, sink 0"]["quality"]["drift"] > r["window 9, sink 3"]["quality"]["drift"],
                  "the text says everything about this world, so that little has to be remembered"),
            Claim("A shorter window is faster.",
                  lambda r: not r["window 6, sink 3"].get("speed") or r["window 6, sink 3"]["speed"]["framesPerSecond"] > r["window 12, sink 3"]["speed"]["framesPerSecond"],
                  "at this size attention is a small part of a block, which the decoder dominates"),
        ],
        "single", 1, seconds=40, strip=[2, 10, 20, 30, 40], bars=["first", "last"], curve=("quality/course", "seconds", "attributes right"),
    ),
    Table(
        "precision",
        "Precision",
        "One prompt for ten seconds. *PSNR*: of the frames to those of fp32 from the same noise, in the first second and over five; a video that "
        "is as good may differ. *KV int8* keeps keys and values in 8 bits with one scale per token and head.",
        {"fp32": {"precision": "fp32"}, "bf16": {}, "int8": {"precision": "int8"}, "bf16, KV int8": {"kv": "int8"}, "int8, KV int8": {"precision": "int8", "kv": "int8"}},
        [PROMPT, *(Column(n, f"quality/prompt/{n}") for n in ("subject", "colour", "action", "ground", "sky", "weather")),
         Column("PSNR 1 s, dB", "psnr/firstSecond", "{:.1f}"), Column("PSNR 5 s, dB", "psnr/all", "{:.1f}"), FPS,
         Column("weights", "speed/weightBytes", "{:.1f} MB"), Column("session", "speed/sessionBytes", "{:.2f} MB")],
        [
            Claim("int8 loses at most one point.", lambda r: loses_at_most(r, "int8", 1, "bf16"),
                  "a network this narrow has few channels over which the rounding averages out"),
            Claim("8-bit keys and values lose at most one point.", lambda r: loses_at_most(r, "bf16, KV int8", 1, "bf16"),
                  "errors of the cache are seen again by every later block"),
        ],
        "single", 4, seconds=10, strip=[0.5, 1, 3, 6, 10], bars=["prompt"], like="fp32",
    ),
    Table(
        "steps",
        "Denoising steps",
        "Four prompts of three seconds each, with fewer and more steps than the model was trained for. *Fréchet distance*: to the renderer's pictures of the same stories.",
        {f"{n} step{'s' if n > 1 else ''}": steps(n) for n in (1, 2, 4, 8)},
        [PROMPT, CHANGED, KEPT, JUMP, DISTANCE, FPS],
        [
            Claim("Four steps are within 1.3 times the distance of eight.",
                  lambda r: r["4 steps"]["quality"]["frechet"] <= 1.3 * r["8 steps"]["quality"]["frechet"],
                  "the steps in between still sharpen what four leave soft"),
            Claim("Four steps are better than one.", lambda r: r["4 steps"]["quality"]["frechet"] < r["1 step"]["quality"]["frechet"],
                  "the world is so predictable from prompt and past that the first guess is already the picture"),
        ],
        "switch", 3, strip=[1, 2.5, 3.5, 5, 8], bars=["prompt", "changed within 2 s", "kept"],
    ),
]  # fmt: skip


def long_table(tuned: Path, base: Path) -> Table:
    return Table(
        "long",
        "Streaming long tuning",
        "One prompt for four minutes; attributes right in the ten seconds before each time.",
        {"with long tuning": {"package": tuned}, "without": {"package": base}},
        [Column(f"{s} s", f"quality/course/{s}") for s in (30, 60, 120, 240)] + [Column("drift", "quality/drift", "{:.3f}"), Column("seam", "quality/seam", "{:.2f}")],
        [Claim("Long tuning holds a video together for minutes.",
               lambda r: r["with long tuning"]["quality"]["course"]["240"] > r["without"]["quality"]["course"]["240"],
               "in a periodic world that the text describes wholly there is little to lose")],
        "long", 4, strip=[5, 30, 60, 120, 240], curve=("quality/course", "seconds", "attributes right"),
    )  # fmt: skip
