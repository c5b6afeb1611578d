"""A small procedural side-view world: the data the pocket model learns from.

A camera follows one subject, so the subject stays near the centre and the background scrolls past it in
four parallax layers. Everything is periodic and moves at constant speed, so the last few frames determine
what comes next. Gait, rain and snowfall repeat within `CYCLE` frames, the length of a block, so what the subject
does depends on the frame within the block and not on history. The seed only chooses where the scenery begins. A
prompt switch is an event in the world that lasts `TRANSITION` frames: the sky turns, the ground sweeps in from the
right, the subject vanishes in a puff. What stands on a new ground is at the fixed place when it has arrived: a prompt
alone tells what comes, and a model need not guess where.

Units: x runs right and y down from the corner of the stage, 192 x 112 units around everything that matters (subject space: y up
from the feet). A picture shows the stage in its middle and at its bottom; up to 144 rows a unit is a pixel, and what there is more
than the stage shows more sky and more scenery at both sides. Times are frames at 16 per second.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

FPS = 16
TRANSITION = 12  # frames that a change of attributes takes
CYCLE = 12  # frames of one gait cycle and of one turn of the weather
STAGE = (192, 112)  # units
SKYWARD = 32  # units above the stage that the highest view shows

ATTRIBUTES: dict[str, list[str]] = {
    "subject": ["fox", "rabbit", "bird", "robot", "car", "dinosaur"],
    "colour": ["red", "blue", "green", "yellow", "purple", "white"],
    "action": ["stand", "walk", "run", "jump"],
    "ground": ["grass", "sand", "snow", "water", "road"],
    "sky": ["day", "sunset", "night", "dawn"],
    "weather": ["clear", "rain", "snow"],
}

COLOURS = {
    "red": (222, 44, 48),
    "blue": (44, 104, 236),
    "green": (34, 190, 92),
    "yellow": (252, 206, 30),
    "purple": (152, 62, 214),
    "white": (244, 244, 248),
}

# action: scroll speed (units/frame), gait rate (turns per CYCLE), leg swing, bob (units), jump height (units)
ACTIONS = {
    "stand": (0.0, 1, 0.0, 0.6, 0.0),
    "walk": (2.0, 1, 0.55, 1.0, 0.0),
    "run": (4.0, 2, 1.0, 2.2, 0.0),
    "jump": (2.0, 1, 0.45, 0.0, 20.0),
}
# In this frame of a cycle every gait is at its beginning; it is the middle of a change that begins with a block.
GAIT_START = 3

# sky: zenith, horizon, disc (x as a fraction of the width, y, radius), disc colour, cloud colour, light, stars
SKIES = {
    "day": ((70, 150, 235), (186, 226, 250), (0.80, 21, 9), (255, 240, 150), (255, 255, 255), (1.0, 1.0, 1.0), 0),
    "sunset": ((96, 52, 128), (255, 138, 62), (0.76, 58, 15), (255, 214, 90), (255, 150, 120), (1.0, 0.76, 0.64), 0),
    "night": ((30, 40, 92), (80, 98, 160), (0.80, 21, 9), (240, 242, 255), (92, 106, 158), (0.64, 0.69, 0.92), 1),
    "dawn": ((120, 190, 205), (255, 206, 214), (0.22, 54, 11), (255, 250, 220), (255, 226, 232), (0.94, 0.86, 0.92), 0),
}

HORIZON = 78  # row where the ground begins
FEET = 96  # row the subject stands on
SUBJECT_X = 88.32
LAYERS = {"clouds": (0.125, 256), "hills": (0.25, 128), "props": (0.5, 96), "ground": (1.0, 96)}  # parallax, period


def sample_attributes(rng: np.random.Generator) -> dict[str, str]:
    """One uniformly random value per attribute."""
    return {name: values[rng.integers(len(values))] for name, values in ATTRIBUTES.items()}


def phases(seed: int | None) -> list[float]:
    """Everything that chance decides in a story, in turns 0..1: where each of `LAYERS` begins. None: the fixed place
    where the stories of the model begin (data.py says why)."""
    return [0.0] * len(LAYERS) if seed is None else np.random.default_rng(seed).uniform(size=len(LAYERS)).tolist()


def gait(action: "_Curve", frames: np.ndarray) -> np.ndarray:
    """The gait of each frame in turns; a change of gait happens in the middle of the transition."""
    rates = np.array([ACTIONS[a][1] for a in action.values])
    rate = rates[np.where(action.progress <= 0.5, action.before, action.after)]
    return (frames - GAIT_START) * rate / CYCLE


# --- tiles: the parts of the background that only scroll, drawn once ------------------------------------------


class _Tile:
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
def _clouds(scale: float) -> np.ndarray:
    t = _Tile(256, 8, 46, scale)
    for x, y, s in ((30, 22, 1.0), (112, 34, 0.75), (196, 20, 0.9)):
        for dx, dy, r in ((-13, 2, 6), (-4, -2, 8.5), (7, -1, 7.5), (15, 3, 5)):
            t.ellipse(x + dx * s, y + dy * s, r * 1.35 * s, r * s * 0.85, (255, 255, 255, 255))
    return t.array()


@lru_cache(maxsize=64)
def _hills(scale: float) -> np.ndarray:
    t = _Tile(128, 48, HORIZON, scale)
    x = np.arange(0, 129)
    y = 64 - 6 * np.sin(x * 2 * np.pi / 128) - 3.5 * np.sin(x * 4 * np.pi / 128 + 1)
    t.draw.polygon(t._points([*zip(x, y), (128, 80), (0, 80)], 0), fill=(255, 255, 255, 255))
    return t.array()


@lru_cache(maxsize=64)
def _props(ground: str, scale: float) -> np.ndarray:
    t = _Tile(96, 30, HORIZON + 4, scale)
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
def _ground(ground: str, scale: float) -> np.ndarray:
    t = _Tile(96, HORIZON, STAGE[1], scale)
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


@lru_cache(maxsize=8)
def _stars(view: View) -> np.ndarray:
    """float32 [rows, width]: brightness of a fixed field of stars above the hills, which comes again beside and above itself."""
    rng = np.random.default_rng(7)
    y, x = view.grid(56)
    out = np.zeros((y.shape[0], view.width), np.float32)
    for cx, cy, r in zip(rng.uniform(0, STAGE[0], 26), rng.uniform(2, 52, 26), rng.uniform(0.7, 1.3, 26)):
        for dx in (-STAGE[0], 0, STAGE[0]):
            for up in (0, 1) if view.top < 0 else (0,):
                out = np.maximum(out, _cover(np.hypot(x - cx - dx - 77 * up, y - cy + 54 * up) - r, view.scale))
    return out


def _cover(distance, scale):
    """Anti-aliased coverage of a shape from its signed distance in world units (negative inside)."""
    return np.clip(0.5 - distance * np.float32(scale), 0, 1)


def _scrolled(tile: np.ndarray, turns: np.ndarray, width: int) -> np.ndarray:
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
def _fall(kind: str, view: View) -> np.ndarray:
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
                out[frame] = np.maximum(out[frame], _cover(d, view.scale))
    return out


# --- subjects: signed distance shapes, y up from the feet -------------------------------------------------------


def _ellipse(x, y, cx, cy, rx, ry):
    return (np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2) - 1) * min(rx, ry)


def _capsule(x, y, ax, ay, bx, by, r):
    px, py, dx, dy = x - ax, y - ay, bx - ax, by - ay
    h = np.clip((px * dx + py * dy) / (dx * dx + dy * dy), 0, 1)
    return np.sqrt((px - dx * h) ** 2 + (py - dy * h) ** 2) - r


def _box(x, y, cx, cy, hx, hy, r):
    return np.maximum(np.abs(x - cx) - hx, np.abs(y - cy) - hy) if r == 0 else (
        np.hypot(np.maximum(np.abs(x - cx) - hx + r, 0), np.maximum(np.abs(y - cy) - hy + r, 0)) - r
    )


def _triangle(x, y, *corners):
    """Corners clockwise when y points up."""
    d = None
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1]):
        n = float(np.hypot(bx - ax, by - ay))
        edge = ((ay - by) * (x - ax) + (bx - ax) * (y - ay)) / n
        d = edge if d is None else np.maximum(d, edge)
    return d


def _leg(x, y, hip_x, hip_y, swing, lift, r):
    """A leg from the hip to a foot `swing` units ahead of it, `lift` units above the ground."""
    return _capsule(x, y, hip_x, hip_y, hip_x + swing, r + lift, r)


def _shapes(subject, x, y, gait, swing):
    """The parts of a subject, back to front: list of (distance [n, rows, columns], paint).

    x, y: subject space [n, rows, columns]; gait: angle [n, 1, 1]; swing: leg amplitude 0..1 [n, 1, 1].
    Paint is 'main', 'shade', 'light' (tints of the subject's colour) or an RGB triple.
    """
    s, c = np.sin(gait) * swing, np.cos(gait) * swing
    wag = np.sin(gait) * 2
    up = np.maximum(c, 0) * 3
    down = np.maximum(-c, 0) * 3
    black, white = (24, 22, 32), (250, 250, 250)
    if subject == "fox":
        return [
            (_leg(x, y, -8, 12, -8 * s, down, 2.6), "shade"),
            (_leg(x, y, 12, 12, 8 * s, up, 2.6), "shade"),
            (_capsule(x, y, -12, 17, -25, 25 + wag, 5.2), "main"),
            (_ellipse(x, y, -27, 27 + wag, 4.6, 4.6), white),
            (_leg(x, y, -11, 12, 8 * s, up, 2.8), "main"),
            (_leg(x, y, 9, 12, -8 * s, down, 2.8), "main"),
            (_ellipse(x, y, 0, 16, 16, 8), "main"),
            (_triangle(x, y, (9, 29), (11, 41), (17, 31)), "main"),
            (_triangle(x, y, (16, 31), (21, 40), (23, 28)), "main"),
            (_ellipse(x, y, 16, 25, 9, 8), "main"),
            (_triangle(x, y, (19, 20), (20, 28), (31, 21.5)), "light"),
            (_ellipse(x, y, 30, 22, 1.9, 1.9), black),
            (_ellipse(x, y, 19, 28, 1.7, 2.2), black),
        ]
    if subject == "rabbit":
        return [
            (_capsule(x, y, 6, 29, -1 - wag * 0.6, 46, 3.0), "shade"),
            (_capsule(x, y, 11, 30, 10 - wag * 0.6, 47, 3.2), "main"),
            (_ellipse(x, y, -15, 12, 5.2, 5.2), white),
            (_leg(x, y, 7, 10, -6 * s, down, 2.8), "shade"),
            (_ellipse(x, y, -2, 14, 13, 12), "main"),
            (_leg(x, y, 9, 10, 6 * s, up, 3.0), "main"),
            (_capsule(x, y, -8 - 5 * s, 3.6 + up * 0.5, 1 - 5 * s, 3.6, 3.6), "main"),
            (_ellipse(x, y, 10, 26, 9, 8.5), "main"),
            (_ellipse(x, y, 14, 22, 4.5, 3.5), "light"),
            (_ellipse(x, y, 13, 28, 1.8, 2.4), black),
            (_ellipse(x, y, 18.5, 25, 1.6, 1.4), (240, 120, 140)),
        ]
    if subject == "bird":
        flap = np.cos(gait) * (0.25 + swing)
        orange = (250, 150, 30)
        return [
            (_leg(x, y, -2, 10, -6 * s, down, 1.7), orange),
            (_leg(x, y, 3, 10, 6 * s, up, 1.7), orange),
            (_triangle(x, y, (-24, 23), (-20, 30), (-8, 18)), "shade"),
            (_ellipse(x, y, 0, 19, 14, 11), "main"),
            (_ellipse(x, y, 4, 15, 8, 6.5), "light"),
            (_ellipse(x, y, 11, 31, 8, 8), "main"),
            (_triangle(x, y, (17, 27), (17, 34), (28, 30)), orange),
            (_ellipse(x, y, 13, 33, 1.9, 2.2), black),
            (_capsule(x, y, 0, 21, -12, 22 + 13 * flap, 4.6), "shade"),
        ]
    if subject == "robot":
        metal, dark = (150, 156, 170), (96, 102, 118)
        return [
            (_capsule(x, y, -1, 24, -1 - 9 * s, 13, 2.4), dark),
            (_leg(x, y, -4, 10, -8 * s, down, 3.0), dark),
            (_leg(x, y, 4, 10, 8 * s, up, 3.0), metal),
            (_capsule(x, y, 1, 38, 1, 46, 0.9), metal),
            (_ellipse(x, y, 1, 47 + wag * 0.3, 2.7, 2.7), (255, 90, 70)),
            (_box(x, y, 0, 19, 11, 9, 2.5), "main"),
            (_box(x, y, 1, 34, 10, 6.5, 2), "main"),
            (_box(x, y, 4.5, 34, 6.5, 3, 1.5), (28, 34, 52)),
            (_ellipse(x, y, 3, 34, 1.7, 1.7), (110, 250, 240)),
            (_ellipse(x, y, 8, 34, 1.7, 1.7), (110, 250, 240)),
            (_box(x, y, 0, 20, 5, 3.5, 1), "light"),
            (_capsule(x, y, 1, 24, 1 + 9 * s, 12, 2.7), metal),
        ]
    if subject == "car":
        turn_x, turn_y = np.sin(gait) * 3, np.cos(gait) * 3
        parts = [
            (_box(x, y, -3, 20, 14, 8, 5), "main"),
            (_box(x, y, -9, 21, 5, 4.5, 2), (150, 214, 244)),
            (_box(x, y, 3.5, 21, 5, 4.5, 2), (150, 214, 244)),
            (_box(x, y, 0, 11, 27, 6.5, 4.5), "main"),
            (_box(x, y, 0, 8, 26, 1.3, 1), "shade"),
            (_ellipse(x, y, 25, 13, 2.4, 2.4), (255, 246, 170)),
            (_ellipse(x, y, -26, 13, 1.8, 2.2), (255, 80, 60)),
        ]
        for wheel in (-15, 15):
            parts += [
                (_ellipse(x, y, wheel, 6, 6.3, 6.3), (36, 36, 44)),
                (_ellipse(x, y, wheel + turn_x, 6 + turn_y, 2.2, 2.2), (210, 214, 222)),
            ]
        return parts
    nod = np.cos(gait) * (0.4 + swing) * 1.6
    return [  # dinosaur
        (_leg(x, y, -9, 12, -7 * s, down, 3.2), "shade"),
        (_leg(x, y, 8, 12, 7 * s, up, 3.2), "shade"),
        (_capsule(x, y, -14, 17, -24, 11 + wag * 0.5, 4.2), "main"),
        (_capsule(x, y, -23, 11.5 + wag * 0.5, -33, 9 + wag, 2.4), "main"),
        (_capsule(x, y, 9, 19, 18 + nod, 38, 4.6), "main"),
        (_triangle(x, y, (-14, 23), (-10, 31), (-6, 24)), "light"),
        (_triangle(x, y, (-6, 25), (-1, 33), (3, 25)), "light"),
        (_leg(x, y, -13, 12, 7 * s, up, 3.5), "main"),
        (_leg(x, y, 4, 12, -7 * s, down, 3.5), "main"),
        (_ellipse(x, y, -3, 17, 16, 10), "main"),
        (_ellipse(x, y, -1, 13, 10, 5), "light"),
        (_ellipse(x, y, 21 + nod, 40, 8.5, 5.6), "main"),
        (_ellipse(x, y, 21 + nod, 42, 1.7, 2.1), black),
    ]


# --- the timeline as curves over frames ---------------------------------------------------------------------------


def _smooth(p):
    """Progress with a gentle start and end; at most 1.25 times as fast as an even one, so that no single frame looks like a cut."""
    p = np.clip(p, 0, 1)
    return 0.5 * p + 0.5 * p * p * (3 - 2 * p)


class _Curve:
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
        p = _smooth(self.progress)[:, None]
        return (table[self.before] * (1 - p) + table[self.after] * p).astype(np.float32)

    def weight(self, value: str) -> np.ndarray:
        return self.blend(np.eye(len(self.values))[:, [self.values.index(value)]])[:, 0]

    def slice(self, sel) -> "_Curve":
        out = object.__new__(_Curve)
        out.values, out.before, out.after, out.progress = self.values, self.before[sel], self.after[sel], self.progress[sel]
        return out


def subject_box(width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixel rows and columns (first, behind the last) that the subject and its shadow are drawn in."""
    view = View(width, height)
    return (view.row(FEET - 72), view.row(FEET + 6)), (view.column(SUBJECT_X - 38), view.column(SUBJECT_X + 38))


def render(timeline, num_frames: int, seed: int | None, width: int = STAGE[0], height: int = STAGE[1], start: int = 0) -> np.ndarray:
    """Renders frames start .. start + num_frames - 1 of the story as uint8 [T, height, width, 3].

    timeline: [(frame, attributes), ...] with ascending frames; the first entry holds from the beginning.
    A switch at frame f begins to show in frame f. Equal arguments give equal pixels.
    """
    n = start + num_frames
    curves = {name: _Curve(name, timeline, n + TRANSITION) for name in ATTRIBUTES}  # a change at the end is to know where it arrives
    motion = curves["action"].blend(np.array([ACTIONS[a] for a in ATTRIBUTES["action"]]))
    scroll = np.cumsum(motion[:, 0], dtype=np.float64)
    steps = gait(curves["action"], np.arange(n + TRANSITION))
    places = _places(curves["ground"], scroll, dict(zip(LAYERS, phases(seed))))

    out = np.empty((num_frames, height, width, 3), np.uint8)
    for a in range(start, n, 16):
        sel = slice(a, min(a + 16, n))
        frames = np.arange(sel.start, sel.stop)
        picture = _compose(
            {k: c.slice(sel) for k, c in curves.items()}, motion[sel], steps[sel], {k: p[..., sel] for k, p in places.items()},
            frames, View(width, height),
        )
        np.clip(picture, 0, 255, out=picture)
        out[a - start : sel.stop - start] = np.moveaxis((picture + 0.5).astype(np.uint8), 0, -1)
    return out


def _places(ground: _Curve, scroll: np.ndarray, phase: dict[str, float]) -> dict[str, np.ndarray]:
    """Where each layer is in each frame, in turns at x = 0: clouds and hills [n], props and ground [2, n], of the ground that goes
    and of the one that comes. A new ground is in the fixed place in the last frame of its arrival."""
    arrival = (np.diff(ground.progress, prepend=1) < 0).cumsum()  # how many new grounds have come
    last = np.array([0.0] + [scroll[min(i + TRANSITION, len(scroll)) - 1] for i in np.flatnonzero(np.diff(arrival, prepend=0))])
    places = {}
    for name, (parallax, period) in LAYERS.items():
        at = scroll * parallax / period + phase[name]
        if name in ("props", "ground"):
            fixed = (scroll - last[:, None]) * parallax / period
            fixed[0] = at
            at = np.stack([np.take_along_axis(fixed, which[None], 0)[0] for which in (np.maximum(arrival - 1, 0), arrival)])
        places[name] = at
    return places


def _over(base, alpha, colour):
    """Paints colour (3 values, each a number or broadcastable array) over base [3, ...] in place."""
    for channel, value in zip(base, colour):
        channel += alpha * (value - channel)


def _compose(curve, motion, steps, places, frames, view: View) -> np.ndarray:
    """float32 [3, n, rows, width] in 0..255 for n consecutive frames."""
    n, width, scale = len(frames), view.width, view.scale
    col = lambda v: np.asarray(v, np.float32).reshape(n, 1, 1)
    rain, snow = curve["weather"].weight("rain"), curve["weather"].weight("snow")
    skies = [SKIES[s] for s in ATTRIBUTES["sky"]]
    pick = lambda i: curve["sky"].blend(np.array([np.atleast_1d(s[i]) for s in skies], np.float32))
    zenith, horizon, disc, disc_colour, cloud_colour, light, stars = (pick(i) for i in range(7))
    # bad weather turns the sky grey in the brightness that the hour has
    for sky in (zenith, horizon, cloud_colour):
        grey = (sky @ np.array([0.3, 0.5, 0.2], np.float32))[:, None] * np.array([0.92, 0.97, 1.05], np.float32)
        sky += (0.62 * rain + 0.40 * snow)[:, None] * (grey * (0.86 + 0.2 * snow[:, None]) - sky)
    light = light * (1 - 0.18 * rain)[:, None]
    clear = 1 - 0.75 * rain - 0.55 * snow

    # sky, celestial disc, stars, clouds
    y, x = view.grid()
    picture = np.empty((3, n, y.shape[0], width), np.float32)
    depth = np.clip(y / HORIZON, 0, 1) ** 1.2
    picture[:] = (zenith.T[:, :, None] + (horizon - zenith).T[:, :, None] * depth[None, None, :, 0])[..., None]
    rows = view.row(HORIZON)
    sky = picture[:, :, :rows]
    r = np.hypot(x[None] - col(disc[:, 0] * STAGE[0]), y[None, :rows] - col(disc[:, 1]))
    glow = np.clip(1 - r / (col(disc[:, 2]) * 3), 0, 1) ** 2 * 0.35
    alpha = np.maximum(_cover(r - col(disc[:, 2]), scale), glow) * col(clear)
    _over(sky, alpha, [col(c) for c in disc_colour.T])
    if stars.max() > 0:
        field = _stars(view)
        _over(picture[:, :, : field.shape[0]], field[None] * col(stars[:, 0] * clear), (255, 255, 240))

    def scrolled(name, tile, at):
        return _scrolled(tile, at + view.left / LAYERS[name][1], width)

    def layer(name, tile, top, at, colour=None, mask=None):
        """Draws a scrolling tile that is `at` turns [n]; with `colour` [n, 3] the tile is only a stencil."""
        strip = scrolled(name, tile, at)
        first = view.row(top)
        target = picture[:, :, first : first + strip.shape[2]]
        keep = 1 - (strip[3] if mask is None else strip[3] * mask)
        for c in range(3):
            ink = strip[3] * col(colour[:, c]) if colour is not None else strip[c] * col(light[:, c])
            target[c] *= keep
            target[c] += ink if mask is None else ink * mask

    layer("clouds", _clouds(scale) * 0.85, 8, places["clouds"], cloud_colour)
    grounds = np.array([_ground(g, scale)[:3].mean((1, 2)) for g in ATTRIBUTES["ground"]])
    layer("hills", _hills(scale), 48, places["hills"], 0.55 * horizon + 0.45 * curve["ground"].blend(grounds) * light)

    # ground and the things that stand on it; a new ground sweeps in from the right
    ground = curve["ground"]
    front = view.left + width / scale * (1.08 - 1.16 * ground.progress)
    new = np.clip(0.5 + (x[None] - col(front)) / 14, 0, 1)  # [n, 1, width]: how much of the new ground
    grounds_drawn = []
    for index, label in enumerate(ground.values):
        share = col(ground.after == index) * new + col(ground.before == index) * (1 - new)
        if share.any():
            comes = ground.after == index
            layer("props", _props(label, scale), 30, np.where(comes, *places["props"][::-1]), mask=share)
            grounds_drawn.append((label, share, comes))
    floor = picture[:, :, rows:]
    floor[:] = 0
    for label, share, comes in grounds_drawn:
        strip = scrolled("ground", _ground(label, scale), np.where(comes, *places["ground"][::-1]))
        for c in range(3):
            floor[c] += strip[c] * (share * col(light[:, c]))

    # the sun or moon glitters on water
    wet = sum((share for label, share, _ in grounds_drawn if label == "water"), np.float32(0))
    if np.any(wet):
        rows_y = y[None, rows:]
        away = np.abs(x[None] - col(disc[:, 0] * STAGE[0])) / (5 + 0.22 * (rows_y - HORIZON) + col(disc[:, 2]) * 0.6)
        ripple = np.clip(np.sin(rows_y * 1.7 + 0.9 * np.sin(x[None] * 0.21)), 0, 1)
        _over(floor, np.clip(1.4 - away, 0, 1) * ripple * wet * col(0.62 * clear), [col(c) for c in disc_colour.T])

    _subject(picture, curve, motion, steps, light, view)

    for kind, weight, colour, strength in (
        ("rain", rain, (214, 228, 250), 0.75),
        ("snow", snow, (255, 255, 255), 0.92),
    ):
        if weight.max() > 0:
            drops = _fall(kind, view)
            bright = 0.55 + 0.45 * light
            _over(picture, drops[frames % len(drops)] * col(weight * strength),
                  [v * col(bright[:, i]) for i, v in enumerate(colour)])
    return picture


def _subject(picture, curve, motion, steps, light, view: View):
    """Draws shadow, subject and, during a change of subject, the puff that hides it. In place."""
    scale = view.scale
    col = lambda v: np.asarray(v, np.float32).reshape(-1, 1, 1)
    angle = 2 * np.pi * steps
    hop = steps % 1
    lift = motion[:, 4] * 4 * hop * (1 - hop) + motion[:, 3] * (0.5 - 0.5 * np.cos(2 * angle))
    change = curve["subject"]
    p = change.progress
    size = np.where(p < 1, 0.25 + 0.75 * np.abs(2 * p - 1), 1)
    puff = np.where(p < 1, np.sin(np.pi * p), 0)
    who = np.where(p < 0.5, change.before, change.after)

    (top, _), (left, right) = subject_box(view.width, view.height)
    y, x = view.grid()
    x, y = x[None, :, left:right] - SUBJECT_X, FEET - y[None, top:]
    patch = picture[:, :, top:, left:right]

    shadow = 0.34 * np.clip(1 - lift / 40, 0.4, 1) * size
    low = slice(view.row(FEET - 6) - top, view.row(FEET + 6) - top)
    d = _ellipse(x / col(size), y[:, low], 0, 0, 23, 3.6)
    _over(patch[:, :, low], _cover(d, scale) * col(shadow), (18, 20, 40))

    palette = np.array([COLOURS[c] for c in ATTRIBUTES["colour"]], np.float32)
    colour = curve["colour"]
    # alone, a new colour sweeps over the subject from its tail; with a new subject it comes out of the puff
    together = (p < 1) & (colour.progress < 1)
    edge = -40 + 80 * colour.progress
    sweep = np.clip(0.5 + (col(edge) - x) / 10, 0, 1)
    sweep = np.where(col(together), col(p >= 0.5), np.where(col(colour.progress >= 1), 1, sweep)).astype(np.float32)
    glow = 0.45 + 0.55 * light  # the subject stays readable at night

    for index, subject in enumerate(change.values):
        sel = np.flatnonzero(who == index)
        if not len(sel):
            continue
        part = patch[:, sel]
        main = [palette[colour.before[sel], c].reshape(-1, 1, 1) * (1 - sweep[sel])
                + palette[colour.after[sel], c].reshape(-1, 1, 1) * sweep[sel] for c in range(3)]
        tint = [col(glow[sel, c]) for c in range(3)]
        zoom = col(size[sel])
        shapes = _shapes(subject, x / zoom, (y - col(lift[sel])) / zoom, col(angle[sel]), col(motion[sel, 2]))
        outline = np.maximum.reduce([_cover(d * zoom - 1.3, scale) for d, _ in shapes])
        _over(part, outline, [m * 0.16 + 10 for m in main])
        for d, paint in shapes:
            if paint == "main":
                ink = main
            elif paint == "shade":
                ink = [m * 0.68 for m in main]
            elif paint == "light":
                ink = [m * 0.45 + 140 for m in main]
            else:
                ink = paint
            _over(part, _cover(d * zoom, scale), [i * t for i, t in zip(ink, tint)])
        patch[:, sel] = part

    sel = np.flatnonzero(puff > 0)
    if len(sel):
        part, grow = patch[:, sel], col(puff[sel])
        d = None
        for cx, cy, r in ((0, 18, 19), (-15, 12, 11), (15, 12, 11), (-10, 28, 12), (11, 29, 12)):
            circle = np.hypot(x - cx * grow, y - col(lift[sel]) - cy) - r * grow
            d = circle if d is None else np.minimum(d, circle)
        _over(part, _cover(d - 1.2, scale), [v * col(glow[sel, c]) for c, v in enumerate((170, 176, 200))])
        _over(part, _cover(d, scale), [v * col(glow[sel, c]) for c, v in enumerate((250, 250, 255))])
        patch[:, sel] = part
