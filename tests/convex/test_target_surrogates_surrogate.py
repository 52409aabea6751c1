"""Statements about the surrogate and its inner steps."""

import math

import cvxpy
import pytest
import torch

from mdtheory.convex.target_surrogates import (
    LinearModel,
    SoftmaxLoss,
    SquaredLoss,
    exact_projection,
    half_step,
    surrogate,
    target_step,
)
from mdtheory.runs import check_bound, check_identity
from tests.convex.target_surrogates_cases import (
    EVERY,
    F64,
    LINE,
    LOSSES,
    NET,
    WIDTH,
    D,
    N,
    X,
    draw,
    normal,
    slope,
    square,
)
from tests.polish import guessed, polished
from tests.refused import bound, differ, fails, identity

BOTH = pytest.mark.parametrize("model", [LINE, NET], ids=["line", "net"])


# Majorisation.


@pytest.mark.theorem("thm-majorisation", "bound")
@BOTH
@EVERY
def test_the_surrogate_lies_above_the_loss(name, model):
    loss, many = LOSSES[name], draw(model, name, 1000)
    anchor = model(draw(model, name, 20, seed=6))[:, None]
    for eta in (1 / loss.smoothness, 0.3 / loss.smoothness):
        upper = surrogate(loss, model(many), anchor, eta)
        assert upper.shape == (20, 1000)
        check_bound("thm-majorisation", loss.value(model(many)).expand(20, -1), upper)


@pytest.mark.theorem("thm-majorisation", "mutant")
@EVERY
def test_with_three_times_the_step_it_does_not(name):
    loss, many = LOSSES[name], draw(LINE, name, 1000, scale=0.5)
    anchor = LINE(torch.zeros(D, WIDTH[name], dtype=F64))
    value, right = loss.value(LINE(many)), surrogate(loss, LINE(many), anchor, 1 / loss.smoothness)
    upper = surrogate(loss, LINE(many), anchor, 3 / loss.smoothness)
    fails(bound("thm-majorisation"), value, upper, true=(value, right))
    if name == "squared":  # there at every parameter whose targets are others
        assert bool((upper < loss.value(LINE(many))).all())


@pytest.mark.theorem("thm-majorisation", "mutant")
def test_a_smaller_constant_of_softmax_is_too_small():
    """The constant 1/2 is the best one: two equal logits that move apart attain it."""
    loss = SoftmaxLoss(torch.tensor([[1.0, 0.0, 0.0]], dtype=F64))
    anchor = torch.tensor([[0.0, 0.0, -60.0]], dtype=F64)
    near = anchor + 1e-2 * torch.tensor([[1.0, -1.0, 0.0]], dtype=F64)
    assert surrogate(loss, near, anchor, 2.0) >= loss.value(near)
    assert surrogate(loss, near, anchor, 2.01) < loss.value(near)


@pytest.mark.theorem("thm-majorisation", "equality")
@BOTH
@EVERY
def test_it_touches_the_loss_in_value_and_gradient(name, model):
    loss, here = LOSSES[name], draw(model, name, 7)
    anchor = model(here)
    check_identity("thm-majorisation", surrogate(loss, anchor, anchor, 0.7), loss.value(anchor))
    leaf = here.clone().requires_grad_()
    value = surrogate(loss, model(leaf), model(leaf), 0.7)  # the anchor is detached inside
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    check_identity("thm-majorisation", gradient, slope(loss, model, here))


@pytest.mark.theorem("thm-majorisation", "equality")
@pytest.mark.parametrize("eta", [0.1, 1.0, 3.0])
def test_the_gap_of_the_squared_loss(eta):
    loss = LOSSES["squared"]
    targets, anchor = NET(draw(NET, "squared", 50)), NET(draw(NET, "squared", 1, seed=7))
    gap = surrogate(loss, targets, anchor, eta) - loss.value(targets)
    check_identity("thm-majorisation", gap, (1 / eta - 1) / 2 * square(targets - anchor))


@pytest.mark.theorem("thm-majorisation", "mutant")
def test_sums_for_means_change_the_gap():
    """Taking the proximity term as a sum over the rows and the loss as a mean is another thing."""
    loss, targets = LOSSES["squared"], LINE(draw(LINE, "squared", 5))
    gap = surrogate(loss, targets, targets[:1], 0.5) - loss.value(targets)
    apart = (1 / 0.5 - 1) / 2 * (targets - targets[:1]).square().sum(-1)
    true, order = (gap, apart.mean(-1)), "the mean over the rows is dropped"
    fails(identity("thm-majorisation"), gap, apart.sum(-1), true=true, scaled=order)


