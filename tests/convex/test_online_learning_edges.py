"""Learners and plays: whose memory it is, what can be differentiated, NumPy, units."""

import math

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import (
    Ball,
    Box,
    Entropy,
    Euclidean,
    Mahalanobis,
    PNorm,
    Simplex,
    Tsallis,
)
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
    ftrl_decisions,
    hedge_decisions,
    hedge_losses,
    log_wealth,
    play,
    regret,
    universal_portfolio,
)

F64 = torch.float64
T, B, D = 6, 2, 3


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def uniform(shape=(B, D)):
    return torch.full(shape, 1 / D, dtype=F64)


LEARNERS = {
    "descent": lambda x, s: OnlineMirrorDescent(Entropy(), x, s),
    "projected": lambda x, s: OnlineMirrorDescent(Euclidean(Simplex()), x, s),
    "free": lambda x, s: OnlineMirrorDescent(Euclidean(), x, s),
    "hedge": Hedge,
    "leader": lambda x, s: FollowTheRegularizedLeader(Euclidean(Simplex()), x, s),
    "optimistic": lambda x, s: OptimisticMirrorDescent(Euclidean(), x, s, hint=0.1 * x),
    "adagrad norm": lambda x, s: AdaGrad(x, Ball(2.0), "norm", step_size=s[:, None]),
    "adagrad diagonal": lambda x, s: AdaGrad(x, Ball(2.0), "diagonal", step_size=s[:, None]),
    "adagrad full": lambda x, s: AdaGrad(x, Ball(2.0), "full", step_size=s[:, None]),
    "newton": lambda x, s: OnlineNewtonStep(x, Ball(2.0), s, s),
}
STATE = (
    "decision", "suffered", "loss", "log_decision", "total_gradient", "anchor", "hint",
    "variation", "energy", "matrix", "step_size", "gamma", "epsilon",
)  # fmt: skip


def path(learner, gradients, spoil=lambda learner: None):
    points = []
    for gradient in gradients:
        points.append(learner.decision)
        spoil(learner)
        learner.update(gradient)
    return torch.stack([*points, learner.decision])


@pytest.mark.parametrize("name", LEARNERS)
def test_nothing_that_is_read_from_a_learner_changes_it(name):
    gradients = normal(T, B, D)
    wanted = path(LEARNERS[name](uniform(), torch.full((B,), 0.5, dtype=F64)), gradients)
    learner = LEARNERS[name](uniform(), torch.full((B,), 0.5, dtype=F64))

    def spoil(learner):
        for attribute in STATE:
            value = getattr(learner, attribute, None)
            if isinstance(value, torch.Tensor):
                value.fill_(7.0)

    assert torch.equal(path(learner, gradients, spoil), wanted)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_copies_what_it_is_given(name):
    gradients = normal(T, B, D)
    wanted = path(LEARNERS[name](uniform(), torch.full((B,), 0.5, dtype=F64)), gradients)
    start, step = uniform(), torch.full((B,), 0.5, dtype=F64)
    learner, buffer = LEARNERS[name](start, step), torch.empty(B, D, dtype=F64)
    start.fill_(7.0)
    step.fill_(7.0)
    points = [learner.decision]
    for gradient in gradients:
        learner.update(buffer.copy_(gradient))
        buffer.fill_(torch.nan)
        points.append(learner.decision)
    assert torch.equal(torch.stack(points), wanted)


def test_hints_and_step_sizes_that_come_in_one_buffer():
    steps, hint = torch.empty((), dtype=F64), torch.empty(D, dtype=F64)
    made = OptimisticMirrorDescent(Euclidean(), uniform((D,)), lambda t: steps.fill_(0.5 / t))
    right = OptimisticMirrorDescent(Euclidean(), uniform((D,)), lambda t: 0.5 / t)
    for gradient, ahead in zip(normal(T, D), normal(T, D, seed=1), strict=True):
        made.update(gradient, hint.copy_(ahead))
        hint.fill_(torch.nan)
        right.update(gradient, ahead)
        assert torch.equal(made.decision, right.decision)


class Reuses:
    """An environment that fills the same two tensors every round, and spoils what it is shown."""

    def __init__(self, losses):
        self.losses = losses
        self.gradient, self.loss = torch.empty_like(losses[0]), torch.empty_like(losses[0, ..., 0])

    def __call__(self, round_, decision):
        self.gradient.copy_(self.losses[round_ - 1])
        self.loss.copy_((self.gradient * decision).sum(-1))
        decision.fill_(torch.nan)
        return self.loss, self.gradient


