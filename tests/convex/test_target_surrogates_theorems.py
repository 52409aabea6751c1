"""The statements of the chapter on target-based surrogates: equalities, bounds, and mutants.

Norms are those of the space of targets (means over the rows). What the statements speak of is
computed here by NumPy, by autograd or by hand, not by the package.
"""

import itertools
import math

import cvxpy
import pytest
import torch
from torch.nn.functional import softplus

from mdtheory.convex.mirror_maps import BinaryEntropy, Entropy, mirror_step
from mdtheory.convex.target_surrogates import (
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
    surrogate,
    target_sgd,
    target_step,
)
from mdtheory.runs import check_bound, check_identity
from tests.polish import guessed, polished
from tests.refused import bound, breaks, differ, fails, identity

F64 = torch.float64
N, D, K = 12, 4, 3


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def square(targets: torch.Tensor) -> torch.Tensor:
    """The squared norm of the space of targets."""
    return targets.square().sum(-1).mean(-1)


def hard_labels(n: int = N, seed: int = 1) -> torch.Tensor:
    return (normal(n, 1, seed=seed) > 0).to(F64)


def one_hot(n: int = N, seed: int = 2) -> torch.Tensor:
    index = torch.randint(K, (n,), generator=seeded(seed))
    return torch.nn.functional.one_hot(index, K).to(F64)


X = normal(N, D, seed=3) * torch.tensor([1.0, 0.5, 0.2, 0.1], dtype=F64)
LINE = LinearModel(X)
NET = TorchModel(
    lambda w, x: (
        torch.tanh(x @ w[..., : 5 * D].unflatten(-1, (D, 5)))
        @ w[..., 5 * D :].unflatten(-1, (5, -1))
    ),
    X,
)
LOSSES = {
    "squared": SquaredLoss(normal(N, 1, seed=4)),
    "logistic": LogisticLoss(hard_labels()),
    "ridge": LogisticLoss(hard_labels(), ridge=0.1),
    "softmax": SoftmaxLoss(one_hot()),
}
WIDTH = {"squared": 1, "logistic": 1, "ridge": 1, "softmax": K}
EVERY = pytest.mark.parametrize("name", LOSSES)
BOTH = pytest.mark.parametrize("model", [LINE, NET], ids=["line", "net"])


def draw(model, name: str, count: int, seed: int = 5, scale: float = 3.0) -> torch.Tensor:
    k = WIDTH[name]
    shape = (D, k) if model is LINE else (5 * D + 5 * k,)
    return scale * normal(count, *shape, seed=seed)


def slope(loss, model, parameters: torch.Tensor) -> torch.Tensor:
    """The gradient of h by autograd."""
    leaf = parameters.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss.value(model(leaf)).sum(), leaf)
    return gradient


def best_targets(loss, model, k: int) -> torch.Tensor:
    """Targets of the minimiser, by Newton's method on the whole Hessian."""
    here = torch.zeros(model.features.shape[-1] * k, dtype=F64)

    def h(flat):
        return loss.value(model(flat.unflatten(0, (-1, k))))

    for _ in range(40):
        leaf = here.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(h(leaf), leaf)
        bend = torch.autograd.functional.hessian(h, here)
        here = here - torch.linalg.pinv(bend) @ gradient
    return model(here.unflatten(0, (-1, k)))


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


# Descent.


@pytest.mark.theorem("thm-mm-descent", "bound")
@pytest.mark.parametrize("m", [1, 3, 100, math.inf])
@EVERY
def test_every_round_descends_by_the_gradient(name, m):
    loss = LOSSES[name]
    eta, start, rounds = 1 / loss.smoothness, draw(LINE, name, 10), 25
    alpha = eta / torch.linalg.eigvalsh(X.T @ X / N)[-1].item()
    record = majorize_minimize(loss, LINE, start, eta, rounds, m)
    norms = record.gradient_norms
    check_identity("thm-mm-descent", norms[0], slope(loss, LINE, start).norm(dim=(-2, -1)))
    check_bound(
        "thm-mm-descent", record.losses[1:], record.losses[:-1] - alpha / 2 * norms[:-1] ** 2
    )
    below = loss.value(best_targets(loss, LINE, 1)) if name in ("squared", "ridge") else 0.0
    rate = 2 * (record.losses[0] - below) / (alpha * rounds)
    check_bound("thm-mm-descent", norms[:-1].amin(0) ** 2, rate)


