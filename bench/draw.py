"""Strips of frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

LABEL = 16  # pixels of the line above a row


def save_strip(rows: list[tuple[str, np.ndarray]], path: Path) -> None:
    """rows: label and frames uint8 [n, h, w, 3]. JPEG: a small palette would show in skies what the model does not draw."""
    count, height, width, _ = max((frames for _, frames in rows), key=len).shape
    sheet = Image.new("RGB", (count * (width + 2) - 2, len(rows) * (height + LABEL)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (label, frames) in enumerate(rows):
        top = i * (height + LABEL)
        draw.text((3, top + 2), label, fill="black")
        for j, frame in enumerate(frames):
            sheet.paste(Image.fromarray(frame), (j * (width + 2), top + LABEL))
    sheet.save(path, quality=88, subsampling=0, optimize=True)


def palette(image: Image.Image) -> Image.Image:
    """In few colours, so that the file stays small."""
    return image.convert("RGB").quantize(48, dither=Image.Dither.NONE)
