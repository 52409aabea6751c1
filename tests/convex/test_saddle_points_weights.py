"""The weights of AdaWAC: the update three ways, and the statements about it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mdtheory.convex import saddle_points as sp
from mdtheory.convex.mirror_maps import Ball, BinaryEntropy, Entropy, Euclidean, mirror_step
from mdtheory.convex.saddle_points import bounds
from mdtheory.runs import check_bound, check_identity
from tests.refused import breaks, differ

F64 = torch.float64
LOG2 = math.log(2)


def draws(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.rand(*shape, generator=generator, dtype=F64)


# One update under four names.


def test_the_weight_step_under_four_names():
    b, supervised, consistency = (draws(5, 40, seed=k) for k in range(3))
    b = b.clamp(1e-6, 1 - 1e-6)
    eta = 3.0
    ours = sp.weight_step(b, supervised, consistency, eta)
    assert ours.shape == b.shape
    logit = torch.logit(b) + eta * (supervised - consistency)
    torch.testing.assert_close(ours, torch.sigmoid(logit), rtol=1e-12, atol=0)
    box = mirror_step(BinaryEntropy(), b, consistency - supervised, eta)
    torch.testing.assert_close(ours, box, rtol=1e-12, atol=0)
    pair, losses = torch.stack([b, 1 - b], -1), torch.stack([supervised, consistency], -1)
    two = mirror_step(Entropy(), pair, -losses, eta)
    torch.testing.assert_close(ours, two[..., 0], rtol=1e-12, atol=0)
    grown = pair * (eta * losses).exp()  # as the authors write it
    theirs = grown / grown.sum(-1, keepdim=True)
    torch.testing.assert_close(ours, theirs[..., 0], rtol=1e-12, atol=0)


def test_the_weight_step_does_not_overflow():
    b = torch.tensor([0.5, 0.5, 0.3], dtype=F64)
    big, nothing = (
        torch.tensor([1e3, 0.0, 7.0], dtype=F64),
        torch.tensor([0.0, 1e3, 7.0], dtype=F64),
    )
    found = sp.weight_step(b, big, nothing, 8.0)
    assert bool(((found > 0) & (found < 1)).all())
    assert found[2] == pytest.approx(0.3)
    again = sp.weight_step(found, nothing, big, 0.0)  # what comes out goes in
    torch.testing.assert_close(again, found, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ends(dtype):
    half = torch.full((3,), 0.5, dtype=dtype)
    loss, zero = torch.ones(3, dtype=dtype), torch.zeros(3, dtype=dtype)
    torch.testing.assert_close(sp.weight_step(half, loss, loss, 5.0), half)
    torch.testing.assert_close(sp.weight_step(half, loss, zero, 0.0), half)
    up = sp.weight_step(half, loss, zero, 1e6)
    assert bool((up < 1).all())
    assert up.dtype == dtype
    assert bool((up > 1 - 1e-6).all())
    assert bool((sp.weight_step(half, zero, loss, 1e6) > 0).all())


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=30), st.floats(0.01, 20))
def test_steps_add_up_in_the_logit(differences, eta):
    d = torch.tensor(differences, dtype=F64)
    b = torch.full((1,), 0.5, dtype=F64)
    for one in d:
        b = sp.weight_step(b, one.clamp(min=0)[None], (-one).clamp(min=0)[None], eta)
        if not 1e-9 < b < 1 - 1e-9:
            return  # the logit has lost digits
    expected = torch.sigmoid(eta * d.sum())[None]
    torch.testing.assert_close(b, expected, rtol=1e-6, atol=0)


# A toy with everything in closed form: least squares against a floor.


class Toy:
    """l_i = (a_i theta - y_i)^2 / 2 and rho_i = (c_i theta)^2 / 2 + e_i, on a ball."""

    def __init__(self, count=8, n=20, d=4, radius=2.0, seed=0):
        generator = torch.Generator().manual_seed(seed)
        normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=F64)  # noqa: E731
        self.a, self.c = (normal(count, n, d) / d**0.5 for _ in range(2))
        self.y = 1.2 * normal(count, n)
        self.floor = 0.3 * torch.rand(count, n, generator=generator, dtype=F64)
        self.n, self.d, self.radius = n, d, radius

    def supervised(self, theta):
        return ((self.a @ theta[..., None])[..., 0] - self.y) ** 2 / 2

    def consistency(self, theta):
        return (self.c @ theta[..., None])[..., 0] ** 2 / 2 + self.floor

    def operator(self, theta, b):
        p = (self.a @ theta[..., None])[..., 0] - self.y
        q = (self.c @ theta[..., None])[..., 0]
        slope = ((b * p)[..., None] * self.a + ((1 - b) * q)[..., None] * self.c).mean(-2)
        return slope, (self.consistency(theta) - self.supervised(theta)) / self.n

    def value(self, theta, b):
        return (b * self.supervised(theta) + (1 - b) * self.consistency(theta)).mean(-1)

    def run(self, eta, weight_step, steps, order):
        maps = (Euclidean(Ball(self.radius)), BinaryEntropy())
        start = (torch.zeros(self.d, dtype=F64), torch.full((self.n,), 0.5, dtype=F64))
        return sp.saddle_mirror_descent(
            self.operator, maps, start, (eta, weight_step * self.n), steps, order
        )

    def best(self, b, rounds=1500):
        """Smallest value against the weights, from below by strong convexity's own gap."""
        theta = torch.zeros(*b.shape[:-1], self.d, dtype=F64)
        ball = Ball(self.radius)
        for _ in range(rounds):
            theta = ball.project(theta - 0.5 * self.operator(theta, b)[0])
        slope = self.operator(theta, b)[0]
        corner = ball.minimize_linear(slope)  # the linear bound holds on the whole ball
        return self.value(theta, b) + (slope * (corner - theta)).sum(-1)

    def gap(self, record):
        theta, b = record.average
        worst = torch.maximum(self.supervised(theta), self.consistency(theta)).mean(-1)
        return worst - self.best(b)

    def sides(self, record, eta, weight_step, steps, order):
        theta, b = record.points
        squares = (self.operator(theta, b)[0] ** 2).sum(-1).sum(0)
        apart = (self.supervised(theta) - self.consistency(theta)) ** 2
        right = bounds.weighted_gap_bound(
            self.radius, squares, apart.mean(-1).sum(0), eta, weight_step, steps, order=order
        )
        return self.gap(record), right


