"""What is measured of a setup, kept on disk so that a run that was cut short goes on."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from film import Setup, Studio, machine

from longlive_training.evaluate import WIDTH, blocks_in, from_world, make_case, observe_case
from longlive_training.judge import DEFAULT, Judge
from longlive_training.metrics import Observation, psnr, summarise
from longlive_training.world import ATTRIBUTES, FPS, HEIGHT

SPEED_SECONDS, WARM_BLOCKS = 8, 3
STILLS = 64  # frames that are kept of a film, of so many films:
SHOWN = 4
WORK = Path(tempfile.gettempdir()) / "longlive-measured"


class Cache:
    """JSON reports by what they depend on; a report may have pictures beside it."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.judge = hashlib.sha256((DEFAULT / "judge.safetensors").read_bytes()).hexdigest()

    def path(self, *parts: object) -> Path:
        key = json.dumps([self.judge, *parts], sort_keys=True)
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.json"

    def get(self, make: Callable[[], dict], *parts: object) -> dict:
        path = self.path(*parts)
        if not path.exists():
            began = time.time()
            report = make() | {"wallSeconds": round(time.time() - began, 1)}
            part = path.with_suffix(".part")
            part.write_text(json.dumps(report))
            part.rename(path)
        return json.loads(path.read_text())


class Bench:
    def __init__(self, work: Path = WORK, workers: int = 2, films: Path | None = None):
        self.cache, self.judge, self.workers, self.keep = Cache(work), Judge.load(), workers, films
        self.studio: Studio | None = None
        self.rendered: dict[str, list[Observation]] = {}
        self.films: dict[tuple[str, str], np.ndarray] = {}

    def __enter__(self) -> Bench:
        self.studio = Studio(self.workers, keep=self.keep)
        return self

    def __exit__(self, *_) -> None:
        self.studio.__exit__()

    def quality(self, setup: Setup, cases: list[dict], label: str, rendered: bool = True) -> dict:
        """The report of metrics.py over the films of all cases. `rendered`: with distances to the renderer's own films."""
        key = ("quality", setup.key(), cases, rendered)

        def measure() -> dict:
            seen, stills = [], {}
            for i, (case, film) in enumerate(self.studio.shoot(setup, cases)):
                print(f"\r\x1b[K  {label}: film {i + 1} of {len(cases)}", end="", file=sys.stderr, flush=True)
                video = read_film(film.path)
                if i < SHOWN:
                    stills[case["name"]] = video[:: max(1, len(video) // STILLS)].copy()
                seen.append(observe_case(self.judge, video, case))
                self.studio.discard(film)
            np.savez(self.cache.path(*key).with_suffix(".npz"), **stills)
            return summarise(seen, self.render(cases) if rendered else None)

        began = time.time()
        report = self.cache.get(measure, *key)
        print(f"\r\x1b[K  {label}: {time.time() - began:.0f} s", file=sys.stderr)
        return report

    def stills(self, setup: Setup, cases: list[dict], seconds: list[float], films: int = 1, rendered: bool = True) -> list[tuple[dict, np.ndarray]]:
        """Of the first films of what `quality` has measured: case, and frames at about these seconds."""
        kept = np.load(self.cache.path("quality", setup.key(), cases, rendered).with_suffix(".npz"))
        shown = []
        for case in cases[:films]:
            frames = kept[case["name"]]
            total = 12 * case["blocks"] - 3
            every = max(1, total // STILLS)
            shown.append((case, frames[[min(round(s * FPS / every), len(frames) - 1) for s in seconds]]))
        return shown

    def render(self, cases: list[dict]) -> list[Observation] | None:
        """The renderer's films of the cases, if these say everything that is to be seen."""
        key = json.dumps(cases)
        if key not in self.rendered and all(set(t["attributes"]) == set(ATTRIBUTES) for c in cases for t in c["timeline"]):
            self.rendered[key] = [observe_case(self.judge, from_world(case), case) for case in cases]
        return self.rendered.get(key)

    def renderer(self, cases: list[dict]) -> dict:
        return self.cache.get(lambda: summarise(self.render(cases)), "renderer", cases)

    def likeness(self, setup: Setup, base: Setup, cases: list[dict], seconds: int) -> dict:
        """PSNR of short films to those of another setup from the same noise, over the first second and over all."""
        short = [make_case(c["name"], c["seed"], [{**c["timeline"][0], "blocks": blocks_in(seconds)}]) for c in cases]

        def frames(of: Setup, case: dict) -> np.ndarray:
            key = of.key(), case["name"]
            if key not in self.films:
                for other, film in self.studio.shoot(of, short):
                    self.films[of.key(), other["name"]] = np.fromfile(film.path, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)
                    self.studio.discard(film)
            return self.films[key]

        def measure() -> dict:
            pairs = [(frames(setup, c), frames(base, c)) for c in short]
            return {"firstSecond": round(float(np.mean([psnr(a[:FPS], b[:FPS]) for a, b in pairs])), 2),
                    "all": round(float(np.mean([psnr(a, b) for a, b in pairs])), 2)}  # fmt: skip

        return self.cache.get(measure, "likeness", setup.key(), base.key(), short)

    def speeds(self, setups: list[Setup], case: dict, anew: bool = False) -> list[dict]:
        """Speeds of setups one after another, on all threads; wants a quiet machine."""
        with Studio(1, threads=int(machine()["cores"])) as studio:
            reports = []
            for setup in setups:
                if anew:
                    self.cache.path("speed", setup.key()).unlink(missing_ok=True)
                reports.append(self.cache.get(lambda: speed(studio, setup, case), "speed", setup.key()))  # noqa: B023
            return reports


def read_film(path: Path) -> np.ndarray:
    return np.memmap(path, np.uint8, "r").reshape(-1, HEIGHT, WIDTH, 3)


def speed(studio: Studio, setup: Setup, case: dict) -> dict:
    """Of one film with a switch, warm; and what the session and the weights take."""
    blocks = WARM_BLOCKS + round(SPEED_SECONDS * FPS / 12)
    switch = WARM_BLOCKS + (blocks - WARM_BLOCKS) // 2
    prompt = case["timeline"][0]["prompt"]
    timeline = [{"block": 0, "prompt": prompt}, {"block": switch, "prompt": f"{prompt}."}]
    [(_, film)] = studio.shoot(setup, [case | {"blocks": blocks, "timeline": timeline}], frames=False)
    times = np.array(film.blockMilliseconds)[WARM_BLOCKS:]
    steady = np.delete(times, switch - WARM_BLOCKS)
    return {
        "framesPerSecond": round(12 / float(np.mean(steady)) * 1000, 1),
        "blockMilliseconds": round(float(np.median(steady)), 1),
        "switchMilliseconds": round(float(times[switch - WARM_BLOCKS]), 1),
        "recacheMilliseconds": round(film.recacheMilliseconds[0], 1),
        "sessionBytes": film.sessionBytes,
        "weightBytes": film.weightBytes,
    }
