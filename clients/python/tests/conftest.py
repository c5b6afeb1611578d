"""The real service, with the toy package: built before by `npm run build`."""

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
        command = ["npx", "--no-install", "tsx", "test/support/toy-service.ts", str(self._store), port, *([token] if token else [])]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.url = self._process.stdout.readline().strip()
        assert self.url.startswith("http"), "The service did not start: npm run build"

    def stop(self) -> None:
        """As if it was killed."""
        self._process.communicate()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("store"))
    yield running
    running.stop()