@pytest.mark.parametrize("name", LEARNERS)
def test_records_own_their_memory(name):
    losses = normal(T, B, D)
    learners = [LEARNERS[name](uniform(), torch.full((B,), 0.5, dtype=F64)) for _ in range(2)]
    given = losses.clone()
    record = play(learners[0], given, T)
    given.fill_(torch.nan)
    environment = Reuses(losses)
    other = play(learners[1], environment, T)
    environment.gradient.fill_(torch.nan)
    for ours, theirs in zip(record[:5], other[:5], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(other.gradients, losses)
    before = [None if part is None else part.clone() for part in record[:6]]
    for learner in learners:
        learner.update(normal(B, D, seed=4))
    tensors = [part for part in record[:6] if part is not None]
    for at, part in enumerate(tensors):  # no part shares memory with another
        part.fill_(float(at))
    for at, part in enumerate(tensors):
        assert (part == at).all()
    assert all(b is None or b.isfinite().all() for b in before)


def test_streams_and_rules_give_their_own_memory():
    losses = normal(T, D)
    played = LinearLosses(losses)
    played(1, uniform((D,)))[1].zero_()
    assert torch.equal(losses, normal(T, D))

    def rule(round_, decision, total):
        seen.append(total.clone())
        total.fill_(torch.nan)
        return torch.ones_like(decision)

    seen: list[torch.Tensor] = []
    play(Hedge(uniform((D,)), 0.1), Adversary(rule), 3)
    assert [s[0].item() for s in seen] == [0.0, 1.0, 2.0]


# -------------------------------------------------------------------------------- differentiable


@pytest.mark.parametrize("function", [hedge_decisions, hedge_losses])
def test_closed_forms_of_hedge_are_differentiable(function):
    losses, start = normal(T, B, D).requires_grad_(), uniform().requires_grad_()
    step = torch.tensor([0.3, 0.7], dtype=F64).requires_grad_()
    plain = function(losses.detach(), step.detach()[:, None][..., 0], start.detach())
    torch.testing.assert_close(function(losses, step, start), plain)
    assert torch.autograd.gradcheck(
        lambda g, s, x: function(g, s, x / x.sum(-1, keepdim=True)), (losses, step, start)
    )
    one = function(losses.detach(), 0.3, start.detach())
    scalar = torch.tensor(0.3, dtype=F64).requires_grad_()
    (slope,) = torch.autograd.grad(function(losses.detach(), scalar, uniform())[-1].sum(), scalar)
    assert slope.isfinite()
    torch.testing.assert_close(function(losses, 0.3, start), one)
    mapped = torch.func.vmap(lambda g: function(g, 0.3, uniform()))(normal(4, T, B, D))
    each = torch.stack([function(g, 0.3, uniform()) for g in normal(4, T, B, D)])
    torch.testing.assert_close(mapped, each)


def test_hedge_with_a_probability_of_zero_has_finite_gradients():
    losses = normal(T, D).requires_grad_()
    start = torch.tensor([0.5, 0.5, 0.0], dtype=F64).requires_grad_()
    total = (hedge_losses(losses, 0.5, start) ** 2).sum()
    for slope in torch.autograd.grad(total, (losses, start)):
        assert slope.isfinite().all()


GEOMETRIES = {
    "entropy": Entropy(), "simplex": Euclidean(Simplex()), "ball": Euclidean(Ball(0.8)),
    "tsallis 1/2": Tsallis(0.5), "tsallis 3/2": Tsallis(1.5), "p": PNorm(1.5),
    "mahalanobis": Mahalanobis(torch.diag(torch.tensor([1.0, 2, 3], dtype=F64)), Ball(0.9)),
}  # fmt: skip


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("steps", ["number", "tensor", "sequence"])
def test_closed_forms_of_the_leader_are_differentiable(name, steps):
    geometry = GEOMETRIES[name]
    gradients, start = normal(T, B, D).requires_grad_(), uniform()
    if steps == "tensor":
        size = torch.tensor([0.3, 0.6], dtype=F64).requires_grad_()
        check = torch.autograd.gradcheck
        assert check(lambda g, s: ftrl_decisions(geometry, g, s, start), (gradients, size))
        return
    size = 0.4 if steps == "number" else [0.4 / t for t in range(1, T + 1)]
    assert torch.autograd.gradcheck(lambda g: ftrl_decisions(geometry, g, size, start), gradients)
    plain = ftrl_decisions(geometry, gradients.detach(), size, start)
    torch.testing.assert_close(ftrl_decisions(geometry, gradients, size, start), plain)


@pytest.mark.parametrize("name", sorted(set(LEARNERS) - {"adagrad full"}))
def test_gradients_flow_through_every_play(name):
    losses = normal(4, B, D)

    def regret_of(stream):
        learner = LEARNERS[name](uniform(), torch.full((B,), 0.3, dtype=F64))
        record = play(learner, stream, len(stream))
        return regret(record, uniform())

    assert torch.autograd.gradcheck(regret_of, losses.requires_grad_(), atol=1e-4)
    flat = losses.detach().clone()
    flat[:2, :, 0] = 0.0  # a coordinate without a gradient yet
    slope = torch.autograd.grad(regret_of(flat.requires_grad_()).sum(), flat)[0]
    assert slope.isfinite().all()


def test_adagrad_with_the_whole_matrix_says_that_it_has_no_derivatives():
    learner = AdaGrad(uniform(), Ball(2.0), "full")
    with pytest.raises(ValueError, match="gradient: expected one that needs no derivatives"):
        play(learner, normal(4, B, D).requires_grad_(), 4)
    assert learner.round == 1
    learner.update(normal(B, D))


def test_losses_and_wealth_are_differentiable():
    check = torch.autograd.gradcheck
    relatives, x = (0.5 + normal(T, D).sigmoid()).requires_grad_(), uniform((D,)).requires_grad_()
    check(lambda r: log_wealth(r, uniform((D,))), relatives)
    check(lambda r: best_constant_gap(r, uniform((D,))), relatives)
    samples = normal(5, D).softmax(-1)
    check(lambda r: universal_portfolio(r, samples), relatives)
    labels = torch.ones(T, dtype=F64)
    for played in (
        LinearLosses(normal(T, D)), QuadraticLosses(normal(T, D), 2.0),
        LogisticLosses(normal(T, D), labels), PortfolioLosses(relatives.detach()),
    ):  # fmt: skip
        check(lambda z, p=played: p.loss_at(z, T), x)
        check(lambda z, p=played: p(2, z), x)


# ------------------------------------------------------------------------------------ numbers


def test_numbers_of_numpy_are_numbers():
    losses, start = normal(T, D), uniform((D,))
    wanted = hedge_decisions(losses, 0.5, start)
    for kind in (np.float64, np.float32):
        assert torch.equal(hedge_decisions(losses, kind(0.5), start), wanted)
    for steps in ([np.float64(0.5)] * T, lambda t: np.float32(0.5)):
        record = play(Hedge(start, steps), losses, np.int64(T))
        torch.testing.assert_close(record.decisions, wanted)
    AdaGrad(start, None, step_size=np.float32(0.1), epsilon=np.float64(0.1))
    OnlineNewtonStep(start, Simplex(), np.float64(0.1), np.float32(1.0))
    QuadraticLosses(losses, np.int64(2))


@pytest.mark.parametrize("array", [np.array(0.1), np.full(T, 0.1)])
def test_arrays_of_numpy_are_refused_by_name(array):
    losses, start = normal(T, D), uniform((D,))
    numbers, law = np.zeros((T, D)), np.full(D, 1 / D)
    refused = [
        ("step_size", lambda: Hedge(start, array)),
        ("step_size", lambda: Hedge(start, [array])),
        ("step_size", lambda: play(Hedge(start, lambda t: array), losses, 1)),
        ("step_size", lambda: hedge_decisions(losses, array, start)),
        ("step_size", lambda: ftrl_decisions(Entropy(), losses, array, start)),
        ("step_size", lambda: AdaGrad(start, None, step_size=array)),
        ("epsilon", lambda: AdaGrad(start, Ball(1.0), epsilon=array)),
        ("gamma", lambda: OnlineNewtonStep(start, Simplex(), array)),
        ("epsilon", lambda: OnlineNewtonStep(start, Simplex(), 1.0, array)),
        ("curvature", lambda: QuadraticLosses(losses, array)),
        ("rounds", lambda: play(Hedge(start, 0.1), losses, array)),
        ("initial", lambda: Hedge(law, 0.1)),
        ("initial", lambda: OnlineMirrorDescent(Entropy(), law, 0.1)),
        ("initial", lambda: AdaGrad(law, None, step_size=0.1)),
        ("gradient", lambda: Hedge(start, 0.1).update(law)),
        ("hint", lambda: OptimisticMirrorDescent(Entropy(), start, 0.1, hint=law)),
        ("losses", lambda: LinearLosses(numbers)), ("targets", lambda: QuadraticLosses(numbers)),
        ("features", lambda: LogisticLosses(numbers, losses[:, 0].sign())),
        ("labels", lambda: LogisticLosses(losses, numbers[:, 0])),
        ("relatives", lambda: PortfolioLosses(numbers)),
        ("relatives", lambda: best_constant_portfolio(numbers)),
        ("tolerance", lambda: best_constant_portfolio(losses.exp(), tolerance=array)),
        ("comparator", lambda: regret(play(Hedge(start, 0.1), losses, 2), law)),
    ]  # fmt: skip
    for name, call in refused:
        with pytest.raises(TypeError, match=rf"^{name}: expected .*ndarray"):
            call()


# -------------------------------------------------------------------------------------- units

UNITS = [1e-200, 1e-30, 1e-14, 1e14, 1e30, 1e200]


@pytest.mark.parametrize("unit", [1e-100, 1e-14, 1e14, 1e100])
def test_decisions_do_not_depend_on_the_unit_of_the_losses(unit):
    losses, start = normal(T, B, D), uniform()
    for scaled, plain in (
        (Hedge(start, 0.3 / unit), Hedge(start, 0.3)),
        (OnlineMirrorDescent(Euclidean(Simplex()), start, 0.3 / unit),
         OnlineMirrorDescent(Euclidean(Simplex()), start, 0.3)),
        (FollowTheRegularizedLeader(Tsallis(0.5), start, 0.3 / unit),
         FollowTheRegularizedLeader(Tsallis(0.5), start, 0.3)),
        (OptimisticMirrorDescent(Entropy(), start, 0.3 / unit),
         OptimisticMirrorDescent(Entropy(), start, 0.3)),
        (AdaGrad(start, Ball(2.0), "norm"), AdaGrad(start, Ball(2.0), "norm")),
        (AdaGrad(start, Ball(2.0)), AdaGrad(start, Ball(2.0))),
        (OnlineNewtonStep(start, Simplex(), 0.5 / unit), OnlineNewtonStep(start, Simplex(), 0.5)),
        (OnlineNewtonStep(start, Ball(2.0), 0.5 / unit), OnlineNewtonStep(start, Ball(2.0), 0.5)),
    ):  # fmt: skip
        ours = play(scaled, unit * losses, T).decisions
        torch.testing.assert_close(ours, play(plain, losses, T).decisions, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("unit", UNITS)
def test_the_best_portfolio_does_not_depend_on_the_units_of_a_day(unit):
    relatives = 0.5 + normal(40, D).sigmoid()
    wanted = best_constant_portfolio(relatives)
    found = best_constant_portfolio(unit * relatives)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    mixed = relatives.clone()
    mixed[::2] *= unit
    torch.testing.assert_close(best_constant_portfolio(mixed), wanted, rtol=0, atol=1e-6)
    gap = best_constant_gap(mixed, wanted)
    torch.testing.assert_close(gap, best_constant_gap(relatives, wanted), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("unit", [1e-14, 1e14, 1e-100, 1e100])
def test_the_best_portfolio_of_the_solver_does_not_depend_on_units(unit):
    pytest.importorskip("cvxpy")
    relatives = 0.5 + normal(20, D).sigmoid()
    wanted = PortfolioLosses(relatives).best_comparator(Simplex())
    found = PortfolioLosses(unit * relatives).best_comparator(Simplex())
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", ["ball", "box", "linear", "quadratic"])
def test_best_comparators_do_not_depend_on_units(unit, kind):
    """Features in one unit, points in its inverse."""
    features, labels = (
        normal(30, 2, D),
        torch.where(normal(30, 2, seed=1) > -0.5, 1.0, -1.0).to(F64),
    )
    if kind in ("linear", "quadratic"):
        stream = LinearLosses if kind == "linear" else QuadraticLosses
        wanted = stream(features).best_comparator(Ball(0.1))
        found = stream(unit * features).best_comparator(Ball(0.1 * unit)) / unit
    else:
        domain = Ball if kind == "ball" else lambda side: Box(-side, side / 2)
        wanted = LogisticLosses(features, labels).best_comparator(domain(0.5))
        scaled = LogisticLosses(unit * features, labels)
        found = scaled.best_comparator(domain(0.5 / unit)) * unit
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("reach", [1e-14, 1e-8, 1e-3])
@pytest.mark.parametrize("domain", [Ball(1.0), Box(-1.0, 0.5), Simplex()], ids=repr)
def test_losses_that_are_almost_linear_have_almost_linear_comparators(reach, domain):
    features = normal(30, 2, D)
    played = LogisticLosses(reach * features, torch.ones(30, 2, dtype=F64))
    best = played.best_comparator(domain)
    linear = LinearLosses(-features).best_comparator(domain)
    assert (best - linear).abs().max() <= 10 * reach + 1e-7
    slope = -torch.sigmoid(-reach * (features * best).sum(-1))[..., None] * features
    gap = (slope.sum(0) * (best - domain.minimize_linear(slope.sum(0)))).sum(-1)
    assert (gap <= 1e-9 * slope.norm(dim=-1).sum(0)).all()


def test_default_steps_are_those_of_the_unit():
    """The diameter in other units is the step in other units."""
    losses = normal(T, D)
    for kind in ("norm", "diagonal"):
        plain = play(AdaGrad(0 * losses[0], Ball(1.0), kind), losses, T).decisions
        for unit in (1e-14, 1e14):
            large = play(AdaGrad(0 * losses[0], Ball(unit), kind), losses, T).decisions
            torch.testing.assert_close(large / unit, plain)
    assert math.isfinite(plain.sum())
