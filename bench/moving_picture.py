"""The moving picture of the README: a film of a package, with the prompt that is on under it.

    python3 bench/moving_picture.py            # writes docs/results/pocket.webp

Needs numpy, Pillow and a built core; nothing but captions is added to what the core makes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from film import ROOT, Setup, Studio
from PIL import Image, ImageDraw, ImageFont

PROMPTS = ["a red fox runs on the grass by day", "a blue robot walks on the road at night"]
FPS = 16
BAR = 44  # pixels of the caption's line
NEW_FOR = 1.2  # seconds in which a prompt is shown as new


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, default=ROOT / "models/pocket")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/pocket.webp")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--quality", type=int, default=60)
    args = parser.parse_args()

    switch = args.blocks // 2
    case = {"seed": args.seed, "blocks": args.blocks, "timeline": [{"block": b, "prompt": p} for b, p in zip((0, switch), PROMPTS)]}
    with Studio(workers=1, threads=2) as studio:
        ((_, _, blocks),) = studio.shoot(Setup(args.package), [case], lambda _, frames: [*frames])
    pictures = [*captioned(blocks, switch, args.width)]
    pictures[0].save(args.out, save_all=True, append_images=pictures[1:], duration=round(1000 / FPS), loop=0, quality=args.quality, method=4)
    print(f"{args.out}: {len(pictures)} pictures, {args.out.stat().st_size / 1e6:.2f} MB")


def captioned(blocks: list[np.ndarray], switch: int, width: int) -> Iterator[Image.Image]:
    font = ImageFont.load_default(size=18)
    shown = 0  # pictures under the prompt that is on
    for index, block in enumerate(blocks):
        shown = 0 if index == switch else shown
        for frame in block:
            picture = Image.fromarray(frame)
            height = width * picture.height // picture.width
            sheet = Image.new("RGB", (width, height + BAR), "#14171c")
            sheet.paste(picture.resize((width, height), Image.Resampling.LANCZOS))
            new = index >= switch and shown < NEW_FOR * FPS
            draw = ImageDraw.Draw(sheet)
            draw.text((14, height + 11), PROMPTS[index >= switch], fill="#ffd166" if new else "#d6dae0", font=font)
            if new:
                draw.text((width - 14, height + 11), "new prompt", fill="#ffd166", font=font, anchor="ra")
            shown += 1
            yield sheet


if __name__ == "__main__":
    main()