@pytest.mark.theorem("thm-mm-descent", "bound")
def test_a_network_descends_by_armijo_and_by_small_steps():
    loss, start = LOSSES["logistic"], draw(NET, "logistic", 5, scale=1.0)
    eta = 1 / loss.smoothness
    for inner_step in (0.05, Armijo()):
        record = majorize_minimize(loss, NET, start, eta, 12, 4, inner_step=inner_step)
        assert bool((record.losses.diff(dim=0) <= 1e-14).all())
        assert bool((record.losses[-1] < record.losses[0]).all())
    alpha = 0.05 * eta
    record = majorize_minimize(loss, NET, start, eta, 12, 4, inner_step=0.05)
    drop = alpha / 2 * record.gradient_norms[:-1] ** 2
    check_bound("thm-mm-descent", record.losses[1:], record.losses[:-1] - drop)


@pytest.mark.theorem("thm-mm-descent", "equality")
def test_the_descent_is_attained_by_one_step_of_a_parabola():
    """One parameter, squared loss, alpha = 1/beta and eta = 1: the bound is an equality."""
    x, y = normal(N, 1, seed=15), normal(N, 1, seed=16)
    y = x * (x * y).sum() / (x * x).sum()  # so that h* = 0
    record = majorize_minimize(SquaredLoss(y), LinearModel(x), x.new_ones(1, 1), 1.0, 1, 1)
    alpha = 1 / x.square().mean()
    right = record.losses[0] - alpha / 2 * record.gradient_norms[0] ** 2
    check_identity("thm-mm-descent", record.losses[1], right)


@pytest.mark.theorem("thm-mm-descent", "mutant")
def test_the_descent_fails_with_steps_that_are_too_long():
    loss, start = LOSSES["squared"], draw(LINE, "squared", 10)
    lam = torch.linalg.eigvalsh(X.T @ X / N)[-1].item()

    def broken(eta, inner_step, m):
        record = majorize_minimize(loss, LINE, start, eta, 10, m, inner_step=inner_step)
        drop = eta * inner_step / 2 * record.gradient_norms[:-1] ** 2
        return breaks("thm-mm-descent", record.losses[1:], record.losses[:-1] - drop)

    assert not broken(1.0, 1 / lam, 5)
    assert broken(3.0, 1 / lam, 50)  # the surrogate is no majoriser
    assert broken(1.0, 2.5 / lam, 5)  # the inner loop climbs
    assert broken(1.0, 1.5 / lam, 1)  # a longer step than the theorem allows promises too much


# The exact minimiser.


@pytest.mark.theorem("thm-exact-projection", "bound")
@pytest.mark.parametrize("relative", [0.4, 1.0])
@pytest.mark.parametrize("name", ["squared", "ridge"])
def test_the_rates_of_the_exact_minimiser(name, relative):
    loss, start, rounds = LOSSES[name], draw(LINE, name, 10), 60
    eta = relative / loss.smoothness
    goal = best_targets(loss, LINE, 1)
    record = majorize_minimize(loss, LINE, start, eta, rounds, math.inf, keep_targets=True)
    far = square(record.targets - goal).sqrt()
    times = torch.arange(1, rounds + 1, dtype=F64)[:, None]
    excess = record.losses[1:] - loss.value(goal)
    check_bound("thm-exact-projection", excess, far[0] ** 2 / (2 * eta * times))
    shrunk = (1 - loss.strong_convexity * eta) ** times * far[0]
    check_bound("thm-exact-projection", far[1:], shrunk)


