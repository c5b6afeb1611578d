"""What of the world a picture shows."""

from dataclasses import dataclass

import numpy as np

from .facts import SKYWARD, STAGE


@dataclass(frozen=True)
class View:
    """What a picture of width x height pixels shows of the world."""

    width: int
    height: int

    @property
    def scale(self) -> float:
        """Pixels per unit."""
        return self.height / min(max(self.height, STAGE[1]), STAGE[1] + SKYWARD)

    @property
    def top(self) -> float:
        """y of the upper edge."""
        return STAGE[1] - self.height / self.scale

    @property
    def left(self) -> float:
        """x of the left edge."""
        return (STAGE[0] - self.width / self.scale) / 2

    @property
    def right(self) -> float:
        return self.left + self.width / self.scale

    def row(self, y: float) -> int:
        return round((y - self.top) * self.scale)

    def column(self, x: float) -> int:
        return min(max(round((x - self.left) * self.scale), 0), self.width)

    def grid(self, bottom: float = STAGE[1]) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of the pixels' centres: y [rows, 1] from the top to `bottom`, x [1, width]."""
        y = self.top + (np.arange(self.row(bottom), dtype=np.float32)[:, None] + 0.5) / self.scale
        return y, self.left + (np.arange(self.width, dtype=np.float32)[None] + 0.5) / self.scale


def cover(distance, scale):
    """Anti-aliased coverage of a shape from its signed distance in world units (negative inside)."""
    return np.clip(0.5 - distance * np.float32(scale), 0, 1)
