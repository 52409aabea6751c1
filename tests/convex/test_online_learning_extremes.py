"""Batches, extreme numbers, dtypes and refusals of learners."""

import math

import pytest
import torch

from mdtheory.convex import online_learning
from mdtheory.convex.mirror_maps import (
    Ball,
    Box,
    Entropy,
    Euclidean,
    PNorm,
    PositiveEntropy,
    Simplex,
    Tsallis,
    VonNeumann,
)
from mdtheory.convex.online_learning import (
    AdaGrad,
    FollowTheRegularizedLeader,
    Hedge,
    LinearLosses,
    LogisticLosses,
    OnlineMirrorDescent,
    OnlineNewtonStep,
    OptimisticMirrorDescent,
    PortfolioLosses,
    QuadraticLosses,
    ftrl_decisions,
    hedge_decisions,
    play,
    simplex_quadratic,
)
from tests.convex.online_learning_play_cases import (
    F64,
    B,
    D,
    T,
    centre,
    close,
    normal,
    path,
    uniform,
)

# --- batches, extremes, dtypes ---------------------------------------------------------------

MAKERS = {
    "omd": lambda x: OnlineMirrorDescent(Euclidean(Simplex()), x, 0.3),
    "hedge": lambda x: Hedge(x, 0.3),
    "ftrl": lambda x: FollowTheRegularizedLeader(Tsallis(0.5), x, 0.3),
    "optimistic": lambda x: OptimisticMirrorDescent(Entropy(), x, 0.3),
    "adagrad norm": lambda x: AdaGrad(x, Simplex(), "norm"),
    "adagrad diagonal": lambda x: AdaGrad(x, Box(0.0, 1.0), "diagonal"),
    "adagrad full": lambda x: AdaGrad(x, Ball(1.0), "full"),
    "newton ball": lambda x: OnlineNewtonStep(x, Ball(1.0), 0.5),
    "newton simplex": lambda x: OnlineNewtonStep(x, Simplex(), 0.5),
}
EVERY = pytest.mark.parametrize("name", MAKERS)


@EVERY
def test_plays_of_a_batch_do_not_see_each_other(name):
    gradients = normal(T, 2, 3, D)
    together = path(MAKERS[name](centre(2, 3)), gradients)
    for i in range(2):
        for j in range(3):
            alone = path(MAKERS[name](centre()), gradients[:, i, j])
            close(together[:, i, j], alone, 1e-10)


@EVERY
@pytest.mark.parametrize("batch", [(0,), (3, 0)])
def test_empty_batches_stay_empty(name, batch):
    learner = MAKERS[name](centre(*batch))
    learner.update(torch.zeros(*batch, D, dtype=F64))
    assert learner.decision.shape == (*batch, D)
    assert learner.suffered.shape == batch


@EVERY
def test_one_coordinate_and_one_round(name):
    learner = MAKERS[name](torch.ones(B, 1, dtype=F64))
    record = play(learner, LinearLosses(uniform(1, B, 1)), 1)
    assert record.decisions.shape == (1, B, 1)
    close(record.decisions, torch.ones(1, B, 1, dtype=F64))
    assert learner.decision.isfinite().all()


@EVERY
def test_single_precision_is_kept(name):
    learner = MAKERS[name](centre(B, dtype=torch.float32))
    gradients = normal(T, B, D, dtype=torch.float32)
    points = path(learner, gradients)
    assert points.dtype == torch.float32
    assert learner.suffered.dtype == torch.float32
    double = path(MAKERS[name](centre(B)), gradients.double())
    assert (points.double() - double).abs().max() < 2e-3


@EVERY
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_found_and_leaves_the_learner_as_it_was(name, bad):
    learner = MAKERS[name](centre(B))
    learner.update(normal(B, D))
    before, after = learner.decision.clone(), MAKERS[name](centre(B))
    gradient = normal(B, D, seed=1)
    gradient[B - 1, D - 1] = bad
    with pytest.raises(ValueError, match="gradient"):
        learner.update(gradient)
    close(learner.decision, before)
    assert learner.round == 2
    after.update(normal(B, D))
    for one in (learner, after):
        one.update(normal(B, D, seed=2))
    close(learner.decision, after.decision)


@EVERY
def test_wrong_gradients_are_refused_by_name(name):
    learner = MAKERS[name](centre(B))
    for wrong in (normal(D), normal(B, D + 1), normal(1, B, D)):
        with pytest.raises(ValueError, match="gradient"):
            learner.update(wrong)
    for wrong in (normal(B, D).float(), [0.0] * D, torch.ones(B, D, dtype=torch.long)):
        with pytest.raises(TypeError, match="gradient"):
            learner.update(wrong)
    with pytest.raises(ValueError, match="device"):
        learner.update(torch.zeros(B, D, dtype=F64, device="meta"))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, T - 1])