@pytest.mark.theorem("thm-exact-projection", "bound")
def test_the_slow_rate_without_strong_convexity():
    """Labels that no plane separates, so that the minimum is attained."""
    soft = normal(N, 1, seed=17).sigmoid()
    loss, start = LogisticLoss(soft), draw(LINE, "logistic", 10)
    goal = best_targets(loss, LINE, 1)
    record = majorize_minimize(loss, LINE, start, 4.0, 80, math.inf, keep_targets=True)
    times = torch.arange(1, 81, dtype=F64)[:, None]
    excess = record.losses[1:] - loss.value(goal)
    bound = square(record.targets[0] - goal) / (8 * times)
    check_bound("thm-exact-projection", excess, bound)


@pytest.mark.theorem("thm-exact-projection", "equality")
def test_the_squared_loss_attains_the_linear_rate():
    loss, start, eta = LOSSES["squared"], draw(LINE, "squared", 4), 0.3
    goal = X @ torch.linalg.lstsq(X, loss.data).solution
    record = majorize_minimize(loss, LINE, start, eta, 20, math.inf, keep_targets=True)
    times = torch.arange(21, dtype=F64)[:, None]
    far = square(record.targets - goal).sqrt()
    check_identity("thm-exact-projection", far, 0.7**times * far[0], tolerance=1e-11)


@pytest.mark.theorem("thm-exact-projection", "mutant")
def test_the_squared_rate_is_not_true_of_the_distance():
    loss, start, eta = LOSSES["squared"], draw(LINE, "squared", 4), 0.3
    goal = X @ torch.linalg.lstsq(X, loss.data).solution
    record = majorize_minimize(loss, LINE, start, eta, 5, math.inf, keep_targets=True)
    far = square(record.targets - goal).sqrt()
    times = torch.arange(1, 6, dtype=F64)[:, None]
    true, wrong = (far[1:], 0.7**times * far[0]), 0.7 ** (2 * times) * far[0]
    fails(bound("thm-exact-projection"), far[1:], wrong, true=true)
    once = majorize_minimize(loss, LINE, start, eta, 5, 1, keep_targets=True)  # m = 1 has no rate
    short = square(once.targets - goal).sqrt()
    assert breaks("thm-exact-projection", short[1:], 0.7**times * short[0])
    long = majorize_minimize(loss, LINE, start, 2.5, 5, math.inf, keep_targets=True)
    start = square(long.targets[0] - goal)
    check_bound(
        "thm-exact-projection", record.losses[1:] - loss.value(goal), start / (2 * eta * times)
    )
    excess = long.losses[1:] - loss.value(goal)
    assert breaks("thm-exact-projection", excess, start / (5 * times))


@pytest.mark.theorem("prop-reparametrisation", "equality")
@EVERY
def test_coordinates_do_not_matter_to_the_exact_minimiser(name):
    loss, start = LOSSES[name], draw(LINE, name, 4)
    turn = normal(D, D, seed=18) + 2 * torch.eye(D, dtype=F64)
    other = LinearModel(X @ torch.linalg.inv(turn))
    eta = 1 / loss.smoothness
    ours = majorize_minimize(loss, LINE, start, eta, 30, math.inf, keep_targets=True)
    theirs = majorize_minimize(loss, other, turn @ start, eta, 30, math.inf, keep_targets=True)
    check_identity("prop-reparametrisation", ours.targets, theirs.targets, tolerance=1e-9)
    check_identity(
        "prop-reparametrisation", turn @ ours.parameters, theirs.parameters, tolerance=1e-8
    )