SADDLE_ORDER = {"weights_first": "ascent_first", "simultaneous": "simultaneous"}


@pytest.mark.theorem("thm-adawac", "bound")
@pytest.mark.theorem("thm-adawac", "mutant")
@pytest.mark.parametrize("order", ["weights_first", "simultaneous"])
@pytest.mark.parametrize("weight_step", [0.1, 1.0, 10.0, 100.0])
def test_adawac_gap(order, weight_step):
    toy = Toy()
    record = toy.run(0.1, weight_step, 300, SADDLE_ORDER[order])
    gap, right = toy.sides(record, 0.1, weight_step, 300, order)
    check_bound("thm-adawac", gap, right)
    # Mutant: the sign of the logit step.
    flipped = Toy()
    plain = flipped.operator
    flipped.operator = lambda theta, b: (plain(theta, b)[0], -plain(theta, b)[1])
    wrong = flipped.run(0.1, weight_step, 300, SADDLE_ORDER[order])
    if weight_step == 1.0:
        assert breaks("thm-adawac", flipped.gap(wrong), right)


@pytest.mark.theorem("thm-adawac", "equality")
@pytest.mark.theorem("thm-adawac", "mutant")
@pytest.mark.parametrize("order", ["weights_first", "simultaneous"])
def test_adawac_gap_is_attained(order):
    """Losses that agree and are linear: what is left but log 2/eta_B is attained."""
    steps, eta, n = 30, 0.2, 6
    g = torch.tensor([0.6, -0.8], dtype=F64)
    radius = steps * eta
    maps = (Euclidean(Ball(radius)), BinaryEntropy())
    start = (torch.zeros(2, dtype=F64), torch.full((n,), 0.5, dtype=F64))
    operator = lambda theta, b: (-g.expand_as(theta), torch.zeros_like(b))  # noqa: E731
    record = sp.saddle_mirror_descent(
        operator, maps, start, (eta, 1e9 * n), steps, SADDLE_ORDER[order]
    )
    gap = radius - (g * record.average[0]).sum()
    right = bounds.weighted_gap_bound(radius, float(steps), 0.0, eta, 1e9, steps, order=order)
    check_identity("thm-adawac", gap, torch.tensor(right, dtype=F64), tolerance=1e-8)
    short = bounds.weighted_gap_bound(radius, steps / 2, 0.0, eta, 1e9, steps, order=order)
    assert breaks("thm-adawac", gap, short)


