"""Subjects as signed distance shapes, y up from the feet."""

import numpy as np



def ellipse(x, y, cx, cy, rx, ry):
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


def shapes(subject, x, y, gait, swing):
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
            (ellipse(x, y, -27, 27 + wag, 4.6, 4.6), white),
            (_leg(x, y, -11, 12, 8 * s, up, 2.8), "main"),
            (_leg(x, y, 9, 12, -8 * s, down, 2.8), "main"),
            (ellipse(x, y, 0, 16, 16, 8), "main"),
            (_triangle(x, y, (9, 29), (11, 41), (17, 31)), "main"),
            (_triangle(x, y, (16, 31), (21, 40), (23, 28)), "main"),
            (ellipse(x, y, 16, 25, 9, 8), "main"),
            (_triangle(x, y, (19, 20), (20, 28), (31, 21.5)), "light"),
            (ellipse(x, y, 30, 22, 1.9, 1.9), black),
            (ellipse(x, y, 19, 28, 1.7, 2.2), black),
        ]
    if subject == "rabbit":
        return [
            (_capsule(x, y, 6, 29, -1 - wag * 0.6, 46, 3.0), "shade"),
            (_capsule(x, y, 11, 30, 10 - wag * 0.6, 47, 3.2), "main"),
            (ellipse(x, y, -15, 12, 5.2, 5.2), white),
            (_leg(x, y, 7, 10, -6 * s, down, 2.8), "shade"),
            (ellipse(x, y, -2, 14, 13, 12), "main"),
            (_leg(x, y, 9, 10, 6 * s, up, 3.0), "main"),
            (_capsule(x, y, -8 - 5 * s, 3.6 + up * 0.5, 1 - 5 * s, 3.6, 3.6), "main"),
            (ellipse(x, y, 10, 26, 9, 8.5), "main"),
            (ellipse(x, y, 14, 22, 4.5, 3.5), "light"),
            (ellipse(x, y, 13, 28, 1.8, 2.4), black),
            (ellipse(x, y, 18.5, 25, 1.6, 1.4), (240, 120, 140)),
        ]
    if subject == "bird":
        flap = np.cos(gait) * (0.25 + swing)
        orange = (250, 150, 30)
        return [
            (_leg(x, y, -2, 10, -6 * s, down, 1.7), orange),
            (_leg(x, y, 3, 10, 6 * s, up, 1.7), orange),
            (_triangle(x, y, (-24, 23), (-20, 30), (-8, 18)), "shade"),
            (ellipse(x, y, 0, 19, 14, 11), "main"),
            (ellipse(x, y, 4, 15, 8, 6.5), "light"),
            (ellipse(x, y, 11, 31, 8, 8), "main"),
            (_triangle(x, y, (17, 27), (17, 34), (28, 30)), orange),
            (ellipse(x, y, 13, 33, 1.9, 2.2), black),
            (_capsule(x, y, 0, 21, -12, 22 + 13 * flap, 4.6), "shade"),
        ]
    if subject == "robot":
        metal, dark = (150, 156, 170), (96, 102, 118)
        return [
            (_capsule(x, y, -1, 24, -1 - 9 * s, 13, 2.4), dark),
            (_leg(x, y, -4, 10, -8 * s, down, 3.0), dark),
            (_leg(x, y, 4, 10, 8 * s, up, 3.0), metal),
            (_capsule(x, y, 1, 38, 1, 46, 0.9), metal),
            (ellipse(x, y, 1, 47 + wag * 0.3, 2.7, 2.7), (255, 90, 70)),
            (_box(x, y, 0, 19, 11, 9, 2.5), "main"),
            (_box(x, y, 1, 34, 10, 6.5, 2), "main"),
            (_box(x, y, 4.5, 34, 6.5, 3, 1.5), (28, 34, 52)),
            (ellipse(x, y, 3, 34, 1.7, 1.7), (110, 250, 240)),
            (ellipse(x, y, 8, 34, 1.7, 1.7), (110, 250, 240)),
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
            (ellipse(x, y, 25, 13, 2.4, 2.4), (255, 246, 170)),
            (ellipse(x, y, -26, 13, 1.8, 2.2), (255, 80, 60)),
        ]
        for wheel in (-15, 15):
            parts += [
                (ellipse(x, y, wheel, 6, 6.3, 6.3), (36, 36, 44)),
                (ellipse(x, y, wheel + turn_x, 6 + turn_y, 2.2, 2.2), (210, 214, 222)),
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
        (ellipse(x, y, -3, 17, 16, 10), "main"),
        (ellipse(x, y, -1, 13, 10, 5), "light"),
        (ellipse(x, y, 21 + nod, 40, 8.5, 5.6), "main"),
        (ellipse(x, y, 21 + nod, 42, 1.7, 2.1), black),
    ]
