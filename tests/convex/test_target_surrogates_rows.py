"""Statements about batches of rows."""

import math

import pytest
import torch
from torch.nn.functional import softplus

from mdtheory.convex.mirror_maps import BinaryEntropy
from mdtheory.convex.target_surrogates import (
    LinearModel,
    LogisticLoss,
    SoftmaxLoss,
    SquaredLoss,
    surrogate,
    target_sgd,
)
from mdtheory.runs import check_identity
from tests.convex.target_surrogates_cases import (
    F64,
    LINE,
    LOSSES,
    WIDTH,
    D,
    N,
    X,
    all_batches,
    best_targets,
    draw,
    normal,
    slope,
)
from tests.refused import differ

# The sampled rows.


@pytest.mark.theorem("prop-sampled-rows", "equality")
def test_exact_steps_meet_the_half_step_on_the_batch():
    loss, start = LOSSES["ridge"], draw(LINE, "ridge", 1)[0]
    for batch in ([0, 5, 7], [2], [1, 3, 8, 9]):
        index = torch.tensor([[batch]])
        record = target_sgd(loss, LINE, start, 0.9, index, math.inf)
        rows = X[batch]
        half = rows @ start - 0.9 * loss.select(index[0, 0]).gradient(rows @ start)
        check_identity("prop-sampled-rows", (X @ record.parameters)[0, batch], half, tolerance=1e-9)


@pytest.mark.theorem("prop-sampled-rows", "equality")
@pytest.mark.parametrize("m", [1, 4, math.inf])
def test_the_move_is_filtered_by_the_batch(m):
    loss, start, eta = LOSSES["logistic"], draw(LINE, "logistic", 1)[0], 2.0
    a = 1 / X.square().sum(-1).max().item()  # the default, the same for all batches
    batches = all_batches(N, 2)
    record = target_sgd(loss, LINE, start, eta, batches[None], m)
    for k, batch in enumerate(batches.tolist()):
        gram = X[batch].T @ X[batch] / 2
        slopes = loss.gradient(X @ start)[batch]
        gradient = X[batch].T @ slopes / 2
        if m == math.inf:
            move = torch.linalg.pinv(gram, rtol=1e-12) @ gradient
        else:
            move = torch.zeros_like(gradient)
            for _ in range(m):
                move = move + a * (gradient - gram @ move)
        check_identity(
            "prop-sampled-rows", record.parameters[k], start - eta * move, tolerance=1e-8
        )


@pytest.mark.theorem("prop-sampled-rows", "equality")
@pytest.mark.parametrize("b", [1, 2, 5])
def test_one_inner_step_is_unbiased(b):
    loss, start, eta = LOSSES["logistic"], draw(LINE, "logistic", 1)[0], 2.0
    a = 1 / X.square().sum(-1).max().item()
    record = target_sgd(loss, LINE, start, eta, all_batches(N, b)[None], 1)
    mean = record.parameters.mean(0)
    check_identity("prop-sampled-rows", mean, start - a * eta * slope(loss, LINE, start))


@pytest.mark.theorem("prop-sampled-rows", "equality")
def test_where_single_rows_with_exact_steps_come_to_rest():
    """One parameter, squared loss: the expected move is 0 at the mean of the quotients."""
    x, y = 0.3 + normal(9, 1, seed=38).abs(), normal(9, 1, seed=39)
    loss, model, each = SquaredLoss(y), LinearModel(x), torch.arange(9)[None, :, None]

    def move(w, m):
        start = torch.full((1, 1), w, dtype=F64)
        return (target_sgd(loss, model, start, 0.5, each, m).parameters - start).mean()

    quotients, least = (y / x).mean().item(), ((x * y).sum() / (x * x).sum()).item()
    assert abs(quotients - least) > 0.05
    assert abs(move(quotients, math.inf)) < 1e-13
    assert abs(move(least, 1)) < 1e-13
    for m in (1, 3, 10, math.inf):  # in between, rows count as far as their filter goes
        a = 1 / x.square().max()
        weight = 1 - (1 - a * x.square()) ** m
        rest = ((weight * y / x).sum() / weight.sum()).item()
        assert abs(move(rest, m)) < 1e-13


@pytest.mark.theorem("prop-sampled-rows", "equality")
def test_single_rows_with_exact_steps_are_sgd_on_other_weights():
    loss, start = LOSSES["logistic"], draw(LINE, "logistic", 1)[0]
    each = torch.arange(N)[None, :, None]
    mean = target_sgd(loss, LINE, start, 0.5, each, math.inf).parameters.mean(0)
    leaf = start.clone().requires_grad_()
    weighted = (loss.row_values(X @ leaf) / X.square().sum(-1)).mean()
    (gradient,) = torch.autograd.grad(weighted, leaf)
    check_identity("prop-sampled-rows", mean, start - 0.5 * gradient, tolerance=1e-11)


