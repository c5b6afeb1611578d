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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "training"))


COMMAND = [str(ROOT / "node_modules/.bin/tsx"), str(ROOT / "bench/film.ts")]


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


    def changes(self) -> dict:
        """What of `config` is not in the package anyway."""
        sampling = json.loads((self.package / "config.json").read_text())["sampling"]
        return {k: v for k, v in self.config.items() if sampling.get(k) != v}


@dataclass
class Film:
    """The reply of film.ts."""

    path: Path | None  # raw RGB
    frames: int
    seconds: float
    blockMilliseconds: list[float]
    recacheMilliseconds: list[float]
    sessionBytes: int
    weightBytes: int


class Studio:
    """`workers` processes with `threads` threads each. `keep`: a folder where films stay, and are found again; else `discard` deletes
    them."""

    def __init__(self, workers: int = 2, threads: int = 1, keep: Path | None = None, command: list[str] = COMMAND):
        self.threads, self.keep = threads, keep
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="longlive-films-"))
        self.packages: dict[str, Path] = {}
        self.processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(workers)]
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
        shutil.rmtree(self.folder)

    def shoot(self, setup: Setup, cases: list[dict], frames: bool = True) -> Iterator[tuple[dict, Film]]:
        """The films of all cases, in order. `frames`: write them."""
        package = self.edited(setup)

        def one(case: dict) -> Film:
            key = hashlib.sha256(json.dumps([setup.key(), case], sort_keys=True).encode()).hexdigest()[:20]
            path = (self.keep or self.folder) / f"{key}.rgb" if frames else None
            reply_path = path and path.with_suffix(".json")
            if reply_path and reply_path.exists():
                return Film(path, **json.loads(reply_path.read_text()))
            load = {"precision": setup.precision, "threads": self.threads} | ({} if setup.kv == "full" else {"kv": setup.kv})
            job = {"package": str(package), "load": load, "rope": setup.rope, "mode": setup.mode} | {k: case[k] for k in ("seed", "blocks", "timeline")}
            job |= {"out": str(path)} if path else {}
            reply = self.ask(job)
            if reply_path and self.keep:
                reply_path.write_text(json.dumps(reply))
            return Film(path, **reply)

        with ThreadPoolExecutor(len(self.processes)) as pool:
            try:
                yield from zip(cases, pool.map(one, cases))
            finally:
                pool.shutdown(cancel_futures=True)

    def discard(self, film: Film) -> None:
        if film.path and not self.keep:
            film.path.unlink()

    def ask(self, job: dict) -> dict:
        process = self.idle.get()
        line = ""
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            pass  # told below
        finally:
            self.idle.put(process)
        reply = json.loads(line or '{"error": "the generating process has ended"}')
        if "error" in reply:
            raise RuntimeError(f"{job['package']}: {reply['error']}")
        return reply

    def edited(self, setup: Setup) -> Path:
        """The package, or a copy of it with other sampling settings."""
        changes = setup.changes()
        if not changes:
            return setup.package.resolve()
        key = hashlib.sha256(json.dumps([str(setup.package), changes], sort_keys=True).encode()).hexdigest()[:16]
        if key not in self.packages:
            self.packages[key] = edit_package(setup.package, changes, self.folder / f"package-{key}")
        return self.packages[key]


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
