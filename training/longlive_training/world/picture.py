"""The pictures of a story."""

import numpy as np

from . import scenery
from .facts import ACTIONS, ATTRIBUTES, COLOURS, FEET, HORIZON, LAYERS, SKIES, STAGE, SUBJECT_X, TRANSITION, phases
from .subjects import ellipse, shapes
from .timeline import Curve, gait
from .view import View, cover


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
    curves = {name: Curve(name, timeline, n + TRANSITION) for name in ATTRIBUTES}  # a change at the end is to know where it arrives
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


def _places(ground: Curve, scroll: np.ndarray, phase: dict[str, float]) -> dict[str, np.ndarray]:
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
    alpha = np.maximum(cover(r - col(disc[:, 2]), scale), glow) * col(clear)
    _over(sky, alpha, [col(c) for c in disc_colour.T])
    if stars.max() > 0:
        field = scenery.stars(view)
        _over(picture[:, :, : field.shape[0]], field[None] * col(stars[:, 0] * clear), (255, 255, 240))

    def scrolled(name, tile, at):
        return scenery.scrolled(tile, at + view.left / LAYERS[name][1], width)

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

    layer("clouds", scenery.clouds(scale) * 0.85, 8, places["clouds"], cloud_colour)
    grounds = np.array([scenery.ground(g, scale)[:3].mean((1, 2)) for g in ATTRIBUTES["ground"]])
    layer("hills", scenery.hills(scale), 48, places["hills"], 0.55 * horizon + 0.45 * curve["ground"].blend(grounds) * light)

    # ground and the things that stand on it; a new ground sweeps in from the right
    ground = curve["ground"]
    front = view.left + width / scale * (1.08 - 1.16 * ground.progress)
    new = np.clip(0.5 + (x[None] - col(front)) / 14, 0, 1)  # [n, 1, width]: how much of the new ground
    grounds_drawn = []
    for index, label in enumerate(ground.values):
        share = col(ground.after == index) * new + col(ground.before == index) * (1 - new)
        if share.any():
            comes = ground.after == index
            layer("props", scenery.props(label, scale), 30, np.where(comes, *places["props"][::-1]), mask=share)
            grounds_drawn.append((label, share, comes))
    floor = picture[:, :, rows:]
    floor[:] = 0
    for label, share, comes in grounds_drawn:
        strip = scrolled("ground", scenery.ground(label, scale), np.where(comes, *places["ground"][::-1]))
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
            drops = scenery.fall(kind, view)
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
    d = ellipse(x / col(size), y[:, low], 0, 0, 23, 3.6)
    _over(patch[:, :, low], cover(d, scale) * col(shadow), (18, 20, 40))

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
        parts = shapes(subject, x / zoom, (y - col(lift[sel])) / zoom, col(angle[sel]), col(motion[sel, 2]))
        outline = np.maximum.reduce([cover(d * zoom - 1.3, scale) for d, _ in parts])
        _over(part, outline, [m * 0.16 + 10 for m in main])
        for d, paint in parts:
            if paint == "main":
                ink = main
            elif paint == "shade":
                ink = [m * 0.68 for m in main]
            elif paint == "light":
                ink = [m * 0.45 + 140 for m in main]
            else:
                ink = paint
            _over(part, cover(d * zoom, scale), [i * t for i, t in zip(ink, tint)])
        patch[:, sel] = part

    sel = np.flatnonzero(puff > 0)
    if len(sel):
        part, grow = patch[:, sel], col(puff[sel])
        d = None
        for cx, cy, r in ((0, 18, 19), (-15, 12, 11), (15, 12, 11), (-10, 28, 12), (11, 29, 12)):
            circle = np.hypot(x - cx * grow, y - col(lift[sel]) - cy) - r * grow
            d = circle if d is None else np.minimum(d, circle)
        _over(part, cover(d - 1.2, scale), [v * col(glow[sel, c]) for c, v in enumerate((170, 176, 200))])
        _over(part, cover(d, scale), [v * col(glow[sel, c]) for c, v in enumerate((250, 250, 255))])
        patch[:, sel] = part
