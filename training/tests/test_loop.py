"""The loop that all stages share, on a small regression."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from longlive_training import config, loop
from longlive_training.loop import Average, Loop, Optimiser, Random, adamw, plot

CPU = torch.device("cpu")


class Task:
    """Fits a linear map; `loop` is the loop under test."""

    def __init__(self, folder: Path, **settings):
        settings = config.Loop(**({"steps": 20, "lr": 0.05, "log_every": 5, "warmup": 3, "cooldown": 0.5, "ema": 0.9} | settings))
        torch.manual_seed(0)
        self.model, self.target = nn.Linear(4, 3), torch.randn(4, 3)
        self.average, self.optimiser = Average(self.model, settings.ema), Optimiser(adamw([self.model], settings), 1.0)
        states = {"model": self.model, "average": self.average, "optimiser": self.optimiser}
        self.loop = Loop(folder, "task", settings, 1, CPU, states)
        self.loop.resume()

    def step(self, rng: Random) -> dict[str, Tensor]:
        x = rng.normal(16, 4)
        error = (self.model(x) - x @ self.target).square().mean()
        error.backward()
        self.optimiser.step(self.loop.rate())
        self.average.update(self.loop.step)
        return {"loss": error}

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in (*self.model.parameters(), *self.average.module.parameters())]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b))


def test_equal_seeds_give_equal_weights_and_the_loss_falls(tmp_path: Path) -> None:
    first, second = Task(tmp_path / "a"), Task(tmp_path / "b")
    first.loop.run(first.step), second.loop.run(second.step)
    assert equal(first.weights(), second.weights())
    assert first.loop.curve == second.loop.curve and [r["step"] for r in first.loop.curve] == [5, 10, 15, 20]
    report = first.loop.report()
    assert report["lossLast"]["loss"] < 0.9 * report["lossFirst"]["loss"] and report["steps"] == 20 and "CPU" in report["device"]


@pytest.mark.parametrize("stop", [1, 5, 13])
def test_an_interrupted_run_that_goes_on_equals_one_that_was_not(tmp_path: Path, stop: int) -> None:
    whole = Task(tmp_path / "whole")
    whole.loop.run(whole.step)
    part = Task(tmp_path / "part")
    part.loop.run(part.step, stop_after=stop)
    assert not equal(part.weights(), whole.weights())
    rest = Task(tmp_path / "part")
    assert rest.loop.step == stop
    rest.loop.run(rest.step)
    assert equal(rest.weights(), whole.weights())


def test_a_finished_run_makes_no_further_step(tmp_path: Path) -> None:
    task = Task(tmp_path)
    task.loop.run(task.step)
    again, before = Task(tmp_path), task.weights()
    again.loop.run(again.step)
    assert again.loop.step == 20 and equal(again.weights(), before)


def test_the_rate_rises_stays_and_falls(tmp_path: Path) -> None:
    runner = Task(tmp_path, steps=100, warmup=10, cooldown=0.2).loop

    def rate(step: int) -> float:
        runner.step = step
        return runner.rate()

    assert rate(0) == pytest.approx(0.1) and rate(4) == pytest.approx(0.5) and rate(9) == rate(80) == 1
    assert rate(90) == pytest.approx(0.02 + 0.98 * 0.5) and rate(99) < 0.03 and rate(85) > rate(95)


def test_a_time_budget_fixes_the_number_of_steps_and_that_number_repeats_the_run(tmp_path: Path, monkeypatch) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(clock)))  # a second between any two looks
    timed = Task(tmp_path / "timed", steps=0, minutes=0.5, log_every=1000)
    timed.loop.run(timed.step)
    assert timed.loop.seconds >= 15 and timed.loop.total == timed.loop.step == pytest.approx(30, abs=2)
    counted = Task(tmp_path / "counted", steps=timed.loop.total)
    counted.loop.run(counted.step)
    assert equal(timed.weights(), counted.weights())


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    task = Task(tmp_path)
    with pytest.raises(FloatingPointError, match="task: a loss is not finite at step 5"):
        task.loop.run(lambda rng: {"loss": torch.tensor(float("nan"))})


def test_random_numbers_depend_on_the_key_alone() -> None:
    a, b, other = (Random.of(CPU, 3, "stage", step) for step in (7, 7, 8))
    assert torch.equal(a.normal(5), b.normal(5)) and not torch.equal(a.normal(5), other.normal(5))
    assert a.numpy.integers(10**9) == b.numpy.integers(10**9) and a.shared.integers(10**9) == b.shared.integers(10**9)


def test_curves_are_drawn_to_a_picture(tmp_path: Path) -> None:
    plot([{"step": 1, "a": 2.0}, {"step": 2, "a": 1.0, "b": 3.0}], tmp_path / "curve.png", "task")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