# The certificate of any log.


def log_of(rounds, n, eta, order, seed=0, scale=1.0, drift=0.0):
    """Losses of any kind, and the weights that they meet."""
    supervised, consistency = (draws(rounds, 50, n, seed=seed + k, scale=scale) for k in (0, 1))
    supervised = supervised + drift * torch.linspace(0, 1, n, dtype=F64)
    logits = eta * (supervised - consistency).cumsum(0)
    if order == "simultaneous":
        logits = torch.cat([torch.zeros_like(logits[:1]), logits[:-1]])
    return supervised, consistency, logits


def regret_by_divergences(supervised, consistency, eta, order):
    """The three-point identity summed: the right side of eq-certificate-account."""
    zero = torch.zeros_like(supervised[:1])
    logits = torch.cat([zero, eta * (supervised - consistency).cumsum(0)])
    softplus = torch.nn.functional.softplus
    up = logits[-1] > 0
    kept = LOG2 - torch.where(up, softplus(-logits[-1]), softplus(logits[-1]))

    def divergence(to, before):
        p = to.sigmoid()
        return p * (to - before) + softplus(before) - softplus(to)

    if order == "simultaneous":
        return (kept + divergence(logits[:-1], logits[1:]).sum(0)) / eta
    return (kept - divergence(logits[1:], logits[:-1]).sum(0)) / eta


@pytest.mark.theorem("thm-certificate", "bound")
@pytest.mark.theorem("thm-certificate", "equality")
@pytest.mark.theorem("thm-certificate", "mutant")
@pytest.mark.parametrize("order", ["weights_first", "simultaneous"])
@pytest.mark.parametrize("eta", [0.05, 1.0, 30.0])
def test_certificate(order, eta):
    supervised, consistency, logits = log_of(40, 7, eta, order)
    regret = sp.weight_regret(logits.sigmoid(), supervised, consistency)
    bound = sp.weight_bound(supervised, consistency, eta, order=order)
    check_bound("thm-certificate", regret, bound)
    check_identity(
        "thm-certificate", regret, regret_by_divergences(supervised, consistency, eta, order),
        tolerance=1e-10,
    )  # fmt: skip
    # Mutant: weights that move the other way, on the same losses.
    away = sp.weight_regret((-logits).sigmoid(), supervised, consistency)
    assert differ("thm-certificate", away, regret_by_divergences(
        supervised, consistency, eta, order))  # fmt: skip
    if eta == 30.0 and order == "weights_first":
        assert breaks("thm-certificate", away, bound)


@pytest.mark.theorem("thm-certificate", "mutant")
def test_the_order_decides_the_bound():
    """Long steps: met before they move, the weights pay; the square must not be dropped."""
    eta = 30.0
    supervised, consistency, logits = log_of(40, 7, eta, "simultaneous")
    regret = sp.weight_regret(logits.sigmoid(), supervised, consistency)
    check_bound("thm-certificate", regret,
                sp.weight_bound(supervised, consistency, eta, order="simultaneous"))  # fmt: skip
    assert breaks("thm-certificate", regret, sp.weight_bound(supervised, consistency, eta))