@pytest.mark.theorem("prop-reparametrisation", "mutant")
def test_coordinates_matter_to_finitely_many_steps():
    loss, start = LOSSES["logistic"], draw(LINE, "logistic", 4)
    turn = normal(D, D, seed=18) + 2 * torch.eye(D, dtype=F64)
    other = LinearModel(X @ torch.linalg.inv(turn))
    for m in (1, 10):
        ours = majorize_minimize(loss, LINE, start, 4.0, 3, m, keep_targets=True)
        theirs = majorize_minimize(loss, other, turn @ start, 4.0, 3, m, keep_targets=True)
        assert differ("prop-reparametrisation", ours.targets, theirs.targets)
    ours = majorize_minimize(loss, LINE, start, 4.0, 3, math.inf, keep_targets=True)
    theirs = majorize_minimize(loss, other, turn @ start, 4.0, 3, math.inf, keep_targets=True)
    check_identity("prop-reparametrisation", ours.targets, theirs.targets, tolerance=1e-9)
    # One parameter, scaled by 2, the same alpha: the targets move a quarter as far.
    x, loss = normal(N, 1, seed=19), LOSSES["squared"]
    zero = torch.zeros(1, 1, dtype=F64)
    ours = x @ target_step(loss, LinearModel(x), zero, 1.0, 1, inner_step=0.1).parameters
    theirs = x / 2 @ target_step(loss, LinearModel(x / 2), zero, 1.0, 1, inner_step=0.1).parameters
    check_identity("prop-reparametrisation", theirs, ours / 4)


# Mini-batches, all rows in the proximity term.


def all_batches(n: int, b: int) -> torch.Tensor:
    """Every subset, int64, shape (count, b)."""
    return torch.tensor(list(itertools.combinations(range(n), b)))


def one_round(loss, model, start, eta, b, m=math.inf, **extra):
    """Targets after one round, for every batch there is; their plain mean is the expectation."""
    batches = all_batches(loss.rows, b)
    record = target_sgd(loss, model, start, eta, batches[None], m, **extra)
    return model(record.parameters)


def recursion(loss, mu, n, b, eta, goal, before):
    s_star = (1 / b - 1 / n) * loss.gradient(goal).square().sum((-2, -1))
    return ((1 - mu * eta) * before + 2 * eta**2 * s_star).sqrt()


@pytest.mark.theorem("thm-target-sgd", "equality")
@pytest.mark.parametrize("b", [1, 3, 6])
def test_noise_at_the_minimum_by_enumeration(b):
    n = 6
    loss = LogisticLoss(hard_labels(n), ridge=0.2)
    goal = best_targets(loss, LinearModel(X[:n, :2]), 1)
    slopes = loss.gradient(goal)
    errors = []
    for batch in all_batches(n, b):
        estimate = torch.zeros_like(slopes)
        estimate[batch] = n / b * slopes[batch]
        errors.append(estimate - slopes)
    errors = torch.stack(errors)
    assert errors.mean(0).abs().max() < 1e-15  # unbiased
    right = (1 / b - 1 / n) * slopes.square().sum()
    check_identity("thm-target-sgd", square(errors).mean(), right)
    if b == 3:
        assert differ("thm-target-sgd", square(errors).mean(), right * (n - 1) / n)


@pytest.mark.theorem("thm-target-sgd", "equality")
@pytest.mark.parametrize("b", [1, 2, 5, 6])
def test_the_expectation_of_a_round_by_enumeration(b):
    """With free targets and a squared loss everything can be computed: no noise at the minimum."""
    n, eta = 6, 0.05
    loss, model = SquaredLoss(normal(n, 1, seed=20)), LinearModel(normal(n, n, seed=21))
    start = normal(n, 1, seed=22)
    before = square(model(start) - loss.data)
    after = square(one_round(loss, model, start, eta, b, proximity="all") - loss.data).mean()
    check_identity("thm-target-sgd", after, (1 - 2 * eta + eta**2 * n / b) * before, tolerance=1e-9)
    assert after <= (1 - eta) * before