def test_losses_that_are_not_finite_are_found_in_all_rounds_at_once(bad, at):
    losses = uniform(T, B, D)
    losses[at, 2, 1] = bad
    for learner in (Hedge(centre(B), 0.3), FollowTheRegularizedLeader(Entropy(), (B, D), 0.3)):
        with pytest.raises(ValueError, match="gradients"):
            play(learner, LinearLosses(losses), T, keep=False)


def test_probabilities_of_1e_300_stay_exact():
    start = torch.tensor([1 - 1e-300, 1e-300], dtype=F64)
    losses = torch.tensor([1.0, 0.0], dtype=F64).expand(1400, 2)
    learner = Hedge(start, 1.0)
    points = path(learner, losses)
    expected = torch.sigmoid(torch.arange(1401, dtype=F64) - 300 * math.log(10))
    torch.testing.assert_close(points[:, 1], expected, rtol=1e-11, atol=0)
    close(hedge_decisions(losses, 1.0, start), points[:-1], 1e-11)
    # Below the smallest positive number, and back.
    learner = Hedge(centre(d=2), 1.0)
    learner.update(torch.tensor([0.0, 2000.0], dtype=F64))
    assert learner.decision[1] == 0
    close(learner.log_decision[1], torch.tensor(-2000.0, dtype=F64))
    learner.update(torch.tensor([2000.0, 0.0], dtype=F64))
    close(learner.decision, centre(d=2))


def test_zeros_of_the_start_stay_zero():
    start = torch.tensor([0.5, 0.0, 0.5], dtype=F64)
    points = path(Hedge(start, 0.5), normal(T, 3))
    assert (points[:, 1] == 0).all()
    close(points.sum(-1), torch.ones(T + 1, dtype=F64))
    close(hedge_decisions(normal(T, 3), 0.5, start), points[:-1])


@pytest.mark.parametrize("step_size", [1e-12, 1e6])
def test_extreme_steps_stay_on_the_simplex(step_size):
    losses = uniform(T, B, D)
    for learner in (
        Hedge(centre(B), step_size),
        OnlineMirrorDescent(Euclidean(Simplex()), centre(B), step_size),
        FollowTheRegularizedLeader(Tsallis(0.5), centre(B), step_size),
    ):
        points = path(learner, losses)
        assert (points >= 0).all()
        close(points.sum(-1), torch.ones(T + 1, B, dtype=F64), 1e-9)


def test_where_no_finite_step_exists_the_step_raises():
    learner = OnlineMirrorDescent(PositiveEntropy(), torch.ones(2, dtype=F64), 1e6)
    with pytest.raises(ValueError, match="step_size"):
        learner.update(torch.tensor([-1.0, 0.0], dtype=F64))
    huge = torch.full((2,), 1e200, dtype=F64)
    with pytest.raises(ValueError, match="gradient"):
        AdaGrad(centre(d=2), None, "full", step_size=1.0).update(huge)
    with pytest.raises(ValueError, match="gradient"):
        OnlineNewtonStep(centre(d=2), None, 1.0, 1.0).update(huge)


def test_many_steps_widen_the_batch():
    steps = torch.tensor([[0.1], [0.5], [2.0]], dtype=F64)
    losses = uniform(T, 3, B, D)
    record = play(Hedge(centre(B), steps), LinearLosses(losses), T)
    assert record.decisions.shape == (T, 3, B, D)
    assert record.step_sizes.shape == (T, 3, B)
    for i, step in enumerate(steps.flatten().tolist()):
        close(record.decisions[:, i], hedge_decisions(losses[:, i], step, centre(B)))
    newton = OnlineNewtonStep(centre(B), Simplex(), steps)
    assert newton.decision.shape == (3, B, D)
    for gradient in normal(5, 3, B, D):
        newton.update(gradient)
    single = OnlineNewtonStep(centre(B), Simplex(), 0.5)
    for gradient in normal(5, 3, B, D):
        single.update(gradient[1])
    close(newton.decision[1], single.decision, 1e-9)


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("maker", [Hedge, lambda x, s: OnlineMirrorDescent(Entropy(), x, s)])
@pytest.mark.parametrize(
    "step",
    [
        0.0,
        -1.0,
        math.nan,
        math.inf,
        [0.1, -0.1],
        torch.tensor([0.1, 0.0], dtype=F64),
        torch.ones(3, dtype=F64),
    ],
)
def test_wrong_step_sizes_are_refused_by_name(maker, step):
    with pytest.raises(ValueError, match="step_size"):
        maker(centre(2), step)