@pytest.mark.theorem("thm-certificate", "bound")
@pytest.mark.theorem("thm-certificate", "mutant")
def test_certificate_is_tight():
    # One draw, simultaneous: 1 / sqrt(2 log 2).
    apart = torch.tensor([[0.3, 2.0]], dtype=F64)
    for k, one in enumerate(apart[0]):
        eta = math.sqrt(8 * LOG2) / one.item()
        d, zero = apart[:, k : k + 1], torch.zeros(1, 1, dtype=F64)
        regret = sp.weight_regret(torch.full_like(d, 0.5), d, zero)
        bound = sp.weight_bound(d, zero, eta, order="simultaneous")
        ratio = check_bound("thm-certificate", regret, bound)
        assert ratio == pytest.approx(1 / math.sqrt(2 * LOG2))
        assert breaks("thm-certificate", regret, 0.8 * bound)
    # Many small alternating ones: 1 in the limit.
    d = torch.full((100_000, 1), 0.05, dtype=F64)
    d[1::2] *= -1
    logits = d.cumsum(0) - d
    first, second = d.clamp(min=0), (-d).clamp(min=0)
    regret = sp.weight_regret(logits.sigmoid(), first, second)
    bound = sp.weight_bound(first, second, 1.0, order="simultaneous")
    assert check_bound("thm-certificate", regret, bound) > 0.97
    # Many small losses, weights first: 1 in the limit.
    d = torch.full((4000, 1), 0.01, dtype=F64)
    logits = d.cumsum(0)
    zero = torch.zeros_like(d)
    regret = sp.weight_regret(logits.sigmoid(), d, zero)
    ratio = check_bound("thm-certificate", regret, sp.weight_bound(d, zero, 1.0))
    assert ratio > 0.99


@pytest.mark.theorem("thm-certificate", "bound")
@pytest.mark.parametrize("order", ["weights_first", "simultaneous"])
def test_certificate_of_minibatches(order):
    """Each sample counts its own draws; a sample that never came has no regret."""
    generator = torch.Generator().manual_seed(3)
    n, rounds, eta = 12, 60, 4.0
    drawn = torch.stack([torch.randperm(n - 1, generator=generator)[:4] for _ in range(rounds)])
    drawn = drawn + (drawn >= 2).long()  # the third sample is never drawn
    supervised, consistency = draws(rounds, 4, seed=5), draws(rounds, 4, seed=6)
    logits, used = torch.zeros(n, dtype=F64), []
    for i, l, r in zip(drawn, supervised, consistency, strict=True):  # noqa: E741
        before = logits[i]
        logits[i] += eta * (l - r)
        used.append((logits[i] if order == "weights_first" else before).sigmoid())
    used = torch.stack(used)
    regret = sp.weight_regret(used, supervised, consistency, drawn)
    bound = sp.weight_bound(supervised, consistency, eta, drawn, order=order)
    check_bound("thm-certificate", regret, bound)
    assert regret[2] == 0
    for i in range(n):
        at = drawn == i
        best = torch.maximum(supervised[at].sum(), consistency[at].sum())
        played = (used * supervised + (1 - used) * consistency)[at].sum()
        torch.testing.assert_close(regret[i], best - played)


# Where the weights go.


@pytest.mark.theorem("prop-weights", "bound")
@pytest.mark.theorem("prop-weights", "equality")
@pytest.mark.theorem("prop-weights", "mutant")
def test_where_the_weights_go():
    eta, margin, rounds = 2.0, 0.3, 12
    consistency = draws(rounds, 30, seed=1)
    supervised = consistency + margin + draws(rounds, 30, seed=2)
    b, history = torch.full((30,), 0.5, dtype=F64), []
    for l, r in zip(supervised, consistency, strict=True):  # noqa: E741
        b = sp.weight_step(b, l, r, eta)
        history.append(b)
    logits = torch.logit(torch.stack(history))
    check_identity(
        "prop-weights", logits, eta * (supervised - consistency).cumsum(0), tolerance=1e-6
    )
    k = torch.arange(rounds, dtype=F64)[:, None]
    bound = (-eta * margin * k - logits[0]).exp()
    check_bound("prop-weights", 1 - torch.stack(history), bound)
    # Mutant: twice the rate, where every difference is the margin; the true bound is nearly met.
    steady = torch.sigmoid(1.0 + eta * margin * k)
    right = (-eta * margin * k - 1.0).exp()
    assert check_bound("prop-weights", 1 - steady, right) > 0.99
    assert breaks("prop-weights", 1 - steady, (-2 * eta * margin * k - 1.0).exp())
    assert differ("prop-weights", logits, eta * (supervised + consistency).cumsum(0))