@pytest.mark.theorem("thm-target-sgd", "bound")
@pytest.mark.parametrize("m", [1, 20, math.inf])
@pytest.mark.parametrize("name", ["squared", "ridge"])
def test_the_recursion_of_one_round_by_enumeration(name, m):
    n, b = 7, 2
    x = normal(n, 2, seed=23)
    loss = SquaredLoss(normal(n, 1, seed=24)) if name == "squared" else LogisticLoss(
        hard_labels(n), ridge=0.1
    )  # fmt: skip
    model = LinearModel(x)
    goal, start = best_targets(loss, model, 1), normal(2, 1, seed=25)
    for relative in (0.1, 1.0):
        eta = relative * b / (2 * n * loss.smoothness)
        for here in (start, 0.01 * start, torch.linalg.lstsq(x, goal).solution):
            got = one_round(loss, model, here, eta, b, m, proximity="all")
            exact = one_round(loss, model, here, eta, b, proximity="all")
            error = square(got - exact).mean().sqrt()
            before = square(model(here) - goal)
            right = recursion(loss, loss.strong_convexity, n, b, eta, goal, before) + error
            check_bound("thm-target-sgd", square(got - goal).mean().sqrt(), right)


@pytest.mark.theorem("thm-target-sgd", "bound")
def test_the_recursion_over_many_rounds_and_seeds():
    n, b, rounds, seeds = 8, 2, 40, 300
    x = normal(n, 3, seed=26)
    loss, model = LogisticLoss(hard_labels(n), ridge=0.3), LinearModel(x)
    goal = best_targets(loss, model, 1)
    eta = b / (2 * n * loss.smoothness)
    batches = draw_batches(rounds, n, b, seeded(27), (seeds,))
    here = 3 * normal(3, 1, seed=28)
    right = square(model(here) - goal).sqrt()
    for t in range(rounds):
        record = target_sgd(loss, model, here, eta, batches[t : t + 1], math.inf, proximity="all")
        here = record.parameters
        right = recursion(loss, 0.3, n, b, eta, goal, right**2)
        left = square(model(here) - goal).mean().sqrt()
        check_bound("thm-target-sgd", left, right)


@pytest.mark.theorem("thm-target-sgd", "mutant")
def test_the_recursion_needs_all_rows_and_its_noise():
    n, b = 7, 2
    loss, model = SquaredLoss(normal(n, 1, seed=24)), LinearModel(normal(n, 2, seed=23))
    goal = best_targets(loss, model, 1)
    here = torch.linalg.lstsq(model.features, goal).solution  # at the minimum
    eta = b / (2 * n)
    right = recursion(loss, 1.0, n, b, eta, goal, goal.new_zeros(()))
    got = one_round(loss, model, here, eta, b, proximity="all")
    check_bound("thm-target-sgd", square(got - goal).mean().sqrt(), right)
    assert breaks("thm-target-sgd", square(got - goal).mean().sqrt(), 0.0 * right)  # without s_*
    sampled = one_round(loss, model, here, eta * n / b, b, proximity="batch")
    assert breaks("thm-target-sgd", square(sampled - goal).mean().sqrt(), right)


@pytest.mark.theorem("thm-target-sgd", "mutant")
def test_the_recursion_fails_for_a_step_fit_for_all_rows():
    """L in place of n L / b: with b = 1 such a step blows up what it should shrink."""
    n = 6
    loss, model = SquaredLoss(normal(n, 1, seed=20)), LinearModel(normal(n, n, seed=21))
    start = normal(n, 1, seed=22)
    before = square(model(start) - loss.data)
    right = one_round(loss, model, start, 0.5 / n, 1, proximity="all") - loss.data
    check_bound(
        "thm-target-sgd", square(right).mean().sqrt(),
        recursion(loss, 1.0, n, 1, 0.5 / n, loss.data, before),
    )  # fmt: skip
    after = square(one_round(loss, model, start, 0.5, 1, proximity="all") - loss.data).mean()
    assert breaks("thm-target-sgd", after.sqrt(), (0.5 * before).sqrt())


# Relative smoothness.


def dual_cases():
    z, anchor = 4 * normal(200, N, 2, seed=29), 2 * normal(N, 2, seed=30)
    y = normal(N, 2, seed=31).sigmoid()
    yield "binary", BinaryEntropy(), LogisticLoss(y), z, anchor
    z, anchor = 4 * normal(200, N, K, seed=32), 2 * normal(N, K, seed=33)
    yield "softmax", Entropy(), SoftmaxLoss(normal(N, K, seed=34).softmax(-1)), z, anchor