# The half step.


@pytest.mark.theorem("prop-completed-square", "equality")
@BOTH
@EVERY
def test_the_surrogate_is_a_distance_to_the_half_step(name, model):
    loss, eta = LOSSES[name], 0.8
    targets, anchor = model(draw(model, name, 30)), model(draw(model, name, 1, seed=8))
    slopes = torch.func.grad(lambda z: N * loss.value(z).sum())(anchor)
    half = anchor - eta * slopes
    check_identity("prop-completed-square", half_step(loss, anchor, eta), half)
    right = square(targets - half) / (2 * eta) + loss.value(anchor) - eta / 2 * square(slopes)
    check_identity(
        "prop-completed-square", surrogate(loss, targets, anchor, eta), right, tolerance=1e-11
    )


@pytest.mark.theorem("prop-completed-square", "mutant")
def test_the_half_step_of_another_step_size_does_not_complete_the_square():
    loss, eta = LOSSES["logistic"], 0.8
    targets, anchor = LINE(draw(LINE, "logistic", 30)), LINE(draw(LINE, "logistic", 1, seed=8))
    values = surrogate(loss, targets, anchor, eta)

    def right(half):
        return square(targets - half) / (2 * eta)

    def varies(half):
        return differ("prop-completed-square", *(values - right(half))[[0, 1]].split(1))

    assert not varies(half_step(loss, anchor, eta))
    assert varies(half_step(loss, anchor, eta / N))  # the gradient of autograd, with its 1/n
    assert varies(half_step(loss, anchor, 2 * eta))


@pytest.mark.theorem("prop-completed-square", "equality")
@EVERY
def test_the_exact_minimiser_is_least_squares(name):
    loss, eta, here = LOSSES[name], 0.8, draw(LINE, name, 1)[0]
    half = half_step(loss, LINE(here), eta)
    found = exact_projection(loss, LINE, here, eta)
    check_identity(
        "prop-completed-square", found, torch.linalg.lstsq(X, half).solution, tolerance=1e-10
    )
    at_once = target_step(loss, LINE, here, eta, math.inf).parameters
    check_identity("prop-completed-square", at_once, found, tolerance=1e-10)
    variable = cvxpy.Variable((D, WIDTH[name]))
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(X.numpy() @ variable - half.numpy())))
    guessed(problem)
    least = polished(lambda v: (X @ v.reshape(D, -1) - half).square().sum(), variable.value.ravel())
    check_identity("prop-completed-square", found, least.reshape(D, -1), tolerance=1e-11)
    leaf = found.clone().requires_grad_()
    value = surrogate(loss, LINE(leaf), LINE(here), eta)
    (gradient,) = torch.autograd.grad(value, leaf)
    assert gradient.abs().max() < 1e-13


@pytest.mark.theorem("prop-completed-square", "equality")
def test_the_exact_minimiser_without_full_rank_is_the_least_one():
    wide = normal(5, N, seed=9)
    wide[3] = 2 * wide[1]  # rank 4, with 12 columns
    for x in (wide, wide.T.contiguous(), torch.zeros(5, 3, dtype=F64)):
        model, z = LinearModel(x), normal(x.shape[0], 2, seed=10)
        check_identity(
            "prop-completed-square", model.project(z), torch.linalg.pinv(x) @ z, tolerance=1e-9
        )


@pytest.mark.theorem("prop-completed-square", "mutant")
def test_the_least_parameters_are_not_those_nearest_to_the_start():
    """m = inf leaves what the targets do not see; the projection forgets it. Targets agree."""
    x = normal(5, N, seed=9)
    loss, model, here = SquaredLoss(normal(5, 1)), LinearModel(x), normal(N, 1, seed=11)
    loop = target_step(loss, model, here, 0.5, math.inf).parameters
    least = exact_projection(loss, model, here, 0.5)
    check_identity("prop-completed-square", x @ loop, x @ least, tolerance=1e-10)
    assert differ("prop-completed-square", loop, least)
    unseen = here - torch.linalg.pinv(x) @ (x @ here)
    check_identity("prop-completed-square", loop, least + unseen, tolerance=1e-10)


@pytest.mark.theorem("prop-completed-square", "equality")
def test_one_round_on_the_squared_loss_is_all_of_least_squares():
    loss = LOSSES["squared"]
    found = exact_projection(loss, LINE, draw(LINE, "squared", 1)[0], 1.0)
    right = torch.linalg.lstsq(X, loss.data).solution
    check_identity("prop-completed-square", found, right, tolerance=1e-10)


