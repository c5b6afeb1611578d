"""bench/gpu/torch_model.py, which measures this package's network on a GPU, as far as it goes without one."""

import importlib.util
import json
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

FILE = Path(__file__).resolve().parents[2] / "bench/gpu/torch_model.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("torch_model", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_small_run_on_the_cpu_gives_blocks_and_attention(bench: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "torch.json"
    bench.main(["--device", "cpu", "--small", "--blocks", "1", "--json", str(file)])
    result = json.loads(file.read_text())
    assert result["small"] and result["device"] == "cpu"
    values = {value["name"]: value.get("value") for value in result["values"]}
    assert values.pop("torch eager: block without decode p50") > 0
    assert set(values) <= {"torch attention, cuDNN: failed"}  # there is none on a CPU
    default = next(kernel for kernel in result["kernels"] if kernel["name"] == "self-attention, keys 96, default")
    assert default["ms"] > 0 and default["operations"] == 4 * 24 * 96 * 3 * 32


class Graph:
    """Stands in for torch.cuda.CUDAGraph: replays what was called while it was open."""

    def __init__(self) -> None:
        self.calls = []

    def replay(self) -> None:
        for call in self.calls:
            call()


@pytest.mark.parametrize("works", [True, False])
def test_a_graph_counts_only_if_its_replay_writes(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, works: bool) -> None:
    keys = torch.zeros(3)
    opened = []

    def run() -> None:
        for graph in opened if works else []:
            graph.calls.append(lambda: keys.add_(1))
        keys.add_(1)

    @contextmanager
    def graph(instance: Graph):
        opened.append(instance)
        yield
        opened.clear()

    stream = SimpleNamespace(wait_stream=lambda other: None)
    fake = SimpleNamespace(
        Stream=lambda: stream, current_stream=lambda: stream, stream=lambda s: nullcontext(), CUDAGraph=Graph, graph=graph
    )
    monkeypatch.setattr(bench.torch, "cuda", fake)
    if works:
        bench.captured(run, keys)()
        assert keys.tolist() == [2, 2, 2]
    else:
        with pytest.raises(RuntimeError, match="no work"):
            bench.captured(run, keys)
