"""Learning-rate schedules set PyTorch's rates; torch is asked where installed."""

from __future__ import annotations

from typing import Any

import pytest

import taut
from taut import nn, optim
from taut.optim import lr_scheduler

RATES: list[tuple[str, dict[str, Any], list[float]]] = [
    ("StepLR", {"step_size": 2}, [1.0, 1.0, 0.1, 0.1, 0.01]),
    ("MultiStepLR", {"milestones": [1, 3]}, [1.0, 0.1, 0.1, 0.01, 0.01]),
    ("ExponentialLR", {"gamma": 0.5}, [1.0, 0.5, 0.25, 0.125, 0.0625]),
    ("CosineAnnealingLR", {"T_max": 4}, [1.0, 0.853553390593, 0.5, 0.146446609407, 0.0]),
    ("LinearLR", {"start_factor": 0.5, "total_iters": 4}, [0.5, 0.625, 0.75, 0.875, 1.0]),
    ("ConstantLR", {"factor": 0.5, "total_iters": 2}, [0.5, 0.5, 1.0, 1.0, 1.0]),
    ("LambdaLR", {"lr_lambda": lambda e: 1 / (e + 1)}, [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]),
]


def rates(
    module: Any, optimizer: Any, name: str, options: dict[str, Any], steps: int
) -> list[float]:
    schedule = getattr(module, name)(optimizer, **options)
    found = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        assert schedule.get_last_lr() == [optimizer.param_groups[0]["lr"]]
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize(("name", "options", "expected"), RATES, ids=[r[0] for r in RATES])
def test_schedules(name: str, options: dict[str, Any], expected: list[float]) -> None:
    optimizer = optim.SGD([nn.Parameter(taut.ones(1))], lr=1.0)
    assert rates(lr_scheduler, optimizer, name, options, 4) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name, options, _ in RATES]
    + [
        ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
        ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 8}),
        ("MultiStepLR", {"milestones": [2, 2, 9], "gamma": 0.5}),
    ],
)
def test_schedules_equal_torchs_to_the_last_digit(name: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    mine = optim.SGD([nn.Parameter(taut.ones(1))], lr=0.3)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.3)
    expected = rates(torch.optim.lr_scheduler, theirs, name, options, 30)
    assert rates(lr_scheduler, mine, name, options, 30) == expected


METRICS = [5.0, 4.0, 4.1, 4.2, 4.0, 3.0, 3.0, 3.0, 3.0, 3.0, 2.9999, 3.0, 3.0, 3.0]
PLATEAUS: list[dict[str, Any]] = [
    {"patience": 1},
    {"patience": 2, "cooldown": 2},
    {"patience": 1, "mode": "max", "threshold": 0.5, "threshold_mode": "abs"},
    {"patience": 0, "factor": 0.5, "min_lr": 0.01},
    {"patience": 1, "threshold_mode": "abs"},
]


@pytest.mark.parametrize("options", PLATEAUS)
def test_plateau_equals_torchs(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    mine = optim.SGD([nn.Parameter(taut.ones(1))], lr=0.3)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.3)
    schedule = lr_scheduler.ReduceLROnPlateau(mine, **options)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    for metric in METRICS:
        schedule.step(taut.tensor(metric))
        reference.step(torch.tensor(metric))
        assert schedule.get_last_lr() == reference.get_last_lr()


def test_plateau_without_torch() -> None:
    optimizer = optim.SGD([nn.Parameter(taut.ones(1))], lr=1.0)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
    found = []
    for metric in (2.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        schedule.step(metric)
        found.append(optimizer.param_groups[0]["lr"])
    assert found == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]


def test_schedule_resumes_from_its_state() -> None:
    optimizer = optim.SGD([nn.Parameter(taut.ones(1))], lr=1.0)
    schedule = lr_scheduler.StepLR(optimizer, 2)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    other = optim.SGD([nn.Parameter(taut.ones(1))], lr=1.0)
    resumed = lr_scheduler.StepLR(other, 5)
    other.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    for _ in range(3):
        other.step()
        resumed.step()
    assert other.param_groups[0]["lr"] == pytest.approx(1e-3)
    assert resumed.last_epoch == 6


def test_schedules_refuse_what_makes_no_sense() -> None:
    optimizer = optim.SGD([nn.Parameter(taut.ones(1))])
    with pytest.raises(TypeError, match="int is not an Optimizer"):
        lr_scheduler.StepLR(3, 1)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(KeyError, match="param 'initial_lr' is not specified"):
        lr_scheduler.StepLR(optimizer, 1, last_epoch=3)
    with pytest.raises(ValueError, match=r"Factor should be < 1\.0"):
        lr_scheduler.ReduceLROnPlateau(optimizer, factor=1.0)
    with pytest.raises(ValueError, match="mode best is unknown"):
        lr_scheduler.ReduceLROnPlateau(optimizer, mode="best")
    with pytest.raises(ValueError, match="Expected 1 lr_lambdas, but got 2"):
        lr_scheduler.LambdaLR(optimizer, [float, float])
    schedule = lr_scheduler.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match="before .optimizer.step"):
        schedule.step()