# The inner loop.


def loop(loss, x, start, eta, m, alpha):
    """Inner steps one by one, as the algorithm is written."""
    n = x.shape[-2]
    gradient, anchor, here = loss.gradient(x @ start), x @ start, start
    for _ in range(m):
        here = here - alpha * x.mT @ (gradient + (x @ here - anchor) / eta) / n
    return here


@pytest.mark.theorem("prop-inner-steps", "equality")
@EVERY
def test_one_inner_step_is_gradient_descent(name):
    loss, here = LOSSES[name], draw(LINE, name, 6)
    a = 0.9 / LINE.lipschitz.item()
    for eta in (0.1, 1.0, 7.0):
        ours = target_step(loss, LINE, here, eta, 1, inner_step=a).parameters
        theirs = here - a * eta * slope(loss, LINE, here)
        check_identity("prop-inner-steps", ours, theirs)
    net = draw(NET, name, 6)
    ours = target_step(loss, NET, net, 0.5, 1, inner_step=0.2).parameters
    check_identity("prop-inner-steps", ours, net - 0.1 * slope(loss, NET, net))


@pytest.mark.theorem("prop-inner-steps", "equality")
@pytest.mark.parametrize("relative", [0.01, 0.7, 1.0, 1.9])
@pytest.mark.parametrize("m", [1, 2, 3, 50, 301])
def test_the_closed_form_is_the_loop(m, relative):
    loss, here, eta = LOSSES["softmax"], draw(LINE, "softmax", 3), 1.7
    top = torch.linalg.eigvalsh(X.T @ X / N)[-1].item()
    a = relative / top
    ours = target_step(loss, LINE, here, eta, m, inner_step=a).parameters
    check_identity("prop-inner-steps", ours, loop(loss, X, here, eta, m, a * eta), tolerance=1e-11)
    s, basis = torch.linalg.eigh(X.T @ X / N)
    phi = (1 - (1 - a * s) ** m) / s
    filtered = basis @ (phi[:, None] * (basis.T @ slope(loss, LINE, here)))
    check_identity("prop-inner-steps", ours, here - eta * filtered, tolerance=1e-10)


@pytest.mark.theorem("prop-inner-steps", "equality")
def test_the_closed_form_without_full_rank():
    x = normal(5, 9, seed=12)
    x[4] = x[0] + x[1]
    loss, here = SquaredLoss(normal(5, 2, seed=13)), normal(9, 2, seed=14)
    model = LinearModel(x)
    a = 1.2 / model.lipschitz.item()
    for m in (1, 8, 90):
        ours = target_step(loss, model, here, 0.3, m, inner_step=a).parameters
        theirs = loop(loss, x, here, 0.3, m, 0.3 * a)
        check_identity("prop-inner-steps", ours, theirs, tolerance=1e-11)
    ours = target_step(loss, model, here, 0.3, math.inf).parameters
    moved = -0.3 * torch.linalg.pinv(x.T @ x / 5) @ slope(loss, model, here)
    check_identity("prop-inner-steps", ours, here + moved, tolerance=1e-9)


@pytest.mark.theorem("prop-inner-steps", "mutant")
def test_other_filters_are_not_the_loop():
    loss, here, eta, m = LOSSES["softmax"], draw(LINE, "softmax", 3), 1.7, 5
    s, basis = torch.linalg.eigh(X.T @ X / N)
    a = 1 / s[-1].item()
    ours = target_step(loss, LINE, here, eta, m, inner_step=a).parameters

    def filtered(phi):
        return here - eta * basis @ (phi[:, None] * (basis.T @ slope(loss, LINE, here)))

    true = (ours, filtered((1 - (1 - a * s) ** m) / s))
    for wrong in (
        (1 - (1 - a * s) ** (m - 1)) / s,
        (1 - (1 - a * N * s) ** m) / (N * s),
        a * m + 0 * s,
    ):
        fails(identity("prop-inner-steps"), ours, filtered(wrong), true=true, tolerance=1e-9)


@pytest.mark.theorem("prop-inner-steps", "equality")
def test_many_steps_tend_to_the_exact_minimiser():
    loss, here = LOSSES["logistic"], draw(LINE, "logistic", 3)
    many = target_step(loss, LINE, here, 4.0, 10**6).parameters
    exact = target_step(loss, LINE, here, 4.0, math.inf).parameters
    check_identity("prop-inner-steps", many, exact, tolerance=1e-9)