DUAL = pytest.mark.parametrize(
    ("mirror_map", "loss", "z", "anchor"),
    [case[1:] for case in dual_cases()],
    ids=[case[0] for case in dual_cases()],
)


def chances(mirror_map, z):
    return z.sigmoid() if isinstance(mirror_map, BinaryEntropy) else z.softmax(-1)


@pytest.mark.theorem("prop-relative-smoothness", "equality")
@DUAL
def test_with_the_loss_own_geometry_the_surrogate_is_the_loss(mirror_map, loss, z, anchor):
    values = surrogate(loss, z, anchor, 1.0, mirror_map, coordinates="dual")
    check_identity("prop-relative-smoothness", values, loss.value(z))


@pytest.mark.theorem("prop-relative-smoothness", "equality")
@pytest.mark.parametrize("eta", [0.2, 0.9, 1.7])
@DUAL
def test_the_gap_is_a_divergence_with_exchanged_arguments(mirror_map, loss, z, anchor, eta):
    gap = surrogate(loss, z, anchor, eta, mirror_map, coordinates="dual") - loss.value(z)
    before, after = chances(mirror_map, anchor), chances(mirror_map, z)
    kl = mirror_map.divergence(before, after).mean(-1)
    check_identity("prop-relative-smoothness", gap, (1 / eta - 1) * kl, tolerance=1e-11)
    by_hand = torch.special.xlogy(before, before / after).sum(-1).mean(-1)
    if isinstance(mirror_map, BinaryEntropy):
        rest = torch.special.xlogy(1 - before, (1 - before) / (1 - after)).sum(-1).mean(-1)
        by_hand = by_hand + rest
    check_identity("prop-relative-smoothness", gap, (1 / eta - 1) * by_hand, tolerance=1e-9)
    reversed_kl = mirror_map.divergence(after, before).mean(-1)
    assert differ("prop-relative-smoothness", gap, (1 / eta - 1) * reversed_kl)


@pytest.mark.theorem("prop-relative-smoothness", "bound")
@DUAL
def test_a_smaller_step_majorises(mirror_map, loss, z, anchor):
    for eta in (0.01, 0.5, 1.0):
        upper = surrogate(loss, z, anchor, eta, mirror_map, coordinates="dual")
        check_bound("prop-relative-smoothness", loss.value(z), upper)


@pytest.mark.theorem("prop-relative-smoothness", "mutant")
@DUAL
def test_a_larger_step_or_another_loss_does_not(mirror_map, loss, z, anchor):
    value, right = loss.value(z), surrogate(loss, z, anchor, 1.0, mirror_map, coordinates="dual")
    lower = surrogate(loss, z, anchor, 1.1, mirror_map, coordinates="dual")
    fails(bound("prop-relative-smoothness"), value, lower, true=(value, right))
    # The divergence the wrong way round: of probabilities, not of logits.
    before, after = chances(mirror_map, anchor), chances(mirror_map, z)
    linear = (loss.gradient(anchor) * (z - anchor)).sum(-1).mean(-1)
    wrong = loss.value(anchor) + linear + mirror_map.divergence(after, before).mean(-1)
    fails(identity("prop-relative-smoothness"), wrong, value, true=(right, value), tolerance=1e-9)


@pytest.mark.theorem("prop-relative-smoothness", "mutant")
def test_a_ridge_is_not_in_the_geometry():
    loss, z, anchor = LogisticLoss(hard_labels(), ridge=0.5), normal(9, N, 1), normal(N, 1, seed=3)
    values = surrogate(loss, z, anchor, 1.0, BinaryEntropy(), coordinates="dual")
    assert breaks("prop-relative-smoothness", loss.value(z), values)
    gap = loss.value(z) - values
    check_identity("prop-relative-smoothness", gap, 0.25 * square(z - anchor), tolerance=1e-11)