def test_wrong_step_sizes_of_later_rounds_are_refused_by_name():
    loss = torch.zeros(2, D, dtype=F64)
    for rule in (
        lambda t: 0.0,
        lambda t: torch.ones(3, dtype=F64),
        lambda t: torch.ones(3, 2, dtype=F64),
    ):
        with pytest.raises(ValueError, match="step_size"):
            Hedge(centre(2), rule).update(loss)
    with pytest.raises(TypeError, match="step_size"):
        Hedge(centre(2), lambda t: torch.tensor(0.1, dtype=torch.float32)).update(loss)
    with pytest.raises(TypeError, match="step_size"):
        Hedge(centre(2), "fast")
    short = Hedge(centre(2), [0.1])
    short.update(loss)
    with pytest.raises(ValueError, match="one entry a round"):
        short.update(loss)


def test_wrong_starts_are_refused_by_name():
    with pytest.raises(ValueError, match="initial"):
        Hedge(torch.tensor([0.5, 0.6], dtype=F64), 0.1)
    with pytest.raises(TypeError, match="initial"):
        Hedge([0.5, 0.5], 0.1)
    with pytest.raises(ValueError, match="initial"):
        OnlineMirrorDescent(Euclidean(Ball(1.0)), 2 * torch.ones(2, dtype=F64), 0.1)
    with pytest.raises(ValueError, match="initial"):
        FollowTheRegularizedLeader(Euclidean(), (), 0.1)
    for make in (lambda x: AdaGrad(x, Ball(1.0)), lambda x: OnlineNewtonStep(x, Ball(1.0), 1.0)):
        with pytest.raises(ValueError, match="initial"):
            make(2 * torch.ones(2, dtype=F64))
        with pytest.raises(ValueError, match="initial"):
            make(torch.tensor([math.nan, 0.0], dtype=F64))
    with pytest.raises(ValueError, match="initial"):
        hedge_decisions(uniform(T, B, D), 0.1, centre(B + 1))
    with pytest.raises(ValueError, match="hint"):
        OptimisticMirrorDescent(Entropy(), centre(B), 0.1, hint=torch.zeros(D, dtype=F64))
    learner = OptimisticMirrorDescent(Entropy(), centre(B), 0.1)
    with pytest.raises(ValueError, match="hint"):
        learner.update(torch.zeros(B, D, dtype=F64), torch.full((B, D), math.nan, dtype=F64))


def test_wrong_settings_of_adaptive_learners_are_refused_by_name():
    x = centre(B)
    refused = [
        (lambda: AdaGrad(x, Ball(1.0), "diag"), "kind"),
        (lambda: AdaGrad(x, Simplex(), "diagonal"), "domain"),
        (lambda: AdaGrad(x, Box(0.0, 1.0), "full"), "domain"),
        (lambda: AdaGrad(x, None), "step_size"),
        (lambda: AdaGrad(x, Ball(1.0), step_size=0.0), "step_size"),
        (lambda: AdaGrad(x, Ball(1.0), step_size=torch.ones(7, dtype=F64)), "step_size"),
        (lambda: AdaGrad(x, Ball(1.0), step_size=-torch.ones(D, dtype=F64)), "step_size"),
        (lambda: AdaGrad(x, Ball(1.0), epsilon=-1.0), "epsilon"),
        (lambda: OnlineNewtonStep(x, Box(0.0, 1.0), 1.0), "domain"),
        (lambda: OnlineNewtonStep(x, None, 1.0), "epsilon"),
        (lambda: OnlineNewtonStep(x, Ball(1.0), 0.0), "gamma"),
        (lambda: OnlineNewtonStep(x, Ball(1.0), torch.ones(7, dtype=F64)), "gamma"),
        (lambda: OnlineNewtonStep(x, Ball(1.0), 1.0, -1.0), "epsilon"),
    ]
    for make, name in refused:
        with pytest.raises(ValueError, match=name):
            make()
    with pytest.raises(TypeError, match="domain"):
        AdaGrad(x, "ball")
    widths = AdaGrad(x, Ball(1.0), step_size=torch.ones(D, dtype=F64))
    widths.update(torch.zeros(B, D, dtype=F64))  # no metric yet: nothing moves
    close(widths.decision, x)


