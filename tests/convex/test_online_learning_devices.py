"""Learners on every device present against float64 on the CPU, and elsewhere under fake tensors."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mdtheory.convex.mirror_maps import Ball, Box, Entropy, Euclidean, Simplex, Tsallis, VonNeumann
from mdtheory.convex.online_learning import (
    AdaGrad,
    Adversary,
    FollowTheRegularizedLeader,
    Hedge,
    LinearLosses,
    LogisticLosses,
    OnlineMirrorDescent,
    OnlineNewtonStep,
    OptimisticMirrorDescent,
    PortfolioLosses,
    QuadraticLosses,
    best_constant_gap,
    best_constant_portfolio,
    bounds,
    dirichlet,
    ftrl_decisions,
    hedge_decisions,
    hedge_losses,
    log_wealth,
    play,
    punish_heaviest,
    push_sideways,
    regret,
    simplex_quadratic,
    universal_portfolio,
)

B, D, T = 3, 4, 6
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def table(device, dtype):
    """Numbers that are the same everywhere."""
    flat = torch.arange(T * B * D, dtype=dtype, device=device)
    return torch.cos(3 * flat).reshape(T, B, D)


def start(device, dtype):
    return torch.full((B, D), 1 / D, dtype=dtype, device=device)


def game(make, environment=LinearLosses):
    def case(device, dtype):
        record = play(make(start(device, dtype)), environment(table(device, dtype)), T)
        comparator = record.total_gradient.new_ones(D) / D
        return record.decisions, record.losses, regret(record, comparator)

    return case


def logistic(values):
    return LogisticLosses(values, torch.ones_like(values[..., 0]))


def market(values):
    return PortfolioLosses(values.exp(), tangent=True)


def relatives(device, dtype):
    return (table(device, dtype) / 5).exp()


def matrices(device, dtype):
    return torch.diag_embed(table(device, dtype))


def bound_values(device, dtype):
    gradients, x = table(device, dtype), start(device, dtype)
    lengths, matrix = gradients.norm(dim=-1), torch.eye(D, dtype=dtype, device=device)
    points = x.expand(T, B, D)
    anchors = x.expand(T + 1, B, D)
    steps = torch.ones_like(lengths)
    return (
        bounds.mirror_descent(lengths[0], 0.1, lengths, 1.0),
        bounds.mirror_descent_adaptive(1.0, steps, lengths, 1.0),
        bounds.adagrad_norm(1.0, gradients),
        bounds.adagrad_diagonal(1.0, gradients),
        bounds.adagrad_full(1.0, 1.0, gradients),
        bounds.follow_the_leader(lengths[0], steps, lengths, 1.0),
        bounds.hedge_ranges(1.0, 0.1, lengths),
        bounds.hedge_second_order(1.0, 0.1, points, gradients),
        bounds.strongly_convex(lengths, 1.0),
        bounds.exp_concave_surrogate(lengths, 0.5),
        bounds.newton_step(0.5, 1.0, 1.0, matrix),
        bounds.optimistic_master(Euclidean(), x, points, anchors, gradients, gradients, steps),
        bounds.optimistic(lengths[0], 0.1, lengths, lengths[1:], 1.0),
    )


CASES = {
    "mirror descent": game(lambda x: OnlineMirrorDescent(Euclidean(Ball(1.0)), x, 0.3)),
    "steps of a batch": game(
        lambda x: OnlineMirrorDescent(Entropy(), x, x.new_full((B,), 0.3)), QuadraticLosses
    ),
    "hedge": game(lambda x: Hedge(x, 0.3)),
    "hedge, adversary": game(lambda x: Hedge(x, 0.3), lambda v: Adversary(punish_heaviest)),
    "sideways": game(
        lambda x: OnlineMirrorDescent(Euclidean(Ball(1.0)), x, 0.3),
        lambda v: Adversary(push_sideways),
    ),
    "leader": game(lambda x: FollowTheRegularizedLeader(Tsallis(0.5), x, [0.3] * T)),
    "leader of a shape": game(
        lambda x: FollowTheRegularizedLeader(
            Entropy(), tuple(x.shape), 0.3, dtype=x.dtype, device=x.device
        ),
        logistic,
    ),
    "optimism": game(
        lambda x: OptimisticMirrorDescent(Euclidean(Simplex()), x, 0.3, hint=torch.ones_like(x))
    ),
    "adagrad norm": game(lambda x: AdaGrad(x, Simplex(), "norm")),
    "adagrad box": game(lambda x: AdaGrad(x, Box(0.0, 1.0))),
    "adagrad ball": game(lambda x: AdaGrad(x, Ball(1.0), "full")),
    "newton ball": game(lambda x: OnlineNewtonStep(x, Ball(1.0), 0.5), logistic),
    "newton simplex": game(lambda x: OnlineNewtonStep(x, Simplex(), 0.5), market),
    "hedge at once": lambda dev, dt: (
        hedge_decisions(table(dev, dt), 0.3, start(dev, dt)),
        hedge_losses(table(dev, dt), 0.3, start(dev, dt)),
        ftrl_decisions(Entropy(), table(dev, dt), 0.3),
        ftrl_decisions(VonNeumann(), matrices(dev, dt), 0.3),
    ),
    "quadratic": lambda dev, dt: (
        simplex_quadratic(
            torch.eye(D, dtype=dt, device=dev).expand(B, D, D), table(dev, dt)[0], start(dev, dt)
        ),
    ),
    "wealth": lambda dev, dt: (
        log_wealth(relatives(dev, dt), start(dev, dt).expand(T, B, D)),
        best_constant_gap(relatives(dev, dt), start(dev, dt)),
    ),
    "bounds": bound_values,
}
# These loop until values say that they are done, or draw numbers: they need real tensors.
REAL_ONLY = {
    "universal": lambda dev, dt: (
        universal_portfolio(relatives(dev, dt)[:, 0], start(dev, dt)),
        best_constant_portfolio(relatives(dev, dt), tolerance=1e-4),
    ),
    "best": lambda dev, dt: (
        LinearLosses(table(dev, dt)).best_comparator(Ball(1.0)),
        QuadraticLosses(table(dev, dt)).best_comparator(Simplex()),
    ),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", [*CASES, *REAL_ONLY])
def test_results_agree_with_double_precision_on_the_cpu(name, dtype, device):
    case = {**CASES, **REAL_ONLY}[name]
    for got, expected in zip(case(device, dtype), case("cpu", torch.float64), strict=True):
        assert got.dtype == dtype
        assert got.device.type == device
        tolerance = 1e-10 if dtype == torch.float64 else 2e-3
        torch.testing.assert_close(got.cpu().double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_on_another_device(name, elsewhere):
    with FakeTensorMode():
        for got in CASES[name](elsewhere, torch.float32):
            assert got.device.type == elsewhere
            assert got.dtype == torch.float32


@pytest.mark.parametrize("device", DEVICES)
def test_draws_live_where_their_generator_does(device):
    draws = dirichlet((5,), D, torch.Generator(device).manual_seed(0), dtype=torch.float32)
    assert draws.device.type == device
    assert draws.dtype == torch.float32
