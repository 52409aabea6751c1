"""Runs in the model: whose memory it is, what can be differentiated, NumPy, units."""

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import Ball, Simplex
from mdtheory.convex.sea import (
    StochasticallyExtendedAdversary,
    optimistic_ftrl,
    optimistic_mirror_descent,
    regret_bound,
    step_size_pool,
    two_layer_ensemble,
)

F64 = torch.float64
T, B, D = 8, 2, 3
BALL = Ball(1.0)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def start():
    return torch.zeros(B, D, dtype=F64)


class Streamed:
    """Linear losses; ``reuses`` fills the same tensors every round and spoils what it is shown."""

    def __init__(self, losses, reuses=False):
        self.losses, self.reuses = losses, reuses
        self.gradient, self.loss = torch.empty_like(losses[0]), torch.empty_like(losses[0, ..., 0])

    def __call__(self, round_, decision):
        gradient = self.losses[round_ - 1]
        loss = (gradient * decision).sum(-1)
        if not self.reuses:
            return loss, gradient
        decision.fill_(torch.nan)
        return self.loss.copy_(loss), self.gradient.copy_(gradient)


RUNS = {
    "convex": lambda e, **more: optimistic_mirror_descent(
        e, start(), BALL, T, gradient_bound=10.0, **more
    ),
    "constant": lambda e, **more: optimistic_mirror_descent(
        e, start(), BALL, T, step_size=torch.full((B,), 0.3, dtype=F64), **more
    ),
    "strongly convex": lambda e, **more: optimistic_mirror_descent(
        e, start(), BALL, T, regime="strongly convex", curvature=0.5, **more
    ),
    "exp-concave": lambda e, **more: optimistic_mirror_descent(
        e, start(), BALL, T, regime="exp-concave", gamma=0.3, gradient_bound=10.0, **more
    ),
    "exp-concave simplex": lambda e, **more: optimistic_mirror_descent(
        e, start() + 1 / D, Simplex(), T, regime="exp-concave", gamma=0.3, gradient_bound=10.0,
        **more,
    ),
    "leader": lambda e, **more: optimistic_ftrl(e, start(), BALL, T, offset=5.0, **more),
    "curved leader": lambda e, **more: optimistic_ftrl(
        e, start(), BALL, T, regime="strongly convex", curvature=0.5, **more
    ),
    "ensemble": lambda e, **more: two_layer_ensemble(
        e, start(), BALL, T, gradient_bound=10.0, smoothness=1.0, step_sizes=[0.1, 0.3], **more
    ).record,
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_environments_may_reuse_their_tensors(name):
    losses = normal(T, B, D)
    right = RUNS[name](Streamed(losses))
    environment = Streamed(losses, reuses=True)
    record = RUNS[name](environment)
    environment.gradient.fill_(torch.nan)
    environment.loss.fill_(torch.nan)
    for ours, theirs in zip(record, right, strict=True):
        if theirs is None:
            assert ours is None
        else:
            assert torch.equal(ours, theirs)


def test_a_record_is_no_view_of_the_step_size_that_was_given():
    step = torch.full((B,), 0.3, dtype=F64)
    record = optimistic_mirror_descent(Streamed(normal(T, B, D)), start(), BALL, T, step_size=step)
    record.step_size.fill_(7.0)
    assert torch.equal(step, torch.full((B,), 0.3, dtype=F64))


@pytest.mark.parametrize("name", RUNS)
def test_gradients_flow_through_every_run(name):
    def total(stream):
        record = RUNS[name](Streamed(stream))
        return record.linear_loss, record.variation

    assert torch.autograd.gradcheck(total, (0.3 * normal(T, B, D)).requires_grad_(), atol=1e-4)


@pytest.mark.parametrize("unit", [1e-100, 1e-14, 1e14, 1e100])
def test_decisions_do_not_depend_on_the_unit_of_the_losses(unit):
    losses = normal(T, B, D)
    runs = [
        lambda e, u: optimistic_mirror_descent(e, start(), BALL, T, gradient_bound=10.0 * u),
        lambda e, u: optimistic_mirror_descent(e, start(), BALL, T, step_size=0.3 / u),
        lambda e, u: optimistic_mirror_descent(
            e, start(), BALL, T, regime="strongly convex", curvature=0.5 * u
        ),
        lambda e, u: optimistic_ftrl(e, start(), BALL, T, offset=5.0 * u),
    ]
    for run in runs:
        plain, scaled = run(Streamed(losses), 1.0), run(Streamed(unit * losses), unit)
        torch.testing.assert_close(scaled.decisions, plain.decisions, rtol=1e-10, atol=1e-12)


def test_numbers_of_numpy_are_numbers_and_arrays_are_refused_by_name():
    losses, number = Streamed(normal(T, B, D)), np.float32(10.0)
    optimistic_mirror_descent(losses, start(), BALL, np.int64(T), gradient_bound=number)
    optimistic_ftrl(losses, start(), BALL, T, offset=np.float64(5.0))
    two_layer_ensemble(losses, start(), BALL, T, gradient_bound=number, smoothness=np.int64(1))
    StochasticallyExtendedAdversary(normal(T, D), noise_scale=np.float32(0.5))
    array = np.array(10.0)
    moves = normal(T, D)
    refused = [
        ("gradient_bound", lambda: optimistic_mirror_descent(
            losses, start(), BALL, T, gradient_bound=array)),
        ("offset", lambda: optimistic_mirror_descent(
            losses, start(), BALL, T, gradient_bound=1.0, offset=array)),
        ("step_size", lambda: optimistic_mirror_descent(
            losses, start(), BALL, T, step_size=array)),
        ("curvature", lambda: optimistic_mirror_descent(
            losses, start(), BALL, T, regime="strongly convex", curvature=array)),
        ("gamma", lambda: optimistic_mirror_descent(
            losses, start(), BALL, T, regime="exp-concave", gamma=array, gradient_bound=1.0)),
        ("offset", lambda: optimistic_ftrl(losses, start(), BALL, T, offset=array)),
        ("initial", lambda: optimistic_ftrl(losses, np.zeros(D), BALL, T, offset=1.0)),
        ("rounds", lambda: optimistic_ftrl(losses, start(), BALL, array, offset=1.0)),
        ("gradient_bound", lambda: two_layer_ensemble(
            losses, start(), BALL, T, gradient_bound=array, smoothness=1.0)),
        ("step_sizes", lambda: two_layer_ensemble(
            losses, start(), BALL, T, gradient_bound=10.0, smoothness=1.0, step_sizes=[array])),
        ("diameter", lambda: step_size_pool(array, 1.0, 1.0, T)),
        ("moves", lambda: StochasticallyExtendedAdversary(np.zeros((T, D)))),
        ("noise_scale", lambda: StochasticallyExtendedAdversary(moves, noise_scale=array)),
        ("curvature", lambda: StochasticallyExtendedAdversary(moves, curvature=array)),
        ("offset", lambda: StochasticallyExtendedAdversary(moves, offset=np.zeros(D))),
        ("variance", lambda: regret_bound(
            "convex", diameter=2.0, gradient_bound=1.0, smoothness=1.0, variance=array,
            variation=1.0)),
    ]  # fmt: skip
    for name, call in refused:
        with pytest.raises(TypeError, match=rf"^{name}: expected .*ndarray"):
            call()
