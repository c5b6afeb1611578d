"""What is measured on videos, given the frames and the story that was asked for: first `observe` each, then `summarise` all.

A look is one second (judge.py). Adherence counts from the second second after the beginning or a switch: a change of the
world takes 12 frames, and what is not there after two seconds has not come. Change is the mean absolute difference of the
pixels of neighbouring frames, 0..255.

Videos may have any size that the judge can look at, and come whole or in pieces: no more than a piece and a look is held of one
that comes in pieces, so that twenty minutes take no more memory than twenty seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from .features import frechet, pooled_stage
from .judge import LOOK, SMALL, Judge, looks_at, shrink
from .world import ATTRIBUTES, FPS

SETTLE = FPS  # frames from the beginning or a switch until adherence counts
WITHIN = 2 * FPS  # frames in which a switch has to arrive
STRIDE = 8  # frames between looks
LONG = 40 * FPS  # frames from which on a video is long: its two ends are compared,
ENDS = 30 * FPS  # this much of each, at most a quarter of all
COURSE = 10 * FPS  # frames of one point of the course of a long video
PIECE = 48  # frames that a whole video is taken in at once
BATCH = 64  # looks that the judge is given at once

Video = np.ndarray | Iterable[np.ndarray]  # uint8 [T, H, W, 3], or such pieces one after another
Story = list[tuple[int, dict[str, str]]]  # (frame from which they hold, attributes asked for), ascending


@dataclass
class Observation:
    """Of one video. Shares are 0..1, per attribute; an attribute that nobody asked for is absent."""

    frames: int
    prompt: dict[str, float] = field(default_factory=dict)  # settled looks of all turns
    first: dict[str, float] = field(default_factory=dict)  # the same at the two ends of a long video
    last: dict[str, float] = field(default_factory=dict)
    course: list[float] = field(default_factory=list)  # the same over all attributes in every ten seconds of it
    changed: dict[str, list[bool]] = field(default_factory=dict)  # per switch: there in the second second after it
    kept: dict[str, list[bool]] = field(default_factory=dict)
    arrival: list[list[float]] = field(default_factory=list)  # per switch (looks end 16, 20, .. 48 frames after it): share of the changed
    jumps: list[float] = field(default_factory=list)  # largest change in the two seconds after each switch
    ordinary: list[float] = field(default_factory=list)  # changes of settled frames
    borders: list[float] = field(default_factory=list)  # those of them that lead into a block
    features: np.ndarray | None = None  # of the settled looks
    drift: float | None = None  # Fréchet distance between the two ends of a long video


@dataclass
class Sight:
    """One pass over a video."""

    frames: int
    changes: np.ndarray  # into each frame but the first
    starts: np.ndarray  # first frames of the looks, ascending
    guesses: dict[str, np.ndarray]  # per attribute and look: position in the value list
    features: np.ndarray  # [looks, d]

    def at(self, starts: np.ndarray) -> np.ndarray:
        """Which looks begin at these frames."""
        return np.searchsorted(self.starts, starts)

    def correct(self, starts: np.ndarray, asked: list[dict[str, str]]) -> dict[str, np.ndarray]:
        """Per attribute 1 / 0 / nan: seen / not seen / not asked for, for the looks that begin at `starts`."""
        wanted = {name: np.array([values.index(a[name]) if name in a else -1 for a in asked], int) for name, values in ATTRIBUTES.items()}
        looks = self.at(starts)
        return {name: np.where(wanted[name] < 0, np.nan, self.guesses[name][looks] == wanted[name]) for name in ATTRIBUTES}


def pieces_of(video: Video) -> Iterable[np.ndarray]:
    return (video[i : i + PIECE] for i in range(0, len(video), PIECE)) if isinstance(video, np.ndarray) else video


def watch(judge: Judge, video: Video, starts: np.ndarray) -> Sight:
    """`starts`: first frames of the looks to take, ascending."""
    kept, first, taken = np.empty((0, 3, *SMALL), np.uint8), 0, 0  # small frames that are still needed, the number of the first
    changes: list[float] = []
    looks: list[tuple[np.ndarray, np.ndarray]] = []
    last: np.ndarray | None = None
    for piece in pieces_of(video):
        before = piece[:1] if last is None else last
        changes += [float(np.abs(b.astype(np.int16) - a).mean()) for a, b in zip(np.concatenate([before, piece]), piece)]
        last = piece[-1:].copy()
        kept = np.concatenate([kept, shrink(piece)])
        end = first + len(kept)
        ready = int(np.searchsorted(starts, end - LOOK, side="right"))
        for i in range(taken, ready, BATCH):
            looks.append(_answers(judge, kept, starts[i : min(i + BATCH, ready)] - first))
        taken = max(taken, ready)
        needed = min(starts[taken], end) if taken < len(starts) else end
        kept, first = kept[needed - first :].copy(), int(needed)
    if taken < len(starts):
        raise ValueError(f"the video ends after {first + len(kept)} frames, a look was to begin at frame {starts[taken]}")
    guesses = np.concatenate([g for g, _ in looks], 1) if looks else np.empty((len(ATTRIBUTES), 0), int)
    features = np.concatenate([f for _, f in looks]) if looks else np.empty((0, 0))
    return Sight(first + len(kept), np.array(changes[1:]), starts, dict(zip(ATTRIBUTES, guesses)), features)


@torch.inference_mode()
def _answers(judge: Judge, small: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Guesses [attributes, n] and features [n, d] of looks, in one pass through the judge."""
    stages = judge.stages(looks_at(small, starts.tolist()))
    answers = judge.answers(stages)
    return np.stack([answers[name].argmax(1).numpy() for name in ATTRIBUTES]), pooled_stage(stages)


