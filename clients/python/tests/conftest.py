"""The real service, with the toy package or painted pictures: built before by `npm run build`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


class Service:
    def __init__(self, store: Path) -> None:
        self._store = store
        self.url = ""
        self.start()

    def start(self, token: str | None = None) -> None:
        port = self.url.rsplit(":", 1)[-1] if self.url else "0"
        self._process, self.url = _started("toy-service.ts", str(self._store), port, *([token] if token else []))

    def stop(self) -> None:
        """As if it was killed."""
        self._process.communicate()


def _started(script: str, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    command = ["npx", "--no-install", "tsx", f"test/support/{script}", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    url = process.stdout.readline().strip()
    assert url.startswith("http"), "The service did not start: npm run build"
    return process, url


@pytest.fixture
def slow_service() -> Iterator[str]:
    """The address of one that makes video half as fast as it plays."""
    process, url = _started("slow-service.ts")
    yield url
    process.communicate()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("store"))
    yield running
    running.stop()
