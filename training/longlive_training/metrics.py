"""What is measured on generated videos, given the frames and the story that was asked for.

Frames are numbers of video frames at `FPS`; a judge look covers `LOOK` of them.
"""

import numpy as np

from .judge import LOOK, Judge
from .world import ATTRIBUTES, FPS

SETTLE = 15  # frames from the beginning or a switch until adherence counts
WITHIN = 3 * FPS  # frames in which a switch has to arrive
STRIDE = 4  # frames between looks

Story = list[tuple[int, dict[str, str]]]  # (frame from which they hold, attributes asked for), ascending


def correctness(judge: Judge, video: np.ndarray, story: Story) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """First frames of the looks, and per attribute 1 / 0 / nan: seen / not seen / not asked for at that time.

    A look is held against what is asked for at its first frame.
    """
    starts = np.arange(0, len(video) - LOOK + 1, STRIDE)
    seen = judge.probabilities(video, starts.tolist())
    at = np.searchsorted([frame for frame, _ in story], starts, side="right") - 1
    result = {}
    for name, probabilities in seen.items():
        guesses = probabilities.argmax(1)
        asked = [ATTRIBUTES[name].index(story[i][1][name]) if name in story[i][1] else -1 for i in at]
        result[name] = np.where(np.array(asked) < 0, np.nan, guesses == np.array(asked))
    return starts, result


def adherence(judge: Judge, video: np.ndarray, story: Story) -> dict:
    """How well one video follows its story.

    `prompt`: per attribute the share of settled looks before the first switch that show it.
    `switch`: per attribute, over the attributes that a switch changes, whether they are there (majority of looks)
    in the third second after it. `switchSeconds`: time until a changed attribute is first seen, for those that arrive.
    `kept`: the same as `switch` for attributes that a switch leaves as they were.
    """
    starts, correct = correctness(judge, video, story)
    switches = [(frame, attributes) for frame, attributes in story[1:] if frame + WITHIN <= len(video)]
    end = story[1][0] if len(story) > 1 else len(video)
    out = {"prompt": {}, "switch": {}, "kept": {}, "switchSeconds": []}
    for name, values in correct.items():
        settled = (starts >= SETTLE) & (starts + LOOK <= end)
        if settled.any() and not np.isnan(values[settled]).all():
            out["prompt"][name] = float(np.nanmean(values[settled]))
        for (frame, attributes), (_, before) in zip(switches, story):
            if name not in attributes:
                continue
            due = (starts >= frame + WITHIN - 24) & (starts + LOOK <= frame + WITHIN)
            changed = before.get(name) != attributes[name]
            out["switch" if changed else "kept"].setdefault(name, []).append(bool(np.nanmean(values[due]) > 0.5))
            arrived = (starts >= frame) & (starts + LOOK <= frame + WITHIN) & (values == 1)
            if changed and arrived.any():
                out["switchSeconds"].append(float(starts[arrived][0] + LOOK - frame) / FPS)
    return out


def seam(video: np.ndarray, borders: list[int]) -> float:
    """Mean change of the picture into the frames `borders` over the mean change into all others; 1 is seamless."""
    change = np.abs(np.diff(video.astype(np.int16), axis=0)).mean((1, 2, 3))
    at = np.zeros(len(change), bool)
    at[[b - 1 for b in borders if 0 < b < len(video)]] = True
    return float(change[at].mean() / max(change[~at].mean(), 1e-6))


def summarise(results: list[dict]) -> dict:
    """Means over videos of `adherence`, with `all` the mean over attributes."""

    def mean(kind: str) -> dict[str, float]:
        names = sorted({name for r in results for name in r[kind]})
        values = {n: float(np.mean(np.concatenate([np.atleast_1d(r[kind][n]) for r in results if n in r[kind]]))) for n in names}
        return {n: round(v, 4) for n, v in values.items()} | ({"all": round(float(np.mean(list(values.values()))), 4)} if values else {})

    seconds = [s for r in results for s in r["switchSeconds"]]
    return {"videos": len(results), "prompt": mean("prompt"), "switch": mean("switch"), "kept": mean("kept"),
            "medianSwitchSeconds": round(float(np.median(seconds)), 2) if seconds else None}  # fmt: skip
