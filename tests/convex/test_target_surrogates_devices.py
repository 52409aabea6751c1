"""Target-based surrogates on every device present against float64 on the CPU, and elsewhere."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mdtheory.convex import target_surrogates as ts
from mdtheory.convex.mirror_maps import BinaryEntropy, Entropy
from mdtheory.convex.target_surrogates import (
    METHODS,
    SCHEDULES,
    Armijo,
    LinearCost,
    LinearModel,
    LogisticLoss,
    SoftmaxLoss,
    SquaredLoss,
    TorchModel,
    draw_batches,
    exact_projection,
    half_step,
    majorize_minimize,
    parameter_sgd,
    surrogate,
    target_sgd,
    target_step,
)
from mdtheory.convex.target_surrogates.imitation import CARTPOLE, PENDULUM

N, D, K, B, T = 8, 3, 2, 4, 3
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def table(device, dtype, *shape, shift=0):
    """Numbers that are the same everywhere."""
    flat = torch.arange(shift, shift + math.prod(shape), dtype=dtype, device=device)
    return torch.cos(3 * flat).reshape(shape)


def line(device, dtype):
    return LinearModel(table(device, dtype, N, D))


def curved(device, dtype):
    """A network and its parameters; a linear model where autograd has no engine.

    The stand-in device of a PyTorch without CUDA cannot run a backward pass.
    """
    if device == "elsewhere":
        return line(device, dtype), table(device, dtype, D, 1)

    def function(w, x):
        return (x @ w[..., : D * 2].unflatten(-1, (D, 2))).tanh() @ w[..., D * 2 :].unflatten(
            -1, (2, 1)
        )

    return TorchModel(function, table(device, dtype, N, D)), table(device, dtype, 2 * D + 2)


def logistic(device, dtype):
    return LogisticLoss(table(device, dtype, N, 1, shift=50).sigmoid(), ridge=0.1)


def batches(device):
    flat = torch.arange(T * B, device=device)
    return (3 * flat % N).reshape(T, 1, B)


def losses(device, dtype):
    z, y = table(device, dtype, 5, N, K), table(device, dtype, N, K, shift=70)
    made = [SquaredLoss(y), LogisticLoss(y.sigmoid()), SoftmaxLoss(y.softmax(-1)), LinearCost(y)]
    rows = torch.arange(3, device=device)
    return tuple(
        part
        for loss in made
        for part in (
            loss.value(z), loss.gradient(z), loss.curvature(z), loss.select(rows).value(z[:, :3]),
        )
    )  # fmt: skip


def surrogates(device, dtype):
    z, anchor = table(device, dtype, 5, N, K), table(device, dtype, N, K, shift=9)
    soft = SoftmaxLoss(anchor.softmax(-1))
    cost, p = LinearCost(anchor), anchor.softmax(-1)
    return (
        surrogate(soft, z, anchor, 0.5),
        surrogate(soft, z, anchor, 0.5, Entropy(), coordinates="dual"),
        surrogate(cost, z.softmax(-1), p, 0.5, Entropy()),
        half_step(soft, anchor, 2.0),
        half_step(cost, p, 0.7, Entropy()),
        exact_projection(soft, line(device, dtype), table(device, dtype, D, K), 0.5),
    )


def steps(device, dtype):
    (net, w), start = curved(device, dtype), table(device, dtype, D, 1)
    loss, counts = logistic(device, dtype), torch.arange(1, 3, dtype=dtype, device=device)
    made = [
        target_step(loss, line(device, dtype), start, 2.0, counts),
        target_step(loss, line(device, dtype), start, 2.0, math.inf),
        target_step(loss, net, w, 2.0, 3, inner_step=0.1),
        target_step(
            loss, line(device, dtype), start, 1.0, 2, inner_step=0.1,
            mirror_map=BinaryEntropy(), coordinates="dual",
        ),
    ]  # fmt: skip
    return tuple(part for one in made for part in one)


def searches(device, dtype):
    net, w = curved(device, dtype)
    rule = Armijo(tries=4)
    return tuple(target_step(logistic(device, dtype), net, w, 2.0, 2, inner_step=rule))


def full(device, dtype):
    record = majorize_minimize(
        logistic(device, dtype), line(device, dtype), table(device, dtype, D, 1), 2.0, T, 4,
        keep_targets=True,
    )  # fmt: skip
    return tuple(record)


def sampled(device, dtype):
    start = table(device, dtype, len(SCHEDULES), 1, D, 1)
    return tuple(
        target_sgd(
            logistic(device, dtype), line(device, dtype), start, 1.0, batches(device), 3,
            schedule=SCHEDULES,
        )
    )  # fmt: skip


def all_rows(device, dtype):
    start = table(device, dtype, D, 1)
    return tuple(
        target_sgd(
            logistic(device, dtype), line(device, dtype), start, 0.1, batches(device), math.inf,
            proximity="all", schedule="sqrt",
        )
    )  # fmt: skip


def rivals(device, dtype):
    start = table(device, dtype, len(METHODS), 1, D, 1)
    return tuple(
        parameter_sgd(
            logistic(device, dtype), line(device, dtype), start, 0.5, batches(device),
            method=METHODS,
        )
    )  # fmt: skip


def experts(device, dtype):
    return tuple(
        task.expert(table(device, dtype, 5, task.observed)).to(dtype)
        for task in (CARTPOLE, PENDULUM)
    )


def rates(device, dtype):
    some = table(device, dtype, 5).abs()
    return (
        ts.bounds.exponential_rate(some, 0.3, 9, 4.0, 0.5),
        ts.bounds.exponential_rate(1.0, some, 9, 2 + some, 0.5),
        ts.bounds.inexact_rate(some, 0.3, 9, 4.0, 0.5, 0.1, some),
    )


CASES = {
    case.__name__: case
    for case in (
        losses, surrogates, steps, searches, full, sampled, all_rows, rivals, experts, rates,
    )
}  # fmt: skip


def tensors(parts):
    return [part for part in parts if isinstance(part, torch.Tensor)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_results_agree_with_double_precision_on_the_cpu(name, dtype, device):
    got, wanted = tensors(CASES[name](device, dtype)), tensors(CASES[name]("cpu", torch.float64))
    for one, expected in zip(got, wanted, strict=True):
        assert one.dtype == (dtype if expected.is_floating_point() else expected.dtype)
        assert one.device.type == device
        tolerance = 1e-10 if dtype == torch.float64 else 2e-3
        torch.testing.assert_close(
            one.cpu().double(), expected.double(), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_on_another_device(name, elsewhere):
    with FakeTensorMode():
        for got in tensors(CASES[name](elsewhere, torch.float32)):
            assert got.device.type == elsewhere


@pytest.mark.parametrize("device", DEVICES)
def test_batches_live_where_their_generator_does(device):
    drawn = draw_batches(4, 9, 3, torch.Generator(device).manual_seed(0), (2,))
    assert drawn.device.type == device
    assert drawn.shape == (4, 2, 3)


def test_every_public_function_has_been_on_its_way():
    seen = {
        "surrogate", "half_step", "exact_projection", "target_step", "majorize_minimize",
        "target_sgd", "parameter_sgd", "draw_batches", "SquaredLoss", "LogisticLoss",
        "SoftmaxLoss", "LinearCost", "LinearModel", "TorchModel", "Armijo", "METHODS", "SCHEDULES",
    }  # fmt: skip
    # What the others are made of, or return.
    seen |= {"TargetLoss", "Model", "TargetRecord", "InnerLoop", "descend", "descend_linear"}
    seen |= {"bounds"}
    assert set(ts.__all__) <= seen