@pytest.mark.theorem("prop-sampled-rows", "mutant")
def test_more_inner_steps_are_biased():
    """At the minimum of h the expected move is not 0, and smaller steps do not change where to."""
    soft = normal(N, 1, seed=17).sigmoid()
    loss = LogisticLoss(soft)
    best = torch.linalg.lstsq(X, best_targets(loss, LINE, 1)).solution
    batches = all_batches(N, 2)[None]

    def mean_move(m, eta, proximity="batch"):
        record = target_sgd(loss, LINE, best, eta, batches, m, proximity=proximity)
        return (record.parameters - best).mean(0) / eta

    zero = torch.zeros_like(best)
    check_identity("prop-sampled-rows", mean_move(1, 1.0), zero)
    check_identity("prop-sampled-rows", mean_move(math.inf, 1.0, "all"), zero, tolerance=1e-11)
    for m in (3, math.inf):
        assert differ("prop-sampled-rows", mean_move(m, 1.0), zero, tolerance=1e-3)
        check_identity("prop-sampled-rows", mean_move(m, 1e-3), mean_move(m, 1.0), tolerance=1e-7)


@pytest.mark.theorem("prop-sampled-rows", "mutant")
def test_no_common_matrix_explains_the_moves():
    """Two batches with the same gradient and different rows move differently if m > 1."""
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0]], dtype=F64)
    loss = SquaredLoss(torch.tensor([[-2.0], [-1.0]], dtype=F64))  # x_i l_i' = 2 at 0, twice
    each, zero = torch.arange(2)[None, :, None], torch.zeros(2, 1, dtype=F64)

    def moves(m):
        return target_sgd(loss, LinearModel(x), zero, 1.0, each, m).parameters.split(1)

    check_identity("prop-sampled-rows", *moves(1))
    assert differ("prop-sampled-rows", *moves(2))
    assert differ("prop-sampled-rows", *moves(math.inf))


@pytest.mark.theorem("prop-sampled-rows", "equality")
def test_interpolation_removes_the_bias():
    x = normal(6, 3, seed=40)
    loss, model, batches = SquaredLoss(x @ normal(3, 1)), LinearModel(x), all_batches(6, 2)[None]
    best = normal(3, 1)
    for m in (1, 7, math.inf):
        ends = target_sgd(loss, model, best, 1.0, batches, m).parameters
        check_identity("prop-sampled-rows", ends, best.expand_as(ends), tolerance=1e-10)


# Constants.


def power_iteration(matrix: torch.Tensor, rounds: int = 3000) -> torch.Tensor:
    v = torch.ones_like(matrix[:, 0]) + torch.arange(matrix.shape[0], dtype=F64) / 7
    for _ in range(rounds):
        v = matrix @ v
        v = v / v.norm()
    return v @ matrix @ v


@pytest.mark.theorem("thm-majorisation", "equality")
def test_constants_of_the_rows_are_attained():
    z = torch.zeros(1, 2, dtype=F64)
    for loss, points, constant in (
        (SquaredLoss(z), z, 1.0),
        (LogisticLoss(z), z, 0.25),
        (LogisticLoss(z, ridge=0.3), z, 0.55),
        (SoftmaxLoss(z.softmax(-1)), z, 0.5),
    ):
        bend = torch.autograd.functional.hessian(lambda u, each=loss: each.value(u), points)
        top = power_iteration(bend.reshape(2, 2))
        assert top.item() == pytest.approx(constant, rel=1e-9)
        assert loss.smoothness == pytest.approx(constant, rel=1e-12)
    for name, loss in LOSSES.items():  # and nowhere exceeded
        for u in 3 * normal(20, 1, 1, WIDTH[name], seed=41):
            row = loss.select(torch.tensor([0]))
            bend = torch.autograd.functional.hessian(lambda v, each=row: each.value(v), u[0][None])
            spectrum = torch.linalg.eigvalsh(bend.reshape(u.shape[-1], -1))
            assert spectrum[-1] <= loss.smoothness + 1e-12
            assert spectrum[0] >= loss.strong_convexity - 1e-12


@pytest.mark.theorem("thm-mm-descent", "equality")
def test_the_surrogate_of_a_linear_model_is_smooth_by_lambda_over_eta():
    loss, eta = LOSSES["logistic"], 0.7
    anchor = LINE(draw(LINE, "logistic", 1)[0])

    def g(flat):
        return surrogate(loss, X @ flat[:, None], anchor, eta)

    bend = torch.autograd.functional.hessian(g, torch.zeros(D, dtype=F64))
    top = power_iteration(bend)
    check_identity("thm-mm-descent", top, LINE.lipschitz / eta, tolerance=1e-9)


def test_softplus_is_the_conjugate_of_binary_entropy():
    z = normal(20, 3)
    check_identity("prop-relative-smoothness", BinaryEntropy().conjugate(z), softplus(z).sum(-1))
