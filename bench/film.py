"""Films by the native core for the benchmarks: several processes of film.ts, one job each at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "training"))


COMMAND = [str(ROOT / "node_modules/.bin/tsx"), str(ROOT / "bench/film.ts")]
See = Callable[[dict, Iterator[np.ndarray]], Any]  # what becomes of a case's frames, which come as uint8 [n, H, W, 3]

@dataclass(frozen=True)
class Setup:
    """How a film is made. `config` replaces settings of the package's `sampling` section."""

    package: Path
    precision: str = "bf16"
    kv: str = "full"
    rope: str = "package"
    mode: str = "recache"
    config: dict = field(default_factory=dict)

    def key(self) -> str:
        """Of what the films depend on: the package's contents and these settings."""
        manifest = (self.package / "manifest.json").read_bytes()
        rest = json.dumps([self.precision, self.kv, self.rope, self.mode, self.changes()], sort_keys=True)
        return hashlib.sha256(manifest + rest.encode()).hexdigest()[:16]

    def size(self) -> tuple[int, int]:
        """Width and height of the pictures."""
        video = json.loads((self.package / "config.json").read_text())["video"]
        return video["width"], video["height"]

    def changes(self) -> dict:
        """What of `config` is not in the package anyway."""
        sampling = json.loads((self.package / "config.json").read_text())["sampling"]
        return {k: v for k, v in self.config.items() if sampling.get(k) != v}


@dataclass
class Film:
    """The reply of film.ts."""

    frames: int
    seconds: float
    blockMilliseconds: list[float]
    recacheMilliseconds: list[float]
    sessionBytes: int
    weightBytes: int


class Studio:
    """`workers` processes with `threads` threads each. Frames are seen as they are made and not stored, whatever the length of a
    film, but in `keep`: a folder where films stay, and are found again."""

    def __init__(self, workers: int = 2, threads: int = 1, keep: Path | None = None, command: list[str] = COMMAND):
        self.threads, self.keep = threads, keep
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="longlive-films-"))
        self.packages: dict[str, Path] = {}
        self.processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(workers)]
        self.idle: queue.SimpleQueue[subprocess.Popen] = queue.SimpleQueue()
        for process in self.processes:
            self.idle.put(process)

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *_) -> None:
        for process in self.processes:
            process.kill()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
            process.stdout.close()
        shutil.rmtree(self.folder)

    def shoot(self, setup: Setup, cases: list[dict], see: See | None = None) -> Iterator[tuple[dict, Film, Any]]:
        """The films of all cases, in order, with what `see` made of their frames; without it none are handed over."""
        package, size = self.edited(setup), setup.size()
        threads = self.threads * max(1, len(self.processes) // len(cases))  # a film alone has all threads
        load = {"precision": setup.precision, "threads": threads} | ({} if setup.kv == "full" else {"kv": setup.kv})

        def one(case: dict) -> tuple[Film, Any]:
            job = {"package": str(package), "load": load, "rope": setup.rope, "mode": setup.mode, "frames": see is not None}
            job |= {k: case[k] for k in ("seed", "blocks", "timeline")}
            if see is None:
                film, _ = self.make(job, lambda pieces: [*pieces])
                return film, None
            pixels = (lambda pieces: see(case, (np.frombuffer(p, np.uint8).reshape(-1, size[1], size[0], 3) for p in pieces)))  # fmt: skip
            if not self.keep:
                return self.make(job, pixels)
            key = hashlib.sha256(json.dumps([setup.key(), case], sort_keys=True).encode()).hexdigest()[:20]
            path = self.keep / f"{key}.rgb"
            if not path.with_suffix(".json").exists():
                film, _ = self.make(job, lambda pieces: write_all(path, pieces))
                path.with_suffix(".json").write_text(json.dumps(vars(film)))
            film = Film(**json.loads(path.with_suffix(".json").read_text()))
            return film, pixels(read_all(path, 12 * size[0] * size[1] * 3))

        with ThreadPoolExecutor(len(self.processes)) as pool:
            try:
                for case, (film, seen) in zip(cases, pool.map(one, cases)):
                    yield case, film, seen
            finally:
                pool.shutdown(cancel_futures=True)

    def make(self, job: dict, see: Callable[[Iterator[bytes]], Any]) -> tuple[Film, Any]:
        process, reply = self.idle.get(), {}
        try:
            seen = see(frames_of(process, job, reply))
            if not reply:
                raise RuntimeError("frames were left unseen")
            return Film(**reply), seen
        except BaseException:
            process.kill()  # it may be in the middle of a film
            raise
        finally:
            self.idle.put(process)

    def edited(self, setup: Setup) -> Path:
        """The package, or a copy of it with other sampling settings."""
        changes = setup.changes()
        if not changes:
            return setup.package.resolve()
        key = hashlib.sha256(json.dumps([str(setup.package), changes], sort_keys=True).encode()).hexdigest()[:16]
        if key not in self.packages:
            self.packages[key] = edit_package(setup.package, changes, self.folder / f"package-{key}")
        return self.packages[key]


def frames_of(process: subprocess.Popen, job: dict, reply: dict) -> Iterator[bytes]:
    """Raw RGB of one block after another; after the last the answer is in `reply`."""
    with contextlib.suppress(BrokenPipeError):  # told below
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
    while True:
        told = json.loads(process.stdout.readline() or '{"error": "the generating process has ended"}')
        if "error" in told:
            raise RuntimeError(f"{job['package']}: {told['error']}")
        if "bytes" not in told:
            reply.update(told)
            return
        frames = process.stdout.read(told["bytes"])
        if len(frames) < told["bytes"]:
            raise RuntimeError(f"{job['package']}: the generating process has ended")
        yield frames


def write_all(path: Path, pieces: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(pieces)


def read_all(path: Path, piece: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(piece):
            yield data


def edit_package(package: Path, sampling: dict, out: Path) -> Path:
    """A copy of a package with settings of its `sampling` section replaced, and a manifest that says so."""
    shutil.copytree(package, out)
    config = json.loads((out / "config.json").read_text())
    unknown = set(sampling) - set(config["sampling"])
    if unknown:
        raise ValueError(f"{package}/config.json has no sampling setting {', '.join(sorted(unknown))}")
    config["sampling"] |= sampling
    text = json.dumps(config, indent=2).encode()
    (out / "config.json").write_bytes(text)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["files"]["config.json"] = {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2))
    return out


def machine() -> dict[str, str | int]:
    name = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "unknown")
    return {"cpu": name, "cores": os.cpu_count() or 1}