def test_wrong_streams_and_rounds_are_refused_by_name():
    refused = [
        (lambda: LinearLosses(torch.zeros(D, dtype=F64)), "losses"),
        (lambda: LinearLosses(torch.zeros(0, D, dtype=F64)), "losses"),
        (lambda: QuadraticLosses(torch.full((T, D), math.nan, dtype=F64)), "targets"),
        (lambda: QuadraticLosses(torch.zeros(T, D, dtype=F64), 0.0), "curvature"),
        (lambda: LogisticLosses(normal(T, D), torch.zeros(T, dtype=F64)), "labels"),
        (lambda: LogisticLosses(normal(T, D), torch.ones(T + 1, dtype=F64)), "labels"),
        (lambda: PortfolioLosses(torch.zeros(T, D, dtype=F64)), "relatives"),
        (lambda: play(Hedge(centre(), 0.1), LinearLosses(uniform(T, D)), T + 1), "rounds"),
        (lambda: play(Hedge(centre(), 0.1), LinearLosses(uniform(T, D)), 0), "rounds"),
        (lambda: play(Hedge(centre(B), 0.1), LinearLosses(uniform(T, D)), T), "gradients"),
        (lambda: play(Hedge(centre(), 0.1), lambda t, x: (x, x), T), "loss"),
        (lambda: hedge_decisions(torch.zeros(0, D, dtype=F64), 0.1, centre()), "gradients"),
    ]
    for make, name in refused:
        with pytest.raises(ValueError, match=name):
            make()
    with pytest.raises(TypeError, match="loss"):
        play(Hedge(centre(), 0.1), lambda t, x: (0.0, x), T)
    with pytest.raises(ValueError, match="loss"):
        play(Hedge(centre(), 0.1), lambda t, x: (x.sum() * math.nan, x), T)
    with pytest.raises(TypeError, match="step_size"):
        ftrl_decisions(Entropy(), uniform(T, D), lambda t: 0.1)
    learner = OnlineMirrorDescent(VonNeumann(), torch.eye(3, dtype=F64) / 3, 0.1)
    with pytest.raises(ValueError, match="gradient"):
        learner.update(torch.triu(torch.ones(3, 3, dtype=F64)))
    with pytest.raises(ValueError, match="gradients"):
        ftrl_decisions(VonNeumann(), torch.ones(2, 3, 3, dtype=F64).triu(), 0.1)


# --- the quadratic problem on the simplex ----------------------------------------------------


@pytest.mark.parametrize("spread", [1.0, 1e4, 1e8])
@pytest.mark.parametrize("d", [1, 2, 7, 30])
def test_the_quadratic_problem_on_the_simplex_meets_its_conditions(d, spread, monkeypatch):
    axes = torch.linalg.qr(normal(B, d, d)).Q
    values = torch.logspace(0, math.log10(spread), d, dtype=F64)
    matrix = (axes * values) @ axes.mT
    matrix = (matrix + matrix.mT) / 2
    linear = spread**0.5 * normal(B, d, seed=1)
    results = []
    for guesses in (8, 1):  # with bold changes of the support and, mostly, without
        monkeypatch.setattr(online_learning.adaptive, "GUESSES", guesses)
        for start in (centre(B, d=d), torch.eye(d, dtype=F64)[:1].expand(B, d)):
            x = simplex_quadratic(matrix, linear, start)
            assert (x >= 0).all()
            close(x.sum(-1), torch.ones(B, dtype=F64))
            slope = (matrix @ x[..., None])[..., 0] - linear
            level = (slope * x).sum(-1, keepdim=True)
            size = matrix.abs().amax() + linear.abs().amax()
            assert (slope - level >= -1e-12 * d * size).all()
            assert ((slope - level) * x).abs().max() <= 1e-12 * d * size
            results.append(x)
    for x in results[1:]:
        close(x, results[0], 1e-8)


def test_the_quadratic_problem_agrees_with_the_euclidean_projection():
    y = normal(B, D)
    x = simplex_quadratic(torch.eye(D, dtype=F64).expand(B, D, D), y, centre(B))
    close(x, Simplex().project(y))


def test_wrong_quadratic_problems_are_refused_by_name():
    eye, x = torch.eye(D, dtype=F64), centre()
    with pytest.raises(ValueError, match="matrix"):
        simplex_quadratic(-eye, x, x)
    with pytest.raises(ValueError, match="matrix"):
        simplex_quadratic(eye * math.nan, x, x)
    with pytest.raises(ValueError, match="linear"):
        simplex_quadratic(eye, centre(d=D + 1), x)
    with pytest.raises(ValueError, match="start"):
        simplex_quadratic(eye, x, 2 * x)
    with pytest.raises(TypeError, match="linear"):
        simplex_quadratic(eye, x.float(), x)


def test_public_names_are_there():
    for name in online_learning.__all__:
        assert getattr(online_learning, name).__doc__
    assert PNorm(2.0).strong_convexity == 1.0
