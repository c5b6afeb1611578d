"""A story as curves over frames."""

import numpy as np

from .facts import ACTIONS, ATTRIBUTES, CYCLE, GAIT_START, TRANSITION


def smooth(p):
    """Progress with a gentle start and end; at most 1.25 times as fast as an even one, so that no single frame looks like a cut."""
    p = np.clip(p, 0, 1)
    return 0.5 * p + 0.5 * p * p * (3 - 2 * p)


class Curve:
    """One attribute over frames 0..n-1: previous and current value (as indices) and progress 0..1 of the change."""

    def __init__(self, name: str, timeline, n: int):
        values = ATTRIBUTES[name]
        self.values = values
        self.before = np.empty(n, int)
        self.after = np.empty(n, int)
        self.progress = np.ones(n, np.float32)
        last = values.index(timeline[0][1][name])
        self.before[:] = self.after[:] = last
        for start, attributes in timeline[1:]:
            new = values.index(attributes[name])
            if new == last or start >= n:
                continue
            start = max(start, 0)
            self.before[start:], self.after[start:] = last, new
            self.progress[start:] = np.clip((np.arange(n - start) + 1) / TRANSITION, 0, 1)
            last = new

    def blend(self, table: np.ndarray) -> np.ndarray:
        """Interpolates rows of `table` [values, k]: [n, k]."""
        p = smooth(self.progress)[:, None]
        return (table[self.before] * (1 - p) + table[self.after] * p).astype(np.float32)

    def weight(self, value: str) -> np.ndarray:
        return self.blend(np.eye(len(self.values))[:, [self.values.index(value)]])[:, 0]

    def slice(self, sel) -> "Curve":
        out = object.__new__(Curve)
        out.values, out.before, out.after, out.progress = self.values, self.before[sel], self.after[sel], self.progress[sel]
        return out


def gait(action: Curve, frames: np.ndarray) -> np.ndarray:
    """The gait of each frame in turns; a change of gait happens in the middle of the transition."""
    rates = np.array([ACTIONS[a][1] for a in action.values])
    rate = rates[np.where(action.progress <= 0.5, action.before, action.after)]
    return (frames - GAIT_START) * rate / CYCLE