@pytest.mark.theorem("prop-weights", "equality")
def test_the_saddle_is_the_mean_of_the_larger_losses():
    """The value by cvxpy; and weights at the ends where the losses differ there."""
    cvxpy = pytest.importorskip("cvxpy")
    toy = Toy(count=2, seed=7)
    record = toy.run(0.02, 50.0, 6000, "ascent_first")
    for k in range(2):
        theta = cvxpy.Variable(toy.d)
        p = cvxpy.square(toy.a[k].numpy() @ theta - toy.y[k].numpy()) / 2
        q = cvxpy.square(toy.c[k].numpy() @ theta) / 2 + toy.floor[k].numpy()
        problem = cvxpy.Problem(
            cvxpy.Minimize(cvxpy.sum(cvxpy.maximum(p, q)) / toy.n),
            [cvxpy.norm(theta) <= toy.radius],
        )
        problem.solve()
        upper = torch.maximum(
            toy.supervised(record.average[0])[k], toy.consistency(record.average[0])[k]
        ).mean()
        lower = toy.best(record.average[1])[k]
        assert lower - 1e-6 <= problem.value <= upper + 1e-6
        assert upper - lower < 2e-3
        found = torch.tensor(theta.value, dtype=F64)
        apart = toy.supervised(found.expand(2, -1))[k] - toy.consistency(found.expand(2, -1))[k]
        clear = apart.abs() > 0.1
        last = record.last[1][k]
        assert bool(((last > 0.5) == (apart > 0))[clear].all())


# Sampling.


@pytest.mark.theorem("thm-adawac-stochastic", "bound")
def test_stochastic_gap():
    """200 seeds on one toy; the mean gap, with no standard error subtracted."""
    toy, seeds, steps = Toy(count=1), 200, 1000
    eta, weight_step = 0.02, 0.1
    generator = torch.Generator().manual_seed(1)
    theta = torch.zeros(seeds, toy.d, dtype=F64)
    logits = torch.zeros(seeds, toy.n, dtype=F64)
    means, squares, apart = [0.0, 0.0], 0.0, 0.0
    row = torch.arange(seeds)
    ball = Ball(toy.radius)
    for _ in range(steps):
        b = logits.sigmoid()
        means = [means[0] + theta / steps, means[1] + b / steps]
        i = torch.randint(toy.n, (seeds,), generator=generator)
        a, c = toy.a[0, i], toy.c[0, i]
        p, q = (a * theta).sum(-1) - toy.y[0, i], (c * theta).sum(-1)
        difference = p**2 / 2 - q**2 / 2 - toy.floor[0, i]
        slope = (b[row, i] * p)[:, None] * a + ((1 - b[row, i]) * q)[:, None] * c
        squares += (slope**2).sum(-1).mean()
        apart += (difference**2).mean()
        theta = ball.project(theta - eta * slope)
        logits[row, i] += weight_step * difference
    many = Toy(count=1)
    many.a, many.c = toy.a.expand(seeds, -1, -1), toy.c.expand(seeds, -1, -1)
    many.y, many.floor = toy.y.expand(seeds, -1), toy.floor.expand(seeds, -1)
    worst = torch.maximum(many.supervised(means[0]), many.consistency(means[0])).mean(-1)
    gap = (worst - many.best(means[1], 300)).mean()
    right = bounds.stochastic_gap_bound(toy.radius, squares, apart, toy.n, eta, weight_step, steps)
    ratio = check_bound("thm-adawac-stochastic", gap, right)
    assert ratio > 0.1