@pytest.mark.theorem("prop-relative-smoothness", "equality")
def test_inner_steps_in_the_loss_own_geometry_are_gradient_descent_on_the_loss():
    loss, model = LOSSES["softmax"], LINE
    here = there = draw(LINE, "softmax", 3)
    done = target_step(
        loss, model, here, 1.0, 5, inner_step=0.3, mirror_map=Entropy(), coordinates="dual"
    )
    for _ in range(5):
        there = there - 0.3 * slope(loss, model, there)
    check_identity("prop-relative-smoothness", done.parameters, there)


# Probabilities as targets.


COST = LinearCost(normal(N, K, seed=35))
P, P0 = normal(300, N, K, seed=36).softmax(-1), normal(N, K, seed=37).softmax(-1)


def kl(p, q):
    return torch.special.xlogy(p, p / q).sum(-1).mean(-1)


@pytest.mark.theorem("prop-probability-targets", "equality")
@pytest.mark.parametrize("eta", [0.1, 1.0, 20.0])
def test_the_surrogate_of_a_cost_is_kl_to_the_mirror_step(eta):
    weights = P0 * (-eta * COST.data).exp()
    half = weights / weights.sum(-1, keepdim=True)
    ours = half_step(COST, P0, eta, Entropy())
    check_identity("prop-probability-targets", ours, half)
    step = mirror_step(Entropy(), P0, COST.data, eta)
    check_identity("prop-probability-targets", ours, step)
    values = eta * surrogate(COST, P, P0, eta, Entropy())
    constant = -weights.sum(-1).log().mean()
    check_identity("prop-probability-targets", values, kl(P, half) + constant, tolerance=1e-11)


@pytest.mark.theorem("prop-probability-targets", "equality")
def test_its_gap_is_kl_and_its_minimiser_the_mirror_step():
    gap = surrogate(COST, P, P0, 0.7, Entropy()) - COST.value(P)
    check_identity("prop-probability-targets", gap, kl(P, P0) / 0.7, tolerance=1e-11)
    half = half_step(COST, P0, 0.7, Entropy())
    least = surrogate(COST, half, P0, 0.7, Entropy())
    assert bool((surrogate(COST, P, P0, 0.7, Entropy()) >= least).all())


@pytest.mark.theorem("prop-probability-targets", "bound")
@pytest.mark.parametrize("eta", [0.01, 1.0, 100.0, 1e6])
def test_the_surrogate_of_a_cost_majorises_for_every_step(eta):
    upper = surrogate(COST, P, P0, eta, Entropy())
    check_bound("prop-probability-targets", COST.value(P), upper)


@pytest.mark.theorem("prop-probability-targets", "mutant")
def test_kl_the_wrong_way_round_is_another_surrogate():
    eta = 0.7
    values = eta * surrogate(COST, P, P0, eta, Entropy())
    half = half_step(COST, P0, eta, Entropy())

    def varies(distance):
        return differ("prop-probability-targets", *(values - distance)[[0, 1]].split(1))

    assert not varies(kl(P, half))
    assert varies(kl(half, P))
    assert varies(kl(P, half_step(COST, P0, 0.8, Entropy())))
    gradient = COST.data - 2 * COST.data  # an ascent step
    assert varies(kl(P, mirror_step(Entropy(), P0, gradient, eta)))


@pytest.mark.theorem("prop-probability-targets", "equality")
def test_inner_steps_on_softmax_policies_tend_to_the_mirror_step():
    """A table of logits can meet every probability: the inner loop finds the mirror step."""
    rows = torch.zeros(N, 1, dtype=F64)
    table = TorchModel(lambda w, x: w.unflatten(-1, (N, K)).softmax(-1), rows)
    start = P0.log().flatten()
    end = target_step(COST, table, start, 0.7, 2000, inner_step=20.0, mirror_map=Entropy())
    half = half_step(COST, P0, 0.7, Entropy())
    check_identity("prop-probability-targets", table(end.parameters), half, tolerance=1e-9)


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