def _means(correct: dict[str, np.ndarray], chosen: np.ndarray) -> dict[str, float]:
    return {name: float(np.nanmean(v[chosen])) for name, v in correct.items() if np.isfinite(v[chosen]).any()}


def observe(judge: Judge, video: Video, story: Story, borders: list[int], length: int | None = None) -> Observation:
    """`borders`: first frames of the video's blocks; `length`: its frames, needed of one that comes in pieces."""
    total = len(video) if isinstance(video, np.ndarray) else length
    frames = np.array([frame for frame, _ in story])
    ends = np.append(frames[1:], total)

    # looks: at settled frames, and more closely after each switch
    starts = np.concatenate([np.arange(f + SETTLE, e - LOOK + 1, STRIDE) for f, e in zip(frames, ends)])
    after = {f: f + np.arange(0, min(e - f, 3 * FPS) - LOOK + 1, 4) for f, e in zip(frames[1:], ends[1:]) if f + WITHIN <= e}
    sight = watch(judge, video, np.unique(np.concatenate([starts, *after.values()])))
    if sight.frames != total:
        raise ValueError(f"the video has {sight.frames} frames, its story {total}")
    out = Observation(total)

    # settled looks
    turn = np.searchsorted(frames, starts, side="right") - 1
    correct = sight.correct(starts, [story[i][1] for i in turn])
    out.prompt = _means(correct, np.full(len(starts), True))
    if len(starts):
        out.features = sight.features[sight.at(starts)]
    if total >= LONG:
        end = min(ENDS, total // 4)
        head, tail = starts + LOOK <= end, starts >= total - end
        out.first, out.last = _means(correct, head), _means(correct, tail)
        parts = [(starts >= f) & (starts + LOOK <= f + COURSE) for f in range(0, total - COURSE + 1, COURSE)]
        out.course = [float(np.mean([*_means(correct, part).values()])) for part in parts]
        out.drift = frechet(out.features[head], out.features[tail])

    # changes of the picture
    into = np.arange(1, total)
    settled = into - frames[np.searchsorted(frames, into, side="right") - 1] >= WITHIN
    out.ordinary = sight.changes[settled].tolist()
    out.borders = sight.changes[settled & np.isin(into, borders)].tolist()

    # switches
    for (frame, attributes), (_, before) in zip(story[1:], story):
        if frame not in after:
            continue
        out.jumps.append(float(sight.changes[frame - 1 : frame - 1 + WITHIN].max()))
        at = after[frame]
        seen = sight.correct(at, [attributes] * len(at))
        due = int(np.flatnonzero(at == frame + WITHIN - LOOK)[0])
        changed = [n for n in attributes if before.get(n) != attributes[n]]
        for name in attributes:
            (out.changed if name in changed else out.kept).setdefault(name, []).append(bool(seen[name][due]))
        if changed:
            out.arrival.append(np.mean([seen[n] for n in changed], 0).tolist())
    return out


def _table(shares: list[dict[str, float | list[bool]]]) -> dict[str, float]:
    """Means per attribute over videos, and `all`, the mean over attributes."""
    means = {name: float(np.mean(np.concatenate([np.atleast_1d(s[name]) for s in shares if name in s])))
             for name in ATTRIBUTES if any(name in s for s in shares)}  # fmt: skip
    return {n: round(v, 4) for n, v in means.items()} | ({"all": round(float(np.mean(list(means.values()))), 4)} if means else {})


def seam(borders: list[float], ordinary: list[float]) -> float:
    """Mean change at block borders over the mean change elsewhere."""
    elsewhere = (np.sum(ordinary) - np.sum(borders)) / (len(ordinary) - len(borders))
    return float(np.mean(borders) / max(elsewhere, 1e-6))


def summarise(seen: list[Observation], rendered: list[Observation] | None = None) -> dict:
    """One report over videos. `rendered`: the renderer's pictures of the same stories, which set the scale of `seam`
    (gaits do not move evenly, so some borders lie where much happens) and are what `frechet` measures the distance to."""
    report: dict = {"videos": len(seen), "frames": sum(o.frames for o in seen)}
    pooled = {name: [x for o in seen for x in getattr(o, name)] for name in ("ordinary", "borders", "jumps")}
    for name in ("prompt", "changed", "kept", "first", "last"):
        if table := _table([getattr(o, name) for o in seen]):
            report[name] = table
    if arrivals := [a for o in seen for a in o.arrival]:
        shortest = min(map(len, arrivals))
        share = np.mean([a[:shortest] for a in arrivals], 0)
        report["arrival"] = {f"{(LOOK + 4 * i) / FPS:.2f}": round(float(v), 4) for i, v in enumerate(share)}
    if pooled["ordinary"]:
        ordinary = float(np.percentile(pooled["ordinary"], 99))
        report["motion"] = {"mean": round(float(np.mean(pooled["ordinary"])), 3), "p99": round(ordinary, 3)}
        if pooled["jumps"]:
            ratio = np.array(pooled["jumps"]) / ordinary
            report["jump"] = {"median": round(float(np.median(ratio)), 3), "p95": round(float(np.percentile(ratio, 95)), 3),
                              "largest": round(float(ratio.max()), 3), "within1.5": round(float((ratio <= 1.5).mean()), 4),
                              "switches": len(ratio)}  # fmt: skip
    if pooled["borders"]:
        report["seam"] = round(seam(pooled["borders"], pooled["ordinary"]), 3)
    if courses := [o.course for o in seen if o.course]:
        shares = np.mean([c[: min(map(len, courses))] for c in courses], 0)
        report["course"] = {str((i + 1) * COURSE // FPS): round(float(v), 4) for i, v in enumerate(shares)}
    if drifts := [o.drift for o in seen if o.drift is not None]:
        report["drift"] = round(float(np.mean(drifts)), 3)
    if rendered:
        report["frechet"] = round(frechet(*(np.concatenate([o.features for o in side if o.features is not None]) for side in (seen, rendered))), 3)
        if pooled["borders"]:
            theirs = seam([x for o in rendered for x in o.borders], [x for o in rendered for x in o.ordinary])
            report["seam"] = round(seam(pooled["borders"], pooled["ordinary"]) / theirs, 3)
    return report


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of uint8 videos of one shape, in dB; at most 99."""
    error = np.mean([np.mean((x.astype(np.float32) - y) ** 2) for x, y in zip(a, b)])
    return float(min(99, 10 * np.log10(255**2 / max(error, 1e-9))))
