"""What a package of this world tells whoever writes prompts: what it knows, prompts that work, the words it was taught.

    python -m longlive_training.guide PACKAGE...     # writes it into the manifests of packages that were exported before

That the examples work is measured: bench/guide.py.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import captions

ABOUT = (
    "A drawn world, seen from the side. Subjects: fox, rabbit, bird, robot, car, dinosaur. Colours: red, blue, green, yellow, purple, white. "
    "Actions: stand, walk, run, jump. Ground: grass, sand, snow, water, road. Sky: day, sunset, night, dawn. Weather: clear, rain, snow. "
    "Write one short English sentence with one colour word. It draws nothing else."
)

# What each shows, for the judge.
EXAMPLES: list[tuple[str, dict[str, str]]] = [
    ("a red fox runs on the grass by day", {"subject": "fox", "colour": "red", "action": "run", "ground": "grass", "sky": "day", "weather": "clear"}),
    ("a blue robot walks on the road at night", {"subject": "robot", "colour": "blue", "action": "walk", "ground": "road", "sky": "night", "weather": "clear"}),
    ("a blue robot walks through snow at night", {"subject": "robot", "colour": "blue", "action": "walk", "ground": "snow", "sky": "night", "weather": "clear"}),
    ("a yellow bird jumps along the sand at sunset", {"subject": "bird", "colour": "yellow", "action": "jump", "ground": "sand", "sky": "sunset", "weather": "clear"}),
    ("a purple dinosaur stands on the road in the rain", {"subject": "dinosaur", "colour": "purple", "action": "stand", "ground": "road", "weather": "rain"}),
    ("a white rabbit jumps over the snow at dawn", {"subject": "rabbit", "colour": "white", "action": "jump", "ground": "snow", "sky": "dawn", "weather": "clear"}),
    ("a purple dinosaur walks on the sand at sunset", {"subject": "dinosaur", "colour": "purple", "action": "walk", "ground": "sand", "sky": "sunset", "weather": "clear"}),
    ("a red robot stands on the water at sunset", {"subject": "robot", "colour": "red", "action": "stand", "ground": "water", "sky": "sunset", "weather": "clear"}),
]  # fmt: skip


def phrases(table: object) -> Iterator[str]:
    """Every text in nested lists, tuples and the values of dicts."""
    if isinstance(table, str):
        yield table
    elif isinstance(table, Iterable):
        for entry in table.values() if isinstance(table, dict) else table:
            yield from phrases(entry)


def vocabulary() -> list[str]:
    """The words of all sentences for training, sorted; compounds in one piece and in parts."""
    tables = [captions.SUBJECTS, captions.COLOURS, captions.ACTIONS, captions.CAR_ACTIONS, captions.GROUNDS, captions.SKIES, captions.WEATHERS, captions.SAID]
    spoken = " ".join(phrases([tables, captions.OPENINGS["train"], captions.ADJECTIVES["train"], captions.ENDINGS["train"], captions.PATTERNS["train"]]))
    compounds = re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.sub(r"\{\w\}", " ", spoken.lower()))
    return sorted({*compounds, *(part for word in compounds for part in word.split("-"))})


def guide() -> dict:
    """`prompts` of a manifest (docs/model-package.md)."""
    return {"about": ABOUT, "examples": [prompt for prompt, _ in EXAMPLES], "vocabulary": vocabulary()}


def write_guide(package: Path) -> None:
    path = package / "manifest.json"
    manifest = json.loads(path.read_text())
    files = manifest.pop("files")
    path.write_text(json.dumps(manifest | {"prompts": guide(), "files": files}, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="+", type=Path)
    for package in parser.parse_args().packages:
        write_guide(package)


if __name__ == "__main__":
    main()
