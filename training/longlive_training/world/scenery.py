"""The background: tiles that only scroll, drawn once, and what falls from the sky."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from .facts import CYCLE, HORIZON, STAGE
from .view import View, cover


class Tile:
    """A horizontally periodic RGBA drawing, 4x supersampled. Coordinates are world units.

    A period is a whole number of pixels, so that scenery comes back to the same place at any scale; a unit of x is therefore
    `size / period` pixels wide, which differs from `scale` by less than half a percent.
    """

    def __init__(self, period: int, top: int, bottom: int, scale: float):
        self.period, self.top, self.k = period, top, 4 * scale
        self.size = (round(period * scale), round((bottom - top) * scale))
        self.k_across = 4 * self.size[0] / period
        self.image = Image.new("RGBA", (self.size[0] * 4, self.size[1] * 4))
        self.draw = ImageDraw.Draw(self.image)

    def _points(self, points, dx):
        return [((x + dx) * self.k_across, (y - self.top) * self.k) for x, y in points]

    def polygon(self, points, colour):
        for dx in (-self.period, 0, self.period):
            self.draw.polygon(self._points(points, dx), fill=colour)

    def ellipse(self, cx, cy, rx, ry, colour):
        for dx in (-self.period, 0, self.period):
            a, b = self._points([(cx - rx, cy - ry), (cx + rx, cy + ry)], dx)
            self.draw.ellipse([a, b], fill=colour)

    def box(self, x0, y0, x1, y1, colour):
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def array(self) -> np.ndarray:
        """float32 [4, rows, columns]: premultiplied RGB in 0..255 and alpha in 0..1."""
        full = np.asarray(self.image, np.float32)
        alpha = full[..., 3:] / 255
        full = np.concatenate([full[..., :3] * alpha, alpha], -1)
        w, h = self.size
        return np.ascontiguousarray(full.reshape(h, 4, w, 4, 4).mean((1, 3)).transpose(2, 0, 1))


@lru_cache(maxsize=64)
def clouds(scale: float) -> np.ndarray:
    t = Tile(256, 8, 46, scale)
    for x, y, s in ((30, 22, 1.0), (112, 34, 0.75), (196, 20, 0.9)):
        for dx, dy, r in ((-13, 2, 6), (-4, -2, 8.5), (7, -1, 7.5), (15, 3, 5)):
            t.ellipse(x + dx * s, y + dy * s, r * 1.35 * s, r * s * 0.85, (255, 255, 255, 255))
    return t.array()


@lru_cache(maxsize=64)
def hills(scale: float) -> np.ndarray:
    t = Tile(128, 48, HORIZON, scale)
    x = np.arange(0, 129)
    y = 64 - 6 * np.sin(x * 2 * np.pi / 128) - 3.5 * np.sin(x * 4 * np.pi / 128 + 1)
    t.draw.polygon(t._points([*zip(x, y), (128, 80), (0, 80)], 0), fill=(255, 255, 255, 255))
    return t.array()


@lru_cache(maxsize=64)
def props(ground: str, scale: float) -> np.ndarray:
    t = Tile(96, 30, HORIZON + 4, scale)
    if ground == "grass":
        t.box(22, 62, 27, 82, (104, 70, 44))
        for x, y, r in ((16, 57, 10), (33, 58, 9), (24, 48, 12)):
            t.ellipse(x, y, r, r, (46, 116, 58))
        t.ellipse(22, 45, 7, 6, (76, 150, 76))
        t.ellipse(70, 77, 12, 8, (58, 128, 62))
        t.ellipse(80, 79, 8, 6, (46, 112, 56))
    elif ground == "sand":
        green, dark = (62, 134, 78), (44, 104, 62)
        t.box(21, 46, 28, 82, green)
        t.ellipse(24.5, 46, 3.5, 4, green)
        for x0, x1, y in ((11, 24, 64), (25, 38, 58)):
            t.box(x0, y, x1, y + 5, green)
        t.box(11, 53, 16, 67, green)
        t.box(33, 48, 38, 61, dark)
        t.polygon([(56, 82), (66, 66), (76, 71), (86, 82)], (176, 112, 78))
        t.polygon([(56, 82), (66, 66), (69, 82)], (200, 136, 94))
    elif ground == "snow":
        for x, base, s in ((24, 82, 1.0), (70, 82, 0.65)):
            t.box(x - 2 * s, base - 8, x + 2 * s, base, (92, 66, 52))
            for k, w in ((0, 14), (1, 11), (2, 8)):
                y = base - 5 - 11 * s * k
                t.polygon([(x - w * s, y), (x + w * s, y), (x, y - 18 * s)], (40, 96, 92))
                t.polygon([(x - w * s * 0.5, y - 9 * s), (x + w * s * 0.5, y - 9 * s), (x, y - 18 * s)], (236, 244, 252))
    elif ground == "water":
        t.polygon([(8, 72), (42, 72), (36, 81), (14, 81)], (150, 70, 50))
        t.box(24, 38, 26, 72, (110, 80, 60))
        t.polygon([(27, 39), (27, 69), (43, 69)], (250, 246, 236))
        t.polygon([(23, 44), (23, 69), (11, 69)], (236, 110, 90))
        t.ellipse(74, 82, 13, 8, (112, 116, 128))
        t.ellipse(70, 79, 7, 5, (140, 144, 154))
    elif ground == "road":
        for x0, x1, top, colour in (
            (0, 24, 50, (112, 118, 140)),
            (26, 46, 36, (150, 110, 104)),
            (48, 70, 56, (100, 128, 134)),
            (72, 94, 44, (136, 132, 154)),
        ):
            t.box(x0, top, x1, 82, colour)
            for x in range(x0 + 4, x1 - 4, 7):
                for y in range(top + 5, 74, 9):
                    t.box(x, y, x + 3.5, y + 4.5, (250, 226, 150))
    return t.array()


@lru_cache(maxsize=64)
def ground(ground: str, scale: float) -> np.ndarray:
    t = Tile(96, HORIZON, STAGE[1], scale)
    near, far = {
        "grass": ((74, 138, 50), (134, 186, 82)),
        "sand": ((222, 172, 100), (244, 212, 146)),
        "snow": ((206, 220, 240), (240, 246, 252)),
        "water": ((20, 84, 158), (56, 146, 200)),
        "road": ((70, 72, 82), (98, 100, 112)),
    }[ground]
    rows = STAGE[1] - HORIZON
    for i in range(rows):
        f = i / rows
        t.box(0, HORIZON + i, 96, HORIZON + i + 1, tuple(round(a * f + b * (1 - f)) for a, b in zip(near, far)))
    if ground == "grass":
        for i, (x, y) in enumerate(((6, 86), (30, 84), (54, 87), (78, 85), (18, 99), (42, 103), (66, 100), (90, 104))):
            for dx in (-3, 0, 3):
                t.polygon([(x + dx - 1.4, y + 4), (x + dx + 1.4, y + 4), (x + dx * 1.5, y - 3)], (52, 108, 40))
            if i % 2:
                t.ellipse(x + 8, y + 4, 2.2, 2.2, ((255, 250, 240), (255, 214, 60))[i // 2 % 2])
    elif ground == "sand":
        for x, y, w in ((14, 84, 12), (60, 87, 14), (36, 100, 15), (84, 104, 13)):
            t.ellipse(x, y, w, 1.8, (200, 148, 84))
            t.ellipse(x, y - 1.4, w * 0.9, 1.2, (250, 224, 166))
    elif ground == "snow":
        for x, y, w in ((16, 86, 13), (62, 84, 11), (40, 101, 16), (86, 105, 12)):
            t.ellipse(x, y, w, 2.8, (182, 202, 232))
            t.ellipse(x - 1, y - 1.5, w * 0.9, 2.2, (252, 254, 255))
    elif ground == "water":
        for x, y, w in ((12, 83, 9), (44, 86, 11), (78, 82, 9), (26, 98, 13), (64, 103, 12), (92, 95, 9)):
            t.ellipse(x, y, w, 1.5, (130, 206, 236))
            t.ellipse(x + 5, y + 2.4, w * 0.7, 1.0, (16, 70, 140))
    elif ground == "road":
        t.box(0, HORIZON, 96, HORIZON + 5, (160, 160, 164))
        t.box(0, HORIZON + 5, 96, HORIZON + 6.5, (60, 60, 68))
        for x in (10, 58):
            t.box(x, 102, x + 26, 105.5, (246, 236, 190))
    return t.array()


@lru_cache(maxsize=8)
def stars(view: View) -> np.ndarray:
    """float32 [rows, width]: brightness of a fixed field of stars above the hills, which comes again beside and above itself."""
    rng = np.random.default_rng(7)
    y, x = view.grid(56)
    out = np.zeros((y.shape[0], view.width), np.float32)
    for cx, cy, r in zip(rng.uniform(0, STAGE[0], 26), rng.uniform(2, 52, 26), rng.uniform(0.7, 1.3, 26)):
        for dx in (-STAGE[0], 0, STAGE[0]):
            for up in (0, 1) if view.top < 0 else (0,):
                out = np.maximum(out, cover(np.hypot(x - cx - dx - 77 * up, y - cy + 54 * up) - r, view.scale))
    return out


def scrolled(tile: np.ndarray, turns: np.ndarray, width: int) -> np.ndarray:
    """The window of a periodic tile [c, rows, period] whose left edge is at turns [T] (periods): [c, T, rows, width]."""
    period = tile.shape[2]
    wide = np.concatenate([tile] * (width // period + 3), 2)
    position = turns % 1 * period
    whole = np.floor(position).astype(int)
    part = (position - whole).astype(np.float32)
    out = np.empty((tile.shape[0], len(turns), tile.shape[1], width), np.float32)
    for i, (w, p) in enumerate(zip(whole, part)):
        out[:, i] = wide[:, :, w : w + width]
        if p > 1e-4:
            out[:, i] += p * (wide[:, :, w + 1 : w + 1 + width] - out[:, i])
    return out


@lru_cache(maxsize=16)
def fall(kind: str, view: View) -> np.ndarray:
    """One period of falling rain or snow: coverage float32 [period in frames, rows, width].

    Rain repeats every 4 frames, so that it is steady under the VAE's 4x time stride, and snow every `CYCLE`. Beside the
    stage the same drops come again.
    """
    rng = np.random.default_rng({"rain": 1, "snow": 2}[kind])
    period, loop, slant = (4, 56, 0.22) if kind == "rain" else (CYCLE, 28, 0.25)
    y, x = view.grid()
    count, breadth = 26 if kind == "rain" else 20, STAGE[0] + 30
    out = np.zeros((period, *np.broadcast_shapes(y.shape, x.shape)), np.float32)
    spots = np.arange(count) * breadth / count + rng.uniform(-2, 2, count)
    drops = [*zip(spots, rng.uniform(0, loop, count), rng.uniform(0.85, 1.15, count))]
    drops += [(u + side, *rest) for u, *rest in drops for side in (-breadth, breadth) if view.left - 40 < u + side < view.right + 40]
    for u, phase, size in drops:
        for frame in range(period):
            for k in range(int(view.top // loop) - 1, STAGE[1] // loop + 2):
                cy = phase + loop * (frame / period + k)
                if kind == "rain":
                    along = np.clip(y - cy, -6 * size, 6 * size)
                    d = np.hypot(x - (u - slant * (cy + along)), y - cy - along) - 0.9
                else:
                    d = np.hypot(x - (u - slant * cy), y - cy) - 2.1 * size
                out[frame] = np.maximum(out[frame], cover(d, view.scale))
    return out