@pytest.mark.theorem("thm-adawac-stochastic", "bound")
@pytest.mark.theorem("thm-adawac-stochastic", "mutant")
def test_every_sample_must_be_drawn():
    """No parameters, losses that differ by 1: the weights need n draws, not one."""
    n, steps, seeds, weight_step = 100, 200, 200, 0.5
    generator = torch.Generator().manual_seed(2)
    drawn = torch.randint(n, (steps, seeds), generator=generator)
    counts = torch.nn.functional.one_hot(drawn, n).double().cumsum(0)
    before = torch.cat([torch.zeros(1, seeds, n, dtype=F64), counts[:-1]])
    gap = 1 - (weight_step * before).sigmoid().mean()
    told = (0.0, 0.0, float(steps))
    right = bounds.stochastic_gap_bound(*told, n, 1.0, weight_step, steps)
    check_bound("thm-adawac-stochastic", gap, torch.tensor(right, dtype=F64))
    wrong = bounds.stochastic_gap_bound(*told, 1, 1.0, weight_step, steps)
    assert breaks("thm-adawac-stochastic", gap, wrong)


@pytest.mark.theorem("thm-adawac-stochastic", "equality")
def test_stochastic_bound_within_two():
    """One sample, losses that agree and are linear: half of the bound, which pays for a ghost."""
    steps, eta = 30, 0.2
    radius = steps * eta
    gap = radius - eta * (steps - 1) / 2
    right = bounds.stochastic_gap_bound(radius, float(steps), 0.0, 1, eta, 1e12, steps)
    check_identity("thm-adawac-stochastic", torch.tensor(2 * gap), torch.tensor(right))


@pytest.mark.theorem("thm-adawac-stochastic", "mutant")
def test_the_sampled_gradient_is_unbiased():
    """Moving one logit by eta_B (l - rho) is a step on an unbiased gradient."""
    toy = Toy(count=1)
    theta, b = draws(1, toy.d, seed=4), draws(1, toy.n, seed=5)
    apart = toy.supervised(theta) - toy.consistency(theta)
    sampled = torch.diag_embed(apart).mean(-2)
    full = -toy.operator(theta, b)[1]
    check_identity("thm-adawac-stochastic", sampled, full)
    assert differ("thm-adawac-stochastic", sampled * toy.n, full)


# The larger loss wins.


def larger_loss(theta, zeros, ones, y, c, combine):
    first = combine(theta**2 / 2, torch.full_like(theta, c))
    second = combine((theta - y) ** 2 / 2, torch.full_like(theta, c))
    return (zeros * first + ones * second) / (zeros + ones)


@pytest.mark.theorem("prop-larger-loss", "equality")
@pytest.mark.theorem("prop-larger-loss", "bound")
@pytest.mark.theorem("prop-larger-loss", "mutant")
@pytest.mark.parametrize(("zeros", "ones"), [(1, 1), (9, 1), (5, 4), (999, 1)])
@pytest.mark.parametrize(("y", "c"), [(2.0, 0.1), (2.0, 0.5), (5.0, 0.02)])
def test_the_larger_loss_wins(zeros, ones, y, c):
    theta = torch.linspace(-1, y + 1, 400_001, dtype=F64)
    found = theta[larger_loss(theta, zeros, ones, y, c, torch.maximum).argmin()]
    told = max(math.sqrt(2 * c), ones * y / (zeros + ones))
    check_identity("prop-larger-loss", found, torch.tensor(told), tolerance=1e-4)
    check_bound("prop-larger-loss", torch.tensor(math.sqrt(2 * c)), found, tolerance=1e-4)
    # Mutant: the smaller loss, which is what the other sign would do; it stays at the truth.
    other = theta[larger_loss(theta, zeros, ones, y, c, torch.minimum).argmin()]
    if zeros > ones:
        assert differ("prop-larger-loss", other, torch.tensor(told), tolerance=1e-3)
        assert abs(other) < 1e-3
