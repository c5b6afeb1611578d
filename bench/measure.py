"""What is measured of a setup, kept on disk so that a run that was cut short goes on."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from film import Setup, Studio, machine

import longlive_training
from longlive_training.data import first_frame
from longlive_training.evaluate import blocks_in, from_world, make_case, observe_case
from longlive_training.judge import DEFAULT, Judge, Size
from longlive_training.metrics import Observation, psnr, summarise
from longlive_training.world import ATTRIBUTES, FPS

SPEED_SECONDS, WARM_BLOCKS = 8, 3
STILLS = 64  # frames that are kept of a film, of so many films:
SHOWN = 4
CODE = Path(longlive_training.__file__).parent
WORK = Path(tempfile.gettempdir()) / "longlive-measured"


def digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


class Cache:
    """What was measured, by what it depends on: reports as JSON, films as observations."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.judge = digest(DEFAULT / "judge.safetensors", *(CODE / f"{name}.py" for name in ("judge", "features", "metrics")))

    def path(self, suffix: str, *parts: object) -> Path:
        key = json.dumps([self.judge, *parts], sort_keys=True)
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}{suffix}"

    def get(self, make: Callable[[], dict], *parts: object) -> dict:
        path = self.path(".json", *parts)
        if not path.exists():
            began = time.time()
            report = make() | {"wallSeconds": round(time.time() - began, 1)}
            part = path.with_suffix(".part")
            part.write_text(json.dumps(report))
            part.rename(path)
        return json.loads(path.read_text())

    def has(self, *parts: object) -> bool:
        return self.path(".npz", *parts).exists()

    def put(self, seen: Observation, stills: list[np.ndarray], *parts: object) -> None:
        path = self.path(".npz", *parts)
        part = path.with_suffix(".part.npz")
        rest = json.dumps({k: v for k, v in vars(seen).items() if k != "features"})
        np.savez(part, rest=rest, **({} if seen.features is None else {"features": seen.features}), **({"stills": np.stack(stills)} if stills else {}))
        part.rename(path)

    def observation(self, *parts: object) -> Observation:
        with np.load(self.path(".npz", *parts)) as kept:
            return Observation(**json.loads(kept["rest"].item()), features=kept["features"] if "features" in kept else None)

    def stills(self, *parts: object) -> np.ndarray:
        with np.load(self.path(".npz", *parts)) as kept:
            return kept["stills"]


class Bench:
    def __init__(self, work: Path = WORK, workers: int = 2, keep: Path | None = None):
        self.cache, self.judge, self.workers, self.keep = Cache(work), Judge.load(), workers, keep
        self.world = digest(*sorted((CODE / "world").glob("*.py")))
        self.studio: Studio | None = None
        self.short: dict[tuple[str, str], np.ndarray] = {}

    def __enter__(self) -> Bench:
        self.studio = Studio(self.workers, keep=self.keep)
        return self

    def __exit__(self, *_) -> None:
        self.studio.__exit__()

    def observations(self, setup: Setup, cases: list[dict], label: str) -> list[Observation]:
        """Of the films of all cases; made unless there are some from before."""
        began, setup_key = time.time(), setup.key()
        # of the first films, the same ones whatever the number of cases, frames are kept to be shown
        keys = {c["name"]: ("film", setup_key, c, i < SHOWN) for i, c in enumerate(cases)}
        due = [c for c in cases if not self.cache.has(*keys[c["name"]])]

        def see(case: dict, pieces: Iterator[np.ndarray]) -> None:
            key, stills = keys[case["name"]], []
            seen = observe_case(self.judge, some(pieces, apart(case), stills) if key[-1] else pieces, case)
            self.cache.put(seen, stills, *key)

        for i, _ in enumerate(self.studio.shoot(setup, due, see) if due else ()):
            print(f"\r\x1b[K  {label}: film {i + 1} of {len(due)}", end="", file=sys.stderr, flush=True)
        print(f"\r\x1b[K  {label}: {time.time() - began:.0f} s, {len(due)} of {len(cases)} films made", file=sys.stderr)
        return [self.cache.observation(*keys[c["name"]]) for c in cases]

    def quality(self, setup: Setup, cases: list[dict], label: str, rendered: bool = True) -> dict:
        """The report of metrics.py over the films of all cases. `rendered`: with distances to the renderer's own films."""
        return summarise(self.observations(setup, cases, label), self.render(cases, setup.size()) if rendered else None)

    def stills(self, setup: Setup, cases: list[dict], seconds: list[float], films: int = 1) -> list[tuple[dict, np.ndarray]]:
        """Of the first films of what `quality` has measured: case, and frames at about these seconds."""
        shown = []
        for case in cases[: min(films, SHOWN)]:
            frames = self.cache.stills("film", setup.key(), case, True)
            shown.append((case, frames[[min(round(s * FPS / apart(case)), len(frames) - 1) for s in seconds]]))
        return shown

    def render(self, cases: list[dict], size: Size) -> list[Observation] | None:
        """The renderer's films of the cases, of the same size, if these say everything that is to be seen."""
        if not all(set(t["attributes"]) == set(ATTRIBUTES) for c in cases for t in c["timeline"]):
            return None
        keys = [("render", self.world, size, case) for case in cases]

        def make(key: tuple) -> None:
            *_, size, case = key
            self.cache.put(observe_case(self.judge, from_world(case, size), case), [], *key)

        with ThreadPoolExecutor(self.workers) as pool:
            list(pool.map(make, (key for key in keys if not self.cache.has(*key))))
        return [self.cache.observation(*key) for key in keys]

    def renderer(self, cases: list[dict], size: Size) -> dict:
        return summarise(self.render(cases, size))

    def likeness(self, setup: Setup, base: Setup, cases: list[dict], seconds: int) -> dict:
        """PSNR of short films to those of another setup from the same noise, over the first second and over all."""
        short = [make_case(c["name"], c["seed"], [{**c["timeline"][0], "blocks": blocks_in(seconds)}]) for c in cases]

        def frames(of: Setup, case: dict) -> np.ndarray:
            key = of.key(), case["name"]
            if key not in self.short:
                for other, _, film in self.studio.shoot(of, short, lambda _, pieces: np.concatenate([*pieces])):
                    self.short[of.key(), other["name"]] = film
            return self.short[key]

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
                    self.cache.path(".json", "speed", setup.key()).unlink(missing_ok=True)
                reports.append(self.cache.get(lambda: speed(studio, setup, case), "speed", setup.key()))  # noqa: B023
            return reports


def apart(case: dict) -> int:
    """Frames from one still to the next."""
    return max(1, first_frame(case["blocks"]) // STILLS)


def some(pieces: Iterator[np.ndarray], every: int, into: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The pieces as they are; copies of some frames go into a list."""
    at = 0
    for piece in pieces:
        into.extend(piece[-at % every :: every].copy())
        at += len(piece)
        yield piece


def speed(studio: Studio, setup: Setup, case: dict) -> dict:
    """Of one film with a switch, warm; and what the session and the weights take."""
    blocks = WARM_BLOCKS + round(SPEED_SECONDS * FPS / 12)
    switch = WARM_BLOCKS + (blocks - WARM_BLOCKS) // 2
    prompt = case["timeline"][0]["prompt"]
    timeline = [{"block": 0, "prompt": prompt}, {"block": switch, "prompt": f"{prompt}."}]
    [(_, film, _)] = studio.shoot(setup, [case | {"blocks": blocks, "timeline": timeline}])
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
